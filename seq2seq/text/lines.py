"""Read lines of text files, plain or gzip, one at a time, each checked before it is used as text."""

import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from seq2seq.errors import DataError, require_integer

MAX_LINE_CHARACTERS = 10_000
TOO_LONG = "line too long"
"""The only reason for which a refused line keeps its beginning."""

_LONGEST_CHARACTER = 4  # bytes of UTF-8


class Problem(NamedTuple):
    """The reason against a line: a few words to count it by, and the sentence after `path:line: `."""

    reason: str
    message: str


class Line(NamedTuple):
    """One line of a file without its break, at `path:number`; empty with a problem, cut where it is too long."""

    where: str
    text: str
    problem: Problem | None = None


def scan_lines(path: str | Path, max_line_characters: int = MAX_LINE_CHARACTERS) -> Iterator[Line]:
    """Yield every line of a file, good or bad; `.gz` is read as gzip; memory holds the beginning of one line.

    Lines end with LF or CR LF and nothing else: other characters that Unicode calls line breaks stay in the text, so
    that two parallel files stay aligned.
    """
    require_integer("max_line_characters", max_line_characters)
    path = Path(path)
    number = 0
    with explain_read_errors(path):
        try:
            with _open(path) as file:
                for line in scan_stream(file, str(path), max_line_characters):
                    number += 1
                    yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{path}:{number + 1}: the gzip file is damaged or cut off ({error}). Fetch or pack it again."
            ) from error


def scan_stream(file: BinaryIO, name: str, max_line_characters: int = MAX_LINE_CHARACTERS) -> Iterator[Line]:
    """Yield the lines of an open binary stream as `scan_lines` does; `name` takes the place of the path."""
    for number, raw in enumerate(_raw_lines(file, max_line_characters * _LONGEST_CHARACTER + 2), start=1):
        text = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        yield _checked(f"{name}:{number}", text, max_line_characters)


def count_lines(path: str | Path) -> int | None:
    """Count the lines of a file without decoding them; None for gzip."""
    path = Path(path)
    if path.name.endswith(".gz"):
        return None
    with explain_read_errors(path), open(path, "rb") as file:
        count, last = 0, b"\n"
        while block := file.read(1 << 20):
            count, last = count + block.count(b"\n"), block
    return count + (not last.endswith(b"\n"))


@contextlib.contextmanager
def explain_read_errors(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into a DataError that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist. Check the folder and the name.") from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error


def _open(path: Path) -> BinaryIO:
    if path.name.endswith(".gz"):
        return cast(BinaryIO, io.BufferedReader(gzip.open(path, "rb"), buffer_size=1 << 20))
    return open(path, "rb", buffering=1 << 20)


def _raw_lines(file: BinaryIO, limit: int) -> Iterator[bytes]:
    while raw := file.readline(limit):
        rest = raw
        while len(rest) == limit and not rest.endswith(b"\n"):
            rest = file.readline(limit)
        yield raw


def _checked(where: str, raw: bytes, limit: int) -> Line:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    is_cut = len(raw) > limit * _LONGEST_CHARACTER
    try:
        # A cut line may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(raw, final=not is_cut)
    except UnicodeDecodeError as error:
        message = f"must be UTF-8, got 0x{raw[error.start]:02x} at byte {error.start + 1}. Save the file as UTF-8."
        return Line(where, "", Problem("not UTF-8", message))
    if "\0" in text:
        message = f"must be text, got NUL at character {text.index(chr(0)) + 1}. Check that the file is a text file."
        return Line(where, "", Problem("NUL character", message))
    if is_cut or len(text) > limit:
        message = (
            f"must have at most {limit} characters, got {'more' if is_cut else len(text)}. "
            "Check for a missing line break, or raise max_line_characters."
        )
        return Line(where, text[:limit], Problem(TOO_LONG, message))
    return Line(where, text)


def read_lines(
    file: str | Path | BinaryIO, *, max_line_characters: int = MAX_LINE_CHARACTERS, name: str = "<stdin>"
) -> Iterator[str]:
    r"""Yield the texts of a file or stream in order, blank ones too; a DataError names the first bad line."""
    if isinstance(file, str | Path):
        lines = scan_lines(file, max_line_characters)
    else:
        lines = scan_stream(file, name, max_line_characters)
    for line in lines:
        if line.problem is not None:
            raise DataError(f"{line.where}: {line.problem.message}")
        yield line.text
