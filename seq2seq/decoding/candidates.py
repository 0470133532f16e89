"""The best next tokens of every row, with their log-probabilities, without normalizing the others.

A search reads a handful of the thousands of tokens of a row. The largest logits are also the largest log-probabilities,
so only those few are normalized, by one number per row.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from seq2seq.decoding.interface import MINUS_INFINITY, SearchConfig
from seq2seq.decoding.loop import Scores

# A row is cut into groups of this many tokens. The k largest values of a row lie in the k groups with the largest
# maxima, and a maximum is much cheaper than a sorted selection: over 8,000 tokens this takes a third of the time of
# tf.math.top_k on a CPU. Below the second number there is nothing to gain.
GROUP_SIZE = 64
MIN_GROUPED_VOCABULARY = 1024


class Candidates(NamedTuple):
    """Tokens that each row may take, `(rows, candidates)` each."""

    token_ids: tf.Tensor  # int32
    gains: tf.Tensor  # float32, processed log-probabilities, which decide; minus infinity for a forbidden token
    log_probs: tf.Tensor  # float32, as the step function gives them
    normalizers: tf.Tensor  # (rows, 1) float32, logit minus log-probability
    positions: Any = ()  # (batch, beams, candidates, phrases) int32, of required phrases after each candidate


def best_tokens(config: SearchConfig, scores: Scores, count: int) -> Candidates:
    """Return the most probable tokens of every row, at least `count` allowed ones if there are as many.

    Forbidden tokens keep their share of the probability, so that log-probabilities are those of scoring the same
    sequence; they are among the candidates, with minus infinity. A row without an allowed token has the end as its only
    candidate.
    """
    count += len(config.forbidden_ids)
    if scores.processed is None:
        values, token_ids = top_k(scores.logits, count, is_grouped=scores.columns is not None)
        # The probability of the best token gives the normalizer of its row. A softmax is one kernel that goes row by
        # row through the cache; a log-sum-exp is four, each through all of the memory, and takes three times as long.
        best_probs = tf.gather(tf.nn.softmax(scores.logits), token_ids[:, :1], batch_dims=1)
        normalizers = values[:, :1] - tf.math.log(best_probs)
        gains = log_probs = values - values[:, :1] + tf.math.log(best_probs)
        if scores.columns is not None:
            token_ids = tf.gather(scores.columns, token_ids)
    else:
        gains, token_ids = top_k(scores.processed, count)
        normalizers = tf.zeros_like(gains[:, :1])
        log_probs = tf.gather(scores.logits, token_ids, batch_dims=1)
    for forbidden_id in config.forbidden_ids:
        gains = tf.where(token_ids == forbidden_id, MINUS_INFINITY, gains)
    candidates = Candidates(token_ids, gains, log_probs, normalizers)
    if scores.processed is not None:
        is_stuck = tf.reduce_max(gains, axis=-1, keepdims=True) == MINUS_INFINITY
        candidates = _force_token(candidates, scores, tf.fill(tf.shape(is_stuck), config.end_id), is_stuck)
    return candidates


def force_prefix(config: SearchConfig, candidates: Candidates, scores: Scores, num_steps: tf.Tensor) -> Candidates:
    """Leave rows inside the prefix its next token as their only candidate."""
    if config.prefix is None:
        return candidates
    return _force_token(candidates, scores, *config.prefix.at(num_steps, tf.shape(candidates.gains)[0]))


def _force_token(candidates: Candidates, scores: Scores, token_ids: tf.Tensor, is_forced: tf.Tensor) -> Candidates:
    """Give rows where `is_forced` one candidate, `(rows, 1)`."""
    log_probs = tf.gather(scores.logits, token_ids, batch_dims=1) - candidates.normalizers
    is_first = tf.range(tf.shape(candidates.token_ids)[1]) == 0
    return candidates._replace(
        token_ids=tf.where(is_forced & is_first, token_ids, candidates.token_ids),
        gains=tf.where(is_forced, tf.where(is_first, log_probs, MINUS_INFINITY), candidates.gains),
        log_probs=tf.where(is_forced & is_first, log_probs, candidates.log_probs),
    )


def top_k(values: tf.Tensor, count: int, is_grouped: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the largest values of every row and their columns, as `tf.math.top_k`, faster for long rows.

    Among equal values it may choose others than `tf.math.top_k`; the largest of a row is the first of its equals, as
    there. `is_grouped` promises a multiple of 64 columns, at least 64 times `count`, where the number is not static.
    """
    columns = values.shape[-1]
    if not is_grouped and (columns is None or columns < max(MIN_GROUPED_VOCABULARY, count * GROUP_SIZE)):
        return tf.math.top_k(values, tf.minimum(count, tf.shape(values)[-1]))
    if not is_grouped and columns % GROUP_SIZE:
        padding = [[0, 0], [0, -columns % GROUP_SIZE]]
        values = tf.pad(values, padding, constant_values=MINUS_INFINITY)
    groups = tf.reshape(values, [tf.shape(values)[0], tf.shape(values)[1] // GROUP_SIZE, GROUP_SIZE])
    _, best_groups = tf.math.top_k(tf.reduce_max(groups, axis=-1), count)
    members = tf.gather(groups, best_groups, batch_dims=1)
    best_values, places = tf.math.top_k(tf.reshape(members, [-1, count * GROUP_SIZE]), count)
    best_columns = tf.gather(best_groups, places // GROUP_SIZE, batch_dims=1) * GROUP_SIZE + places % GROUP_SIZE
    return best_values, best_columns
