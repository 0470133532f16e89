"""`seq2seq benchmark`: measure the speed of training and of decoding."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Literal

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import aligned, print_json
from seq2seq.config.flags import DEFAULT_RECIPE, Switch, Texts, command_app, with_search_flags, with_setting_flags
from seq2seq.config.recipe import merge
from seq2seq.errors import ConfigError

benchmark = command_app("benchmark")
benchmark.help = "Measure how fast this machine is, and how fast it could be."


def _train(
    recipe: str = DEFAULT_RECIPE,
    /,
    *,
    steps: int = 50,
    against: Literal["keras"] | None = None,
    json: Switch = False,
    flags: Texts,
) -> None:
    """Time training steps on the recipe's own batches: tokens per second, and the share of the machine's arithmetic.

    Writes nothing but the cache of the corpus.

    Args:
        recipe: a YAML file of the settings below; settings left out keep their defaults.
        steps: training steps to time.
        against: time the same model as straightforward Keras, too.
        json: print one JSON object, and no table.
        flags: settings that change the recipe.
    """
    _check_at_least("--steps", 1, steps)
    config = merge(recipe, flags)
    import_tensorflow()
    from seq2seq.diagnostics.train_benchmark import benchmark_training

    found = benchmark_training(config, steps, against_keras=against == "keras")
    _print(found, json, found.rows(), found.part_rows())


@benchmark.command(name="decode")
@with_search_flags
def _decode(
    model: str,
    /,
    *,
    source: str | None = None,
    rounds: int = 3,
    latency_sentences: int = 100,
    json: Switch = False,
    search: dict[str, Any],
) -> None:
    """Time translations, greedy and with a beam, in batches and one by one: sentences and tokens per second, latency.

    Args:
        model: the model.keras of a run.
        source: lines to translate; left out: the test set of the run's recipe, or else its dev set.
        rounds: number of times that all lines are translated and timed.
        latency_sentences: number of lines that are timed one by one.
        json: print one JSON object, and no table.
        search: settings that change the model's search.
    """
    options = {"beam_size": 5} | search
    _check_at_least("--rounds", 1, rounds)
    _check_at_least("--latency-sentences", 1, latency_sentences)
    _check_at_least("--beam-size", 2, options["beam_size"], "Greedy search is timed anyway.")
    began = time.perf_counter()
    import_tensorflow()
    from seq2seq.diagnostics.decode_benchmark import benchmark_decoding
    from seq2seq.text.lines import read_lines

    found = benchmark_decoding(
        model,
        None if source is None else list(read_lines(source)),
        rounds=rounds,
        latency_sentences=latency_sentences,
        import_seconds=time.perf_counter() - began,
        **options,
    )
    _print(found, json, found.rows(), found.search_rows())


def _check_at_least(flag: str, least: int, number: int, advice: str = "") -> None:
    if number < least:
        raise ConfigError(f"{flag} must be at least {least}, got {number}. {advice}".rstrip())


def _print(found: Any, json: bool, general: Sequence[Sequence[str]], table: Sequence[Sequence[str]]) -> None:
    if json:
        print_json(dataclasses.asdict(found))
    else:
        print("\n".join([*aligned(general, left=(0, 2)), "", *aligned(table, left=(0,))]))


benchmark.command(with_setting_flags(_train), name="train")
