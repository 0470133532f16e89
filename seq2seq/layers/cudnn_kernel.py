"""A whole sequence through a recurrent layer in one call of cuDNN.

TensorFlow proper is used here because Keras has no public cuDNN call for layers that are not its own.
"""

from typing import Any

import tensorflow as tf

BLOCK_ORDER = {"rnn_tanh": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}
"""Where cuDNN's blocks stand in Keras' layout: a GRU is [r | z | n] there and [z | r | n] here."""


def run(
    mode: str,
    inputs: Any,
    mask: Any,
    initial_states: list[Any],
    weights: tuple[Any, Any, Any],
    reverse: bool,
) -> tuple[Any, list[Any]]:
    """One direction of one layer; padded steps come out as zeros.

    Args:
        mode: cuDNN's name of the cell: `rnn_tanh`, `lstm` or `gru`.
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; valid steps come first. None: all are valid.
        initial_states: `(batch, units)` each, as many as the cell has.
        weights: kernel, recurrent kernel and bias, in the layout of the Keras layer.
        reverse: Whether to read each row from its last valid step to its first.

    Returns:
        States at every step `(batch, steps, units)` and the final states `(batch, units)`.
    """
    shape = tf.shape(inputs)
    lengths = tf.fill([shape[0]], shape[1]) if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    # cuDNN refuses empty rows: they run for one step, whose states are then put back.
    at_least_one = tf.maximum(lengths, 1)
    if reverse:
        inputs = tf.reverse_sequence(inputs, at_least_one, seq_axis=1)
    outputs, *final_states = tf.raw_ops.CudnnRNNV3(
        input=inputs,
        input_h=initial_states[0][:, None],
        input_c=initial_states[1][:, None] if mode == "lstm" else tf.zeros([], inputs.dtype),
        params=pack(mode, *weights),
        sequence_lengths=at_least_one,
        rnn_mode=mode,
        is_training=True,
        time_major=False,
    )[: 1 + len(initial_states)]
    if reverse:
        outputs = tf.reverse_sequence(outputs, at_least_one, seq_axis=1)
    has_steps = lengths[:, None] > 0
    final_states = [
        tf.where(has_steps, final[:, 0], initial) for final, initial in zip(final_states, initial_states, strict=True)
    ]
    return outputs, final_states


def pack(mode: str, kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
    """All weights of a layer as the one flat vector that cuDNN reads.

    cuDNN multiplies from the left, so each block is transposed, and it adds two biases to every block; where the
    cell has one, the second is zero.

    Args:
        mode: cuDNN's name of the cell.
        kernel: `(features, blocks * units)`.
        recurrent_kernel: `(units, blocks * units)`.
        bias: `(2, blocks * units)` or `(blocks * units,)`.

    Returns:
        `(blocks * units * (features + units + 2),)`.
    """
    order = BLOCK_ORDER[mode]
    biases = [bias[0], bias[1]] if len(bias.shape) == 2 else [bias, tf.zeros_like(bias)]

    def reordered(matrix: Any) -> list[Any]:
        blocks = tf.split(matrix, len(order), axis=-1)
        return [blocks[place] for place in order]

    products = [tf.transpose(block) for matrix in (kernel, recurrent_kernel) for block in reordered(matrix)]
    sums = [block for row in biases for block in reordered(row)]
    return tf.concat([tf.reshape(block, [-1]) for block in products + sums], 0)
