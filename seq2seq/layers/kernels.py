"""A whole sequence through a recurrent layer on a processor, with gradients derived by hand.

Keras multiplies the inputs by their weights inside the loop, and its gradient adds up weight gradients step by step.
Here only the recurrent product stays in the loops: the input product before, and the weight gradients after, are each
one product over the whole sequence (Appleyard et al. 2016, arXiv 1604.01946).

Backwards, every gate's gradient is dL/dh' times a factor known from the forward pass, so the factors of all steps are
computed together, and the loop holds one product and a few sums; `inspection.bptt` has the derivation at length.
TensorFlow proper is used here because Keras has no loop whose gradient we may write.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.layers import equations


def run(
    kernel_name: str,
    inputs: Any,
    mask: Any,
    initial_states: list[Any],
    weights: tuple[Any, Any, Any],
    reverse: bool,
) -> tuple[Any, list[Any]]:
    """One direction of one layer.

    Args:
        kernel_name: One of `KERNELS`.
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; a padded step carries the states over unchanged. None: all are valid.
        initial_states: `(batch, units)` each, as many as the cell has.
        weights: kernel, recurrent kernel and bias, in the layout of the Keras layer.
        reverse: Whether to read the sequence from its last step to its first.

    Returns:
        States at every step `(batch, steps, units)` in the order of the inputs, and the final states.
    """
    kernel, recurrent_kernel, bias = weights
    has_recurrent_bias = len(bias.shape) == 2
    recurrent_weights = (recurrent_kernel, bias[1]) if has_recurrent_bias else (recurrent_kernel,)
    projected = tf.tensordot(tf.transpose(inputs, [1, 0, 2]), kernel, 1) + (bias[0] if has_recurrent_bias else bias)
    keep = None if mask is None else tf.transpose(mask)[:, :, None]
    if reverse:
        projected = tf.reverse(projected, [0])
        keep = None if keep is None else tf.reverse(keep, [0])
    states, *final_states = KERNELS[kernel_name](projected, keep, initial_states, recurrent_weights)
    if reverse:
        states = tf.reverse(states, [0])
    return tf.transpose(states, [1, 0, 2]), final_states


class Factors(NamedTuple):
    """What dL/dh' is multiplied by at each step of a cell with one state.

    `carried` `(steps, batch, units)`: on the way to h past all products; None: nothing goes that way.
    `recurrent` `(steps, batch, blocks, units)`: on the way to each block of the recurrent product.
    `last_input` `(steps, batch, units)`: on the way to the last block of the input product, where that differs.
    """

    carried: Any
    recurrent: Any
    last_input: Any = None


def _rnn_factors(_previous: Any, step: equations.RNNStep) -> Factors:
    return Factors(None, (1 - step.state * step.state)[:, :, None])


def _gru_factors(previous: Any, step: equations.GRUStep) -> Factors:
    candidate = (1 - step.update) * (1 - step.candidate * step.candidate)
    update = (previous - step.candidate) * step.update * (1 - step.update)
    reset = candidate * step.recurrent_candidate * step.reset * (1 - step.reset)
    return Factors(step.update, tf.stack([update, reset, candidate * step.reset], 2), candidate)


def _gru_simplified_factors(previous: Any, step: equations.GRUSimplifiedStep) -> Factors:
    candidate = (1 - step.update) * (1 - step.candidate * step.candidate)
    update = (previous - step.candidate) * step.update * (1 - step.update)
    return Factors(step.update, tf.stack([update, candidate], 2))


def _one_state(equation: Callable[..., Any], step_class: Any, factors_of: Callable[[Any, Any], Factors]) -> Any:
    """The kernel of a cell with one state: its equation forwards, its factors backwards."""

    def kernel(projected: Any, keep: Any, initial_states: list[Any], recurrent_weights: tuple[Any, ...]) -> Any:
        steps = tf.shape(projected)[0]
        units = recurrent_weights[0].shape[0]

        @tf.custom_gradient
        def states_of(projected: Any, initial_state: Any, *recurrent_weights: Any) -> Any:
            def forward(time: Any, state: Any, *stored: tf.TensorArray) -> tuple[Any, ...]:
                step = equation(projected[time], state, *recurrent_weights)
                step = step._replace(state=_kept(keep, time, step.state, state))
                written = (array.write(time, value) for array, value in zip(stored, step, strict=True))
                return (time + 1, step.state, *written)

            stored = [_rows(projected.dtype, steps, units) for _ in step_class._fields]
            _, _, *stored = tf.while_loop(lambda time, *_: time < steps, forward, (0, initial_state, *stored))
            states = tf.ensure_shape(stored[0].stack(), [None, None, units])

            def gradient(gradient_of_states: Any) -> tuple[Any, ...]:
                previous = tf.concat([initial_state[None], states[:-1]], 0)
                values = step_class(states, *(array.stack() for array in stored[1:]))
                factors = _with_padding(factors_of(previous, values), keep)
                transposed_kernel = tf.transpose(recurrent_weights[0])

                def backward(time: Any, carried: Any, collected: tf.TensorArray) -> tuple[Any, ...]:
                    total = carried + gradient_of_states[time]
                    through_product = _flat(total[:, None, :] * factors.recurrent[time])
                    carried = tf.matmul(through_product, transposed_kernel)
                    if factors.carried is not None:
                        carried += total * factors.carried[time]
                    return time - 1, carried, collected.write(time, total)

                _, gradient_of_initial_state, collected = tf.while_loop(
                    lambda time, *_: time >= 0,
                    backward,
                    (steps - 1, tf.zeros_like(initial_state), _rows(projected.dtype, steps, units)),
                )
                totals = collected.stack()
                blocks = totals[:, :, None, :] * factors.recurrent
                through_product = tf.reshape(blocks, tf.shape(projected))
                gradient_of_projected = through_product
                if factors.last_input is not None:
                    others = through_product[:, :, :-units]
                    gradient_of_projected = tf.concat([others, totals * factors.last_input], 2)
                return (
                    gradient_of_projected,
                    gradient_of_initial_state,
                    *_weight_gradients(previous, through_product, recurrent_weights),
                )

            return states, gradient

        states = states_of(projected, initial_states[0], *recurrent_weights)
        return states, states[-1]

    return kernel


def _lstm(projected: Any, keep: Any, initial_states: list[Any], recurrent_weights: tuple[Any, ...]) -> Any:
    """The kernel of the LSTM. Backwards, with d = dL/dh' and e = dL/dc' of a step:

    e += d * o (1 - tanh(c')^2)                                                     c' shows in h'
    [di | df | dg | do] before the sigmoids = [e g i (1-i) | e c f (1-f) | e i (1-g^2) | d tanh(c') o (1-o)]
    dL/dh = [di | df | dg | do] U^T,   dL/dc = e * f
    """
    steps = tf.shape(projected)[0]
    units = recurrent_weights[0].shape[0]

    @tf.custom_gradient
    def states_of(projected: Any, initial_state: Any, initial_cell_state: Any, recurrent_kernel: Any) -> Any:
        def forward(time: Any, state: Any, cell_state: Any, *stored: tf.TensorArray) -> tuple[Any, ...]:
            step = equations.lstm(projected[time], state, cell_state, recurrent_kernel)
            step = step._replace(
                state=_kept(keep, time, step.state, state),
                cell_state=_kept(keep, time, step.cell_state, cell_state),
            )
            written = (array.write(time, value) for array, value in zip(stored, step, strict=True))
            return (time + 1, step.state, step.cell_state, *written)

        stored = [_rows(projected.dtype, steps, units) for _ in equations.LSTMStep._fields]
        _, _, final_cell_state, *stored = tf.while_loop(
            lambda time, *_: time < steps, forward, (0, initial_state, initial_cell_state, *stored)
        )
        states = tf.ensure_shape(stored[0].stack(), [None, None, units])

        def gradient(gradient_of_states: Any, gradient_of_final_cell_state: Any) -> tuple[Any, ...]:
            _, cell_states, input_gate, forget_gate, candidate, output_gate = (array.stack() for array in stored)
            previous = tf.concat([initial_state[None], states[:-1]], 0)
            previous_cell = tf.concat([initial_cell_state[None], cell_states[:-1]], 0)
            shown = tf.tanh(cell_states)
            through_cell = tf.stack(
                [
                    candidate * input_gate * (1 - input_gate),
                    previous_cell * forget_gate * (1 - forget_gate),
                    input_gate * (1 - candidate * candidate),
                ],
                2,
            )
            through_output = shown * output_gate * (1 - output_gate)
            exposed = output_gate * (1 - shown * shown)
            passed, kept_cell = None, forget_gate
            if keep is not None:
                valid = tf.cast(keep, projected.dtype)
                passed = 1 - valid
                through_cell, through_output, exposed = (
                    through_cell * valid[:, :, None],
                    through_output * valid,
                    exposed * valid,
                )
                kept_cell = forget_gate * valid + passed
            transposed_kernel = tf.transpose(recurrent_kernel)

            def backward(time: Any, carried: Any, carried_cell: Any, collected: tf.TensorArray) -> tuple[Any, ...]:
                total = carried + gradient_of_states[time]
                total_cell = carried_cell + total * exposed[time]
                through_product = tf.concat(
                    [_flat(total_cell[:, None, :] * through_cell[time]), total * through_output[time]], 1
                )
                carried = tf.matmul(through_product, transposed_kernel)
                if passed is not None:
                    carried += total * passed[time]
                return time - 1, carried, total_cell * kept_cell[time], collected.write(time, through_product)

            _, gradient_of_initial_state, gradient_of_initial_cell_state, collected = tf.while_loop(
                lambda time, *_: time >= 0,
                backward,
                (
                    steps - 1,
                    tf.zeros_like(initial_state),
                    gradient_of_final_cell_state,
                    _rows(projected.dtype, steps, 4 * units),
                ),
            )
            through_product = collected.stack()
            return (
                through_product,
                gradient_of_initial_state,
                gradient_of_initial_cell_state,
                *_weight_gradients(previous, through_product, (recurrent_kernel,)),
            )

        return (states, final_cell_state), gradient

    states, final_cell_state = states_of(projected, *initial_states, *recurrent_weights)
    return states, states[-1], final_cell_state


KERNELS = {
    "rnn": _one_state(equations.rnn, equations.RNNStep, _rnn_factors),
    "lstm": _lstm,
    "gru": _one_state(equations.gru, equations.GRUStep, _gru_factors),
    "gru_simplified": _one_state(equations.gru_simplified, equations.GRUSimplifiedStep, _gru_simplified_factors),
}


def _rows(dtype: Any, steps: Any, width: int) -> tf.TensorArray:
    return tf.TensorArray(dtype, steps, element_shape=[None, width])


def _flat(blocks: Any) -> Any:
    return tf.reshape(blocks, [-1, blocks.shape[1] * blocks.shape[2]])


def _kept(keep: Any, time: Any, new: Any, old: Any) -> Any:
    return new if keep is None else tf.where(keep[time], new, old)


def _with_padding(factors: Factors, keep: Any) -> Factors:
    """At a padded step h' = h: the gradient passes it whole, and reaches no weight."""
    if keep is None:
        return factors
    valid = tf.cast(keep, factors.recurrent.dtype)
    carried = 1 - valid if factors.carried is None else tf.where(keep, factors.carried, 1)
    last_input = None if factors.last_input is None else factors.last_input * valid
    return Factors(carried, factors.recurrent * valid[:, :, None], last_input)


def _weight_gradients(previous: Any, through_product: Any, recurrent_weights: tuple[Any, ...]) -> tuple[Any, ...]:
    """Gradients of the recurrent kernel and, where there is one, of its bias."""
    units = previous.shape[-1]
    rows = tf.reshape(through_product, [-1, through_product.shape[-1]])
    kernel = tf.matmul(tf.reshape(previous, [-1, units]), rows, transpose_a=True)
    return (kernel, tf.reduce_sum(rows, 0))[: len(recurrent_weights)]
