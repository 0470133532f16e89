"""Length penalties against numbers worked out by hand."""

import numpy as np
import pytest

from seq2seq.decoding.penalties import length_penalty_function


@pytest.mark.parametrize(
    ("kind", "alpha", "expected"),
    [
        ("none", 0.7, [-6.0, -6.0, -6.0, -6.0]),
        ("average", 0.0, [-6.0, -6.0, -6.0, -6.0]),
        ("average", 1.0, [-6.0, -6.0, -1.5, -0.6]),
        ("average", 0.5, [-6.0, -6.0, -3.0, -6.0 / 10**0.5]),
        ("wu", 0.0, [-6.0, -6.0, -6.0, -6.0]),
        ("wu", 1.0, [-6.0, -6.0, -4.0, -2.4]),
        ("wu", 2.0, [-6.0, -6.0, -6.0 / 2.25, -0.96]),
    ],
)
def test_scores_of_a_sum_at_some_lengths(kind, alpha, expected):
    score = length_penalty_function(kind, alpha)
    np.testing.assert_allclose(score(np.full(4, -6.0, np.float32), np.array([0, 1, 4, 10])), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["none", "average", "wu"])
def test_what_is_impossible_stays_impossible(kind):
    score = length_penalty_function(kind, 1.0)
    assert np.all(score(np.full(3, -np.inf, np.float32), np.array([0, 1, 9])) == -np.inf)
