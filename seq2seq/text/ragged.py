"""Rows of unequal length as two flat arrays, which may lie on disk; and their padding into a rectangle."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seq2seq.text.ids import PAD_ID


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
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
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(np.array([value for row in rows for value in row], np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def lengths(self) -> np.ndarray:
        """Length of every row, `(rows,)` int32, in memory."""
        return np.diff(self.offsets).astype(np.int32)

    def padded(self, indices: np.ndarray, multiple: int = 1) -> np.ndarray:
        """The rows at `indices` as one rectangle, as `pad` makes it of lists.

        Args:
            indices: `(rows,)`.
            multiple: the width is rounded up to a multiple of this.

        Returns:
            `(rows, steps)` int32.
        """
        starts = np.asarray(self.offsets[indices])
        lengths = np.asarray(self.offsets[indices + 1]) - starts
        width = int(rounded_up(lengths.max(initial=0), multiple))
        rectangle = np.full((len(indices), width), PAD_ID, np.int32)
        flat_starts = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat(starts - flat_starts, lengths)
        rectangle[np.arange(width) < lengths[:, None]] = self.values[places]
        return rectangle


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
