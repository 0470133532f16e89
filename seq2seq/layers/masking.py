"""Reductions over the valid steps of padded sequences.

Every sequence is padded on the right and comes with an explicit mask, `(batch, steps)`, in which True keeps a step. No
layer relies on Keras' implicit mask, which is lost at the first operation between layers, so padding can never change a
result unnoticed.
"""

from typing import Any, Self

import keras
from keras import ops

LARGE_NEGATIVE = -1e9
"""Score of masked places: finite, so that a row without valid steps gives no NaN."""


class ExplicitMaskLayer(keras.Layer):
    """Layer whose masks are arguments: its outputs carry no implicit mask."""

    def __new__(cls, *args: Any, dtype: Any = None, **kwargs: Any) -> Self:  # noqa: ARG004 - `__init__` reads it
        # Keras writes the configuration where all arguments are plain: a policy is not, and Keras adds it anyway.
        layer: Self = super().__new__(cls, *args, **kwargs)
        return layer

    def compute_mask(self, *args: Any, **kwargs: Any) -> None:
        return None


def length(mask: Any) -> Any:
    """Count the valid steps of each row, `(batch,)` int32."""
    return ops.sum(ops.cast(mask, "int32"), axis=1)


def in_windows(sequence: Any, size: int) -> Any:
    """Cut `(batch, steps, ...)` into `(batch, windows, size, ...)`, with zeros (False, in a mask) after the last step.

    >>> import numpy as np
    >>> in_windows(np.array([[1, 2, 3]]), 2).numpy().tolist()
    [[[1, 2], [3, 0]]]
    """
    shape = ops.shape(sequence)
    windows = (shape[1] + size - 1) // size
    sequence = ops.pad(sequence, [(0, 0), (0, size - 1), *[(0, 0)] * (len(shape) - 2)])
    return ops.reshape(sequence[:, : windows * size], (shape[0], windows, size, *shape[2:]))


def reduced_mask(mask: Any, size: int) -> Any:
    """Return the mask of windows of `size` steps, `(batch, windows)`: a window is valid when any of its steps is."""
    if size == 1:
        return mask
    # Pooling also works in a functional model, whose number of steps is unknown.
    steps = ops.pad(ops.cast(mask, "float32"), [(0, 0), (0, size - 1)])[:, :, None]
    return ops.max_pool(steps, size, strides=size)[:, :, 0] > 0


def masked_sum(sequence: Any, mask: Any) -> Any:
    """Add up the valid steps of `(batch, steps, units)`; zeros for a row without any."""
    return ops.sum(sequence * _steps_last(mask, sequence.dtype), axis=1)


def masked_mean(sequence: Any, mask: Any) -> Any:
    """Average the valid steps of `(batch, steps, units)`; zeros for a row without any."""
    count = ops.cast(ops.maximum(length(mask), 1), sequence.dtype)
    return masked_sum(sequence, mask) / ops.expand_dims(count, -1)


def masked_max(sequence: Any, mask: Any) -> Any:
    """Take each unit's maximum over the valid steps of `(batch, steps, units)`; zeros for a row without any."""
    keep = _steps_last(mask, sequence.dtype)
    largest = ops.max(ops.where(keep > 0, sequence, ops.cast(LARGE_NEGATIVE, sequence.dtype)), axis=1)
    return ops.where(ops.max(keep, axis=1) > 0, largest, ops.zeros_like(largest))


def masked_last(sequence: Any, mask: Any) -> Any:
    """Take the last valid step of `(batch, steps, units)`; the first step for a row without any."""
    last = ops.maximum(length(mask) - 1, 0)
    return ops.squeeze(ops.take_along_axis(sequence, last[:, None, None], axis=1), axis=1)


def masked_softmax(scores: Any, mask: Any) -> Any:
    """Apply a float32 softmax to the last axis, with weights of exactly zero where the broadcast mask is False.

    Weights sum to one, or to zero where no place is valid.
    """
    keep = ops.cast(mask, "float32")
    if scores.shape[-1] == 1:
        # Keras warns of a softmax over one place; this gives the same result.
        return ops.exp(ops.log_softmax(ops.cast(scores, "float32"), axis=-1)) * keep
    weights = ops.softmax(ops.where(keep > 0, ops.cast(scores, "float32"), LARGE_NEGATIVE), axis=-1)
    return weights * keep


def _steps_last(mask: Any, dtype: str) -> Any:
    return ops.expand_dims(ops.cast(mask, dtype), -1)
