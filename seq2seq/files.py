"""Files that are whole or not there: written under another name, put on the disk, and only then given their own.

A process can be killed between any two of these lines, and a disk can be full at any of them; what bore the name
before stays until what replaces it is safe.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from seq2seq.errors import Seq2SeqError

UNFINISHED = "unfinished-"
"""What the name of a file begins with until it is whole."""


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Writes a file in the place of the one that may bear its name.

    Raises:
        Seq2SeqError: The disk is full, or does not let itself be written for another reason.
    """
    unfinished = path.with_name(UNFINISHED + path.name)
    with refusals_explained(path, unfinished):
        unfinished.write_bytes(content)
        _put_on_disk(unfinished)
        unfinished.replace(path)
        _put_on_disk(path.parent)


def write_with_checksum(start: pathlib.Path, suffix: str, write: Callable[[pathlib.Path], object]) -> pathlib.Path:
    """Writes a file whose name ends in the checksum of what it holds, so that one rename makes both sure.

    Args:
        start: Folder and beginning of the name.
        suffix: Its end, such as `.npz`.
        write: Writes the content to the path that it is given.

    Returns:
        `start`, a hyphen, the SHA-256 of the file, and `suffix`.

    Raises:
        Seq2SeqError: As for `write_whole`.
    """
    unfinished = start.with_name(UNFINISHED + start.name + suffix)
    with refusals_explained(unfinished, unfinished):
        write(unfinished)
        _put_on_disk(unfinished)
        path = start.with_name(f"{start.name}-{checksum(unfinished)}{suffix}")
        unfinished.replace(path)
        _put_on_disk(path.parent)
    return path


def is_as_written(path: pathlib.Path) -> bool:
    """Whether a file that `write_with_checksum` wrote is there and still holds every byte of it."""
    return path.is_file() and checksum(path) == named_checksum(path)


def named_checksum(path: pathlib.Path) -> str:
    """The checksum in the name of a file that `write_with_checksum` wrote."""
    return path.stem.rpartition("-")[2]


def checksum(path: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def refusals_explained(path: pathlib.Path, unfinished: pathlib.Path | None = None) -> Iterator[None]:
    """Turns the errors of a disk that refuses to be written into one that says what to do.

    Args:
        path: The file that is being written, for the message.
        unfinished: A file to remove then: it takes room and is worth nothing.
    """
    try:
        yield
    except OSError as error:
        if unfinished is not None:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
        raise Seq2SeqError(
            f"{path}: cannot be written: {error.strerror or error}. Make room on that disk, or see that it may be "
            "written to, and go on with --resume: what the run saved before is whole."
        ) from error


def _put_on_disk(path: pathlib.Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def kept(path: pathlib.Path, make: Callable[[], Any], say: Callable[[str], None]) -> Any:
    """What a file holds, or, where there is none or it is damaged, what `make` makes, which the file then holds.

    Args:
        path: The file; its name must say all that the content depends on.
        make: Makes the content: what JSON can say.
        say: Is told of damage.

    Raises:
        Seq2SeqError: The file cannot be written.

    Examples:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "numbers"
        >>> kept(path, lambda: [1, 2], print), kept(path, lambda: [3, 4], print)
        ([1, 2], [1, 2])
    """
    if path.is_file():
        checksum, _, text = path.read_bytes().partition(b"\n")
        if checksum == _checksum(text):
            return json.loads(text)
        say(f"{path}: the file is damaged; it is made again.")
    content = make()
    text = json.dumps(content).encode()
    with refusals_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Runs that begin together write the same, each in a folder of its own.
        with tempfile.TemporaryDirectory(prefix=f"{path.name}.partial-", dir=path.parent) as folder:
            whole = pathlib.Path(folder, path.name)
            write_whole(whole, _checksum(text) + b"\n" + text)
            whole.replace(path)
    return content


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
