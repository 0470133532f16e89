"""Rows of unequal length as two flat arrays, which may lie on disk; and their padding into a rectangle."""

import abc
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from seq2seq.text.ids import PAD_ID


class Rows(abc.ABC):
    """Rows of unequal length, wherever they lie."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        return self.take(np.array([index])).values

    @abc.abstractmethod
    def lengths(self) -> np.ndarray:
        """Length of every row, `(rows,)` int32, in memory."""

    @abc.abstractmethod
    def take(self, indices: np.ndarray) -> "Ragged":
        """The rows at `indices`, `(rows,)`, in that order, in memory."""

    def padded(self, indices: np.ndarray, multiple: int = 1) -> np.ndarray:
        """The rows at `indices` as one rectangle, as `pad` makes it of lists.

        Args:
            indices: `(rows,)`.
            multiple: the width is rounded up to a multiple of this.

        Returns:
            `(rows, steps)` int32.
        """
        taken = self.take(indices)
        lengths = taken.lengths()
        width = int(rounded_up(lengths.max(initial=0), multiple))
        rectangle = np.full((len(indices), width), PAD_ID, np.int32)
        rectangle[np.arange(width) < lengths[:, None]] = taken.values
        return rectangle


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged(Rows):
    """Rows of unequal length, end to end: row i is `values[offsets[i]:offsets[i + 1]]`.

    Two arrays hold ten million rows as well as ten, and a memory map serves as well as memory.

    Args:
        values: `(sum of lengths,)`.
        offsets: `(rows + 1,)` int64, from 0.

    Examples:
        >>> rows = Ragged.from_lists([[5, 6, 3], [3]])
        >>> rows.padded(np.array([1, 0]))
        array([[3, 0, 0], [5, 6, 3]], dtype=int32)
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        """The same rows in memory."""
        offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(np.fromiter(itertools.chain.from_iterable(rows), np.int32, offsets[-1]), offsets)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> "Ragged":
        """The UTF-8 bytes of texts, a row each."""
        rows = [text.encode() for text in texts]
        offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(np.frombuffer(b"".join(rows), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets).astype(np.int32)

    def take(self, indices: np.ndarray) -> "Ragged":
        starts = np.asarray(self.offsets[indices])
        lengths = np.asarray(self.offsets[indices + 1]) - starts
        offsets = _offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(np.asarray(self.values[places]), offsets)


class Joined(Rows):
    """The rows of one part after those of another, while each part stays where it lies.

    Args:
        parts: the parts; one at least.

    Examples:
        >>> rows = Joined([Ragged.from_lists([[5, 3]]), Ragged.from_lists([[6, 7, 3], [3]])])
        >>> rows.padded(np.array([1, 0]))
        array([[6, 7, 3], [5, 3, 0]], dtype=int32)
    """

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def lengths(self) -> np.ndarray:
        return np.concatenate([part.lengths() for part in self._parts])

    def take(self, indices: np.ndarray) -> Ragged:
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        taken = [
            part.take(indices[numbers == number] - self._starts[number]) for number, part in enumerate(self._parts)
        ]
        by_part = Ragged(
            np.concatenate([rows.values for rows in taken]),
            _offsets(np.concatenate([rows.lengths() for rows in taken])),
        )
        return by_part.take(np.argsort(np.argsort(numbers, kind="stable")))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def pad(rows: Sequence[Sequence[int]], multiple: int = 1) -> np.ndarray:
    """Rows of ids as one rectangle, filled up on the right with `PAD_ID`, the side on which cuDNN wants it.

    Args:
        rows: lists of ids, of any lengths.
        multiple: the width is rounded up to a multiple of this.

    Returns:
        `(rows, steps)` int32.

    Examples:
        >>> pad([[5, 3], [6, 7, 3]], multiple=2)
        array([[5, 3, 0, 0], [6, 7, 3, 0]], dtype=int32)
    """
    return Ragged.from_lists(rows).padded(np.arange(len(rows)), multiple)


def rounded_up(widths: np.ndarray, multiple: int) -> np.ndarray:
    """The next multiple of a number, of every width."""
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, but is {multiple} instead.")
    return -(-widths // multiple) * multiple
