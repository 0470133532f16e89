"""One recurrent layer on each of its roads against a NumPy loop, Keras' own GRU and finite differences."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import Recurrent, recurrent
from tests.layers import oracles
from tests.layers.samples import (
    RAGGED,
    TOLERANCE,
    close,
    finite_differences,
    gradients,
    normal,
    operations,
    randomize,
)

ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 6
ROADS = pytest.mark.parametrize("implementation", ["scan", "raw"])
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
MASKS = pytest.mark.parametrize("mask", [None, RAGGED], ids=["full", "ragged"])
STATES = pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "given"])
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


def create(implementation="scan", reverse=False, dtype="float32", seed=0):
    layer = Recurrent(UNITS, reverse=reverse, implementation=implementation, dtype=dtype)
    layer.build((None, None, FEATURES))
    return randomize(layer, seed)


def sample(dtype="float32", with_state=True):
    state = normal(2, ROWS, UNITS, dtype=dtype) if with_state else None
    return normal(1, ROWS, STEPS, FEATURES, dtype=dtype), state


def weighted(outputs, state):
    """A scalar that every element of outputs and final state enters in its own way."""
    places, final = normal(3, ROWS, STEPS, UNITS), normal(4, ROWS, UNITS)
    return tf.reduce_sum(outputs * tf.cast(places, outputs.dtype)) + tf.reduce_sum(state * tf.cast(final, state.dtype))


@ROADS
@DIRECTIONS
@MASKS
@STATES
@DTYPES
def test_outputs_and_final_state_are_those_of_the_loop(implementation, reverse, mask, with_state, dtype):
    layer, (inputs, state) = create(implementation, reverse, dtype), sample(dtype, with_state)
    outputs, states = layer(inputs, mask=mask, initial_state=None if state is None else [state])
    expected_outputs, expected_state = oracles.gru(inputs, mask, state, layer.get_weights(), reverse)
    assert outputs.dtype == dtype
    assert len(states) == 1
    close(outputs, expected_outputs, TOLERANCE[dtype])
    close(states[0], expected_state, TOLERANCE[dtype])


@ROADS
@DIRECTIONS
@MASKS
@DTYPES
def test_outputs_states_and_gradients_are_those_of_keras(implementation, reverse, mask, dtype):
    layer, (inputs, state) = create(implementation, reverse, dtype), sample(dtype)
    other = keras.layers.GRU(
        UNITS, return_sequences=True, return_state=True, go_backwards=reverse, use_cudnn=False, dtype=dtype
    )
    other.build((ROWS, STEPS, FEATURES))
    other.set_weights(layer.get_weights())
    keep = tf.ones([ROWS, STEPS, 1], dtype) if mask is None else tf.cast(mask[..., None], dtype)

    def keras_loss(inputs, state):
        outputs, last = other(inputs, mask=mask, initial_state=state)
        return weighted((tf.reverse(outputs, [1]) if reverse else outputs) * keep, last)

    def our_loss(inputs, state):
        outputs, states = layer(inputs, mask=mask, initial_state=[state])
        return weighted(outputs, states[0])

    results = []
    for loss, variables in ((our_loss, layer.trainable_variables), (keras_loss, other.trainable_variables)):
        with tf.GradientTape() as tape:
            watched = [tf.constant(inputs), tf.constant(state)]
            tape.watch(watched)
            value = loss(*watched)
        results.append([value, *tape.gradient(value, watched + [variable.value for variable in variables])])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected, TOLERANCE[dtype] * 5)


@ROADS
@DIRECTIONS
def test_gradients_are_those_of_finite_differences(implementation, reverse):
    layer, mask = create(implementation, reverse, "float64"), RAGGED
    values = [*sample("float64"), *layer.get_weights()]

    def numpy_loss(inputs, state, *weights):
        outputs, last = oracles.gru(inputs, mask, state, weights, reverse)
        return np.sum(outputs * normal(3, ROWS, STEPS, UNITS)) + np.sum(last * normal(4, ROWS, UNITS))

    with tf.GradientTape() as tape:
        inputs, state = (tf.constant(value) for value in values[:2])
        tape.watch([inputs, state])
        outputs, states = layer(inputs, mask=mask, initial_state=[state])
        value = weighted(outputs, states[0])
    found = tape.gradient(value, [inputs, state, *(variable.value for variable in layer.trainable_variables)])
    close(value, numpy_loss(*values), 1e-10)
    for actual, expected in zip(found, finite_differences(numpy_loss, values), strict=True):
        close(actual, expected, 1e-6)


@ROADS
@DIRECTIONS
def test_bfloat16_is_close_to_float32(implementation, reverse):
    layer, (inputs, state) = create(implementation, reverse, "mixed_bfloat16"), sample()

    def loss(inputs, state):
        outputs, states = layer(inputs, mask=RAGGED, initial_state=[state])
        assert outputs.dtype == states[0].dtype == "bfloat16"
        return weighted(tf.cast(outputs, "float32"), tf.cast(states[0], "float32"))

    exact = create("raw", reverse)
    expected_outputs, expected_state = oracles.gru(inputs, RAGGED, state, exact.get_weights(), reverse)
    outputs, states = layer(inputs, mask=RAGGED, initial_state=[state])
    close(tf.cast(outputs, "float32"), expected_outputs, 5e-2)
    close(tf.cast(states[0], "float32"), expected_state, 5e-2)

    def exact_loss(inputs, state):
        outputs, states = exact(inputs, mask=RAGGED, initial_state=[state])
        return weighted(outputs, states[0])

    for actual, expected in zip(
        gradients(loss, inputs, state)[1], gradients(exact_loss, inputs, state)[1], strict=True
    ):
        close(actual, expected, 0.15)


@ROADS
@DIRECTIONS
@pytest.mark.parametrize("garbage", [0.0, 1e3, -1e6, 1e30])
def test_padding_changes_nothing(implementation, reverse, garbage):
    layer, (inputs, state) = create(implementation, reverse), sample()
    filled = np.where(RAGGED[..., None], inputs, np.float32(garbage))
    longer = np.concatenate([filled, np.full((ROWS, 3, FEATURES), garbage, "float32")], axis=1)
    longer_mask = np.concatenate([RAGGED, np.zeros((ROWS, 3), bool)], axis=1)
    outputs, states = layer(inputs, mask=RAGGED, initial_state=[state])
    padded_outputs, padded_states = layer(longer, mask=longer_mask, initial_state=[state])
    close(padded_outputs[:, :STEPS], outputs, 1e-6)
    close(padded_states[0], states[0], 1e-6)
    assert not padded_outputs.numpy()[~longer_mask].any()
    close(padded_states[0][3], state[3], 0)


@ROADS
@DIRECTIONS
def test_padding_gets_no_gradient(implementation, reverse):
    layer, (inputs, state) = create(implementation, reverse), sample()

    def loss(inputs, state):
        outputs, states = layer(inputs, mask=RAGGED, initial_state=[state])
        return weighted(outputs, states[0])

    _, (of_inputs, of_state) = gradients(loss, inputs, state)
    assert not of_inputs[~RAGGED].any()
    assert of_inputs[RAGGED].all()
    close(of_state[3], normal(4, ROWS, UNITS)[3], 1e-6)


@ROADS
def test_one_step_at_a_time_is_the_sequence(implementation):
    layer, (inputs, state) = create(implementation), sample()
    outputs, states = layer(inputs, initial_state=[state])
    by_call, by_step = [state], [state]
    for step in range(STEPS):
        output, by_call = layer(inputs[:, step : step + 1], initial_state=by_call)
        single, by_step = layer.step(inputs[:, step], by_step)
        close(output[:, 0], outputs[:, step], 1e-6)
        close(single, outputs[:, step], 1e-6)
    close(by_call[0], states[0], 1e-6)
    close(by_step[0], states[0], 1e-6)


def test_a_single_step_runs_no_loop():
    layer = create()
    one, many = (
        tf.function(lambda inputs: layer(inputs), [tf.TensorSpec([None, steps, FEATURES])]).get_concrete_function()
        for steps in (1, None)
    )
    assert not [name for name in operations(one) if "While" in name]
    assert [name for name in operations(many) if "While" in name]


def test_a_single_step_with_a_mask_keeps_the_state_of_padded_rows():
    layer, (inputs, state) = create(), sample()
    mask = RAGGED[:, 3:4]
    outputs, states = layer(inputs[:, :1], mask=mask, initial_state=[state])
    expected_outputs, expected_state = oracles.gru(inputs[:, :1], mask, state, layer.get_weights())
    close(outputs, expected_outputs, 1e-5)
    close(states[0], expected_state, 1e-5)


def test_the_first_state_is_zeros_unless_told_otherwise():
    layer, (inputs, _) = create(), sample()
    assert layer.initial_state(2)[0].shape == (2, UNITS)
    assert not layer.initial_state(2)[0].numpy().any()
    close(layer(inputs)[0], layer(inputs, initial_state=layer.initial_state(ROWS))[0], 0)


def test_kernel_choice_says_which_kernel_and_why(monkeypatch):
    assert create("scan").kernel_choice() == ("scan", ("implementation is 'scan'", "TensorFlow sees no GPU"))
    assert create("raw").kernel_choice() == ("raw", ("implementation is 'raw'", "TensorFlow sees no GPU"))
    assert create("auto").kernel_choice() == ("scan", ("TensorFlow sees no GPU",))
    assert create("cudnn").kernel_choice().reasons_against_cudnn == ("TensorFlow sees no GPU",)
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    assert create("auto").kernel_choice() == ("cudnn", ())
    assert create("cudnn").kernel_choice() == ("cudnn", ())
    assert create("scan").kernel_choice() == ("scan", ("implementation is 'scan'",))
    assert create("raw").kernel_choice() == ("raw", ("implementation is 'raw'",))
    layer = create("auto")
    layer.cell.cudnn_mode = None
    assert layer.kernel_choice() == ("scan", ("cuDNN has no kernel for the cell 'gru'",))


@pytest.mark.skipif(bool(tf.config.list_logical_devices("GPU")), reason="cuDNN can run here")
def test_cudnn_where_it_cannot_run_is_refused_with_the_reason():
    message = "implementation='cudnn' cannot run: TensorFlow sees no GPU. Use implementation='auto'."
    with pytest.raises(ValueError, match=re.escape(message)):
        create("cudnn")(sample()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 3, "cell": "gruu"}, "cell must be one of gru"),
        ({"units": 3, "cell": "gruu"}, "but is 'gruu' instead."),
        (
            {"units": 3, "implementation": "fast"},
            "implementation must be one of auto, cudnn, scan, raw, but is 'fast' instead.",
        ),
        ({"units": 0}, "units must be a positive whole number, but is 0 instead."),
        ({"units": 2.5}, "units must be a positive whole number, but is 2.5 instead."),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Recurrent(**arguments)


def test_the_cell_alone_is_keras_own_gru_cell():
    """Our cell in `keras.layers.RNN`, and Keras' GRU, trade weights and agree."""
    layer, (inputs, state) = create(), sample()
    alone = keras.layers.RNN(layer.cell, return_sequences=True, return_state=True)
    outputs, last = alone(inputs, initial_state=state, mask=tf.constant(RAGGED))
    expected_outputs, expected_state = oracles.gru(inputs, RAGGED, state, layer.get_weights())
    close(outputs * RAGGED[..., None], expected_outputs, 1e-5)
    close(last, expected_state, 1e-5)


def test_a_step_tells_every_gate_by_name():
    layer, (inputs, state) = create("raw", dtype="float64"), sample("float64")
    step = layer.cell.step(layer.cell.project(inputs[:, 0]), [state])
    kernel, recurrent_kernel, bias = layer.get_weights()
    from_inputs, from_state = inputs[:, 0] @ kernel + bias[0], state @ recurrent_kernel + bias[1]
    update = oracles.sigmoid((from_inputs + from_state)[:, :UNITS])
    reset = oracles.sigmoid((from_inputs + from_state)[:, UNITS : 2 * UNITS])
    candidate = np.tanh(from_inputs[:, 2 * UNITS :] + reset * from_state[:, 2 * UNITS :])
    for actual, expected in (
        (step.update, update),
        (step.reset, reset),
        (step.candidate, candidate),
        (step.recurrent_candidate, from_state[:, 2 * UNITS :]),
        (step.state, update * state + (1 - update) * candidate),
    ):
        close(actual, expected, 1e-12)


@pytest.mark.parametrize("implementation", ["scan", "raw"])
def test_mask_of_numbers_is_the_mask_of_their_truth(implementation):
    inputs = np.random.default_rng(3).normal(size=(2, 4, 3)).astype("float32")
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]])
    layer = Recurrent(5, implementation=implementation)
    for kind in ("int32", "float32"):
        outputs, states = layer(inputs, mask=mask.astype(kind))
        expected_outputs, expected_states = layer(inputs, mask=mask.astype(bool))
        np.testing.assert_array_equal(outputs, expected_outputs)
        np.testing.assert_array_equal(states[0], expected_states[0])


@pytest.mark.parametrize("implementation", ["scan", "raw"])
def test_keeps_a_known_number_of_steps(implementation):
    outputs, _ = Recurrent(5, implementation=implementation)(keras.Input((7, 3)))
    assert outputs.shape == (None, 7, 5)
    outputs, _ = Recurrent(5, implementation=implementation)(keras.Input((None, 3)))
    assert outputs.shape == (None, None, 5)
