"""`seq2seq benchmark`: how fast this machine is at what."""

import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import aligned, print_json
from seq2seq.config.flags import AS_SAVED, DEFAULT_RECIPE, SearchOptions, Switch, Texts, command_app, with_setting_flags
from seq2seq.config.recipe import merge
from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from seq2seq.diagnostics.decode_benchmark import DecodingBenchmark
    from seq2seq.diagnostics.train_benchmark import TrainingBenchmark

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
    """Time training steps on the recipe's own batches: tokens a second, and the share of the machine's arithmetic.

    Nothing is written but the cache of the corpus.

    Args:
        recipe: a YAML file of the settings below; what it leaves out keeps its default.
        steps: training steps to time.
        against: time the same model as straightforward Keras, too.
        json: print one JSON object, and no table.
    """
    if steps < 1:
        raise ConfigError(f"--steps must be at least 1, but is {steps} instead.")
    config = merge(recipe, flags)
    import_tensorflow()
    from seq2seq.diagnostics.train_benchmark import benchmark_training

    found = benchmark_training(config, steps, against_keras=against == "keras")
    if json:
        print_json(dataclasses.asdict(found))
    else:
        print(_table(found))


def _table(found: "TrainingBenchmark") -> str:
    product = " x ".join(str(size) for size in found.matmul_shape)
    rows = [
        ("target tokens a second", f"{found.target_tokens_per_second:,.0f}", ""),
        ("source tokens a second", f"{found.source_tokens_per_second:,.0f}", ""),
        ("a step", f"{found.step_ms:,.1f} ms", f"median of {found.steps}"),
        ("of it waiting for data", f"{found.data_wait:.1%}", ""),
        ("arithmetic of a step", f"{found.model_gflops:,.1f} GFLOP", "matrix products of valid tokens"),
        ("its rate", f"{found.model_gflops_per_second:,.1f} GFLOP/s", f"recurrent kernel: {found.recurrent_kernel}"),
        ("the machine's rate", f"{found.matmul_gflops:,.1f} GFLOP/s", f"{found.compute_dtype}, {product}"),
        ("utilisation", f"{found.utilisation:.1%}", ""),
        ("most memory", f"{found.peak_memory_mb:,.0f} MB", ""),
    ]
    if found.plain_keras is not None:
        keras = found.plain_keras
        rows += [
            ("plain Keras: target tokens a second", f"{keras.target_tokens_per_second:,.0f}", ""),
            ("plain Keras: a step", f"{keras.step_ms:,.1f} ms", ""),
            ("faster than plain Keras", f"{keras.speedup:.2f} times", "median over the same batches"),
        ]
    parts = [("part, timed alone", "ms", "GFLOP", "utilisation")]
    for name, milliseconds in found.parts.items():
        gflops = found.part_gflops.get(name, 0.0)
        share = f"{1e3 * gflops / milliseconds / found.matmul_gflops:.1%}" if gflops else ""
        parts.append((name.replace("_", " "), f"{milliseconds:,.1f}", f"{gflops:,.1f}" if gflops else "", share))
    parts.append(("a whole step beside them", f"{found.interleaved_step_ms:,.1f}", "", ""))
    return "\n".join([*aligned(rows, left=(0, 2)), "", *aligned(parts, left=(0,))])


@benchmark.command(name="decode")
def _decode(
    model: str,
    /,
    *,
    source: str | None = None,
    rounds: int = 3,
    latency_sentences: int = 100,
    json: Switch = False,
    search: Annotated[SearchOptions, cyclopts.Parameter(name="*")] = AS_SAVED,
) -> None:
    """Time translations, greedy and with a beam, in batches and one by one: sentences and tokens a second, latency.

    Args:
        model: the model.keras of a run.
        source: lines to translate; left out: the test set of the run's recipe, or else its dev set.
        rounds: how often all lines are translated and timed.
        latency_sentences: how many lines are timed one by one.
        json: print one JSON object, and no table.
        search: how to search; the beam has 5 hypotheses unless told otherwise.
    """
    for flag, number in (("--rounds", rounds), ("--latency-sentences", latency_sentences)):
        if number < 1:
            raise ConfigError(f"{flag} must be at least 1, but is {number} instead.")
    options = {"beam_size": 5} | search.given()
    if options["beam_size"] < 2:
        raise ConfigError(
            f"--beam-size must be at least 2, but is {options['beam_size']} instead. Greedy search is timed anyway."
        )
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
    if json:
        print_json(dataclasses.asdict(found))
    else:
        print(_decoding_table(found))


def _decoding_table(found: "DecodingBenchmark") -> str:
    product = " x ".join(str(size) for size in found.matmul_shape)
    start = found.import_seconds + found.load_seconds + found.first_translation_seconds
    parts = (
        f"import {found.import_seconds:.1f}, model {found.load_seconds:.1f}, "
        f"first sentence {found.first_translation_seconds:.1f}"
    )
    general = [
        ("sentences", f"{found.sentences:,}", f"{found.source_tokens:,} tokens"),
        ("start-up", f"{start:.1f} s", parts),
        ("the machine's rate", f"{found.matmul_gflops:,.1f} GFLOP/s", f"{found.compute_dtype}, {product}"),
        ("most memory", f"{found.peak_memory_mb:,.0f} MB", ""),
    ]
    header = ("search", "sentences/s", "tokens/s", "GFLOP/s", "utilisation", "alone, median", "99 %")
    searches = [
        (
            "greedy" if one.beam_size == 1 else f"beam {one.beam_size}",
            f"{one.sentences_per_second:,.1f}",
            f"{one.tokens_per_second:,.0f}",
            f"{one.model_gflops_per_second:,.1f}",
            f"{one.utilisation:.1%}",
            f"{one.latency_ms:,.1f} ms",
            f"{one.latency_99_ms:,.1f} ms",
        )
        for one in (found.greedy, found.beam)
    ]
    return "\n".join([*aligned(general, left=(0, 2)), "", *aligned([header, *searches], left=(0,))])


benchmark.command(with_setting_flags(_train), name="train")
