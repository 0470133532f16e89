"""Gradients through time against autodiff on the kernels, and against moving one state at one step."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.inspection.bptt import split_weights
from seq2seq.inspection.gradient_flow import back_propagate_layer, gradient_flow
from seq2seq.inspection.recorder import Recorder
from seq2seq.inspection.trace import trace
from seq2seq.layers.cells import CELLS
from seq2seq.text.dataset import pad

SOURCE, TARGET = "the girl hears the old king", "la knabino aŭdas la reĝo maljuna"


@pytest.fixture(scope="module", params=CELLS)
def model(request, make_random_model):
    return make_random_model(request.param)


def mean_loss(model, source=SOURCE, target=TARGET):
    ids = {
        "source_ids": pad(model.tokenizer.source.encode([source])),
        "target_ids": pad(model.tokenizer.target.encode([target])),
    }
    return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(ids["target_ids"], model(ids), from_logits=True))


def weight_gradients(model):
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = mean_loss(model)
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return loss, {
        variable.path: tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(variables, gradients, strict=True)
    }


@pytest.fixture(scope="module")
def of_the_kernels(model):
    return weight_gradients(model)


@pytest.fixture(scope="module")
def whole_flow(model):
    return gradient_flow(model, SOURCE, TARGET)


@pytest.fixture(scope="module")
def by_hand_in(model):
    """Back-propagation by hand in a layer of that name, once for all tests."""
    return functools.cache(lambda layer: back_propagate_layer(model, layer, SOURCE, TARGET))


@pytest.mark.parametrize("layer", ["encoder.forward_0", "encoder.backward_1", "decoder.recurrent_0"])
def test_weight_gradients_by_hand_are_those_of_the_kernels(model, of_the_kernels, by_hand_in, layer):
    """Two derivations that share nothing: NumPy step by step, and the kernels under the training loss."""
    by_hand, (_, gradients) = by_hand_in(layer), of_the_kernels
    cell = model.recurrent_layers[layer].cell
    expected = split_weights(model.encoder.cell, *(gradients[weight.path] for weight in cell.weights))
    assert set(by_hand.gradients) == set(expected)
    for name, gradient in expected.items():
        assert np.abs(gradient).max() > 0
        np.testing.assert_allclose(by_hand.gradients[name], gradient, atol=1e-6, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("layer", ["encoder.forward_0", "encoder.backward_0", "decoder.recurrent_1"])
def test_norm_is_the_slope_of_the_loss(model, whole_flow, by_hand_in, layer):
    """One state is moved a little along its gradient, at one step, in the middle of a run."""
    place = 2
    recorder = Recorder(model)
    recurrent = recorder.raw.recurrent_layers[layer]
    flow = whole_flow.layers[layer]
    in_reading_order = len(flow.tokens) - 1 - place if recurrent.reverse else place
    gradient = by_hand_in(layer).gradients_of_states[in_reading_order]
    direction = (gradient / np.linalg.norm(gradient)).astype("float32")[None]
    step = recurrent.cell.step

    def loss_when_moved(move):
        calls = iter(range(len(flow.tokens)))

        def moved_step(projected_inputs, states):
            result = step(projected_inputs, states)
            return result._replace(state=result.state + move) if next(calls) == in_reading_order else result

        recurrent.cell.step = moved_step
        return -np.mean(trace(recorder, SOURCE, TARGET).log_probs.astype("float64"))

    slope = (loss_when_moved(0.02 * direction) - loss_when_moved(-0.02 * direction)) / 0.04
    assert flow.norms[place] == pytest.approx(slope, rel=0.02)


def test_rates_are_those_of_the_recurrence(model, whole_flow, by_hand_in):
    """|dL/dh_{t-1}| along the recurrence is all of it less what comes from outside."""
    flows = whole_flow.layers
    for layer in ("encoder.backward_0", "decoder.recurrent_0"):
        flow = flows[layer]
        reverse = model.recurrent_layers[layer].reverse
        rates = flow.rates[::-1] if reverse else flow.rates
        assert np.isnan(rates[0])
        by_hand = by_hand_in(layer)
        whole = by_hand.gradients_of_states
        np.testing.assert_allclose(np.linalg.norm(whole, axis=1)[:: -1 if reverse else 1], flow.norms, rtol=1e-4)
        if model.encoder.cell == "rnn":
            weights = model.recurrent_layers[layer].cell.recurrent_kernel.numpy()
            passed = (whole * (1 - by_hand.values["state"] ** 2)) @ weights.T
            expected = np.linalg.norm(passed[1:], axis=1) / np.linalg.norm(whole[1:], axis=1)
            np.testing.assert_allclose(rates[1:], expected, rtol=1e-4)
        assert flow.rate == pytest.approx(np.exp(np.log(rates[1:]).mean()))


def test_loss_and_norm_are_those_of_the_kernels(model, of_the_kernels, whole_flow):
    flow, (loss, gradients) = whole_flow, of_the_kernels
    assert flow.loss == pytest.approx(float(loss), rel=1e-5)
    expected = np.sqrt(sum(np.sum(gradient.astype("float64") ** 2) for gradient in gradients.values()))
    assert flow.gradient_norm == pytest.approx(expected, rel=1e-4)
    assert (flow.source, flow.target) == (SOURCE, TARGET)
    assert list(flow.layers) == list(model.recurrent_layers)


def test_verdict_of_a_recurrence_that_shrinks_or_grows(make_random_model):
    """A plain network with U a multiple of one: near zero tanh changes nothing, so the rate is that multiple."""
    model = make_random_model("rnn")
    for factor, verdict in ((0.5, "vanishing"), (1.0, "steady"), (1.5, "exploding")):
        cell = model.recurrent_layers["encoder.forward_0"].cell
        features, units = cell.kernel.shape
        kernel = np.random.default_rng(1).normal(scale=1e-5, size=(features, units))
        cell.set_weights([kernel, np.eye(units) * factor, np.zeros(units)])
        flow = gradient_flow(model, SOURCE, TARGET).layers["encoder.forward_0"]
        assert flow.rate == pytest.approx(factor, rel=1e-3)
        assert flow.verdict == verdict


def test_empty_target_has_norms_and_no_rate(make_random_model, monkeypatch):
    model = make_random_model("lstm")
    monkeypatch.setattr(model.tokenizer.target, "encode", lambda texts: [[3]])
    flow = gradient_flow(model, SOURCE, "la").layers["decoder.recurrent_0"]
    assert flow.tokens == ("<s>",)
    assert flow.norms.shape == (1,)
    assert flow.norms[0] > 0
    assert np.isnan(flow.rates).all()
    assert flow.verdict == "unknown"


def test_clipping_is_that_of_the_recipe_by_default(make_model):
    model = make_model(training__clip_norm=0.25)
    flow = gradient_flow(model, SOURCE, TARGET)
    assert flow.clip_norm == 0.25
    assert flow.gradient_norm > 0.25
    assert flow.clip_factor == pytest.approx(0.25 / flow.gradient_norm)
    loose = gradient_flow(model, SOURCE, TARGET, clip_norm=1e6)
    assert (loose.clip_norm, loose.clip_factor) == (1e6, 1.0)
    assert gradient_flow(model, SOURCE, TARGET, clip_norm=0.0).clip_factor == 1.0
