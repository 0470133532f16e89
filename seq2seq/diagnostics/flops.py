"""Arithmetic that a training step cannot avoid, counted from the model's shapes, and the rate of the machine."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.layers import AttentionContext, AttentiveContext, Encoder, ProjectedContext
from seq2seq.layers.context import Context
from seq2seq.models.seq2seq import Seq2Seq

Lengths = Sequence[int] | np.ndarray

FORWARD_AND_BACK = 6
"""Operations per pair of numbers that a product multiplies: a multiplication and an addition forwards, and the same
for the gradient of each of its two factors."""
FORWARD = FORWARD_AND_BACK // 3

WARM_UP_PRODUCTS = 3


class StepFlops(NamedTuple):
    """Floating-point operations of one training step, by part."""

    encoder: int
    decoder: int
    attention: int
    readout_and_loss: int


class _Rows(NamedTuple):
    """Numbers of pairs, memory steps, target tokens, and memory steps that a target token attends to."""

    sentences: int
    memory: int
    targets: int
    places: int


def step_flops(model: Seq2Seq, source_lengths: Lengths, target_lengths: Lengths) -> StepFlops:
    """Count the operations in the matrix products of one step, forwards and backwards, by part.

    A product of an (m, k) with a (k, n) matrix is 2 m k n operations, and each of its two gradients as many: every term
    is 6 x numbers in the matrix x rows that go through it. Only valid tokens count; padding, look-ups, elementwise work
    and the optimizer do not (the model FLOPs of Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    >>> from seq2seq.layers import Decoder, Encoder, PooledContext
    >>> encoder = Encoder(units=3, cell="rnn", bidirectional=False)
    >>> context = PooledContext("mean")
    >>> decoder = Decoder(9, embedding_size=2, units=3, cell="rnn", context=context, context_inputs=("readout",))
    >>> step_flops(Seq2Seq(encoder, decoder), source_lengths=[5], target_lengths=[4])
    StepFlops(encoder=450, decoder=648, attention=0, readout_and_loss=432)
    """
    sources, targets = np.asarray(source_lengths, np.int64), np.asarray(target_lengths, np.int64)
    encoder, decoder = model.encoder, model.decoder
    memory = _steps_left(sources, encoder.reduction)
    rows = _Rows(len(sources), int(memory.sum()), int(targets.sum()), int((memory * targets).sum()))
    steps = _flops(rows.targets, decoder.readout.kernel)
    steps += sum(_recurrent(rows.targets, layer) for layer in decoder.recurrent_layers)
    attention = _context_flops(rows, decoder.context, encoder.memory_units, decoder.units)
    if (copying := decoder.copying) is not None:
        steps += _flops(rows.targets, copying.kernel)
        if copying.score is not None:
            attention += _flops(rows.memory, copying.score.kernel) + _flops(rows.places, decoder.units)
        if copying.window_score is not None:
            # Every source token is scored, whatever the number of memory steps.
            attention += _flops(int(sources.sum()), copying.window_score.kernel)
            attention += _flops(int((sources * targets).sum()), decoder.units)
    return StepFlops(
        encoder=_encoder(encoder, sources),
        decoder=steps + sum(_flops(rows.sentences, bridge.kernel) for bridge in decoder.bridges),
        attention=attention,
        readout_and_loss=_flops(rows.targets, decoder.output_embeddings),
    )


def forward_flops(model: Seq2Seq, source_lengths: Lengths, target_lengths: Lengths) -> StepFlops:
    """Count the operations of decoding: those of `step_flops` without gradients, targets being all hypotheses."""
    flops = step_flops(model, source_lengths, target_lengths)
    return StepFlops(*(part * FORWARD // FORWARD_AND_BACK for part in flops))


def _flops(rows: int, *matrices: Any) -> int:
    """Count the operations of rows that go through matrices, or through vectors of a length."""
    sizes = (matrix if isinstance(matrix, int) else math.prod(matrix.shape) for matrix in matrices)
    return FORWARD_AND_BACK * rows * sum(sizes)


def _recurrent(rows: int, layer: Any) -> int:
    return _flops(rows, layer.cell.kernel, layer.cell.recurrent_kernel)


def _steps_left(lengths: np.ndarray, reduction: int) -> np.ndarray:
    return -(-lengths // reduction)


def _encoder(encoder: Encoder, sources: np.ndarray) -> int:
    front_end, found = encoder.front_end_layer, 0
    if front_end is not None and front_end.convolution is not None:
        found += _flops(int(_steps_left(sources, encoder.stride).sum()), front_end.convolution.kernel)
    for layers in (encoder.forward_layers, encoder.backward_layers):
        for layer, reduction in zip(layers, encoder.reductions, strict=False):
            found += _recurrent(int(_steps_left(sources, reduction).sum()), layer)
    return found


def _context_flops(rows: _Rows, context: Context, memory_units: int, query_units: int) -> int:
    if isinstance(context, ProjectedContext):
        return _flops(rows.sentences, context.kernel)
    if isinstance(context, AttentiveContext):
        return _flops(rows.memory, context.kernel, context.vector, memory_units)
    if not isinstance(context, AttentionContext):
        return 0
    score, weighted_sum = context.score_layer, _flops(rows.places, memory_units)
    if context.score == "additive":
        keys_and_queries = _flops(rows.memory, score.memory_kernel) + _flops(rows.targets, score.query_kernel)
        return keys_and_queries + _flops(rows.places, score.vector) + weighted_sum
    if context.score == "location":
        # The sinusoids are constants: only the gradient of the query goes back through their product.
        return _flops(rows.targets, score.kernel) + 4 * rows.places * score.units + weighted_sum
    if context.score == "multi_head":
        keys_and_values = _flops(rows.memory, score.key_kernel, score.value_kernel)
        queries_and_outputs = _flops(rows.targets, score.query_kernel, score.output_kernel)
        return keys_and_values + queries_and_outputs + _flops(rows.places, 2 * score.output_kernel.shape[0])
    found = _flops(rows.places, query_units) + weighted_sum
    if context.score in ("general", "local"):
        found += _flops(rows.memory, score.kernel)
    if (window := context.local_window) is not None:
        found += _flops(rows.targets, window.kernel, window.vector)
    return found


class Product(NamedTuple):
    """A product of a `(rows, inner)` with an `(inner, columns)` matrix."""

    rows: int
    inner: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.inner} x {self.columns}"

    @property
    def flops(self) -> int:
        """Count the floating-point operations of the product."""
        return 2 * self.rows * self.inner * self.columns


def large_products(model: Seq2Seq, tokens: int) -> list[Product]:
    """List the model's large products of a batch with `tokens` per side: inputs of the first layers, and the output."""
    encoder, decoder = model.encoder.forward_layers[0].cell, model.decoder.recurrent_layers[0].cell
    vocabulary, readout_size = model.decoder.output_embeddings.shape
    return [
        Product(tokens, *encoder.kernel.shape),
        Product(tokens, *decoder.kernel.shape),
        Product(tokens, readout_size, vocabulary),
    ]


def timed_product(product: Product, dtype: str, workers: int = 1) -> Callable[[], float]:
    """Make a function that multiplies by TensorFlow's own operation, `workers` products at once, and returns seconds.

    The seconds are those of all products divided by their number.
    """

    @tf.function(autograph=False)
    def multiply(lefts: list[Any], right: Any) -> Any:
        # One number of each result waits for the product, on a GPU too, and reads nothing else.
        return tf.add_n([tf.cast(tf.matmul(left, right)[0, 0], tf.float32) for left in lefts])

    lefts = [tf.cast(tf.random.normal([product.rows, product.inner]), dtype) for _ in range(workers)]
    right = tf.cast(tf.random.normal([product.inner, product.columns]), dtype)

    def run() -> float:
        began = time.perf_counter()
        float(multiply(lefts, right))
        return (time.perf_counter() - began) / workers

    for _ in range(WARM_UP_PRODUCTS):
        run()
    return run


def fastest_rate(seconds: Mapping[Product, Sequence[float]]) -> tuple[float, Product]:
    """Find the machine's rate in GFLOP per second: that of the fastest product for its size, by its median time.

    >>> fastest_rate({Product(10, 10, 10): [1e-6, 2e-6, 9e-6], Product(10, 10, 20): [8e-6]})
    (1.0, Product(rows=10, inner=10, columns=10))
    """
    rates = {product: product.flops / float(np.median(times)) / 1e9 for product, times in seconds.items()}
    best = max(rates, key=lambda product: rates[product])
    return rates[best], best
