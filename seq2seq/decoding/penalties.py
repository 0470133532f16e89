"""Penalties: from a sum of log-probabilities to the score by which complete hypotheses are compared.

Every token lowers the sum, so without a length penalty a beam prefers short hypotheses. Each penalty comes with a
bound, the best score that an open hypothesis can still reach: beam search stops early where no bound exceeds the scores
found, and so an early stop never changes the result.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from seq2seq.decoding.interface import PerSentence
from seq2seq.errors import ArgumentError

MIN_COVERAGE = 1e-6
"""Attention that an unread source token counts with, so that its logarithm is finite."""

LENGTH_PENALTIES: dict[str, Callable[[tf.Tensor, tf.Tensor, Any], tf.Tensor]] = {
    # The most probable hypothesis wins.
    "none": lambda log_probs, lengths, alpha: log_probs,  # noqa: ARG005
    # With alpha 1 the mean log-probability of a token.
    "average": lambda log_probs, lengths, alpha: log_probs / tf.pow(_at_least_one(lengths), alpha),
    # Equation 14 of Wu et al. 2016 (arXiv:1609.08144): gentler than the average on short hypotheses.
    "wu": lambda log_probs, lengths, alpha: log_probs / tf.pow((5.0 + _at_least_one(lengths)) / 6.0, alpha),
    # The same reward for every token (He et al. 2016, AAAI; Murray and Chiang 2018).
    "reward": lambda log_probs, lengths, alpha: log_probs + alpha * tf.cast(lengths, tf.float32),
}
"""Scores from `(log_probs, lengths, alpha)`. They may not fall with the length: the greatest length gives the bound."""


def _at_least_one(lengths: tf.Tensor) -> tf.Tensor:
    return tf.maximum(tf.cast(lengths, tf.float32), 1.0)


def wu_coverage(coverage: tf.Tensor, source_mask: tf.Tensor) -> tf.Tensor:
    """Return `sum_s log(min(coverage_s, 1))`, which penalizes omissions and rises up to 0 (Wu et al. 2016)."""
    logs = tf.math.log(tf.clip_by_value(coverage, MIN_COVERAGE, 1.0))
    return tf.reduce_sum(tf.where(source_mask[:, tf.newaxis], logs, 0.0), axis=-1)


def summary_coverage(coverage: tf.Tensor, source_mask: tf.Tensor) -> tf.Tensor:
    """Return `-sum_s max(coverage_s - 1, 0)`, which penalizes repetition and only falls (OpenNMT's summary penalty).

    See Gehrmann et al. 2018 (arXiv:1808.10792), equation 9.
    """
    beyond = tf.maximum(coverage - 1.0, 0.0)
    return -tf.reduce_sum(tf.where(source_mask[:, tf.newaxis], beyond, 0.0), axis=-1)


COVERAGE_PENALTIES = {"wu": wu_coverage, "summary": summary_coverage}


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking(PerSentence):
    """Score of complete hypotheses: a length penalty, and beta times a coverage penalty."""

    per_sentence = ("source_mask",)

    length_penalty: str = "average"
    length_penalty_alpha: float | tf.Tensor = 1.0
    coverage_penalty: str = "none"
    coverage_penalty_beta: float | tf.Tensor = 0.0
    source_mask: tf.Tensor | None = None  # (batch, source_steps) bool, source tokens that a coverage penalty counts

    def __post_init__(self) -> None:
        for name, known in (
            ("length_penalty", tuple(LENGTH_PENALTIES)),
            ("coverage_penalty", ("none", *COVERAGE_PENALTIES)),
        ):
            if getattr(self, name) not in known:
                raise ArgumentError(name, f"one of {', '.join(known)}", getattr(self, name))
        for name in ("length_penalty_alpha", "coverage_penalty_beta"):
            strength = getattr(self, name)
            if not tf.is_tensor(strength) and not strength >= 0:
                raise ArgumentError(name, "at least 0", strength, "Use 0 for no penalty.")
        if self.coverage_penalty != "none" and self.source_mask is None:
            raise ArgumentError("source_mask", "given with a coverage penalty", None)

    def scores(self, log_probs: tf.Tensor, lengths: tf.Tensor, coverage: Any) -> tf.Tensor:
        """Score complete hypotheses, `(batch, beams)`."""
        scores = LENGTH_PENALTIES[self.length_penalty](log_probs, lengths, self.length_penalty_alpha)
        if self.coverage_penalty == "none":
            return scores
        penalty = COVERAGE_PENALTIES[self.coverage_penalty](coverage, self.source_mask)
        return scores + self.coverage_penalty_beta * penalty

    def bounds(self, log_probs: tf.Tensor, longest: tf.Tensor, coverage: Any) -> tf.Tensor:
        """Return the best scores that open hypotheses can reach with at most `longest` tokens, `(batch, beams)`."""
        bounds = LENGTH_PENALTIES[self.length_penalty](log_probs, longest, self.length_penalty_alpha)
        # The penalty of Wu et al. can rise up to 0; the summary penalty can only fall.
        if self.coverage_penalty != "summary":
            return bounds
        return bounds + self.coverage_penalty_beta * summary_coverage(coverage, self.source_mask)
