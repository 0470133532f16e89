"""How far a run is, and its account of itself."""

import sys
from typing import TextIO

from tqdm import tqdm

from seq2seq.progress import ProgressBar, labelled


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
