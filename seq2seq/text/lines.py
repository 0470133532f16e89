"""Lines of a text file, plain or gzip, one at a time, each checked before anybody reads it as text."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from seq2seq.errors import DataError

MAX_LINE_CHARACTERS = 10_000
TOO_LONG = "line too long"
"""The reason that leaves a line its beginning."""

_LONGEST_CHARACTER = 4  # bytes of UTF-8


class Problem(NamedTuple):
    """Why a line cannot be used.

    Args:
        reason: a few words that are the same for every line with this problem: what is counted.
        message: the sentence that goes after `path:line: `.
    """

    reason: str
    message: str


class Line(NamedTuple):
    """One line of a file without its line break.

    Args:
        where: `path:number`, the first line being 1.
        text: what it says: the beginning of a line that is too long, and nothing where there is another problem.
        problem: why it cannot be used, or None.
    """

    where: str
    text: str
    problem: Problem | None = None


def scan_lines(path: str | Path, max_line_characters: int = MAX_LINE_CHARACTERS) -> Iterator[Line]:
    """Every line of a file, in order, good or bad; memory holds one line, and of an endless one its beginning.

    Lines end with LF or CR LF and nothing else: other characters that Unicode calls line breaks stay in the text, so
    that two parallel files never come apart. A byte order mark at the start is left out.

    Args:
        path: the file; a name that ends in `.gz` is read as gzip.
        max_line_characters: a longer line has a problem.

    Raises:
        DataError: where the file cannot be read, or is damaged as gzip.
    """
    if max_line_characters < 1:
        raise ValueError(f"max_line_characters must be at least 1, but is {max_line_characters} instead.")
    path = Path(path)
    number = 0
    try:
        with _open(path) as file:
            for raw in _raw_lines(file, max_line_characters * _LONGEST_CHARACTER + 2):
                number += 1
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                yield _checked(f"{path}:{number}", raw, max_line_characters)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}:{number + 1}: the gzip file is damaged or cut off ({error}). Fetch or pack it again."
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file does not exist. Check the folder and the name.") from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error


def scan_stream(file: BinaryIO, name: str, max_line_characters: int = MAX_LINE_CHARACTERS) -> Iterator[Line]:
    """The lines of an open binary stream, as `scan_lines` gives those of a file; `name` stands for its path."""
    for number, raw in enumerate(_raw_lines(file, max_line_characters * _LONGEST_CHARACTER + 2), start=1):
        text = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        yield _checked(f"{name}:{number}", text, max_line_characters)


def count_lines(path: str | Path) -> int | None:
    """How many lines a file has, without looking at them; None where it would have to be unpacked for that.

    Raises:
        DataError: where the file cannot be read.
    """
    path = Path(path)
    if path.name.endswith(".gz"):
        return None
    try:
        with open(path, "rb") as file:
            count, last = 0, b"\n"
            while block := file.read(1 << 20):
                count, last = count + block.count(b"\n"), block
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error
    # The last line may lack its end.
    return count + (not last.endswith(b"\n"))


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


def _checked(where: str, raw: bytes, max_line_characters: int) -> Line:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    is_cut = len(raw) > max_line_characters * _LONGEST_CHARACTER
    try:
        # Where the line was cut it may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(raw, final=not is_cut)
    except UnicodeDecodeError as error:
        message = (
            f"must be UTF-8, but byte {error.start + 1} (0x{raw[error.start]:02x}) is not. Save the file as UTF-8."
        )
        return Line(where, "", Problem("not UTF-8", message))
    if "\0" in text:
        message = f"must be text, but character {text.index(chr(0)) + 1} is NUL. Check that the file is a text file."
        return Line(where, "", Problem("NUL character", message))
    if is_cut or len(text) > max_line_characters:
        found = "more" if is_cut else f"{len(text)}"
        return Line(where, text[:max_line_characters], _too_long(max_line_characters, found))
    return Line(where, text)


def _too_long(limit: int, found: str) -> Problem:
    return Problem(
        TOO_LONG,
        f"must have at most {limit} characters, but has {found} instead. "
        "Check for a missing line break, or raise max_line_characters.",
    )


def read_lines(
    file: str | Path | BinaryIO, *, max_line_characters: int = MAX_LINE_CHARACTERS, name: str = "<stdin>"
) -> Iterator[str]:
    """The texts of a file or stream, one a line, blank ones too, so that answers can be put beside them in order.

    Args:
        file: a path (`.gz` is read as gzip) or an open binary stream.
        max_line_characters: a longer line is an error.
        name: what to call a stream in messages.

    Returns:
        An iterator that reads as it goes.

    Raises:
        DataError: at the first line that is not UTF-8, holds NUL, or is too long; the message names file and line.

    Examples:
        >>> import io
        >>> list(read_lines(io.BytesIO(b"a cat\\n\\na dog\\n")))
        ['a cat', '', 'a dog']
    """
    if isinstance(file, str | Path):
        lines = scan_lines(file, max_line_characters)
    else:
        lines = scan_stream(file, name, max_line_characters)
    for line in lines:
        if line.problem is not None:
            raise DataError(f"{line.where}: {line.problem.message}")
        yield line.text
