"""Required phrases: token sequences that every hypothesis of a sentence must contain (positive lexical constraints).

Each phrase is matched by a Knuth-Morris-Pratt automaton of its own, so that phrases may overlap and come in any order.
Beam search satisfies them by three rules: no hypothesis ends before it has them all; the next token of each phrase is
always a candidate, whatever its rank; and no token may be taken after which the missing phrases, one after the other,
would exceed the length limit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
import tensorflow as tf

from seq2seq.decoding.candidates import Candidates
from seq2seq.decoding.interface import MINUS_INFINITY, PerSentence
from seq2seq.decoding.loop import Scores

NO_TOKEN = -1


@dataclasses.dataclass(frozen=True, eq=False)
class RequiredPhrases(PerSentence):
    """The phrases of every sentence of a batch, padded with empty ones.

    `overlaps[:, :, p, q]` says whether the first q tokens of a phrase are also the last q of its first p: after p
    tokens, the q-th token then also continues a match. `continues_word` marks tokens that make another word of the one
    before: a phrase counts only if none of them follows it, and may not begin with one; None: a phrase may be the start
    of a longer word.
    """

    per_sentence = ("token_ids", "overlaps")

    token_ids: tf.Tensor  # (batch, phrases, tokens) int32, padded with -1
    overlaps: tf.Tensor  # (batch, phrases, tokens + 1, tokens) bool
    continues_word: tf.Tensor | None = None  # (vocabulary,) bool

    @classmethod
    def from_lists(cls, phrases: Sequence[Sequence[Sequence[int]]]) -> Self:
        """Build NumPy arrays from the token ids of each phrase of each sentence.

        >>> phrases = RequiredPhrases.from_lists([[[7, 8, 7]], []])
        >>> phrases.token_ids[:, 0].tolist()
        [[7, 8, 7], [-1, -1, -1]]
        >>> phrases.overlaps[0, 0, 3].tolist()  # 7 8 7 ends with nothing and with 7, but not with 7 8
        [True, True, False]
        """
        most = max([1, *(len(sentence) for sentence in phrases)])
        longest = max([1, *(len(phrase) for sentence in phrases for phrase in sentence)])
        token_ids = np.full((len(phrases), most, longest), NO_TOKEN, np.int32)
        overlaps = np.zeros((len(phrases), most, longest + 1, longest), bool)
        for row, sentence in enumerate(phrases):
            for column, phrase in enumerate(sentence):
                tokens = list(phrase)
                token_ids[row, column, : len(tokens)] = tokens
                for written in range(len(tokens) + 1):
                    for first in range(min(written + 1, longest)):
                        overlaps[row, column, written, first] = tokens[written - first : written] == tokens[:first]
        return cls(token_ids, overlaps)

    @property
    def lengths(self) -> tf.Tensor:
        """Numbers of tokens, `(batch, phrases)`, 0 for an empty phrase."""
        return tf.reduce_sum(tf.cast(self.token_ids != NO_TOKEN, tf.int32), axis=-1)

    def start(self, beams: int) -> tf.Tensor:
        """Return the positions of empty hypotheses, `(batch, beams, phrases)` int32.

        A position is the number of a phrase's tokens that the hypothesis ends with; the length of the phrase where it
        has just been completed, and one more where it counts for good.
        """
        shape = tf.shape(self.token_ids)
        return tf.zeros([shape[0], beams, shape[1]], tf.int32)

    def advance(self, positions: tf.Tensor, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the positions after each candidate, `(batch, beams, candidates, phrases)`."""
        positions = tf.transpose(positions, [0, 2, 1])
        matched = tf.minimum(positions, tf.shape(self.token_ids)[2])
        may_continue = tf.gather(self.overlaps, matched, batch_dims=2)[:, :, :, tf.newaxis]
        is_next = self.token_ids[:, :, tf.newaxis, tf.newaxis] == token_ids[:, tf.newaxis, :, :, tf.newaxis]
        places = tf.range(1, tf.shape(self.token_ids)[2] + 1)
        reached = tf.reduce_max(tf.where(may_continue & is_next, places, 0), axis=-1)
        lengths, positions = self.lengths[..., tf.newaxis, tf.newaxis], positions[..., tf.newaxis]
        counts = positions >= lengths
        if self.continues_word is not None:
            ends_word = ~tf.gather(self.continues_word, token_ids)[:, tf.newaxis]
            counts &= (positions > lengths) | ends_word
        return tf.transpose(tf.where(counts, lengths + 1, reached), [0, 2, 3, 1])

    def num_matched(self, positions: tf.Tensor) -> tf.Tensor:
        """Count the required tokens of hypotheses, `(batch, beams, n)`, from `(batch, beams, n, phrases)` positions."""
        return tf.reduce_sum(tf.minimum(positions, self.lengths[:, tf.newaxis, tf.newaxis]), axis=-1)

    def num_missing(self, positions: tf.Tensor) -> tf.Tensor:
        """Count the tokens that complete all phrases if one is finished and the others follow in full."""
        lengths = self.lengths[:, tf.newaxis, tf.newaxis]
        is_missing = positions < lengths
        begun = tf.reduce_max(tf.where(is_missing, positions, 0), axis=-1)
        return tf.reduce_sum(tf.where(is_missing, lengths, 0), axis=-1) - begun

    def extend_candidates(
        self, candidates: Candidates, scores: Scores, positions: tf.Tensor, pad_id: int
    ) -> Candidates:
        """Add the next tokens of the phrases to the candidates of every row, each token once.

        Logits processors cannot forbid these tokens, so that they never make a phrase impossible.
        """
        place = tf.minimum(positions, tf.shape(self.token_ids)[2] - 1)
        next_ids = tf.gather(self.token_ids, tf.transpose(place, [0, 2, 1]), batch_dims=2)
        is_missing = positions < self.lengths[:, tf.newaxis]
        next_ids = tf.where(is_missing, tf.transpose(next_ids, [0, 2, 1]), pad_id)
        next_ids = tf.reshape(next_ids, [-1, tf.shape(next_ids)[2]])
        log_probs = tf.gather(scores.logits, next_ids, batch_dims=1) - candidates.normalizers
        gains = log_probs
        if scores.processed is not None:
            processed = tf.gather(scores.processed, next_ids, batch_dims=1)
            gains = tf.where(processed == MINUS_INFINITY, log_probs, processed)
        places = tf.range(tf.shape(next_ids)[1])
        equal = next_ids[:, :, tf.newaxis] == next_ids[:, tf.newaxis]
        is_duplicate = tf.reduce_any(equal & (places[:, tf.newaxis] > places), axis=-1)
        is_among = tf.reduce_any(candidates.token_ids[..., tf.newaxis] == next_ids[:, tf.newaxis], axis=-1)
        old_gains = tf.where(is_among, MINUS_INFINITY, candidates.gains)
        new_gains = tf.where(is_duplicate | (next_ids == pad_id), MINUS_INFINITY, gains)
        return Candidates(
            tf.concat([candidates.token_ids, next_ids], axis=1),
            tf.concat([old_gains, new_gains], axis=1),
            tf.concat([candidates.log_probs, log_probs], axis=1),
            candidates.normalizers,
        )


def best_of_each_bank(priorities: tf.Tensor, banks: tf.Tensor, count: int) -> tf.Tensor:
    """Choose `count` of `(batch, n)` continuations so that each number of required tokens keeps its share of the beam.

    This is dynamic beam allocation (Post and Vilar 2018, arXiv:1804.06609), as ranks (Hu et al. 2019): first the best
    of each bank, the one with the most required tokens before the others, then the second best of each, and so on. A
    priority of infinity comes before all banks, minus infinity after.
    """
    order = tf.argsort(priorities, direction="DESCENDING", stable=True)
    banks = tf.gather(banks, order, batch_dims=1)
    num_banks = tf.reduce_max(banks) + 1
    members = tf.one_hot(banks, num_banks, dtype=tf.int32)
    rank = tf.gather(tf.cumsum(members, axis=1), banks, batch_dims=2)
    turn = rank * num_banks - banks
    sorted_priorities = tf.gather(priorities, order, batch_dims=1)
    turn = tf.where(sorted_priorities == float("inf"), 0, turn)
    turn = tf.where(sorted_priorities > MINUS_INFINITY, turn, tf.int32.max)
    _, chosen = tf.math.top_k(-turn, count)
    return tf.gather(order, chosen, batch_dims=1)
