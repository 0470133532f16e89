"""Greedy search, and sampling: hypotheses drawn token by token with random numbers that the caller provides.

The numbers are an argument so that a sentence's samples depend on nothing but its own numbers: not on the batch, its
padding, or the machine.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.decoding import candidates
from seq2seq.decoding.interface import MINUS_INFINITY, Hypotheses, SearchConfig, StepFunction
from seq2seq.decoding.loop import BeamState, BeamUpdate, Scores, append_tokens, search
from seq2seq.errors import ArgumentError


def greedy_search(step: StepFunction, initial_state: Any, config: SearchConfig) -> Hypotheses:
    """Take the most probable token at every step: the fastest search, with the results of a beam of 1.

    >>> def count_up(token_ids, state):  # a decoder that predicts the successor of its input
    ...     return tf.one_hot(token_ids + 1, 9), state, None
    >>> greedy_search(count_up, (), SearchConfig(max_steps=[3, 9], start_id=4, end_id=8)).token_ids[:, 0].numpy()
    array([[5, 6, 7, 0],
           [5, 6, 7, 8]], dtype=int32)
    """
    return search(step, initial_state, config, _take_best)


def _take_best(config: SearchConfig, beams: BeamState, scores: Scores) -> BeamUpdate:
    best = candidates.best_tokens(config, scores, 1)
    best = candidates.force_prefix(config, best, scores, beams.num_steps)
    place = tf.argmax(best.gains, axis=-1, output_type=tf.int32)[:, tf.newaxis]
    token_ids, log_probs = (tf.gather(values, place, batch_dims=1) for values in (best.token_ids, best.log_probs))
    return append_tokens(config, beams, token_ids, log_probs)


def random_numbers(seed: int, sentences: Sequence[int], samples: int, steps: int) -> np.ndarray:
    """Draw uniform random numbers in [0, 1), each a function of (seed, sentence, sample, step) alone.

    >>> few = random_numbers(seed=1, sentences=[7], samples=2, steps=3)
    >>> many = random_numbers(seed=1, sentences=[5, 7], samples=4, steps=9)
    >>> bool((many[1, :2, :3] == few[0]).all())
    True
    """
    numbers = np.zeros((len(sentences), samples, steps), np.float32)
    for row, sentence in enumerate(sentences):
        for sample in range(samples):
            bits = np.random.SeedSequence((seed, sentence, sample))
            numbers[row, sample] = np.random.Generator(np.random.Philox(bits)).random(steps, np.float32)
    return numbers


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SamplingConfig(SearchConfig):
    """Arguments of sampling; `temperature` applies after the processors, then `top_k`, then `top_p`."""

    per_sentence = (*SearchConfig.per_sentence, "numbers")

    samples: int
    numbers: np.ndarray | tf.Tensor  # (batch, samples, steps) float32 in [0, 1), steps at least the largest limit
    temperature: float | tf.Tensor = 1.0  # divides log-probabilities
    top_k: int = 0  # draw among the top_k most probable tokens; 0: among all
    top_p: float | tf.Tensor | None = None  # nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751); None: off

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ArgumentError("samples", "at least 1", self.samples)
        if self.top_k < 0:
            raise ArgumentError("top_k", "at least 0", self.top_k, "Use 0 to draw among all tokens.")
        if not tf.is_tensor(self.temperature) and not self.temperature > 0:
            raise ArgumentError("temperature", "greater than 0", self.temperature, "Use greedy search for 0.")
        if self.top_p is not None and not tf.is_tensor(self.top_p) and not 0 < self.top_p <= 1:
            raise ArgumentError("top_p", "greater than 0 and at most 1", self.top_p)


def sample_search(step: StepFunction, initial_state: Any, config: SamplingConfig) -> Hypotheses:
    """Draw `samples` hypotheses for every sentence independently, and return all of them, the most probable first.

    Scores are the sums of the step function's log-probabilities, whatever distribution the tokens were drawn from.

    >>> def coin(token_ids, state):  # a decoder that predicts 4 or 5 at every step
    ...     return tf.math.log([[0.0, 0.0, 0.0, 0.0, 0.5, 0.5]] * 2), state, None
    >>> numbers = random_numbers(seed=0, sentences=[0], samples=2, steps=4)
    >>> config = SamplingConfig(samples=2, numbers=numbers, max_steps=[4], start_id=2, end_id=3)
    >>> sorted({int(token) for token in sample_search(coin, (), config).token_ids.numpy().ravel()})
    [4, 5]
    """
    config = dataclasses.replace(config, numbers=tf.convert_to_tensor(config.numbers))
    samples = config.samples
    return search(step, initial_state, config, _take_sampled, beams=samples, groups=samples, n_best=samples)


def _take_sampled(config: SamplingConfig, beams: BeamState, scores: Scores) -> BeamUpdate:
    log_probs = tf.nn.log_softmax(scores.logits) if scores.processed is None else scores.logits
    allowed = log_probs if scores.processed is None else scores.processed
    columns = tf.range(tf.shape(allowed)[1])
    is_forbidden = tf.reduce_any(columns[:, tf.newaxis] == tf.constant(config.forbidden_ids), axis=-1)
    allowed = tf.where(is_forbidden, MINUS_INFINITY, allowed)
    token_ids = _draw(config, allowed / config.temperature, tf.reshape(config.numbers[:, :, beams.num_steps], [-1, 1]))
    # A row without an allowed token takes the end, as in the other searches.
    is_stuck = tf.reduce_max(allowed, axis=-1, keepdims=True) == MINUS_INFINITY
    token_ids = tf.where(is_stuck, config.end_id, token_ids)
    if config.prefix is not None:
        prefix_ids, is_forced = config.prefix.at(beams.num_steps, tf.shape(token_ids)[0])
        token_ids = tf.where(is_forced, prefix_ids, token_ids)
    log_probs = tf.gather(log_probs, token_ids, batch_dims=1)
    by_beam = [tf.size(beams.sentences), config.samples]
    return append_tokens(config, beams, tf.reshape(token_ids, by_beam), tf.reshape(log_probs, by_beam))


def _draw(config: SamplingConfig, values: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
    """Draw a token per row, `(rows, 1)`, where the cumulative probability first exceeds a `(rows, 1)` random number."""
    token_ids = None
    if config.top_k:
        values, token_ids = candidates.top_k(values, config.top_k)
    elif config.top_p is not None:
        values, token_ids = tf.math.top_k(values, tf.shape(values)[1])
    probabilities = tf.nn.softmax(values)
    if config.top_p is not None:
        before = tf.cumsum(probabilities, axis=-1, exclusive=True)
        probabilities = tf.where(before < config.top_p, probabilities, 0.0)
    cumulative = tf.cumsum(probabilities, axis=-1)
    total = cumulative[:, -1:]
    # Rounding may raise the random share to the total: then the last token with a probability is drawn.
    is_exceeded = (cumulative > numbers * total) | (cumulative >= total)
    place = tf.argmax(is_exceeded, axis=-1, output_type=tf.int32)[:, tf.newaxis]
    return place if token_ids is None else tf.gather(token_ids, place, batch_dims=1)
