"""Lines in, lines out, in the same order: what the commands that answer lines share."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from seq2seq.cli.lines import WINDOW_CHARACTERS
from seq2seq.cli.output import opened_output, refuse_same_file
from seq2seq.errors import ConfigError
from seq2seq.progress import ProgressBar

if TYPE_CHECKING:
    from seq2seq.serving import Answer
    from seq2seq.text import Line

PATIENCE = 0.05
"""Seconds that lines which are there wait for the next before they are answered without it."""

Format = Literal["text", "jsonl"]


@dataclasses.dataclass(frozen=True)
class LineStream:
    """Where lines come from and answers go, as the flags of those names say."""

    file: str
    output: str | None
    format: Format
    input_format: Format | None
    window: int
    max_line_characters: int | None

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"--window must be at least 1, but is {self.window} instead.")
        if self.max_line_characters is not None and self.max_line_characters < 1:
            raise ConfigError(f"--max-line-characters must be at least 1, but is {self.max_line_characters} instead.")
        if self.file != "-":
            refuse_same_file(self.output, self.file)

    def answer(self, answers: Callable[..., Iterator["Answer"]], written: Callable[["Answer"], list[str]]) -> None:
        """Writes the answer of every line, as soon as there is one, and what became of all at the end.

        Args:
            answers: The answers of windows of requests, of a `StreamReport`, of what is to be said, and of `progress`.
            written: The lines of an answer.
        """
        from seq2seq.serving import StreamReport, json_requests, text_requests
        from seq2seq.text import windows

        read = json_requests if (self.input_format or self.format) == "jsonl" else text_requests
        limit = {} if self.max_line_characters is None else {"max_line_characters": self.max_line_characters}
        requests = read(_scanned(self.file, limit))
        cut = windows(
            requests, self.window, lambda request: len(request.source), WINDOW_CHARACTERS, _patience(self.file)
        )
        report = StreamReport()
        # Answers that appear in the terminal are progress enough.
        with (
            opened_output(self.output) as stream,
            contextlib.closing(cut),
            ProgressBar(_total(self.file), "line", "lines", hidden=stream.isatty()) as progress,
        ):
            try:
                for answer in answers(cut, report, progress.say, progress=lambda count: progress.show(count, count)):
                    # In one piece, so that a kill leaves whole lines.
                    stream.write("".join(f"{line}\n" for line in written(answer)))
            finally:
                if report.counts:
                    progress.say(report.summary())


def _scanned(file: str, options: dict[str, int]) -> Iterator["Line"]:
    from seq2seq.text import scan_lines, scan_stream

    if file != "-":
        return scan_lines(file, **options)
    # A reader of its own: the lock of Python's is held by whoever waits for input, and wanted when the program ends.
    return scan_stream(open(sys.stdin.fileno(), "rb", closefd=False), "<stdin>", **options)


def _patience(file: str) -> float | None:
    """What is in a file is all there; elsewhere the next line may be a minute, or an answer, away."""
    mode = os.fstat(sys.stdin.fileno()).st_mode if file == "-" else _mode(file)
    return None if stat.S_ISREG(mode) else PATIENCE


def _total(file: str) -> int | None:
    if file == "-" or file.endswith(".gz") or not stat.S_ISREG(_mode(file)):
        return None
    with open(file, "rb") as stream:
        return sum(block.count(b"\n") for block in iter(functools.partial(stream.read, 1 << 20), b""))


def _mode(file: str) -> int:
    path = pathlib.Path(file)
    return path.stat().st_mode if path.exists() else 0
