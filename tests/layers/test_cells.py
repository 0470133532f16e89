"""Each cell on its own: in Keras' own RNN layer, its gates by name, and the two readings of its update gate."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import GRUCell, LSTMCell, RNNCell
from seq2seq.layers.cells import OpenForgetGate, create_cell
from tests.layers import oracles
from tests.layers.samples import CELLS, GATED, RAGGED, close, normal, randomize

ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 6
EVERY_CELL = pytest.mark.parametrize("cell", CELLS)
VARIANTS = [(cell, gate) for cell in CELLS for gate in ("keep", "write") if gate == "keep" or cell in GATED]
EVERY_VARIANT = pytest.mark.parametrize(("cell", "update_gate"), VARIANTS, ids=["-".join(each) for each in VARIANTS])
INPUTS = normal(1, ROWS, STEPS, FEATURES, dtype="float64")


def create(cell, update_gate="keep", dtype="float64"):
    layer = create_cell(cell, UNITS, update_gate, dtype=dtype)
    layer.build((None, FEATURES))
    return randomize(layer)


def first_states(cell):
    return [normal(2 + place, ROWS, UNITS, dtype="float64") for place in range(oracles.number_of_states(cell))]


def step_of(layer, inputs, states):
    return layer.step(layer.project(inputs), states)


@EVERY_VARIANT
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_keras_own_rnn_layer_it_gives_what_the_loop_gives(cell, update_gate, dtype):
    layer = create(cell, update_gate, dtype)
    inputs, states = INPUTS.astype(dtype), [state.astype(dtype) for state in first_states(cell)]
    alone = keras.layers.RNN(layer, return_sequences=True, return_state=True, dtype=dtype)
    outputs, *last = alone(inputs, initial_state=states, mask=tf.constant(RAGGED))
    expected_outputs, expected_last = oracles.recurrent(
        cell, inputs, RAGGED, states, layer.get_weights(), update_gate=update_gate
    )
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    close(outputs * RAGGED[..., None], expected_outputs, tolerance)
    for actual, expected in zip(last, expected_last, strict=True):
        close(actual, expected, tolerance)


@EVERY_VARIANT
def test_a_step_tells_every_gate_by_name(cell, update_gate):
    layer, states = create(cell, update_gate), first_states(cell)
    step = step_of(layer, INPUTS[:, 0], states)
    rows = [
        oracles.cell_step(cell, INPUTS[row, 0], [state[row] for state in states], layer.get_weights(), update_gate)
        for row in range(ROWS)
    ]
    assert step._fields == tuple(rows[0])
    for name in step._fields:
        close(getattr(step, name), np.stack([row[name] for row in rows]), 1e-12)
    outputs, new_states = layer(INPUTS[:, 0], states)
    assert [outputs.numpy().tolist()] + [state.numpy().tolist() for state in new_states] == [
        part.numpy().tolist() for part in (step.state, *step[: layer.num_states])
    ]


@pytest.mark.parametrize("cell", GATED)
def test_either_reading_of_the_update_gate_is_the_other_with_the_gate_turned(cell):
    for update_gate, other in (("keep", "write"), ("write", "keep")):
        layer, turned = create(cell, update_gate), create(cell, other)
        weights = layer.get_weights()
        turned.set_weights([layer.with_gate_turned(weight) for weight in weights])
        step, turned_step = (step_of(each, INPUTS[:, 0], first_states(cell)) for each in (layer, turned))
        for name in step._fields:
            value = getattr(turned_step, name)
            close(getattr(step, name), 1 - value if name == "update" else value, 1e-12)
        for weight, twice in zip(weights, turned.get_weights(), strict=True):
            np.testing.assert_array_equal(turned.with_gate_turned(twice), weight)
            assert (twice[..., :UNITS] == -weight[..., :UNITS]).all()
            assert (twice[..., UNITS:] == weight[..., UNITS:]).all()


@EVERY_VARIANT
def test_kernels_are_handed_the_weights_of_a_gate_that_keeps(cell, update_gate):
    layer = create(cell, update_gate)
    keeping = create(cell)
    keeping.set_weights(layer.kernel_weights())
    for actual, expected in zip(
        step_of(keeping, INPUTS[:, 0], first_states(cell))[: layer.num_states],
        step_of(layer, INPUTS[:, 0], first_states(cell))[: layer.num_states],
        strict=True,
    ):
        close(actual, expected, 1e-12)


def test_a_new_lstm_keeps_what_it_holds_as_that_of_keras():
    ours, theirs = LSTMCell(UNITS), keras.layers.LSTMCell(UNITS)
    for layer in (ours, theirs):
        layer.build((None, FEATURES))
    np.testing.assert_array_equal(ours.bias, theirs.bias)
    assert OpenForgetGate()((8,), "float64").dtype == "float64"
    other = LSTMCell(UNITS, bias_initializer="zeros")
    other.build((None, FEATURES))
    assert not np.any(other.bias)


@EVERY_VARIANT
def test_the_configuration_makes_the_same_cell(cell, update_gate):
    layer = create_cell(cell, UNITS, update_gate, kernel_initializer="ones", bias_initializer="ones", name="mine")
    config = layer.get_config()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == config
    assert config["units"] == UNITS
    assert config.get("update_gate", "keep") == update_gate
    again.build((None, FEATURES))
    assert (np.asarray(again.kernel) == 1).all()
    assert (np.asarray(again.bias) == 1).all()


def weights_without_bias(cell, features, units):
    layer = create_cell(cell, units)
    layer.build((None, features))
    return sum(int(np.prod(weight.shape)) for weight in (layer.kernel, layer.recurrent_kernel))


@pytest.mark.parametrize(("features", "units"), [(3, 6), (64, 32), (7, 5)])
def test_a_gru_has_three_quarters_of_the_weights_of_an_lstm(features, units):
    blocks = {"rnn": 1, "gru_simplified": 2, "gru_reset_before": 3, "gru": 3, "lstm": 4}
    for cell, number in blocks.items():
        assert weights_without_bias(cell, features, units) == number * units * (features + units)
    assert 4 * weights_without_bias("gru", features, units) == 3 * weights_without_bias("lstm", features, units)


@EVERY_CELL
def test_who_listens_is_given_every_step_and_may_change_it(cell):
    layer, states = create(cell), first_states(cell)
    expected = layer(INPUTS[:, 0], states)
    records = []

    def listen(record):
        records.append(record)
        return record.step

    layer.on_step = listen
    actual = layer(INPUTS[:, 0], states)
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    (record,) = records
    np.testing.assert_array_equal(record.inputs, INPUTS[:, 0])
    for recorded, state in zip(record.states, states, strict=True):
        np.testing.assert_array_equal(recorded, state)
    np.testing.assert_array_equal(record.step.state, actual[0])
    layer.on_step = lambda record: record.step._replace(state=record.step.state + 1)
    outputs, (state, *_) = layer(INPUTS[:, 0], states)
    for changed in (outputs, state):
        np.testing.assert_array_equal(changed, expected[0] + 1)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: RNNCell(0), "units must be a positive whole number, but is 0 instead."),
        (lambda: LSTMCell("6"), "units must be a positive whole number, but is '6' instead."),
        (
            lambda: GRUCell(6, update_gate="forget"),
            "update_gate must be one of keep, write, but is 'forget' instead.",
        ),
        (
            lambda: create_cell("gruu", 6),
            "cell must be one of rnn, lstm, gru, gru_reset_before, gru_simplified, but is 'gruu' instead.",
        ),
        (
            lambda: create_cell("rnn", 6, "write"),
            "update_gate must be 'keep' where cell is 'rnn', but is 'write' instead.",
        ),
    ],
)
def test_what_cannot_be_is_refused(create, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        create()
