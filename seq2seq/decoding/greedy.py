"""Greedy search: the most probable token at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.decoding import loop
from seq2seq.decoding.arguments import check_rows, checked_banned_ids, checked_limits
from seq2seq.decoding.candidates import best_tokens, with_prefix
from seq2seq.decoding.hypotheses import Hypotheses, Prefix, StepFunction
from seq2seq.decoding.rules import Rule


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
    rules: Sequence[Rule] = (),
    prefix: Prefix | None = None,
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
        rules: what changes log-probabilities before a token is taken; see `seq2seq.decoding.rules`. A
            hypothesis whose every next token is forbidden ends.
        prefix: tokens that the hypotheses start with, whatever the rules say.
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

    def advance_for(sentences: tf.Tensor) -> Callable[[loop.Progress, loop.Scores], loop.Advanced]:
        limits_now = tf.gather(limits, sentences)
        prefix_now = None if prefix is None else prefix.for_sentences(sentences)

        def advance(progress: loop.Progress, scores: loop.Scores) -> loop.Advanced:
            candidates = best_tokens(scores, 1, banned_ids, end_id)
            if prefix_now is not None:
                candidates = with_prefix(candidates, scores, prefix_now, progress.number_of_steps)
            best = tf.argmax(candidates.gains, axis=-1, output_type=tf.int32)[:, tf.newaxis]
            token_ids, log_probs = (
                tf.gather(values, best, batch_dims=1) for values in (candidates.token_ids, candidates.log_probs)
            )
            return take(progress, token_ids, log_probs, limits_now, end_id, pad_id)

        return advance

    progress, record = loop.run(
        step,
        advance_for,
        loop.start(limits, 1, start_id),
        initial_state,
        limits=limits,
        rules=rules,
        return_attention=return_attention,
        reorders=False,
    )
    return loop.result(progress, record, progress.sums, n_best=1, pad_id=pad_id)


def take(
    progress: loop.Progress, token_ids: tf.Tensor, log_probs: tf.Tensor, limits: tf.Tensor, end_id: int, pad_id: int
) -> loop.Advanced:
    """Let every open place take the token that was chosen for it, on its own, (batch, beams) each."""
    is_open = ~progress.is_finished
    token_ids = tf.where(is_open, token_ids, pad_id)
    log_probs = tf.where(is_open, log_probs, 0.0)
    number_of_steps = progress.number_of_steps + 1
    is_finished = progress.is_finished | (token_ids == end_id) | (number_of_steps >= limits[:, tf.newaxis])
    progress = progress._replace(
        number_of_steps=number_of_steps,
        last_ids=token_ids,
        sums=progress.sums + log_probs,
        lengths=tf.where(is_open, number_of_steps, progress.lengths),
        is_finished=is_finished,
        is_done=tf.reduce_all(is_finished, axis=-1),
    )
    return loop.Advanced(progress, log_probs)
