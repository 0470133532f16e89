"""A corpus of texts becomes a corpus of ids: once, in memory that does not grow; afterwards it is only opened."""

import contextlib
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sentencepiece

from seq2seq.errors import DataError
from seq2seq.text.cache import LAYOUT, Chunk, DamagedCacheError, open_cache, write_cache
from seq2seq.text.corpora import CorpusReport, Pair
from seq2seq.text.encoded import EncodedCorpus
from seq2seq.text.parallel import parallel_map
from seq2seq.text.ragged import Ragged
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.truncation import WHOLE, Truncation

CHUNK_PAIRS, CHUNK_CHARACTERS = 4_000, 1_000_000
SECONDS_BETWEEN_NOTICES = 10.0

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
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(_file_digest, [Path(path) for path in paths]))
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
    notify: Callable[[str], None] | None = None,
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
        notify: is told, in a sentence, when a damaged cache is made anew, and of long work every few seconds how far it
            is; None: the log.

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
    try:
        if folder.exists():
            try:
                return open_cache(folder)
            except DamagedCacheError as damage:
                (notify or LOG.warning)(f"{folder}: the cached corpus is damaged ({damage}); it is encoded again.")
                shutil.rmtree(folder)
        chunks = _chunks(pairs, tokenizer, limits, truncation, on_bad_line, keep_text, report)
        write_cache(
            folder,
            _told(chunks, expected_pairs, notify or LOG.info),
            vocabulary_sizes=(tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size),
            keep_text=keep_text,
            report=report,
        )
    except OSError as error:
        raise DataError(
            f"{cache_folder}: the encoded corpus cannot be written ({error.strerror}). "
            "Free some space, or choose another cache folder."
        ) from error
    return open_cache(folder)


def _told(
    chunks: Iterator[Chunk], expected_pairs: Callable[[], int | None], notify: Callable[[str], None]
) -> Iterator[Chunk]:
    """The same chunks, with a line every few seconds: pairs so far, pairs a second, minutes left."""
    began = last = time.monotonic()
    expected = expected_pairs()
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk.source)
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_NOTICES:
            last = now
            rate = done / (now - began)
            left = "" if expected is None else f"  {max(0, expected - done) / rate / 60:.1f} minutes left"
            total = "" if expected is None else f"/{expected:,}"
            notify(f"encoding pair {done:,}{total}  {rate:,.0f} pairs/s{left}")


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
        left_out = [len(ids) - len(cut) for ids, cut in zip(whole, source_ids, strict=True)]
        chunk = Chunk(Ragged.from_lists(source_ids), Ragged.from_lists(target_ids))
        if keep_text:
            chunk.source_text, chunk.target_text = Ragged.from_texts(sources), Ragged.from_texts(targets)
        return group, chunk, left_out

    kept = 0
    with contextlib.closing(parallel_map(encoded, _groups(pairs))) as groups:
        for group, chunk, left_out in groups:
            usable = _usable(group, chunk, limits, on_bad_line, report)
            for place in usable:
                if left_out[place]:
                    report.cut(group[place].where, left_out[place])
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
