"""A loop over time steps that autodiff can go back through, for whatever must run one step at a time."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    inputs: Any,
    output_units: int,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Runs `step` over the time axis. Keras' own `ops.scan` wants outputs in the shape of the state.

    Args:
        step: From inputs `(batch, features)` and a state to outputs `(batch, output_units)` and the next state.
        state: Any nest of tensors.
        inputs: `(batch, steps, features)`.
        output_units: Last dimension of the outputs.
        reverse: Whether to go from the last step to the first.

    Returns:
        Outputs `(batch, steps, output_units)`, in the order of the inputs, and the last state.

    >>> import numpy as np
    >>> outputs, total = scan(lambda x, total: (x + total, x + total), np.zeros((1, 1)), np.ones((1, 3, 1)), 1)
    >>> outputs.numpy().ravel().tolist(), total.numpy().tolist()
    ([1.0, 2.0, 3.0], [[3.0]])
    """
    inputs = tf.convert_to_tensor(inputs)
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    steps_first = tf.transpose(inputs, [1, 0, 2])
    steps = tf.shape(steps_first)[0]
    collected = tf.TensorArray(inputs.dtype, steps, element_shape=[None, output_units])

    def body(index: Any, state: Any, collected: tf.TensorArray) -> tuple[Any, Any, tf.TensorArray]:
        time = steps - 1 - index if reverse else index
        outputs, state = step(steps_first[time], state)
        return index + 1, state, collected.write(time, outputs)

    # XLA can go back only through a loop whose number of steps it is told.
    _, state, collected = tf.while_loop(
        lambda index, *_: index < steps, body, (0, state, collected), maximum_iterations=steps
    )
    return tf.transpose(collected.stack(), [1, 0, 2]), state
