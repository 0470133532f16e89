"""Translation lexicons, learned from pairs of token ids, that select a shortlist of the target vocabulary."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np

from seq2seq.errors import DataError
from seq2seq.text.ids import END_ID, PAD_ID

MOST_PAIRS = 50_000
"""Number of pairs to learn from, evenly spaced: bounds the memory of learning."""
MOST_TRANSLATIONS = 128
"""Target tokens kept for each source token."""
FREQUENT = 128
"""Number of the most frequent target tokens, part of every shortlist."""
ITERATIONS = 4


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """The most probable translations of every source token.

    Attributes:
        translations: `(source_vocabulary, MOST_TRANSLATIONS)` int32, most probable first, filled with `PAD_ID`.
        frequent: `(FREQUENT,)` int32, the most frequent target tokens, the end token among them.
        is_joint: Whether equal source and target ids are the same token, which then translates itself.
    """

    translations: np.ndarray
    frequent: np.ndarray
    is_joint: bool

    def shortlist(self, source_ids: Sequence[int], size: int) -> np.ndarray:
        """Select the target tokens that may translate a source, ascending: `size` for each of its tokens."""
        source = np.asarray(source_ids)
        parts = [self.frequent, self.translations[source, :size].ravel()]
        ids = np.unique(np.concatenate([*parts, source] if self.is_joint else parts))
        return ids[ids != PAD_ID]

    def to_bytes(self) -> bytes:
        """Serialize to a compressed NumPy file."""
        file = io.BytesIO()
        np.savez_compressed(
            file, translations=self.translations, frequent=self.frequent, is_joint=np.array(self.is_joint)
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Lexicon":
        """Read the content that `to_bytes` wrote."""
        with np.load(io.BytesIO(content)) as arrays:
            return cls(arrays["translations"], arrays["frequent"], bool(arrays["is_joint"]))


def learn_lexicon(
    source_ids: Sequence[Sequence[int]],
    target_ids: Sequence[Sequence[int]],
    source_vocabulary: int,
    target_vocabulary: int,
    is_joint: bool,
) -> Lexicon:
    """Learn translation probabilities by expectation maximisation: IBM Model 1 of Brown et al. 1993."""
    if not source_ids:
        raise DataError("source and target must have pairs to learn from, got none. Give other files.")
    places = np.unique(np.linspace(0, len(source_ids) - 1, min(MOST_PAIRS, len(source_ids))).astype(int))
    sources, targets = [np.unique(source_ids[place]) for place in places], [target_ids[place] for place in places]
    # Every token of a target with every token of its source, target token by target token.
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
    is_kept = rank < MOST_TRANSLATIONS
    translations = np.full((source_vocabulary, MOST_TRANSLATIONS), PAD_ID, np.int32)
    translations[ordered[is_kept], rank[is_kept]] = key_target[order][is_kept]
    counts = np.bincount(np.concatenate(targets), minlength=target_vocabulary)
    # Tokens that no target has are not frequent; every target has an end, so the end is.
    frequent = np.argsort(-counts, kind="stable")[: min(FREQUENT, int(np.count_nonzero(counts)))]
    return Lexicon(translations, np.unique([*frequent, END_ID]).astype(np.int32), is_joint)
