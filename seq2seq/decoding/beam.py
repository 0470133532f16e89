"""Beam search with frozen finished hypotheses.

Every sentence has `beam_size` beams. At each step every token continues the open hypotheses, and the best continuations
by the sum of their log-probabilities fill the open beams. A finished hypothesis keeps its beam and is neither continued
nor displaced, so the search of a sentence narrows as its hypotheses finish. It is over when no beam is open, or when no
open hypothesis can reach a better score than the `n_best` finished ones. With as many beams as there are hypotheses the
search is exhaustive.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from seq2seq.decoding.candidates import Candidates, best_tokens, force_prefix
from seq2seq.decoding.interface import MINUS_INFINITY, Hypotheses, SearchConfig, StepFunction
from seq2seq.decoding.loop import BeamState, BeamUpdate, Scores, search
from seq2seq.decoding.penalties import Ranking
from seq2seq.decoding.required_phrases import RequiredPhrases, best_of_each_bank
from seq2seq.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BeamConfig(SearchConfig):
    """Arguments of beam search.

    Groups cut the beam into parts of equal size (diverse beam search, Vijayakumar et al. 2016, arXiv:1610.02424). Each
    step fills them in turn; a token then counts for less by `diversity` for each hypothesis of an earlier group that
    takes it at this step. Two groups may still find the same hypothesis.
    """

    per_sentence = (*SearchConfig.per_sentence, "ranking", "required")

    beam_size: int
    n_best: int = 1
    ranking: Ranking = dataclasses.field(default_factory=Ranking)
    required: RequiredPhrases | None = None  # a sentence whose limit has no room for them has no hypothesis
    beam_groups: int = 1
    diversity: float | tf.Tensor = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beam(self.beam_size, self.n_best, self.beam_groups)


def check_beam(beam_size: int, n_best: int, beam_groups: int) -> None:
    """Raise an ArgumentError unless the sizes of a beam fit together."""
    if beam_size < 1:
        raise ArgumentError("beam_size", "at least 1", beam_size, "Use 1 for greedy search.")
    if not 1 <= n_best <= beam_size:
        raise ArgumentError("n_best", f"from 1 to beam_size ({beam_size})", n_best, "Widen the beam.")
    if beam_groups < 1 or beam_size % beam_groups:
        raise ArgumentError("beam_groups", f"a divisor of beam_size ({beam_size})", beam_groups)


def beam_search(step: StepFunction, initial_state: Any, config: BeamConfig) -> Hypotheses:
    """Follow the best `beam_size` hypotheses of every sentence and return the best `n_best` of them.

    The decoder's first state has one row per sentence. Works eagerly and in a graph, with batches and limits of any
    size; what is found for a sentence does not depend on the others.

    >>> # After 2 comes 4 with 0.6 or 5 with 0.4, after 4 the end (3) with 0.5 or 5, after 5 always the end.
    >>> after = {2: [0, 0, 0, 0, 0.6, 0.4], 4: [0, 0, 0, 0.5, 0, 0.5], 5: [0, 0, 0, 1.0, 0, 0]}
    >>> table = tf.math.log([after.get(token, [1.0] * 6) for token in range(6)])
    >>> def step(token_ids, state):
    ...     return tf.gather(table, token_ids), state, None
    >>> configs = [BeamConfig(beam_size=size, max_steps=[3], start_id=2, end_id=3) for size in (1, 2)]
    >>> [beam_search(step, (), config).token_ids[0, 0].numpy().tolist() for config in configs]
    [[4, 3], [5, 3]]
    """
    coverage: Any = ()
    if config.ranking.source_mask is not None:
        shape = tf.shape(config.ranking.source_mask)
        coverage = tf.zeros([shape[0], config.beam_size, shape[1]])
    return search(
        step,
        initial_state,
        config,
        _advance,
        beams=config.beam_size,
        groups=config.beam_groups,
        n_best=config.n_best,
        reorders=True,
        rank=lambda beams: _finished_scores(config, beams),
        coverage=coverage,
        positions=() if config.required is None else config.required.start(config.beam_size),
    )


def _advance(config: BeamConfig, beams: BeamState, scores: Scores) -> BeamUpdate:
    # While phrases are missing, the end is a candidate that may not be taken.
    candidates = best_tokens(config, scores, config.beam_size + (config.required is not None))
    if config.required is not None:
        candidates = config.required.extend_candidates(candidates, scores, beams.positions, config.pad_id)
    candidates = force_prefix(config, candidates, scores, beams.num_steps)
    by_beam = [tf.size(beams.sentences), config.beam_size, tf.shape(candidates.token_ids)[1]]
    token_ids, gains, log_probs = (tf.reshape(part, by_beam) for part in candidates[:3])
    candidates = candidates._replace(token_ids=token_ids, gains=gains, log_probs=log_probs)
    if config.required is not None:
        candidates = _leave_room(config, config.required, beams, candidates)
    chosen, sums = _choose(config, beams, candidates)
    update = _fill_beams(config, beams, candidates, scores, chosen, sums)
    return update._replace(beams=update.beams._replace(is_done=_is_done(config, update.beams)))


def _leave_room(config: BeamConfig, required: RequiredPhrases, beams: BeamState, candidates: Candidates) -> Candidates:
    """Forbid tokens that end a hypothesis without all phrases or leave no room for them."""
    positions = required.advance(beams.positions, candidates.token_ids)
    missing = required.num_missing(positions)
    has_room = beams.num_steps + 1 + missing <= config.max_steps[:, tf.newaxis, tf.newaxis]
    is_allowed = has_room & ((candidates.token_ids != config.end_id) | (missing == 0))
    if config.prefix is not None:
        is_allowed |= (beams.num_steps < config.prefix.lengths)[:, tf.newaxis, tf.newaxis]
    return candidates._replace(gains=tf.where(is_allowed, candidates.gains, MINUS_INFINITY), positions=positions)


def _choose(config: BeamConfig, beams: BeamState, candidates: Candidates) -> tuple[tf.Tensor, tf.Tensor]:
    """Choose one of the beams * candidates continuations for every beam, `(batch, beams)`, and return it with its sum.

    The sum is infinity where a hypothesis stays as it is, minus infinity where there is nothing to take.
    """
    count = tf.shape(candidates.gains)[2]
    is_frozen = beams.is_finished | beams.is_done[:, tf.newaxis]
    # A frozen beam has one continuation, itself, which comes before all others.
    itself = tf.where(tf.range(count) == 0, float("inf"), MINUS_INFINITY)
    sums = tf.where(is_frozen[..., tf.newaxis], itself, beams.sums[..., tf.newaxis] + candidates.gains)
    size = config.beam_size // config.beam_groups
    banks = None if config.required is None else config.required.num_matched(candidates.positions)
    chosen: list[tf.Tensor] = []
    for group in range(config.beam_groups):
        members = slice(group * size, (group + 1) * size)
        priorities = sums[:, members]
        if chosen:
            taken = _taken(candidates.token_ids, chosen, sums)
            equal = candidates.token_ids[:, members, :, tf.newaxis] == taken[:, tf.newaxis, tf.newaxis]
            priorities -= config.diversity * tf.reduce_sum(tf.cast(equal, tf.float32), axis=-1)
        flat = tf.reshape(priorities, [tf.shape(sums)[0], size * count])
        if banks is None:
            best = tf.math.top_k(flat, size).indices
        else:
            best = best_of_each_bank(flat, tf.reshape(banks[:, members], tf.shape(flat)), size)
        chosen.append(best + group * size * count)
    indices = tf.concat(chosen, axis=1)
    return indices, _gather_chosen(sums, indices)


def _gather_chosen(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Gather `(batch, beams, candidates, ...)` values of the continuations chosen for each beam."""
    batch, beams, count, *rest = tf.unstack(tf.shape(values))
    return tf.gather(tf.reshape(values, [batch, beams * count, *rest]), chosen, batch_dims=1)


def _taken(token_ids: tf.Tensor, chosen: list[tf.Tensor], sums: tf.Tensor) -> tf.Tensor:
    """Return the tokens that earlier groups took at this step, `(batch, n)`, -1 where they took none."""
    indices = tf.concat(chosen, axis=1)
    taken, reached = (_gather_chosen(part, indices) for part in (token_ids, sums))
    return tf.where(tf.math.is_finite(reached), taken, -1)


def _fill_beams(
    config: BeamConfig, beams: BeamState, candidates: Candidates, scores: Scores, chosen: tf.Tensor, sums: tf.Tensor
) -> BeamUpdate:
    """Continue every beam as chosen."""
    batch, size, count = tf.unstack(tf.shape(candidates.token_ids))
    rows = chosen // count + size * tf.range(batch)[:, tf.newaxis]

    def continued(values: tf.Tensor) -> tf.Tensor:
        """Gather `(batch, beams, ...)` values of the beams that are continued."""
        batch, size, *rest = tf.unstack(tf.shape(values))
        return tf.gather(tf.reshape(values, [batch * size, *rest]), rows)

    # With fewer continuations than beams, the remaining beams take forbidden ones and stay unused.
    is_frozen = sums == float("inf")
    is_open = ~is_frozen & (sums > MINUS_INFINITY)
    token_ids = tf.where(is_open, _gather_chosen(candidates.token_ids, chosen), config.pad_id)
    log_probs = tf.where(is_open, _gather_chosen(candidates.log_probs, chosen), 0.0)
    num_steps = beams.num_steps + 1
    ends = is_open & ((token_ids == config.end_id) | (num_steps >= config.max_steps[:, tf.newaxis]))
    coverage = beams.coverage
    if not isinstance(coverage, tuple):
        received = tf.reshape(scores.attention_weights, tf.shape(coverage))
        coverage = continued(coverage) + tf.cast(is_open, tf.float32)[..., tf.newaxis] * continued(received)
    positions = beams.positions
    if config.required is not None:
        chosen_positions = _gather_chosen(candidates.positions, chosen)
        positions = tf.where(is_frozen[..., tf.newaxis], continued(positions), chosen_positions)
    beams = beams._replace(
        num_steps=num_steps,
        last_ids=token_ids,
        sums=tf.where(is_frozen, continued(beams.sums), sums),
        lengths=tf.where(is_open, num_steps, continued(beams.lengths)),
        is_finished=(is_frozen & continued(beams.is_finished)) | ends,
        coverage=coverage,
        positions=positions,
    )
    return BeamUpdate(beams, log_probs, rows)


def _finished_scores(config: BeamConfig, beams: BeamState) -> tf.Tensor:
    scores = config.ranking.scores(beams.sums, beams.lengths, beams.coverage)
    return tf.where(beams.is_finished, scores, MINUS_INFINITY)


def _is_done(config: BeamConfig, beams: BeamState) -> tf.Tensor:
    """Say for every sentence whether the result of its search cannot change."""
    to_beat = tf.math.top_k(_finished_scores(config, beams), config.n_best).values[:, -1]
    open_sums = tf.where(beams.is_finished, MINUS_INFINITY, beams.sums)
    bounds = config.ranking.bounds(open_sums, config.max_steps[:, tf.newaxis], beams.coverage)
    return beams.is_done | (to_beat >= tf.reduce_max(bounds, axis=-1))
