"""The loop that all searches share: run the step function, let the search choose, until all sentences are done.

A search is one function `advance(config, beams, scores) -> BeamUpdate`: it reads the scores of all rows and returns
which token each beam takes and which row it continues. Everything else is here: the loop, the logits processors, the
reordering of the decoder's state, the record of all steps, and the hypotheses, traced back from the record at the end.

The loop is two nested loops. The inner one takes steps; whenever enough sentences are done, the outer one removes them
from the batch, so that no step is spent on what cannot change. Beams, states and scores then have rows for the
remaining sentences only, in the order of `BeamState.sentences`; the record always has rows for all sentences.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.decoding.interface import MINUS_INFINITY, Hypotheses, LogitsProcessor, SearchConfig, StepFunction
from seq2seq.errors import ArgumentError

COMPACTION_SHARE = 8
"""Finished sentences are removed once they are more than one in this many: it copies the states of the others."""


class BeamState(NamedTuple):
    """Variables of the loop besides the states of the decoder and of the logits processors."""

    num_steps: tf.Tensor  # () int32
    sentences: tf.Tensor  # (batch,) int32, indices into the initial batch
    last_ids: tf.Tensor  # (batch, beams) int32, what the step function reads next
    sums: tf.Tensor  # (batch, beams) float32, of processed log-probabilities; minus infinity for an unused beam
    lengths: tf.Tensor  # (batch, beams) int32
    is_finished: tf.Tensor  # (batch, beams) bool: the hypothesis is complete
    is_done: tf.Tensor  # (batch,) bool: the result of the sentence cannot change
    coverage: Any = ()  # (batch, beams, source_steps) float32, attention received, where a coverage penalty needs it
    positions: Any = ()  # (batch, beams, phrases) int32, matched tokens of each required phrase, if there are any


class Scores(NamedTuple):
    """Scores of all next tokens after one step."""

    logits: tf.Tensor  # (rows, vocabulary) float32; log-probabilities where there are processors
    processed: tf.Tensor | None  # (rows, vocabulary) float32, log-probabilities after the processors, if there are any
    attention_weights: tf.Tensor | None = None  # (rows, source_steps) float32
    columns: tf.Tensor | None = None  # (columns,) int32, tokens of the logits; None: all tokens, in order


class BeamUpdate(NamedTuple):
    """Result of a search's `advance`."""

    beams: BeamState
    log_probs: tf.Tensor  # (batch, beams) float32, of the tokens taken, as the step function gives them; 0 where none
    rows: tf.Tensor | None = None  # (batch, beams) int32, the row that each beam continues; None: its own


class Record(NamedTuple):
    """Tokens taken at every step, by the beams of that step: `(steps, batch, beams)` each, for all sentences."""

    token_ids: tf.Tensor
    log_probs: tf.Tensor
    rows: tf.Tensor | None  # as in `BeamUpdate`, for the initial batch
    attention_weights: tf.Tensor | None  # (steps, rows, source_steps), by the row that was read


Advance = Callable[[Any, BeamState, Scores], BeamUpdate]


def search(
    step: StepFunction,
    state: Any,
    config: SearchConfig,
    advance: Advance,
    *,
    beams: int = 1,
    groups: int = 1,
    n_best: int = 1,
    reorders: bool = False,
    rank: Callable[[BeamState], tf.Tensor] = lambda beams: beams.sums,
    coverage: Any = (),
    positions: Any = (),
) -> Hypotheses:
    """Run a search from its first step to its hypotheses.

    `advance` gets the configuration of the sentences that are left; beams of one group start as one hypothesis;
    `reorders` says that beams continue other rows than their own; `rank` scores the beams at the end.
    """
    config = dataclasses.replace(config, max_steps=_checked_limits(config.max_steps))
    for leaf in tf.nest.flatten(state):
        if not leaf.shape[:1].is_compatible_with(config.max_steps.shape):
            shape, advice = tuple(leaf.shape), "The search repeats rows for the beams itself."
            raise ArgumentError("state", f"of {config.max_steps.shape[0]} rows, one per sentence", shape, advice)
    start = _start(config, beams, groups)._replace(coverage=coverage, positions=positions)
    if beams > 1:
        state = tf.nest.map_structure(lambda leaf: tf.repeat(leaf, beams, axis=0), state)
    end, record = _Loop(step, config, advance, start, reorders).run(state)
    return _hypotheses(end, record, rank(end), n_best, config.pad_id)


def append_tokens(config: SearchConfig, beams: BeamState, token_ids: tf.Tensor, log_probs: tf.Tensor) -> BeamUpdate:
    """Append a token, `(batch, beams)`, to every open hypothesis."""
    is_open = ~beams.is_finished
    token_ids = tf.where(is_open, token_ids, config.pad_id)
    log_probs = tf.where(is_open, log_probs, 0.0)
    num_steps = beams.num_steps + 1
    is_at_end = (token_ids == config.end_id) | (num_steps >= config.max_steps[:, tf.newaxis])
    is_finished = beams.is_finished | is_at_end
    beams = beams._replace(
        num_steps=num_steps,
        last_ids=token_ids,
        sums=beams.sums + log_probs,
        lengths=tf.where(is_open, num_steps, beams.lengths),
        is_finished=is_finished,
        is_done=tf.reduce_all(is_finished, axis=-1),
    )
    return BeamUpdate(beams, log_probs)


def _checked_limits(max_steps: Any) -> tf.Tensor:
    limits = tf.cast(tf.convert_to_tensor(max_steps), tf.int32)
    if limits.shape.rank not in (1, None):
        raise ArgumentError("max_steps", "of shape (batch,), one limit per sentence", tuple(limits.shape))
    check = tf.debugging.assert_non_negative(limits, message="max_steps must be at least 0 for every sentence.")
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(limits)


def _start(config: SearchConfig, beams: int, groups: int) -> BeamState:
    batch = tf.shape(config.max_steps)[0]
    is_first = tf.range(beams) % (beams // groups) == 0
    is_empty = config.max_steps == 0
    return BeamState(
        num_steps=tf.constant(0),
        sentences=tf.range(batch),
        last_ids=tf.fill([batch, beams], config.start_id),
        sums=tf.broadcast_to(tf.where(is_first, 0.0, MINUS_INFINITY), [batch, beams]),
        lengths=tf.zeros([batch, beams], tf.int32),
        is_finished=is_empty[:, tf.newaxis] & is_first,
        is_done=is_empty,
    )


class _Loop:
    """Both loops of one search; its variables are beams, states of decoder and processors, the end, and the record."""

    def __init__(
        self, step: StepFunction, config: SearchConfig, advance: Advance, start: BeamState, reorders: bool
    ) -> None:
        self.step: Any = step
        self.config, self.advance, self.start, self.reorders = config, advance, start, reorders
        self.compacts = hasattr(step, "for_sentences")
        self.needs_attention = config.return_attention or not isinstance(start.coverage, tuple)
        self.longest = tf.maximum(tf.reduce_max(config.max_steps), 1)
        self.batch, self.beams = tf.unstack(tf.shape(start.last_ids))

    def run(self, state: Any) -> tuple[BeamState, Record]:
        """Return the beams of all sentences at the end and the record of all steps."""
        rows = tf.size(self.start.last_ids)
        processor_states = tuple(processor.start(rows, self.longest) for processor in self.config.processors)
        weights = tf.float32 if self.config.return_attention else None
        types = Record(tf.int32, tf.float32, tf.int32 if self.reorders else None, weights)
        options: dict[str, Any] = {"size": 0, "dynamic_size": True, "element_shape": [None, None]}
        record = tuple(tf.TensorArray(dtype, **options) for dtype in filter(None, types))
        variables = (self.start, (state, processor_states), self.start, record)
        self.shapes = tf.nest.map_structure(_any_number_of_rows, variables)
        if self.compacts:
            # The limit ends a search whose logits are not numbers: comparisons with them are never true.
            variables = tf.while_loop(
                lambda beams, *_: self._is_running(beams, ~tf.reduce_all(beams.is_done)),
                self._run_until_compaction,
                variables,
                shape_invariants=self.shapes,
            )
        else:
            variables = self._run_until_compaction(*variables)
        _, _, end, record = variables
        stacked = iter([array.stack() for array in record])
        return end, Record(*(None if dtype is None else next(stacked) for dtype in types))

    def _is_running(self, beams: BeamState, has_work: tf.Tensor) -> tf.Tensor:
        # The first step is always taken, so that the shape of the attention weights is known at the end.
        return (beams.num_steps == 0) | ((beams.num_steps < self.longest) & has_work)

    def _run_until_compaction(self, beams: BeamState, states: Any, end: BeamState, record: Any) -> tuple[Any, ...]:
        sentences = beams.sentences
        step = self.step.for_sentences(sentences) if self.compacts else self.step
        config = self.config.for_sentences(sentences)
        most_done = tf.size(sentences) // COMPACTION_SHARE if self.compacts else tf.size(sentences) - 1

        def is_running(beams: BeamState, *_: Any) -> tf.Tensor:
            return self._is_running(beams, tf.math.count_nonzero(beams.is_done, dtype=tf.int32) <= most_done)

        beams, states, record = tf.while_loop(
            is_running,
            lambda *variables: self._take_step(step, config, *variables),
            (beams, states, record),
            shape_invariants=(*self.shapes[:2], self.shapes[3]),
        )
        end = _scatter_sentences(end, beams)
        if not self.compacts:
            return beams, states, end, record
        remaining = tf.where(~beams.is_done)[:, 0]
        rows = tf.reshape(tf.cast(remaining, tf.int32)[:, tf.newaxis] * self.beams + tf.range(self.beams), [-1])
        states, beams = _gather_rows(states, rows), _gather_rows(beams, remaining)
        return *_with_shapes((beams, states), self.shapes[:2]), end, record

    def _take_step(
        self, step: Any, config: SearchConfig, beams: BeamState, states: Any, record: Any
    ) -> tuple[BeamState, Any, Any]:
        decoder_state, processor_states = states
        token_ids = tf.reshape(beams.last_ids, [-1])
        logits, decoder_state, attention_weights = step(token_ids, decoder_state)
        if self.needs_attention and attention_weights is None:
            raise ArgumentError("attention_weights", "given for return_attention or a coverage penalty", None)
        scores, processor_states = _scores(logits, token_ids, config.processors, processor_states, beams.num_steps)
        attention_weights = tf.cast(attention_weights, tf.float32) if self.needs_attention else None
        scores = scores._replace(attention_weights=attention_weights, columns=getattr(step, "columns", None))
        update = self.advance(config, beams, scores)
        states = (decoder_state, processor_states)
        if update.rows is not None:
            states = _gather_rows(states, tf.reshape(update.rows, [-1]))
        taken = self._for_initial_batch(update, attention_weights if config.return_attention else None)
        fields = [values for values in taken if values is not None]
        record = tuple(array.write(beams.num_steps, values) for array, values in zip(record, fields, strict=True))
        return *_with_shapes((update.beams, states), self.shapes[:2]), record

    def _for_initial_batch(self, update: BeamUpdate, attention_weights: tf.Tensor | None) -> Record:
        """Give what a step took rows for all sentences; beams of removed sentences continue themselves."""
        sentences, rows = update.beams.sentences[:, tf.newaxis], update.rows
        shape = [self.batch, self.beams]

        def scatter(values: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
            return tf.tensor_scatter_nd_update(others, sentences, values)

        if rows is not None:
            rows += self.beams * (sentences - tf.range(tf.size(sentences))[:, tf.newaxis])
            rows = scatter(rows, tf.reshape(tf.range(self.batch * self.beams), shape))
        if attention_weights is not None:
            steps = tf.shape(attention_weights)[1]
            by_sentence = tf.reshape(attention_weights, [-1, self.beams, steps])
            attention_weights = scatter(by_sentence, tf.zeros([*shape, steps]))
            attention_weights = tf.reshape(attention_weights, [self.batch * self.beams, steps])
        token_ids = scatter(update.beams.last_ids, tf.zeros(shape, tf.int32))
        return Record(token_ids, scatter(update.log_probs, tf.zeros(shape)), rows, attention_weights)


def _scores(
    logits: tf.Tensor, token_ids: tf.Tensor, processors: Sequence[LogitsProcessor], states: Any, num_steps: tf.Tensor
) -> tuple[Scores, tuple[Any, ...]]:
    logits = tf.cast(logits, tf.float32)
    if not processors:
        return Scores(logits, None), ()
    log_probs = processed = tf.nn.log_softmax(logits)
    new_states = []
    for processor, state in zip(processors, states, strict=True):
        processed, state = processor(processed, token_ids, state, num_steps)
        new_states.append(state)
    return Scores(log_probs, processed), tuple(new_states)


def _hypotheses(end: BeamState, record: Record, scores: tf.Tensor, n_best: int, pad_id: int) -> Hypotheses:
    """Rank the beams by `(batch, beams)` scores and lay out the best; minus infinity and NaN are no hypothesis."""
    scores = tf.where(tf.math.is_nan(scores), MINUS_INFINITY, scores)
    scores, order = tf.math.top_k(scores, n_best)
    # A beam without a hypothesis may continue one that has some tokens.
    lengths = tf.where(scores == MINUS_INFINITY, 0, tf.gather(end.lengths, order, batch_dims=1))
    is_token = tf.range(end.num_steps) < lengths[..., tf.newaxis]
    batch, beams = tf.unstack(tf.shape(end.last_ids))
    path = _trace_back(record.rows, order + beams * tf.range(batch)[:, tf.newaxis], end.num_steps)
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


def _trace_back(rows: tf.Tensor | None, places: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Return the row of each hypothesis after every step, `(steps, batch, n_best)`, from its row at the end."""
    if rows is None:
        return tf.repeat(places[tf.newaxis], steps, axis=0)
    by_row = _by_row(rows)

    def back(step: tf.Tensor, places: tf.Tensor, path: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        return step + 1, tf.gather(by_row[steps - 1 - step], places), path.write(step, places)

    path = tf.TensorArray(tf.int32, size=steps, element_shape=places.shape)
    _, _, path = tf.while_loop(lambda step, *_: step < steps, back, (0, places, path))
    return tf.reverse(path.stack(), [0])


def _by_row(values: tf.Tensor) -> tf.Tensor:
    """Reshape `(steps, batch, beams)` values to `(steps, rows)`."""
    steps, batch, beams = tf.unstack(tf.shape(values))
    return tf.reshape(values, [steps, batch * beams])


def _along(path: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Gather `(steps, batch, beams)` values along a path, `(batch, n_best, steps)`."""
    return tf.transpose(tf.gather(_by_row(values), path, batch_dims=1), [1, 2, 0])


def _scatter_sentences(end: BeamState, beams: BeamState) -> BeamState:
    """Write the beams of the remaining sentences into those of all sentences."""
    sentences = beams.sentences[:, tf.newaxis]

    def scatter(all_values: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        return values if values.shape.rank == 0 else tf.tensor_scatter_nd_update(all_values, sentences, values)

    return tf.nest.map_structure(scatter, end, beams)


def _gather_rows(values: Any, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda leaf: leaf if leaf.shape.rank == 0 else tf.gather(leaf, rows), values)


def _any_number_of_rows(leaf: tf.Tensor | tf.TensorArray) -> tf.TensorShape:
    if isinstance(leaf, tf.TensorArray):
        return tf.TensorShape(None)
    shape = leaf.shape
    return shape if shape.rank in (None, 0) else tf.TensorShape([None, *shape[1:]])


def _with_shapes(values: Any, shapes: Any) -> Any:
    return tf.nest.map_structure(tf.ensure_shape, values, shapes)
