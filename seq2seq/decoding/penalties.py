"""Penalties: how a sum of log-probabilities makes the score by which complete hypotheses are compared.

Every token lowers the sum, so without a length penalty a beam prefers short hypotheses. Each penalty comes with a
bound: the best that it can make of a hypothesis that is still open. Beam search stops early where no bound is above
the scores that it has, so a search that stops early finds what one to the end finds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

LengthPenalty = Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor]
"""`(log_probs, lengths, alpha) -> scores`. What it makes of a sum of log-probabilities, which is never above 0, may not
fall as the length grows, so that the greatest length gives the bound."""

# A source token that no attention reaches counts as read so much, so that a score stays a number.
LEAST_COVERAGE = 1e-6


def no_penalty(log_probs: tf.Tensor, lengths: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    """The sum itself: the most probable hypothesis wins.

    Args:
        log_probs: sums of log-probabilities, of any shape.
        lengths: numbers of tokens; not read.
        alpha: not read.

    Returns:
        `log_probs`.
    """
    return log_probs


def average_penalty(log_probs: tf.Tensor, lengths: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
    """`log_probs / length ** alpha`: with alpha 1 the mean log-probability of a token.

    Args:
        log_probs: sums of log-probabilities, of any shape.
        lengths: numbers of tokens, of a shape that broadcasts; an empty hypothesis counts as one token.
        alpha: 0 is no penalty, 1 the plain mean.

    Returns:
        Scores of the shape of `log_probs`.
    """
    return log_probs / tf.pow(_at_least_one(lengths), alpha)


def wu_penalty(log_probs: tf.Tensor, lengths: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
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


def reward_penalty(log_probs: tf.Tensor, lengths: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
    """`log_probs + alpha * length`: each token earns the same (He et al. 2016, AAAI; Murray and Chiang 2018).

    Args:
        log_probs: sums of log-probabilities, of any shape.
        lengths: numbers of tokens, of a shape that broadcasts.
        alpha: the reward of a token, 0 for none.

    Returns:
        Scores of the shape of `log_probs`.
    """
    return log_probs + alpha * tf.cast(lengths, tf.float32)


def wu_coverage(coverage: tf.Tensor, source_mask: tf.Tensor) -> tf.Tensor:
    """`sum_s log(min(coverage_s, 1))`: what was read less than once in all costs (Wu et al. 2016, equation 14).

    Args:
        coverage: (batch, beams, source_steps), the attention received so far.
        source_mask: (batch, source_steps), True keeps. What received less than 1e-6 counts as so much.

    Returns:
        (batch, beams), at most 0. It rises with every step.
    """
    logs = tf.math.log(tf.clip_by_value(coverage, LEAST_COVERAGE, 1.0))
    return tf.reduce_sum(tf.where(source_mask[:, tf.newaxis], logs, 0.0), axis=-1)


def summary_coverage(coverage: tf.Tensor, source_mask: tf.Tensor) -> tf.Tensor:
    """`-sum_s max(coverage_s - 1, 0)`: what was read more than once costs, as repetition shows in summaries.

    The coverage penalty called summary in OpenNMT (Gehrmann et al. 2018, arXiv:1808.10792, equation 9).

    Args:
        coverage: (batch, beams, source_steps), the attention received so far.
        source_mask: (batch, source_steps), True keeps.

    Returns:
        (batch, beams), at most 0. It falls with every step.
    """
    beyond = tf.maximum(coverage - 1.0, 0.0)
    return -tf.reduce_sum(tf.where(source_mask[:, tf.newaxis], beyond, 0.0), axis=-1)


LENGTH_PENALTIES: dict[str, LengthPenalty] = {
    "none": no_penalty,
    "average": average_penalty,
    "wu": wu_penalty,
    "reward": reward_penalty,
}
COVERAGE_PENALTIES = {"wu": wu_coverage, "summary": summary_coverage}


class Ranking(NamedTuple):
    """How complete hypotheses are compared: a length penalty, and beta times a coverage penalty.

    Attributes:
        length_penalty_kind: `none`, `average`, `wu` or `reward`.
        length_penalty: () float, alpha.
        coverage_penalty_kind: `none`, `wu` or `summary`.
        coverage_penalty: () float, beta.
        source_mask: (batch, source_steps) bool, True keeps; only with a coverage penalty.
    """

    length_penalty_kind: str
    length_penalty: float | tf.Tensor
    coverage_penalty_kind: str = "none"
    coverage_penalty: float | tf.Tensor = 0.0
    source_mask: tf.Tensor | None = None

    def check(self) -> None:
        """Refuse names that are unknown and strengths below 0.

        Raises:
            ValueError: naming the argument.
        """
        for name, known in (
            ("length_penalty", list(LENGTH_PENALTIES)),
            ("coverage_penalty", ["none", *COVERAGE_PENALTIES]),
        ):
            kind, strength = getattr(self, f"{name}_kind"), getattr(self, name)
            if kind not in known:
                words = ", ".join(map(repr, known[:-1])) + f" or {known[-1]!r}"
                raise ValueError(f"{name}_kind must be {words}, but is {kind!r} instead.")
            if not tf.is_tensor(strength) and not strength >= 0:
                raise ValueError(f"{name} must be at least 0, but is {strength} instead. Use 0 for no penalty.")
        if self.coverage_penalty_kind != "none" and self.source_mask is None:
            raise ValueError(
                "source_mask must be given with a coverage penalty, but is None instead. Say which source tokens count."
            )

    def for_sentences(self, sentences: tf.Tensor) -> Ranking:
        """The ranking of hypotheses of these of the sentences, (batch,) int32."""
        if self.source_mask is None:
            return self
        return self._replace(source_mask=tf.gather(self.source_mask, sentences))

    def scores(self, log_probs: tf.Tensor, lengths: tf.Tensor, coverage: Any) -> tf.Tensor:
        """The scores of hypotheses as they stand, (batch, beams)."""
        scores = LENGTH_PENALTIES[self.length_penalty_kind](log_probs, lengths, self.length_penalty)
        if self.coverage_penalty_kind == "none":
            return scores
        penalty = COVERAGE_PENALTIES[self.coverage_penalty_kind](coverage, self.source_mask)
        return scores + self.coverage_penalty * penalty

    def bounds(self, log_probs: tf.Tensor, longest: tf.Tensor, coverage: Any) -> tf.Tensor:
        """The best scores that open hypotheses can reach with at most `longest` tokens, (batch, beams)."""
        bounds = LENGTH_PENALTIES[self.length_penalty_kind](log_probs, longest, self.length_penalty)
        # The penalty of Wu et al. can rise up to 0; the other can only fall.
        if self.coverage_penalty_kind != "summary":
            return bounds
        return bounds + self.coverage_penalty * summary_coverage(coverage, self.source_mask)


def _at_least_one(lengths: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(lengths, tf.float32), 1.0)
