"""A whole sequence through a GRU in one call: cuDNN's kernel, and one for processors.

Both take weights in Keras' layout and sequences with their time axis in the middle. TensorFlow proper is used
here because Keras has neither a public cuDNN call for our layers nor a loop whose gradient we may write.
"""

from typing import Any

import tensorflow as tf

from seq2seq.layers import equations


def scan_gru(
    inputs: Any, mask: Any, initial_state: Any, weights: tuple[Any, Any, Any], reverse: bool
) -> tuple[Any, Any]:
    """GRU over a sequence on a processor, with a gradient derived by hand.

    Keras multiplies the inputs by their weights inside the loop, and its gradient adds up weight gradients
    step by step. Here only the recurrent product stays in the loops: the input product before, and the weight
    gradients after, are each one product over the whole sequence (Appleyard et al. 2016, arXiv 1604.01946).

    Args:
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; a padded step carries the state over unchanged.
        initial_state: `(batch, units)`.
        weights: kernel, recurrent kernel and bias, in the layout of `keras.layers.GRU`.
        reverse: Whether to read the sequence from its last step to its first.

    Returns:
        States at every step `(batch, steps, units)` in the order of the inputs, and the final state.
    """
    kernel, recurrent_kernel, bias = weights
    units = recurrent_kernel.shape[0]
    steps_first = tf.transpose(inputs, [1, 0, 2])
    projected = tf.tensordot(steps_first, kernel, 1) + bias[0]
    if mask is not None:
        padding = tf.cast(tf.transpose(tf.logical_not(mask)), projected.dtype)[:, :, None]
        # Far above any input: sigma gives the update gate exactly one, so h' = h exactly.
        saturated = tf.fill([units], tf.constant(float(projected.dtype.max) / 4, projected.dtype))
        projected += padding * tf.concat([saturated, tf.zeros([2 * units], projected.dtype)], 0)
    if reverse:
        projected = tf.reverse(projected, [0])
    states = _gru_states(projected, initial_state, recurrent_kernel, bias[1])
    final_state = states[-1]
    if reverse:
        states = tf.reverse(states, [0])
    return tf.transpose(states, [1, 0, 2]), final_state


@tf.custom_gradient
def _gru_states(projected: Any, initial_state: Any, recurrent_kernel: Any, recurrent_bias: Any) -> Any:
    """States of all steps, `(steps, batch, units)`, of inputs `(steps, batch, 3 * units)`.

    Backwards, with d = dL/dh_t, every gate's gradient is d times a factor known from the forward pass, so the
    factors of all steps are computed together and the loop holds one product and two sums:

        dL/d(n's input) = d * k,   k = (1 - z) (1 - n^2)
        [dz | dr | dn] through the recurrent product = d * [(h - n) z (1 - z) | k c_n r (1 - r) | k r]
        dL/dh_{t-1} = d * z + [dz | dr | dn] U^T + what reaches h_{t-1} from outside
    """
    steps = tf.shape(projected)[0]
    units = recurrent_kernel.shape[0]
    dtype = projected.dtype

    def rows_of(width: int) -> tf.TensorArray:
        return tf.TensorArray(dtype, steps, element_shape=[None, width])

    def forward(time: Any, state: Any, *stored: tf.TensorArray) -> tuple[Any, ...]:
        step = equations.gru(projected[time], state, recurrent_kernel, recurrent_bias)
        return (
            time + 1,
            step.state,
            *(array.write(time, value) for array, value in zip(stored, step, strict=True)),
        )

    _, _, *stored = tf.while_loop(
        lambda time, *_: time < steps,
        forward,
        (0, initial_state, *(rows_of(units) for _ in equations.GRUStep._fields)),
    )
    states = tf.ensure_shape(stored[0].stack(), [None, None, units])

    def gradient(gradient_of_states: Any) -> tuple[Any, Any, Any, Any]:
        update, reset, candidate, recurrent_candidate = (array.stack() for array in stored[1:])
        previous = tf.concat([initial_state[None], states[:-1]], 0)
        candidate_factor = (1 - update) * (1 - candidate * candidate)
        factors = tf.stack(
            [
                (previous - candidate) * update * (1 - update),
                candidate_factor * recurrent_candidate * reset * (1 - reset),
                candidate_factor * reset,
            ],
            2,
        )
        transposed_kernel = tf.transpose(recurrent_kernel)

        def backward(time: Any, carried: Any, collected: tf.TensorArray) -> tuple[Any, ...]:
            total = carried + gradient_of_states[time]
            through_product = tf.reshape(total[:, None, :] * factors[time], [-1, 3 * units])
            carried = total * update[time] + tf.matmul(through_product, transposed_kernel)
            return time - 1, carried, collected.write(time, total)

        _, gradient_of_initial_state, collected = tf.while_loop(
            lambda time, *_: time >= 0, backward, (steps - 1, tf.zeros_like(initial_state), rows_of(units))
        )
        totals = collected.stack()
        through_product = tf.reshape(totals[:, :, None, :] * factors, [-1, 3 * units])
        gradient_of_kernel = tf.matmul(tf.reshape(previous, [-1, units]), through_product, transpose_a=True)
        gates = tf.reshape(through_product, [steps, -1, 3 * units])[:, :, : 2 * units]
        gradient_of_projected = tf.concat([gates, totals * candidate_factor], 2)
        return (
            gradient_of_projected,
            gradient_of_initial_state,
            gradient_of_kernel,
            tf.reduce_sum(through_product, 0),
        )

    return states, gradient


def cudnn_gru(
    inputs: Any, mask: Any, initial_state: Any, weights: tuple[Any, Any, Any], reverse: bool
) -> tuple[Any, Any]:
    """The same as `scan_gru` in one call of cuDNN's kernel; padded steps come out as zeros.

    Args:
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; valid steps come first.
        initial_state: `(batch, units)`.
        weights: kernel, recurrent kernel and bias, in the layout of `keras.layers.GRU`.
        reverse: Whether to read each row from its last valid step to its first.

    Returns:
        States at every step `(batch, steps, units)` and the final state `(batch, units)`.
    """
    shape = tf.shape(inputs)
    lengths = tf.fill([shape[0]], shape[1]) if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    # cuDNN refuses empty rows: they run for one step, whose state is then put back.
    at_least_one = tf.maximum(lengths, 1)
    if reverse:
        inputs = tf.reverse_sequence(inputs, at_least_one, seq_axis=1)
    states, final_state, *_ = tf.raw_ops.CudnnRNNV3(
        input=inputs,
        input_h=initial_state[:, None],
        input_c=tf.zeros([], inputs.dtype),
        params=pack_cudnn_gru(*weights),
        sequence_lengths=at_least_one,
        rnn_mode="gru",
        is_training=True,
        time_major=False,
    )
    if reverse:
        states = tf.reverse_sequence(states, at_least_one, seq_axis=1)
    return states, tf.where(lengths[:, None] > 0, final_state[:, 0], initial_state)


def pack_cudnn_gru(kernel: Any, recurrent_kernel: Any, bias: Any) -> Any:
    """All weights of a GRU as the one flat vector that cuDNN reads.

    cuDNN orders the gates [r | z | n], Keras [z | r | n]; cuDNN multiplies from the left, so each block is transposed.

    Args:
        kernel: `(features, 3 * units)`.
        recurrent_kernel: `(units, 3 * units)`.
        bias: `(2, 3 * units)`.

    Returns:
        `(3 * units * (features + units + 2),)`.
    """

    def reordered(matrix: Any) -> list[Any]:
        update, reset, candidate = tf.split(matrix, 3, axis=-1)
        return [reset, update, candidate]

    products = [tf.transpose(block) for matrix in (kernel, recurrent_kernel) for block in reordered(matrix)]
    biases = [block for row in (bias[0], bias[1]) for block in reordered(row)]
    return tf.concat([tf.reshape(block, [-1]) for block in products + biases], 0)
