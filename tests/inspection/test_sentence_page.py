"""The page of a sentence: each part holds the numbers that it names."""

import dataclasses

import numpy as np
import pytest

from seq2seq.inspection.gradient_flow import GradientFlow, LayerFlow
from seq2seq.inspection.html import Table
from seq2seq.inspection.report import Inspection
from seq2seq.inspection.sentence_page import MEANINGS, sentence_parts
from seq2seq.inspection.trace import CopyTrace, LayerTrace, Trace
from seq2seq.inspection.unit_probes import Carried, LabelUnits, UnitProbe
from seq2seq.inspection.units import CorpusMatch, Match, SpanUnits, UnitSpan, half_lives

SOURCE = ("▁the", "▁cat", ",", "▁ate", ",", "</s>")
TARGET = ("▁le", "▁chat", "</s>")
FIELDS = {
    "rnn": ["state"],
    "lstm": ["state", "cell_state", "input_gate", "forget_gate", "candidate", "output_gate"],
    "gru": ["state", "update", "reset", "candidate", "recurrent_candidate"],
}
NAMES = {"encoder.forward_0": 30, "encoder.backward_0": 30, "decoder.recurrent_0": 40}


def inspection(cell="gru", update_gate="keep", attention=True, clip_norm=1.0, **more):
    random = np.random.default_rng(3)
    layers, flows = {}, {}
    for name, units in NAMES.items():
        tokens = SOURCE if name.startswith("encoder") else ("<s>", *TARGET[:-1])
        values = {field: random.uniform(0.01, 0.99, (len(tokens), units)) for field in FIELDS[cell]}
        values["state"] = values["state"] * 2 - 1
        layers[name] = LayerTrace(name, cell, update_gate, tokens, values)
        flows[name] = LayerFlow(name, tokens, random.uniform(0.1, 1, len(tokens)), np.ones(len(tokens)), 0.5)
    weights = random.dirichlet(np.ones(len(SOURCE)), len(TARGET)) if attention else None
    log_probs = np.log([0.9, 0.25, 0.8])
    traced = Trace("the cat, ate,", "le chat", SOURCE, TARGET, layers, weights, log_probs)
    flow = GradientFlow(traced.source, traced.target, 0.5, flows, 2.0, clip_norm, np.zeros(len(SOURCE)))
    return Inspection(traced, flow, {name: half_lives(layer) for name, layer in layers.items()}, **more)


def titled(found, beginning):
    (part,) = [part for part in sentence_parts(found) if part.title.startswith(beginning)]
    return part


def test_what_is_copied_is_told_piece_by_piece():
    found = inspection()
    weights = np.full((len(TARGET), len(SOURCE)), 1 / len(SOURCE))
    copying = CopyTrace(np.array([0.25, 0.5, 0.75]), weights, np.array([0.0, 0.0, 0.875]), np.array([-1, -1, 5]))
    found = dataclasses.replace(found, trace=dataclasses.replace(found.trace, copying=copying))
    assert titled(found, "Copying").content.rows == [
        ["▁le", 0.25, 0.0, None, None],
        ["▁chat", 0.5, 0.0, None, None],
        ["</s>", 0.75, 0.875, "</s>", 6],
    ]
    assert titled(found, "Where it is copied from").content is not None


def test_parts_from_top_to_bottom():
    assert [part.title for part in sentence_parts(inspection())] == [
        "Translation: le chat",
        "Alignment: what the decoder reads while it writes",
        "Memory: how long each layer keeps what it holds",
        "The encoder's units that remember longest",
        "The decoder's units that remember longest",
        "Gradient flow: does the loss still reach the first steps?",
        "How much the loss depends on the encoder's state at each token",
        "How much the loss depends on the decoder's state at each token",
        "Every gate and state, layer by layer",
        "encoder.forward_0: gru, 30 units",
        "encoder.backward_0: gru, 30 units",
        "decoder.recurrent_0: gru, 40 units",
    ]


def test_the_translation_and_where_it_hesitates():
    part = titled(inspection(), "Translation")
    assert "most of all at ▁chat (25%)" in part.text
    np.testing.assert_allclose(part.content.data[0].y, [0.9, 0.25, 0.8])
    assert tuple(part.content.layout.xaxis.ticktext) == ("▁le", "▁chat", "&lt;/s&gt;")


def test_alignment_where_there_is_one():
    found = inspection()
    figure = titled(found, "Alignment").content
    np.testing.assert_allclose(figure.data[0].z, found.trace.attention, rtol=1e-6)
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 1)
    assert not [part for part in sentence_parts(inspection(attention=False)) if "Alignment" in part.title]


@pytest.mark.parametrize("cell", FIELDS)
def test_each_unit_of_a_layer_stands_in_the_column_that_has_its_number(cell):
    found = inspection(cell)
    for name, layer in found.trace.layers.items():
        figure = titled(found, f"{name}: {cell}").content
        units = np.array([int(label) for label in figure.layout.xaxis.ticktext])
        assert sorted(units) == list(range(NAMES[name]))
        assert (np.diff(found.half_lives[name][units]) <= 0).all()
        assert [trace.name for trace in figure.data] == FIELDS[cell]
        for drawn in figure.data:
            np.testing.assert_allclose(drawn.z, layer.values[drawn.name][:, units], rtol=1e-6)
            is_share = drawn.name in ("update", "reset") or drawn.name.endswith("gate")
            assert drawn.zmin == (0 if is_share else -1)


def test_units_that_remember_longest_are_those_of_all_layers_of_a_side():
    found = inspection()
    figure = titled(found, "The encoder's units").content
    lives = {
        (name, unit): life
        for name in NAMES
        if name.startswith("encoder")
        for unit, life in enumerate(found.half_lives[name])
    }
    expected = sorted(lives, key=lambda unit: -lives[unit])[:12]
    assert list(figure.layout.yaxis.ticktext) == [f"{name.split('.')[1]}, unit {unit}" for name, unit in expected]
    rows = [found.trace.layers[name].values["state"][:, unit] for name, unit in expected]
    np.testing.assert_allclose(figure.data[0].z, rows, rtol=1e-6)
    table = titled(found, "Memory").content
    of_decoder = found.half_lives["decoder.recurrent_0"]
    assert table.rows[2][:3] == ["decoder.recurrent_0", "gru", 40]
    assert table.rows[2][3] == pytest.approx(np.median(of_decoder))
    assert table.rows[2][4].startswith(f"{of_decoder.argmax()} ({of_decoder.max():.1f}), ")


@pytest.mark.parametrize("cell", FIELDS)
def test_a_half_life_says_what_it_comes_from(cell):
    assert ("in a cell without a gate" in titled(inspection(cell), "Memory").text) == (cell == "rnn")


def test_every_gate_of_every_cell_has_a_meaning_and_the_update_gate_the_right_one():
    for cell, fields in FIELDS.items():
        assert [row[0] for row in titled(inspection(cell), "Every gate").content.rows] == fields
    keeps, writes = (
        dict(titled(inspection(update_gate=kind), "Every gate").content.rows) for kind in ("keep", "write")
    )
    assert keeps == {field: MEANINGS[field] for field in FIELDS["gru"]}
    assert keeps["update"].startswith("share of the past that the unit keeps")
    assert writes["update"].startswith("share of the candidate that is written")


@pytest.mark.parametrize(
    ("clip_norm", "words"),
    [
        (0.0, "The gradient of all weights has norm 2, and training did not clip."),
        (5.0, "norm 2, within the 5 at which training clips, so clipping leaves it as it is."),
        (0.5, "norm 2, above the 0.5 at which training clips: every gradient is multiplied by 0.25,"),
    ],
)
def test_what_clipping_changes(clip_norm, words):
    assert words in titled(inspection(clip_norm=clip_norm), "Gradient flow").text


def test_gradient_flow_of_each_layer():
    found = inspection()
    assert titled(found, "Gradient flow").content.rows == [[name, 0.5, 0.5**10, "vanishing"] for name in NAMES]
    figure = titled(found, "How much the loss depends on the encoder's").content
    assert [drawn.name for drawn in figure.data] == ["encoder.forward_0", "encoder.backward_0"]
    for drawn in figure.data:
        np.testing.assert_allclose(drawn.y, found.flow.layers[drawn.name].norms)
    assert figure.layout.yaxis.type == "log"


def test_units_on_across_a_span_and_where_else():
    units = [UnitSpan(4, 1, 0.5, 0.75, 0.25), UnitSpan(7, -1, 0.5, 0.75, 0.25)]
    words = tuple(f"▁word{number}" for number in range(30))
    match = CorpusMatch(12, (*words, "</s>"), Match(0, 14, 16, words[14:16], (4, 7)))
    span = SpanUnits("encoder.forward_0", 1, 3, units, 1_234, [match])
    found = inspection(span="cat, ate", span_units=[span, SpanUnits("encoder.backward_0", 1, 3, [])])
    assert titled(found, "Units that are on across “cat, ate” and off outside it").content.rows == [
        ["encoder.forward_0", 4, "red", 0.75, 0.25, 0.5],
        ["encoder.forward_0", 7, "blue", 0.75, 0.25, 0.5],
    ]
    figure = titled(found, "Units that mark the span, along the source").content
    state = found.trace.layers["encoder.forward_0"].values["state"]
    np.testing.assert_allclose(figure.data[0].z, state[:, [4, 7]].T, rtol=1e-6)
    part = titled(found, "Where else encoder.forward_0 has these units on together: 4, 7")
    assert "The longest of 1,234 spans" in part.text
    ((line, before, inside, after),) = part.content.rows
    assert (line, inside) == (12, "word14 word15")
    assert before.startswith("…")
    assert before.endswith("word12 word13")
    assert after.startswith("word16 word17")
    assert after.endswith("…")


def test_a_span_that_no_unit_marks():
    found = inspection(span="cat", span_units=[SpanUnits("encoder.forward_0", 1, 2, [])])
    part = titled(found, "Units that are on across “cat”")
    assert part.content is None
    assert part.text == "There are none: no single unit of a layer that reads the span does so."


def test_a_label_that_no_unit_tells():
    part = titled(inspection(label_units=[]), "Units that tell the label")
    assert (part.text, part.content) == ("There are none: no unit of a layer has two different values.", None)


def test_units_that_tell_a_label():
    def of(layer, unit, sign, training_gain, training_throughout):
        # A rule for a rare label may be right oftener, and say less.
        probes = [UnitProbe(unit, sign, 0.25, "plural", 90.0, 50.0, 100 - training_gain, training_gain)]
        accuracy = np.array([[80.0], [85.0], [90.0], [10.0]])
        sentences, throughouts = np.array([500, 40, 20, 19]), (np.array([70.0]), np.array([training_throughout]))
        return LabelUnits(layer, probes, Carried(np.array([unit]), sentences, accuracy, *throughouts))

    label_units = [of("encoder.forward_0", 5, 1, 10.0, 80.0), of("decoder.recurrent_0", 6, -1, 45.0, 20.0)]
    found = inspection(label_units=label_units)
    table = titled(found, "Unit 6 of decoder.recurrent_0 tells plural best: 90 % right, 70 % all the way").content
    assert isinstance(table, Table)
    assert table.rows == [
        ["decoder.recurrent_0", 6, "below -0.25", "plural", 90.0, 50.0, 70.0],
        ["encoder.forward_0", 5, "above 0.25", "plural", 90.0, 50.0, 70.0],
    ]
    # Of two that are equally right, the one that carries the label is the best, whichever layer is named first.
    label_units[0] = of("encoder.forward_0", 5, 1, 45.0, 10.0)
    assert titled(inspection(label_units=label_units), "Unit 6 of decoder.recurrent_0 tells plural best")
    # The last step has too few sentences to say anything.
    figure = titled(found, "Which layers know the label all the way?").content
    assert [(drawn.name, tuple(drawn.x), tuple(drawn.y)) for drawn in figure.data] == [
        ("encoder.forward_0, unit 5", (0, 1, 2), (80.0, 85.0, 90.0)),
        ("decoder.recurrent_0, unit 6", (0, 1, 2), (80.0, 85.0, 90.0)),
    ]
    drawn = titled(found, "Units that tell the label, along the target").content.data[0]
    np.testing.assert_allclose(drawn.z[0], found.trace.layers["decoder.recurrent_0"].values["state"][:, 6], rtol=1e-6)
    # With few labelled sentences all steps are shown that any of them reaches as far as most do.
    few = dataclasses.replace(label_units[0].persistence, sentences=np.array([5, 5, 4, 3]))
    found = inspection(label_units=[dataclasses.replace(label_units[0], persistence=few)])
    assert tuple(titled(found, "Which layers").content.data[0].x) == (0, 1)
