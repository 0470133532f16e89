"""The best next tokens of every row, with their log-probabilities, without normalising the rest.

A search looks at a handful of the thousands of tokens in a row. The largest logits are also the largest
log-probabilities, so only those few are normalized, by one number a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from seq2seq.decoding.interface import Prefix
from seq2seq.decoding.loop import MINUS_INFINITY, Scores

# A row is cut into groups of this many tokens. The k largest values of a row lie in the k groups with the
# largest maxima, and a maximum is much cheaper than a sorted selection: over 8,000 tokens this takes a third
# of the time of tf.math.top_k on a CPU. Below the second number there is nothing to gain.
GROUP_SIZE = 64
SMALLEST_GROUPED_VOCABULARY = 1024


class Candidates(NamedTuple):
    """Tokens that each row may take.

    Attributes:
        token_ids: (rows, candidates) int32.
        gains: (rows, candidates) float32, their log-probabilities as the rules left them, by which they are
            chosen; minus infinity for a token that may not be taken.
        log_probs: (rows, candidates) float32, their log-probabilities as the step function gives them.
        normalizers: (rows, 1) float32, what a logit is more than its log-probability.
    """

    token_ids: tf.Tensor
    gains: tf.Tensor
    log_probs: tf.Tensor
    normalizers: tf.Tensor


def best_tokens(scores: Scores, count: int, banned_ids: Sequence[int], end_id: int) -> Candidates:
    """Return the most probable tokens of every row.

    Banned tokens keep their share of the probability: the log-probabilities are the model's own, so that they
    are those which scoring the same sequence gives. A row whose every token a rule forbids has the end as its
    only candidate, since a hypothesis that cannot go on is over.

    Args:
        scores: of the step.
        count: how many tokens are wanted.
        banned_ids: tokens that may not be chosen.
        end_id: the token that ends a hypothesis.

    Returns:
        `count + len(banned_ids)` candidates or, if that is less, the whole vocabulary, in falling order before
        those that may not be taken are given minus infinity. Among them are the best `count` allowed tokens.
    """
    if scores.ruled is None:
        values, token_ids = top_k(scores.logits, count + len(banned_ids), is_grouped=scores.columns is not None)
        # The probability of the best token gives the normalizer of its row. A softmax is one kernel that goes row
        # by row through the cache; a log-sum-exp is four, each through all of the memory, and takes three times as
        # long.
        best_probs = tf.gather(tf.nn.softmax(scores.logits), token_ids[:, :1], batch_dims=1)
        normalizers = values[:, :1] - tf.math.log(best_probs)
        gains = log_probs = values - values[:, :1] + tf.math.log(best_probs)
        if scores.columns is not None:
            token_ids = tf.gather(scores.columns, token_ids)
    else:
        gains, token_ids = top_k(scores.ruled, count + len(banned_ids))
        normalizers = tf.zeros_like(gains[:, :1])
        log_probs = tf.gather(scores.logits, token_ids, batch_dims=1)
    for banned_id in banned_ids:
        gains = tf.where(token_ids == banned_id, MINUS_INFINITY, gains)
    found = Candidates(token_ids, gains, log_probs, normalizers)
    if scores.ruled is None:
        return found
    is_stuck = tf.reduce_max(gains, axis=-1, keepdims=True) == MINUS_INFINITY
    return only(found, scores, tf.fill(tf.shape(is_stuck), end_id), is_stuck)


def only(candidates: Candidates, scores: Scores, token_ids: tf.Tensor, is_forced: tf.Tensor) -> Candidates:
    """Leave the rows that are forced one candidate, (rows, 1), with its log-probability by the step function."""
    log_probs = tf.gather(scores.logits, token_ids, batch_dims=1) - candidates.normalizers
    is_first = tf.range(tf.shape(candidates.token_ids)[1]) == 0
    return candidates._replace(
        token_ids=tf.where(is_forced & is_first, token_ids, candidates.token_ids),
        gains=tf.where(is_forced, tf.where(is_first, log_probs, MINUS_INFINITY), candidates.gains),
        log_probs=tf.where(is_forced & is_first, log_probs, candidates.log_probs),
    )


def with_prefix(candidates: Candidates, scores: Scores, prefix: Prefix, number_of_steps: tf.Tensor) -> Candidates:
    """Leave the rows whose prefix is not written yet its next token."""
    return only(candidates, scores, *prefix.at(number_of_steps, tf.shape(candidates.gains)[0]))


def top_k(values: tf.Tensor, count: int, is_grouped: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the largest values of every row and their places, as `tf.math.top_k`, faster for long rows.

    Among equal values it may choose others than `tf.math.top_k` does; the largest of a row is the first of
    its equals, as there.

    Args:
        values: (rows, columns) float32.
        count: how many are wanted; all of them where there are fewer columns.
        is_grouped: whether the columns, of a number that is known only when the graph runs, are a multiple of 64 and at
            least 64 times the count.

    Returns:
        The values, (rows, count) in falling order, and their columns, (rows, count) int32.
    """
    columns = values.shape[-1]
    if not is_grouped and (columns is None or columns < max(SMALLEST_GROUPED_VOCABULARY, count * GROUP_SIZE)):
        return tf.math.top_k(values, tf.minimum(count, tf.shape(values)[-1]))
    if not is_grouped and columns % GROUP_SIZE:
        padding = [[0, 0], [0, -columns % GROUP_SIZE]]
        values = tf.pad(values, padding, constant_values=-float("inf"))
    groups = tf.reshape(values, [tf.shape(values)[0], tf.shape(values)[1] // GROUP_SIZE, GROUP_SIZE])
    _, best_groups = tf.math.top_k(tf.reduce_max(groups, axis=-1), count)
    members = tf.gather(groups, best_groups, batch_dims=1)
    best_values, places = tf.math.top_k(tf.reshape(members, [-1, count * GROUP_SIZE]), count)
    best_columns = tf.gather(best_groups, places // GROUP_SIZE, batch_dims=1) * GROUP_SIZE + places % GROUP_SIZE
    return best_values, best_columns
