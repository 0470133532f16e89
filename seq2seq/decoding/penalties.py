"""Length penalties: what a sum of log-probabilities is divided by before hypotheses are compared.

Every token lowers the sum, so without a penalty a beam prefers short hypotheses. What a penalty makes of a sum may
not fall as the length grows: beam search relies on it to know when no open hypothesis can win any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

LengthPenalty = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def no_penalty(log_probs: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    """The sum itself: the most probable hypothesis wins.

    Args:
        log_probs: sums of log-probabilities, of any shape.
        lengths: numbers of tokens; not read.

    Returns:
        `log_probs`.
    """
    return log_probs


def average_penalty(log_probs: tf.Tensor, lengths: tf.Tensor, alpha: float) -> tf.Tensor:
    """`log_probs / length ** alpha`: with alpha 1 the mean log-probability of a token.

    Args:
        log_probs: sums of log-probabilities, of any shape.
        lengths: numbers of tokens, of a shape that broadcasts; an empty hypothesis counts as one token.
        alpha: 0 is no penalty, 1 the plain mean.

    Returns:
        Scores of the shape of `log_probs`.
    """
    return log_probs / tf.pow(_at_least_one(lengths), alpha)


def wu_penalty(log_probs: tf.Tensor, lengths: tf.Tensor, alpha: float) -> tf.Tensor:
    """`log_probs / ((5 + length) / 6) ** alpha`, equation 14 of Wu et al. 2016 (arXiv:1609.08144).

    Gentler than the average on short hypotheses, where one token more or less changes the mean a lot.

    Args:
        log_probs: sums of log-probabilities, of any shape.
        lengths: numbers of tokens, of a shape that broadcasts; an empty hypothesis counts as one token.
        alpha: 0 is no penalty; the paper's own value is 0.2, and 0.6 is common.

    Returns:
        Scores of the shape of `log_probs`.
    """
    return log_probs / tf.pow((5.0 + _at_least_one(lengths)) / 6.0, alpha)


def length_penalty_function(kind: str, alpha: float) -> LengthPenalty:
    """Return the penalty of that name as a function of sums and lengths.

    Args:
        kind: `none`, `average` or `wu`.
        alpha: its strength, at least 0.

    Returns:
        A function `(log_probs, lengths) -> scores`.

    Raises:
        ValueError: for an unknown name or a negative strength.
    """
    if not alpha >= 0:
        raise ValueError(f"length_penalty must be at least 0, but is {alpha} instead. Use 0 for no penalty.")
    if kind == "none":
        return no_penalty
    if kind == "average":
        return partial(average_penalty, alpha=alpha)
    if kind == "wu":
        return partial(wu_penalty, alpha=alpha)
    raise ValueError(f"length_penalty_kind must be 'none', 'average' or 'wu', but is {kind!r} instead.")


def _at_least_one(lengths: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(lengths, tf.float32), 1.0)
