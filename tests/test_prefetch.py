import gc
import threading
import time

import pytest

from seq2seq.threads import prefetch, windows


def workers() -> int:
    return sum(thread.name == "seq2seq-prefetch" for thread in threading.enumerate())


@pytest.mark.parametrize("depth", [0, 1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_the_same_items_in_the_same_order(depth, count):
    assert list(prefetch(range(count), depth)) == list(range(count))
    assert workers() == 0


def test_no_more_is_made_ahead_than_the_depth():
    made = []

    def items():
        for item in range(100):
            made.append(item)
            yield item

    found = prefetch(items(), depth=3)
    assert made == []
    assert next(found) == 0
    deadline = time.monotonic() + 5
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    # One handed over, three waiting, one in the hand of the thread.
    assert made == [0, 1, 2, 3, 4]
    found.close()
    assert workers() == 0


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_an_error_comes_where_the_item_would_have_come(depth):
    def items():
        yield 1
        yield 2
        raise KeyError("the reason")

    found = prefetch(items(), depth)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(KeyError, match="the reason"):
        next(found)
    assert workers() == 0


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_ends_the_thread_at_once(taken):
    def endless():
        while True:
            yield 0

    found = prefetch(endless(), depth=2)
    for _ in range(taken):
        next(found)
    found.close()
    assert workers() == 0
    assert list(found) == []


def test_letting_go_ends_the_thread():
    for number in prefetch(iter(range(10**9)), depth=2):
        if number == 3:
            break
    gc.collect()
    assert workers() == 0


def test_an_error_of_the_reader_ends_the_thread():
    def read():
        for _ in prefetch(iter(range(10**9)), depth=2):
            raise ValueError("of the reader")

    with pytest.raises(ValueError, match="of the reader"):
        read()
    gc.collect()
    assert workers() == 0


def test_the_thread_works_while_the_reader_is_busy():
    made = [threading.Event() for _ in range(6)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in prefetch(items(), depth=2):
        # All that the reader does here is to wait for the thread to make the next two.
        assert all(event.wait(5) for event in made[number + 1 : number + 3])


def test_negative_depth():
    with pytest.raises(ValueError, match="depth must be at least 0, but is -1"):
        prefetch([], -1)


def cut(items, most=3, largest=100, patience=None):
    return windows(items, most, size=len, largest=largest, patience=patience)


@pytest.mark.parametrize("patience", [None, 5.0])
def test_windows_hold_as_many_as_they_may(patience):
    items = ["a", "b", "c", "dddd", "e", "ff", "ggg", "h"]
    found = list(cut(items, largest=5, patience=patience))
    assert found == [["a", "b", "c"], ["dddd", "e"], ["ff", "ggg"], ["h"]]
    assert list(cut([])) == []
    assert list(cut("ab", most=1)) == [["a"], ["b"]]


def test_a_window_goes_where_the_next_item_lets_wait():
    received = threading.Event()

    def items():
        yield "a"
        yield "b"
        # It comes when the window before it was received, which therefore did not wait for it.
        assert received.wait(5)
        yield "c"

    found = cut(items(), patience=0.01)
    windows_before = [next(found)]
    while sum(map(len, windows_before)) < 2:
        windows_before.append(next(found))
    received.set()
    assert [item for window in windows_before for item in window] == ["a", "b"]
    assert list(found) == [["c"]]


def test_an_error_comes_after_the_window_before_it():
    def items():
        yield "a"
        raise KeyError("the reason")

    found = cut(items())
    assert next(found) == ["a"]
    with pytest.raises(KeyError, match="the reason"):
        next(found)


def test_windows_read_no_further_ahead_than_one():
    made = []

    def items():
        while True:
            made.append(0)
            yield "a"

    found = cut(items())
    next(found)
    time.sleep(0.05)
    # Three handed over, three waiting, one in the hand of the thread.
    assert len(made) == 7
    found.close()
    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert workers() == 0
