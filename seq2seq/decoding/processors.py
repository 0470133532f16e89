"""Rules: what changes the log-probabilities of the next tokens before a search sees them.

A rule reads the last token as a decoder does and keeps what it must remember in a state of its own, one row a
hypothesis, which follows the hypothesis through the search. A log-probability of minus infinity forbids a token; a
rule may lower log-probabilities but never raise them, which early stopping relies on.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import tensorflow as tf

MINUS_INFINITY = -float("inf")


class Rule(Protocol):
    """What every rule has; `rows` are hypotheses, those of a sentence together."""

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> Any:
        """The state before the first token: nested tensors of shape (rows, ...), for at most `longest` tokens."""

    def for_sentences(self, sentences: tf.Tensor) -> Rule:
        """The rule for these of the sentences, (batch,) int32, alone."""

    def __call__(
        self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: Any, number_of_steps: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Change (rows, vocabulary) log-probabilities, given the last tokens (rows,) and how many came before."""


class MinimumLength(NamedTuple):
    """No end before a sentence has so many tokens, the end counted.

    Attributes:
        lengths: (batch,) int32.
        end_id: the token that ends a hypothesis.
    """

    lengths: tf.Tensor
    end_id: int

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> Any:
        return ()

    def for_sentences(self, sentences: tf.Tensor) -> MinimumLength:
        return self._replace(lengths=tf.gather(self.lengths, sentences))

    def __call__(
        self,
        log_probs: tf.Tensor,
        token_ids: tf.Tensor,
        state: Any,
        number_of_steps: tf.Tensor,
    ) -> tuple[tf.Tensor, Any]:
        is_short = per_row(number_of_steps + 1 < self.lengths, tf.shape(log_probs)[0])

        def without_end() -> tf.Tensor:
            is_end = tf.range(tf.shape(log_probs)[1]) == self.end_id
            return tf.where(is_short[:, tf.newaxis] & is_end, MINUS_INFINITY, log_probs)

        return tf.cond(tf.reduce_any(is_short), without_end, lambda: log_probs), state


class OnlyWhereAllowed(NamedTuple):
    """A token that only some sentences may take.

    Attributes:
        token_id: the token.
        is_allowed: (batch,) bool.
    """

    token_id: int
    is_allowed: tf.Tensor

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> Any:
        return ()

    def for_sentences(self, sentences: tf.Tensor) -> OnlyWhereAllowed:
        return self._replace(is_allowed=tf.gather(self.is_allowed, sentences))

    def __call__(
        self,
        log_probs: tf.Tensor,
        token_ids: tf.Tensor,
        state: Any,
        number_of_steps: tf.Tensor,
    ) -> tuple[tf.Tensor, Any]:
        is_allowed = per_row(self.is_allowed, tf.shape(log_probs)[0])
        is_token = tf.range(tf.shape(log_probs)[1]) == self.token_id
        return tf.where(is_token & ~is_allowed[:, tf.newaxis], MINUS_INFINITY, log_probs), state


class NoRepeatedNgram(NamedTuple):
    """No sequence of `size` tokens comes twice in a hypothesis (Paulus et al. 2018, arXiv:1705.04304).

    Attributes:
        size: at least 1; with 1 no token comes twice.
        pad_id: a token that no hypothesis takes.
    """

    size: int
    pad_id: int = 0

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
        return tf.fill([rows, longest], self.pad_id)

    def for_sentences(self, sentences: tf.Tensor) -> NoRepeatedNgram:
        return self

    def __call__(
        self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: tf.Tensor, number_of_steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        history = _written(state, token_ids, number_of_steps)
        # An n-gram that begins at a place is about to come again where its first tokens are those written last.
        places = tf.range(tf.shape(history)[1])
        is_repeated = tf.broadcast_to(places <= number_of_steps - self.size, tf.shape(history))
        for offset in range(self.size - 1):
            place = tf.maximum(number_of_steps - self.size + 1 + offset, 0)
            is_repeated &= tf.roll(history, -offset, axis=1) == tf.gather(history, place, axis=1)[:, tf.newaxis]
        followers = tf.where(is_repeated, tf.roll(history, 1 - self.size, axis=1), self.pad_id)
        return forbidden(log_probs, followers), history


class RepetitionPenalty(NamedTuple):
    """The log-probability of a token that the hypothesis holds already is multiplied by a penalty.

    The penalized sampling of Keskar et al. 2019 (arXiv:1909.05858) on normalised logits: theirs depends on where the
    logits' zero is, which means nothing.

    Attributes:
        penalty: () float32, at least 1.
        pad_id: a token that no hypothesis takes.
    """

    penalty: tf.Tensor
    pad_id: int = 0

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
        return tf.fill([rows, longest], self.pad_id)

    def for_sentences(self, sentences: tf.Tensor) -> RepetitionPenalty:
        return self

    def __call__(
        self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: tf.Tensor, number_of_steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        history = _written(state, token_ids, number_of_steps)
        penalized = tf.gather(log_probs, history, batch_dims=1) * self.penalty
        return tf.tensor_scatter_nd_update(log_probs, _places(history), penalized), history


class BannedPhrases(NamedTuple):
    """No hypothesis spells a phrase, whichever tokens it is spelled with.

    Each sentence has an automaton. Its states are places within its phrases; from a place, each token that spells the
    phrase on leads to a later one. State 0 is before every phrase and always active; state 1 is there too wherever a
    word may begin without a space before it; a token that leads to the last state completes a phrase and is forbidden.

    Attributes:
        sources, token_ids, targets: (batch, transitions) int32: from which state each token leads to which. A
            transition that fills up a row leads from state 0 to state 0.
        number_of_states: () int32, the same for all sentences.
        begins_word: (vocabulary,) bool, the tokens after which a word may begin without a space.
    """

    sources: tf.Tensor
    token_ids: tf.Tensor
    targets: tf.Tensor
    number_of_states: tf.Tensor
    begins_word: tf.Tensor

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> tf.Tensor:
        return tf.zeros([rows, self.number_of_states], tf.bool)

    def for_sentences(self, sentences: tf.Tensor) -> BannedPhrases:
        sources, token_ids, targets = (tf.gather(values, sentences) for values in self[:3])
        return self._replace(sources=sources, token_ids=token_ids, targets=targets)

    def __call__(
        self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: tf.Tensor, number_of_steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.shape(log_probs)[0]
        sources, tokens, targets = (per_row(part, rows) for part in self[:3])
        places = tf.range(self.number_of_states)
        is_taken = tf.gather(state, sources, batch_dims=1) & (tokens == token_ids[:, tf.newaxis])
        is_reached = is_taken[..., tf.newaxis] & (targets[..., tf.newaxis] == places)
        begins_word = (number_of_steps == 0) | tf.gather(self.begins_word, token_ids)
        is_active = tf.reduce_any(is_reached, axis=1) | (places == 0) | ((places == 1) & begins_word[:, tf.newaxis])
        completes = tf.gather(is_active, sources, batch_dims=1) & (targets == self.number_of_states - 1)
        # A token that is given twice stays forbidden: minus infinity is the least of all.
        return forbidden(log_probs, tokens, completes), is_active


def forbidden(log_probs: tf.Tensor, token_ids: tf.Tensor, where: tf.Tensor | None = None) -> tf.Tensor:
    """Give (rows, n) tokens of (rows, vocabulary) log-probabilities minus infinity, at all n or `where` it is True."""
    lowest = tf.fill(tf.shape(token_ids), MINUS_INFINITY)
    if where is not None:
        lowest = tf.where(where, lowest, float("inf"))
    return tf.tensor_scatter_nd_min(log_probs, _places(token_ids), lowest)


def per_row(values: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Return (batch, ...) values once for each of a sentence's rows, (rows, ...)."""
    return tf.repeat(values, rows // tf.maximum(tf.shape(values)[0], 1), axis=0)


def _places(token_ids: tf.Tensor) -> tf.Tensor:
    rows = tf.broadcast_to(tf.range(tf.shape(token_ids)[0])[:, tf.newaxis], tf.shape(token_ids))
    return tf.stack([rows, token_ids], axis=-1)


def _written(history: tf.Tensor, token_ids: tf.Tensor, number_of_steps: tf.Tensor) -> tf.Tensor:
    """The history with the last token at its end; what is read before the first step is the start, not written."""
    is_last = tf.range(tf.shape(history)[1]) == number_of_steps - 1
    return tf.where(is_last, token_ids[:, tf.newaxis], history)
