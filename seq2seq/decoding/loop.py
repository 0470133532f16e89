"""The loop that every search shares: run the step function, let the search choose, until all are done.

A search is one function `advance(progress, scores) -> Advanced`: it reads the scores of all rows and says which token
each place takes and which row it continues. Everything else is here: the loop, the rules, the reordering of the
decoder's state, the record of what was taken, and the result, which is traced back from the record at the end.

The loop is two loops. The inner one takes steps; whenever a good part of its sentences are done, the outer one goes on
with the others alone, so that no step is spent on what will not change. Progress, states and scores then have rows for
these sentences only, in the order of `Progress.sentences`; the record always has rows for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.decoding.interface import Hypotheses, StepFunction, lets_sentences_leave, of_sentences
from seq2seq.decoding.processors import Rule

MINUS_INFINITY = -float("inf")

LEAVING_SHARE = 8
"""Sentences leave the loop when more than one in so many are done: it costs a copy of the others' states."""


class Progress(NamedTuple):
    """Where a search is: all that the loop carries besides the states of the decoder and the rules.

    Attributes:
        number_of_steps: () int32, the steps taken.
        sentences: (batch,) int32, which of the sentences that the search began with these are.
        last_ids: (batch, beams) int32, what the step function reads next.
        sums: (batch, beams) float32, what places compete by: the sums of log-probabilities so far, as the
            rules left them; minus infinity for a place that holds nothing.
        lengths: (batch, beams) int32, the tokens taken so far.
        is_finished: (batch, beams) bool: the hypothesis is complete and will not change.
        is_done: (batch,) bool: nothing in the sentence will change.
        coverage: (batch, beams, source_steps) float32, the attention received so far; () where nobody asks.
        positions: (batch, beams, phrases) int32, how far each required phrase is, see `RequiredPhrases`; () where
            none is required.
    """

    number_of_steps: tf.Tensor
    sentences: tf.Tensor
    last_ids: tf.Tensor
    sums: tf.Tensor
    lengths: tf.Tensor
    is_finished: tf.Tensor
    is_done: tf.Tensor
    coverage: Any = ()
    positions: Any = ()


class Scores(NamedTuple):
    """What one step says of all next tokens.

    Attributes:
        logits: (rows, vocabulary) float32; log-probabilities where there are rules.
        ruled: (rows, vocabulary) float32, the log-probabilities as the rules left them, or None where there
            are no rules.
        attention_weights: (rows, source_steps) float32 or None.
        columns: (columns,) int32, the tokens that the logits are of; None where they are of all tokens, in order.
    """

    logits: tf.Tensor
    ruled: tf.Tensor | None
    attention_weights: tf.Tensor | None
    columns: tf.Tensor | None = None


class Advanced(NamedTuple):
    """What a search made of one step.

    Attributes:
        progress: after the step.
        log_probs: (batch, beams) float32, of the tokens taken, by the step function; 0 where none was.
        rows: (batch, beams) int32, the row that each place goes on from, or None where each goes on from its own.
    """

    progress: Progress
    log_probs: tf.Tensor
    rows: tf.Tensor | None = None


class Record(NamedTuple):
    """What was taken at every step, by the places that they were then: (steps, batch, beams) each, for all sentences.

    `rows` are those of a search that no sentence leaves. `attention_weights` is (steps, rows, source_steps) by the row
    that was read. `rows` and it may be None.
    """

    token_ids: tf.Tensor
    log_probs: tf.Tensor
    rows: tf.Tensor | None
    attention_weights: tf.Tensor | None


def start(limits: tf.Tensor, beams: int, start_id: int, groups: int = 1) -> Progress:
    """Return where a search begins: one empty hypothesis a group, the other places unused.

    Args:
        limits: (batch,) int32, the most tokens that a sentence may have. Where it is 0 the search of that
            sentence is over at once, with an empty hypothesis.
        beams: hypotheses a sentence.
        start_id: what the step function reads first.
        groups: parts of equal size that the places are cut into; as many as places: all are used.
    """
    batch = tf.shape(limits)[0]
    is_first = tf.range(beams) % (beams // groups) == 0
    is_empty = limits == 0
    return Progress(
        number_of_steps=tf.constant(0),
        sentences=tf.range(batch),
        last_ids=tf.fill([batch, beams], start_id),
        sums=tf.broadcast_to(tf.where(is_first, 0.0, MINUS_INFINITY), [batch, beams]),
        lengths=tf.zeros([batch, beams], tf.int32),
        is_finished=is_empty[:, tf.newaxis] & is_first,
        is_done=is_empty,
    )


def run(
    step: StepFunction,
    advance_for: Callable[[tf.Tensor], Callable[[Progress, Scores], Advanced]],
    progress: Progress,
    state: Any,
    *,
    limits: tf.Tensor,
    rules: Sequence[Rule],
    return_attention: bool,
    reorders: bool,
) -> tuple[Progress, Record]:
    """Step until every sentence is done.

    Args:
        step: the step function. Where it has `for_sentences`, sentences that are done leave the loop.
        advance_for: gives the search of these of the sentences, (batch,) int32.
        progress: from `start`.
        state: the decoder's first state, one row a place.
        limits: (batch,) int32, the most steps of every sentence.
        rules: what changes the log-probabilities before the search sees them, one after the other.
        return_attention: whether to keep the attention weights of every step.
        reorders: whether places go on from other rows than their own.

    Returns:
        The progress of all sentences at the end and the record of all steps.

    Raises:
        ValueError: where attention weights are needed of a step function that has none.
    """
    needs_attention = return_attention or not isinstance(progress.coverage, tuple)
    longest = tf.maximum(tf.reduce_max(limits), 1)
    batch, beams = tf.unstack(tf.shape(progress.last_ids))
    may_leave = lets_sentences_leave(step)

    def go_on(progress: Progress, states: Any, at_the_end: Any, record: Any) -> tuple[Any, ...]:
        sentences = progress.sentences
        step_now = of_sentences(step, sentences)
        advance = advance_for(sentences)
        rules_now = [rule.for_sentences(sentences) for rule in rules]
        most_done = tf.size(sentences) // LEAVING_SHARE if may_leave else tf.size(sentences) - 1

        def is_stepping(progress: Progress, *_: Any) -> tf.Tensor:
            # The first step is always taken, so that the shape of the attention weights is known at the end.
            done = tf.math.count_nonzero(progress.is_done, dtype=tf.int32)
            is_within_limit = progress.number_of_steps < longest
            return (progress.number_of_steps == 0) | (is_within_limit & (done <= most_done))

        def take_step(progress: Progress, states: Any, record: Any) -> tuple[Progress, Any, Any]:
            decoder_state, rule_states = states
            token_ids = tf.reshape(progress.last_ids, [-1])
            logits, decoder_state, attention_weights = step_now(token_ids, decoder_state)
            if needs_attention and attention_weights is None:
                raise ValueError(
                    "return_attention must be False and coverage_penalty_kind 'none' for a step function without "
                    "attention weights, but one of them is not. Leave it out, or use a decoder with attention."
                )
            scores, rule_states = _scores(logits, token_ids, rules_now, rule_states, progress.number_of_steps)
            scores = scores._replace(columns=getattr(step_now, "columns", None))
            attention_weights = tf.cast(attention_weights, tf.float32) if needs_attention else None
            advanced = advance(progress, scores._replace(attention_weights=attention_weights))
            states = (decoder_state, rule_states)
            if advanced.rows is not None:
                states = _take_rows(states, tf.reshape(advanced.rows, [-1]))
            taken = _taken(advanced, attention_weights, batch)
            record = tuple(
                array.write(progress.number_of_steps, values)
                for array, values in zip(record, _recorded(taken, return_attention, reorders), strict=True)
            )
            return *_with_shapes((advanced.progress, states), shapes[:2]), record

        inner = (progress, states, record)
        inner_shapes = (*shapes[:2], shapes[3])
        progress, states, record = tf.while_loop(is_stepping, take_step, inner, shape_invariants=inner_shapes)
        at_the_end = _put(at_the_end, progress)
        if not may_leave:
            return progress, states, at_the_end, record
        stay = tf.where(~progress.is_done)[:, 0]
        rows = tf.reshape(tf.cast(stay, tf.int32)[:, tf.newaxis] * beams + tf.range(beams), [-1])
        states, progress = _take_rows(states, rows), _of_sentences(progress, stay)
        return *_with_shapes((progress, states), shapes[:2]), at_the_end, record

    def is_running(progress: Progress, *_: Any) -> tf.Tensor:
        # The limit is what ends a search whose logits are not numbers: no comparison with them is ever true.
        is_within_limit = progress.number_of_steps < longest
        return (progress.number_of_steps == 0) | (is_within_limit & ~tf.reduce_all(progress.is_done))

    rule_states = tuple(rule.start(tf.size(progress.last_ids), longest) for rule in rules)
    types = Record(tf.int32, tf.float32, tf.int32, tf.float32)
    record = tuple(
        tf.TensorArray(dtype, size=0, dynamic_size=True, element_shape=[None, None])
        for dtype in _recorded(types, return_attention, reorders)
    )
    variables = (progress, (state, rule_states), progress, record)
    shapes = tf.nest.map_structure(_rows_of_any_number, variables)
    if may_leave:
        _, _, progress, record = tf.while_loop(is_running, go_on, variables, shape_invariants=shapes)
    else:
        _, _, progress, record = go_on(*variables)
    stacked = iter([array.stack() for array in record])
    return progress, Record(
        next(stacked), next(stacked), next(stacked) if reorders else None, next(stacked) if return_attention else None
    )


def _taken(advanced: Advanced, attention_weights: tf.Tensor | None, batch: tf.Tensor) -> Record:
    """What a step took, with rows for all sentences; in those that have left the loop every place keeps its own."""
    progress, rows = advanced.progress, advanced.rows
    sentences = progress.sentences[:, tf.newaxis]
    beams = tf.shape(progress.last_ids)[1]
    own = tf.range(batch * beams)

    def for_all(values: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
        return tf.tensor_scatter_nd_update(others, sentences, values)

    nothing = tf.zeros([batch, beams])
    if rows is not None:
        rows += beams * (sentences - tf.range(tf.size(sentences))[:, tf.newaxis])
        rows = for_all(rows, tf.reshape(own, [batch, beams]))
    if attention_weights is not None:
        source_steps = tf.shape(attention_weights)[1]
        by_sentence = tf.reshape(attention_weights, [-1, beams, source_steps])
        attention_weights = for_all(by_sentence, tf.zeros([batch, beams, source_steps]))
        attention_weights = tf.reshape(attention_weights, [batch * beams, source_steps])
    token_ids = for_all(progress.last_ids, tf.cast(nothing, tf.int32))
    return Record(token_ids, for_all(advanced.log_probs, nothing), rows, attention_weights)


def _put(at_the_end: Progress, progress: Progress) -> Progress:
    """The progress of all sentences, with what these have reached."""
    sentences = progress.sentences[:, tf.newaxis]

    def put(all_values: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return values if values.shape.rank == 0 else tf.tensor_scatter_nd_update(all_values, sentences, values)

    return tf.nest.map_structure(put, at_the_end, progress)


def _of_sentences(progress: Progress, places: tf.Tensor) -> Progress:
    return tf.nest.map_structure(
        lambda values: values if values.shape.rank == 0 else tf.gather(values, places), progress
    )


def repeat_rows(state: Any, times: int) -> Any:
    """Return a state with one row a sentence as one with `times` rows a sentence, lying together."""
    return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, times, axis=0), state)


def result(progress: Progress, record: Record, scores: tf.Tensor, n_best: int, pad_id: int) -> Hypotheses:
    """Rank the places and lay out the best of them.

    Args:
        progress: at the end of the search.
        record: of all steps.
        scores: (batch, beams) float32; minus infinity, or no number, for a place that is not to be returned.
        n_best: hypotheses wanted a sentence.
        pad_id: what stands after the end.
    """
    scores = tf.where(tf.math.is_nan(scores), MINUS_INFINITY, scores)
    scores, order = tf.math.top_k(scores, n_best)
    lengths = tf.where(scores == MINUS_INFINITY, 0, tf.gather(progress.lengths, order, batch_dims=1))
    # A place that holds nothing may come from one that does.
    is_token = tf.range(progress.number_of_steps) < lengths[..., tf.newaxis]
    batch, beams = tf.unstack(tf.shape(progress.last_ids))
    path = _path(record.rows, order + beams * tf.range(batch)[:, tf.newaxis], progress.number_of_steps)
    token_log_probs = tf.where(is_token, _along(path, record.log_probs), 0.0)
    attention_weights = None
    if record.attention_weights is not None:
        read = path if record.rows is None else tf.gather(_by_row(record.rows), path, batch_dims=1)
        weights = tf.gather(record.attention_weights, read, batch_dims=1)
        attention_weights = tf.where(is_token[..., tf.newaxis], tf.transpose(weights, [1, 2, 0, 3]), 0.0)
    return Hypotheses(
        token_ids=tf.where(is_token, _along(path, record.token_ids), pad_id),
        scores=scores,
        lengths=lengths,
        attention_weights=attention_weights,
        log_probs=tf.where(scores == MINUS_INFINITY, MINUS_INFINITY, tf.reduce_sum(token_log_probs, axis=-1)),
        token_log_probs=token_log_probs,
    )


def _scores(
    logits: tf.Tensor, token_ids: tf.Tensor, rules: Sequence[Rule], states: tuple[Any, ...], number_of_steps: tf.Tensor
) -> tuple[Scores, tuple[Any, ...]]:
    logits = tf.cast(logits, tf.float32)
    if not rules:
        return Scores(logits, None, None), ()
    log_probs = ruled = tf.nn.log_softmax(logits)
    new_states = []
    for rule, state in zip(rules, states, strict=True):
        ruled, state = rule(ruled, token_ids, state, number_of_steps)
        new_states.append(state)
    return Scores(log_probs, ruled, None), tuple(new_states)


def _recorded(values: Record, return_attention: bool, reorders: bool) -> list[Any]:
    """What a search needs of a record, in its order."""
    kept = [values.token_ids, values.log_probs]
    return kept + [values.rows] * reorders + [values.attention_weights] * return_attention


def _path(rows: tf.Tensor | None, places: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """The place that each hypothesis had after every step, (steps, batch, n_best), from those at the end."""
    if rows is None:
        return tf.repeat(places[tf.newaxis], steps, axis=0)
    by_row = _by_row(rows)

    def back(step: tf.Tensor, places: tf.Tensor, path: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        return step + 1, tf.gather(by_row[steps - 1 - step], places), path.write(step, places)

    path = tf.TensorArray(tf.int32, size=steps, element_shape=places.shape)
    _, _, path = tf.while_loop(lambda step, *_: step < steps, back, (0, places, path))
    return tf.reverse(path.stack(), [0])


def _by_row(values: tf.Tensor) -> tf.Tensor:
    """(steps, batch, beams) values as (steps, rows)."""
    steps, batch, beams = tf.unstack(tf.shape(values))
    return tf.reshape(values, [steps, batch * beams])


def _along(path: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """What stands in (steps, batch, beams) values along a path, (batch, n_best, steps)."""
    return tf.transpose(tf.gather(_by_row(values), path, batch_dims=1), [1, 2, 0])


def _take_rows(state: Any, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), state)


def _rows_of_any_number(leaf: tf.Tensor | tf.TensorArray) -> tf.TensorShape:
    if isinstance(leaf, tf.TensorArray):
        return tf.TensorShape(None)
    shape = leaf.shape
    return shape if shape.rank in (None, 0) else tf.TensorShape([None, *shape[1:]])


def _with_shapes(values: Any, shapes: Any) -> Any:
    return tf.nest.map_structure(tf.ensure_shape, values, shapes)
