"""Cores and threads: how many this process may use, work in parallel, and work ahead of its reader."""

import collections
import itertools
import math
import os
import pathlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from seq2seq.errors import ArgumentError

Item = TypeVar("Item")
Result = TypeVar("Result")


def count_cores(membership: str = "/proc/self/cgroup", hierarchy: str | pathlib.Path = "/sys/fs/cgroup") -> int:
    """Count the cores that this process may use: of its affinity, or fewer where a container's quota allows fewer.

    >>> count_cores() >= 1
    True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas(pathlib.Path(membership), pathlib.Path(hierarchy)))]))


def _quotas(membership: pathlib.Path, hierarchy: pathlib.Path) -> Iterator[float]:
    """Yield the cores that the control groups of this process allow, in versions 1 and 2 of the kernel's interface."""
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.is_file() else ():
        _, controllers, group = line.split(":", 2)
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        mounts = ("cpu", controllers) if "cpu" in controllers.split(",") else () if controllers else ("",)
        inner = pathlib.PurePosixPath(group.lstrip("/"))
        # Inside a container the path may be the host's: then only the top of what is mounted is there.
        for mount, folder in itertools.product(mounts, (inner, *inner.parents)):
            files = [hierarchy / mount / folder / name for name in names]
            if all(file.is_file() for file in files):
                quota, period = " ".join(file.read_text() for file in files).split()
                if quota not in ("max", "-1"):
                    yield int(quota) / int(period)


def set_op_threads(threads: int) -> bool:
    """Give every TensorFlow operation of this process `threads` threads; return False where TensorFlow already runs."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        return False
    return True


def use_single_threaded_ops() -> None:
    """Decode with one thread an operation and one batch a core; without effect where TensorFlow already runs."""
    set_op_threads(1)


def count_workers() -> int:
    """Count the batches to decode at the same time: one a core where operations have one thread each, else one.

    >>> count_workers() >= 1
    True
    """
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != 1 or tf.config.list_physical_devices("GPU"):
        return 1
    return count_cores()


def map_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Generator[Result, None, None]:
    """Yield the result of each item, in order, computed by several threads.

    A sequence is given to the threads whole. Of any other iterable, items are taken in the reader's thread and at most
    one more than `threads` is in work or waiting, so memory does not grow. An error of `function` or `items` is raised
    where its result would have come; then, or when the generator is closed, no thread is left.

    Args:
        function: saves time only where it releases Python's lock, as SentencePiece and TensorFlow do.
        items: what to compute.
        threads: number of threads; None: `count_cores()`; 1: the reader's own.

    >>> list(map_parallel(len, ["a", "bcd", ""], threads=2))
    [1, 3, 0]
    """
    threads = count_cores() if threads is None else threads
    if threads < 1:
        raise ArgumentError("threads", ">= 1 or None", threads)
    if isinstance(items, Sequence):
        ahead, threads = len(items), min(threads, len(items))
    else:
        ahead = threads
    return (function(item) for item in items) if threads <= 1 else _map_parallel(function, iter(items), threads, ahead)


def _map_parallel(
    function: Callable[[Item], Result], items: Iterator[Item], threads: int, ahead: int
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
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if problem is not None:
            raise problem
    finally:
        pool.shutdown(cancel_futures=True)


class _End:
    """Last entry of a queue, with the error that ended the items."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Yield the items in order, made by a background thread up to `depth` items ahead of the reader.

    The thread starts with the first item asked for and has ended when the generator has: at its end, at an error
    (raised where the item would have come), or when it is closed or garbage collected. A depth of 0 starts no thread.

    >>> list(prefetch(range(3), depth=2))
    [0, 1, 2]
    """
    if depth < 0:
        raise ArgumentError("depth", ">= 0", depth)
    return (item for item in items) if depth == 0 else _prefetch(items, depth)


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
            # The thread may wait for room: make some until it sees that it must stop.
            _drain(waiting)
            thread.join(timeout=0.01)


def windows(
    items: Iterable[Item], most: int, size: Callable[[Item], int], largest: int, patience: float | None
) -> Generator[list[Item], None, None]:
    """Yield the items in order, in lists: long ones where many items wait, down to one item where few do.

    A background thread reads at most `most` items ahead. Where it waits for input when the reader stops, it is left
    alone and ends with the program. An error of the items is raised after the window before it.

    Args:
        items: where they come from.
        most: largest number of items in a window.
        size: size of an item.
        largest: sizes of a window in sum, exceeded by its last item at most.
        patience: seconds that a started window waits for its next item; None: forever, so that windows depend on
            nothing but the items.

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


def _start(items: Iterable[Item], waiting: queue.Queue, stopped: threading.Event) -> threading.Thread:
    """Start the thread that puts the items into a queue, and at last the reason why no more come."""

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
