"""A whole sequence through a recurrent layer on a processor, with gradients derived by hand.

Keras multiplies the inputs by their weights inside the loop, and its gradient adds up weight gradients step by step.
Here only the recurrent product stays in the loops: the input product before them, and the weight gradients after them,
are each one product over the whole sequence (Appleyard et al. 2016, arXiv 1604.01946). The element-wise rest of a step
is one function forwards and one backwards, which XLA can compile into one pass. The backward loop recomputes the gates
from the products, which is faster than reading them, so only products and new states are stored.
`seq2seq.inspection.bptt` has the derivation at length.

This is TensorFlow proper because Keras has no loop with a gradient of one's own.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.layers import equations

COMPILED_UNITS = 128
"""Units from which on a layer is worth the time that XLA takes for each number of rows."""


class StepGradients(NamedTuple):
    """Gradients that one time step propagates to its previous states, past the recurrent product, and to its products.

    `products` has the blocks of the recurrent product, and those of the input product where they differ: cells that
    start from the sum of both products have the same for both.
    """

    states: list[Any]
    products: list[list[Any]]


def rnn_gradients(totals: list[Any], _previous: list[Any], step: equations.RNNStep) -> StepGradients:
    """Differentiate `equations.rnn_gates`: `totals` are the gradients of the new states, all ways added up."""
    return StepGradients([tf.zeros_like(totals[0])], [[totals[0] * (1 - step.state * step.state)]])


def gru_gradients(totals: list[Any], previous: list[Any], step: equations.GRUStep) -> StepGradients:
    """Differentiate `equations.gru_gates`."""
    candidate = totals[0] * (1 - step.update) * (1 - step.candidate * step.candidate)
    update = totals[0] * (previous[0] - step.candidate) * step.update * (1 - step.update)
    reset = candidate * step.recurrent_candidate * step.reset * (1 - step.reset)
    blocks = [[update, reset, candidate * step.reset], [update, reset, candidate]]
    return StepGradients([totals[0] * step.update], blocks)


def gru_simplified_gradients(
    totals: list[Any], previous: list[Any], step: equations.GRUSimplifiedStep
) -> StepGradients:
    """Differentiate `equations.gru_simplified_gates`."""
    candidate = totals[0] * (1 - step.update) * (1 - step.candidate * step.candidate)
    update = totals[0] * (previous[0] - step.candidate) * step.update * (1 - step.update)
    return StepGradients([totals[0] * step.update], [[update, candidate]])


def lstm_gradients(totals: list[Any], previous: list[Any], step: equations.LSTMStep) -> StepGradients:
    """Differentiate `equations.lstm_gates`."""
    shown = tf.tanh(step.cell_state)
    of_cell_state = totals[1] + totals[0] * step.output_gate * (1 - shown * shown)
    products = [
        of_cell_state * step.candidate * step.input_gate * (1 - step.input_gate),
        of_cell_state * previous[1] * step.forget_gate * (1 - step.forget_gate),
        of_cell_state * step.input_gate * (1 - step.candidate * step.candidate),
        totals[0] * shown * step.output_gate * (1 - step.output_gate),
    ]
    return StepGradients([tf.zeros_like(shown), of_cell_state * step.forget_gate], [products])


class KernelCell:
    """Gates of a cell from its two products, as `equations.gru_gates`, and the gradients of one step."""

    def __init__(self, gates: Callable[..., Any], gradients: Callable[..., StepGradients]) -> None:
        self.gates = gates
        self.gradients = gradients

    @functools.cache  # noqa: B019 - the cells live as long as the module
    def steps(self, compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the element-wise part of one step, forwards and backwards."""
        if not compiled:
            return self._forward, self._backward
        forward, backward = (
            tf.function(function, jit_compile=True, autograph=False) for function in (self._forward, self._backward)
        )
        return forward, backward

    def _forward(
        self, projected: Any, recurrent: Any, bias: Any, states: list[Any], keep: Any
    ) -> tuple[list[Any], Sequence[Any]]:
        # XLA makes a loop for each result. The gates, which nothing reads, keep it from making one loop of the whole
        # step, which is so long that it takes half as many numbers at a time, and twice the time.
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
            # At a padded step h' = h: the whole gradient passes, and none reaches a weight.
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


class _Sweep(NamedTuple):
    """Order of the time steps: a loop's counter runs from 0, the place in the sequence from either end."""

    steps: Any
    keep: Any
    reverse: bool

    def place(self, count: Any) -> Any:
        return self.steps - 1 - count if self.reverse else count

    def keep_at(self, time: Any) -> Any:
        return None if self.keep is None else self.keep[time]

    def previous(self, states: Any, initial: Any) -> Any:
        """Return the state before each step."""
        return tf.concat([states[1:], initial[None]] if self.reverse else [initial[None], states[:-1]], 0)


def run(
    cell: KernelCell,
    inputs: Any,
    mask: Any,
    initial_states: list[Any],
    weights: tuple[Any, Any, Any],
    reverse: bool,
    compiled: bool = False,
) -> tuple[Any, list[Any]]:
    """Run one direction of one layer over `(batch, steps, features)`; padded steps carry the states over unchanged.

    Returns the states at every step `(batch, steps, units)`, in the order of the inputs, and the final states. XLA
    compiles the element-wise part if `compiled`, for each number of rows again: for training, with its few shapes.
    """
    sweep = _Sweep(tf.shape(inputs)[1], None if mask is None else tf.transpose(mask)[:, :, None], reverse)
    forward_step, backward_step = cell.steps(compiled and weights[1].shape[0] >= COMPILED_UNITS)

    @tf.custom_gradient
    def states_of(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any, *initial_states: Any) -> Any:
        projected = tf.reshape(tf.matmul(_rows(inputs), kernel), [sweep.steps, -1, kernel.shape[1]])
        all_states, final_states, products = _run_forward(
            forward_step, sweep, projected, recurrent_kernel, bias, initial_states
        )

        def gradient(of_states: Any, *of_other_final_states: Any) -> tuple[Any, ...]:
            previous = [sweep.previous(*pair) for pair in zip(all_states, initial_states, strict=True)]
            of_initial, of_products = _run_backward(
                functools.partial(backward_step, bias=bias),
                sweep,
                (of_states, of_other_final_states),
                (projected, products, previous),
                recurrent_kernel,
                len(bias.shape),
            )
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


def _run_forward(
    step: Callable[..., Any], sweep: _Sweep, projected: Any, recurrent_kernel: Any, bias: Any, initial_states: Any
) -> tuple[list[Any], list[Any], tf.TensorArray]:
    """Return the states of all steps, the final states, and the recurrent products of all steps."""
    units, width = recurrent_kernel.shape

    def body(count: Any, states: list[Any], stored: list[tf.TensorArray]) -> tuple[Any, list[Any], list[Any]]:
        time = sweep.place(count)
        recurrent = tf.matmul(states[0], recurrent_kernel)
        states, _ = step(projected[time], recurrent, bias, states, sweep.keep_at(time))
        stored = [array.write(time, value) for array, value in zip(stored, [*states, recurrent], strict=True)]
        return count + 1, states, stored

    stored = [_array(projected, sweep.steps, columns) for columns in (*[units] * len(initial_states), width)]
    _, final_states, (*stored_states, products) = tf.while_loop(
        lambda count, *_: count < sweep.steps, body, (0, list(initial_states), stored)
    )
    all_states = [tf.ensure_shape(array.stack(), [None, None, units]) for array in stored_states]
    return all_states, final_states, products


def _run_backward(
    step: Callable[..., Any],
    sweep: _Sweep,
    of_outputs: tuple[Any, tuple[Any, ...]],
    values: tuple[Any, tf.TensorArray, list[Any]],
    recurrent_kernel: Any,
    num_products: int,
) -> tuple[list[Any], list[Any]]:
    """Return the gradients of the initial states, and those of the products with the states, then with the inputs."""
    (of_states, of_other_final_states), (projected, products, previous) = of_outputs, values

    def body(count: Any, product: Any, of_carried: list[Any], collected: list[tf.TensorArray]) -> Any:
        time = sweep.place(count)
        of_carried, *of_products = step(
            (of_states[time], product, of_carried),
            projected[time],
            products.read(time),
            previous=[states[time] for states in previous],
            keep=sweep.keep_at(time),
        )
        collected = [array.write(time, rows) for array, rows in zip(collected, of_products, strict=True)]
        product = tf.matmul(of_products[0], recurrent_kernel, transpose_b=True)
        return count - 1, product, of_carried, collected

    # With a bias for each product, their gradients differ.
    collected = [_array(projected, sweep.steps, recurrent_kernel.shape[1]) for _ in range(num_products)]
    zeros = tf.zeros_like(previous[0][0])
    _, product, of_initial, collected = tf.while_loop(
        lambda count, *_: count >= 0, body, (sweep.steps - 1, zeros, [zeros, *of_other_final_states], collected)
    )
    of_initial[0] += product
    return of_initial, [_rows(array.stack()) for array in collected]


def _wide(values: Any) -> Any:
    """Cast two-byte numbers to float32: storage is rounded, computation is not."""
    return tf.cast(values, tf.float32) if values.dtype.size < 4 else values


def _blocks(values: Any, units: int) -> list[Any]:
    """Split the last axis and widen each block by itself: XLA then reads it where it needs it, and stores nothing."""
    return [_wide(block) for block in tf.split(values, values.shape[-1] // units, axis=-1)]


def _joined(blocks: list[Any]) -> Any:
    # XLA writes stacked blocks in their place at once, and concatenated ones in a pass of its own.
    return tf.reshape(tf.stack(blocks, 1), [-1, len(blocks) * blocks[0].shape[1]])


def _rows(values: Any) -> Any:
    """Reshape `(steps, batch, width)` to `(steps * batch, width)`."""
    return tf.reshape(values, [-1, values.shape[-1]])


def _array(like: Any, steps: Any, width: int) -> tf.TensorArray:
    return tf.TensorArray(like.dtype, steps, element_shape=[None, width])


def _column_sums(rows: Any) -> Any:
    # As a product: it adds up in float32, with all cores, in half the time of a reduction.
    return tf.matmul(tf.ones([1, tf.shape(rows)[0]], rows.dtype), rows)[0]
