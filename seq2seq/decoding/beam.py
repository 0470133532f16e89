"""Beam search with frozen finished hypotheses.

Every sentence has `beam_size` places. At each step the open hypotheses are continued by every token, and the
best continuations, by the sum of their log-probabilities, fill the open places. A hypothesis that ends keeps
its place for good and is neither continued nor displaced, so the search of a sentence narrows as its
hypotheses end. It is over when no place is open, or when no open hypothesis can reach a better score than the
`n_best` finished ones have. With as many places as there are hypotheses nothing is ever displaced, and the
search is exhaustive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq.decoding import loop
from seq2seq.decoding.arguments import check_rows, checked_banned_ids, checked_limits
from seq2seq.decoding.candidates import best_tokens
from seq2seq.decoding.hypotheses import Hypotheses, StepFunction
from seq2seq.decoding.penalties import LengthPenalty, length_penalty_function

MINUS_INFINITY = -float("inf")


def beam_search(
    step: StepFunction,
    initial_state: Any,
    *,
    batch_size: int | tf.Tensor,
    max_steps: int | Sequence[int] | tf.Tensor,
    beam_size: int,
    start_id: int,
    end_id: int,
    pad_id: int = 0,
    banned_ids: Sequence[int] = (),
    length_penalty: float = 1.0,
    length_penalty_kind: str = "average",
    n_best: int = 1,
    return_attention: bool = False,
) -> Hypotheses:
    """Follow the best `beam_size` hypotheses of every sentence and return the best `n_best` of them.

    Works eagerly and in a graph, with a batch of any size and steps of any number. What is found for a
    sentence does not depend on the sentences beside it.

    >>> # After 2 comes 4 with 0.6 or 5 with 0.4, after 4 the end (3) with 0.5 or 5, after 5 always the end.
    >>> after = {2: [0, 0, 0, 0, 0.6, 0.4], 4: [0, 0, 0, 0.5, 0, 0.5], 5: [0, 0, 0, 1.0, 0, 0]}
    >>> table = tf.math.log([after.get(token, [1.0] * 6) for token in range(6)])
    >>> def step(token_ids, state):
    ...     return tf.gather(table, token_ids), state, None
    >>> options = dict(batch_size=1, max_steps=3, start_id=2, end_id=3, length_penalty=0.0)
    >>> [beam_search(step, (), beam_size=size, **options).token_ids[0, 0].numpy().tolist() for size in (1, 2)]
    [[4, 3], [5, 3]]

    Args:
        step: the step function; see `StepFunction`.
        initial_state: the decoder's first state: nested tensors of shape (batch, ...), one row a sentence.
            The search makes the rows of the other beams.
        batch_size: the number of sentences.
        max_steps: the most tokens of a hypothesis, the end token included: one number, or (batch,), one for
            each sentence. A hypothesis that has not ended by then is closed as it stands, with the score that
            it has, and competes with the others. 0 gives one empty hypothesis.
        beam_size: places a sentence. With one, the search is greedy.
        start_id: what the step function reads first. It is never produced.
        end_id: the token that ends a hypothesis.
        pad_id: fills what follows the end, and is what the step function reads there. It is never produced.
        banned_ids: more tokens that are never produced.
        length_penalty: strength of the length penalty (alpha), 0 for none.
        length_penalty_kind: `average`, `wu` or `none`; see `seq2seq.decoding.penalties`.
        n_best: hypotheses to return a sentence, at most `beam_size`.
        return_attention: whether to keep the attention weights of every step.

    Returns:
        Hypotheses, best first. The scores are those after the length penalty.

    Raises:
        ValueError: for an argument that cannot be.
        tf.errors.InvalidArgumentError: for a negative `max_steps`.
    """
    _check_sizes(beam_size, n_best)
    score = length_penalty_function(length_penalty_kind, length_penalty)
    banned_ids = checked_banned_ids(end_id, start_id, pad_id, banned_ids)
    limits = checked_limits(max_steps, batch_size)
    check_rows(initial_state, batch_size)
    state = loop.repeat_rows(initial_state, beam_size)

    def advance(progress: loop.Progress, logits: tf.Tensor) -> tuple[loop.Progress, tf.Tensor]:
        log_probs, token_ids = best_tokens(logits, beam_size, banned_ids)
        progress, rows = _fill_places(progress, log_probs, token_ids, limits, end_id, pad_id)
        return progress._replace(is_done=_is_done(progress, limits, score, n_best)), rows

    progress = loop.start(limits, beam_size, start_id, pad_id)
    progress, attention_weights = loop.run(step, advance, progress, state, return_attention)
    return loop.result(progress, attention_weights, _finished_scores(progress, score), n_best, pad_id)


def _check_sizes(beam_size: int, n_best: int) -> None:
    if beam_size < 1:
        raise ValueError(f"beam_size must be at least 1, but is {beam_size} instead. Use 1 for greedy.")
    if not 1 <= n_best <= beam_size:
        raise ValueError(
            f"n_best must be between 1 and beam_size, which is {beam_size}, but is {n_best} instead. "
            "Ask for fewer hypotheses or widen the beam."
        )


def _fill_places(
    progress: loop.Progress,
    log_probs: tf.Tensor,
    token_ids: tf.Tensor,
    limits: tf.Tensor,
    end_id: int,
    pad_id: int,
) -> tuple[loop.Progress, tf.Tensor]:
    """Choose what every place of every sentence holds next.

    Args:
        progress: before the step.
        log_probs: (rows, candidates), of the best tokens of every row.
        token_ids: (rows, candidates).
        limits: (batch,).
        end_id: the token that ends a hypothesis.
        pad_id: what a place that takes no token reads next.

    Returns:
        The progress after the step, and (batch, beams) the rows that the places go on from.
    """
    batch, beams = tf.shape(progress.log_probs)[0], progress.log_probs.shape[1]
    candidates = tf.shape(token_ids)[1]
    flat_shape = [batch, beams * candidates]
    is_frozen = progress.is_finished | progress.is_done[:, tf.newaxis]
    sums = progress.log_probs[..., tf.newaxis] + tf.reshape(log_probs, [batch, beams, candidates])
    # A frozen place has one continuation, itself, which comes before all others.
    itself = tf.where(tf.range(candidates) == 0, float("inf"), MINUS_INFINITY)
    priorities = tf.where(is_frozen[..., tf.newaxis], itself, sums)
    chosen_sums, chosen = tf.math.top_k(tf.reshape(priorities, flat_shape), beams)
    parents = chosen // candidates
    rows = parents + beams * tf.range(batch)[:, tf.newaxis]

    # Where there are fewer continuations than places, the rest take impossible ones and hold nothing.
    is_kept = chosen_sums == float("inf")
    is_open = ~is_kept & (chosen_sums > MINUS_INFINITY)
    chosen_ids = tf.gather(tf.reshape(token_ids, flat_shape), chosen, batch_dims=1)
    chosen_ids = tf.where(is_open, chosen_ids, pad_id)
    number_of_steps = progress.number_of_steps + 1
    ends = is_open & ((chosen_ids == end_id) | (number_of_steps >= limits[:, tf.newaxis]))
    parent_progress = progress._replace(history=_of_rows(progress.history, rows))
    return (
        loop.Progress(
            number_of_steps=number_of_steps,
            last_ids=chosen_ids,
            history=loop.record(parent_progress, chosen_ids, rows, is_open),
            log_probs=tf.where(is_kept, _of_rows(progress.log_probs, rows), chosen_sums),
            lengths=tf.where(is_open, number_of_steps, _of_rows(progress.lengths, rows)),
            is_finished=(is_kept & _of_rows(progress.is_finished, rows)) | ends,
            is_done=progress.is_done,
        ),
        rows,
    )


def _of_rows(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Return (batch, beams, ...) values in the order of (batch, beams) rows."""
    shape = tf.shape(values)
    return tf.gather(tf.reshape(values, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0)), rows)


def _finished_scores(progress: loop.Progress, score: LengthPenalty) -> tf.Tensor:
    return tf.where(progress.is_finished, score(progress.log_probs, progress.lengths), MINUS_INFINITY)


def _is_done(progress: loop.Progress, limits: tf.Tensor, score: LengthPenalty, n_best: int) -> tf.Tensor:
    """Say for every sentence whether what its search would return cannot change any more.

    A sum of log-probabilities can only fall, and a penalized sum can only rise with the length. So the best that an
    open hypothesis can reach is its present sum at the greatest length.
    """
    to_beat = tf.math.top_k(_finished_scores(progress, score), n_best).values[:, -1]
    open_sums = tf.where(progress.is_finished, MINUS_INFINITY, progress.log_probs)
    reachable = tf.reduce_max(score(open_sums, limits[:, tf.newaxis]), axis=-1)
    return progress.is_done | (to_beat >= reachable)
