"""What the loss is multiplied by where float16 holds the gradients."""

from typing import Any

import tensorflow as tf

START, LOWEST = 2.0**15, 1.0
GOOD_STEPS = 2_000
"""Updates in a row after which a larger scale is tried."""


class LossScale:
    """Keeps gradients inside the narrow range of float16, whose smallest number is 6e-8 and whose largest is 65,504.

    The loss is multiplied by `value` and its gradients, in float32, are divided by it. An infinite gradient halves it,
    2,000 updates in a row double it: it stays about as large as the gradients of the run allow (Micikevicius et al.
    2018, arXiv 1710.03740, section 3.2). Always a power of two, so that multiplying and dividing round nothing.

    >>> scale = LossScale()
    >>> scale.adapt(tf.constant(True), is_finite_gradient=tf.constant(False))
    >>> float(scale.value)
    16384.0
    """

    def __init__(self) -> None:
        self.value = tf.Variable(START, trainable=False)
        self._good_steps = tf.Variable(0.0, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """What a state must hold."""
        return [self.value, self._good_steps]

    def adapt(self, is_finite_loss: Any, is_finite_gradient: Any) -> None:
        """Halves the scale after an overflow, doubles it after many updates without one.

        Args:
            is_finite_loss: Whether the loss of the step was a finite number. Where it was not, the scale is not to
                blame, and stays.
            is_finite_gradient: Whether its gradients were.
        """
        overflowed = is_finite_loss & ~is_finite_gradient
        updates = tf.cast(is_finite_loss & is_finite_gradient, tf.float32)
        good_steps = tf.where(overflowed, 0.0, self._good_steps + updates)
        is_time = good_steps >= GOOD_STEPS
        self._good_steps.assign(tf.where(is_time, 0.0, good_steps))
        halved = tf.maximum(self.value / 2, LOWEST)
        self.value.assign(tf.where(overflowed, halved, tf.where(is_time, 2 * self.value, self.value)))
