"""Everything about one sentence: the same as each function alone, and as JSON."""

import dataclasses
import json

import numpy as np
import pytest

from seq2seq.inspection.gradient_flow import gradient_flow
from seq2seq.inspection.report import as_numbers, inspect_sentence
from seq2seq.inspection.trace import CopyTrace, trace
from seq2seq.inspection.unit_probes import label_units
from seq2seq.inspection.units import LabelledSentence, MarkedText, half_lives, units_across, with_matches

SOURCE, TARGET = "the old cat sees the dog", "la kato maljuna vidas la hundo"


@pytest.fixture(scope="module")
def model(make_random_model):
    return make_random_model("lstm")


@pytest.fixture(scope="module")
def labelled(toy_pairs):
    return [
        LabelledSentence("no" if number % 2 else "yes", MarkedText(1, 2, source))
        for number, (source, _) in enumerate(toy_pairs[:6])
    ]


@pytest.fixture(scope="module")
def found(model, labelled):
    return inspect_sentence(
        model, SOURCE, TARGET, span="old cat", around=1, corpus=[SOURCE, "the dog sees"], labelled=labelled
    )


def test_all_of_it_is_what_each_function_finds_alone(model, labelled, found):
    alone, flow = trace(model, SOURCE, TARGET), gradient_flow(model, SOURCE, TARGET)
    numbers = as_numbers(found)
    assert (numbers["source"], numbers["target"]) == (SOURCE, TARGET)
    assert numbers["source_tokens"] == list(alone.source_tokens)
    assert numbers["target_tokens"] == list(alone.target_tokens)
    np.testing.assert_allclose(numbers["log_probs"], alone.log_probs, atol=1e-6)
    np.testing.assert_allclose(numbers["attention"], alone.attention, atol=1e-6)
    assert list(numbers["layers"]) == list(alone.layers)
    for name, layer in alone.layers.items():
        of_layer = numbers["layers"][name]
        assert (of_layer["cell"], of_layer["update_gate"], of_layer["tokens"]) == ("lstm", "keep", list(layer.tokens))
        assert list(of_layer["values"]) == list(layer.values)
        for field, values in layer.values.items():
            np.testing.assert_allclose(of_layer["values"][field], values, atol=1e-6)
        np.testing.assert_allclose(of_layer["half_lives"], half_lives(layer), atol=1e-6)
        of_flow = numbers["gradient_flow"]["layers"][name]
        np.testing.assert_allclose(of_flow["norms"], flow.layers[name].norms, atol=1e-6)
        np.testing.assert_allclose(np.array(of_flow["rates"], float), flow.layers[name].rates, atol=1e-6)
        assert of_flow["verdict"] == flow.layers[name].verdict
        assert of_flow["rate"] == pytest.approx(flow.layers[name].rate)
    assert numbers["gradient_flow"]["clip_factor"] == pytest.approx(flow.clip_factor)
    assert numbers["gradient_flow"]["loss"] == pytest.approx(flow.loss)


def test_what_is_copied_in_numbers(found):
    assert "copying" not in as_numbers(found)
    copying = CopyTrace(np.array([0.25]), np.array([[0.5, 0.5]]), np.array([0.125]), np.array([-1]))
    numbers = as_numbers(dataclasses.replace(found, trace=dataclasses.replace(found.trace, copying=copying)))
    right = {"gate": [0.25], "weights": [[0.5, 0.5]], "copied": [0.125], "places": [-1]}
    assert numbers["copying"] == right


def test_the_span_in_numbers(model, found):
    spans = with_matches(model, units_across(found.trace, "old cat", 1), [SOURCE, "the dog sees"])
    numbers = as_numbers(found)["span"]
    assert (numbers["text"], list(numbers["layers"])) == ("old cat", [span.layer for span in spans])
    for span in spans:
        of_layer = numbers["layers"][span.layer]
        assert (of_layer["start"], of_layer["stop"], of_layer["match_count"]) == (1, 3, span.match_count)
        assert [unit["unit"] for unit in of_layer["units"]] == [unit.unit for unit in span.units]
        assert [unit["margin"] for unit in of_layer["units"]] == [unit.margin for unit in span.units]
        # The sentence itself is the first of the corpus.
        assert (1, 1, 3) in {(match["line"], match["start"], match["stop"]) for match in of_layer["matches"]}
        assert {len(match["units"]) for match in of_layer["matches"]} == {len(span.units[:3])}


def test_labels_in_numbers(model, labelled, found):
    numbers = as_numbers(found)["labels"]
    expected = label_units(model, labelled)
    assert list(numbers) == [of_layer.layer for of_layer in expected]
    for of_layer in expected:
        ours = numbers[of_layer.layer]
        assert [(unit["unit"], unit["accuracy"]) for unit in ours["units"]] == [
            (unit.unit, unit.accuracy) for unit in of_layer.probes
        ]
        assert [unit["always_correct"] for unit in ours["units"]] == of_layer.persistence.always_correct.tolist()
        assert ours["sentences_by_step"] == of_layer.persistence.sentences.tolist()
        np.testing.assert_allclose(ours["accuracy_by_step"], of_layer.persistence.accuracy, atol=1e-6)


def test_json_knows_nothing_that_is_not_a_number(found):
    numbers = as_numbers(found)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    # The step that a layer reads first has none before it, and so no rate.
    assert numbers["gradient_flow"]["layers"]["encoder.forward_0"]["rates"][0] is None
    found.half_lives["encoder.forward_0"][3] = np.inf
    assert as_numbers(found)["layers"]["encoder.forward_0"]["half_lives"][3] is None


def test_nothing_is_said_of_what_was_not_asked(model):
    assert {"span", "labels"}.isdisjoint(as_numbers(inspect_sentence(model, SOURCE, TARGET)))
