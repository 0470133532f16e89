"""Beam search with frozen finished hypotheses.

Every sentence has `beam_size` places. At each step the open hypotheses are continued by every token, and the
best continuations, by the sum of their log-probabilities, fill the open places. A hypothesis that ends keeps
its place for good and is neither continued nor displaced, so the search of a sentence narrows as its
hypotheses end. It is over when no place is open, or when no open hypothesis can reach a better score than the
`n_best` finished ones have. With as many places as there are hypotheses nothing is ever displaced, and the
search is exhaustive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.decoding import loop
from seq2seq.decoding.candidates import Candidates, best_tokens, with_prefix
from seq2seq.decoding.interface import Hypotheses, Prefix, StepFunction, check_rows, checked_banned_ids, checked_limits
from seq2seq.decoding.loop import MINUS_INFINITY
from seq2seq.decoding.penalties import Ranking
from seq2seq.decoding.processors import Rule
from seq2seq.decoding.required_phrases import RequiredPhrases, best_of_each_bank


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
    length_penalty: float | tf.Tensor = 1.0,
    length_penalty_kind: str = "average",
    coverage_penalty: float | tf.Tensor = 0.0,
    coverage_penalty_kind: str = "none",
    source_mask: tf.Tensor | None = None,
    rules: Sequence[Rule] = (),
    prefix: Prefix | None = None,
    required: RequiredPhrases | None = None,
    groups: int = 1,
    diversity: float | tf.Tensor = 0.0,
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
        length_penalty_kind: `average`, `wu`, `reward` or `none`; see `seq2seq.decoding.penalties`.
        coverage_penalty: strength of the coverage penalty (beta), 0 for none.
        coverage_penalty_kind: `wu`, `summary` or `none`. Penalties rank complete hypotheses; while they are
            written, the sums of log-probabilities decide.
        source_mask: (batch, source_steps), True for the source tokens that a coverage penalty counts.
        rules: what changes log-probabilities before tokens are chosen; see `seq2seq.decoding.processors`. A
            hypothesis whose every next token is forbidden ends.
        prefix: tokens that the hypotheses start with, whatever the rules say.
        required: phrases that every hypothesis holds, whatever the rules say. The limit must leave room for the
            prefix and all phrases one after the other: a sentence where it does not has no hypothesis.
        groups: parts of equal size that the beam is cut into (diverse beam search, Vijayakumar et al. 2016,
            arXiv:1610.02424). Each step fills the groups in turn; a token then counts for less in the choice by
            `diversity` for each hypothesis of an earlier group that takes it at this step. Two groups may still
            find the same hypothesis.
        diversity: what a token loses for each of them.
        n_best: hypotheses to return a sentence, at most `beam_size`.
        return_attention: whether to keep the attention weights of every step.

    Returns:
        Hypotheses, best first. The scores are those after the penalties.

    Raises:
        ValueError: for an argument that cannot be.
        tf.errors.InvalidArgumentError: for a negative `max_steps`.
    """
    _check_sizes(beam_size, n_best, groups)
    ranking = Ranking(length_penalty_kind, length_penalty, coverage_penalty_kind, coverage_penalty, source_mask)
    ranking.check()
    banned_ids = checked_banned_ids(end_id, start_id, pad_id, banned_ids)
    limits = checked_limits(max_steps, batch_size)
    check_rows(initial_state, batch_size)

    def advance_for(sentences: tf.Tensor) -> Callable[[loop.Progress, loop.Scores], loop.Advanced]:
        limits_now, ranking_now = tf.gather(limits, sentences), ranking.for_sentences(sentences)
        prefix_now = None if prefix is None else prefix.for_sentences(sentences)
        required_now = None if required is None else required.for_sentences(sentences)

        def advance(progress: loop.Progress, scores: loop.Scores) -> loop.Advanced:
            candidates = _candidates(progress, scores, beam_size, banned_ids, end_id, pad_id, prefix_now, required_now)
            by_place = [tf.size(sentences), beam_size, tf.shape(candidates.token_ids)[1]]
            token_ids, gains, log_probs = (tf.reshape(part, by_place) for part in candidates[:3])
            candidates = candidates._replace(token_ids=token_ids, gains=gains, log_probs=log_probs)
            positions, banks = (), None
            if required_now is not None:
                positions = required_now.after(progress.positions, candidates.token_ids)
                banks = required_now.written(positions)
                gains = _with_room(progress, candidates, positions, required_now, limits_now, end_id, prefix_now)
                candidates = candidates._replace(gains=gains)
            chosen, chosen_sums = _choose_places(progress, candidates, banks, groups, diversity)
            advanced = _fill_places(
                progress, candidates, positions, chosen, chosen_sums, scores, limits_now, end_id, pad_id
            )
            progress = advanced.progress
            is_done = _is_done(progress, limits_now, ranking_now, n_best)
            return advanced._replace(progress=progress._replace(is_done=is_done))

        return advance

    progress = loop.start(limits, beam_size, start_id, groups)
    if source_mask is not None:
        shape = tf.shape(source_mask)
        progress = progress._replace(coverage=tf.zeros([shape[0], beam_size, shape[1]]))
    if required is not None:
        progress = progress._replace(positions=required.start(beam_size))
    progress, record = loop.run(
        step,
        advance_for,
        progress,
        loop.repeat_rows(initial_state, beam_size),
        limits=limits,
        rules=rules,
        return_attention=return_attention,
        reorders=True,
    )
    return loop.result(progress, record, _finished_scores(progress, ranking), n_best, pad_id)


def _check_sizes(beam_size: int, n_best: int, groups: int) -> None:
    if beam_size < 1:
        raise ValueError(f"beam_size must be at least 1, but is {beam_size} instead. Use 1 for greedy.")
    if not 1 <= n_best <= beam_size:
        raise ValueError(
            f"n_best must be between 1 and beam_size, which is {beam_size}, but is {n_best} instead. "
            "Ask for fewer hypotheses or widen the beam."
        )
    if groups < 1 or beam_size % groups:
        raise ValueError(
            f"groups must be at least 1 and divide beam_size, which is {beam_size}, but is {groups} instead."
        )


def _candidates(
    progress: loop.Progress,
    scores: loop.Scores,
    beam_size: int,
    banned_ids: Sequence[int],
    end_id: int,
    pad_id: int,
    prefix: Prefix | None,
    required: RequiredPhrases | None,
) -> Candidates:
    """The tokens that each row may take; enough to fill all places of a sentence from one row."""
    # Where phrases are missing, the end is one of the best that may not be taken.
    candidates = best_tokens(scores, beam_size + (required is not None), banned_ids, end_id)
    if required is not None:
        candidates = required.join(candidates, scores, progress.positions, pad_id)
    if prefix is not None:
        candidates = with_prefix(candidates, scores, prefix, progress.number_of_steps)
    return candidates


def _with_room(
    progress: loop.Progress,
    candidates: Candidates,
    positions: tf.Tensor,
    required: RequiredPhrases,
    limits: tf.Tensor,
    end_id: int,
    prefix: Prefix | None,
) -> tf.Tensor:
    """The gains, with minus infinity for tokens that end without all phrases or leave no room for them."""
    missing = required.missing(positions)
    has_room = progress.number_of_steps + 1 + missing <= limits[:, tf.newaxis, tf.newaxis]
    may_be_taken = has_room & ((candidates.token_ids != end_id) | (missing == 0))
    if prefix is not None:
        may_be_taken |= (progress.number_of_steps < prefix.lengths)[:, tf.newaxis, tf.newaxis]
    return tf.where(may_be_taken, candidates.gains, MINUS_INFINITY)


def _choose_places(
    progress: loop.Progress, candidates: Candidates, banks: tf.Tensor | None, groups: int, diversity: float | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose which continuation every place of every sentence takes.

    Returns:
        (batch, beams) int32, which of the sentence's beams * candidates continuations, and its sum, (batch, beams):
        infinity where a hypothesis is kept as it is, minus infinity where there is nothing to take.
    """
    beams, count = progress.sums.shape[1], tf.shape(candidates.gains)[2]
    is_frozen = progress.is_finished | progress.is_done[:, tf.newaxis]
    # A frozen place has one continuation, itself, which comes before all others.
    itself = tf.where(tf.range(count) == 0, float("inf"), MINUS_INFINITY)
    sums = tf.where(is_frozen[..., tf.newaxis], itself, progress.sums[..., tf.newaxis] + candidates.gains)
    size = beams // groups
    chosen: list[tf.Tensor] = []
    for group in range(groups):
        places = slice(group * size, (group + 1) * size)
        priorities = sums[:, places]
        if chosen:
            taken = _taken(candidates.token_ids, chosen, sums)
            equal = candidates.token_ids[:, places, :, tf.newaxis] == taken[:, tf.newaxis, tf.newaxis]
            priorities -= diversity * tf.reduce_sum(tf.cast(equal, tf.float32), axis=-1)
        flat = tf.reshape(priorities, [tf.shape(sums)[0], size * count])
        if banks is None:
            best = tf.math.top_k(flat, size).indices
        else:
            best = best_of_each_bank(flat, tf.reshape(banks[:, places], tf.shape(flat)), size)
        chosen.append(best + group * size * count)
    indices = tf.concat(chosen, axis=1)
    return indices, tf.gather(tf.reshape(sums, [tf.shape(sums)[0], beams * count]), indices, batch_dims=1)


def _taken(token_ids: tf.Tensor, chosen: list[tf.Tensor], sums: tf.Tensor) -> tf.Tensor:
    """The tokens that earlier groups took at this step, (batch, n); -1 for a place that took none."""
    indices = tf.concat(chosen, axis=1)
    shape = [tf.shape(sums)[0], -1]
    taken, reached = (tf.gather(tf.reshape(part, shape), indices, batch_dims=1) for part in (token_ids, sums))
    return tf.where(tf.math.is_finite(reached), taken, -1)


def _fill_places(
    progress: loop.Progress,
    candidates: Candidates,
    positions: Any,
    chosen: tf.Tensor,
    chosen_sums: tf.Tensor,
    scores: loop.Scores,
    limits: tf.Tensor,
    end_id: int,
    pad_id: int,
) -> loop.Advanced:
    """Let every place hold what was chosen for it."""
    batch, beams, count = tf.unstack(tf.shape(candidates.token_ids))
    rows = chosen // count + beams * tf.range(batch)[:, tf.newaxis]

    def of_chosen(values: tf.Tensor) -> tf.Tensor:
        shape = tf.concat([[batch, beams * count], tf.shape(values)[3:]], axis=0)
        return tf.gather(tf.reshape(values, shape), chosen, batch_dims=1)

    # Where there are fewer continuations than places, the rest take impossible ones and hold nothing.
    is_kept = chosen_sums == float("inf")
    is_open = ~is_kept & (chosen_sums > MINUS_INFINITY)
    token_ids = tf.where(is_open, of_chosen(candidates.token_ids), pad_id)
    log_probs = tf.where(is_open, of_chosen(candidates.log_probs), 0.0)
    number_of_steps = progress.number_of_steps + 1
    ends = is_open & ((token_ids == end_id) | (number_of_steps >= limits[:, tf.newaxis]))
    coverage = progress.coverage
    if not isinstance(coverage, tuple):
        received = tf.reshape(scores.attention_weights, tf.shape(coverage))
        is_read = tf.cast(is_open, tf.float32)[..., tf.newaxis]
        coverage = _of_rows(coverage, rows) + is_read * _of_rows(received, rows)
    if not isinstance(positions, tuple):
        positions = tf.where(is_kept[..., tf.newaxis], _of_rows(progress.positions, rows), of_chosen(positions))
    progress = loop.Progress(
        number_of_steps=number_of_steps,
        sentences=progress.sentences,
        last_ids=token_ids,
        sums=tf.where(is_kept, _of_rows(progress.sums, rows), chosen_sums),
        lengths=tf.where(is_open, number_of_steps, _of_rows(progress.lengths, rows)),
        is_finished=(is_kept & _of_rows(progress.is_finished, rows)) | ends,
        is_done=progress.is_done,
        coverage=coverage,
        positions=positions,
    )
    return loop.Advanced(progress, log_probs, rows)


def _of_rows(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Return (batch, beams, ...) values in the order of (batch, beams) rows."""
    shape = tf.shape(values)
    return tf.gather(tf.reshape(values, tf.concat([[shape[0] * shape[1]], shape[2:]], axis=0)), rows)


def _finished_scores(progress: loop.Progress, ranking: Ranking) -> tf.Tensor:
    scores = ranking.scores(progress.sums, progress.lengths, progress.coverage)
    return tf.where(progress.is_finished, scores, MINUS_INFINITY)


def _is_done(progress: loop.Progress, limits: tf.Tensor, ranking: Ranking, n_best: int) -> tf.Tensor:
    """Say for every sentence whether what its search would return cannot change any more."""
    to_beat = tf.math.top_k(_finished_scores(progress, ranking), n_best).values[:, -1]
    open_sums = tf.where(progress.is_finished, MINUS_INFINITY, progress.sums)
    reachable = tf.reduce_max(ranking.bounds(open_sums, limits[:, tf.newaxis], progress.coverage), axis=-1)
    return progress.is_done | (to_beat >= reachable)
