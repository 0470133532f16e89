"""How far work is: a bar with rate and time left where there is a terminal, plain lines where there is none."""

import sys
import textwrap
import time
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm


class ProgressBar:
    """Shows how much is done, at what rate, and the time left; used as a context manager.

    Args:
        total: How much there is to do; None: nobody knows.
        unit: What is counted: `step`, `line`, ...
        rate_of: What the rate counts: `target tokens`, ...
        done: How much was done before.
        stream: Where to write; None: stderr.
        seconds_between_lines: How often a line is written where there is no terminal.
        label: What stands before every line, where the work is one of several.
        hidden: Whether to show nothing but what is said, since something else fills the terminal.

    >>> import io
    >>> stream = io.StringIO()
    >>> with ProgressBar(None, "line", "lines", stream=stream, seconds_between_lines=0) as bar:
    ...     bar.show(2, 2, "of a file")
    >>> stream.getvalue()
    'line 2  of a file  ... lines/s\\n'
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        rate_of: str,
        done: int = 0,
        stream: TextIO | None = None,
        seconds_between_lines: float = 30.0,
        label: str = "",
        hidden: bool = False,
    ) -> None:
        self._label, self._unit, self._rate_of = label, unit, rate_of
        self._stream = stream or sys.stderr
        self._seconds_between_lines = seconds_between_lines
        self._started = self._last_line = time.monotonic()
        self._total, self._done, self._first = total, done, done
        self._amount = 0.0
        self._writes_lines = not hidden and not self._stream.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label or None,
            # The bars of several runs shall not pile up: each leaves its lines alone.
            leave=not label,
            file=self._stream,
            disable=hidden or self._writes_lines,
            unit=unit,
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def show(self, count: int, amount: float, *status: str) -> None:
        """Some more is done.

        Args:
            count: How much, in units.
            amount: How much of what the rate counts.
            *status: What to show beside it.
        """
        self._done += count
        self._amount += amount
        now = time.monotonic()
        status = (*status, f"{self._amount / max(now - self._started, 1e-9):,.0f} {self._rate_of}/s")
        self._bar.set_postfix_str(", ".join(status), refresh=False)
        self._bar.update(count)
        if self._writes_lines and now - self._last_line >= self._seconds_between_lines:
            self._last_line = now
            self.say("  ".join([self._place(), *status, *self._time_left(now)]))

    def go_back(self, done: int) -> None:
        """The work has returned to where less was done."""
        self._started, self._amount = time.monotonic(), 0.0
        self._done = self._first = self._bar.n = done
        self._bar.refresh()

    def say(self, line: str) -> None:
        """Writes a line above the bar."""
        tqdm.write(labelled(line, self._label), file=self._stream)
        self._stream.flush()

    def _place(self) -> str:
        return f"{self._unit} {self._done}" + ("" if self._total is None else f"/{self._total}")

    def _time_left(self, now: float) -> list[str]:
        if self._total is None:
            return []
        left = (now - self._started) / (self._done - self._first) * (self._total - self._done)
        return [f"{left / 60:.1f} minutes left"]


def labelled(text: str, label: str) -> str:
    """A text with a label before each of its lines, so that the lines of several runs can be told apart.

    Examples:
        >>> labelled("epoch 1", "2/5 cell=lstm"), labelled("epoch 1", "")
        ('2/5 cell=lstm: epoch 1', 'epoch 1')
    """
    return textwrap.indent(text, f"{label}: ") if label else text


class Progress(ProgressBar):
    """Shows steps done, target tokens a second and time left; used as a context manager.

    Args:
        total: Steps of the whole run.
        done: Steps done before, when a run is resumed.
        stream: Where to write; None: stderr.
        seconds_between_lines: How often a line is written where there is no terminal.
        label: What stands before every line, where the run is one of several.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        stream: TextIO | None = None,
        seconds_between_lines: float = 30.0,
        label: str = "",
    ) -> None:
        super().__init__(total, "step", "target tokens", done, stream, seconds_between_lines, label)

    def advance(self, tokens: float, loss: float) -> None:
        """One more step is done."""
        self.show(1, tokens, f"loss {loss:.3f}")


def say(line: str, label: str = "") -> None:
    """Writes a line of a run's account to stderr; stdout is for results."""
    tqdm.write(labelled(line, label), file=sys.stderr)
    sys.stderr.flush()
