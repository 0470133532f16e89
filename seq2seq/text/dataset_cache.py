"""Encode a corpus once and keep it on disk as NumPy arrays, mapped by every run that reads the same files alike."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import mmap
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import sentencepiece
from numpy.lib import format as npy

from seq2seq.errors import DataError
from seq2seq.files import atomic, checksum, is_intact, write_with_checksum
from seq2seq.progress import ProgressBar
from seq2seq.text.corpus import CorpusReport, Pair
from seq2seq.text.dataset import EncodedCorpus, RaggedArray
from seq2seq.text.lines import explain_read_errors
from seq2seq.text.tokenizer import WHOLE, Tokenizer, Truncation
from seq2seq.threads import map_parallel

LOG = logging.getLogger(__name__)

LAYOUT = 2
CHUNK_PAIRS, CHUNK_CHARACTERS = 4_000, 1_000_000
_SIDES = ("source", "target", "source_text", "target_text")
_BUFFER_BYTES = 1 << 22


def fingerprint_files(paths: Iterable[str | Path], *settings: object) -> str:
    """Hash the content of files, in order, and the settings that decide what is read from them."""
    digests = list(map_parallel(_file_digest, [Path(path) for path in paths]))
    return hashlib.sha256(json.dumps([digests, settings], sort_keys=True, default=str).encode()).hexdigest()


def _file_digest(path: Path) -> list[str]:
    with explain_read_errors(path):
        # The ending decides whether the file is unpacked, so it is part of what the bytes mean.
        return [checksum(path), path.suffix if path.suffix == ".gz" else ""]


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
    """Map the ids of all pairs from disk; the first call encodes them there, on all cores.

    The cache is named after `fingerprint`, a hash of all that `pairs` depends on, and the other arguments; where it is
    intact, `pairs` is not touched. `report` is the report of `pairs`, which is stored with the ids.
    """
    limits = (max_source_tokens, max_target_tokens)
    identity = [LAYOUT, sentencepiece.__version__, tokenizer.fingerprint, fingerprint]
    identity += [*limits, on_bad_line, keep_text, *truncation]
    folder = Path(cache_folder) / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    if folder.exists():
        try:
            return open_cache(folder)
        except DataError as damage:
            LOG.warning("%s: the cached corpus is damaged (%s); it is encoded again.", folder, damage)
            shutil.rmtree(folder)
    report = CorpusReport() if report is None else report
    chunks = _encoded_chunks(pairs, tokenizer, limits, truncation, on_bad_line, keep_text, report)
    types: list[type[np.generic]] = [
        np.uint16 if side.size <= 1 << 16 else np.int32 for side in (tokenizer.source, tokenizer.target)
    ]
    types += [np.uint8, np.uint8] if keep_text else []
    write_cache(folder, _with_progress(chunks, expected_pairs()), types, report)
    return open_cache(folder, verify=False)


def _with_progress(chunks: Iterator[list[RaggedArray]], expected_pairs: int | None) -> Iterator[list[RaggedArray]]:
    with ProgressBar(expected_pairs, "pair", task="encoding") as bar:
        for chunk in chunks:
            yield chunk
            bar.advance(len(chunk[0]))


def _encoded_chunks(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    limits: tuple[int | None, int | None],
    truncation: Truncation,
    on_bad_line: str,
    keep_text: bool,
    report: CorpusReport,
) -> Iterator[list[RaggedArray]]:
    def encode(group: list[Pair]) -> tuple[list[Pair], list[RaggedArray], np.ndarray]:
        texts = [[pair.source for pair in group], [pair.target for pair in group]]
        whole, target_ids = tokenizer.encode_pairs(*texts)
        sides = [RaggedArray.from_lists([truncation.cut(ids) for ids in whole]), RaggedArray.from_lists(target_ids)]
        num_truncated_tokens = np.fromiter(map(len, whole), np.int64) - sides[0].lengths()
        return group, sides + [RaggedArray.from_texts(side) for side in texts if keep_text], num_truncated_tokens

    used = 0
    with contextlib.closing(map_parallel(encode, _groups(pairs))) as groups:
        for group, sides, num_truncated_tokens in groups:
            places = _places_within(limits, group, sides, on_bad_line, report)
            for place in places[num_truncated_tokens[places] > 0]:
                report.cut(group[place].where, int(num_truncated_tokens[place]))
            used += len(places)
            yield sides if len(places) == len(group) else [side.take(places) for side in sides]
    report.pairs = used
    if used == 0:
        raise DataError(f"The corpus must have a good pair, got none: {report.summary()}")


def _places_within(
    limits: tuple[int | None, int | None],
    group: list[Pair],
    sides: list[RaggedArray],
    on_bad_line: str,
    report: CorpusReport,
) -> np.ndarray:
    """Return the places of the pairs within the limits; count or refuse the others."""
    lengths = [side.lengths() for side in sides[:2]]
    over = [length > (np.inf if limit is None else limit) for length, limit in zip(lengths, limits, strict=True)]
    for place in np.flatnonzero(over[0] | over[1]):
        where, side = group[place].where, int(not over[0][place])
        if on_bad_line == "error":
            raise DataError(
                f"{where}: the {_SIDES[side]} must have at most {limits[side]} tokens, got {lengths[side][place]}. "
                f"Raise max_{_SIDES[side]}_tokens, or set on_bad_line to skip{'' if side else ' or truncate to head'}."
            )
        report.skip("too many tokens", where)
    return np.flatnonzero(~(over[0] | over[1]))


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


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryMappedArray(RaggedArray):
    """Rows on disk; pages stay in the system's cache and not in the process, which would grow to the whole corpus."""

    def lengths(self) -> np.ndarray:
        lengths = super().lengths()
        self._release_pages()
        return lengths

    def take(self, indices: np.ndarray) -> RaggedArray:
        taken = super().take(indices)
        self._release_pages()
        return taken

    def _release_pages(self) -> None:
        for array in (self.values, self.offsets):
            cast(mmap.mmap, array.base).madvise(mmap.MADV_DONTNEED)


class _RowsWriter:
    """Write a `RaggedArray` piece by piece to two `.npy` files."""

    def __init__(self, path: Path, dtype: type[np.generic], files: contextlib.ExitStack) -> None:
        self._files = [files.enter_context(name.open("wb", buffering=_BUFFER_BYTES)) for name in _paths(path)]
        self._types = np.dtype(dtype), np.dtype(np.int64)
        self._lengths = [0, 1]
        self.write_headers()
        self._files[1].write(np.zeros(1, np.int64).tobytes())

    def extend(self, rows: RaggedArray) -> None:
        for place, array in enumerate((rows.values, self._lengths[0] + rows.offsets[1:])):
            self._files[place].write(array.astype(self._types[place], copy=False).tobytes())
            self._lengths[place] += len(array)

    def write_headers(self) -> None:
        """Write the lengths; NumPy leaves room for them to grow, so that headers can be written again at the end."""
        for file, dtype, length in zip(self._files, self._types, self._lengths, strict=True):
            file.seek(0)
            description = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
            npy.write_array_header_1_0(file, description)


def _paths(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.npy"), path.with_name(f"{path.name}-offsets.npy")


def write_cache(
    folder: Path, chunks: Iterable[list[RaggedArray]], types: Sequence[type[np.generic]], report: CorpusReport
) -> None:
    """Write a corpus atomically: its ids and texts side by side, each of its type, and at last its report."""
    with atomic(folder, replace=False) as partial:
        partial.mkdir()
        with contextlib.ExitStack() as files:
            writers = [_RowsWriter(partial / side, dtype, files) for side, dtype in zip(_SIDES, types, strict=False)]
            for sides in chunks:
                for writer, rows in zip(writers, sides, strict=True):
                    writer.extend(rows)
            for writer in writers:
                writer.write_headers()
        checksums = {path.name: checksum(path) for path in sorted(partial.iterdir())}
        manifest = json.dumps({"report": dataclasses.asdict(report), "checksums": checksums}, indent=1)
        write_with_checksum(partial / "manifest", ".json", lambda path: path.write_text(manifest, encoding="utf-8"))


def open_cache(folder: Path, verify: bool = True) -> EncodedCorpus:
    """Map a corpus of `write_cache` after verifying all checksums; a DataError says what is damaged."""
    path = next(filter(is_intact, folder.glob("manifest-*.json")), None)
    if path is None:
        raise DataError("the manifest is not intact")
    manifest = json.loads(path.read_bytes())
    expected = manifest["checksums"]
    found = map_parallel(lambda name: checksum(folder / name) if (folder / name).is_file() else "", list(expected))
    for name, digest in zip(expected, found if verify else expected.values(), strict=True):
        if digest != expected[name]:
            raise DataError(f"{name} does not match its checksum")
    source, target, *texts = (
        MemoryMappedArray(*(np.load(path, mmap_mode="r") for path in _paths(folder / side)))
        for side in _SIDES
        if f"{side}.npy" in expected
    )
    return EncodedCorpus(source, target, (texts[0], texts[1]) if texts else None, CorpusReport(**manifest["report"]))
