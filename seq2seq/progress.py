"""Log lines and progress bars on stderr; stdout is for results.

Every module logs with `logging.getLogger(__name__)`. Importing this file makes these lines visible: the package's
logger writes them above an active bar, as plain text.
"""

import contextlib
import logging
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

LOG = logging.getLogger("seq2seq")
Item = TypeVar("Item")


class _StderrHandler(logging.Handler):
    """Write log lines above an active bar, each with the label of the run that it belongs to."""

    label = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        tqdm.write(textwrap.indent(text, f"{self.label}: ") if self.label else text, file=sys.stderr)
        sys.stderr.flush()


_HANDLER = _StderrHandler()
LOG.addHandler(_HANDLER)
LOG.setLevel(logging.INFO)
# The root logger may have a handler too, and would write every line again.
LOG.propagate = False


@contextlib.contextmanager
def labelled(label: str) -> Iterator[None]:
    """Put a label before every log line of one run among several."""
    before, _HANDLER.label = _HANDLER.label, label
    try:
        yield
    finally:
        _HANDLER.label = before


def current_label() -> str:
    """Return the label of the current run, or nothing."""
    return _HANDLER.label


class ProgressBar(contextlib.AbstractContextManager["ProgressBar"]):
    """Show the work done, its rate and the time left: a bar on a terminal, else a line every 30 seconds.

    Args:
        total: units to do; None: unknown.
        unit: name of a unit, such as `step`.
        rate_of: what the rate counts, such as `target tokens`; None: the units.
        done: units done before.
        task: comes before the unit where that alone does not tell.
        hidden: show nothing.
        seconds_between_lines: time between two lines where there is no terminal.
    """

    def __init__(
        self,
        total: int | None,
        unit: str,
        rate_of: str | None = None,
        *,
        done: int = 0,
        task: str = "",
        hidden: bool = False,
        seconds_between_lines: float = 30.0,
    ) -> None:
        self._name, self._rate_of = f"{task} {unit}".strip(), rate_of or f"{unit}s"
        self._seconds_between_lines = seconds_between_lines
        self._started = self._last_line = time.monotonic()
        self._total, self._done, self._first = total, done, done
        self._amount = 0.0
        self._writes_lines = not hidden and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=current_label() or task or None,
            # A bar for each of several runs would pile up.
            leave=not current_label(),
            file=sys.stderr,
            disable=hidden or self._writes_lines,
            unit=unit,
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, count: int = 1, amount: float | None = None, *status: str) -> None:
        """Count `count` more units as done, and `amount` more of what the rate counts."""
        self._done += count
        self._amount += count if amount is None else amount
        now = time.monotonic()
        status = (*status, f"{self._amount / max(now - self._started, 1e-9):,.0f} {self._rate_of}/s")
        self._bar.set_postfix_str(", ".join(status), refresh=False)
        self._bar.update(count)
        if self._writes_lines and now - self._last_line >= self._seconds_between_lines:
            self._last_line = now
            total = "" if self._total is None else f"/{self._total}"
            LOG.info("  ".join([f"{self._name} {self._done}{total}", *status, *self._time_left(now)]))

    def go_back(self, done: int) -> None:
        """Return to a point where less was done."""
        self._started, self._amount = time.monotonic(), 0.0
        self._done = self._first = self._bar.n = done
        self._bar.refresh()

    def _time_left(self, now: float) -> list[str]:
        if self._total is None or self._done == self._first:
            return []
        left = (now - self._started) / (self._done - self._first) * max(0, self._total - self._done)
        return [f"{left / 60:.1f} minutes left"]


def track(items: Iterable[Item], total: int, unit: str, task: str) -> Iterator[Item]:
    """Yield the items and show how many were taken."""
    with ProgressBar(total, unit, task=task) as bar:
        for item in items:
            yield item
            bar.advance()
