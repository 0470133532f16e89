"""Sampling: hypotheses drawn at random, token by token, with random numbers that the caller brings.

The numbers are an argument so that a sentence's samples depend on nothing but its own numbers: not on the batch, its
padding, or the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.decoding import loop
from seq2seq.decoding.candidates import best_tokens, with_prefix
from seq2seq.decoding.candidates import top_k as largest
from seq2seq.decoding.interface import Hypotheses, Prefix, StepFunction, check_rows, checked_banned_ids, checked_limits
from seq2seq.decoding.loop import MINUS_INFINITY
from seq2seq.decoding.processors import Rule


def greedy_search(
    step: StepFunction,
    initial_state: Any,
    *,
    batch_size: int | tf.Tensor,
    max_steps: int | Sequence[int] | tf.Tensor,
    start_id: int,
    end_id: int,
    pad_id: int = 0,
    banned_ids: Sequence[int] = (),
    rules: Sequence[Rule] = (),
    prefix: Prefix | None = None,
    return_attention: bool = False,
) -> Hypotheses:
    """Take the most probable token at every step: the fastest search; `beam_search` with one beam agrees.

    Works eagerly and in a graph, with a batch of any size and steps of any number.

    >>> def count_up(token_ids, state):  # a decoder that says one more than it reads
    ...     return tf.one_hot(token_ids + 1, 9), state, None
    >>> greedy_search(count_up, (), batch_size=2, max_steps=[3, 9], start_id=4, end_id=8).token_ids[:, 0].numpy()
    array([[5, 6, 7, 0],
           [5, 6, 7, 8]], dtype=int32)

    Args:
        step: the step function; see `StepFunction`.
        initial_state: the decoder's first state: nested tensors of shape (batch, ...), one row a sentence.
        batch_size: the number of sentences.
        max_steps: the most tokens of a hypothesis, the end token included: one number, or (batch,), one for
            each sentence. A hypothesis that has not ended by then is closed as it stands. 0 gives an empty
            one.
        start_id: what the step function reads first. It is never produced.
        end_id: the token that ends a hypothesis.
        pad_id: fills what follows the end, and is what the step function reads there. It is never produced.
        banned_ids: more tokens that are never produced.
        rules: what changes log-probabilities before a token is taken; see `seq2seq.decoding.processors`. A
            hypothesis whose every next token is forbidden ends.
        prefix: tokens that the hypotheses start with, whatever the rules say.
        return_attention: whether to keep the attention weights of every step.

    Returns:
        Hypotheses with n_best 1. Scores are the sums of log-probabilities.

    Raises:
        ValueError: for an argument that cannot be.
        tf.errors.InvalidArgumentError: for a negative `max_steps`.
    """
    banned_ids = checked_banned_ids(end_id, start_id, pad_id, banned_ids)
    limits = checked_limits(max_steps, batch_size)
    check_rows(initial_state, batch_size)

    def advance_for(sentences: tf.Tensor) -> Callable[[loop.Progress, loop.Scores], loop.Advanced]:
        limits_now = tf.gather(limits, sentences)
        prefix_now = None if prefix is None else prefix.for_sentences(sentences)

        def advance(progress: loop.Progress, scores: loop.Scores) -> loop.Advanced:
            candidates = best_tokens(scores, 1, banned_ids, end_id)
            if prefix_now is not None:
                candidates = with_prefix(candidates, scores, prefix_now, progress.number_of_steps)
            best = tf.argmax(candidates.gains, axis=-1, output_type=tf.int32)[:, tf.newaxis]
            token_ids, log_probs = (
                tf.gather(values, best, batch_dims=1) for values in (candidates.token_ids, candidates.log_probs)
            )
            return take(progress, token_ids, log_probs, limits_now, end_id, pad_id)

        return advance

    progress, record = loop.run(
        step,
        advance_for,
        loop.start(limits, 1, start_id),
        initial_state,
        limits=limits,
        rules=rules,
        return_attention=return_attention,
        reorders=False,
    )
    return loop.result(progress, record, progress.sums, n_best=1, pad_id=pad_id)


def take(
    progress: loop.Progress, token_ids: tf.Tensor, log_probs: tf.Tensor, limits: tf.Tensor, end_id: int, pad_id: int
) -> loop.Advanced:
    """Let every open place take the token that was chosen for it, on its own, (batch, beams) each."""
    is_open = ~progress.is_finished
    token_ids = tf.where(is_open, token_ids, pad_id)
    log_probs = tf.where(is_open, log_probs, 0.0)
    number_of_steps = progress.number_of_steps + 1
    is_finished = progress.is_finished | (token_ids == end_id) | (number_of_steps >= limits[:, tf.newaxis])
    progress = progress._replace(
        number_of_steps=number_of_steps,
        last_ids=token_ids,
        sums=progress.sums + log_probs,
        lengths=tf.where(is_open, number_of_steps, progress.lengths),
        is_finished=is_finished,
        is_done=tf.reduce_all(is_finished, axis=-1),
    )
    return loop.Advanced(progress, log_probs)


def random_numbers(seed: int, sentences: Sequence[int], samples: int, steps: int) -> np.ndarray:
    """Uniform random numbers for `sample_search`, each a function of (seed, sentence, sample, step) alone.

    >>> few = random_numbers(seed=1, sentences=[7], samples=2, steps=3)
    >>> many = random_numbers(seed=1, sentences=[5, 7], samples=4, steps=9)
    >>> bool((many[1, :2, :3] == few[0]).all())
    True

    Args:
        seed: at least 0.
        sentences: a number at least 0 for each sentence, such as its place in a file.
        samples: hypotheses to draw a sentence.
        steps: the most tokens of any.

    Returns:
        (batch, samples, steps) float32, at least 0 and less than 1.
    """
    numbers = np.zeros((len(sentences), samples, steps), np.float32)
    for row, sentence in enumerate(sentences):
        for sample in range(samples):
            bits = np.random.SeedSequence((seed, sentence, sample))
            numbers[row, sample] = np.random.Generator(np.random.Philox(bits)).random(steps, np.float32)
    return numbers


def sample_search(
    step: StepFunction,
    initial_state: Any,
    *,
    batch_size: int | tf.Tensor,
    max_steps: int | Sequence[int] | tf.Tensor,
    samples: int,
    numbers: np.ndarray | tf.Tensor,
    start_id: int,
    end_id: int,
    pad_id: int = 0,
    banned_ids: Sequence[int] = (),
    temperature: float | tf.Tensor = 1.0,
    top_k: int = 0,
    top_p: float | tf.Tensor | None = None,
    rules: Sequence[Rule] = (),
    prefix: Prefix | None = None,
    return_attention: bool = False,
) -> Hypotheses:
    """Draw `samples` hypotheses for every sentence, each on its own.

    A token is drawn with the probability that is left to it: rules and `banned_ids` first, then `temperature`, then
    `top_k`, then `top_p`.

    >>> def coin(token_ids, state):  # a decoder that says 4 or 5 at every step
    ...     return tf.math.log([[0.0, 0.0, 0.0, 0.0, 0.5, 0.5]] * 2), state, None
    >>> numbers = random_numbers(seed=0, sentences=[0], samples=2, steps=4)
    >>> ids = dict(start_id=2, end_id=3)
    >>> found = sample_search(coin, (), batch_size=1, max_steps=4, samples=2, numbers=numbers, **ids)
    >>> sorted({int(token) for token in found.token_ids.numpy().ravel()})
    [4, 5]

    Args:
        step, initial_state, batch_size, max_steps: as for `beam_search`.
        samples: hypotheses to draw a sentence.
        numbers: (batch, samples, steps) float32 at least 0 and less than 1, with at least as many steps as
            `max_steps`; see `random_numbers`.
        start_id, end_id, pad_id, banned_ids: as for `beam_search`.
        temperature: what log-probabilities are divided by.
        top_k: draw among so many of the most probable tokens; 0: among all.
        top_p: draw among the fewest most probable tokens that have at least this probability together (nucleus
            sampling, Holtzman et al. 2020, arXiv:1904.09751); None: among all.
        rules, prefix, return_attention: as for `beam_search`.

    Returns:
        Hypotheses with n_best `samples`, the most probable first; one may come several times. Scores are the sums of
        log-probabilities by the step function, whatever the tokens were drawn from.

    Raises:
        ValueError: for an argument that cannot be.
        tf.errors.InvalidArgumentError: for a negative `max_steps`.
    """
    _check_sampling(samples, temperature, top_k, top_p)
    banned_ids = checked_banned_ids(end_id, start_id, pad_id, banned_ids)
    limits = checked_limits(max_steps, batch_size)
    check_rows(initial_state, batch_size)
    numbers = tf.convert_to_tensor(numbers)

    def advance_for(sentences: tf.Tensor) -> Callable[[loop.Progress, loop.Scores], loop.Advanced]:
        limits_now, numbers_now = tf.gather(limits, sentences), tf.gather(numbers, sentences)
        prefix_now = None if prefix is None else prefix.for_sentences(sentences)
        places = [tf.size(sentences), samples]

        def advance(progress: loop.Progress, scores: loop.Scores) -> loop.Advanced:
            # A row whose every token is forbidden draws the end, as the searches take it.
            log_probs = scores.logits if scores.ruled is not None else tf.nn.log_softmax(scores.logits)
            allowed = _without(log_probs if scores.ruled is None else scores.ruled, banned_ids)
            number = tf.reshape(numbers_now[:, :, progress.number_of_steps], [-1, 1])
            token_ids = _draw(allowed / temperature, number, top_k, top_p)
            is_stuck = tf.reduce_max(allowed, axis=-1, keepdims=True) == MINUS_INFINITY
            token_ids = tf.where(is_stuck, end_id, token_ids)
            if prefix_now is not None:
                prefix_ids, is_forced = prefix_now.at(progress.number_of_steps, tf.shape(token_ids)[0])
                token_ids = tf.where(is_forced, prefix_ids, token_ids)
            log_probs = tf.gather(log_probs, token_ids, batch_dims=1)
            token_ids, log_probs = tf.reshape(token_ids, places), tf.reshape(log_probs, places)
            return take(progress, token_ids, log_probs, limits_now, end_id, pad_id)

        return advance

    progress, record = loop.run(
        step,
        advance_for,
        loop.start(limits, samples, start_id, groups=samples),
        loop.repeat_rows(initial_state, samples),
        limits=limits,
        rules=rules,
        return_attention=return_attention,
        reorders=False,
    )
    return loop.result(progress, record, progress.sums, n_best=samples, pad_id=pad_id)


def _check_sampling(samples: int, temperature: Any, top_k: int, top_p: Any) -> None:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, but is {samples} instead.")
    if top_k < 0:
        raise ValueError(f"top_k must be at least 0, but is {top_k} instead. Use 0 to draw among all tokens.")
    if not tf.is_tensor(temperature) and not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, but is {temperature} instead. Use greedy_search for 0.")
    if top_p is not None and not tf.is_tensor(top_p) and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be greater than 0 and at most 1, but is {top_p} instead. Leave it out for all.")


def _without(log_probs: tf.Tensor, banned_ids: Sequence[int]) -> tf.Tensor:
    places = tf.range(tf.shape(log_probs)[1])
    is_banned = tf.reduce_any(places[:, tf.newaxis] == tf.constant(banned_ids), axis=-1)
    return tf.where(is_banned, MINUS_INFINITY, log_probs)


def _draw(values: tf.Tensor, numbers: tf.Tensor, top_k: int, top_p: Any) -> tf.Tensor:
    """One token a row, (rows, 1), with probabilities in proportion to exp(values): where the cumulated probability
    of the kept tokens first passes a (rows, 1) random share of all of it."""
    token_ids = None
    if top_k or top_p is not None:
        vocabulary = tf.shape(values)[1]
        values, token_ids = largest(values, top_k) if top_k else tf.math.top_k(values, vocabulary)
    probabilities = tf.nn.softmax(values)
    if top_p is not None:
        before = tf.cumsum(probabilities, axis=-1, exclusive=True)
        probabilities = tf.where(before < top_p, probabilities, 0.0)
    cumulated = tf.cumsum(probabilities, axis=-1)
    total = cumulated[:, -1:]
    # Rounding may take the share up to all of it: then the last token that has a probability is meant.
    is_passed = (cumulated > numbers * total) | (cumulated >= total)
    place = tf.argmax(is_passed, axis=-1, output_type=tf.int32)[:, tf.newaxis]
    return place if token_ids is None else tf.gather(token_ids, place, batch_dims=1)
