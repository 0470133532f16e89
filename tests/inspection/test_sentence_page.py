"""The page of a sentence: each section holds the numbers that it names."""

import dataclasses
import re

import numpy as np
import pytest

from seq2seq.inspection.figures import javascript
from seq2seq.inspection.gradient_flow import GradientFlow, LayerFlow
from seq2seq.inspection.report import Inspection
from seq2seq.inspection.sentence_page import page_content, write_sentence_page
from seq2seq.inspection.trace import CopyTrace, LayerTrace, Trace
from seq2seq.inspection.unit_probes import LabelUnits, Persistence, UnitProbe
from seq2seq.inspection.units import Match, SpanUnits, UnitSpan, half_lives
from seq2seq.layers.equations import GATES

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
    trace = Trace("the cat, ate,", "le chat", SOURCE, TARGET, layers, weights, np.log([0.9, 0.25, 0.8]))
    flow = GradientFlow(trace.source, trace.target, 0.5, flows, 2.0, clip_norm, np.zeros(len(SOURCE)))
    return Inspection(trace, flow, {name: half_lives(layer) for name, layer in layers.items()}, **more)


@pytest.fixture
def text_of(tmp_path):
    """Write the page of an inspection, and return its text with single spaces and without scripts."""

    def write(found):
        page = write_sentence_page(tmp_path / "page.html", found, "en-fr/model.keras").read_text(encoding="utf-8")
        page = re.sub(r"<script.*?</script>", "", page.replace(javascript(), ""), flags=re.DOTALL)
        return " ".join(page.split())

    return write


def test_title_summary_and_sections(text_of):
    page = text_of(inspection())
    assert "<h1>“the cat, ate,” in en-fr/model.keras</h1>" in page
    assert "a probability of 0.18. It is least sure of ▁chat (25 %)." in page
    assert re.findall(r'<section id="(.*?)"', page) == [
        *("translation", "alignment", "memory", "memory-encoder", "memory-decoder"),
        *("gradients", "gradients-encoder", "gradients-decoder", "gates", *NAMES),
    ]
    assert 'id="alignment"' not in text_of(inspection(attention=False))


def test_translation_and_alignment():
    found = inspection()
    content = page_content(found)
    np.testing.assert_allclose(content["translation"].data[0].y, [0.9, 0.25, 0.8])
    assert tuple(content["translation"].layout.xaxis.ticktext) == ("▁le", "▁chat", "&lt;/s&gt;")
    np.testing.assert_allclose(content["alignment"].data[0].z, found.trace.attention, rtol=1e-6)
    assert page_content(inspection(attention=False))["alignment"] is None


def test_copying():
    found = inspection()
    weights = np.full((len(TARGET), len(SOURCE)), 1 / len(SOURCE))
    copies = CopyTrace(np.array([0.25, 0.5, 0.75]), weights, np.array([0.0, 0.0, 0.875]), np.array([-1, -1, 5]))
    found = dataclasses.replace(found, trace=dataclasses.replace(found.trace, copying=copies))
    table, figure = page_content(found)["copying"]
    assert table.rows[1:] == [["▁chat", 0.5, 0.0, None, None], ["</s>", 0.75, 0.875, "</s>", 6]]
    np.testing.assert_allclose(figure.data[0].z, weights, rtol=1e-6)


@pytest.mark.parametrize("cell", FIELDS)
def test_columns_are_units_by_half_life(cell):
    found = inspection(cell)
    for name, figure in page_content(found)["layers"].items():
        units = np.array([int(label) for label in figure.layout.xaxis.ticktext])
        assert sorted(units) == list(range(NAMES[name]))
        assert (np.diff(found.half_lives[name][units]) <= 0).all()
        assert [drawn.name for drawn in figure.data] == FIELDS[cell]
        for drawn in figure.data:
            np.testing.assert_allclose(drawn.z, found.trace.layers[name].values[drawn.name][:, units], rtol=1e-6)
            is_share = drawn.name in ("update", "reset") or drawn.name.endswith("gate")
            assert drawn.zmin == (0 if is_share else -1)


def test_slowest_units_are_those_of_all_layers_of_a_side():
    found = inspection()
    content = page_content(found)
    (group, figure), _ = content["remembering"]
    lives = {(name, unit): life for name in group.names for unit, life in enumerate(found.half_lives[name])}
    expected = sorted(lives, key=lambda unit: -lives[unit])[:12]
    assert list(figure.layout.yaxis.ticktext) == [f"{name.split('.')[1]}, unit {unit}" for name, unit in expected]
    rows = [found.trace.layers[name].values["state"][:, unit] for name, unit in expected]
    np.testing.assert_allclose(figure.data[0].z, rows, rtol=1e-6)
    of_decoder = found.half_lives["decoder.recurrent_0"]
    row = content["memory"].rows[2]
    assert row[:4] == ["decoder.recurrent_0", "gru", 40, pytest.approx(np.median(of_decoder))]
    assert row[4].startswith(f"{of_decoder.argmax()} ({of_decoder.max():.1f}), ")


def test_every_gate_has_its_meaning():
    for cell, fields in FIELDS.items():
        expected = [[field, GATES[field].symbol, GATES[field].meaning] for field in fields]
        assert page_content(inspection(cell))["gates"].rows == expected
    writes = page_content(inspection(update_gate="write"))["gates"].rows[1]
    assert writes == ["update", "z", "share of the candidate that is written"]


@pytest.mark.parametrize(
    ("clip_norm", "words"),
    [
        (0.0, "norm 2, and training did not clip"),
        (5.0, "norm 2, within the 5"),
        (0.5, "multiplied by 0.25"),
    ],
)
def test_clipping(text_of, clip_norm, words):
    assert words in text_of(inspection(clip_norm=clip_norm))


def test_gradient_flow():
    found = inspection()
    content = page_content(found)
    assert content["gradients"].rows == [[name, 0.5, 0.5**10, "vanishing"] for name in NAMES]
    (_, figure), _ = content["norms"]
    assert [drawn.name for drawn in figure.data] == ["encoder.forward_0", "encoder.backward_0"]
    for drawn in figure.data:
        np.testing.assert_allclose(drawn.y, found.flow.layers[drawn.name].norms)


def test_span_and_matches(text_of):
    units = [UnitSpan(4, 1, 0.5, 0.75, 0.25), UnitSpan(7, -1, 0.5, 0.75, 0.25)]
    words = tuple(f"▁word{number}" for number in range(30))
    match = Match(12, 14, 16, (*words, "</s>"), (4, 7))
    span = SpanUnits("encoder.forward_0", 1, 3, units, 1_234, [match])
    found = inspection(span="cat, ate", span_units=[span, SpanUnits("encoder.backward_0", 1, 3, [])])
    content = page_content(found)
    assert content["span_units"].rows == [
        ("encoder.forward_0", 4, "red", 0.75, 0.25, 0.5),
        ("encoder.forward_0", 7, "blue", 0.75, 0.25, 0.5),
    ]
    ((_, figure),) = content["span_rows"]
    state = found.trace.layers["encoder.forward_0"].values["state"]
    np.testing.assert_allclose(figure.data[0].z, state[:, [4, 7]].T, rtol=1e-6)
    ((_, table),) = content["span_matches"]
    ((line, before, inside, after),) = table.rows
    assert (line, inside) == (12, "word14 word15")
    assert re.fullmatch(r"….*word12 word13", before)
    assert re.fullmatch(r"word16 word17.*…", after)
    assert "1,234 spans" in text_of(found)


def test_nothing_found(text_of):
    page = text_of(inspection(span="cat", span_units=[SpanUnits("encoder.forward_0", 1, 2, [])], label_units=[]))
    assert "no single unit of a layer that reads the span does so" in page
    assert "no unit of a layer has two different values" in page


def test_labels(text_of):
    def of(layer, unit, sign, training_gain, training_always_correct):
        # A rule for a rare label may be right oftener, and say less.
        probes = [UnitProbe(unit, sign, 0.25, "plural", 90.0, 50.0, 100 - training_gain, training_gain)]
        accuracy = np.array([[80.0], [85.0], [90.0], [10.0]])
        sentences, always = np.array([500, 40, 20, 19]), (np.array([70.0]), np.array([training_always_correct]))
        return LabelUnits(layer, probes, Persistence(np.array([unit]), sentences, accuracy, *always))

    label_units = [of("encoder.forward_0", 5, 1, 10.0, 80.0), of("decoder.recurrent_0", 6, -1, 45.0, 20.0)]
    found = inspection(label_units=label_units)
    content = page_content(found)
    title = "Unit 6 of decoder.recurrent_0 tells plural best"
    assert title in text_of(found)
    assert content["label_units"].rows == [
        ["decoder.recurrent_0", 6, "below -0.25", "plural", 90.0, 50.0, 70.0],
        ["encoder.forward_0", 5, "above 0.25", "plural", 90.0, 50.0, 70.0],
    ]
    # The last step has too few sentences to say anything.
    assert [(drawn.name, tuple(drawn.x), tuple(drawn.y)) for drawn in content["label_steps"].data] == [
        ("encoder.forward_0, unit 5", (0, 1, 2), (80.0, 85.0, 90.0)),
        ("decoder.recurrent_0, unit 6", (0, 1, 2), (80.0, 85.0, 90.0)),
    ]
    _, (group, figure) = content["label_rows"]
    assert group.word == "target"
    state = found.trace.layers["decoder.recurrent_0"].values["state"]
    np.testing.assert_allclose(figure.data[0].z[0], state[:, 6], rtol=1e-6)
    # Of two that are equally right, the one that carries the label is the best, whichever layer is named first.
    equal = [of("encoder.forward_0", 5, 1, 45.0, 10.0), label_units[1]]
    assert title in text_of(inspection(label_units=equal))
    # With few labelled sentences all steps are shown that as many reach as the first.
    few = dataclasses.replace(label_units[0].persistence, sentences=np.array([5, 5, 4, 3]))
    found = inspection(label_units=[dataclasses.replace(label_units[0], persistence=few)])
    assert tuple(page_content(found)["label_steps"].data[0].x) == (0, 1)
