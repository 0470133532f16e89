"""How fast this machine decodes with a model, sentence by sentence and in batches, and what share of its arithmetic
that is."""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics.flops import Product, fastest_rate, forward_flops
from seq2seq.diagnostics.machine import peak_memory
from seq2seq.diagnostics.train_benchmark import large_products
from seq2seq.errors import ConfigError
from seq2seq.layers.quantized import matmul_backend
from seq2seq.models.archive import load
from seq2seq.models.generation import Hypothesis
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.threads import count_workers, map_parallel, use_single_threaded_ops
from seq2seq.training.data import Corpus

LOG = logging.getLogger(__name__)

PRODUCT_ROWS = 1024
PRODUCT_REPEATS = 10
"""Runs of each matrix product, before the searches and again after them."""
LATENCY_WARM_UP = 5
"""Sentences that are translated one by one before the first that is timed."""


@dataclasses.dataclass(frozen=True)
class SearchSpeed:
    """How fast one search is.

    Args:
        beam_size: Hypotheses kept at every step; 1: greedy.
        sentences_per_second: Of all sentences in one call, which makes the batches; median of the rounds.
        tokens_per_second: Tokens of the best translations, end tokens counted.
        latency_ms: Milliseconds of a sentence in a call of its own, median.
        latency_99_ms: The 99th percentile of the same.
        model_gflops_per_second: Operations in the matrix products of a search that follows `beam_size` hypotheses to
            the length of the best, padding and the rest of the search not counted, a second of the batched calls.
        utilisation: That over the machine's rate.
    """

    beam_size: int
    sentences_per_second: float
    tokens_per_second: float
    latency_ms: float
    latency_99_ms: float
    model_gflops_per_second: float
    utilisation: float


@dataclasses.dataclass(frozen=True)
class DecodingBenchmark:
    """What `benchmark_decoding` measured.

    Args:
        sentences: How many sentences were translated at once.
        latency_sentences: How many of them were timed one by one.
        source_tokens: Tokens of the sentences, end tokens counted.
        compute_dtype: The numbers that the decoder multiplies: the option `precision`, or else the model's own.
        import_seconds: What loading TensorFlow and the toolkit took.
        load_seconds: What loading the model took.
        first_translation_seconds: What translating one sentence took, once: the search is compiled.
        greedy: The search with one hypothesis.
        beam: The search with several.
        matmul_gflops: GFLOP a second of all cores in this dtype: of the model's kinds of large products the fastest,
            by the median of its runs before and after the searches.
        matmul_shape: That product: rows, inner size, columns.
        peak_memory_mb: Most memory that the process has held, in millions of bytes.
    """

    sentences: int
    latency_sentences: int
    source_tokens: int
    compute_dtype: str
    import_seconds: float
    load_seconds: float
    first_translation_seconds: float
    greedy: SearchSpeed
    beam: SearchSpeed
    matmul_gflops: float
    matmul_shape: Product
    peak_memory_mb: float


def benchmark_decoding(
    path: str,
    sources: Sequence[str] | None = None,
    *,
    beam_size: int = 5,
    rounds: int = 3,
    latency_sentences: int = 100,
    import_seconds: float = 0.0,
    **options: Any,
) -> DecodingBenchmark:
    """Translates sentences with a model as the command `translate` does, and measures it.

    Args:
        path: The `.keras` file.
        sources: The sentences; None: the test set of the recipe that trained the model, or else its dev set.
        beam_size: Hypotheses of the search beside the greedy one.
        rounds: How often all sentences are translated and timed, after once that is not.
        latency_sentences: How many sentences to time one by one.
        import_seconds: For the result.
        **options: Settings of `DecodingConfig` that differ from the model's own, for both searches.

    Returns:
        What was measured.

    Raises:
        DataError: The recipe's files cannot be used.
        ConfigError: There is nothing to translate, or an option has a bad value.
        ModelFileError: The model cannot be read.
    """
    use_single_threaded_ops()
    began = time.perf_counter()
    model = load(path, Seq2Seq)
    load_seconds = time.perf_counter() - began
    texts = [text for text in (_sources_of(model) if sources is None else sources) if text.strip()]
    if not texts:
        raise ConfigError("source must hold a line that is not blank, but holds none instead. Give another file.")
    lengths = [len(ids) for ids in model.encode_sources(texts)]

    began = time.perf_counter()
    model.generate(texts[:1], beam_size=beam_size, **options)
    first_translation_seconds = time.perf_counter() - began

    precision = model.decoding.replaced(**options).precision
    dtype = model.compute_dtype if precision == "float32" else precision
    products = {product: product_on_all_cores(product, dtype) for product in large_products(model, PRODUCT_ROWS)}
    product_times = {product: [run() for _ in range(PRODUCT_REPEATS)] for product, run in products.items()}
    measured = {}
    # Sentences of all lengths: a corpus may be in an order.
    few = texts[:: max(1, len(texts) // latency_sentences)][:latency_sentences]
    for size in (1, beam_size):
        name = "greedy" if size == 1 else f"beam {size}"
        LOG.info(f"{name}: {len(texts):,} sentences in batches, {1 + rounds} times")
        seconds, found = _batched_seconds(model, texts, rounds, beam_size=size, **options)
        LOG.info(f"{name}: {len(few):,} sentences one by one")
        measured[size] = (seconds, found, _latencies(model, few, beam_size=size, **options))
    memory = peak_memory()
    for product, run in products.items():
        product_times[product] += [run() for _ in range(PRODUCT_REPEATS)]
    matmul_gflops, shape = fastest_rate(product_times)
    speeds = {size: search_speed(model, size, lengths, *one, matmul_gflops) for size, one in measured.items()}
    return DecodingBenchmark(
        sentences=len(texts),
        latency_sentences=len(few),
        source_tokens=sum(lengths),
        compute_dtype=dtype,
        import_seconds=import_seconds,
        load_seconds=load_seconds,
        first_translation_seconds=first_translation_seconds,
        greedy=speeds[1],
        beam=speeds[beam_size],
        matmul_gflops=matmul_gflops,
        matmul_shape=shape,
        peak_memory_mb=memory / 1e6,
    )


def search_speed(
    model: Seq2Seq,
    beam_size: int,
    source_lengths: Sequence[int],
    seconds: Sequence[float],
    found: Sequence[Hypothesis],
    latencies: Sequence[float],
    matmul_gflops: float,
) -> SearchSpeed:
    """The numbers of one search, from the times that it took.

    Args:
        model: The model.
        beam_size: Hypotheses kept.
        source_lengths: Tokens of each source.
        seconds: Of each round over all sentences.
        found: The best translation of each source.
        latencies: Seconds of each sentence that was translated alone.
        matmul_gflops: The machine's rate.
    """
    target_lengths = np.array([len(hypothesis.token_ids) for hypothesis in found])
    taken = float(np.median(seconds))
    rate = sum(forward_flops(model, source_lengths, beam_size * target_lengths)) / taken / 1e9
    return SearchSpeed(
        beam_size=beam_size,
        sentences_per_second=len(found) / taken,
        tokens_per_second=float(target_lengths.sum()) / taken,
        latency_ms=1e3 * float(np.median(latencies)),
        latency_99_ms=1e3 * float(np.percentile(latencies, 99)),
        model_gflops_per_second=rate,
        utilisation=rate / matmul_gflops,
    )


def product_on_all_cores(product: Product, dtype: str) -> Callable[[], float]:
    """A product as a search runs it, ready to be timed: each call gives the seconds of one, when as many run beside
    each other as batches do.

    Args:
        product: Its sizes.
        dtype: The numbers that it multiplies: `float32`, `bfloat16` or `int8`.
    """
    backend, workers = matmul_backend(dtype), count_workers()
    random = np.random.default_rng(0)
    rows = backend.quantize(tf.constant(random.uniform(-1, 1, (product.rows, product.inner)), tf.float32), 1.0)
    matrix = random.normal(size=(product.inner, product.columns)).astype(np.float32)
    multiply = backend.matmul(matrix, np.zeros(product.columns, np.float32), [(product.inner, 1.0)])
    compiled = tf.function(lambda rows: multiply(rows)[0, 0], autograph=False).get_concrete_function(rows)

    def run() -> float:
        began = time.perf_counter()
        for one in map_parallel(compiled, [rows] * workers, workers):
            float(one)
        return (time.perf_counter() - began) / workers

    run()
    return run


def _sources_of(model: Seq2Seq) -> list[str]:
    if not model.recipe:
        raise ConfigError("--source must be given for a model without a recipe, but is missing. Give a file of lines.")
    corpus = Corpus(Config.from_dict(model.recipe))
    return (corpus.test() or corpus.dev()).sources


def _batched_seconds(
    model: Seq2Seq, texts: Sequence[str], rounds: int, **options: Any
) -> tuple[list[float], list[Hypothesis]]:
    seconds = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        found = model.generate(texts, **options)
        seconds.append(time.perf_counter() - began)
    return seconds[1:], [hypotheses[0] for hypotheses in found]


def _latencies(model: Seq2Seq, texts: Sequence[str], **options: Any) -> list[float]:
    seconds = []
    for text in [*texts[:LATENCY_WARM_UP], *texts]:
        began = time.perf_counter()
        model.generate([text], **options)
        seconds.append(time.perf_counter() - began)
    return seconds[min(LATENCY_WARM_UP, len(texts)) :]
