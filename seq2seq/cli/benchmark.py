"""`seq2seq benchmark`: how fast this machine is at what."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import aligned, print_json
from seq2seq.config.flags import DEFAULT_RECIPE, Texts, command_app, with_setting_flags
from seq2seq.config.reading import merge
from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from seq2seq.training import TrainingBenchmark

benchmark = command_app("benchmark")
benchmark.help = "Measure how fast this machine is, and how fast it could be."


def _train(
    recipe: str = DEFAULT_RECIPE,
    /,
    *,
    steps: int = 50,
    against: Literal["keras"] | None = None,
    json: Annotated[bool, cyclopts.Parameter(negative=())] = False,
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
    from seq2seq.training import benchmark_training

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


benchmark.command(with_setting_flags(_train), name="train")
