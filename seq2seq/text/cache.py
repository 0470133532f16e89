"""An encoded corpus on disk: written once, whole or not at all, and mapped into memory from then on.

It is a folder of flat binary files and a `corpus.json` with the length and the checksum of each. It is written under
another name and renamed when it is whole, so a folder with the right name either is whole or has been damaged since.
"""

import contextlib
import dataclasses
import json
import mmap
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from seq2seq.text.corpora import CorpusReport
from seq2seq.text.encoded import EncodedCorpus
from seq2seq.text.ragged import Ragged

LAYOUT = 1
ABANDONED_AFTER_SECONDS = 3_600

_DESCRIPTION = "corpus.json"
_READ_BYTES = 1 << 22


class DamagedCacheError(Exception):
    """A cache is not as it was written; whoever meets this makes it anew."""


@dataclasses.dataclass
class Chunk:
    """Some pairs, side by side: ids of the sources and targets, and their texts where these are kept."""

    source: Ragged
    target: Ragged
    source_text: Ragged | None = None
    target_text: Ragged | None = None

    def take(self, places: np.ndarray) -> "Chunk":
        """Some of the pairs."""
        texts = (None if text is None else text.take(places) for text in (self.source_text, self.target_text))
        return Chunk(self.source.take(places), self.target.take(places), *texts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Mapped(Ragged):
    """Rows on disk. What has been read of them stays in the system's cache and not in the memory of the process, which
    would hold the whole corpus after an epoch."""

    def lengths(self) -> np.ndarray:
        lengths = super().lengths()
        self._let_go()
        return lengths

    def take(self, indices: np.ndarray) -> Ragged:
        taken = super().take(indices)
        self._let_go()
        return taken

    def _let_go(self) -> None:
        for array in (self.values, self.offsets):
            cast(mmap.mmap, array.base).madvise(mmap.MADV_DONTNEED)


class _RaggedWriter:
    """Writes a `Ragged` piece by piece: one file of values, one of offsets."""

    def __init__(self, folder: Path, name: str, dtype: type[np.generic], files: contextlib.ExitStack) -> None:
        self._dtype = dtype
        self._values = _ChecksummedFile(folder / f"{name}.values", files)
        self._offsets = _ChecksummedFile(folder / f"{name}.offsets", files)
        self._offsets.write(np.zeros(1, np.int64).tobytes())
        self._length = 0

    def extend(self, rows: Ragged) -> None:
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
        OSError: where it cannot be written; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
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
        _rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _id_type(vocabulary_size: int) -> type[np.generic]:
    return np.uint16 if vocabulary_size <= 1 << 16 else np.int32


def _rename(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        # The same corpus, made by another process in the meantime, is as good as ours.
        if not (folder / _DESCRIPTION).exists():
            raise


def _remove_abandoned(folder: Path) -> None:
    """Give back the space of writers that were killed: those that have written nothing for an hour."""
    now = time.time()
    for partial in folder.parent.glob(f"{folder.name}.partial-*"):
        with contextlib.suppress(FileNotFoundError):
            latest = max(path.stat().st_mtime for path in [partial, *partial.iterdir()])
            if now - latest > ABANDONED_AFTER_SECONDS:
                shutil.rmtree(partial)


def open_cache(folder: Path) -> EncodedCorpus:
    """Map a corpus that `write_cache` wrote, after comparing every byte of it with its checksums.

    Raises:
        DamagedCacheError: where it is not as it was written; the message says what is wrong.
    """
    content = _description(folder)
    parts = content["parts"]
    files = [(folder / f"{name}.{kind}", part[kind]) for name, part in parts.items() for kind in ("values", "offsets")]
    with ThreadPoolExecutor() as pool:
        for problem in pool.map(lambda item: _file_problem(*item), files):
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
