"""The arithmetic that a training step cannot do without, counted from the model's shapes."""

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

THERE_AND_BACK = 6
"""Operations for each pair of numbers that a product multiplies: a multiplication and an addition forwards, and the
same again for the gradient of each of its two factors."""
THERE = THERE_AND_BACK // 3


class StepFlops(NamedTuple):
    """Floating-point operations of one training step, by part; their sum is the step's."""

    encoder: int
    decoder: int
    attention: int
    readout_and_loss: int


class _ContextFlops(NamedTuple):
    """What a context costs for each pair of texts, source token, target token, and source token that a target token
    looks at."""

    sentence: int = 0
    source: int = 0
    target: int = 0
    place: int = 0


def step_flops(model: Seq2Seq, source_lengths: Lengths, target_lengths: Lengths) -> StepFlops:
    """Operations in the matrix products of one step, forwards and backwards, of valid tokens only.

    A product of an (m, k) with a (k, n) matrix is 2 m k n operations, and its two gradients are as many each: 6 m k n.
    With B pairs of S source and T target tokens in all, P = sum_i s_i t_i over the pairs, and |W| the numbers in a
    weight matrix:

        encoder           6 S (|W| + |U|), each layer and direction, and 6 S |kernel| of a front end's convolution
        decoder           6 T (|W| + |U|), each layer; 6 B |bridge|; 6 T |hidden layer of the readout|; 6 T |copy gate|
        readout and loss  6 T |output matrix|
        attention         6 P (query size + memory size) for `dot`; other scores and contexts by their own products, and
                          the score of a copy attention of its own, and 6 (S |W| + P query size) of one within windows

    Where the encoder joins source tokens, S and P of what lies above count the steps that remain.

    Padding, look-ups, elementwise work and the optimizer count nothing, so this is the least that the step has to do,
    whatever it does (the model FLOPs of Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    Args:
        model: The model.
        source_lengths: Source tokens of each pair, end tokens counted.
        target_lengths: Target tokens of each pair.

    Returns:
        Operations by part.

    >>> from seq2seq.layers import Decoder, Encoder, PooledContext
    >>> decoder = Decoder(9, embedding_size=2, units=3, cell="rnn", context=PooledContext("mean"), context_inputs=("readout",))
    >>> model = Seq2Seq(Encoder(units=3, cell="rnn", bidirectional=False), decoder)
    >>> step_flops(model, source_lengths=[5], target_lengths=[4])
    StepFlops(encoder=450, decoder=648, attention=0, readout_and_loss=432)
    """
    sources, targets = np.asarray(source_lengths, np.int64), np.asarray(target_lengths, np.int64)
    sentences, encoder, decoder = len(sources), model.encoder, model.decoder
    memory = _joined(sources, encoder.reduction)
    source, target, places = int(memory.sum()), int(targets.sum()), int((memory * targets).sum())
    context = _context_flops(decoder.context, encoder.memory_units, decoder.units)
    copying = decoder.copying
    gate = 0 if copying is None else _flops_a_row(copying.kernel)
    own = _ContextFlops()
    if copying is not None and copying.score is not None:
        own = _ContextFlops(source=_flops_a_row(copying.score.kernel), place=THERE_AND_BACK * decoder.units)
    within = 0
    if copying is not None and copying.window_score is not None:
        # Every token of the source is scored, whatever the steps that remain of it.
        within = int(sources.sum()) * _flops_a_row(copying.window_score.kernel)
        within += int((sources * targets).sum()) * THERE_AND_BACK * decoder.units
    bridges = sum(_flops_a_row(bridge.kernel) for bridge in decoder.bridges)
    steps = sum(_recurrent(layer) for layer in decoder.recurrent_layers) + _flops_a_row(decoder.readout.kernel)
    return StepFlops(
        encoder=_encoder(encoder, sources),
        decoder=sentences * bridges + target * (steps + gate),
        attention=within
        + sentences * context.sentence
        + source * (context.source + own.source)
        + target * context.target
        + places * (context.place + own.place),
        readout_and_loss=target * _flops_a_row(decoder.output_embeddings),
    )


def forward_flops(model: Seq2Seq, source_lengths: Lengths, target_lengths: Lengths) -> StepFlops:
    """Operations in the matrix products that decoding cannot do without: those of `step_flops` without gradients.

    Args:
        model: The model.
        source_lengths: Source tokens of each sentence.
        target_lengths: Target tokens of each sentence, those of all its hypotheses together.

    Returns:
        Operations by part.
    """
    flops = step_flops(model, source_lengths, target_lengths)
    return StepFlops(*(part * THERE // THERE_AND_BACK for part in flops))


def _flops_a_row(*weights: Any) -> int:
    """Operations for each row that is multiplied by each of these matrices."""
    return THERE_AND_BACK * sum(math.prod(weight.shape) for weight in weights)


def _encoder(encoder: Encoder, sources: np.ndarray) -> int:
    front_end, found = encoder.front_end_layer, 0
    if front_end is not None and front_end.convolution is not None:
        found += int(_joined(sources, encoder.stride).sum()) * _flops_a_row(front_end.convolution.kernel)
    for layers in (encoder.forward_layers, encoder.backward_layers):
        for layer, reduction in zip(layers, encoder.reductions, strict=False):
            found += int(_joined(sources, reduction).sum()) * _recurrent(layer)
    return found


def _joined(lengths: np.ndarray, size: int) -> np.ndarray:
    """Steps that are left of each row when so many become one."""
    return -(-lengths // size)


def _recurrent(layer: Any) -> int:
    return _flops_a_row(layer.cell.kernel, layer.cell.recurrent_kernel)


def _context_flops(context: Context, memory_units: int, query_units: int) -> _ContextFlops:
    if isinstance(context, ProjectedContext):
        return _ContextFlops(sentence=_flops_a_row(context.kernel))
    if isinstance(context, AttentiveContext):
        weighting = THERE_AND_BACK * memory_units
        return _ContextFlops(source=_flops_a_row(context.kernel, context.vector) + weighting)
    if isinstance(context, AttentionContext):
        return _attention_flops(context, memory_units, query_units)
    return _ContextFlops()


def _attention_flops(context: AttentionContext, memory_units: int, query_units: int) -> _ContextFlops:
    """The scores, and the sum over the memory that they weigh."""
    weighting, score = THERE_AND_BACK * memory_units, context.score_layer
    if context.score in ("dot", "scaled_dot"):
        return _ContextFlops(place=THERE_AND_BACK * query_units + weighting)
    if context.score in ("general", "local"):
        window = context.local_window
        return _ContextFlops(
            source=_flops_a_row(score.kernel),
            target=0 if window is None else _flops_a_row(window.kernel, window.vector),
            place=THERE_AND_BACK * query_units + weighting,
        )
    if context.score == "additive":
        return _ContextFlops(
            source=_flops_a_row(score.memory_kernel),
            target=_flops_a_row(score.query_kernel),
            place=_flops_a_row(score.vector) + weighting,
        )
    if context.score == "location":
        # The sinusoids are no variables: only the query's gradient goes back through that product.
        return _ContextFlops(target=_flops_a_row(score.kernel), place=4 * score.units + weighting)
    units = context.output_kernel.shape[0]
    return _ContextFlops(
        source=_flops_a_row(context.key_kernel, context.value_kernel),
        target=_flops_a_row(context.query_kernel, context.output_kernel),
        place=THERE_AND_BACK * 2 * units,
    )


WARM_UP_PRODUCTS = 3


class Product(NamedTuple):
    """A product of a `(rows, inner)` with an `(inner, columns)` matrix."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Floating-point operations of the product."""
        return 2 * self.rows * self.inner * self.columns


def timed_product(product: Product, dtype: str, workers: int = 1) -> Callable[[], float]:
    """A product by TensorFlow's own operation, ready to be timed: each call returns its seconds.

    Args:
        product: Its sizes.
        dtype: The numbers that it multiplies: `float32`, `bfloat16`, ...
        workers: How many such products run at the same time; the seconds are those of all, shared out among them.
    """

    @tf.function(autograph=False)
    def multiply(lefts: list[Any], right: Any) -> Any:
        # One number of each result: asking for it waits for the product, also on a GPU, and reads nothing else.
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
    """The machine's rate: that of the product which ran fastest for its size, by the median of its runs.

    Args:
        seconds: Times of each product.

    Returns:
        GFLOP a second, and the product.

    >>> fastest_rate({Product(10, 10, 10): [1e-6, 2e-6, 9e-6], Product(10, 10, 20): [8e-6]})
    (1.0, Product(rows=10, inner=10, columns=10))
    """
    rates = {product: product.flops / float(np.median(times)) / 1e9 for product, times in seconds.items()}
    best = max(rates, key=lambda product: rates[product])
    return rates[best], best
