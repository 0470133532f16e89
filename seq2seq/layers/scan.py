"""A loop over time steps that autodiff can go back through, for whatever must run one step at a time."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    inputs: Any,
    output_specs: Any,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Runs `step` over the time axis. Keras' own `ops.scan` wants outputs in the shape of the state.

    Args:
        step: From inputs `(batch, features)` and a state to outputs and the next state.
        state: Any nest of tensors.
        inputs: `(batch, steps, features)`.
        output_specs: Shapes and types of the outputs of one step, any nest of `tf.TensorSpec([None, ...])`.
        reverse: Whether to go from the last step to the first.

    Returns:
        Outputs, `(batch, steps, ...)` each, in the order of the inputs, and the last state.

    >>> spec, ones = tf.TensorSpec([None, 1]), tf.ones([1, 3, 1])
    >>> outputs, total = scan(lambda x, total: (x + total, x + total), tf.zeros([1, 1]), ones, spec)
    >>> outputs.numpy().ravel().tolist(), total.numpy().tolist()
    ([1.0, 2.0, 3.0], [[3.0]])
    """
    inputs = tf.convert_to_tensor(inputs)
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    # Turned here and not in the loop, which then writes in the order in which it goes: all that exporters can follow.
    steps_first = _turned(tf.transpose(inputs, [1, 0, 2]), reverse)
    steps = tf.shape(steps_first)[0]
    # With as many rows as are known, which LiteRT has to be told.
    rows = inputs.shape[0]
    collected = [
        tf.TensorArray(spec.dtype, steps, element_shape=[rows, *spec.shape[1:]])
        for spec in tf.nest.flatten(output_specs)
    ]

    def body(index: Any, state: Any, collected: list[tf.TensorArray]) -> tuple[Any, Any, list[tf.TensorArray]]:
        outputs, state = step(steps_first[index], state)
        parts = zip(collected, tf.nest.flatten(outputs), strict=True)
        return index + 1, state, [array.write(index, part) for array, part in parts]

    # XLA can go back only through a loop whose number of steps it is told.
    _, state, collected = tf.while_loop(
        lambda index, *_: index < steps, body, (0, state, collected), maximum_iterations=steps
    )
    stacked = [_turned(array.stack(), reverse) for array in collected]
    outputs = [tf.transpose(part, [1, 0, *range(2, part.shape.rank)]) for part in stacked]
    return tf.nest.pack_sequence_as(output_specs, outputs), state


def _turned(steps_first: Any, reverse: bool) -> Any:
    return tf.reverse(steps_first, [0]) if reverse else steps_first
