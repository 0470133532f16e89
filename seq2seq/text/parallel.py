"""The same function on many items in several threads, for functions that run outside of Python's lock."""

import collections
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
