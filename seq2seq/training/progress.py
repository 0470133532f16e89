"""How far a run is: a bar with rate and time left where there is a terminal, plain lines where there is none."""

import sys
import textwrap
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm


class Progress:
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
        self._label = label
        self._stream = stream or sys.stderr
        self._seconds_between_lines = seconds_between_lines
        self._started = self._last_line = time.monotonic()
        self._total, self._done, self._first = total, done, done
        self._tokens = 0.0
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label or None,
            # The bars of several runs shall not pile up: each leaves its lines alone.
            leave=not label,
            file=self._stream,
            disable=not self._stream.isatty(),
            unit="step",
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, tokens: float, loss: float) -> None:
        """One more step is done."""
        self._done += 1
        self._tokens += tokens
        now = time.monotonic()
        rate = self._tokens / max(now - self._started, 1e-9)
        self._bar.set_postfix_str(f"loss {loss:.3f}, {rate:,.0f} target tokens/s", refresh=False)
        self._bar.update()
        if self._bar.disable and now - self._last_line >= self._seconds_between_lines:
            self._last_line = now
            left = (now - self._started) / (self._done - self._first) * (self._total - self._done)
            self.say(
                f"step {self._done}/{self._total}  loss {loss:.3f}  {rate:,.0f} target tokens/s  "
                f"{left / 60:.1f} minutes left"
            )

    def go_back(self, done: int) -> None:
        """The run has returned to where fewer steps were done."""
        self._started, self._tokens = time.monotonic(), 0.0
        self._done = self._first = self._bar.n = done
        self._bar.refresh()

    def say(self, line: str) -> None:
        """Writes a line above the bar."""
        tqdm.write(labelled(line, self._label), file=self._stream)
        self._stream.flush()


def say(line: str, label: str = "") -> None:
    """Writes a line of a run's account to stderr; stdout is for results."""
    tqdm.write(labelled(line, label), file=sys.stderr)
    sys.stderr.flush()


def labelled(text: str, label: str) -> str:
    """A text with a label before each of its lines, so that the lines of several runs can be told apart.

    Examples:
        >>> labelled("epoch 1", "2/5 cell=lstm"), labelled("epoch 1", "")
        ('2/5 cell=lstm: epoch 1', 'epoch 1')
    """
    return textwrap.indent(text, f"{label}: ") if label else text
