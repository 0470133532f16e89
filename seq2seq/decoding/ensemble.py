"""Several step functions as one, for an ensemble of models that share a target vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq.decoding.interface import StepFunction, lets_sentences_leave, of_sentences

AVERAGES = ("log_probs", "probs")


def ensemble_step(steps: Sequence[StepFunction], average: str = "log_probs") -> StepFunction:
    """Join step functions: their probabilities are averaged at every step, and so are their attention weights.

    The mean of log-probabilities (a product of experts, normalised again by the search) trusts a token that no model
    finds unlikely; the mean of probabilities (a mixture) one that some model finds likely.

    >>> def first(token_ids, state):
    ...     return tf.math.log([[0.5, 0.5]]), state, None
    >>> def second(token_ids, state):
    ...     return tf.math.log([[0.1, 0.9]]), state, None
    >>> logits, _, _ = ensemble_step([first, second], "probs")(tf.constant([0]), ((), ()))
    >>> tf.exp(logits).numpy().round(2)
    array([[0.3, 0.7]], dtype=float32)

    Args:
        steps: a step function each. Its state is the tuple of their states.
        average: `log_probs` or `probs`: what is averaged.

    Returns:
        A step function whose attention weights are None where one of theirs are.

    Raises:
        ValueError: for no step function or an unknown `average`.
    """
    if not steps:
        raise ValueError("steps must hold at least one step function, but is empty instead.")
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, but is {average!r} instead.")

    kind = _LeavingEnsembleStep if all(map(lets_sentences_leave, steps)) else _EnsembleStep
    return kind(tuple(steps), average)


@dataclasses.dataclass(frozen=True)
class _EnsembleStep:
    steps: tuple[StepFunction, ...]
    average: str

    def __call__(
        self, token_ids: tf.Tensor, states: tuple[Any, ...]
    ) -> tuple[tf.Tensor, tuple[Any, ...], tf.Tensor | None]:
        logits, states, weights = zip(
            *(step(token_ids, state) for step, state in zip(self.steps, states, strict=True)), strict=True
        )
        log_probs = tf.stack([tf.nn.log_softmax(tf.cast(one, tf.float32)) for one in logits])
        if self.average == "log_probs":
            joined = tf.reduce_mean(log_probs, axis=0)
        else:
            joined = tf.reduce_logsumexp(log_probs, axis=0) - tf.math.log(float(len(self.steps)))
        if any(one is None for one in weights):
            return joined, states, None
        return joined, states, tf.reduce_mean(tf.stack([tf.cast(one, tf.float32) for one in weights]), axis=0)


class _LeavingEnsembleStep(_EnsembleStep):
    def for_sentences(self, sentences: tf.Tensor) -> StepFunction:
        return ensemble_step([of_sentences(step, sentences) for step in self.steps], self.average)
