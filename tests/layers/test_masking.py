"""Masked reductions against loops over the valid steps only."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import masking
from tests.layers import oracles
from tests.layers.samples import RAGGED, close, normal

POOLINGS = {
    "mean": masking.masked_mean,
    "max": masking.masked_max,
    "sum": masking.masked_sum,
    "last": masking.masked_last,
}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shift", [0.0, -5.0, 5.0])
def test_poolings_see_the_valid_steps_only(pooling, shift):
    sequence = normal(1, 4, 5, 3) + np.float32(shift)
    garbage = np.where(RAGGED[..., None], sequence, np.float32(1e6))
    expected = oracles.masked_pool(pooling, sequence.astype("float64"), RAGGED)
    if pooling == "last":
        expected[3] = garbage[3, 0]
    close(POOLINGS[pooling](tf.constant(garbage), RAGGED), expected, 1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_poolings_keep_low_precision_finite(pooling, dtype):
    sequence = tf.cast(normal(1, 4, 5, 3), dtype)
    pooled = POOLINGS[pooling](sequence, RAGGED)
    assert pooled.dtype == dtype
    expected = oracles.masked_pool(pooling, tf.cast(sequence, "float64").numpy(), RAGGED)
    close(tf.cast(pooled, "float64"), expected, 2e-2)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_gradients_of_poolings_are_nothing_at_padded_steps(pooling):
    sequence = tf.constant(normal(1, 4, 5, 3))
    with tf.GradientTape() as tape:
        tape.watch(sequence)
        pooled = POOLINGS[pooling](sequence, RAGGED)
    gradient = tape.gradient(pooled, sequence).numpy()[:3]
    assert np.isfinite(gradient).all()
    assert not gradient[~RAGGED[:3]].any()
    expected = {"sum": RAGGED.sum(1)}.get(pooling, np.ones(4))[:3]
    close(gradient.sum(axis=1), np.repeat(expected[:, None], 3, axis=1), 1e-6)


def test_softmax_gives_masked_places_exactly_nothing():
    scores = normal(1, 4, 2, 5) * 20
    weights = masking.masked_softmax(scores, RAGGED[:, None]).numpy()
    for row in range(4):
        valid = oracles.valid_steps(RAGGED, row)
        for query in range(2):
            assert (weights[row, query, ~RAGGED[row]] == 0).all()
            if valid:
                close(weights[row, query, valid], oracles.softmax(scores[row, query, valid].astype("float64")), 1e-6)


@pytest.mark.parametrize("low", [-1e8, -1e4])
def test_softmax_does_not_see_how_low_the_valid_scores_are(low):
    weights = masking.masked_softmax(np.array([[low, low + 8, 0.0]], "float32"), np.array([[True, True, False]]))
    close(weights, [[*oracles.softmax(np.array([0.0, 8.0])), 0.0]], 1e-6)


def test_softmax_is_float32_whatever_comes_in():
    scores = normal(1, 2, 5)
    weights = masking.masked_softmax(tf.cast(scores, "bfloat16"), RAGGED[:2])
    assert weights.dtype == "float32"
    rounded = tf.cast(tf.cast(scores, "bfloat16"), "float64").numpy()
    close(weights[0], oracles.softmax(rounded[0]), 1e-6)


def test_an_empty_row_gives_zeros_and_finite_gradients_through_softmax():
    scores = tf.constant(normal(1, 4, 5))
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = masking.masked_softmax(scores, RAGGED)
        loss = tf.reduce_sum(weights * normal(2, 4, 5))
    gradient = tape.gradient(loss, scores).numpy()
    assert not weights.numpy()[3].any()
    assert np.isfinite(gradient).all()
    assert not gradient[~RAGGED].any()


def test_no_implicit_mask_leaves_a_layer():
    class Same(masking.ExplicitMaskLayer):
        def call(self, inputs):
            return inputs * 1.0

    embedded = keras.layers.Embedding(3, 2, mask_zero=True)(np.array([[1, 0]]))
    assert getattr(embedded, "_keras_mask", None) is not None
    assert getattr(Same()(embedded), "_keras_mask", None) is None
