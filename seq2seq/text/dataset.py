"""An encoded corpus: ids of all pairs, in memory or mapped from disk."""

import abc
import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import mmap
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import sentencepiece

from seq2seq.errors import DataError
from seq2seq.files import atomic
from seq2seq.progress import ProgressBar
from seq2seq.text.corpus import CorpusReport, Pair
from seq2seq.text.ids import PAD_ID
from seq2seq.text.tokenizer import WHOLE, Tokenizer, Truncation
from seq2seq.threads import map_parallel

# What sets these random numbers apart from those that shuffle an epoch, which have two or three seeds.
_DEALING = 1


class Share(NamedTuple):
    """One corpus of a mixture.

    Args:
        pairs: how many it has.
        weight: how many times an epoch holds each of them, on average over the epochs.
    """

    pairs: int
    weight: float

    @property
    def size(self) -> int:
        """How many pairs of it an epoch holds."""
        return round(self.weight * self.pairs)


def deal(shares: Sequence[Share], epoch: int, seed: int) -> np.ndarray:
    """The pairs of an epoch, before they are shuffled.

    Each corpus is dealt like a pack of cards that is shuffled anew whenever it has been used up, and every epoch goes
    on where the one before has stopped: of weight 2 it holds each pair twice, of weight 0.5 half of them, and the next
    epoch the other half. So all pairs of a corpus have come equally often after any number of epochs, give or take one.

    Args:
        shares: the corpora, whose pairs are numbered through.
        epoch: which epoch, from 0.
        seed: what the packs depend on.

    Returns:
        `(sum of sizes,)` int64, all different: number of the pair, plus the number of all pairs for each earlier pack
        of this epoch that may have held it.

    Examples:
        >>> deal([Share(3, 1), Share(2, 2)], epoch=0, seed=0)
        array([0, 1, 2, 3, 4, 8, 9])
    """
    total = sum(share.pairs for share in shares)
    dealt, start = [np.zeros(0, np.int64)], 0
    for place, share in enumerate(shares):
        first, stop = epoch * share.size, (epoch + 1) * share.size
        packs = range(first // share.pairs, -(-stop // share.pairs)) if share.pairs else range(0)
        for pack in packs:
            begin, end = max(first - pack * share.pairs, 0), min(stop - pack * share.pairs, share.pairs)
            pairs = np.arange(share.pairs)
            # The order of a whole pack does not matter, since the epoch is shuffled.
            if end - begin < share.pairs:
                pairs = np.random.default_rng([seed, place, pack, _DEALING]).permutation(pairs)[begin:end]
            pairs += start + total * (pack - packs[0])
            dealt.append(pairs)
        start += share.pairs
    return np.concatenate(dealt)


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
    def take(self, indices: np.ndarray) -> "RaggedArray":
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
class RaggedArray(Rows):
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
    def from_lists(cls, rows: Sequence[Sequence[int]]) -> "RaggedArray":
        """The same rows in memory."""
        offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(np.fromiter(itertools.chain.from_iterable(rows), np.int32, offsets[-1]), offsets)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> "RaggedArray":
        """The UTF-8 bytes of texts, a row each."""
        rows = [text.encode() for text in texts]
        offsets = _offsets(np.fromiter(map(len, rows), np.int64, len(rows)))
        return cls(np.frombuffer(b"".join(rows), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets).astype(np.int32)

    def take(self, indices: np.ndarray) -> "RaggedArray":
        starts = np.asarray(self.offsets[indices])
        lengths = np.asarray(self.offsets[indices + 1]) - starts
        offsets = _offsets(lengths)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return RaggedArray(np.asarray(self.values[places]), offsets)


class ConcatenatedArrays(Rows):
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

    def take(self, indices: np.ndarray) -> RaggedArray:
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        taken = [
            part.take(indices[numbers == number] - self._starts[number]) for number, part in enumerate(self._parts)
        ]
        by_part = RaggedArray(
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
    return RaggedArray.from_lists(rows).padded(np.arange(len(rows)), multiple)


def rounded_up(widths: np.ndarray, multiple: int) -> np.ndarray:
    """The next multiple of a number, of every width."""
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, but is {multiple} instead.")
    return -(-widths // multiple) * multiple


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
        return cls(
            RaggedArray.from_lists(source), RaggedArray.from_lists(target), report=CorpusReport(pairs=len(source))
        )

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
            ConcatenatedArrays([corpus.source for corpus in every]),
            ConcatenatedArrays([corpus.target for corpus in every]),
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


def _joined_texts(parts: Sequence[Rows | None]) -> ConcatenatedArrays | None:
    kept = [part for part in parts if part is not None]
    return ConcatenatedArrays(kept) if len(kept) == len(parts) else None


def _texts(store: Rows | None, indices: Sequence[int] | np.ndarray) -> list[str]:
    if store is None:
        raise ValueError("The corpus must hold its texts, but does not. Encode it with keep_text=True.")
    taken = store.take(np.asarray(indices, np.int64))
    return [taken[place].tobytes().decode("utf-8") for place in range(len(taken))]


LAYOUT = 1
ABANDONED_AFTER_SECONDS = 3_600

_DESCRIPTION = "corpus.json"
_READ_BYTES = 1 << 22


class DamagedCacheError(Exception):
    """A cache is not as it was written; whoever meets this makes it anew."""


@dataclasses.dataclass
class Chunk:
    """Some pairs, side by side: ids of the sources and targets, and their texts where these are kept."""

    source: RaggedArray
    target: RaggedArray
    source_text: RaggedArray | None = None
    target_text: RaggedArray | None = None

    def take(self, places: np.ndarray) -> "Chunk":
        """Some of the pairs."""
        texts = (None if text is None else text.take(places) for text in (self.source_text, self.target_text))
        return Chunk(self.source.take(places), self.target.take(places), *texts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Mapped(RaggedArray):
    """Rows on disk. What has been read of them stays in the system's cache and not in the memory of the process, which
    would hold the whole corpus after an epoch."""

    def lengths(self) -> np.ndarray:
        lengths = super().lengths()
        self._let_go()
        return lengths

    def take(self, indices: np.ndarray) -> RaggedArray:
        taken = super().take(indices)
        self._let_go()
        return taken

    def _let_go(self) -> None:
        for array in (self.values, self.offsets):
            cast(mmap.mmap, array.base).madvise(mmap.MADV_DONTNEED)


class _RaggedWriter:
    """Writes a `RaggedArray` piece by piece: one file of values, one of offsets."""

    def __init__(self, folder: Path, name: str, dtype: type[np.generic], files: contextlib.ExitStack) -> None:
        self._dtype = dtype
        self._values = _ChecksummedFile(folder / f"{name}.values", files)
        self._offsets = _ChecksummedFile(folder / f"{name}.offsets", files)
        self._offsets.write(np.zeros(1, np.int64).tobytes())
        self._length = 0

    def extend(self, rows: RaggedArray) -> None:
        self._values.write(rows.values.astype(self._dtype).tobytes())
        self._offsets.write((self._length + rows.offsets[1:]).tobytes())
        self._length += int(rows.offsets[-1])

    def description(self) -> dict[str, Any]:
        return {
            "dtype": np.dtype(self._dtype).name,
            "values": self._values.description(),
            "offsets": self._offsets.description(),
        }


class _ChecksummedFile:
    """A file that knows its length and its checksum; `files` closes it."""

    def __init__(self, path: Path, files: contextlib.ExitStack) -> None:
        self._file = files.enter_context(open(path, "wb", buffering=_READ_BYTES))  # noqa: SIM115 - `files` closes it
        self._bytes = 0
        self._checksum = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._bytes += len(data)
        self._checksum = zlib.crc32(data, self._checksum)

    def description(self) -> dict[str, int]:
        return {"bytes": self._bytes, "crc32": self._checksum}


def write_cache(
    folder: Path, chunks: Iterable[Chunk], *, vocabulary_sizes: tuple[int, int], keep_text: bool, report: CorpusReport
) -> None:
    """Write a corpus to `folder`, under another name until it is whole.

    Args:
        folder: what the cache is called in the end. Where another process has been faster, its cache stays.
        chunks: the pairs.
        vocabulary_sizes: of source and target; they decide how many bytes an id takes.
        keep_text: whether the chunks bring their texts.
        report: is stored as it stands after the last chunk.

    Raises:
        Seq2SeqError: where it cannot be written; nothing is left behind.
    """
    with atomic(folder, replace=False) as partial:
        partial.mkdir()
        kinds: dict[str, type[np.generic]] = {
            "source": _id_type(vocabulary_sizes[0]),
            "target": _id_type(vocabulary_sizes[1]),
        }
        if keep_text:
            kinds |= {"source_text": np.uint8, "target_text": np.uint8}
        with contextlib.ExitStack() as files:
            writers = {name: _RaggedWriter(partial, name, kind, files) for name, kind in kinds.items()}
            for chunk in chunks:
                for name, writer in writers.items():
                    writer.extend(getattr(chunk, name))
        parts = {name: writer.description() for name, writer in writers.items()}
        content = {"layout": LAYOUT, "report": dataclasses.asdict(report), "parts": parts}
        text = json.dumps(content, sort_keys=True)
        description = {"crc32": zlib.crc32(text.encode()), "content": content}
        (partial / _DESCRIPTION).write_text(json.dumps(description, indent=1), encoding="utf-8")


def _id_type(vocabulary_size: int) -> type[np.generic]:
    return np.uint16 if vocabulary_size <= 1 << 16 else np.int32


def open_cache(folder: Path) -> EncodedCorpus:
    """Map a corpus that `write_cache` wrote, after comparing every byte of it with its checksums.

    Raises:
        DamagedCacheError: where it is not as it was written; the message says what is wrong.
    """
    content = _description(folder)
    parts = content["parts"]
    files = [(folder / f"{name}.{kind}", part[kind]) for name, part in parts.items() for kind in ("values", "offsets")]
    for problem in map_parallel(lambda item: _file_problem(*item), files):
        if problem:
            raise DamagedCacheError(problem)
    rows = {name: _Mapped(*_mapped(folder, name, part["dtype"])) for name, part in parts.items()}
    texts = rows.get("source_text"), rows.get("target_text")
    return EncodedCorpus(rows["source"], rows["target"], *texts, CorpusReport(**content["report"]))


def _description(folder: Path) -> dict[str, Any]:
    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        content = description["content"]
        text = json.dumps(content, sort_keys=True)
        if description["crc32"] != zlib.crc32(text.encode()):
            raise DamagedCacheError(f"{_DESCRIPTION} was changed")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCacheError(f"{_DESCRIPTION} cannot be read") from error
    return content


def _file_problem(path: Path, expected: dict[str, int]) -> str:
    try:
        if path.stat().st_size != expected["bytes"]:
            return f"{path.name} has {path.stat().st_size} bytes instead of {expected['bytes']}"
        with open(path, "rb") as file:
            checksum = 0
            for block in _blocks(file):
                checksum = zlib.crc32(block, checksum)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return "" if checksum == expected["crc32"] else f"{path.name} does not match its checksum"


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_READ_BYTES):
        yield block


def _mapped(folder: Path, name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    values = np.memmap(folder / f"{name}.values", np.dtype(dtype), mode="r")
    offsets = np.memmap(folder / f"{name}.offsets", np.int64, mode="r")
    return values, offsets


CHUNK_PAIRS, CHUNK_CHARACTERS = 4_000, 1_000_000

LOG = logging.getLogger(__name__)


def fingerprint_files(paths: Iterable[str | Path], *settings: object) -> str:
    """Hash of what files hold and how they are read, not of where they lie or when they were written.

    Args:
        paths: the files, in an order that matters.
        settings: whatever else decides what is read from them: the format, the fields, the limits.

    Returns:
        A hexadecimal string; another content or setting gives another one.

    Raises:
        DataError: where a file cannot be read.
    """
    digests = list(map_parallel(_file_digest, [Path(path) for path in paths]))
    text = json.dumps([digests, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_digest(path: Path) -> list[str]:
    try:
        with open(path, "rb") as file:
            # The ending decides whether the file is unpacked, so it is part of what the bytes mean.
            return [hashlib.file_digest(file, "sha256").hexdigest(), path.suffix if path.suffix == ".gz" else ""]
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist. Check the folder and the name.") from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error


def encode_corpus(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    *,
    cache_folder: str | Path,
    fingerprint: str,
    max_source_tokens: int | None = None,
    max_target_tokens: int | None = None,
    truncation: Truncation = WHOLE,
    on_bad_line: str = "error",
    keep_text: bool = False,
    report: CorpusReport | None = None,
    expected_pairs: Callable[[], int | None] = lambda: None,
) -> EncodedCorpus:
    """The pairs as ids, mapped from disk: encoded there by the first call, only opened by those that follow.

    `pairs` is not touched where the cache stands, so pass the iterator that `read_pairs` gives. All cores cut texts,
    and the ids are the same however many there are.

    Args:
        pairs: the pairs of texts.
        tokenizer: turns them into ids.
        cache_folder: holds one folder for every corpus; made where there is none.
        fingerprint: stands for what `pairs` would yield, as `fingerprint_files` gives it.
        max_source_tokens: a source of more ids, `END_ID` counted, cannot be used; None: no limit.
        max_target_tokens: the same for the target.
        truncation: what is left of a long source; what is left counts for the limit.
        on_bad_line: `error` stops at such a pair; `skip` leaves it out and counts it.
        keep_text: keep the texts beside the ids, for subword sampling and for scoring.
        report: the report that `pairs` fills in while it is read; the corpus and its cache take it over.
        expected_pairs: how many pairs there are about, None where nobody knows; asked only where they are encoded, for
            the time that is left.

    Returns:
        The corpus; its `report` says what was skipped, also when it comes from the cache.

    Raises:
        DataError: where a pair cannot be used and is not to be skipped, none is left, or the cache cannot be written.
        ValueError: where an argument is out of its range.
    """
    if on_bad_line not in ("error", "skip"):
        raise ValueError(f"on_bad_line must be error or skip, but is {on_bad_line!r} instead.")
    limits = (max_source_tokens, max_target_tokens)
    for name, limit in zip(("max_source_tokens", "max_target_tokens"), limits, strict=True):
        if limit is not None and limit < 1:
            raise ValueError(f"{name} must be at least 1 or None, but is {limit} instead.")
    versions = [LAYOUT, sentencepiece.__version__]
    identity = [*versions, tokenizer.fingerprint, fingerprint, *limits, on_bad_line, keep_text]
    if truncation.policy != "none":
        identity += truncation
    folder = Path(cache_folder) / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    report = CorpusReport() if report is None else report
    if folder.exists():
        try:
            return open_cache(folder)
        except DamagedCacheError as damage:
            LOG.warning(f"{folder}: the cached corpus is damaged ({damage}); it is encoded again.")
            shutil.rmtree(folder)
    chunks = _chunks(pairs, tokenizer, limits, truncation, on_bad_line, keep_text, report)
    write_cache(
        folder,
        _with_progress(chunks, expected_pairs()),
        vocabulary_sizes=(tokenizer.source.size, tokenizer.target.size),
        keep_text=keep_text,
        report=report,
    )
    return open_cache(folder)


def _with_progress(chunks: Iterator[Chunk], expected_pairs: int | None) -> Iterator[Chunk]:
    with ProgressBar(expected_pairs, "pair", task="encoding") as bar:
        for chunk in chunks:
            yield chunk
            bar.advance(len(chunk.source))


def _chunks(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    limits: tuple[int | None, int | None],
    truncation: Truncation,
    on_bad_line: str,
    keep_text: bool,
    report: CorpusReport,
) -> Iterator[Chunk]:
    def encoded(group: list[Pair]) -> tuple[list[Pair], Chunk, list[int]]:
        sources, targets = [pair.source for pair in group], [pair.target for pair in group]
        whole, target_ids = tokenizer.encode_pairs(sources, targets)
        source_ids = [truncation.cut(ids) for ids in whole]
        num_truncated_tokens = [len(ids) - len(cut) for ids, cut in zip(whole, source_ids, strict=True)]
        chunk = Chunk(RaggedArray.from_lists(source_ids), RaggedArray.from_lists(target_ids))
        if keep_text:
            chunk.source_text, chunk.target_text = RaggedArray.from_texts(sources), RaggedArray.from_texts(targets)
        return group, chunk, num_truncated_tokens

    kept = 0
    with contextlib.closing(map_parallel(encoded, _groups(pairs))) as groups:
        for group, chunk, num_truncated_tokens in groups:
            usable = _usable(group, chunk, limits, on_bad_line, report)
            for place in usable:
                if num_truncated_tokens[place]:
                    report.cut(group[place].where, num_truncated_tokens[place])
            if len(usable) < len(group):
                chunk = chunk.take(usable)
            kept += len(usable)
            yield chunk
    report.pairs = kept
    if kept == 0:
        raise DataError(f"The corpus must hold a pair that can be used, but holds none instead: {report.summary()}")


def _usable(
    group: list[Pair], chunk: Chunk, limits: tuple[int | None, int | None], on_bad_line: str, report: CorpusReport
) -> np.ndarray:
    """The places of the pairs that are not too long; the others are counted, or the first of them is an error."""
    source, target = chunk.source.lengths(), chunk.target.lengths()
    most_source, most_target = (np.inf if limit is None else limit for limit in limits)
    is_too_long = (source > most_source) | (target > most_target)
    for place in np.flatnonzero(is_too_long):
        if on_bad_line == "skip":
            report.skip("too many tokens", group[place].where)
            continue
        of_source = source[place] > most_source
        side, length, limit = ("source", source, limits[0]) if of_source else ("target", target, limits[1])
        raise DataError(
            f"{group[place].where}: the {side} must have at most {limit} tokens, but has {length[place]} instead. "
            f"Raise max_{side}_tokens, or set on_bad_line to skip{' or truncate to head' if of_source else ''}."
        )
    return np.flatnonzero(~is_too_long)


def _groups(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    group: list[Pair] = []
    characters = 0
    for pair in pairs:
        group.append(pair)
        characters += len(pair.source) + len(pair.target)
        if len(group) >= CHUNK_PAIRS or characters >= CHUNK_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group
