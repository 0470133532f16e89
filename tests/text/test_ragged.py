import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.text.dataset import ConcatenatedArrays, RaggedArray, pad

ROWS = st.lists(st.lists(st.integers(1, 60_000), max_size=9), min_size=1, max_size=9)


def naive_pad(rows, multiple):
    width = max(map(len, rows), default=0)
    while width % multiple:
        width += 1
    return [list(row) + [0] * (width - len(row)) for row in rows]


@given(ROWS, st.integers(1, 8))
def test_padding_is_on_the_right_and_no_wider_than_it_must_be(rows, multiple):
    found = pad(rows, multiple)
    assert found.dtype == np.int32
    assert found.shape[0] == len(rows)
    assert found.tolist() == naive_pad(rows, multiple)


@given(ROWS, st.data(), st.integers(1, 8), st.sampled_from([np.int32, np.uint16]))
def test_any_rows_in_any_order_as_one_rectangle(rows, data, multiple, dtype):
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12))
    ragged = RaggedArray.from_lists(rows)
    ragged = RaggedArray(ragged.values.astype(dtype), ragged.offsets)
    found = ragged.padded(np.array(places), multiple)
    assert found.dtype == np.int32
    assert found.tolist() == naive_pad([rows[place] for place in places], multiple)
    assert len(ragged) == len(rows)
    assert ragged.lengths().tolist() == [len(row) for row in rows]
    assert [ragged[place].tolist() for place in range(len(rows))] == rows


@given(st.lists(ROWS, min_size=1, max_size=4), st.data())
def test_joined_parts_are_as_one(parts, data):
    rows = [row for part in parts for row in part]
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    joined = ConcatenatedArrays([RaggedArray.from_lists(part) for part in parts])
    taken = joined.take(np.array(places, np.int64))
    assert [taken[place].tolist() for place in range(len(taken))] == [rows[place] for place in places]
    assert joined.padded(np.array(places, np.int64), 3).tolist() == naive_pad([rows[place] for place in places], 3)
    assert len(joined) == len(rows)
    assert joined.lengths().tolist() == [len(row) for row in rows]


def test_no_rows():
    assert pad([]).shape == (0, 0)
    assert len(RaggedArray.from_lists([])) == 0


def test_multiple_out_of_range():
    with pytest.raises(ValueError, match="multiple must be at least 1, but is 0"):
        pad([[1]], 0)
