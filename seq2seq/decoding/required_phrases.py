"""Required phrases: sequences of tokens that every hypothesis of a sentence must hold (positive lexical constraints).

Each phrase is matched by an automaton of its own, the one of Knuth, Morris and Pratt, so that phrases may overlap and
come in any order. Three things make beam search honour them: no hypothesis ends before it holds them all; the next
token of each phrase is always a candidate, whatever its rank; and no token may be taken after which the phrases that
are missing, one after the other, would pass the length limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.decoding.candidates import Candidates
from seq2seq.decoding.loop import MINUS_INFINITY, Scores

NO_TOKEN = -1


class RequiredPhrases(NamedTuple):
    """The phrases of every sentence of a batch; those with fewer than the most are filled up with empty ones.

    Attributes:
        token_ids: (batch, phrases, tokens) int32, -1 after the end of a phrase.
        overlaps: (batch, phrases, tokens + 1, tokens) bool: whether the first q tokens of the phrase are also the
            last q of its first p, at [p, q]. After p tokens, the q-th token is then one that goes on.
        continues_word: (vocabulary,) bool, the tokens that make another word of the one before: a phrase counts only
            if none of them follows it. No phrase may begin with one. None: a phrase may be the start of a longer word.
    """

    token_ids: tf.Tensor
    overlaps: tf.Tensor
    continues_word: tf.Tensor | None = None

    @classmethod
    def from_lists(cls, phrases: Sequence[Sequence[Sequence[int]]]) -> RequiredPhrases:
        """Make them from the token ids of each phrase of each sentence, as NumPy arrays.

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

    def for_sentences(self, sentences: tf.Tensor) -> RequiredPhrases:
        """The phrases of these of the sentences, (batch,) int32."""
        return self._replace(
            token_ids=tf.gather(self.token_ids, sentences), overlaps=tf.gather(self.overlaps, sentences)
        )

    @property
    def lengths(self) -> tf.Tensor:
        """(batch, phrases) int32, 0 for an empty one."""
        return tf.reduce_sum(tf.cast(self.token_ids != NO_TOKEN, tf.int32), axis=-1)

    def start(self, beams: int) -> tf.Tensor:
        """The positions of an empty hypothesis, (batch, beams, phrases) int32.

        A position is the number of a phrase's tokens that the hypothesis ends with; as many as the phrase has where it
        has just been written, and one more where it counts for good.
        """
        shape = tf.shape(self.token_ids)
        return tf.zeros([shape[0], beams, shape[1]], tf.int32)

    def after(self, positions: tf.Tensor, token_ids: tf.Tensor) -> tf.Tensor:
        """The positions after one more token.

        Args:
            positions: (batch, beams, phrases) int32.
            token_ids: (batch, beams, candidates) int32.

        Returns:
            (batch, beams, candidates, phrases) int32.
        """
        positions = tf.transpose(positions, [0, 2, 1])
        written = tf.minimum(positions, tf.shape(self.token_ids)[2])
        may_go_on = tf.gather(self.overlaps, written, batch_dims=2)[:, :, :, tf.newaxis]
        is_next = self.token_ids[:, :, tf.newaxis, tf.newaxis] == token_ids[:, tf.newaxis, :, :, tf.newaxis]
        places = tf.range(1, tf.shape(self.token_ids)[2] + 1)
        reached = tf.reduce_max(tf.where(may_go_on & is_next, places, 0), axis=-1)
        lengths, positions = self.lengths[..., tf.newaxis, tf.newaxis], positions[..., tf.newaxis]
        counts = positions >= lengths
        if self.continues_word is not None:
            ends_word = ~tf.gather(self.continues_word, token_ids)[:, tf.newaxis]
            counts &= (positions > lengths) | ends_word
        return tf.transpose(tf.where(counts, lengths + 1, reached), [0, 2, 3, 1])

    def written(self, positions: tf.Tensor) -> tf.Tensor:
        """How many required tokens hypotheses hold, (batch, beams, n).

        Args:
            positions: (batch, beams, n, phrases) int32.
        """
        return tf.reduce_sum(tf.minimum(positions, self.lengths[:, tf.newaxis, tf.newaxis]), axis=-1)

    def missing(self, positions: tf.Tensor) -> tf.Tensor:
        """How many tokens complete all phrases if one is finished and the others follow whole, (batch, beams, n).

        Args:
            positions: (batch, beams, n, phrases) int32.
        """
        lengths = self.lengths[:, tf.newaxis, tf.newaxis]
        is_missing = positions < lengths
        begun = tf.reduce_max(tf.where(is_missing, positions, 0), axis=-1)
        return tf.reduce_sum(tf.where(is_missing, lengths, 0), axis=-1) - begun

    def next_tokens(self, positions: tf.Tensor, pad_id: int) -> tf.Tensor:
        """The token that goes on with each phrase, (batch, beams, phrases) int32; `pad_id` where none is missing."""
        place = tf.minimum(positions, tf.shape(self.token_ids)[2] - 1)
        token_ids = tf.gather(self.token_ids, tf.transpose(place, [0, 2, 1]), batch_dims=2)
        is_missing = positions < self.lengths[:, tf.newaxis]
        return tf.where(is_missing, tf.transpose(token_ids, [0, 2, 1]), pad_id)

    def join(self, candidates: Candidates, scores: Scores, positions: tf.Tensor, pad_id: int) -> Candidates:
        """Give every row the next tokens of its phrases as candidates too, each token once.

        Rules do not forbid them, so that no rule can stand in the way of a phrase.
        """
        next_ids = self.next_tokens(positions, pad_id)
        next_ids = tf.reshape(next_ids, [-1, tf.shape(next_ids)[2]])
        log_probs = tf.gather(scores.logits, next_ids, batch_dims=1) - candidates.normalizers
        gains = log_probs
        if scores.ruled is not None:
            ruled = tf.gather(scores.ruled, next_ids, batch_dims=1)
            gains = tf.where(ruled == MINUS_INFINITY, log_probs, ruled)
        places = tf.range(tf.shape(next_ids)[1])
        equal = next_ids[:, :, tf.newaxis] == next_ids[:, tf.newaxis]
        is_second = tf.reduce_any(equal & (places[:, tf.newaxis] > places), axis=-1)
        is_among = tf.reduce_any(candidates.token_ids[..., tf.newaxis] == next_ids[:, tf.newaxis], axis=-1)
        return Candidates(
            tf.concat([candidates.token_ids, next_ids], axis=1),
            tf.concat(
                [
                    tf.where(is_among, MINUS_INFINITY, candidates.gains),
                    tf.where(is_second | (next_ids == pad_id), MINUS_INFINITY, gains),
                ],
                axis=1,
            ),
            tf.concat([candidates.log_probs, log_probs], axis=1),
            candidates.normalizers,
        )


def best_of_each_bank(priorities: tf.Tensor, banks: tf.Tensor, count: int) -> tf.Tensor:
    """Choose continuations so that each number of required tokens that some hold keeps its share of the places.

    Dynamic beam allocation (Post and Vilar 2018, arXiv:1804.06609), as ranks (Hu et al. 2019): first the best of each
    bank, the bank that holds most before the others, then the second best of each, and so on.

    Args:
        priorities: (batch, n) float32; infinity comes before all banks, minus infinity after.
        banks: (batch, n) int32, how many required tokens a continuation holds.
        count: how many to choose.

    Returns:
        (batch, count) int32 places.
    """
    order = tf.argsort(priorities, direction="DESCENDING", stable=True)
    banks = tf.gather(banks, order, batch_dims=1)
    number_of_banks = tf.reduce_max(banks) + 1
    members = tf.one_hot(banks, number_of_banks, dtype=tf.int32)
    rank = tf.gather(tf.cumsum(members, axis=1), banks, batch_dims=2)
    turn = rank * number_of_banks - banks
    sorted_priorities = tf.gather(priorities, order, batch_dims=1)
    turn = tf.where(sorted_priorities == float("inf"), 0, turn)
    turn = tf.where(sorted_priorities > MINUS_INFINITY, turn, tf.int32.max)
    _, chosen = tf.math.top_k(-turn, count)
    return tf.gather(order, chosen, batch_dims=1)
