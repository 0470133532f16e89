"""What the searches ask of their arguments, checked in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def checked_banned_ids(end_id: int, start_id: int, pad_id: int, banned_ids: Sequence[int]) -> tuple[int, ...]:
    """Return every token that a search may not produce: start, padding and those that the caller bans.

    Raises:
        ValueError: where the end token is among them, since then no hypothesis could end.
    """
    banned = tuple(sorted({start_id, pad_id, *banned_ids}))
    if end_id in banned:
        raise ValueError(
            f"end_id must be a token that may be produced, but is {end_id}, which is also the start, padding "
            f"or a banned token, instead. Banned are {list(banned)}; choose another end_id."
        )
    return banned


def checked_limits(max_steps: int | Sequence[int] | tf.Tensor, batch_size: int | tf.Tensor) -> tf.Tensor:
    """Return the most tokens of every sentence as (batch,) int32.

    Args:
        max_steps: one number for all sentences, or (batch,), one for each.
        batch_size: the number of sentences.

    Raises:
        ValueError: for numbers of more than one dimension.
        tf.errors.InvalidArgumentError: where one is negative; in a graph only when it runs.
    """
    limits = tf.cast(tf.convert_to_tensor(max_steps), tf.int32)
    if limits.shape.rank not in (0, 1, None):
        raise ValueError(
            f"max_steps must be one number or one for each sentence, but is of shape {tuple(limits.shape)} "
            "instead. Give a tensor of shape (batch,)."
        )
    message = "max_steps must be at least 0, but is negative instead. Give each sentence 0 or more tokens."
    check = tf.debugging.assert_non_negative(limits, message=message)
    with tf.control_dependencies([] if check is None else [check]):
        return tf.broadcast_to(limits, [batch_size])


def check_rows(initial_state: Any, batch_size: int | tf.Tensor) -> None:
    """Refuse a first state that does not have one row a sentence, where the shapes are known.

    Raises:
        ValueError: naming the shape.
    """
    expected = tf.get_static_value(batch_size)
    for leaf in tf.nest.flatten(initial_state):
        rows = leaf.shape[0]
        if expected is not None and rows is not None and rows != expected:
            raise ValueError(
                f"initial_state must have one row a sentence, {int(expected)} in all, but has a tensor of "
                f"shape {tuple(leaf.shape)} instead. The search makes the rows of the other beams itself."
            )
