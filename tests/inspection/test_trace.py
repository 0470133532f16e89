"""Traces against the kernels, against the search, and against gates computed one by one in NumPy."""

import numpy as np
import pytest

from seq2seq.errors import ArgumentError, DataError
from seq2seq.inspection.gradient_flow import gradient_flow
from seq2seq.inspection.recorder import Intervention
from seq2seq.inspection.report import inspect_sentence
from seq2seq.inspection.sentence_page import page_content
from seq2seq.inspection.trace import trace, traces
from seq2seq.inspection.unit_probes import LabelledSentence, MarkedText, values_across
from seq2seq.inspection.units import find_span, text_of
from seq2seq.layers.cells import CELLS
from seq2seq.models.base import clone_with_implementation
from seq2seq.text.dataset import pad
from tests.layers import oracles

SOURCES = ["the big cat sees the dog", "the girl hears the old king today", "the man"]
TARGETS = ["la kato granda vidas la hundo", "la viro", "hodiaŭ la knabino aŭdas la reĝo maljuna"]


def steps_of(cell, inputs, weights):
    weights = [np.asarray(weight, "float64") for weight in weights]
    states, steps = [np.zeros(len(weights[1]))] * oracles.number_of_states(cell), []
    for x in inputs:
        steps.append(oracles.cell_step(cell, x, states, weights))
        states = oracles.states_of(steps[-1])
    return steps


def expected_log_probs(model, sources, targets):
    """Compute the log probabilities of each target's tokens from the logits of the whole targets at once."""
    ids = pad(model.tokenizer.target.encode(targets))
    logits = model({"source_ids": pad(model.tokenizer.source.encode(sources)), "target_ids": ids}).numpy()
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    log_probs = np.log(exponentials / exponentials.sum(-1, keepdims=True))
    return np.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0]


@pytest.fixture(scope="module", params=CELLS)
def model(request, make_random_model):
    return make_random_model(request.param)


def test_gates_are_those_of_a_loop_in_numpy(model):
    found = trace(model, SOURCES[0], TARGETS[0])
    ids = model.tokenizer.source.encode([SOURCES[0]])[0]
    inputs = np.asarray(model.embedding.embeddings, "float64")[ids]
    for index in range(2):
        directions = []
        for direction in ("forward", "backward"):
            layer = model.recurrent_layers[f"encoder.{direction}_{index}"]
            order = slice(None, None, -1) if direction == "backward" else slice(None)
            steps = steps_of(model.encoder.cell, inputs[order], layer.get_weights())[order]
            of_layer = found.layers[f"encoder.{direction}_{index}"]
            assert of_layer.cell == model.encoder.cell
            assert of_layer.tokens == found.source_tokens
            assert set(of_layer.values) == set(steps[0])
            for field, values in of_layer.values.items():
                np.testing.assert_allclose(values, [step[field] for step in steps], atol=1e-5, err_msg=field)
            directions.append([step["state"] for step in steps])
        inputs = np.concatenate(directions, axis=-1)


def test_log_probs_are_those_of_the_whole_target_at_once(model):
    for found, expected in zip(
        traces(model, SOURCES, TARGETS), expected_log_probs(model, SOURCES, TARGETS), strict=True
    ):
        np.testing.assert_allclose(found.log_probs, expected[: len(found.target_tokens)], atol=1e-5)


def test_padding_changes_nothing(model):
    for together, source, target in zip(traces(model, SOURCES, TARGETS), SOURCES, TARGETS, strict=True):
        alone = trace(model, source, target)
        assert (alone.source, alone.target) == (source, target)
        assert alone.source_tokens == together.source_tokens
        assert alone.target_tokens == together.target_tokens
        np.testing.assert_allclose(alone.attention, together.attention, atol=1e-6)
        for name, layer in alone.layers.items():
            for field, values in layer.values.items():
                np.testing.assert_allclose(values, together.layers[name].values[field], atol=1e-5)


def test_shapes_and_tokens_are_as_stated(model):
    found = trace(model, SOURCES[1], TARGETS[1])
    assert found.source_tokens == ("▁the", "▁girl", "▁hears", "▁the", "▁old", "▁king", "▁today", "</s>")
    assert found.target_tokens == ("▁la", "▁viro", "</s>")
    assert list(found.layers) == list(model.recurrent_layers)
    assert found.attention.shape == (3, 8)
    np.testing.assert_allclose(found.attention.sum(-1), 1, atol=1e-5)
    assert found.log_probs.shape == (3,)
    for name, layer in found.layers.items():
        assert layer.tokens == (found.source_tokens if name.startswith("encoder") else ("<s>", "▁la", "▁viro"))
        for values in layer.values.values():
            assert values.shape == (len(layer.tokens), model.recurrent_layers[name].units)


def test_share_kept_is_the_factor_of_the_past(model):
    layer = trace(model, SOURCES[0], TARGETS[0]).layers["encoder.forward_0"]
    values = layer.values
    if layer.cell == "rnn":
        assert layer.share_kept() is None
        return
    past, new, written = (
        (values["cell_state"][:-1], values["cell_state"][1:], (values["input_gate"] * values["candidate"])[1:])
        if layer.cell == "lstm"
        else (values["state"][:-1], values["state"][1:], ((1 - values["update"]) * values["candidate"])[1:])
    )
    np.testing.assert_allclose(layer.share_kept()[1:] * past + written, new, atol=1e-5)


def test_update_gate_that_writes(make_random_model):
    model = clone_with_implementation(make_random_model("gru"), "raw", "write")
    layer = trace(model, SOURCES[0], TARGETS[0]).layers["encoder.forward_0"]
    values = layer.values
    assert layer.update_gate == "write"
    expected = layer.share_kept()[1:] * values["state"][:-1] + (values["update"] * values["candidate"])[1:]
    np.testing.assert_allclose(expected, values["state"][1:], atol=1e-5)


def test_without_a_target_it_is_the_models_own_translation(trained):
    source = "the big cat sees the dog"
    found = trace(trained, source)
    best = trained.generate([source], attention=True)[0][0]
    assert found.target == best.text == "la kato granda vidas la hundo"
    np.testing.assert_allclose(found.attention, best.attention_weights, atol=1e-5)
    assert found.log_probs.sum() == pytest.approx(best.log_prob, abs=1e-4)
    assert found.target_tokens == tuple(trained.tokenizer.target.pieces(best.token_ids))


def test_a_context_that_is_read_once_has_no_weights(make_model):
    assert trace(make_model(model__context="attentive"), SOURCES[0], TARGETS[0]).attention is None


@pytest.mark.parametrize(
    "changes",
    [
        {"model__context_inputs": ["state", "input", "readout"]},
        {"model__decoder__input_feeding": True},
        {
            "model__decoder__num_layers": 2,
            "model__decoder__attention_position": "between",
            "model__decoder__residual": True,
        },
        {"model__encoder__bidirectional": False, "model__attention__score": "general"},
    ],
)
def test_every_kind_of_decoder(make_model, changes):
    model = make_model(**changes)
    found = trace(model, SOURCES[0], TARGETS[0])
    np.testing.assert_allclose(found.log_probs, expected_log_probs(model, SOURCES[:1], TARGETS[:1])[0], atol=1e-5)
    assert all(layer.values["state"].any() for layer in found.layers.values())


@pytest.mark.parametrize(
    ("layer", "start", "stop"),
    [("encoder.forward_0", 1, 3), ("encoder.backward_1", 2, 4), ("decoder.recurrent_0", 1, 2)],
)
def test_intervention_sets_a_unit_and_the_rest_follows(make_random_model, layer, start, stop):
    """What comes before in reading order is as it was; the steps after are those of a loop from the changed state."""
    model = make_random_model("gru")
    intervention = Intervention(layer, unit=3, value=0.9, start=start, stop=stop)
    found = trace(model, SOURCES[0], TARGETS[0], interventions=[intervention])
    free = trace(model, SOURCES[0], TARGETS[0])
    states, before = found.layers[layer].values["state"], free.layers[layer].values["state"]
    np.testing.assert_array_equal(states[start:stop, 3], np.float32(0.9))
    untouched = slice(stop, None) if "backward" in layer else slice(0, start)
    assert len(states[untouched]) > 0
    np.testing.assert_array_equal(states[untouched], before[untouched])
    assert np.abs(found.log_probs - free.log_probs).max() > 1e-4
    if layer == "encoder.forward_0":
        ids = model.tokenizer.source.encode([SOURCES[0]])[0]
        inputs = np.asarray(model.embedding.embeddings, "float64")[ids]
        h = np.zeros(states.shape[1])
        for step, x in enumerate(inputs):
            h = oracles.cell_step("gru", x, [h], model.recurrent_layers[layer].get_weights())["state"]
            if start <= step < stop:
                h[3] = 0.9
            np.testing.assert_allclose(states[step], h, atol=1e-5)


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        (Intervention("encoder", 0, 1.0), "layer must be one of encoder.forward_0"),
        (Intervention("encoder.forward_0", 16, 1.0), "unit must be from 0 to 15 in encoder.forward_0, got 16"),
    ],
)
def test_intervention_in_an_unknown_unit(make_model, intervention, message):
    with pytest.raises(ArgumentError, match=message):
        trace(make_model(), SOURCES[0], TARGETS[0], interventions=[intervention])


def test_table(trained):
    found = trace(trained, "the cat sees the dog")
    lines = found.table("encoder.forward_0", "update", units=[3, 0]).split("\n")
    values = found.layers["encoder.forward_0"].values["update"]
    assert lines[0].split() == ["3", "0"]
    assert [line.split()[0] for line in lines[1:]] == ["▁the", "▁cat", "▁sees", "▁the", "▁dog", "</s>"]
    assert lines[2].split()[1:] == [f"{values[1, 3]:.3f}", f"{values[1, 0]:.3f}"]
    assert len(found.table("encoder.forward_0").split("\n")[1].split()) == 1 + values.shape[1]


def test_several_batches_keep_their_order(make_model, toy_pairs):
    found = traces(make_model(), *(list(texts) for texts in zip(*toy_pairs[:70], strict=True)))
    assert [(each.source, each.target) for each in found] == toy_pairs[:70]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["the cat", " "], None), "source 2: must be a text"),
        ((["the cat"], [""]), "target 1: must be a text"),
        ((["the cat"], ["a", "b"]), r"targets must be as many as sources \(1\), got 2"),
    ],
)
def test_texts_that_cannot_be_traced(trained, arguments, message):
    with pytest.raises(DataError, match=message):
        list(traces(trained, *arguments))


def test_unknown_layer_and_field(trained):
    found = trace(trained, "the cat")
    with pytest.raises(ArgumentError, match=r"layer must be one of encoder.forward_0, .*, got 'encoder'"):
        found.table("encoder")
    with pytest.raises(ArgumentError, match=r"field must be one of state, update, .* of cell gru, got 'z'"):
        found.table("encoder.forward_0", "z")


def test_copies_are_those_of_the_parallel_pass(make_model):
    model = make_model(model__copy="separate")
    random = np.random.default_rng(3)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    source, target = "the big cat sees the dog", "the the viro"
    ids = {
        "source_ids": pad(model.tokenizer.source.encode([source])),
        "target_ids": pad(model.tokenizer.target.encode([target])),
    }
    copies, found = model.decode_teacher_forced(ids).copies, trace(model, source, target).copying
    gate, weights = oracles.sigmoid(np.array(copies.gate)[0]), np.array(copies.weights)[0]
    np.testing.assert_allclose(found.gate, gate, atol=1e-5)
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)
    assert found.places.tolist() == [4 if row[4] > row[0] else 0 for row in weights[:2]] + [-1, 6]
    probabilities = np.exp(np.array(model(ids))[0, range(4), ids["target_ids"][0]])
    masses = [weights[0, [0, 4]].sum(), weights[1, [0, 4]].sum(), 0.0, weights[3, 6]]
    np.testing.assert_allclose(found.copied, (1 - gate) * masses / probabilities, atol=1e-5)
    assert trace(make_model(), source, target).copying is None


@pytest.fixture(scope="module")
def joining(make_model):
    """Make an encoder that joins source steps: two by its front end, and two more by its second layer."""
    front_end = {"model__encoder__front_end": "mean", "model__encoder__stride": 2}
    return make_model(**front_end, model__encoder__num_layers=2, model__encoder__subsample=2)


class TestJoinedSteps:
    def test_every_step_has_the_pieces_that_it_reads_and_the_state_of_the_kernels(self, joining):
        memory, mask = joining.encode(pad(joining.tokenizer.source.encode(SOURCES)))
        for row, found in enumerate(traces(joining, SOURCES, TARGETS)):
            states = [found.layers[f"encoder.{name}_1"].values["state"] for name in ("forward", "backward")]
            np.testing.assert_allclose(np.concatenate(states, axis=-1), memory.numpy()[row][mask[row]], atol=1e-5)
            assert "".join(found.memory_tokens) == "".join(found.source_tokens)
            assert found.attention.shape == (len(found.target_tokens), len(found.memory_tokens))
        assert found.source_tokens == ("▁the", "▁man", "</s>")
        assert found.layers["encoder.backward_0"].tokens == ("▁the▁man", "</s>")
        assert found.layers["encoder.forward_1"].tokens == found.memory_tokens == ("▁the▁man</s>",)
        assert found.layers["decoder.recurrent_0"].tokens[0] == "<s>"

    def test_gradients_flow_back_along_as_many_steps(self, joining):
        flow = gradient_flow(joining, SOURCES[0], TARGETS[0])
        steps = {name.rpartition(".")[2]: len(layer.norms) for name, layer in flow.layers.items()}
        assert steps == {"forward_0": 4, "forward_1": 2, "backward_0": 4, "backward_1": 2, "recurrent_0": 7}
        assert all(len(layer.tokens) == len(layer.norms) for layer in flow.layers.values())

    def test_interventions_count_the_steps_of_their_layer(self, joining):
        for name, steps in (("encoder.forward_0", 4), ("encoder.backward_1", 2)):
            intervention = Intervention(name, 3, 0.625, start=1, stop=2)
            values = trace(joining, SOURCES[0], TARGETS[0], [intervention]).layers[name].values["state"][:, 3]
            assert (values == 0.625).tolist() == [step == 1 for step in range(steps)]

    def test_spans_and_labels_are_found_at_the_steps_that_hold_them(self, joining):
        found = trace(joining, SOURCES[0], TARGETS[0])
        places = {name: find_span(layer.tokens, "sees the dog") for name, layer in found.layers.items()}
        assert places["encoder.forward_0"] == [(1, 3)]
        assert places["encoder.forward_1"] == [(0, 2)]
        assert text_of(found.memory_tokens) == SOURCES[0]
        sentences = [LabelledSentence("x", MarkedText(3, 5, SOURCES[0]))]
        names = ["encoder.forward_0", "encoder.forward_1"]
        values = values_across([found], names, sentences)
        for name, (first, last) in zip(names, ((1, 2), (0, 1)), strict=True):
            expected = found.layers[name].values["state"][first : last + 1]
            np.testing.assert_array_equal(values[name][0], expected)

    def test_the_page_shows_layers_of_other_steps_apart(self, joining):
        content = page_content(inspect_sentence(joining, SOURCES[0], span="sees"))
        encoder = [["encoder.forward_0", "encoder.backward_0"], ["encoder.forward_1", "encoder.backward_1"]]
        groups = [group.names for group, _ in content["norms"]]
        assert groups == [group.names for group, _ in content["remembering"]] == [*encoder, ["decoder.recurrent_0"]]
