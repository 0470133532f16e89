"""Logits processors: minimum length, n-gram blocking, repetition penalty, banned tokens and phrases."""

import dataclasses
from typing import Any

import tensorflow as tf

from seq2seq.decoding.interface import MINUS_INFINITY, LogitsProcessor

Processed = tuple[tf.Tensor, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class MinimumLength(LogitsProcessor):
    """Forbids the end before a hypothesis has the minimum number of tokens of its sentence, the end included."""

    per_sentence = ("lengths",)

    lengths: tf.Tensor  # (batch,) int32
    end_id: int

    def __call__(self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: Any, num_steps: tf.Tensor) -> Processed:
        is_short = per_row(num_steps + 1 < self.lengths, tf.shape(log_probs)[0])

        def without_end() -> tf.Tensor:
            is_end = tf.range(tf.shape(log_probs)[1]) == self.end_id
            return tf.where(is_short[:, tf.newaxis] & is_end, MINUS_INFINITY, log_probs)

        return tf.cond(tf.reduce_any(is_short), without_end, lambda: log_probs), state


@dataclasses.dataclass(frozen=True, eq=False)
class OnlyWhereAllowed(LogitsProcessor):
    """Forbids one token in all sentences but some."""

    per_sentence = ("is_allowed",)

    token_id: int
    is_allowed: tf.Tensor  # (batch,) bool

    def __call__(self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: Any, num_steps: tf.Tensor) -> Processed:
        is_allowed = per_row(self.is_allowed, tf.shape(log_probs)[0])
        is_token = tf.range(tf.shape(log_probs)[1]) == self.token_id
        return tf.where(is_token & ~is_allowed[:, tf.newaxis], MINUS_INFINITY, log_probs), state


@dataclasses.dataclass(frozen=True, eq=False)
class HistoryProcessor(LogitsProcessor):
    """Keeps the tokens of every hypothesis, `(rows, longest)`, as its state."""

    pad_id: int = 0

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
        return tf.fill([rows, longest], self.pad_id)

    def __call__(self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: Any, num_steps: tf.Tensor) -> Processed:
        # The start token, which is read before the first step, is not part of the hypothesis.
        is_last = tf.range(tf.shape(state)[1]) == num_steps - 1
        history = tf.where(is_last, token_ids[:, tf.newaxis], state)
        return self.process(log_probs, history, num_steps), history

    def process(self, log_probs: tf.Tensor, history: tf.Tensor, num_steps: tf.Tensor) -> tf.Tensor:
        """Change the log-probabilities, given the tokens so far."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class NoRepeatedNgram(HistoryProcessor):
    """Forbids tokens that would repeat an n-gram of a hypothesis (Paulus et al. 2018, arXiv:1705.04304)."""

    size: int  # n, at least 1

    def process(self, log_probs: tf.Tensor, history: tf.Tensor, num_steps: tf.Tensor) -> tf.Tensor:
        # An n-gram that begins at a place is about to repeat where its first tokens are the last tokens written.
        places = tf.range(tf.shape(history)[1])
        is_repeated = tf.broadcast_to(places <= num_steps - self.size, tf.shape(history))
        for offset in range(self.size - 1):
            place = tf.maximum(num_steps - self.size + 1 + offset, 0)
            is_repeated &= tf.roll(history, -offset, axis=1) == tf.gather(history, place, axis=1)[:, tf.newaxis]
        return forbid(log_probs, tf.where(is_repeated, tf.roll(history, 1 - self.size, axis=1), self.pad_id))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RepetitionPenalty(HistoryProcessor):
    """Multiplies the log-probability of every token that a hypothesis already has.

    This is the penalized sampling of Keskar et al. 2019 (arXiv:1909.05858) on normalised logits: on raw logits its
    strength would depend on their arbitrary zero.
    """

    penalty: tf.Tensor  # () float32, at least 1

    def process(self, log_probs: tf.Tensor, history: tf.Tensor, num_steps: tf.Tensor) -> tf.Tensor:
        penalized = tf.gather(log_probs, history, batch_dims=1) * self.penalty
        return tf.tensor_scatter_nd_update(log_probs, _indices(history), penalized)


@dataclasses.dataclass(frozen=True, eq=False)
class BannedPhrases(LogitsProcessor):
    """Forbids phrases, whichever tokens spell them.

    Each sentence has an automaton. Its states are places within its phrases; from a place, each token that spells the
    next part of the phrase leads to a later one. State 0 is before every phrase and always active; state 1 is also
    active wherever a word may begin without a space before it; a token that leads to the last state completes a phrase
    and is forbidden.
    """

    per_sentence = ("sources", "token_ids", "targets")

    # Each (batch, transitions) int32; a transition from state 0 to state 0 is padding.
    sources: tf.Tensor
    token_ids: tf.Tensor
    targets: tf.Tensor
    num_states: tf.Tensor  # () int32, the same for all sentences
    begins_word: tf.Tensor  # (vocabulary,) bool, tokens after which a word may begin without a space

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
        return tf.zeros([rows, self.num_states], tf.bool)

    def __call__(self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: Any, num_steps: tf.Tensor) -> Processed:
        rows = tf.shape(log_probs)[0]
        sources, tokens, targets = (per_row(part, rows) for part in (self.sources, self.token_ids, self.targets))
        places = tf.range(self.num_states)
        is_taken = tf.gather(state, sources, batch_dims=1) & (tokens == token_ids[:, tf.newaxis])
        is_reached = is_taken[..., tf.newaxis] & (targets[..., tf.newaxis] == places)
        begins_word = (num_steps == 0) | tf.gather(self.begins_word, token_ids)
        is_active = tf.reduce_any(is_reached, axis=1) | (places == 0) | ((places == 1) & begins_word[:, tf.newaxis])
        completes = tf.gather(is_active, sources, batch_dims=1) & (targets == self.num_states - 1)
        # A token that occurs twice stays forbidden, since minus infinity is the minimum.
        return forbid(log_probs, tokens, completes), is_active


def forbid(log_probs: tf.Tensor, token_ids: tf.Tensor, where: tf.Tensor | None = None) -> tf.Tensor:
    """Give `(rows, n)` tokens of `(rows, vocabulary)` log-probabilities minus infinity, all or only some."""
    lowest = tf.fill(tf.shape(token_ids), MINUS_INFINITY)
    if where is not None:
        lowest = tf.where(where, lowest, float("inf"))
    return tf.tensor_scatter_nd_min(log_probs, _indices(token_ids), lowest)


def per_row(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Repeat `(batch, ...)` values for each of a sentence's rows, `(rows, ...)`."""
    return tf.repeat(values, rows // tf.maximum(tf.shape(values)[0], 1), axis=0)


def _indices(token_ids: tf.Tensor) -> tf.Tensor:
    rows = tf.broadcast_to(tf.range(tf.shape(token_ids)[0])[:, tf.newaxis], tf.shape(token_ids))
    return tf.stack([rows, token_ids], axis=-1)
