import threading
import time

import pytest

from seq2seq.threads import parallel_map


def workers() -> int:
    return sum(thread.name.startswith("seq2seq-parallel") for thread in threading.enumerate())


def late_first(item: int) -> int:
    """Later items are done before earlier ones."""
    time.sleep(0.02 if item % 3 == 0 else 0)
    return 10 * item


@pytest.mark.parametrize("threads", [1, 2, 7, None])
@pytest.mark.parametrize("count", [0, 1, 12])
def test_results_are_in_the_order_of_the_items(threads, count):
    assert list(parallel_map(late_first, range(count), threads)) == [10 * item for item in range(count)]
    assert workers() == 0


def test_as_many_threads_work_at_once_as_are_asked_for():
    # Each waits for the others: with fewer at work none would come out.
    barrier = threading.Barrier(3, timeout=10)
    assert len(list(parallel_map(lambda item: barrier.wait(), range(6), threads=3))) == 6


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    found = parallel_map(late_first, items(), threads=2)
    assert taken == []
    assert next(found) == 0
    assert taken == [0, 1, 2]
    found.close()
    assert workers() == 0


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_first_mistake_in_the_order_of_the_items_is_raised(threads):
    def items():
        yield from range(5)
        raise OSError("the items end")

    def fails_at(place):
        def function(item):
            if item >= place:
                time.sleep(0.02 if item == place else 0)
                raise ValueError(f"item {item}")
            return item

        return function

    results = []
    with pytest.raises(ValueError, match="item 3"):
        results.extend(parallel_map(fails_at(3), items(), threads))
    with pytest.raises(OSError, match="the items end"):
        results.extend(parallel_map(fails_at(9), items(), threads))
    assert workers() == 0
    # Those before it came out: `extend` keeps what it was given until then.
    assert results == [0, 1, 2, 0, 1, 2, 3, 4]


def test_threads_out_of_range():
    with pytest.raises(ValueError, match="threads must be at least 1 or None, but is 0 instead"):
        parallel_map(len, [], threads=0)
