"""Atomic files and folders, and files that carry their own checksum.

A process can be killed between any two lines, and a disk can be full at any of them: what had the name before stays
until its replacement is whole.
"""

import contextlib
import hashlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from seq2seq.errors import Seq2SeqError

LOG = logging.getLogger(__name__)

UNFINISHED = "unfinished-"
"""Beginning of the name of a temporary folder, which a killed process leaves behind."""
ABANDONED_AFTER_SECONDS = 3600.0


@contextlib.contextmanager
def atomic(path: pathlib.Path, replace: bool = True) -> Iterator[pathlib.Path]:
    """Yield a temporary path of the same file name to write a file or a folder to, and move it to `path` at the end.

    Processes that write the same path at once do not disturb each other. After an error nothing is left behind.

    Args:
        path: the file or folder; its parents are made.
        replace: whether a folder that is there is replaced, or stays and the new one is dropped.

    Raises:
        Seq2SeqError: the disk is full or cannot be written to.
    """
    with _temporary(path) as new:
        yield new
        _publish(new, path, replace)


@contextlib.contextmanager
def _temporary(path: pathlib.Path) -> Iterator[pathlib.Path]:
    with explain_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{path.name}-", dir=path.parent))
        try:
            yield folder / path.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(new: pathlib.Path, path: pathlib.Path, replace: bool = True) -> None:
    if new.is_file():
        _sync(new)
    elif path.is_dir():
        if not replace:
            return
        path.rename(new.with_name("replaced"))
    new.replace(path)
    _sync(path.parent)


def _sync(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(path: pathlib.Path) -> None:
    """Remove what killed writers of this path left, once nothing was written there for an hour."""
    for folder in path.parent.glob(f"{UNFINISHED}{path.name}-*"):
        with contextlib.suppress(FileNotFoundError):
            latest = max(file.stat().st_mtime for file in [folder, *folder.rglob("*")])
            if time.time() - latest > ABANDONED_AFTER_SECONDS:
                shutil.rmtree(folder)


@contextlib.contextmanager
def explain_refusals(path: pathlib.Path) -> Iterator[None]:
    """Turn the errors of a disk that cannot be written to into one that says what to do."""
    try:
        yield
    except OSError as error:
        raise Seq2SeqError(
            f"{path}: cannot be written: {error.strerror or error}. Make room on that disk, or see that it may be "
            "written to. What was saved before is whole; a run goes on with --resume."
        ) from error


def remove_unfinished(folder: pathlib.Path) -> list[pathlib.Path]:
    """Remove what a killed process left in a folder that no other process writes to, and return it."""
    leftovers = sorted(folder.glob(f"{UNFINISHED}*"))
    for leftover in leftovers:
        shutil.rmtree(leftover)
    return leftovers


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Write a file, or leave the one that is there as it is."""
    with atomic(path) as new:
        new.write_bytes(content)


def write_with_checksum(start: pathlib.Path, suffix: str, write: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """Write a file named `start`, a hyphen, the SHA-256 of its content and `suffix`: one rename secures both."""
    with _temporary(start.with_name(start.name + suffix)) as new:
        write(new)
        path = start.with_name(f"{start.name}-{checksum(new)}{suffix}")
        _publish(new, path)
    return path


def is_intact(path: pathlib.Path) -> bool:
    """Return whether a file of `write_with_checksum` is there and has every byte that was written."""
    return path.is_file() and checksum(path) == named_checksum(path)


def named_checksum(path: pathlib.Path) -> str:
    """Return the checksum in the name of a file of `write_with_checksum`."""
    return path.stem.rpartition("-")[2]


def checksum(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_json(start: pathlib.Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds whose name is `start` and its checksum; make and write it where none is intact.

    >>> start = pathlib.Path(tempfile.mkdtemp()) / "numbers"
    >>> cached_json(start, lambda: [1, 2]), cached_json(start, lambda: [3, 4])
    ([1, 2], [1, 2])
    """
    for path in start.parent.glob(f"{start.name}-*.json"):
        if is_intact(path):
            return json.loads(path.read_bytes())
        LOG.warning("%s: the file is damaged; it is made again.", path)
        path.unlink(missing_ok=True)
    content = make()
    write_with_checksum(start, ".json", lambda path: path.write_text(json.dumps(content), encoding="utf-8"))
    return content
