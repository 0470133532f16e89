"""Products in fewer bits, against NumPy: what is rounded, and nothing else."""

import numpy as np
import pytest

from seq2seq.layers.quantized import LEVELS, PRECISIONS, arithmetic_of, best_scale, has_int8

needs_int8 = pytest.mark.skipif(not has_int8(), reason="no 8-bit products here")


@pytest.fixture
def numbers():
    random = np.random.default_rng(1)
    rows = np.concatenate([random.uniform(-1, 1, (6, 5)), random.uniform(-2, 2, (6, 3))], axis=1).astype("float32")
    matrix, bias = random.normal(size=(8, 16)).astype("float32"), random.normal(size=16).astype("float32")
    return rows, matrix, bias


def multiplied(precision, rows, matrix, bias):
    """Five features between -1 and 1, three between -2 and 2."""
    arithmetic = arithmetic_of(precision)
    coded = np.concatenate([arithmetic.coded(rows[:, :5], 1.0), arithmetic.coded(rows[:, 5:], 2.0)], axis=1)
    return arithmetic.product(matrix, bias, [(5, 1.0), (3, 2.0)])(coded).numpy()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_floating_point_products(numbers, precision, tolerance):
    rows, matrix, bias = numbers
    found = multiplied(precision, *numbers)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows @ matrix + bias, atol=tolerance)


@needs_int8
def test_whole_numbers_are_multiplied_exactly(numbers):
    rows, matrix, bias = numbers
    bounds = np.array([1.0] * 5 + [2.0] * 3)
    codes = np.floor(rows / bounds * 127.5 + 128.0).astype("int64")
    assert codes.min() >= 0
    assert codes.max() <= 255
    scaled = matrix * bounds[:, None]
    scale = best_scale(scaled)
    levels = np.clip(np.round(scaled / scale), -LEVELS, LEVELS).astype("int64")
    expected = (codes @ levels) * scale / 127.5 - scale * levels.sum(axis=0) + bias
    np.testing.assert_allclose(multiplied("int8", *numbers), expected, atol=1e-4)


@needs_int8
def test_whole_numbers_are_near_and_reach_their_bounds(numbers):
    rows, matrix, bias = numbers
    rows[0], rows[1] = [1.0] * 5 + [2.0] * 3, [-1.0] * 5 + [-2.0] * 3
    np.testing.assert_allclose(multiplied("int8", rows, matrix, bias), rows @ matrix + bias, atol=0.15)


@needs_int8
def test_a_row_does_not_depend_on_the_others(numbers):
    rows, matrix, bias = numbers
    together = multiplied("int8", rows, matrix, bias)
    np.testing.assert_array_equal(multiplied("int8", rows[2:3], matrix, bias), together[2:3])


def test_the_best_scale_leaves_out_the_one_that_is_far_off():
    matrix = np.random.default_rng(2).normal(size=(100, 100))
    matrix[3, 4] = 20.0
    assert best_scale(matrix) < 20.0 / LEVELS
    assert best_scale(np.zeros((2, 2))) > 0


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, int8, but is 'int4' instead"):
        arithmetic_of("int4")
    assert PRECISIONS == ("float32", "bfloat16", "int8")
