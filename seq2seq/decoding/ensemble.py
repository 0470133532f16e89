"""Several step functions as one, for an ensemble of models that share a target vocabulary."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq.decoding.interface import StepFunction
from seq2seq.errors import ArgumentError

AVERAGES = ("log_probs", "probs")


def ensemble_step(steps: Sequence[StepFunction], average: str = "log_probs") -> StepFunction:
    """Average the probabilities and attention weights of several step functions at every step.

    The mean of log-probabilities (a product of experts, normalised again by the search) trusts a token that no model
    finds unlikely; the mean of probabilities (a mixture) trusts one that some model finds likely. The state is the
    tuple of the step functions' states.

    >>> def first(token_ids, state):
    ...     return tf.math.log([[0.5, 0.5]]), state, None
    >>> def second(token_ids, state):
    ...     return tf.math.log([[0.1, 0.9]]), state, None
    >>> logits, _, _ = ensemble_step([first, second], "probs")(tf.constant([0]), ((), ()))
    >>> tf.exp(logits).numpy().round(2)
    array([[0.3, 0.7]], dtype=float32)
    """
    if not steps:
        raise ArgumentError("steps", "at least one step function", steps)
    if average not in AVERAGES:
        raise ArgumentError("average", f"one of {', '.join(AVERAGES)}", average)
    can_select = all(hasattr(step, "for_sentences") for step in steps)
    return (_SelectableEnsembleStep if can_select else _EnsembleStep)(tuple(steps), average)


@dataclasses.dataclass(frozen=True)
class _EnsembleStep:
    steps: tuple[Any, ...]
    average: str

    def __call__(self, token_ids: tf.Tensor, states: Any) -> tuple[tf.Tensor, Any, tf.Tensor | None]:
        outputs = [step(token_ids, state) for step, state in zip(self.steps, states, strict=True)]
        logits, states, weights = zip(*outputs, strict=True)
        log_probs = tf.stack([tf.nn.log_softmax(tf.cast(one, tf.float32)) for one in logits])
        if self.average == "log_probs":
            averaged = tf.reduce_mean(log_probs, axis=0)
        else:
            averaged = tf.reduce_logsumexp(log_probs, axis=0) - tf.math.log(float(len(self.steps)))
        if any(one is None for one in weights):
            return averaged, states, None
        return averaged, states, tf.reduce_mean(tf.stack([tf.cast(one, tf.float32) for one in weights]), axis=0)


class _SelectableEnsembleStep(_EnsembleStep):
    def for_sentences(self, sentences: tf.Tensor) -> StepFunction:
        return type(self)(tuple(step.for_sentences(sentences) for step in self.steps), self.average)
