"""Ctrl-C, noted and not raised, so that a step is never cut in two."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Notes a Ctrl-C instead of raising in the middle of a step; a second one raises at once."""
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:
        # Only the main thread may handle signals; elsewhere Ctrl-C is not ours to handle.
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
