"""The few best tokens of a row, against sorting all of them."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.candidates import best_tokens, top_k
from seq2seq.decoding.interface import SearchConfig
from seq2seq.decoding.loop import Scores


@pytest.mark.parametrize("columns", [3, 1000, 1024, 1025, 1500, 8000])
@pytest.mark.parametrize("count", [1, 2, 8, 30])
def test_largest_values_of_a_row(columns, count):
    values = np.random.default_rng(columns + count).normal(size=(11, columns)).astype(np.float32)
    found, places = top_k(tf.constant(values), count)
    expected = np.sort(values, axis=-1)[:, ::-1][:, :count]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.take_along_axis(values, places.numpy(), axis=-1), expected)


@pytest.mark.parametrize("columns", [500, 2048])
def test_largest_values_in_one_group(columns):
    values = np.full((2, columns), -np.inf, np.float32)
    values[0, 100:107] = [3, 1, 4, 1.5, 9, 2, 6]
    values[1, -7:] = [3, 1, 4, 1.5, 9, 2, 6]
    found, places = top_k(tf.constant(values), 4)
    np.testing.assert_array_equal(found, [[9, 6, 4, 3]] * 2)
    np.testing.assert_array_equal(places, [[104, 106, 102, 100], [columns - 3, columns - 1, columns - 5, columns - 7]])


@pytest.mark.parametrize("columns", [500, 2048, 2047])
def test_equal_values_come_once_and_the_first_is_first(columns):
    values = np.zeros((3, columns), np.float32)
    values[1, 700 % columns :] = 1.0
    values[2, [5, 300, 301]] = 2.0
    _, places = top_k(tf.constant(values), 6)
    assert places.numpy()[:, 0].tolist() == [0, 700 % columns, 5]
    assert set(places.numpy()[2, :3].tolist()) == {5, 300, 301}
    assert all(len(set(row.tolist())) == 6 for row in places.numpy())


def test_rows_of_unknown_length():
    search = tf.function(lambda values: top_k(values, 4), input_signature=[tf.TensorSpec([None, None], tf.float32)])
    assert search(tf.constant([[1.0, 3.0]]))[1].numpy().tolist() == [[1, 0]]
    assert search(tf.reshape(tf.range(4000.0), [2, 2000]))[1].numpy().tolist() == [[1999, 1998, 1997, 1996]] * 2


@pytest.mark.parametrize("vocabulary", [6, 1500])
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_log_probs_are_those_of_the_whole_row(vocabulary, dtype):
    logits = tf.cast(20 * tf.random.stateless_normal([4, vocabulary], seed=[1, 2]) + 500, dtype)
    config = SearchConfig(max_steps=[1], start_id=2, end_id=3)
    found = best_tokens(config, Scores(tf.cast(logits, tf.float32), None), 3)
    exact = tf.cast(logits, tf.float64).numpy()
    exact -= exact.max(axis=-1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    expected = np.sort(exact, axis=-1)[:, ::-1][:, :5]
    np.testing.assert_allclose(
        found.log_probs, np.take_along_axis(exact, found.token_ids.numpy(), axis=-1), rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(found.log_probs, expected, rtol=1e-5, atol=1e-4)
    assert found.log_probs.dtype == tf.float32


@pytest.mark.parametrize("vocabulary", [6, 1500])
def test_enough_allowed_tokens_besides_the_forbidden(vocabulary):
    logits = np.random.default_rng(3).normal(size=(5, vocabulary)).astype(np.float32)
    logits[:, [0, 2]] += 20.0
    config = SearchConfig(max_steps=[1], start_id=2, end_id=3)
    found = best_tokens(config, Scores(tf.constant(logits), None), 2)
    allowed = np.delete(np.arange(vocabulary), [0, 2])
    for row in range(5):
        best = allowed[np.argsort(-logits[row, allowed])[:2]]
        taken = found.token_ids[row][found.gains[row] > -np.inf].numpy()
        assert taken[:2].tolist() == best.tolist()
        assert not {0, 2} & set(taken.tolist())
