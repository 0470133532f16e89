"""Single units on traces with planted ones, against loops over every step, every threshold and every span."""

import math
import random

import numpy as np
import pytest

from seq2seq.errors import ArgumentError, DataError
from seq2seq.inspection.trace import LayerTrace, Trace, trace
from seq2seq.inspection.units import (
    MAX_MATCHES,
    Match,
    SpanUnits,
    UnitThreshold,
    find_span,
    half_lives,
    matches,
    units_across,
    units_on,
    with_matches,
)


def layer_of(cell="gru", update_gate="keep", **values):
    arrays = {name: np.asarray(value) for name, value in values.items()}
    steps = len(next(iter(arrays.values())))
    return LayerTrace("encoder.forward_0", cell, update_gate, tuple("abcdefghijklmnopqrstuvwxyz"[:steps]), arrays)


def halved_after(kept):
    """Follow one unit's memory through the sentence, again and again, until half is left; in steps, interpolated."""
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


@pytest.mark.parametrize("around", [0, 1, 2, 5])
def test_units_on_may_be_on_farther_away(around):
    state = np.random.default_rng(6).uniform(-1, 1, (7, 80))
    near = slice(max(0, 2 - around), 4 + around)
    expected = units_on(layer_of(state=state[near]), 2 - near.start, 4 - near.start)
    assert units_on(layer_of(state=state), 2, 4, around=around) == expected
    assert (units_on(layer_of(state=state), 2, 4) == expected) == (around == 5)
    with pytest.raises(ArgumentError, match="around must be"):
        units_on(layer_of(state=state), 2, 4, around=-1)


def test_units_on_reads_a_gate():
    layer = layer_of(state=np.zeros((3, 2)), update=np.array([[0.1, 0.9], [0.9, 0.1], [0.2, 0.8]]))
    assert [(span.unit, span.sign) for span in units_on(layer, 1, 2, field="update")] == [(0, 1)]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (1, 5)])
def test_a_span_is_one_of_the_sentence(start, stop):
    message = "start and stop must be 0 <= start < stop <= 4"
    with pytest.raises(ArgumentError, match=message):
        units_on(layer_of(state=np.zeros((4, 2))), start, stop)
    with pytest.raises(ArgumentError, match=message):
        half_lives(layer_of(update=np.ones((4, 2))), start, stop)


SOURCE = ("▁the", "▁cat", ",", "▁whi", "ch", "▁ate", ",", "▁art", "▁c", "art", "</s>")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (", which ate,", [(2, 7)]),
        (" which  ate ", [(3, 6)]),
        ("art", [(7, 8)]),  # Not that of "cart", where there is a whole word.
        ("cart", [(8, 10)]),
        ("hich", [(3, 5)]),  # A part of a word, where there is no whole one.
        (",", [(2, 3), (6, 7)]),
        ("dog", []),
        ("", []),
        ("c.t", []),
    ],
)
def test_where_a_text_stands(text, places):
    assert find_span(SOURCE, text) == places


def test_words_are_found_in_whatever_pieces_they_are():
    draw = random.Random(0)
    for _ in range(200):
        words = ["".join(draw.choices("abc", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 6))]
        pieces, word_of = [], []
        for number, word in enumerate(words):
            cuts = sorted(draw.sample(range(1, len(word)), draw.randint(0, len(word) - 1)))
            parts = [word[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(word)], strict=True)]
            parts[0] = "▁" + parts[0]
            pieces += parts
            word_of += [number] * len(parts)
        start = draw.randrange(len(words))
        stop = draw.randint(start + 1, len(words))
        expected = [
            (word_of.index(first), len(word_of) - word_of[::-1].index(first + stop - start - 1))
            for first in range(len(words) - (stop - start) + 1)
            if words[first : first + stop - start] == words[start:stop]
        ]
        found = find_span(["<s>", *pieces, "</s>"], " ".join(words[start:stop]))
        # Places that overlap, as "a a" in "a a a", are counted once.
        assert set(found) <= {(a + 1, b + 1) for a, b in expected}
        assert (word_of.index(start) + 1 in {a for a, _ in found}) or len(expected) > 1


def random_layer(name, tokens, seed):
    values = np.random.default_rng(seed).uniform(-1, 1, (len(tokens), 40)).astype("float32")
    return LayerTrace(name, "rnn", "keep", tokens, {"state": values})


@pytest.fixture
def traced():
    target = ("▁le", "▁chat", ",", "▁a", "</s>")
    layers = {
        "encoder.forward_0": random_layer("encoder.forward_0", SOURCE, 0),
        "decoder.recurrent_0": random_layer("decoder.recurrent_0", ("<s>", *target[:-1]), 1),
    }
    return Trace("the cat, which ate, art cart", "le chat, a", SOURCE, target, layers, None, np.zeros(5))


@pytest.mark.parametrize("around", [None, 1])
def test_a_span_is_looked_for_in_the_layers_that_read_it(traced, around):
    (source,) = units_across(traced, "cat", around)
    (target,) = units_across(traced, "chat", around)
    assert (source.layer, source.start, source.stop) == ("encoder.forward_0", 1, 2)
    assert (target.layer, target.start, target.stop) == ("decoder.recurrent_0", 2, 3)
    assert source.units == units_on(traced.layers["encoder.forward_0"], 1, 2, around=around) != []
    assert source.units != units_across(traced, "cat", 0)[0].units


@pytest.mark.parametrize(("span", "message"), [("dog", "must be a part of .*, got 'dog'"), (",", "once, got ','")])
def test_a_span_must_be_in_the_sentence_once(traced, span, message):
    with pytest.raises(DataError, match=message):
        units_across(traced, span)


def on_together(values, units):
    """Spans as long as can be in which all of the units are on, step by step."""
    is_on = [all(unit.sign * row[unit.unit] > unit.threshold for unit in units) for row in values]
    starts = [step for step in range(len(is_on)) if is_on[step] and (step == 0 or not is_on[step - 1])]
    return [
        (start, next((step for step in range(start, len(is_on)) if not is_on[step]), len(is_on))) for start in starts
    ]


@pytest.mark.parametrize(("name", "sentences"), [("encoder.backward_1", 8), ("decoder.recurrent_1", 3)])
def test_matches_are_those_of_each_sentence_alone(make_random_model, toy_pairs, name, sentences):
    model = make_random_model("rnn")
    corpus = [source for source, _ in toy_pairs[:sentences]]
    layer_traces = [trace(model, source).layers[name] for source in corpus]
    span = SpanUnits(name, 1, 2, units_on(layer_traces[0], 1, 2))
    assert len(span.units) >= 3
    silent = SpanUnits("encoder.forward_0", 1, 2, [])
    found, nothing = with_matches(model, [span, silent], [corpus[0], "", *corpus[1:]])
    expected = [
        (line, *place)
        for line, layer_trace in zip([1, *range(3, 99)], layer_traces, strict=False)
        for place in on_together(layer_trace.values["state"], span.units[:3])
    ]
    expected.sort(key=lambda place: place[1] - place[2])
    assert (nothing.match_count, list(nothing.matches), found.match_count) == (0, [], len(expected))
    assert len(expected) >= 1
    assert [(match.line, match.start, match.stop) for match in found.matches] == expected[:MAX_MATCHES]
    assert found.matches[0].tokens == layer_traces[found.matches[0].line - 1 - (found.matches[0].line > 1)].tokens


NAME = "encoder.forward_0"


def trace_of(state, **values):
    state = np.asarray(state, "float32")
    tokens = (*(f"▁w{step}" for step in range(len(state) - 1)), "</s>")
    layer = LayerTrace(NAME, "gru", "keep", tokens, {"state": state, **values})
    return Trace("", "", tokens, (), {NAME: layer}, None, np.zeros(0))


def all_matches(states, units, at_least):
    """Try every span, and keep those that no other one of the same sentence holds."""
    found = []
    for line, state in enumerate(states, 1):
        spans = {}
        for start in range(len(state)):
            for stop in range(start + 1, len(state) + 1):
                agreeing = tuple(
                    unit.unit
                    for unit in units
                    if all(unit.sign * state[step][unit.unit] > unit.threshold for step in range(start, stop))
                )
                if len(agreeing) >= at_least:
                    spans[start, stop] = agreeing
        for (start, stop), agreeing in spans.items():
            if not any(a <= start and stop <= b and (a, b) != (start, stop) for a, b in spans):
                found.append(Match(line, start, stop, trace_of(state).layers[NAME].tokens, agreeing))
    return found


@pytest.mark.parametrize("at_least", [None, 1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_matches_are_all_the_spans_that_are_as_long_as_can_be(seed, at_least):
    generator = np.random.default_rng(seed)
    states = [generator.normal(0.4, 1, (steps, 6)).astype("float32") for steps in generator.integers(1, 14, 25)]
    units = [UnitThreshold(5, 1, -0.4), UnitThreshold(0, -1, -0.9), UnitThreshold(2, 1, 0.1)]
    found = matches((trace_of(state) for state in states), NAME, units, at_least)
    expected = all_matches(states, units, at_least or 3)
    assert len(found) == len(expected) > 10
    ranked = [(match.stop - match.start, len(match.units)) for match in found]
    assert ranked == sorted(ranked, reverse=True)
    assert found == sorted(expected, key=lambda m: (m.start - m.stop, -len(m.units), m.line, m.start))


def test_matches_of_a_gate():
    trace = trace_of(np.zeros((4, 1)), update=np.array([[0.9], [0.1], [0.9], [0.8]]))
    found = matches([trace], NAME, [UnitThreshold(0, 1, 0.5)], field="update")
    assert [(match.start, match.stop) for match in found] == [(2, 4), (0, 1)]


UNIT = UnitThreshold(1, 1, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": [UNIT, UNIT]}, "units must be one or more, each once"),
        ({"at_least": 2}, "at_least must be from 1 to the 1 units given"),
        ({"units": [UNIT, UnitThreshold(2, 1, 0.5)]}, "units must be from 0 to 1 in encoder.forward_0"),
        ({"field": "reset"}, "field must be one of state"),
    ],
)
def test_arguments_of_matches(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        matches(**{"traces": [trace_of(np.zeros((3, 2)))], "layer_name": NAME, "units": [UNIT], **arguments})
