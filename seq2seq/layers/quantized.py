"""Inference on copies of a trained model's weights, in fewer bits and fewer products.

A search needs no gradients and takes thousands of steps with the same weights. So a table holds the product of every
token's embedding with the first layer's kernel, one product makes the gates of a layer from all that it reads, both
directions of an encoder run in one loop, and products run in float32, in bfloat16 or on integers of 8 bits.

Every product reads numbers with a known bound: a GRU's state and the readout's tanh lie between -1 and 1, and attention
returns means of states. So the scale of the inputs is fixed, and no row depends on the other rows of its batch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, require_choice
from seq2seq.layers import equations
from seq2seq.layers.context import AttentionContext, PreparedContext
from seq2seq.layers.copying import Copies, mixture
from seq2seq.layers.decoder import Decoder, DecoderOutput, DecoderState
from seq2seq.layers.encoder import Encoder
from seq2seq.layers.recurrent import Recurrent

PRECISIONS = ("float32", "bfloat16", "int8")
LEVELS = 127
"""Largest magnitude of a weight in 8 bits."""

Product = Callable[[Any], Any]
"""Maps quantized rows `(rows, features)` to float32 `(rows, units)`."""


class MatmulBackend:
    """Products of floating-point numbers, and the base of other number formats."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def quantize(self, rows: Any, bound: float) -> Any:
        """Convert float32 `(rows, features)` of magnitude at most `bound` to the format that products read."""
        return tf.cast(rows, self.dtype)

    def matmul(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        """Return the product `rows @ matrix + bias`; `bounds` lists `(features, bound)` for the columns of the rows."""
        weights, shift, largest = self._encode(matrix, bias, bounds)
        return lambda rows: self._multiply(rows, weights, shift, largest)

    def matmul_columns(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        """Return a function from int32 `(columns,)` to the product with these columns of the matrix and bias only."""
        weights, shift, largest = self._encode(matrix, bias, [(len(matrix), bound)])
        by_column = tf.transpose(weights)

        def choose(columns: Any) -> Product:
            few, few_shifts = tf.transpose(tf.gather(by_column, columns)), tf.gather(shift, columns)
            return lambda rows: self._multiply(rows, few, few_shifts, largest)

        return choose

    def _encode(
        self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]
    ) -> tuple[Any, Any, Any]:
        """Return weights, the addend of their products, and what else `_multiply` needs."""
        return tf.cast(matrix, self.dtype), tf.cast(bias, self.dtype), None

    def _multiply(self, rows: Any, weights: Any, shift: Any, largest: Any) -> Any:
        return tf.cast(tf.nn.bias_add(tf.matmul(rows, weights), shift), tf.float32)


class _Int8Backend(MatmulBackend):
    """Exact products of 8-bit integers, by oneDNN.

    A number x of bound b is read as u = round((x / b + 1) * 127.5), between 0 and 255, since the processor multiplies
    unsigned by signed numbers. So x W + c = b / 127.5 (u W) + (c - b 1 W), whose last part is constant.
    """

    def quantize(self, rows: Any, bound: float) -> Any:
        # 128 instead of 127.5, since the cast cuts decimals off. oneDNN's own operation for this takes longer.
        return tf.cast(rows * (127.5 / bound) + 128.0, tf.uint8)

    def _encode(
        self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]
    ) -> tuple[Any, Any, Any]:
        scaled = matrix * np.concatenate([np.full(count, bound) for count, bound in bounds])[:, None]
        scale = best_scale(scaled)
        levels = np.clip(np.round(scaled / scale), -LEVELS, LEVELS)
        shift = (bias - scale * levels.sum(axis=0)).astype(np.float32)
        # An array and no tensor: oneDNN lays a constant of the graph out once, any other tensor at every step.
        return levels.astype(np.int8), shift, np.float32(LEVELS * scale)

    def _multiply(self, rows: Any, weights: Any, shift: Any, largest: Any) -> Any:
        return tf.raw_ops.QuantizedMatMulWithBiasAndDequantize(
            a=tf.bitcast(rows, tf.quint8),
            b=tf.bitcast(weights, tf.qint8),
            bias=shift,
            min_a=0.0,
            max_a=2.0,
            min_b=-largest,
            max_b=largest,
            # Only read where the result is quantized again.
            min_freezed_output=0.0,
            max_freezed_output=0.0,
            Toutput=tf.float32,
            input_quant_mode="SCALED",
        )


def matmul_backend(precision: str) -> MatmulBackend:
    """Create the backend of a precision, one of `PRECISIONS`."""
    require_choice("precision", precision, PRECISIONS)
    return _Int8Backend(precision) if precision == "int8" else MatmulBackend(precision)


@functools.cache
def has_int8() -> bool:
    """Report whether TensorFlow multiplies 8-bit integers here, which needs oneDNN and so an x86 processor."""
    backend = _Int8Backend("int8")
    try:
        with tf.device("CPU"):
            result = backend.matmul(np.eye(1), np.ones(1), [(1, 1.0)])(backend.quantize(tf.zeros([1, 1]), 1.0))
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    # With oneDNN switched off TensorFlow returns an empty result and no error.
    return bool(result.shape == (1, 1))


def best_scale(matrix: np.ndarray) -> float:
    """Find the value of one 8-bit level with the least squared error: a scale for the largest weight wastes levels."""
    whole = max(float(np.abs(matrix).max()), 1e-30) / LEVELS
    scales = whole * np.linspace(0.4, 1.0, 13)

    def error(scale: float) -> float:
        return float(np.square(matrix - scale * np.clip(np.round(matrix / scale), -LEVELS, LEVELS)).sum())

    return min(reversed(scales), key=error)


class FusedEncoder:
    """Encoder of GRUs on copies of its weights and of `embeddings`, `(vocabulary_size, features)`; reads token ids."""

    def __init__(self, encoder: Encoder, embeddings: np.ndarray, precision: str) -> None:
        self._backend = matmul_backend(precision)
        joins = ["the encoder joins source steps"] if encoder.reduction > 1 else []
        _refuse(reasons_against(encoder, precision) + joins, precision)
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
                    inputs.append(self._backend.matmul(kernel, shift, [(len(kernel), self._input_bound(index))]))
            self._inputs.append(inputs)
            # The states of both directions lie side by side: each has its block of the matrix, and zeros elsewhere.
            gates = _block_diagonal([recurrent[:, : 2 * units] for _, recurrent, _ in weights])
            candidates = _block_diagonal([recurrent[:, 2 * units :] for _, recurrent, _ in weights])
            shift = np.concatenate([recurrent_bias[2 * units :] for _, _, (_, recurrent_bias) in weights])
            bounds = [(self._directions * units, 1.0)]
            self._recurrent.append(
                (
                    self._backend.matmul(gates, np.zeros(gates.shape[1], "float32"), bounds),
                    self._backend.matmul(candidates, shift, bounds),
                )
            )
        self._table = _table(np.concatenate(tables), precision)

    def __call__(self, token_ids: Any, mask: Any) -> Any:
        """Return the memory, `(batch, source_steps, memory_units)`; valid steps of the mask come first."""
        ids, keep = tf.transpose(tf.cast(token_ids, tf.int32)), tf.transpose(mask)
        rows = self._each_direction(ids) + self._vocabulary_size * tf.range(self._directions)
        keep_each = self._each_direction(keep)[..., None]
        outputs = None
        for index in range(self._encoder.num_layers):
            input_gates = functools.partial(self._looked_up, rows)
            if index > 0:
                input_gates = self._projected(index, outputs).__getitem__
            layer_outputs = self._run(index, input_gates, keep_each)
            forward, *backward = tf.unstack(layer_outputs, self._directions, axis=2)
            layer_outputs = tf.concat([forward, *(tf.reverse(states, [0]) for states in backward)], -1)
            layer_outputs *= tf.cast(keep, tf.float32)[..., None]
            outputs = outputs + layer_outputs if self._encoder.residual and index > 0 else layer_outputs
        return tf.transpose(outputs, [1, 0, 2])

    def _input_bound(self, index: int) -> float:
        return 1.0 + (index - 1) * self._encoder.residual

    def _each_direction(self, values: Any) -> Any:
        """Stack `(steps, batch)` values for each direction: `(steps, batch, directions)`, the second one reversed."""
        return tf.stack([values, tf.reverse(values, [0])][: self._directions], axis=-1)

    def _looked_up(self, rows: Any, time: Any) -> Any:
        return tf.gather(self._table, rows[time])

    def _projected(self, index: int, inputs: Any) -> Any:
        """Project `(steps, batch, features)` for the gates: `(steps, batch, directions, 3 * units)`, as each reads."""
        steps, batch, features = tf.shape(inputs)[0], tf.shape(inputs)[1], inputs.shape[-1]
        rows = self._backend.quantize(tf.reshape(inputs, [-1, features]), self._input_bound(index))
        shape = [steps, batch, 3 * self._encoder.units]
        forward, *backward = (tf.reshape(product(rows), shape) for product in self._inputs[index])
        return tf.stack([forward, *(tf.reverse(gates, [0]) for gates in backward)], axis=2)

    def _run(self, index: int, input_gates: Callable[[Any], Any], keep: Any) -> Any:
        """Return the states of all steps, `(steps, batch, directions, units)`, in the order in which each reads."""
        units, directions = self._encoder.units, self._directions
        gates_of, candidate_of = self._recurrent[index]
        steps, batch = tf.shape(keep)[0], tf.shape(keep)[1]

        def step(time: Any, state: Any, states: tf.TensorArray) -> tuple[Any, Any, tf.TensorArray]:
            inputs = tf.cast(input_gates(time), tf.float32)
            quantized = self._backend.quantize(tf.reshape(state, [-1, directions * units]), 1.0)
            gates = tf.reshape(gates_of(quantized), [-1, directions, 2 * units]) + inputs[..., : 2 * units]
            recurrent = tf.reshape(candidate_of(quantized), [-1, directions, units])
            update, reset = tf.split(gates, 2, axis=-1)
            new_state = equations.gru_activations(update, reset, inputs[..., 2 * units :], recurrent, state).state
            new_state = tf.ensure_shape(tf.where(keep[time], new_state, state), [None, directions, units])
            return time + 1, new_state, states.write(time, new_state)

        states = tf.TensorArray(tf.float32, steps, element_shape=[None, directions, units])
        start = tf.zeros([batch, directions, units])
        _, _, states = tf.while_loop(lambda time, *_: time < steps, step, (0, start, states))
        return tf.ensure_shape(states.stack(), [None, None, directions, units])


def memory_bound(encoder: Encoder) -> float:
    """Return the largest magnitude in the memory of an encoder of GRUs."""
    return 1.0 + (encoder.num_layers - 1) * encoder.residual


class FusedDecoder:
    """Decoder of GRUs whose step runs on copies of its weights, for a memory of magnitude at most `memory_bound`."""

    def __init__(self, decoder: Decoder, precision: str, memory_bound: float = 1.0) -> None:
        self._backend = matmul_backend(precision)
        _refuse(reasons_against(decoder, precision), precision)
        self.decoder = decoder
        self._memory_bound = memory_bound
        self._bounds = [1.0 + index * decoder.residual for index in range(decoder.num_layers)]
        self._layers: list[tuple[Product, Product]] = []
        self._candidates: list[Product] = []
        for index, layer in enumerate(decoder.recurrent_layers):
            self._fuse(index, layer, precision)
        readout = decoder.readout
        inputs = [(decoder.units, self._bounds[-1])]
        if "readout" in decoder.context_inputs:
            inputs.append((readout.kernel.shape[0] - decoder.units, memory_bound))
        self._features = self._backend.matmul(
            ops.convert_to_numpy(readout.kernel), ops.convert_to_numpy(readout.bias), inputs
        )
        output = ops.convert_to_numpy(decoder.output_embeddings).T
        output_bias = ops.convert_to_numpy(readout.output_bias)
        self._logits = self._backend.matmul(output, output_bias, [(output.shape[0], 1.0)])
        self._logits_of = self._backend.matmul_columns(output, output_bias, 1.0)

    def _fuse(self, index: int, layer: Recurrent, precision: str) -> None:
        units, matmul = self.decoder.units, self._backend.matmul
        kernel, recurrent, (bias, recurrent_bias) = _weights_of(layer)
        state_bounds = [(units, 1.0)]
        if index == 0:
            table = ops.convert_to_numpy(self.decoder.embedding.embeddings) @ kernel + bias
            table[:, : 2 * units] += recurrent_bias[: 2 * units]
            self._table = _table(table, precision)
            gates = matmul(recurrent[:, : 2 * units], np.zeros(2 * units, "float32"), state_bounds)
        else:
            inputs = [(units, self._bounds[index - 1])]
            if index == 1 and self.decoder.attention_position == "between":
                inputs.append((kernel.shape[0] - units, self._memory_bound))
            both = np.concatenate([kernel, recurrent])
            gates = matmul(both[:, : 2 * units], (bias + recurrent_bias)[: 2 * units], inputs + state_bounds)
            self._candidates.append(matmul(kernel[:, 2 * units :], bias[2 * units :], inputs))
        recurrent_candidate = matmul(recurrent[:, 2 * units :], recurrent_bias[2 * units :], state_bounds)
        self._layers.append((gates, recurrent_candidate))

    def logits_of(self, columns: Any) -> Product:
        """Return the product for the logits of some tokens only, int32 `(columns,)`, which `step` takes."""
        product: Product = self._logits_of(columns)
        return product

    def step(
        self, token_ids: Any, state: DecoderState, context: PreparedContext, logits: Product | None = None
    ) -> DecoderOutput:
        """Take a `Decoder.step`, equal but for rounding; `logits` comes from `logits_of`, None: all tokens."""
        decoder, quantize = self.decoder, self._backend.quantize
        units = decoder.units
        read, weights, coverage, inputs, outputs = None, None, state.coverage, [], None
        new_states = []
        for index, (gates_of, recurrent_candidate_of) in enumerate(self._layers):
            (previous,) = state.layers[index]
            quantized = quantize(previous, 1.0)
            if index == 0:
                looked_up = tf.cast(tf.gather(self._table, token_ids), tf.float32)
                gates = gates_of(quantized) + looked_up[:, : 2 * units]
                candidate = looked_up[:, 2 * units :]
            else:
                inputs = [quantize(outputs, self._bounds[index - 1])]
                if index == 1 and decoder.attention_position == "between":
                    read, weights, coverage = self._read(context, outputs, coverage)
                    inputs.append(quantize(read, self._memory_bound))
                gates = gates_of(tf.concat([*inputs, quantized], 1))
                candidate = self._candidates[index - 1](tf.concat(inputs, 1))
            update, reset = tf.split(gates, 2, axis=1)
            recurrent = recurrent_candidate_of(quantized)
            new_state = equations.gru_activations(update, reset, candidate, recurrent, previous).state
            new_states.append([new_state])
            outputs = outputs + new_state if decoder.residual and index > 0 else new_state
        inputs = [quantize(outputs, self._bounds[-1])]
        if "readout" in decoder.context_inputs:
            if read is None:
                read, weights, coverage = self._read(context, outputs, coverage)
            inputs.append(quantize(read, self._memory_bound))
        features = tf.tanh(self._features(tf.concat(inputs, 1)))
        scores = (logits or self._logits)(quantize(features, 1.0))
        state = DecoderState(tuple(new_states), coverage=coverage)
        if decoder.copying is None:
            return DecoderOutput(scores, state, weights)
        known = [outputs, *[read] * decoder.uses_context_per_step, decoder.embedding(token_ids)]
        copies = decoder.copying(
            [part[:, None] for part in known],
            None if weights is None else weights[:, None],
            source=context.source,
        )
        scores = mixture(scores[:, None], copies, context.source.token_ids)[:, 0]
        return DecoderOutput(scores, state, weights, Copies(*(part[:, 0] for part in copies)))

    def _read(self, context: PreparedContext, query: Any, coverage: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        read, weights, coverage = self.decoder.read(context, query[:, None], coverage)
        return read[:, 0], None if weights is None else weights[:, 0], coverage


def reasons_against(layer: Encoder | Decoder, precision: str) -> list[str]:
    """List the reasons why an encoder's memory, or a decoder, cannot be computed on fused weights of a precision."""
    part = "encoder" if isinstance(layer, Encoder) else "decoder"
    reasons = [] if layer.cell == "gru" else [f"the {part}'s cell is {layer.cell!r}, not 'gru'"]
    if isinstance(layer, Decoder):
        if layer.input_feeding or "input" in layer.context_inputs:
            reasons.append("the decoder's input is more than the last token")
        is_mean_of_states = isinstance(layer.context, AttentionContext) and layer.context.score != "multi_head"
        if precision == "int8" and not is_mean_of_states:
            reasons.append("the context is not a mean of states, whose bound is known")
    if type(layer) not in (Encoder, Decoder):
        reasons.append(f"a {type(layer).__name__} has equations of its own")
    if layer.compute_dtype != "float32":
        reasons.append(f"the model computes in {layer.compute_dtype} anyway")
    if precision == "int8" and not has_int8():
        reasons.append("TensorFlow has no 8-bit products here, which need an x86 processor with oneDNN on")
    return reasons


def _refuse(reasons: list[str], precision: str) -> None:
    if reasons:
        advice = f"It cannot be had here: {'; '.join(reasons)}. Use the layers themselves."
        raise ArgumentError("precision", "one that the weights can be fused in", precision, advice)


def _weights_of(layer: Recurrent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    kernel, recurrent, biases = (ops.convert_to_numpy(weight) for weight in layer.cell.kernel_weights())
    return kernel, recurrent, biases


def _table(rows: np.ndarray, precision: str) -> Any:
    return tf.cast(rows, "float32" if precision == "float32" else "bfloat16")


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    rows, columns = blocks[0].shape
    joined = np.zeros((rows * len(blocks), columns * len(blocks)), blocks[0].dtype)
    for place, block in enumerate(blocks):
        joined[place * rows : (place + 1) * rows, place * columns : (place + 1) * columns] = block
    return joined
