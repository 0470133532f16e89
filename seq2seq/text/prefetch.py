"""Work ahead of the reader in a thread of its own, by a bounded number of items."""

import queue
import threading
from collections.abc import Generator, Iterable
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


def _prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    waiting: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                waiting.put(item)
                if stopped.is_set():
                    break
            waiting.put(_End(None))
        except BaseException as error:
            waiting.put(_End(error))

    thread = threading.Thread(target=work, name="seq2seq-prefetch", daemon=True)
    thread.start()
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


def _drain(waiting: queue.Queue) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
