"""A whole sequence through a recurrent layer in one call of cuDNN.

This is TensorFlow proper because Keras has no public cuDNN call for layers other than its own.
"""

from typing import Any

import tensorflow as tf

BLOCK_ORDER = {"rnn_tanh": (0,), "lstm": (0, 1, 2, 3), "gru": (1, 0, 2)}
"""Places of cuDNN's blocks in Keras' layout: cuDNN packs a GRU as [r | z | n], Keras as [z | r | n]."""


def run(
    mode: str,
    inputs: Any,
    mask: Any,
    initial_states: list[Any],
    weights: tuple[Any, Any, Any],
    reverse: bool,
) -> tuple[Any, list[Any]]:
    """Run one direction of one layer as `cpu_kernel.run` does; padded steps come out as zeros."""
    shape = tf.shape(inputs)
    lengths = tf.fill([shape[0]], shape[1]) if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    # cuDNN refuses empty rows: they run for one step, whose states are then replaced by the initial ones.
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
    """Pack the weights of a layer into the flat vector that cuDNN reads.

    cuDNN multiplies from the left, so each block is transposed, and it adds two biases to every block; where the cell
    has one, the second is zero.
    """
    order = BLOCK_ORDER[mode]
    biases = [bias[0], bias[1]] if len(bias.shape) == 2 else [bias, tf.zeros_like(bias)]

    def reordered(matrix: Any) -> list[Any]:
        blocks = tf.split(matrix, len(order), axis=-1)
        return [blocks[place] for place in order]

    products = [tf.transpose(block) for matrix in (kernel, recurrent_kernel) for block in reordered(matrix)]
    sums = [block for row in biases for block in reordered(row)]
    return tf.concat([tf.reshape(block, [-1]) for block in products + sums], 0)
