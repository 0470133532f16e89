"""A loop over time steps with gradients, for layers that must run one step at a time."""

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
    """Run `step(inputs, state) -> (outputs, state)` over `(batch, steps, features)`, from either end.

    Outputs are a nest of `(batch, steps, ...)` in the order of the inputs, as `output_specs` describe it for one step;
    unlike in Keras' `ops.scan` they need not have the shape of the state.
    """
    inputs = tf.convert_to_tensor(inputs)
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    # Reversed before the loop, which then writes in the order in which it runs: exporters can follow no other.
    steps_first = _reversed_if(reverse, tf.transpose(inputs, [1, 0, 2]))
    steps = tf.shape(steps_first)[0]
    # LiteRT needs the number of rows where it is known.
    rows = inputs.shape[0]
    collected = [
        tf.TensorArray(spec.dtype, steps, element_shape=[rows, *spec.shape[1:]])
        for spec in tf.nest.flatten(output_specs)
    ]

    def body(index: Any, state: Any, collected: list[tf.TensorArray]) -> tuple[Any, Any, list[tf.TensorArray]]:
        outputs, state = step(steps_first[index], state)
        parts = zip(collected, tf.nest.flatten(outputs), strict=True)
        return index + 1, state, [array.write(index, part) for array, part in parts]

    # XLA needs the maximum number of steps for the gradient of a loop.
    _, state, collected = tf.while_loop(
        lambda index, *_: index < steps, body, (0, state, collected), maximum_iterations=steps
    )
    stacked = [_reversed_if(reverse, array.stack()) for array in collected]
    outputs = [tf.transpose(part, [1, 0, *range(2, part.shape.rank)]) for part in stacked]
    return tf.nest.pack_sequence_as(output_specs, outputs), state


def _reversed_if(reverse: bool, steps_first: Any) -> Any:
    return tf.reverse(steps_first, [0]) if reverse else steps_first
