"""Dropout that is shared over time."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers.dropout import SharedDropout


def factors(layer, rows=200, steps=4, units=50, **kwargs):
    return layer(np.ones((rows, steps, units), "float32"), **kwargs).numpy()


def test_the_same_units_are_dropped_at_every_step():
    kept = factors(SharedDropout(0.25, seed=1), training=True)
    assert (kept == kept[:, :1]).all()
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert (kept == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_rows_units_and_calls_drop_differently():
    layer = SharedDropout(0.5, seed=1)
    first, second = factors(layer, training=True), factors(layer, training=True)
    assert not (first == second).all()
    assert not (first == first[:1]).all()
    assert not (first == first[:, :, :1]).all()


def test_a_seed_repeats_the_masks():
    first, second = (factors(SharedDropout(0.5, seed=7), training=True) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("training", [False, None])
def test_nothing_is_dropped_outside_training(training):
    assert (factors(SharedDropout(0.5), training=training) == 1).all()


def test_a_rate_of_zero_drops_nothing():
    assert (factors(SharedDropout(0.0), training=True) == 1).all()


def test_dropped_units_get_no_gradient():
    layer, inputs = SharedDropout(0.5, seed=1), tf.ones((3, 4, 5))
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
    gradient = tape.gradient(outputs, inputs).numpy()
    assert (gradient == outputs.numpy()).all()


def test_the_configuration_survives_a_round_trip():
    layer = SharedDropout.from_config(SharedDropout(0.25, seed=3, name="shared").get_config())
    assert (layer.rate, layer.seed, layer.name) == (0.25, 3, "shared")
    kept = factors(layer, training=True)
    assert (kept == kept[:, :1]).all()


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        SharedDropout(rate)
