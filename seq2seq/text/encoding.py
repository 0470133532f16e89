"""A corpus of texts becomes a corpus of ids: once, in memory that does not grow; afterwards it is only opened."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sentencepiece

from seq2seq.errors import DataError
from seq2seq.text.cache import LAYOUT, Chunk, DamagedCacheError, open_cache, write_cache
from seq2seq.text.corpora import CorpusReport, Pair
from seq2seq.text.encoded import EncodedCorpus
from seq2seq.text.prefetch import prefetch
from seq2seq.text.tokenizer import Tokenizer

CHUNK_PAIRS, CHUNK_CHARACTERS = 20_000, 4_000_000


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
    on_bad_line: str = "error",
    keep_text: bool = False,
    report: CorpusReport | None = None,
    notify: Callable[[str], None] | None = None,
) -> EncodedCorpus:
    """The pairs as ids, mapped from disk: encoded there by the first call, only opened by those that follow.

    `pairs` is not touched where the cache stands, so pass the iterator that `read_pairs` gives.

    Args:
        pairs: the pairs of texts.
        tokenizer: turns them into ids.
        cache_folder: holds one folder for every corpus; made where there is none.
        fingerprint: stands for what `pairs` would yield, as `fingerprint_files` gives it.
        max_source_tokens: a source of more ids, `END_ID` counted, cannot be used; None: no limit.
        max_target_tokens: the same for the target.
        on_bad_line: `error` stops at such a pair; `skip` leaves it out and counts it.
        keep_text: keep the texts beside the ids, for subword sampling and for scoring.
        report: the report that `pairs` fills in while it is read; the corpus and its cache take it over.
        notify: is told, in a sentence, when a damaged cache is made anew; None: the log.

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
    folder = Path(cache_folder) / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    report = CorpusReport() if report is None else report
    try:
        if folder.exists():
            try:
                return open_cache(folder)
            except DamagedCacheError as damage:
                notify = logging.getLogger(__name__).warning if notify is None else notify
                notify(f"{folder}: the cached corpus is damaged ({damage}); it is encoded again.")
                shutil.rmtree(folder)
        write_cache(
            folder,
            _chunks(pairs, tokenizer, limits, on_bad_line, keep_text, report),
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


def _chunks(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    limits: tuple[int | None, int | None],
    on_bad_line: str,
    keep_text: bool,
    report: CorpusReport,
) -> Iterator[Chunk]:
    kept = 0
    # The next group is read while SentencePiece, in threads of its own, cuts this one.
    for group in prefetch(_groups(pairs), depth=1):
        source = tokenizer.encode_source([pair.source for pair in group])
        target = tokenizer.encode_target([pair.target for pair in group])
        usable = []
        for place, pair in enumerate(group):
            problem = _too_long("source", len(source[place]), limits[0])
            problem = problem or _too_long("target", len(target[place]), limits[1])
            if not problem:
                usable.append(place)
            elif on_bad_line == "skip":
                report.skip("too many tokens", pair.where)
            else:
                raise DataError(f"{pair.where}: {problem}")
        kept += len(usable)
        chunk = Chunk([source[i] for i in usable], [target[i] for i in usable])
        if keep_text:
            chunk.source_text = [group[i].source.encode() for i in usable]
            chunk.target_text = [group[i].target.encode() for i in usable]
        yield chunk
    report.pairs = kept
    if kept == 0:
        raise DataError(f"The corpus must hold a pair that can be used, but holds none instead: {report.summary()}")


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


def _too_long(side: str, length: int, limit: int | None) -> str:
    if limit is None or length <= limit:
        return ""
    return (
        f"the {side} must have at most {limit} tokens, but has {length} instead. "
        f"Raise max_{side}_tokens, or set on_bad_line to skip."
    )
