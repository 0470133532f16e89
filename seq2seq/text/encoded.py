"""An encoded corpus: ids of all pairs, in memory or mapped from disk."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seq2seq.text.corpora import CorpusReport
from seq2seq.text.ragged import Ragged


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """Pairs as ids, each side with `END_ID` last, and, where they were kept, as texts.

    Args:
        source: ids of the sources.
        target: ids of the targets.
        source_text: UTF-8 bytes of the sources, or None.
        target_text: UTF-8 bytes of the targets, or None.
        report: how many pairs were read, and how many skipped for which reason.

    Examples:
        >>> corpus = EncodedCorpus.from_lists([[5, 3], [6, 7, 3]], [[8, 3], [9, 3]])
        >>> len(corpus), corpus.source[1].tolist()
        (2, [6, 7, 3])
    """

    source: Ragged
    target: Ragged
    source_text: Ragged | None = None
    target_text: Ragged | None = None
    report: CorpusReport = dataclasses.field(default_factory=CorpusReport)

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise ValueError(
                f"target must have as many rows as source, {len(self.source)}, but has {len(self.target)} instead."
            )

    @classmethod
    def from_lists(cls, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> "EncodedCorpus":
        """A corpus in memory, from ids that already stand in lists."""
        return cls(Ragged.from_lists(source), Ragged.from_lists(target), report=CorpusReport(pairs=len(source)))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def has_texts(self) -> bool:
        """Whether the texts were kept beside the ids."""
        return self.source_text is not None and self.target_text is not None

    def source_texts(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The source texts of some pairs, exactly as they were read.

        Raises:
            ValueError: where the texts were not kept.
        """
        return _texts(self.source_text, indices)

    def target_texts(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The target texts of some pairs, as `source_texts` gives the sources."""
        return _texts(self.target_text, indices)


def _texts(store: Ragged | None, indices: Sequence[int] | np.ndarray) -> list[str]:
    if store is None:
        raise ValueError("The corpus must hold its texts, but does not. Encode it with keep_text=True.")
    return [store[int(index)].tobytes().decode("utf-8") for index in indices]
