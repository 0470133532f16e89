"""Each cell on its own: in Keras' own RNN layer, its gates by name, and the two readings of its update gate."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import GRUCell, LSTMCell, RNNCell
from seq2seq.layers.cells import CELLS as CLASSES
from seq2seq.layers.cells import OpenForgetGate
from tests.layers import oracles
from tests.layers.samples import CELLS, GATED, RAGGED, close, normal, randomize

ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 6
EVERY_CELL = pytest.mark.parametrize("cell", CELLS)
VARIANTS = [(cell, gate) for cell in CELLS for gate in ("keep", "write") if gate == "keep" or cell in GATED]
EVERY_VARIANT = pytest.mark.parametrize(("cell", "update_gate"), VARIANTS, ids=["-".join(each) for each in VARIANTS])
INPUTS = normal(1, ROWS, STEPS, FEATURES, dtype="float64")


def create(cell, update_gate="keep", dtype="float64", **options):
    layer = CLASSES[cell](UNITS, update_gate=update_gate, dtype=dtype, **options)
    layer.build((None, FEATURES))
    return randomize(layer)


def first_states(cell):
    return [normal(2 + place, ROWS, UNITS, dtype="float64") for place in range(oracles.number_of_states(cell))]


def step_of(layer, inputs, states):
    return layer.step(layer.project(inputs), states)


@EVERY_VARIANT
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keras_rnn_layer_of_a_cell_is_the_loop(cell, update_gate, dtype):
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
def test_step_names_every_gate(cell, update_gate):
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
    for actual, expected in zip([outputs, *new_states], [step.state, *step[: layer.num_states]], strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("cell", GATED)
def test_readings_of_the_update_gate_convert_exactly(cell):
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
def test_kernel_weights_are_those_of_a_gate_that_keeps(cell, update_gate):
    layer, keeping = create(cell, update_gate), create(cell)
    keeping.set_weights(layer.kernel_weights())
    found, expected = (step_of(each, INPUTS[:, 0], first_states(cell)) for each in (keeping, layer))
    for actual, right in zip(found[: layer.num_states], expected[: layer.num_states], strict=True):
        close(actual, right, 1e-12)


def test_new_lstm_has_the_biases_of_keras():
    ours, theirs = LSTMCell(UNITS), keras.layers.LSTMCell(UNITS)
    for layer in (ours, theirs):
        layer.build((None, FEATURES))
    np.testing.assert_array_equal(ours.bias, theirs.bias)
    assert OpenForgetGate()((8,), "float64").dtype == "float64"
    other = LSTMCell(UNITS, bias_initializer="zeros")
    other.build((None, FEATURES))
    assert not np.any(other.bias)


@EVERY_VARIANT
def test_config_round_trip(cell, update_gate):
    layer = create(cell, update_gate, kernel_initializer="ones", bias_initializer="ones", name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert (again.units, again.update_gate) == (UNITS, update_gate)
    assert (np.asarray(again.kernel) == 1).all()
    assert (np.asarray(again.bias) == 1).all()


@pytest.mark.parametrize(("features", "units"), [(3, 6), (64, 32), (7, 5)])
def test_number_of_weights(features, units):
    for cell, blocks in {"rnn": 1, "gru_simplified": 2, "gru_reset_before": 3, "gru": 3, "lstm": 4}.items():
        layer = CLASSES[cell](units)
        layer.build((None, features))
        without_bias = sum(int(np.prod(weight.shape)) for weight in (layer.kernel, layer.recurrent_kernel))
        assert without_bias == blocks * units * (features + units)


@EVERY_CELL
def test_on_step_gets_every_step_and_may_change_it(cell):
    layer, states = create(cell), first_states(cell)
    expected = layer(INPUTS[:, 0], states)
    records = []

    def listen(record):
        records.append(record)
        return record.step

    layer.on_step = listen
    actual = layer(INPUTS[:, 0], states)
    (record,) = records
    found = [*tf.nest.flatten(actual), record.inputs, *record.states, record.step.state]
    wanted = [*tf.nest.flatten(expected), INPUTS[:, 0], *states, actual[0]]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    layer.on_step = lambda record: record.step._replace(state=record.step.state + 1)
    outputs, (state, *_) = layer(INPUTS[:, 0], states)
    for changed in (outputs, state):
        np.testing.assert_array_equal(changed, expected[0] + 1)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: RNNCell(0), "units must be an integer >= 1"),
        (lambda: LSTMCell("6"), "units must be"),
        (lambda: GRUCell(6, update_gate="forget"), "update_gate must be one of keep, write"),
        (lambda: RNNCell(6, update_gate="write"), "update_gate must be 'keep'"),
    ],
)
def test_bad_arguments(create, message):
    with pytest.raises(ValueError, match=message):
        create()
