"""The best next tokens of every row, with their log-probabilities, without normalising the rest.

A search looks at a handful of the thousands of tokens in a row. The largest logits are also the largest
log-probabilities, so only those few are normalized, by one number a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

# A row is cut into groups of this many tokens. The k largest values of a row lie in the k groups with the
# largest maxima, and a maximum is much cheaper than a sorted selection: over 8,000 tokens this takes a third
# of the time of tf.math.top_k on a CPU. Below the second number there is nothing to gain.
GROUP_SIZE = 64
SMALLEST_GROUPED_VOCABULARY = 1024


def best_tokens(logits: tf.Tensor, count: int, banned_ids: Sequence[int] = ()) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the most probable tokens of every row.

    Banned tokens keep their share of the probability: the log-probabilities are the model's own, so that they
    are those which scoring the same sequence gives.

    Args:
        logits: (rows, vocabulary) of any float type.
        count: how many tokens are wanted.
        banned_ids: tokens that may not be chosen.

    Returns:
        log_probs: (rows, candidates) float32; minus infinity for a banned token.
        token_ids: (rows, candidates) int32. There are `count + len(banned_ids)` candidates or, if that is
            less, the whole vocabulary. Among them are the best `count` allowed tokens. They come in falling
            order of the logits, the banned ones among them.
    """
    logits = tf.cast(logits, tf.float32)
    values, token_ids = top_k(logits, count + len(banned_ids))
    # The probability of the best token gives the normalizer of its row. A softmax is one kernel that goes row by
    # row through the cache; a log-sum-exp is four, each through all of the memory, and takes three times as long.
    best_probs = tf.gather(tf.nn.softmax(logits), token_ids[:, :1], batch_dims=1)
    log_probs = values - values[:, :1] + tf.math.log(best_probs)
    for banned_id in banned_ids:
        log_probs = tf.where(token_ids == banned_id, -float("inf"), log_probs)
    return log_probs, token_ids


def top_k(values: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the largest values of every row and their places, as `tf.math.top_k`, faster for long rows.

    Among equal values it may choose others than `tf.math.top_k` does; the largest of a row is the first of
    its equals, as there.

    Args:
        values: (rows, columns) float32.
        count: how many are wanted; all of them where there are fewer columns.

    Returns:
        The values, (rows, count) in falling order, and their columns, (rows, count) int32.
    """
    columns = values.shape[-1]
    if columns is None or columns < max(SMALLEST_GROUPED_VOCABULARY, count * GROUP_SIZE):
        return tf.math.top_k(values, tf.minimum(count, tf.shape(values)[-1]))
    if columns % GROUP_SIZE:
        padding = [[0, 0], [0, -columns % GROUP_SIZE]]
        values = tf.pad(values, padding, constant_values=-float("inf"))
    groups = tf.reshape(values, [tf.shape(values)[0], values.shape[-1] // GROUP_SIZE, GROUP_SIZE])
    _, best_groups = tf.math.top_k(tf.reduce_max(groups, axis=-1), count)
    members = tf.gather(groups, best_groups, batch_dims=1)
    best_values, places = tf.math.top_k(tf.reshape(members, [-1, count * GROUP_SIZE]), count)
    best_columns = tf.gather(best_groups, places // GROUP_SIZE, batch_dims=1) * GROUP_SIZE + places % GROUP_SIZE
    return best_values, best_columns
