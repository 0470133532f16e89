"""What every search returns, and the step function that every search takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

StepFunction = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any, tf.Tensor | None]]
"""`step(token_ids, state) -> (logits, state, attention_weights)`, one step of a decoder for all rows.

A sentence has as many rows as the search has beams, and they lie together: row = sentence * beams + beam.
What is the same for all rows of a sentence, such as the encoder's outputs, belongs in the closure of the
function, once a sentence: the search would copy it at every step if it were part of the state. Where the function is
an object with a method `for_sentences(sentences) -> StepFunction`, which gives the function for these of the
sentences, (batch,) int32, alone, the search leaves sentences behind when they are done. Where it has an attribute
`columns`, (columns,) int32, its logits are of these tokens only, and minus infinity where a sentence may not take one;
there are a multiple of 64 of them, enough for 64 times the candidates, and no rule, prefix or phrase.

`token_ids` is (rows,) int32; the leaves of `state` are tensors with leading dimension rows; `logits` is
(rows, vocabulary) of any float type; `attention_weights` is (rows, source_steps) or None.
"""


def lets_sentences_leave(step: StepFunction) -> bool:
    """Whether a step function has `for_sentences`."""
    return hasattr(step, "for_sentences")


def of_sentences(step: StepFunction, sentences: tf.Tensor) -> StepFunction:
    """The step function for these of the sentences, where it lets sentences leave; else itself, for all."""
    narrow = getattr(step, "for_sentences", None)
    return step if narrow is None else narrow(sentences)


class Hypotheses(NamedTuple):
    """The sequences that a search found, best first.

    Attributes:
        token_ids: (batch, n_best, steps) int32. The end token is included where the sequence has one; what
            follows it is padding. `steps` is the number of steps that the search took for the whole batch.
        scores: (batch, n_best) float32, what the hypotheses are ranked by. Minus infinity, with length 0,
            where fewer than `n_best` sequences exist.
        lengths: (batch, n_best) int32, the number of tokens, the end token included.
        attention_weights: (batch, n_best, steps, source_steps) float32, zero after the end; None unless
            asked.
        log_probs: (batch, n_best) float32, the sum of `token_log_probs`.
        token_log_probs: (batch, n_best, steps) float32, the log-probability of each token as the step
            function gives it, whatever rules and penalties made of it; zero after the end.
    """

    token_ids: tf.Tensor
    scores: tf.Tensor
    lengths: tf.Tensor
    attention_weights: tf.Tensor | None
    log_probs: tf.Tensor
    token_log_probs: tf.Tensor


class Prefix(NamedTuple):
    """Tokens that the hypotheses of each sentence start with, whatever rules say.

    Attributes:
        token_ids: (batch, prefix_steps) int32; what follows a sentence's prefix is not read.
        lengths: (batch,) int32, 0 for none.
    """

    token_ids: tf.Tensor
    lengths: tf.Tensor

    def for_sentences(self, sentences: tf.Tensor) -> Prefix:
        """The prefixes of these of the sentences, (batch,) int32."""
        return Prefix(tf.gather(self.token_ids, sentences), tf.gather(self.lengths, sentences))

    def at(self, number_of_steps: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The token that each row must take now, (rows, 1) int32, and whether it must, (rows, 1) bool."""
        copies = rows // tf.maximum(tf.shape(self.lengths)[0], 1)
        place = tf.minimum(number_of_steps, tf.shape(self.token_ids)[1] - 1)
        token_ids = tf.gather(self.token_ids, place, axis=1)
        is_forced = number_of_steps < self.lengths
        return tuple(tf.repeat(values, copies)[:, tf.newaxis] for values in (token_ids, is_forced))


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
