"""Benchmark of decoding: the speed of a model's searches, in batches and by single sentences."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics.flops import Product, fastest_rate, forward_flops, large_products
from seq2seq.diagnostics.machine import peak_memory
from seq2seq.diagnostics.results import DecodingBenchmark, SearchSpeed
from seq2seq.errors import ConfigError
from seq2seq.layers.quantized import matmul_backend
from seq2seq.models.archive import load
from seq2seq.models.results import Hypothesis
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.threads import count_workers, map_parallel, use_single_threaded_ops
from seq2seq.training.data import Corpus

LOG = logging.getLogger(__name__)

PRODUCT_ROWS = 1024
PRODUCT_REPEATS = 10
"""Runs of each matrix product, before the searches and again after them."""
LATENCY_WARM_UP = 5
"""Sentences that are translated one by one before the first timed one."""


class SearchTimes(NamedTuple):
    """Seconds of each round over all sentences, the best hypotheses, and seconds of single sentences."""

    rounds: list[float]
    found: list[Hypothesis]
    latencies: list[float]


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
    """Translate sentences, by default the recipe's test or dev set, as `seq2seq translate` does, and measure it.

    All of them are translated `rounds` times after a warm-up, and `latency_sentences` of them one by one. `options` are
    settings of the search that differ from the model's own.
    """
    use_single_threaded_ops()
    began = time.perf_counter()
    model = load(path, Seq2Seq)
    load_seconds = time.perf_counter() - began
    texts = [text for text in (_sources_of(model) if sources is None else sources) if text.strip()]
    if not texts:
        raise ConfigError("source must hold a line that is not blank, got none. Give another file.")

    began = time.perf_counter()
    model.generate(texts[:1], beam_size=beam_size, **options)
    first_translation_seconds = time.perf_counter() - began

    precision = model.decoding.replaced(**options).precision
    dtype = model.compute_dtype if precision == "float32" else precision
    products = {product: product_on_all_cores(product, dtype) for product in large_products(model, PRODUCT_ROWS)}
    product_times = {product: [run() for _ in range(PRODUCT_REPEATS)] for product, run in products.items()}
    # A corpus may be sorted by length.
    few = texts[:: max(1, len(texts) // latency_sentences)][:latency_sentences]
    times = {size: _timed_search(model, texts, few, rounds, beam_size=size, **options) for size in (1, beam_size)}
    memory = peak_memory()
    for product, run in products.items():
        product_times[product] += [run() for _ in range(PRODUCT_REPEATS)]
    matmul_gflops, shape = fastest_rate(product_times)
    lengths = [len(ids) for ids in model.encode_sources(texts)]
    greedy, beam = (search_speed(model, size, lengths, one, matmul_gflops) for size, one in times.items())
    return DecodingBenchmark(
        sentences=len(texts),
        latency_sentences=len(few),
        source_tokens=sum(lengths),
        compute_dtype=dtype,
        import_seconds=import_seconds,
        load_seconds=load_seconds,
        first_translation_seconds=first_translation_seconds,
        greedy=greedy,
        beam=beam,
        matmul_gflops=matmul_gflops,
        matmul_shape=shape,
        peak_memory_mb=memory / 1e6,
    )


def search_speed(
    model: Seq2Seq, beam_size: int, source_lengths: Sequence[int], times: SearchTimes, matmul_gflops: float
) -> SearchSpeed:
    """Compute the numbers of one search from its times, the tokens of the sources, and the rate of the machine."""
    target_lengths = np.array([len(hypothesis.token_ids) for hypothesis in times.found])
    taken = float(np.median(times.rounds))
    rate = sum(forward_flops(model, source_lengths, beam_size * target_lengths)) / taken / 1e9
    return SearchSpeed(
        beam_size=beam_size,
        sentences_per_second=len(times.found) / taken,
        tokens_per_second=float(target_lengths.sum()) / taken,
        latency_ms=1e3 * float(np.median(times.latencies)),
        latency_99_ms=1e3 * float(np.percentile(times.latencies, 99)),
        model_gflops_per_second=rate,
        utilisation=rate / matmul_gflops,
    )


def product_on_all_cores(product: Product, dtype: str) -> Callable[[], float]:
    """Make a function that multiplies as a search does, one product per worker at once, and returns seconds of one."""
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
        raise ConfigError("--source must be given for a model without a recipe. Give a file of lines.")
    corpus = Corpus(Config.from_dict(model.recipe))
    return (corpus.test() or corpus.dev()).sources


def _timed_search(model: Seq2Seq, texts: Sequence[str], few: Sequence[str], rounds: int, **options: Any) -> SearchTimes:
    name = "greedy" if options["beam_size"] == 1 else f"beam {options['beam_size']}"
    seconds, latencies = [], []
    LOG.info(f"{name}: {len(texts):,} sentences in batches, {1 + rounds} times")
    for _ in range(1 + rounds):
        began = time.perf_counter()
        found = model.generate(texts, **options)
        seconds.append(time.perf_counter() - began)
    LOG.info(f"{name}: {len(few):,} sentences one by one")
    warm_up = few[:LATENCY_WARM_UP]
    for text in [*warm_up, *few]:
        began = time.perf_counter()
        model.generate([text], **options)
        latencies.append(time.perf_counter() - began)
    return SearchTimes(seconds[1:], [hypotheses[0] for hypotheses in found], latencies[len(warm_up) :])
