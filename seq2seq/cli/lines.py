"""Lines of files that belong together, and how many of them are worked on at once."""

from seq2seq.errors import DataError

WINDOW_LINES = 2048
WINDOW_CHARACTERS = 1 << 20
"""Characters of the lines that are worked on together, at most: what bounds memory where they are long."""

_LINE_BREAKS = str.maketrans("\r\n", "  ")


def on_one_line(text: str) -> str:
    """A text without the line breaks in it: line numbers say what belongs to what.

    >>> on_one_line("a cat\\nand a dog")
    'a cat and a dog'
    """
    return text.translate(_LINE_BREAKS)


def read_beside(path: str, partner: str, count: int) -> list[str]:
    """The lines of a file, which go with those of another one.

    Args:
        path: the file.
        partner: the other one, for the message.
        count: how many lines that one has.

    Raises:
        DataError: The file cannot be read, or has another number of lines.
    """
    from seq2seq.text import read_lines

    lines = list(read_lines(path))
    if len(lines) != count:
        raise DataError(
            f"{path}: must have as many lines as {partner} ({count}), but has {len(lines)} instead. "
            "Check that no line was lost or added."
        )
    return lines
