"""An encoded corpus: ids of all pairs, in memory or mapped from disk, alone or as a mixture of corpora."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seq2seq.errors import ArgumentError, DataError, require_integer
from seq2seq.text.corpus import CorpusReport
from seq2seq.text.ids import PAD_ID

# Sets these random numbers apart from those that shuffle an epoch, which have two or three seeds.
_MIXING = 1


@dataclasses.dataclass(frozen=True, eq=False)
class RaggedArray:
    """Rows of unequal length, end to end in memory or in a memory map: row i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> "RaggedArray":
        """Copy rows into memory as int32."""
        offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(np.fromiter(itertools.chain.from_iterable(rows), np.int32, offsets[-1]), offsets)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> "RaggedArray":
        """Copy the UTF-8 bytes of texts into memory, a row each."""
        rows = [text.encode() for text in texts]
        offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(np.frombuffer(b"".join(rows), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.take(np.array([index])).values

    def lengths(self) -> np.ndarray:
        """Return the length of every row, `(rows,)` int32, in memory."""
        return np.diff(self.offsets).astype(np.int32)

    def take(self, indices: np.ndarray) -> "RaggedArray":
        """Copy the rows at `indices`, `(rows,)`, into memory, in that order."""
        starts = np.asarray(self.offsets[indices])
        lengths = np.asarray(self.offsets[indices + 1]) - starts
        offsets = _offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return RaggedArray(np.asarray(self.values[places]), offsets)

    def padded(self, multiple: int = 1) -> np.ndarray:
        """Pad all rows on the right, where cuDNN wants it, to one width, rounded up to a multiple."""
        lengths = self.lengths()
        width = int(rounded_up(lengths.max(initial=0), multiple))
        rectangle = np.full((len(self), width), PAD_ID, np.int32)
        rectangle[np.arange(width) < lengths[:, None]] = self.values
        return rectangle


class ConcatenatedArrays:
    """The rows of several parts one after the other; each part stays on disk where it is."""

    def __init__(self, parts: Sequence["Rows"]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def lengths(self) -> np.ndarray:
        """Return the length of every row, as `RaggedArray.lengths` does."""
        return np.concatenate([part.lengths() for part in self._parts])

    def take(self, indices: np.ndarray) -> RaggedArray:
        """Copy rows into memory, as `RaggedArray.take` does."""
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        taken = [
            part.take(indices[numbers == number] - self._starts[number]) for number, part in enumerate(self._parts)
        ]
        by_part = RaggedArray(
            np.concatenate([rows.values for rows in taken]),
            _offsets(np.concatenate([rows.lengths() for rows in taken])),
        )
        return by_part.take(np.argsort(np.argsort(numbers, kind="stable")))


Rows = RaggedArray | ConcatenatedArrays


def _offsets(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def pad(rows: Sequence[Sequence[int]], multiple: int = 1) -> np.ndarray:
    """Pad lists of ids on the right with `PAD_ID` to one width, rounded up to a multiple: `(rows, steps)` int32."""
    return RaggedArray.from_lists(rows).padded(multiple)


def rounded_up(widths: np.ndarray, multiple: int) -> np.ndarray:
    """Round widths up to a multiple."""
    require_integer("multiple", multiple)
    return -(-widths // multiple) * multiple


class MixtureComponent(NamedTuple):
    """A corpus in a mixture: its number of pairs, and the average count of each of them in an epoch."""

    pairs: int
    weight: float

    @property
    def size(self) -> int:
        """Number of its pairs in an epoch."""
        return round(self.weight * self.pairs)


def sample_mixture(components: Sequence[MixtureComponent], epoch: int, seed: int) -> np.ndarray:
    """Choose the pairs of an epoch, not yet shuffled.

    Each corpus is dealt like a pack of cards that is shuffled again whenever it is used up, and every epoch goes on
    where the last one stopped: of weight 2 it contains each pair twice, of weight 0.5 half of them, and the next epoch
    the other half. So the counts of a corpus' pairs differ by one at most after any number of epochs. The result,
    `(sum of sizes,)` int64, has the number of each pair in the concatenated corpora, plus the number of all pairs for
    each earlier pack of this epoch, so that all are different.
    """
    total = sum(component.pairs for component in components)
    chosen, start = [np.zeros(0, np.int64)], 0
    for place, component in enumerate(components):
        first, stop, count = epoch * component.size, (epoch + 1) * component.size, component.pairs
        packs = range(first // count, -(-stop // count)) if count else range(0)
        for pack in packs:
            begin, end = max(first - pack * count, 0), min(stop - pack * count, count)
            pairs = np.arange(count)
            # The order of a whole pack does not matter, since the epoch is shuffled.
            if end - begin < count:
                pairs = np.random.default_rng([seed, place, pack, _MIXING]).permutation(pairs)[begin:end]
            chosen.append(pairs + start + total * (pack - packs[0]))
        start += count
    return np.concatenate(chosen)


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """Pairs as ids, each side with `END_ID` last, and as UTF-8 bytes of sources and targets where they are kept.

    A corpus without `components` is one of weight 1.
    """

    source: Rows
    target: Rows
    texts: tuple[Rows, Rows] | None = None
    report: CorpusReport = dataclasses.field(default_factory=CorpusReport)
    components: tuple[MixtureComponent, ...] = ()

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise ArgumentError("target", f"as many rows as source, {len(self.source)}", len(self.target))

    @classmethod
    def from_lists(cls, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> "EncodedCorpus":
        """Copy ids in lists into memory."""
        report = CorpusReport(pairs=len(source))
        return cls(RaggedArray.from_lists(source), RaggedArray.from_lists(target), report=report)

    @classmethod
    def mixed(cls, corpora: Mapping[str, "EncodedCorpus"], weights: Mapping[str, float]) -> "EncodedCorpus":
        """Concatenate corpora whose pairs an epoch contains as often as the weights of their corpora say."""
        components = {name: MixtureComponent(len(corpus), weights[name]) for name, corpus in corpora.items()}
        for name, component in components.items():
            if component.size < 1:
                raise DataError(
                    f"{name}: the weight of a corpus must leave at least one of its pairs in an epoch, got "
                    f"{component.weight}, which leaves none of {component.pairs}. Raise it, or leave the corpus out."
                )
        every = tuple(corpora.values())
        texts = [corpus.texts for corpus in every if corpus.texts is not None]
        sources, targets = zip(*texts, strict=True) if len(texts) == len(every) else ((), ())
        return cls(
            ConcatenatedArrays([corpus.source for corpus in every]),
            ConcatenatedArrays([corpus.target for corpus in every]),
            (ConcatenatedArrays(sources), ConcatenatedArrays(targets)) if sources else None,
            CorpusReport.total(corpus.report for corpus in every),
            tuple(components.values()),
        )

    def __len__(self) -> int:
        return len(self.source)

    def source_texts(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Return the source texts of some pairs, exactly as they were read."""
        return self._texts(0, indices)

    def target_texts(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """Return the target texts of some pairs, exactly as they were read."""
        return self._texts(1, indices)

    def _texts(self, side: int, indices: Sequence[int] | np.ndarray) -> list[str]:
        if self.texts is None:
            raise ValueError("The corpus must have its texts, got none. Encode it with keep_text=True.")
        taken = self.texts[side].take(np.asarray(indices, np.int64))
        return [taken[place].tobytes().decode("utf-8") for place in range(len(taken))]
