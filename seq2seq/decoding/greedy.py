"""Greedy search: the most probable token at every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from seq2seq.decoding import loop
from seq2seq.decoding.arguments import check_rows, checked_banned_ids, checked_limits
from seq2seq.decoding.candidates import best_tokens
from seq2seq.decoding.hypotheses import Hypotheses, StepFunction


def greedy_search(
    step: StepFunction,
    initial_state: Any,
    *,
    batch_size: int | tf.Tensor,
    max_steps: int | Sequence[int] | tf.Tensor,
    start_id: int,
    end_id: int,
    pad_id: int = 0,
    banned_ids: Sequence[int] = (),
    return_attention: bool = False,
) -> Hypotheses:
    """Take the most probable token at every step: the fastest search; `beam_search` with one beam agrees.

    Works eagerly and in a graph, with a batch of any size and steps of any number.

    >>> def count_up(token_ids, state):  # a decoder that says one more than it reads
    ...     return tf.one_hot(token_ids + 1, 9), state, None
    >>> greedy_search(count_up, (), batch_size=2, max_steps=[3, 9], start_id=4, end_id=8).token_ids[:, 0].numpy()
    array([[5, 6, 7, 0],
           [5, 6, 7, 8]], dtype=int32)

    Args:
        step: the step function; see `StepFunction`.
        initial_state: the decoder's first state: nested tensors of shape (batch, ...), one row a sentence.
        batch_size: the number of sentences.
        max_steps: the most tokens of a hypothesis, the end token included: one number, or (batch,), one for
            each sentence. A hypothesis that has not ended by then is closed as it stands. 0 gives an empty
            one.
        start_id: what the step function reads first. It is never produced.
        end_id: the token that ends a hypothesis.
        pad_id: fills what follows the end, and is what the step function reads there. It is never produced.
        banned_ids: more tokens that are never produced.
        return_attention: whether to keep the attention weights of every step.

    Returns:
        Hypotheses with n_best 1. Scores are the sums of log-probabilities.

    Raises:
        ValueError: for an argument that cannot be.
        tf.errors.InvalidArgumentError: for a negative `max_steps`.
    """
    banned_ids = checked_banned_ids(end_id, start_id, pad_id, banned_ids)
    limits = checked_limits(max_steps, batch_size)
    check_rows(initial_state, batch_size)
    advance = partial(_advance, limits=limits, end_id=end_id, pad_id=pad_id, banned_ids=banned_ids)
    progress = loop.start(limits, 1, start_id, pad_id)
    progress, attention_weights = loop.run(step, advance, progress, initial_state, return_attention)
    return loop.result(progress, attention_weights, progress.log_probs, n_best=1, pad_id=pad_id)


def _advance(
    progress: loop.Progress,
    logits: tf.Tensor,
    *,
    limits: tf.Tensor,
    end_id: int,
    pad_id: int,
    banned_ids: Sequence[int],
) -> tuple[loop.Progress, None]:
    log_probs, token_ids = best_tokens(logits, 1, banned_ids)
    best = tf.argmax(log_probs, axis=-1, output_type=tf.int32)[:, tf.newaxis]
    is_open = ~progress.is_finished
    token_ids = tf.where(is_open, tf.gather(token_ids, best, batch_dims=1), pad_id)
    gains = tf.where(is_open, tf.gather(log_probs, best, batch_dims=1), 0.0)
    number_of_steps = progress.number_of_steps + 1
    is_finished = progress.is_finished | (token_ids == end_id) | (number_of_steps >= limits[:, tf.newaxis])
    rows = tf.range(tf.shape(limits)[0])[:, tf.newaxis]
    return (
        loop.Progress(
            number_of_steps=number_of_steps,
            last_ids=token_ids,
            history=loop.record(progress, token_ids, rows, is_open),
            log_probs=progress.log_probs + gains,
            lengths=tf.where(is_open, number_of_steps, progress.lengths),
            is_finished=is_finished,
            is_done=is_finished[:, 0],
        ),
        None,
    )
