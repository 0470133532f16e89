"""An encoded corpus: ids of all pairs, in memory or mapped from disk."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from seq2seq.errors import DataError
from seq2seq.text.corpora import CorpusReport
from seq2seq.text.mixing import Share
from seq2seq.text.ragged import Joined, Ragged, Rows


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """Pairs as ids, each side with `END_ID` last, and, where they were kept, as texts.

    Args:
        source: ids of the sources.
        target: ids of the targets.
        source_text: UTF-8 bytes of the sources, or None.
        target_text: UTF-8 bytes of the targets, or None.
        report: how many pairs were read, and how many skipped for which reason.
        shares: of what corpora it is a mixture, in order; none: it is one corpus, of weight 1.

    Examples:
        >>> corpus = EncodedCorpus.from_lists([[5, 3], [6, 7, 3]], [[8, 3], [9, 3]])
        >>> len(corpus), corpus.source[1].tolist()
        (2, [6, 7, 3])
    """

    source: Rows
    target: Rows
    source_text: Rows | None = None
    target_text: Rows | None = None
    report: CorpusReport = dataclasses.field(default_factory=CorpusReport)
    shares: tuple[Share, ...] = ()

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise ValueError(
                f"target must have as many rows as source, {len(self.source)}, but has {len(self.target)} instead."
            )

    @classmethod
    def from_lists(cls, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> "EncodedCorpus":
        """A corpus in memory, from ids that already stand in lists."""
        return cls(Ragged.from_lists(source), Ragged.from_lists(target), report=CorpusReport(pairs=len(source)))

    @classmethod
    def mixed(cls, corpora: Mapping[str, "EncodedCorpus"], weights: Mapping[str, float]) -> "EncodedCorpus":
        """Corpora as one, whose pairs are met in training as often as the weights of their corpora say.

        Args:
            corpora: encoded alike, by what they are called.
            weights: of each, how many times an epoch holds each of its pairs: 2 twice, 0.5 half of them, another half
                in every epoch.

        Returns:
            A corpus whose pairs are those of the first, then those of the second and so on; each stays where it lies.

        Raises:
            DataError: where a weight leaves no pair of a corpus.

        Examples:
            >>> corpora = {
            ...     "news": EncodedCorpus.from_lists([[5, 3]], [[8, 3]]),
            ...     "web": EncodedCorpus.from_lists([[6, 3], [7, 3]], [[9, 3], [4, 3]]),
            ... }
            >>> EncodedCorpus.mixed(corpora, {"news": 2, "web": 0.5}).shares
            (Share(pairs=1, weight=2), Share(pairs=2, weight=0.5))
        """
        shares = {name: Share(len(corpus), weights[name]) for name, corpus in corpora.items()}
        for name, share in shares.items():
            if share.size < 1:
                raise DataError(
                    f"{name}: the weight of a corpus must leave one of its pairs in an epoch at least, but "
                    f"{share.weight} leaves none of {share.pairs} instead. Raise it, or leave the corpus out."
                )
        every = corpora.values()
        return cls(
            Joined([corpus.source for corpus in every]),
            Joined([corpus.target for corpus in every]),
            _joined_texts([corpus.source_text for corpus in every]),
            _joined_texts([corpus.target_text for corpus in every]),
            CorpusReport.total(corpus.report for corpus in every),
            tuple(shares.values()),
        )

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


def _joined_texts(parts: Sequence[Rows | None]) -> Joined | None:
    kept = [part for part in parts if part is not None]
    return Joined(kept) if len(kept) == len(parts) else None


def _texts(store: Rows | None, indices: Sequence[int] | np.ndarray) -> list[str]:
    if store is None:
        raise ValueError("The corpus must hold its texts, but does not. Encode it with keep_text=True.")
    taken = store.take(np.asarray(indices, np.int64))
    return [taken[place].tobytes().decode("utf-8") for place in range(len(taken))]
