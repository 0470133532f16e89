"""Penalties against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.penalties import Ranking
from seq2seq.errors import ArgumentError


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
        ("reward", 0.5, [-6.0, -5.5, -4.0, -1.0]),
    ],
)
def test_length_penalties(kind, alpha, expected):
    sums, lengths = np.full(4, -6.0, np.float32), np.array([0, 1, 4, 10])
    np.testing.assert_allclose(Ranking(kind, alpha).scores(sums, lengths, ()), expected, rtol=1e-6)
    assert np.all(Ranking(kind, alpha).scores(np.full(4, -np.inf, np.float32), lengths, ()) == -np.inf)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("wu", np.log([0.5, 1e-6 * 0.25])), ("summary", [-0.75, -2.0])],
)
def test_coverage_penalties(kind, expected):
    # The last source token is padding, and the second hypothesis never read the first, which counts as 1e-6.
    coverage = tf.constant([[[0.5, 1.75, 1.0, 0.0], [0.0, 3.0, 0.25, 0.0]]])
    ranking = Ranking("none", 0.0, kind, 2.0, tf.constant([[True, True, True, False]]))
    scores = ranking.scores(np.full((1, 2), -6.0, np.float32), np.array([[4, 4]]), coverage)
    np.testing.assert_allclose(scores[0], -6.0 + 2.0 * np.array(expected), rtol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("length_penalty", "mean"),
        ("length_penalty_alpha", -1.0),
        ("length_penalty_alpha", float("nan")),
        ("coverage_penalty", "mean"),
        ("coverage_penalty_beta", -0.1),
    ],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ArgumentError, match=f"^{argument} must be"):
        Ranking(**{argument: value})
    with pytest.raises(ArgumentError, match="source_mask must be given with a coverage penalty"):
        Ranking(coverage_penalty="wu")
