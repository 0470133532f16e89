"""A whole sequence through a recurrent layer on a processor, with gradients derived by hand.

Keras multiplies the inputs by their weights inside the loop, and its gradient adds up weight gradients step by step.
Here only the recurrent product stays in the loops: the input product before, and the weight gradients after, are each
one product over the whole sequence (Appleyard et al. 2016, arXiv 1604.01946). What a loop does beside its product is
element by element, and is one function of `CELLS` forwards and one backwards, which XLA can compile into one pass. The
way back works the gates out again from the products, which is less than reading them: of a step only its products and
its new states are kept. `inspection.bptt` has the derivation at length.

TensorFlow proper is used here because Keras has no loop whose gradient we may write.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.layers import equations

COMPILED_UNITS = 128
"""Layers of fewer units are not worth the time that XLA takes for each number of rows."""


class StepGradients(NamedTuple):
    """What a step hands on of the gradients of its new states, past its products and into them.

    `states`: gradients of the states before, past the recurrent product, `(batch, units)` each.
    `products`: of the blocks of the recurrent product, `(batch, units)` each, and of those of the input product where
    they are others: cells that add both products up before anything else have the same for both.
    """

    states: list[Any]
    products: list[list[Any]]


def run(
    kernel_name: str,
    inputs: Any,
    mask: Any,
    initial_states: list[Any],
    weights: tuple[Any, Any, Any],
    reverse: bool,
    compiled: bool = False,
) -> tuple[Any, list[Any]]:
    """One direction of one layer.

    Args:
        kernel_name: One of `CELLS`.
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; a padded step carries the states over unchanged. None: all are valid.
        initial_states: `(batch, units)` each, as many as the cell has.
        weights: kernel, recurrent kernel and bias, in the layout of the Keras layer.
        reverse: Whether to read the sequence from its last step to its first.
        compiled: Whether XLA compiles what is element by element, anew for each number of rows: for training, where
            batches come in few shapes.

    Returns:
        States at every step `(batch, steps, units)` in the order of the inputs, and the final states.
    """
    cell = CELLS[kernel_name]
    units = weights[1].shape[0]
    keep = None if mask is None else tf.transpose(mask)[:, :, None]
    steps = tf.shape(inputs)[1]
    last_step = steps - 1
    forward_step, backward_step = cell.steps(compiled and units >= COMPILED_UNITS)

    def place(time: Any) -> Any:
        return last_step - time if reverse else time

    def kept(time: Any) -> Any:
        return None if keep is None else keep[time]

    @tf.custom_gradient
    def states_of(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any, *initial_states: Any) -> Any:
        projected = tf.reshape(tf.matmul(_rows(inputs), kernel), [steps, -1, kernel.shape[1]])

        def forward(count: Any, states: list[Any], stored: list[tf.TensorArray]) -> tuple[Any, list[Any], list[Any]]:
            time = place(count)
            recurrent = tf.matmul(states[0], recurrent_kernel)
            states, _ = forward_step(projected[time], recurrent, bias, states, kept(time))
            stored = [array.write(time, value) for array, value in zip(stored, [*states, recurrent], strict=True)]
            return count + 1, states, stored

        stored = [_array(projected, steps, width) for width in (*[units] * len(initial_states), kernel.shape[1])]
        _, final_states, (*stored_states, products) = tf.while_loop(
            lambda count, *_: count < steps, forward, (0, list(initial_states), stored)
        )
        all_states = [tf.ensure_shape(array.stack(), [None, None, units]) for array in stored_states]

        def gradient(of_states: Any, *of_other_final_states: Any) -> tuple[Any, ...]:
            previous = [
                tf.concat([values[1:], initial[None]] if reverse else [initial[None], values[:-1]], 0)
                for values, initial in zip(all_states, initial_states, strict=True)
            ]

            def backward(count: Any, product: Any, of_carried: list[Any], collected: list[tf.TensorArray]) -> Any:
                time = place(count)
                before = [values[time] for values in previous]
                totals = of_states[time], product, of_carried
                of_carried, *of_products = backward_step(
                    totals, projected[time], products.read(time), bias, before, kept(time)
                )
                collected = [array.write(time, rows) for array, rows in zip(collected, of_products, strict=True)]
                product = tf.matmul(of_products[0], recurrent_kernel, transpose_b=True)
                return count - 1, product, of_carried, collected

            # A bias of its own for each product: their gradients differ.
            collected = [_array(projected, steps, kernel.shape[1]) for _ in range(len(bias.shape))]
            nothing = tf.zeros_like(initial_states[0])
            _, product, of_initial, collected = tf.while_loop(
                lambda count, *_: count >= 0,
                backward,
                (last_step, nothing, [nothing, *of_other_final_states], collected),
            )
            of_initial[0] += product
            of_products = [_rows(array.stack()) for array in collected]
            of_recurrent, of_projected = of_products[0], of_products[-1]
            of_bias = _column_sums(of_projected)
            if len(bias.shape) == 2:
                of_bias = tf.stack([of_bias, _column_sums(of_recurrent)])
            return (
                tf.reshape(tf.matmul(of_projected, kernel, transpose_b=True), tf.shape(inputs)),
                tf.matmul(_rows(inputs), of_projected, transpose_a=True),
                tf.matmul(_rows(previous[0]), of_recurrent, transpose_a=True),
                of_bias,
                *of_initial,
            )

        return (all_states[0], *final_states[1:]), gradient

    states, *other_final_states = states_of(tf.transpose(inputs, [1, 0, 2]), *weights, *initial_states)
    final_state = states[0] if reverse else states[-1]
    return tf.transpose(states, [1, 0, 2]), [final_state, *other_final_states]


def rnn_gradients(totals: list[Any], _previous: list[Any], step: equations.RNNStep) -> StepGradients:
    through = [totals[0] * (1 - step.state * step.state)]
    return StepGradients([tf.zeros_like(totals[0])], [through])


def gru_gradients(totals: list[Any], previous: list[Any], step: equations.GRUStep) -> StepGradients:
    candidate = totals[0] * (1 - step.update) * (1 - step.candidate * step.candidate)
    update = totals[0] * (previous[0] - step.candidate) * step.update * (1 - step.update)
    reset = candidate * step.recurrent_candidate * step.reset * (1 - step.reset)
    blocks = [[update, reset, candidate * step.reset], [update, reset, candidate]]
    return StepGradients([totals[0] * step.update], blocks)


def gru_simplified_gradients(
    totals: list[Any], previous: list[Any], step: equations.GRUSimplifiedStep
) -> StepGradients:
    candidate = totals[0] * (1 - step.update) * (1 - step.candidate * step.candidate)
    update = totals[0] * (previous[0] - step.candidate) * step.update * (1 - step.update)
    return StepGradients([totals[0] * step.update], [[update, candidate]])


def lstm_gradients(totals: list[Any], previous: list[Any], step: equations.LSTMStep) -> StepGradients:
    shown = tf.tanh(step.cell_state)
    of_cell_state = totals[1] + totals[0] * step.output_gate * (1 - shown * shown)
    through = [
        of_cell_state * step.candidate * step.input_gate * (1 - step.input_gate),
        of_cell_state * previous[1] * step.forget_gate * (1 - step.forget_gate),
        of_cell_state * step.input_gate * (1 - step.candidate * step.candidate),
        totals[0] * shown * step.output_gate * (1 - step.output_gate),
    ]
    return StepGradients([tf.zeros_like(shown), of_cell_state * step.forget_gate], [through])


class KernelCell:
    """What the kernel must know of a cell: its gates, and the gradients of one step.

    Args:
        gates: `(projected_inputs, recurrent, *states)` to the cell's step, from `equations`; its first fields are the
            new states.
        gradients: `(totals, previous, step)` to `StepGradients`, where `totals` are dL/dh' (and dL/dc'), all ways
            together, and `previous` the states before the step.
    """

    def __init__(self, gates: Callable[..., Any], gradients: Callable[..., StepGradients]) -> None:
        self.gates = gates
        self.gradients = gradients

    @functools.cache  # noqa: B019 - the cells live as long as the module
    def steps(self, compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What one step does beside its product, forwards and backwards."""
        if not compiled:
            return self._forward, self._backward
        forward, backward = (
            tf.function(function, jit_compile=True, autograph=False) for function in (self._forward, self._backward)
        )
        return forward, backward

    def _forward(
        self, projected: Any, recurrent: Any, bias: Any, states: list[Any], keep: Any
    ) -> tuple[list[Any], Sequence[Any]]:
        """The new states, and the gates, which nobody reads: XLA makes a loop for each of its results, and would make
        a single one of a step, which is so long that it takes half as many numbers at a time, and twice the time."""
        step = self._step(projected, recurrent, bias, states)
        new_states = step[: len(states)]
        if keep is not None:
            new_states = [tf.where(keep, new, _wide(old)) for new, old in zip(new_states, states, strict=True)]
        return [tf.cast(value, projected.dtype) for value in new_states], step[len(states) :]

    def _backward(
        self,
        of_states: tuple[Any, Any, list[Any]],
        projected: Any,
        recurrent: Any,
        bias: Any,
        previous: list[Any],
        keep: Any,
    ) -> tuple[Any, ...]:
        of_output, product, of_carried = of_states
        totals = list(map(_wide, of_carried))
        totals[0] += _wide(of_output) + _wide(product)
        step = self._step(projected, recurrent, bias, previous)
        of_step = self.gradients(totals, list(map(_wide, previous)), step)
        if keep is not None:
            # At a padded step h' = h: the gradient passes it whole, and reaches no weight.
            of_step = StepGradients(
                [tf.where(keep, passed, total) for passed, total in zip(of_step.states, totals, strict=True)],
                [[tf.where(keep, block, 0) for block in blocks] for blocks in of_step.products],
            )
        states, products = tf.nest.map_structure(lambda value: tf.cast(value, product.dtype), of_step)
        return states, *map(_joined, products)

    def _step(self, projected: Any, recurrent: Any, bias: Any, states: list[Any]) -> Any:
        units = states[0].shape[1]
        products = [_blocks(projected, units), _blocks(recurrent, units)]
        for blocks, row in zip(products, tf.unstack(bias) if len(bias.shape) == 2 else [bias], strict=False):
            blocks[:] = [block + addend for block, addend in zip(blocks, _blocks(row, units), strict=True)]
        return self.gates(*products, *map(_wide, states))


CELLS = {
    "rnn": KernelCell(equations.rnn_gates, rnn_gradients),
    "lstm": KernelCell(equations.lstm_gates, lstm_gradients),
    "gru": KernelCell(equations.gru_gates, gru_gradients),
    "gru_simplified": KernelCell(equations.gru_simplified_gates, gru_simplified_gradients),
}


def _wide(values: Any) -> Any:
    """Numbers of two bytes as float32: what is stored is rounded, what is computed is not."""
    return tf.cast(values, tf.float32) if values.dtype.size < 4 else values


def _blocks(values: Any, units: int) -> list[Any]:
    """The blocks of the last axis, each widened by itself: XLA then reads it where it is needed, and stores nothing."""
    return [_wide(block) for block in tf.split(values, values.shape[-1] // units, axis=-1)]


def _joined(blocks: list[Any]) -> Any:
    # XLA writes what is stacked in its place at once, and what is concatenated in a pass of its own.
    return tf.reshape(tf.stack(blocks, 1), [-1, len(blocks) * blocks[0].shape[1]])


def _rows(values: Any) -> Any:
    """`(steps, batch, width)` as `(steps * batch, width)`."""
    return tf.reshape(values, [-1, values.shape[-1]])


def _array(like: Any, steps: Any, width: int) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, steps, element_shape=[None, width])


def _column_sums(rows: Any) -> Any:
    # As a product: it adds up in float32, with all cores, and is done in half the time of a reduction.
    return tf.matmul(tf.ones([1, tf.shape(rows)[0]], rows.dtype), rows)[0]
