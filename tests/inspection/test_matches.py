"""Matches in a corpus of ragged sentences, against every span there is."""

import numpy as np
import pytest

from seq2seq.inspection.trace import LayerTrace, Trace
from seq2seq.inspection.units import Match, UnitThreshold, matches, units_on

NAME = "encoder.forward_0"


def trace_of(state, **values):
    state = np.asarray(state, "float32")
    tokens = (*(f"▁w{step}" for step in range(len(state) - 1)), "</s>")
    layer = LayerTrace(NAME, "gru", "keep", tokens, {"state": state, **values})
    return Trace("", "", tokens, (), {NAME: layer}, None, np.zeros(0))


def all_matches(states, units, at_least):
    """Tries every span, keeps those that no other one of the same sentence holds."""
    found = []
    for sentence, state in enumerate(states):
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
                tokens = trace_of(state).layers[NAME].tokens[start:stop]
                found.append(Match(sentence, start, stop, tokens, agreeing))
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
    assert found == sorted(expected, key=lambda m: (m.start - m.stop, -len(m.units), m.sentence, m.start))


def test_matches_finds_planted_spans():
    generator = np.random.default_rng(9)
    states = [generator.uniform(-0.3, 0.3, (9, 4)) for _ in range(3)]
    states[0][2:6, 1], states[0][2:6, 3] = 0.9, -0.8
    states[2][4:9, 1], states[2][4:9, 3] = 0.8, -0.9
    units = units_on(trace_of(states[0]).layers[NAME], 2, 6)[:2]
    assert [unit.unit for unit in units] == [1, 3]
    found = matches(map(trace_of, states), NAME, units)
    assert found == [
        Match(2, 4, 9, ("▁w4", "▁w5", "▁w6", "▁w7", "</s>"), (1, 3)),
        Match(0, 2, 6, ("▁w2", "▁w3", "▁w4", "▁w5"), (1, 3)),
    ]


def test_matches_of_a_gate():
    trace = trace_of(np.zeros((4, 1)), update=np.array([[0.9], [0.1], [0.9], [0.8]]))
    found = matches([trace], NAME, [UnitThreshold(0, 1, 0.5)], field="update")
    assert [(match.start, match.stop) for match in found] == [(2, 4), (0, 1)]


UNIT = UnitThreshold(1, 1, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": []}, r"^units must be one or more, each once, but are \[\] instead.$"),
        ({"units": [UNIT, UNIT]}, r"^units must be one or more, each once, but are \[1, 1\] instead.$"),
        ({"at_least": 0}, r"^at_least must be from 1 to the 1 units given, but is 0 instead.$"),
        ({"at_least": 2}, r"^at_least must be from 1 to the 1 units given, but is 2 instead.$"),
        (
            {"units": [UNIT, UnitThreshold(2, 1, 0.5)]},
            r"^units must be from 0 to 1 in encoder.forward_0, but are \[1, 2\] instead. Look for them in the layer "
            r"that they were found in.$",
        ),
        ({"layer_name": "decoder"}, "^The layer must be one of encoder.forward_0, but is 'decoder' instead.$"),
        ({"field": "reset"}, "^The field must be one of state in a layer of cell gru, but is 'reset' instead.$"),
    ],
)
def test_messages(arguments, message):
    with pytest.raises(ValueError, match=message):
        matches(**{"traces": [trace_of(np.zeros((3, 2)))], "layer_name": NAME, "units": [UNIT], **arguments})
