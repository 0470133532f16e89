"""Work ahead of the reader in a thread of its own, by a bounded number of items."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")


class _End:
    """What the thread puts last: nothing more comes, for this reason."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """The same items in the same order, made by a background thread while the reader is busy with the ones before.

    The thread starts with the first item asked for and has ended when the iterator has: at its end, at an error
    (raised here, where the item would have come), or when the reader closes it or lets go of it in the middle.

    Args:
        items: what to make ahead.
        depth: items that may wait; 0: no thread, each is made when it is asked for.

    Returns:
        A generator; `close` ends it, and its thread, before its end.

    Examples:
        >>> list(prefetch(range(3), depth=2))
        [0, 1, 2]
    """
    if depth < 0:
        raise ValueError(f"depth must be at least 0, but is {depth} instead.")
    return (item for item in items) if depth == 0 else _prefetch(items, depth)


def windows(
    items: Iterable[Item], most: int, size: Callable[[Item], int], largest: int, patience: float | None
) -> Generator[list[Item], None, None]:
    """The same items in the same order, in lists: long ones where many wait, as short as one item where few do.

    The background thread reads ahead `most` items at most, so that memory does not grow with an endless input. Where it
    waits for an item that does not come when the reader stops, it is left alone; it ends with the program.

    Args:
        items: where they come from.
        most: items of a window, at most.
        size: how large an item is.
        largest: size of a window, at most, but for its last item.
        patience: seconds that a window waits for its next item before it goes as it is; None: as long as it takes, so
            that windows depend on nothing but the items.

    Returns:
        A generator; an error of the items is raised where the item would have come, after the window before it.

    Examples:
        >>> list(windows(["a", "bb", "c", "d"], most=3, size=len, largest=3, patience=None))
        [['a', 'bb'], ['c', 'd']]
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(maxsize=most)
    stopped = threading.Event()
    _start(items, waiting, stopped)
    try:
        end: _End | None = None
        while end is None:
            window: list[Item] = []
            total = 0
            while len(window) < most and total < largest:
                try:
                    item = waiting.get(timeout=patience if window else None)
                except queue.Empty:
                    break
                if isinstance(item, _End):
                    end = item
                    break
                window.append(item)
                total += size(item)
            if window:
                yield window
        if end.error is not None:
            raise end.error
    finally:
        stopped.set()
        _drain(waiting)


def _prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    waiting: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    thread = _start(items, waiting, stopped)
    try:
        while True:
            item = waiting.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        stopped.set()
        while thread.is_alive():
            # The thread may be waiting for room: make some, until it has seen that it shall stop.
            _drain(waiting)
            thread.join(timeout=0.01)


def _start(items: Iterable[Item], waiting: queue.Queue, stopped: threading.Event) -> threading.Thread:
    """The thread that puts the items into a queue, and then why no more come."""

    def work() -> None:
        try:
            for item in items:
                waiting.put(item)
                if stopped.is_set():
                    return
            waiting.put(_End(None))
        except BaseException as error:
            waiting.put(_End(error))

    thread = threading.Thread(target=work, name="seq2seq-prefetch", daemon=True)
    thread.start()
    return thread


def _drain(waiting: queue.Queue) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
