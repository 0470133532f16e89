"""Results of the benchmarks: key in JSON, row in the printed table and meaning of each number in one place."""

import dataclasses
from typing import Any


def row(label: str, shown: str, note: str = "") -> Any:
    """Declare a number with its row; `shown` formats the number, `note` the result (`{0.steps}`)."""
    return dataclasses.field(metadata={"row": (label, shown, note)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """Base of the results, which formats its rows."""

    def rows(self) -> list[tuple[str, str, str]]:
        """Format the label, the value and the note of each number that has a row."""
        found = []
        for field in dataclasses.fields(self):
            if field.metadata:
                label, shown, note = field.metadata["row"]
                found.append((label, shown.format(getattr(self, field.name)), note.format(self)))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainKerasSpeed(Result):
    """Speed of plain Keras on the same steps, without waits for data; all are medians over the steps."""

    target_tokens_per_second: float = row("plain Keras: target tokens per second", "{:,.0f}")
    step_ms: float = row("plain Keras: step", "{:,.1f} ms")
    speedup: float = row("faster than plain Keras", "{:.2f} times", "median over the same batches")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingBenchmark(Result):
    """Results of `benchmark_training`: medians over the timed steps, in times that include waits for batches.

    Tokens include end tokens, not padding. `matmul_gflops` is the rate of the fastest of the model's large products,
    `matmul_shape`, timed between the steps; `utilisation` is the share of it that the steps reach. `parts` are
    milliseconds by part, each timed alone, so that they need not add up to a step; compare them with
    `interleaved_step_ms`, a step timed in turn with them.
    """

    steps: int
    compute_dtype: str
    recurrent_kernel: str
    target_tokens_per_second: float = row("target tokens per second", "{:,.0f}")
    source_tokens_per_second: float = row("source tokens per second", "{:,.0f}")
    step_ms: float = row("step", "{:,.1f} ms", "median of {0.steps}")
    data_wait: float = row("share of time waiting for data", "{:.1%}")
    matmul_gflops: float = row("rate of the machine", "{:,.1f} GFLOP/s", "{0.compute_dtype}, {0.matmul_shape}")
    matmul_shape: tuple[int, int, int]
    model_gflops: float = row("arithmetic of a step", "{:,.1f} GFLOP", "matrix products of valid tokens")
    model_gflops_per_second: float = row(
        "rate of the steps", "{:,.1f} GFLOP/s", "recurrent kernel: {0.recurrent_kernel}"
    )
    utilisation: float = row("utilisation", "{:.1%}")
    peak_memory_mb: float = row("peak memory", "{:,.0f} MB")
    parts: dict[str, float]
    interleaved_step_ms: float
    part_gflops: dict[str, float]
    plain_keras: PlainKerasSpeed | None

    def rows(self) -> list[tuple[str, str, str]]:
        """Add the comparison with Keras, if there is one."""
        return super().rows() + (self.plain_keras.rows() if self.plain_keras else [])

    def part_rows(self) -> list[tuple[str, ...]]:
        """Format a table of the parts, each timed alone."""
        found: list[tuple[str, ...]] = [("part, timed alone", "ms", "GFLOP", "utilisation")]
        for name, milliseconds in self.parts.items():
            gflops = self.part_gflops.get(name, 0.0)
            share = f"{1e3 * gflops / milliseconds / self.matmul_gflops:.1%}" if gflops else ""
            found.append((name.replace("_", " "), f"{milliseconds:,.1f}", f"{gflops:,.1f}" if gflops else "", share))
        return [*found, ("whole step, in turn with them", f"{self.interleaved_step_ms:,.1f}", "", "")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpeed(Result):
    """Speed of one search over all sentences in one call (medians of the rounds), and over single sentences.

    `model_gflops_per_second` counts the products of a search that follows `beam_size` hypotheses to the length of the
    best one; tokens are those of the best translations, end tokens included.
    """

    beam_size: int
    sentences_per_second: float = row("sentences/s", "{:,.1f}")
    tokens_per_second: float = row("tokens/s", "{:,.0f}")
    latency_ms: float = row("latency, median", "{:,.1f} ms")
    latency_99_ms: float = row("99 %", "{:,.1f} ms")
    model_gflops_per_second: float = row("GFLOP/s", "{:,.1f}")
    utilisation: float = row("utilisation", "{:.1%}")

    @property
    def name(self) -> str:
        """Name the search."""
        return "greedy" if self.beam_size == 1 else f"beam {self.beam_size}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingBenchmark(Result):
    """Results of `benchmark_decoding`; `first_translation_seconds` includes the compilation of the search.

    `matmul_gflops` is the rate of all cores with the fastest of the model's large products, `matmul_shape`, timed
    before and after the searches in the numbers that the decoder multiplies, `compute_dtype`.
    """

    sentences: int = row("sentences", "{:,}", "{0.source_tokens:,} tokens")
    latency_sentences: int
    source_tokens: int
    compute_dtype: str
    import_seconds: float = row("start-up: import", "{:.1f} s")
    load_seconds: float = row("start-up: model", "{:.1f} s")
    first_translation_seconds: float = row("start-up: first sentence", "{:.1f} s")
    greedy: SearchSpeed
    beam: SearchSpeed
    matmul_gflops: float = row("rate of the machine", "{:,.1f} GFLOP/s", "{0.compute_dtype}, {0.matmul_shape}")
    matmul_shape: tuple[int, int, int]
    peak_memory_mb: float = row("peak memory", "{:,.0f} MB")

    def search_rows(self) -> list[tuple[str, ...]]:
        """Format a table of the searches."""
        searches = [(speed.name, speed.rows()) for speed in (self.greedy, self.beam)]
        header = ("search", *(label for label, _, _ in searches[0][1]))
        return [header, *((name, *(value for _, value, _ in rows)) for name, rows in searches)]
