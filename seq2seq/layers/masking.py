"""Reductions over the valid steps of padded sequences.

Every sequence here is padded on the right and comes with an explicit mask, `(batch, steps)`, in which
True keeps a step. Nothing relies on Keras' implicit mask, which is lost at the first operation between
layers, so padding can never change a result unnoticed.
"""

from typing import Any

import keras
from keras import ops

LARGE_NEGATIVE = -1e9
"""What a score becomes where the mask is False: finite, so that a row without valid steps gives no NaN."""


class ExplicitMaskLayer(keras.Layer):
    """A layer whose masks are arguments: it attaches no implicit mask to what it returns."""

    def compute_mask(self, *args: Any, **kwargs: Any) -> None:
        return None


def _steps_last(mask: Any, dtype: str) -> Any:
    return ops.expand_dims(ops.cast(mask, dtype), -1)


def length(mask: Any) -> Any:
    """Number of valid steps of each row, `(batch,)` int32.

    >>> import numpy as np
    >>> length(np.array([[True, True, False]])).numpy().tolist()
    [2]
    """
    return ops.sum(ops.cast(mask, "int32"), axis=1)


def in_windows(sequence: Any, size: int) -> Any:
    """Neighbouring steps side by side: window s holds the steps from `s * size` on.

    Args:
        sequence: `(batch, steps, ...)`.
        size: Steps of a window.

    Returns:
        `(batch, windows, size, ...)`, with zeros (False, in a mask) after the last step.

    >>> import numpy as np
    >>> in_windows(np.array([[1, 2, 3]]), 2).numpy().tolist()
    [[[1, 2], [3, 0]]]
    """
    shape = ops.shape(sequence)
    windows = (shape[1] + size - 1) // size
    sequence = ops.pad(sequence, [(0, 0), (0, size - 1), *[(0, 0)] * (len(shape) - 2)])
    return ops.reshape(sequence[:, : windows * size], (shape[0], windows, size, *shape[2:]))


def reduced_mask(mask: Any, size: int) -> Any:
    """The mask of windows of `size` steps, `(batch, windows)`: one is valid when any of its steps is.

    >>> import numpy as np
    >>> reduced_mask(np.array([[True, True, True, False, False]]), 2).numpy().tolist()
    [[True, True, False]]
    """
    if size == 1:
        return mask
    # Pooling, for it can be drawn into a functional model, whose number of steps nobody knows.
    steps = ops.pad(ops.cast(mask, "float32"), [(0, 0), (0, size - 1)])[:, :, None]
    return ops.max_pool(steps, size, strides=size)[:, :, 0] > 0


def masked_sum(sequence: Any, mask: Any) -> Any:
    """Sum over the valid steps.

    Args:
        sequence: `(batch, steps, units)`.
        mask: `(batch, steps)`, True keeps.

    Returns:
        `(batch, units)`; zeros for a row without valid steps.
    """
    return ops.sum(sequence * _steps_last(mask, sequence.dtype), axis=1)


def masked_mean(sequence: Any, mask: Any) -> Any:
    """Mean over the valid steps: the summary that Nematus starts its decoder from.

    Args:
        sequence: `(batch, steps, units)`.
        mask: `(batch, steps)`, True keeps.

    Returns:
        `(batch, units)`; zeros for a row without valid steps.
    """
    count = ops.cast(ops.maximum(length(mask), 1), sequence.dtype)
    return masked_sum(sequence, mask) / ops.expand_dims(count, -1)


def masked_max(sequence: Any, mask: Any) -> Any:
    """Largest value of each unit over the valid steps.

    Args:
        sequence: `(batch, steps, units)`.
        mask: `(batch, steps)`, True keeps.

    Returns:
        `(batch, units)`; zeros for a row without valid steps.
    """
    keep = _steps_last(mask, sequence.dtype)
    largest = ops.max(ops.where(keep > 0, sequence, ops.cast(LARGE_NEGATIVE, sequence.dtype)), axis=1)
    return ops.where(ops.max(keep, axis=1) > 0, largest, ops.zeros_like(largest))


def masked_last(sequence: Any, mask: Any) -> Any:
    """The vector of the last valid step.

    Args:
        sequence: `(batch, steps, units)`.
        mask: `(batch, steps)`, True keeps; valid steps come first.

    Returns:
        `(batch, units)`; the first step for a row without valid steps.
    """
    last = ops.maximum(length(mask) - 1, 0)
    return ops.squeeze(ops.take_along_axis(sequence, last[:, None, None], axis=1), axis=1)


def masked_softmax(scores: Any, mask: Any) -> Any:
    """Softmax over the last axis, in float32, that gives masked places exactly nothing.

    Args:
        scores: `(batch, ..., steps)`.
        mask: True keeps; broadcasts against `scores`.

    Returns:
        Weights of the shape of `scores`, float32: they sum to one, or to zero where no place is valid.
    """
    keep = ops.cast(mask, "float32")
    if scores.shape[-1] == 1:
        # One place gets all, as it would by the softmax, of which Keras warns there.
        return ops.exp(ops.log_softmax(ops.cast(scores, "float32"), axis=-1)) * keep
    weights = ops.softmax(ops.where(keep > 0, ops.cast(scores, "float32"), LARGE_NEGATIVE), axis=-1)
    return weights * keep
