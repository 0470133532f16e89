"""Which target tokens translate which source tokens, learned from pairs: what shortlists of the vocabulary hold."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import numpy as np

from seq2seq.errors import DataError
from seq2seq.text.ids import END_ID, PAD_ID

MOST_PAIRS = 50_000
"""Pairs that are learned from at most, evenly spaced: what bounds the memory that learning takes."""
MOST_TRANSLATIONS = 128
"""Target tokens kept for each source token."""
FREQUENT = 128
"""Most frequent target tokens that every shortlist holds."""
ITERATIONS = 4


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The likeliest translations of every source token.

    Args:
        translations: `(source_vocabulary, MOST_TRANSLATIONS)` int32, the likeliest first; `PAD_ID` where there are
            fewer.
        frequent: `(FREQUENT,)` int32, the most frequent target tokens, the end token among them.
        is_joint: Whether a source token and the target token of the same number are one: then it translates itself.
    """

    translations: np.ndarray
    frequent: np.ndarray
    is_joint: bool

    def shortlist(self, source_ids: Sequence[int], size: int) -> np.ndarray:
        """The target tokens that may translate a source, in rising order.

        >>> lexicon = learn_lexicon([[4, 5, 3], [4, 3]], [[7, 8, 3], [7, 3]], 9, 9, is_joint=False)
        >>> lexicon.shortlist([5, 3], size=1).tolist()
        [3, 7, 8]

        Args:
            source_ids: The source.
            size: Likeliest translations to take of each of its tokens; at most `MOST_TRANSLATIONS`.
        """
        source = np.asarray(source_ids)
        parts = [self.frequent, self.translations[source, :size].ravel()]
        ids = np.unique(np.concatenate([*parts, source] if self.is_joint else parts))
        return ids[ids != PAD_ID]

    def to_bytes(self) -> bytes:
        """The lexicon as a compressed NumPy file."""
        file = io.BytesIO()
        np.savez_compressed(
            file, translations=self.translations, frequent=self.frequent, is_joint=np.array(self.is_joint)
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Lexicon:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as arrays:
            return cls(arrays["translations"], arrays["frequent"], bool(arrays["is_joint"]))


def learn_lexicon(
    source_ids: Sequence[Sequence[int]],
    target_ids: Sequence[Sequence[int]],
    source_vocabulary: int,
    target_vocabulary: int,
    is_joint: bool,
) -> Lexicon:
    """Learn translation probabilities by expectation maximisation: IBM Model 1 of Brown et al. 1993.

    Args:
        source_ids: Tokens of each source.
        target_ids: Tokens of each target.
        source_vocabulary: Number of source tokens.
        target_vocabulary: Number of target tokens.
        is_joint: Whether both are one vocabulary.

    Returns:
        The lexicon.

    Raises:
        DataError: There are no pairs.
    """
    if not source_ids:
        raise DataError("source and target must hold pairs to learn from, but hold none instead. Give other files.")
    places = np.unique(np.linspace(0, len(source_ids) - 1, min(MOST_PAIRS, len(source_ids))).astype(int))
    sources, targets = [np.unique(source_ids[place]) for place in places], [target_ids[place] for place in places]
    # Every token of a target beside every token of its source, target token by target token.
    source = np.concatenate([np.tile(one, len(other)) for one, other in zip(sources, targets, strict=True)])
    target = np.concatenate([np.repeat(other, len(one)) for one, other in zip(sources, targets, strict=True)])
    lengths = np.concatenate([np.full(len(other), len(one)) for one, other in zip(sources, targets, strict=True)])
    occurrence = np.repeat(np.arange(len(lengths)), lengths)
    keys, place = np.unique(source * np.int64(target_vocabulary) + target, return_inverse=True)
    key_source, key_target = keys // target_vocabulary, keys % target_vocabulary
    probabilities = np.ones(len(keys))
    for _ in range(ITERATIONS):
        shares = probabilities[place]
        shares /= np.bincount(occurrence, shares)[occurrence]
        counts = np.bincount(place, shares)
        probabilities = counts / np.bincount(key_source, counts)[key_source]
    order = np.lexsort((-probabilities, key_source))
    ordered = key_source[order]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    kept = rank < MOST_TRANSLATIONS
    translations = np.full((source_vocabulary, MOST_TRANSLATIONS), PAD_ID, np.int32)
    translations[ordered[kept], rank[kept]] = key_target[order][kept]
    counts = np.bincount(np.concatenate(targets), minlength=target_vocabulary)
    # Every target has an end, so that it is among them; what no target holds is not.
    found = np.argsort(-counts, kind="stable")[: min(FREQUENT, int(np.count_nonzero(counts)))]
    return Lexicon(translations, np.unique([*found, END_ID]).astype(np.int32), is_joint)
