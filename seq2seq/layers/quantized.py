"""A trained model made ready for inference: copies of its weights in fewer bits, for as few products as possible.

Searching needs no gradients and thousands of steps with the same weights, so what a training step cannot do is worth
its while: the product of every token's embedding with the first layer's kernel is a table, the gates of a layer come
from one product of all that it reads, both directions of an encoder run in one loop, and the products run in bfloat16
or on whole numbers of 8 bits.

All products here read numbers whose bound is known from the equations: a GRU's state and the readout's tanh lie between
-1 and 1, and attention gives means of states. So the scale of what is read is fixed, and what a row becomes depends on
no other row of its batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from keras import ops

from seq2seq.layers.context import AttentionContext, PreparedContext
from seq2seq.layers.copying import Copies, mixture
from seq2seq.layers.decoder import Decoder, DecoderState, DecoderStep
from seq2seq.layers.encoder import Encoder
from seq2seq.layers.recurrent import Recurrent

PRECISIONS = ("float32", "bfloat16", "int8")
LEVELS = 127
"""The largest of the whole numbers that a weight becomes; the least is minus as much."""


Product = Callable[[Any], Any]
"""From coded rows `(rows, features)` to float32 `(rows, units)`."""


class Arithmetic(Protocol):
    """How products are computed: in which numbers they read rows, and what they make of a matrix."""

    def coded(self, rows: Any, bound: float) -> Any:
        """Float32 `(rows, features)` no larger than `bound`, as the products read them."""

    def product(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        """A function of coded rows that gives `rows @ matrix + bias`, float32.

        Args:
            matrix: `(features, units)`.
            bias: `(units,)`.
            bounds: How many of the features have which bound, in order.
        """

    def chooser(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        """From `(columns,)` int32 places to the product with these columns of the matrix and numbers of the bias.

        Args:
            matrix: `(features, units)`.
            bias: `(units,)`.
            bound: Of all features.
        """


class _Float:
    """Products of floating-point numbers."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def coded(self, rows: Any, bound: float) -> Any:
        return tf.cast(rows, self.dtype)

    def product(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        kernel, shift = tf.cast(matrix, self.dtype), tf.cast(bias, self.dtype)
        return lambda rows: tf.cast(tf.nn.bias_add(tf.matmul(rows, kernel), shift), tf.float32)

    def chooser(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        kernel, shift = tf.cast(matrix.T, self.dtype), tf.cast(bias, self.dtype)

        def choose(columns: Any) -> Product:
            few, few_shifts = tf.transpose(tf.gather(kernel, columns)), tf.gather(shift, columns)
            return lambda rows: tf.cast(tf.nn.bias_add(tf.matmul(rows, few), few_shifts), tf.float32)

        return choose


class _Int8:
    """Products of whole numbers of 8 bits, exact in themselves, by oneDNN.

    A number x of bound b is read as u = round((x / b + 1) * 127.5), between 0 and 255, since the processor multiplies
    unsigned by signed numbers. So x W + c = b / 127.5 (u W) + (c - b 1 W), whose last part is known beforehand.
    """

    def coded(self, rows: Any, bound: float) -> Any:
        # Half more, since the cast cuts off what is behind the point. oneDNN's own operation for this takes longer.
        return tf.cast(rows * (127.5 / bound) + 128.0, tf.uint8)

    def product(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        factors = np.concatenate([np.full(count, bound) for count, bound in bounds])
        levels, shift, largest = self._levels(matrix * factors[:, None], bias)
        # As a constant of the graph oneDNN lays it out once, and not at every step.
        return lambda rows: self._multiplied(rows, tf.constant(levels), shift, largest)

    def chooser(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        levels, shift, largest = self._levels(matrix * bound, bias)
        by_column = tf.constant(levels.T)

        def choose(columns: Any) -> Product:
            few, few_shifts = tf.transpose(tf.gather(by_column, columns)), tf.gather(shift, columns)
            return lambda rows: self._multiplied(rows, few, few_shifts, largest)

        return choose

    def _levels(self, matrix: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """The matrix in whole numbers, what is added to their products, and the largest number of the matrix."""
        scale = best_scale(matrix)
        levels = np.clip(np.round(matrix / scale), -LEVELS, LEVELS)
        shift = (bias - scale * levels.sum(axis=0)).astype(np.float32)
        return levels.astype(np.int8), shift, np.float32(LEVELS * scale)

    def _multiplied(self, rows: Any, levels: Any, shift: Any, largest: np.float32) -> Any:
        return tf.raw_ops.QuantizedMatMulWithBiasAndDequantize(
            a=tf.bitcast(rows, tf.quint8),
            b=tf.bitcast(levels, tf.qint8),
            bias=shift,
            min_a=0.0,
            max_a=2.0,
            min_b=-largest,
            max_b=largest,
            # Of a result that is quantized again; this one is not.
            min_freezed_output=0.0,
            max_freezed_output=0.0,
            Toutput=tf.float32,
            input_quant_mode="SCALED",
        )


def arithmetic_of(precision: str) -> Arithmetic:
    """The arithmetic of that name.

    Raises:
        ValueError: There is none.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, but is {precision!r} instead.")
    return _Int8() if precision == "int8" else _Float(precision)


@functools.cache
def has_int8() -> bool:
    """Whether this TensorFlow multiplies whole numbers of 8 bits: it needs oneDNN, and so an x86 processor.

    >>> isinstance(has_int8(), bool)
    True
    """
    arithmetic = _Int8()
    try:
        with tf.device("CPU"):
            result = arithmetic.product(np.eye(1), np.ones(1), [(1, 1.0)])(arithmetic.coded(tf.zeros([1, 1]), 1.0))
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    # With oneDNN switched off TensorFlow does nothing and says nothing.
    return bool(result.shape == (1, 1))


def best_scale(matrix: np.ndarray) -> float:
    """What the number 1 of 8 bits stands for, so that the squared error of the matrix is least.

    A scale that takes the largest weight whole leaves few levels for the many small ones.

    >>> best_scale(np.array([[-127.0, 127.0, 3.0]])).round(2)
    np.float64(1.0)
    """
    whole = max(float(np.abs(matrix).max()), 1e-30) / LEVELS
    scales = whole * np.linspace(0.4, 1.0, 13)

    def error(scale: float) -> float:
        return float(np.square(matrix - scale * np.clip(np.round(matrix / scale), -LEVELS, LEVELS)).sum())

    return min(reversed(scales), key=error)


class PackedEncoder:
    """An encoder of GRUs on packed weights, from token ids on; they stay as they were when it was made.

    Args:
        encoder: The encoder.
        embeddings: `(vocabulary_size, features)`, what its first layer reads.
        precision: One of `arithmetic.PRECISIONS`: what the products multiply. All else is float32.

    Raises:
        ValueError: The encoder cannot be packed, with every reason, or an unknown `precision`.

    >>> encoder, embeddings, ids = Encoder(units=4), np.eye(9, 3, dtype="float32"), np.array([[1, 2]])
    >>> memory = encoder(embeddings[ids])
    >>> bool(np.allclose(PackedEncoder(encoder, embeddings, "float32")(ids, ids > 0), memory, atol=1e-6))
    True
    """

    def __init__(self, encoder: Encoder, embeddings: np.ndarray, precision: str) -> None:
        self._arithmetic = arithmetic_of(precision)
        joins = ["the encoder joins source steps"] if encoder.reduction > 1 else []
        refuse_if(reasons_against_encoder(encoder, precision) + joins, precision)
        self._encoder = encoder
        self._directions = 1 + encoder.bidirectional
        self._vocabulary_size = len(embeddings)
        self._inputs: list[list[Product]] = []
        self._recurrent: list[tuple[Product, Product]] = []
        units = encoder.units
        tables = []
        for index in range(encoder.num_layers):
            layers = [encoder.forward_layers[index], *encoder.backward_layers[index : index + 1]]
            weights = [_weights_of(layer) for layer in layers]
            inputs = []
            for kernel, _, (bias, recurrent_bias) in weights:
                shift = bias + np.concatenate([recurrent_bias[: 2 * units], np.zeros(units, "float32")])
                if index == 0:
                    tables.append(embeddings @ kernel + shift)
                else:
                    bound = 1.0 + (index - 1) * encoder.residual
                    inputs.append(self._arithmetic.product(kernel, shift, [(len(kernel), bound)]))
            self._inputs.append(inputs)
            # The states of both directions side by side: each has its block of the matrix, and zeros elsewhere.
            gates = _diagonal([recurrent[:, : 2 * units] for _, recurrent, _ in weights])
            candidates = _diagonal([recurrent[:, 2 * units :] for _, recurrent, _ in weights])
            shift = np.concatenate([recurrent_bias[2 * units :] for _, _, (_, recurrent_bias) in weights])
            bounds = [(self._directions * units, 1.0)]
            self._recurrent.append(
                (
                    self._arithmetic.product(gates, np.zeros(gates.shape[1], "float32"), bounds),
                    self._arithmetic.product(candidates, shift, bounds),
                )
            )
        self._table = _table(np.concatenate(tables), precision)

    def __call__(self, token_ids: Any, mask: Any) -> Any:
        """The memory, `(batch, source_steps, memory_units)`.

        Args:
            token_ids: `(batch, source_steps)`.
            mask: `(batch, source_steps)`, True keeps; valid steps come first.
        """
        ids, keep = tf.transpose(tf.cast(token_ids, tf.int32)), tf.transpose(mask)
        turned_ids, turned_keep = self._each_direction(ids), self._each_direction(keep)[..., None]
        rows = turned_ids + self._vocabulary_size * tf.range(self._directions)
        outputs = None
        for index in range(self._encoder.num_layers):
            # What the layer reads adds to the gates of a step: looked up, or computed for all steps at once.
            made_at = functools.partial(self._looked_up, rows)
            if index > 0:
                made_at = self._projected(index, outputs).__getitem__
            layer_outputs = self._run(index, made_at, turned_keep)
            forward, *backward = tf.unstack(layer_outputs, self._directions, axis=2)
            layer_outputs = tf.concat([forward, *(tf.reverse(one, [0]) for one in backward)], -1)
            layer_outputs *= tf.cast(keep, tf.float32)[..., None]
            outputs = outputs + layer_outputs if self._encoder.residual and index > 0 else layer_outputs
        return tf.transpose(outputs, [1, 0, 2])

    def _each_direction(self, values: Any) -> Any:
        """`(steps, batch)` values as `(steps, batch, directions)`, the second direction from the end on."""
        return tf.stack([values, tf.reverse(values, [0])][: self._directions], axis=-1)

    def _looked_up(self, rows: Any, time: Any) -> Any:
        return tf.gather(self._table, rows[time])

    def _projected(self, index: int, inputs: Any) -> Any:
        """What a layer's inputs, `(steps, batch, features)`, add to its gates: `(steps, batch, directions, 3 * units)`,
        each direction in its own order."""
        steps, batch, features = tf.shape(inputs)[0], tf.shape(inputs)[1], inputs.shape[-1]
        bound = 1.0 + (index - 1) * self._encoder.residual
        rows = self._arithmetic.coded(tf.reshape(inputs, [-1, features]), bound)
        shape = [steps, batch, 3 * self._encoder.units]
        forward, *backward = (tf.reshape(product(rows), shape) for product in self._inputs[index])
        return tf.stack([forward, *(tf.reverse(one, [0]) for one in backward)], axis=2)

    def _run(self, index: int, made_at: Callable[[Any], Any], keep: Any) -> Any:
        """States of all steps, `(steps, batch, directions, units)`, each direction in its own order."""
        units, directions = self._encoder.units, self._directions
        gates_of, candidate_of = self._recurrent[index]
        steps, batch = tf.shape(keep)[0], tf.shape(keep)[1]

        def step(time: Any, state: Any, states: tf.TensorArray) -> tuple[Any, Any, tf.TensorArray]:
            made = tf.cast(made_at(time), tf.float32)
            coded = self._arithmetic.coded(tf.reshape(state, [-1, directions * units]), 1.0)
            gates = tf.reshape(gates_of(coded), [-1, directions, 2 * units]) + made[..., : 2 * units]
            update, reset = tf.split(tf.sigmoid(gates), 2, axis=-1)
            recurrent = tf.reshape(candidate_of(coded), [-1, directions, units])
            candidate = tf.tanh(made[..., 2 * units :] + reset * recurrent)
            new_state = tf.where(keep[time], candidate + update * (state - candidate), state)
            new_state = tf.ensure_shape(new_state, [None, directions, units])
            return time + 1, new_state, states.write(time, new_state)

        states = tf.TensorArray(tf.float32, steps, element_shape=[None, directions, units])
        start = tf.zeros([batch, directions, units])
        _, _, states = tf.while_loop(lambda time, *_: time < steps, step, (0, start, states))
        return tf.ensure_shape(states.stack(), [None, None, directions, units])


def memory_bound(encoder: Encoder) -> float:
    """The largest that a number of the memory can be, of an encoder of GRUs."""
    return 1.0 + (encoder.num_layers - 1) * encoder.residual


class FusedDecoder:
    """A decoder of GRUs whose step runs on packed weights; they stay as they were when it was made.

    Args:
        decoder: The decoder; see `reasons_against`.
        precision: One of `PRECISIONS`: what the products multiply. All else is float32.
        memory_bound: The largest that a number of the memory can be.

    Raises:
        ValueError: The decoder cannot be packed, with every reason, or an unknown `precision`.

    >>> from seq2seq.layers import Decoder
    >>> decoder = Decoder(vocabulary_size=9, embedding_size=4, units=8)
    >>> logits = decoder(np.array([[1]]), memory=np.ones((1, 3, 8), "float32"))
    >>> context = decoder.context.prepare(np.ones((1, 3, 8), "float32"), np.ones((1, 3), bool))
    >>> step = PackedDecoder(decoder, "float32").step(np.array([1]), decoder.start(context), context)
    >>> bool(np.allclose(step.logits, logits[:, 0], atol=1e-5))
    True
    """

    def __init__(self, decoder: Decoder, precision: str, memory_bound: float = 1.0) -> None:
        arithmetic = arithmetic_of(precision)
        refuse_if(reasons_against_decoder(decoder, precision), precision)
        self.decoder = decoder
        self._arithmetic = arithmetic
        self._memory_bound = memory_bound
        units = decoder.units
        self._bounds = [1.0 + index * decoder.residual for index in range(decoder.num_layers)]
        self._layers: list[tuple[Product, Product]] = []
        self._candidates: list[Product] = []
        for index, layer in enumerate(decoder.recurrent_layers):
            kernel, recurrent, (bias, recurrent_bias) = _weights_of(layer)
            state_bounds = [(units, 1.0)]
            if index == 0:
                table = ops.convert_to_numpy(decoder.embedding.embeddings) @ kernel + bias
                table[:, : 2 * units] += recurrent_bias[: 2 * units]
                self._table = _table(table, precision)
                gates = arithmetic.product(recurrent[:, : 2 * units], np.zeros(2 * units, "float32"), state_bounds)
            else:
                inputs = [(units, self._bounds[index - 1])]
                if index == 1 and decoder.attention_position == "between":
                    inputs.append((kernel.shape[0] - units, memory_bound))
                both = np.concatenate([kernel, recurrent])
                gates = arithmetic.product(
                    both[:, : 2 * units], (bias + recurrent_bias)[: 2 * units], inputs + state_bounds
                )
                self._candidates.append(arithmetic.product(kernel[:, 2 * units :], bias[2 * units :], inputs))
            recurrent_candidate = arithmetic.product(
                recurrent[:, 2 * units :], recurrent_bias[2 * units :], state_bounds
            )
            self._layers.append((gates, recurrent_candidate))
        readout = decoder.readout
        inputs = [(units, self._bounds[-1])]
        if "readout" in decoder.context_inputs:
            inputs.append((readout.kernel.shape[0] - units, memory_bound))
        self._features = arithmetic.product(
            ops.convert_to_numpy(readout.kernel), ops.convert_to_numpy(readout.bias), inputs
        )
        output = ops.convert_to_numpy(decoder.output_embeddings).T
        output_bias = ops.convert_to_numpy(readout.output_bias)
        self._logits = arithmetic.product(output, output_bias, [(output.shape[0], 1.0)])
        self._logits_of = arithmetic.chooser(output, output_bias, 1.0)

    def logits_of(self, columns: Any) -> Product:
        """The product that makes logits of some tokens only, `(columns,)` int32, for `step`."""
        product: Product = self._logits_of(columns)
        return product

    def step(
        self, token_ids: Any, state: DecoderState, context: PreparedContext, logits: Product | None = None
    ) -> DecoderStep:
        """What `Decoder.step` gives, but for rounding.

        Args:
            token_ids, state, context: As there.
            logits: From `logits_of`; None: of all tokens.
        """
        decoder, coded = self.decoder, self._arithmetic.coded
        units = decoder.units
        read, weights, coverage, inputs, outputs = None, None, state.coverage, [], None
        new_states = []
        for index, (gates_of, recurrent_candidate_of) in enumerate(self._layers):
            (previous,) = state.layers[index]
            coded_state = coded(previous, 1.0)
            if index == 0:
                made = tf.cast(tf.gather(self._table, token_ids), tf.float32)
                gates = tf.sigmoid(gates_of(coded_state) + made[:, : 2 * units])
                candidate = made[:, 2 * units :]
            else:
                inputs = [coded(outputs, self._bounds[index - 1])]
                if index == 1 and decoder.attention_position == "between":
                    read, weights, coverage = self._read(context, outputs, coverage)
                    inputs.append(coded(read, self._memory_bound))
                gates = tf.sigmoid(gates_of(tf.concat([*inputs, coded_state], 1)))
                candidate = self._candidates[index - 1](tf.concat(inputs, 1))
            update, reset = tf.split(gates, 2, axis=1)
            candidate = tf.tanh(candidate + reset * recurrent_candidate_of(coded_state))
            new_state = candidate + update * (previous - candidate)
            new_states.append([new_state])
            outputs = outputs + new_state if decoder.residual and index > 0 else new_state
        inputs = [coded(outputs, self._bounds[-1])]
        if "readout" in decoder.context_inputs:
            if read is None:
                read, weights, coverage = self._read(context, outputs, coverage)
            inputs.append(coded(read, self._memory_bound))
        features = tf.tanh(self._features(tf.concat(inputs, 1)))
        scores = (logits or self._logits)(coded(features, 1.0))
        state = DecoderState(tuple(new_states), coverage=coverage)
        if decoder.copying is None:
            return DecoderStep(scores, state, weights)
        known = [outputs, *[read] * decoder.uses_context_per_step, decoder.embedding(token_ids)]
        copies = decoder.copying(
            [part[:, None] for part in known],
            None if weights is None else weights[:, None],
            source=context.source,
        )
        scores = mixture(scores[:, None], copies, context.source.token_ids)[:, 0]
        return DecoderStep(scores, state, weights, Copies(*(part[:, 0] for part in copies)))

    def _read(self, context: PreparedContext, query: Any, coverage: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        read, weights, coverage = self.decoder.read(context, query[:, None], coverage)
        return read[:, 0], None if weights is None else weights[:, 0], coverage


def reasons_against_encoder(encoder: Encoder, precision: str) -> list[str]:
    """Why an encoder cannot be packed in a precision, nor what reads its memory; empty where both can."""
    reasons = [] if encoder.cell == "gru" else [f"the encoder's cell is {encoder.cell!r}, not 'gru'"]
    return reasons + _reasons_against(encoder, precision)


def reasons_against_decoder(decoder: Decoder, precision: str) -> list[str]:
    """Why a decoder cannot be packed in a precision; empty where it can."""
    reasons = [] if decoder.cell == "gru" else [f"the decoder's cell is {decoder.cell!r}, not 'gru'"]
    if decoder.input_feeding or "input" in decoder.context_inputs:
        reasons.append("the decoder's input is more than the last token")
    is_mean_of_states = isinstance(decoder.context, AttentionContext) and decoder.context.score != "multi_head"
    if precision == "int8" and not is_mean_of_states:
        reasons.append("the context is not a mean of states, whose bound is known")
    return reasons + _reasons_against(decoder, precision)


def _reasons_against(layer: Any, precision: str) -> list[str]:
    reasons = [] if type(layer) in (Encoder, Decoder) else [f"a {type(layer).__name__} computes in its own way"]
    if layer.compute_dtype != "float32":
        reasons.append(f"the model computes in {layer.compute_dtype} anyway")
    if precision == "int8" and not has_int8():
        reasons.append("TensorFlow has no 8-bit products here, which need an x86 processor with oneDNN on")
    return reasons


def refuse_if(reasons: list[str], precision: str) -> None:
    """Refuse a precision that cannot be had.

    Raises:
        ValueError: There are reasons.
    """
    if reasons:
        raise ValueError(f"precision {precision!r} cannot be had: {'; '.join(reasons)}. Use the layers themselves.")


def _weights_of(layer: Recurrent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernel, recurrent kernel and both biases, in the reading of the update gate that the kernels have."""
    kernel, recurrent, biases = (ops.convert_to_numpy(weight) for weight in layer.cell.kernel_weights())
    return kernel, recurrent, biases


def _table(rows: np.ndarray, precision: str) -> Any:
    return tf.cast(rows, "float32" if precision == "float32" else "bfloat16")


def _diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Matrices on the diagonal of a larger one."""
    rows, columns = blocks[0].shape
    joined = np.zeros((rows * len(blocks), columns * len(blocks)), blocks[0].dtype)
    for place, block in enumerate(blocks):
        joined[place * rows : (place + 1) * rows, place * columns : (place + 1) * columns] = block
    return joined
