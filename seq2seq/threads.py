"""Work ahead of the reader in a thread of its own, by a bounded number of items."""

import collections
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


Result = TypeVar("Result")


def use_single_threaded_ops() -> None:
    """Make this process decode on one thread an operation and one batch a core, if TensorFlow has not begun to run."""
    # Where it is too late all works, but slower.
    set_op_threads(1)


def set_op_threads(threads: int) -> bool:
    """Let every operation of this process have so many threads; whether it is so, which TensorFlow, once it runs,
    cannot be told any more."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        return False
    return True


def count_workers() -> int:
    """How many batches run beside each other: as many as there are cores where an operation has one thread, else 1.

    >>> count_workers() >= 1
    True
    """
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != 1 or tf.config.list_physical_devices("GPU"):
        return 1
    return count_cores()


def count_cores() -> int:
    """The cores that this process may use.

    >>> count_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_parallel(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The result of each item, in order; as many at once as there are workers.

    >>> list(beside_each_other(len, ["a", "bcd"]))
    [1, 3]

    Args:
        function: What to do; where there are several workers, other threads call it.
        items: What to do it with.
    """
    kept, workers = list(items), count_workers()
    if workers == 1 or len(kept) == 1:
        yield from map(function, kept)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, kept)


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Generator[Result, None, None]:
    """The results of a function in the order of its items, worked out ahead of the reader by a bounded number.

    Items are taken in the thread of the reader. An error of `function`, or of `items`, is raised where its result
    would have come, so that the first mistake in the order of the items is the one that is told, whichever thread
    meets its own first.

    Args:
        function: what to do with an item. Only where it lets go of Python's lock, as SentencePiece does while it
            cuts texts, do threads save time.
        items: taken as they are needed: at most one more than there are threads is in work or waiting.
        threads: how many work at once; None: one for every core.

    Returns:
        A generator; at its end, at an error, or when it is closed, no thread is left.

    Examples:
        >>> list(parallel_map(len, ["a", "bcd", ""], threads=2))
        [1, 3, 0]
    """
    threads = (os.cpu_count() or 1) if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1 or None, but is {threads} instead.")
    return _parallel_map(function, iter(items), threads)


def _parallel_map(
    function: Callable[[Item], Result], items: Iterator[Item], threads: int
) -> Generator[Result, None, None]:
    waiting: collections.deque[Future[Result]] = collections.deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="seq2seq-parallel")
    problem: Exception | None = None
    try:
        while problem is None:
            try:
                waiting.append(pool.submit(function, next(items)))
            except StopIteration:
                break
            except Exception as error:
                problem = error
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if problem is not None:
            raise problem
    finally:
        pool.shutdown(cancel_futures=True)
