"""Dropout that is shared over time, and of words."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers.dropout import SharedDropout, WordDropout


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


UNKNOWN, KEPT = 1, (0, 2, 3)


def dropped_words(layer, ids, **kwargs):
    return layer(tf.constant(ids), **kwargs).numpy()


class TestWordDropout:
    ids = np.tile(np.array([2, 4, 5, 6, 7, 8, 9, 3, 0, 0], "int32"), (300, 1))

    def test_makes_a_share_of_the_words_unknown_and_no_other_token(self):
        layer = WordDropout(0.25, UNKNOWN, KEPT, seed=1)
        found = dropped_words(layer, self.ids, training=True)
        words = ~np.isin(self.ids, KEPT)
        assert found.dtype == self.ids.dtype
        np.testing.assert_array_equal(found[~words], self.ids[~words])
        changed = found != self.ids
        assert (found[changed] == UNKNOWN).all()
        # Every place of a row loses its share, and one place says nothing of the next.
        assert changed[:, 1:7].mean(0) == pytest.approx(np.full(6, 0.25), abs=0.1)
        assert (changed[:, 1] & changed[:, 2]).mean() == pytest.approx(0.25**2, abs=0.05)
        assert (dropped_words(layer, self.ids, training=True) != found).any()

    def test_a_seed_repeats_the_draws(self):
        first, second = (
            dropped_words(WordDropout(0.5, UNKNOWN, KEPT, seed=7), self.ids, training=True) for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.5, None), (0.0, True)])
    def test_changes_nothing_outside_training_or_at_a_rate_of_zero(self, rate, training):
        layer = WordDropout(rate, UNKNOWN, KEPT)
        np.testing.assert_array_equal(dropped_words(layer, self.ids, training=training), self.ids)
        assert len(layer.variables) == (rate > 0)

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_an_impossible_rate_is_refused(self, rate):
        with pytest.raises(ValueError, match="rate must be >= 0 and < 1"):
            WordDropout(rate, UNKNOWN, KEPT)
