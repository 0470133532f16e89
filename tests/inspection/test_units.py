"""Single units on traces with planted ones, against loops over every step and every threshold."""

import itertools
import math

import numpy as np
import pytest

from seq2seq.inspection.trace import LayerTrace, Trace
from seq2seq.inspection.units import UnitThreshold, half_lives, units_on


def layer_of(cell="gru", update_gate="keep", **values):
    arrays = {name: np.asarray(value) for name, value in values.items()}
    steps = len(next(iter(arrays.values())))
    return LayerTrace("encoder.forward_0", cell, update_gate, tuple("abcdefghijklmnopqrstuvwxyz"[:steps]), arrays)


def halved_after(kept):
    """Follows one unit's memory through the sentence, again and again, until half is left; in steps, interpolated."""
    left, steps = 1.0, 0
    while left > 0.5:
        before, left = left, left * math.exp(sum(math.log(share) for share in kept) / len(kept))
        steps += 1
    return steps - 1 + math.log(0.5 / before) / math.log(left / before)


@pytest.mark.parametrize(
    ("cell", "update_gate", "field"),
    [("gru", "keep", "update"), ("gru", "write", "update"), ("lstm", "keep", "forget_gate")],
)
def test_half_lives_follow_the_gate(cell, update_gate, field):
    kept = np.random.default_rng(1).uniform(0.55, 0.999, (7, 5))
    gate = 1 - kept if update_gate == "write" else kept
    lives = half_lives(layer_of(cell, update_gate, state=np.zeros((7, 5)), **{field: gate}))
    np.testing.assert_allclose(lives, [halved_after(kept[:, unit]) for unit in range(5)], rtol=1e-9)


def test_half_life_of_a_share_that_never_changes():
    kept = np.broadcast_to(np.float32([0.5, 0.25, 2**-0.1]), (4, 3))
    np.testing.assert_allclose(half_lives(layer_of(update=kept)), [1, 0.5, 10], rtol=1e-5)


def test_half_lives_of_a_span():
    layer = layer_of(update=np.float32([[0.9], [0.001], [0.5], [0.25], [0.9]]))
    np.testing.assert_allclose(half_lives(layer, 2, 4), [1 / 1.5])
    np.testing.assert_allclose(half_lives(layer, start=4), [np.log(0.5) / np.log(0.9)], rtol=1e-6)
    state = np.random.default_rng(5).normal(size=(9, 3))
    np.testing.assert_array_equal(
        half_lives(layer_of("rnn", state=state), 2, 7), half_lives(layer_of("rnn", state=state[2:7]))
    )


def test_half_lives_at_the_ends_of_float32():
    almost, tiny = np.nextafter(np.float32(1), np.float32(0)), np.float32(1e-45)
    kept = np.float32([[1, almost, 0, tiny], [1, 1, 1, 1], [1, 1, 0.5, 1]])
    lives = half_lives(layer_of(update=kept))
    assert lives[0] == math.inf
    assert lives[1] == pytest.approx(3 * math.log(2) * 2**24, rel=1e-6)
    assert lives[2] == 0
    assert lives[3] == pytest.approx(3 / 149)


def test_half_lives_of_a_plain_rnn_are_those_of_an_autoregression():
    generator, share = np.random.default_rng(2), np.array([0.5, 0.8, 0.95, -0.7])
    state = np.zeros((20_000, 4))
    for step in range(1, len(state)):
        state[step] = share * state[step - 1] + generator.normal(size=4)
    lives = half_lives(LayerTrace("encoder.forward_0", "rnn", "keep", ("a",) * len(state), {"state": state}))
    np.testing.assert_allclose(lives[:3], np.log(0.5) / np.log(share[:3]), rtol=0.1)
    assert lives[3] == 0


def test_half_lives_of_a_plain_rnn_by_a_loop():
    state = np.cumsum(np.random.default_rng(3).normal(size=(9, 6)), axis=0)
    for unit, life in enumerate(half_lives(layer_of("rnn", state=state))):
        moved = [value - sum(state[:, unit]) / 9 for value in state[:, unit]]
        share = sum(a * b for a, b in itertools.pairwise(moved)) / sum(a * a for a in moved)
        assert life == pytest.approx(-1 / math.log2(share) if share > 0 else 0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 11])
def test_a_plain_rnn_that_never_moves_keeps_everything(value, steps):
    assert half_lives(layer_of("rnn", state=np.full((steps, 1), value, "float32"))) == [math.inf]


def threshold_of(values, start, stop):
    """Sign, lowest threshold and strength of a unit that is on in the span and off elsewhere, by trying everything."""
    for sign in (1, -1):
        works = [
            threshold
            for threshold in sorted({0.0, *(abs(value) for value in values)})
            if all((sign * value > threshold) == (start <= step < stop) for step, value in enumerate(values))
        ]
        if works:
            strength = min(sign * value for value in values[start:stop])
            return sign, works[0], strength
    return None


@pytest.mark.parametrize("seed", range(6))
def test_units_on_are_those_that_some_threshold_finds(seed):
    generator = np.random.default_rng(seed)
    steps = int(generator.integers(1, 6))
    state = generator.uniform(-1, 1, (steps, 60)).astype("float32")
    for start in range(steps):
        for stop in range(start + 1, steps + 1):
            found = {span.unit: span for span in units_on(layer_of(state=state), start, stop)}
            expected = {unit: threshold_of(state[:, unit].tolist(), start, stop) for unit in range(60)}
            assert set(found) == {unit for unit, threshold in expected.items() if threshold}
            for unit, span in found.items():
                assert (span.sign, span.outside, span.inside) == expected[unit]
                assert span.outside < span.threshold < span.inside
                is_inside = [start <= step < stop for step in range(steps)]
                assert span.is_on(state).tolist() == is_inside
            margins = [span.margin for span in units_on(layer_of(state=state), start, stop)]
            assert margins == sorted(margins, reverse=True)


def test_units_on_finds_planted_units_best_first():
    state = np.random.default_rng(4).uniform(-0.3, 0.3, (8, 10))
    state[2:6, 3], state[2:6, 7] = -0.95, 0.8
    state[4, 9] = 0.9
    first, second, *_ = units_on(layer_of(state=state), 2, 6)
    assert (first.unit, first.sign, first.inside) == (3, -1, 0.95)
    assert (second.unit, second.sign, second.inside) == (7, 1, 0.8)


@pytest.mark.parametrize("around", [0, 1, 2, 5])
def test_units_on_may_be_on_farther_away(around):
    state = np.random.default_rng(6).uniform(-1, 1, (7, 80))
    near = slice(max(0, 2 - around), 4 + around)
    expected = units_on(layer_of(state=state[near]), 2 - near.start, 4 - near.start)
    assert units_on(layer_of(state=state), 2, 4, around=around) == expected
    assert (units_on(layer_of(state=state), 2, 4) == expected) == (around == 5)


def test_units_on_wants_no_negative_number_of_steps():
    with pytest.raises(ValueError, match=r"^around must be 0 or more steps, or None for all, but is -1 instead.$"):
        units_on(layer_of(state=np.zeros((4, 2))), 1, 2, around=-1)


def test_units_on_across_the_whole_sentence():
    state = np.array([[0.2, -0.5, 0.9], [0.4, -0.6, -0.9]])
    assert [(span.unit, span.margin) for span in units_on(layer_of(state=state), 0, 2)] == [(1, 0.5), (0, 0.2)]


def test_units_on_reads_a_gate():
    layer = layer_of(state=np.zeros((3, 2)), update=np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]))
    assert [(span.unit, span.sign) for span in units_on(layer, 1, 2, field="update")] == [(0, 1)]
    assert units_on(layer, 1, 2) == []


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (2, 1), (1, 5)])
def test_a_span_is_one_of_the_sentence(start, stop):
    message = (
        "^start and stop must be 0 <= start < stop <= 4 in a sentence of 4 tokens, "
        f"but are {start} and {stop} instead.$"
    )
    with pytest.raises(ValueError, match=message):
        units_on(layer_of(state=np.zeros((4, 2))), start, stop)
    with pytest.raises(ValueError, match=message):
        half_lives(layer_of(update=np.ones((4, 2))), start, stop)


def test_unknown_field_and_layer():
    layer = layer_of(state=np.zeros((4, 2)), update=np.zeros((4, 2)))
    message = "^The field must be one of state, update in a layer of cell gru, but is 'forget_gate' instead.$"
    with pytest.raises(ValueError, match=message):
        units_on(layer, 0, 1, field="forget_gate")
    trace = Trace("", "", (), (), {layer.name: layer, "decoder.recurrent_0": layer}, None, np.zeros(0))
    message = "^The layer must be one of encoder.forward_0, decoder.recurrent_0, but is 'encoder.forward_1' instead.$"
    with pytest.raises(ValueError, match=message):
        trace.layer("encoder.forward_1")


def test_threshold_has_a_side():
    values = np.array([[[0.6, -0.6]], [[0.4, -0.4]]])
    assert UnitThreshold(0, 1, 0.5).is_on(values).tolist() == [[True], [False]]
    assert UnitThreshold(1, -1, 0.5).is_on(values).tolist() == [[True], [False]]
    assert UnitThreshold(1, -1, -0.7).is_on(np.array([0.0, 0.6])).tolist() is True
