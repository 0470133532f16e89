"""The loop that every search shares: run the step function, let the search choose, until all are done.

A search is one function `advance(progress, logits) -> (progress, parents)`: it reads the logits of all rows
and says which token each row takes and which row it continues. Everything else is here: the loop, the
reordering of the decoder's state, the record of tokens, the attention weights and the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.decoding.hypotheses import Hypotheses, StepFunction


class Progress(NamedTuple):
    """Where a search is: all that the loop carries besides the decoder's state.

    Attributes:
        number_of_steps: () int32, the steps taken.
        last_ids: (batch, beams) int32, what the step function reads next.
        history: (batch, beams, limit, 2) int32: for each step the token taken and the row that was read for
            it. The row says later which attention weights belong to the step, so that those, which are large,
            need no reordering while the search runs.
        log_probs: (batch, beams) float32, the sums so far; minus infinity for a beam that holds nothing.
        lengths: (batch, beams) int32, the tokens taken so far.
        is_finished: (batch, beams) bool: the hypothesis is complete and will not change.
        is_done: (batch,) bool: nothing in the sentence will change.
    """

    number_of_steps: tf.Tensor
    last_ids: tf.Tensor
    history: tf.Tensor
    log_probs: tf.Tensor
    lengths: tf.Tensor
    is_finished: tf.Tensor
    is_done: tf.Tensor


Advance = Callable[[Progress, tf.Tensor], tuple[Progress, tf.Tensor | None]]


def start(limits: tf.Tensor, beams: int, start_id: int, pad_id: int) -> Progress:
    """Return where a search begins: one empty hypothesis a sentence, the other beams unused.

    Args:
        limits: (batch,) int32, the most tokens that a sentence may have. Where it is 0 the search of that
            sentence is over at once, with an empty hypothesis.
        beams: hypotheses a sentence.
        start_id: what the step function reads first.
        pad_id: fills the places that no token takes.
    """
    batch = tf.shape(limits)[0]
    longest = tf.maximum(tf.reduce_max(limits), 1)
    is_first = tf.range(beams) == 0
    is_empty = limits == 0
    padding = tf.fill([batch, beams, longest, 1], pad_id)
    return Progress(
        number_of_steps=tf.constant(0),
        last_ids=tf.fill([batch, beams], start_id),
        history=tf.concat([padding, tf.zeros_like(padding)], axis=-1),
        log_probs=tf.broadcast_to(tf.where(is_first, 0.0, -float("inf")), [batch, beams]),
        lengths=tf.zeros([batch, beams], tf.int32),
        is_finished=is_empty[:, tf.newaxis] & is_first,
        is_done=is_empty,
    )


def record(progress: Progress, token_ids: tf.Tensor, rows: tf.Tensor, is_open: tf.Tensor) -> tf.Tensor:
    """Return the history with this step's tokens written where the hypothesis is still open."""
    is_now = tf.range(tf.shape(progress.history)[2]) == progress.number_of_steps
    entries = tf.stack([token_ids, rows], axis=-1)[:, :, tf.newaxis]
    is_written = (is_open[..., tf.newaxis] & is_now)[..., tf.newaxis]
    return tf.where(is_written, entries, progress.history)


def run(
    step: StepFunction, advance: Advance, progress: Progress, state: Any, return_attention: bool
) -> tuple[Progress, tf.Tensor | None]:
    """Step until every sentence is done.

    Args:
        step: the step function.
        advance: the search: `(progress, logits) -> (progress, rows)`. The rows are (batch, beams), the row of
            the state that each beam goes on from, or None where every beam goes on from its own.
        progress: from `start`.
        state: the decoder's first state, one row a beam.
        return_attention: whether to keep the attention weights of every step.

    Returns:
        The progress at the end, and (steps, rows, source_steps) float32 attention weights or None.

    Raises:
        ValueError: where attention weights are asked of a step function that has none.
    """

    def is_running(progress: Progress, *_: Any) -> tf.Tensor:
        # The first step is always taken, so that the shape of the attention weights is known at the end. The limit
        # is what ends a search whose logits are not numbers: no comparison with them is ever true.
        is_within_limit = progress.number_of_steps < tf.shape(progress.history)[2]
        return (progress.number_of_steps == 0) | (is_within_limit & ~tf.reduce_all(progress.is_done))

    def take_step(
        progress: Progress, state: Any, weights: tuple[tf.TensorArray, ...]
    ) -> tuple[Progress, Any, tuple[tf.TensorArray, ...]]:
        logits, state, attention_weights = step(tf.reshape(progress.last_ids, [-1]), state)
        if return_attention and attention_weights is None:
            raise ValueError(
                "return_attention must be False for a step function without attention weights, but is True "
                "instead. Leave it out, or use a decoder with attention."
            )
        weights = tuple(
            array.write(progress.number_of_steps, tf.cast(attention_weights, tf.float32)) for array in weights
        )
        progress, rows = advance(progress, logits)
        if rows is not None:
            state = _take_rows(state, tf.reshape(rows, [-1]))
        return *_with_shapes((progress, state), shapes[:2]), weights

    array = tf.TensorArray(tf.float32, size=0, dynamic_size=True, element_shape=[None, None])
    variables = (progress, state, (array,) if return_attention else ())
    shapes = tf.nest.map_structure(_rows_of_any_number, variables)
    progress, _, weights = tf.while_loop(is_running, take_step, variables, shape_invariants=shapes)
    return progress, weights[0].stack() if return_attention else None


def repeat_rows(state: Any, times: int) -> Any:
    """Return a state with one row a sentence as one with `times` rows a sentence, lying together."""
    return tf.nest.map_structure(lambda leaf: tf.repeat(leaf, times, axis=0), state)


def result(
    progress: Progress, attention_weights: tf.Tensor | None, scores: tf.Tensor, n_best: int, pad_id: int
) -> Hypotheses:
    """Rank the beams and lay out the best of them.

    Args:
        progress: at the end of the search.
        attention_weights: (steps, rows, source_steps) or None.
        scores: (batch, beams) float32; minus infinity for a beam that is not to be returned.
        n_best: hypotheses wanted a sentence.
        pad_id: what stands after the end.
    """
    scores, order = tf.math.top_k(scores, n_best)
    lengths = tf.where(scores == -float("inf"), 0, tf.gather(progress.lengths, order, batch_dims=1))
    history = tf.gather(progress.history, order, batch_dims=1)[:, :, : progress.number_of_steps]
    # A beam that holds nothing may have copied tokens from one that does.
    is_token = tf.range(progress.number_of_steps) < lengths[..., tf.newaxis]
    if attention_weights is not None:
        rows = tf.range(progress.number_of_steps) * tf.shape(attention_weights)[1] + history[..., 1]
        flat = tf.reshape(attention_weights, [-1, tf.shape(attention_weights)[-1]])
        attention_weights = tf.where(is_token[..., tf.newaxis], tf.gather(flat, rows), 0.0)
    return Hypotheses(
        token_ids=tf.where(is_token, history[..., 0], pad_id),
        scores=scores,
        lengths=lengths,
        attention_weights=attention_weights,
        log_probs=tf.gather(progress.log_probs, order, batch_dims=1),
    )


def _take_rows(state: Any, rows: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda leaf: tf.gather(leaf, rows), state)


def _rows_of_any_number(leaf: tf.Tensor | tf.TensorArray) -> tf.TensorShape:
    if isinstance(leaf, tf.TensorArray):
        return tf.TensorShape(None)
    shape = leaf.shape
    return shape if shape.rank in (None, 0) else tf.TensorShape([None, *shape[1:]])


def _with_shapes(values: Any, shapes: Any) -> Any:
    return tf.nest.map_structure(tf.ensure_shape, values, shapes)
