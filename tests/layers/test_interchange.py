"""Weights from plain Keras and from PyTorch's layout, and back: what comes out is what the other library computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import Encoder, Recurrent, from_keras, from_torch, to_keras, to_torch
from tests.layers.oracles import sigmoid
from tests.layers.samples import RAGGED, TOLERANCE, close, normal, randomize

ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 4
KERAS = {
    "rnn": (keras.layers.SimpleRNN, {}),
    "lstm": (keras.layers.LSTM, {}),
    "gru": (keras.layers.GRU, {}),
    "gru_reset_before": (keras.layers.GRU, {"reset_after": False}),
}
KERAS_CELLS = pytest.mark.parametrize("cell", KERAS)
TORCH_BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3}
TORCH_CELLS = pytest.mark.parametrize("cell", TORCH_BLOCKS)
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
WAYS = pytest.mark.parametrize(("reverse", "dtype"), [(False, "float32"), (True, "float32"), (True, "float64")])
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


def inputs_of(dtype):
    return normal(1, ROWS, STEPS, FEATURES, dtype=dtype)


def keras_layer(cell, **options):
    keras_class, reset = KERAS[cell]
    layer = keras_class(UNITS, **{"return_sequences": True, "return_state": True} | reset | options)
    layer.build((None, None, FEATURES))
    return randomize(layer)


def recurrent(cell="gru", **options):
    layer = Recurrent(UNITS, cell, **options)
    layer.build((None, None, FEATURES))
    return randomize(layer)


@KERAS_CELLS
@WAYS
def test_from_keras(cell, reverse, dtype):
    theirs = keras_layer(cell, go_backwards=reverse, dtype=dtype, name="theirs")
    for mask in (None, RAGGED):
        outputs, *last = theirs(inputs_of(dtype), mask=None if mask is None else tf.constant(mask))
        outputs = tf.reverse(outputs, [1]) if reverse else outputs
        ours = from_keras(theirs)
        our_outputs, our_last = ours(inputs_of(dtype), mask=mask)
        keep = np.ones((ROWS, STEPS)) if mask is None else mask
        close(our_outputs, outputs * keep[..., None].astype(dtype), TOLERANCE[dtype])
        for actual, expected in zip(our_last, last, strict=True):
            close(actual, expected, TOLERANCE[dtype])
    assert (ours.name, ours.cell_name, ours.reverse, ours.compute_dtype) == ("theirs", cell, reverse, dtype)


@KERAS_CELLS
def test_keras_layer_without_biases(cell):
    theirs = keras_layer(cell, use_bias=False)
    ours = from_keras(theirs)
    close(ours(inputs_of("float32"))[0], theirs(inputs_of("float32"))[0], 1e-5)
    assert not ours.get_weights()[2].any()


def test_both_layers_of_a_bidirectional_layer():
    theirs = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))
    theirs.build((None, None, FEATURES))
    randomize(theirs)
    inputs = inputs_of("float32")
    ours = [from_keras(layer)(inputs, mask=RAGGED)[0] for layer in (theirs.forward_layer, theirs.backward_layer)]
    close(np.concatenate(ours, axis=-1), theirs(inputs, mask=tf.constant(RAGGED)) * RAGGED[..., None], 1e-5)


def test_a_frozen_layer_stays_frozen():
    theirs = keras_layer("gru")
    theirs.trainable = False
    assert not from_keras(theirs).trainable_variables
    assert not to_keras(from_keras(theirs)).trainable_variables


@KERAS_CELLS
@WAYS
def test_to_keras(cell, reverse, dtype):
    ours = recurrent(cell, reverse=reverse, dtype=dtype)
    theirs = to_keras(ours)
    assert type(theirs) is KERAS[cell][0]
    for mask in (None, RAGGED):
        outputs, states = ours(inputs_of(dtype), mask=mask)
        their_outputs, *their_states = theirs(inputs_of(dtype), mask=None if mask is None else tf.constant(mask))
        close(tf.reverse(their_outputs, [1]) if reverse else their_outputs, outputs, TOLERANCE[dtype])
        for actual, expected in zip(their_states, states, strict=True):
            close(actual, expected, TOLERANCE[dtype])


@KERAS_CELLS
@DIRECTIONS
def test_round_trip_through_keras_is_exact(cell, reverse):
    theirs = keras_layer(cell, go_backwards=reverse)
    again = to_keras(from_keras(theirs))
    for one, other in zip(again.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    expected = {"zero_output_for_mask": True}
    assert again.get_config() == theirs.get_config() | expected


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before"])
def test_to_keras_turns_a_gate_that_writes(cell):
    ours = recurrent(cell, update_gate="write")
    outputs, states = ours(inputs_of("float32"), mask=RAGGED)
    theirs, their_state = to_keras(ours)(inputs_of("float32"), mask=tf.constant(RAGGED))
    close(theirs, outputs, 1e-5)
    close(their_state, states[0], 1e-5)


def test_further_arguments():
    layer = to_keras(recurrent(), return_sequences=False, return_state=False, name="other", dropout=0.3)
    assert (layer.return_sequences, layer.name, layer.dropout) == (False, "other", 0.3)
    assert layer(inputs_of("float32")).shape == (ROWS, UNITS)
    assert from_keras(keras_layer("gru"), implementation="raw").implementation == "raw"
    encoder = from_torch(torch_arrays("lstm"), "lstm", implementation="raw", dropout=0.2, name="mine")
    assert (encoder.implementation, encoder.dropout, encoder.name) == ("raw", 0.2, "mine")
    for refused in (
        lambda: to_keras(recurrent(), activation="relu"),
        lambda: from_keras(keras_layer("gru"), update_gate="write"),
        lambda: from_torch(torch_arrays("gru"), "gru", residual=True),
    ):
        with pytest.raises(TypeError, match="multiple values"):
            refused()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation must be 'tanh', got 'relu'. .* 'theirs'"),
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation must be 'sigmoid'"),
        ({"dropout": 0.3}, "dropout must be 0.0"),
        ({"recurrent_dropout": 0.2}, "recurrent_dropout must be 0.0"),
        ({"stateful": True}, "stateful must be False"),
        ({"kernel_regularizer": "l2"}, "kernel_regularizer must be None"),
        ({"activity_regularizer": "l2"}, "activity_regularizer must be None"),
        ({"recurrent_constraint": "non_neg"}, "recurrent_constraint must be None"),
    ],
)
def test_keras_layer_with_other_options(options, message):
    layer = keras.layers.GRU(UNITS, name="theirs", **options)
    layer.build((ROWS, None, FEATURES))
    with pytest.raises(ValueError, match=message):
        from_keras(layer)


class Mine(keras.layers.GRU):
    pass


@pytest.mark.parametrize(
    ("create", "name"),
    [
        (lambda: keras.layers.Dense(3), "Dense"),
        (lambda: Mine(3), "Mine"),
        (lambda: keras.layers.RNN(keras.layers.GRUCell(3)), "RNN"),
        (lambda: keras.layers.Bidirectional(keras.layers.GRU(3)), "Bidirectional"),
    ],
    ids=["dense", "subclass", "rnn", "bidirectional"],
)
def test_other_classes(create, name):
    with pytest.raises(ValueError, match=f"layer must be a keras.layers.SimpleRNN, LSTM or GRU, got '{name}'"):
        from_keras(create())


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda: from_keras(keras.layers.GRU(UNITS)), "layer must be built"),
        (lambda: to_keras(Recurrent(UNITS)), "recurrent must be built"),
        (lambda: to_torch(Encoder(UNITS)), "encoder must be built"),
        (lambda: to_keras(recurrent("gru_simplified")), "cell must be one of rnn, lstm, gru, gru_reset_before"),
        (lambda: from_torch(torch_arrays("gru"), "gru_simplified"), "cell must be one of rnn, lstm, gru"),
        (lambda: to_torch(Encoder(UNITS, cell="gru_simplified")), "cell must be one of rnn, lstm, gru"),
        (lambda: to_torch(Encoder(UNITS, 2, residual=True)), "residual must be False"),
    ],
)
def test_layers_without_a_counterpart(convert, message):
    with pytest.raises(ValueError, match=message):
        convert()


# PyTorch is not installed here: its equations, from its documentation, as a loop.


def torch_step(cell, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """`torch.nn.RNN`, `LSTM` and `GRU` as documented for PyTorch 2: the states after a step."""
    size = len(h)

    def gate(number):
        rows = slice(number * size, (number + 1) * size)
        return weight_ih[rows] @ x + bias_ih[rows], weight_hh[rows] @ h + bias_hh[rows]

    if cell == "rnn":
        return np.tanh(sum(gate(0))), c
    if cell == "lstm":
        i, f, g, o = sigmoid(sum(gate(0))), sigmoid(sum(gate(1))), np.tanh(sum(gate(2))), sigmoid(sum(gate(3)))
        c = f * c + i * g
        return o * np.tanh(c), c
    r, z = sigmoid(sum(gate(0))), sigmoid(sum(gate(1)))
    from_input, from_state = gate(2)
    n = np.tanh(from_input + r * from_state)
    return (1 - z) * n + z * h, c


def torch_output(cell, arrays, sequence, num_layers, bidirectional):
    """`output` of one sequence without padding."""
    outputs = np.asarray(sequence, "float64")
    for layer in range(num_layers):
        directions = []
        for suffix in [f"l{layer}", f"l{layer}_reverse"][: 1 + bidirectional]:
            weights = [
                np.asarray(arrays[f"{name}_{suffix}"], "float64")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            h, c = np.zeros(UNITS), np.zeros(UNITS)
            places = range(len(outputs))
            result = np.zeros((len(outputs), UNITS))
            for place in reversed(places) if suffix.endswith("reverse") else places:
                h, c = torch_step(cell, outputs[place], h, c, *weights)
                result[place] = h
            directions.append(result)
        outputs = np.concatenate(directions, axis=-1)
    return outputs


def torch_memory(cell, arrays, inputs, mask, num_layers, bidirectional):
    """Row by row, as `pack_padded_sequence` lets PyTorch read them; zeros at padded steps."""
    memory = np.zeros((*inputs.shape[:2], UNITS * (1 + bidirectional)))
    for row in range(len(inputs)):
        length = mask[row].sum()
        if length:
            memory[row, :length] = torch_output(cell, arrays, inputs[row, :length], num_layers, bidirectional)
    return memory


def torch_arrays(cell, num_layers=1, bidirectional=False, dtype="float32"):
    width, arrays = TORCH_BLOCKS[cell] * UNITS, {}
    for layer in range(num_layers):
        for suffix in [f"l{layer}", f"l{layer}_reverse"][: 1 + bidirectional]:
            features = FEATURES if layer == 0 else UNITS * (1 + bidirectional)
            shapes = {
                "weight_ih": (width, features),
                "weight_hh": (width, UNITS),
                "bias_ih": (width,),
                "bias_hh": (width,),
            }
            for name, shape in shapes.items():
                arrays[f"{name}_{suffix}"] = normal(20 + len(arrays), *shape, dtype=dtype)
    return arrays


@TORCH_CELLS
@pytest.mark.parametrize(
    ("num_layers", "bidirectional"), [(1, False), (2, True), (3, False)], ids=["one", "both-ways", "stacked"]
)
@DTYPES
def test_from_torch(cell, num_layers, bidirectional, dtype):
    arrays, inputs = torch_arrays(cell, num_layers, bidirectional, dtype), inputs_of(dtype)
    encoder = from_torch(arrays, cell, dtype=dtype)
    assert (encoder.num_layers, encoder.bidirectional, encoder.units) == (num_layers, bidirectional, UNITS)
    expected = torch_memory(cell, arrays, inputs, RAGGED, num_layers, bidirectional)
    close(encoder(inputs, mask=RAGGED), expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("cell", "update_gate"), [("rnn", "keep"), ("lstm", "keep"), ("gru", "keep"), ("gru", "write")]
)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both-ways"])
def test_to_torch(cell, update_gate, bidirectional):
    encoder = Encoder(UNITS, 2, cell, bidirectional, update_gate=update_gate, dtype="float64")
    encoder.build((None, None, FEATURES))
    randomize(encoder)
    inputs, arrays = inputs_of("float64"), to_torch(encoder)
    expected = {
        name: (array.shape, array.dtype) for name, array in torch_arrays(cell, 2, bidirectional, "float64").items()
    }
    assert {name: (array.shape, array.dtype) for name, array in arrays.items()} == expected
    assert list(arrays) == list(expected)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays.values())
    close(encoder(inputs, mask=RAGGED), torch_memory(cell, arrays, inputs, RAGGED, 2, bidirectional), 1e-10)


@TORCH_CELLS
def test_round_trip_through_torch_is_exact(cell):
    encoder = from_torch(torch_arrays(cell, 2, True), cell)
    arrays = to_torch(encoder)
    for one, other in zip(from_torch(arrays, cell).get_weights(), encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    given = torch_arrays(cell, 2, True)
    for name, array in arrays.items():
        if name.startswith("bias_") and cell != "gru":
            both = given[name.replace("_hh", "_ih")] + given[name.replace("_ih", "_hh")]
            np.testing.assert_array_equal(array, both if "_ih" in name else np.zeros_like(both))
        else:
            np.testing.assert_array_equal(array, given[name])


@TORCH_CELLS
def test_torch_module_without_biases(cell):
    arrays = torch_arrays(cell, 2)
    bare = {name: array for name, array in arrays.items() if name.startswith("weight")}
    zeros = {name: np.zeros_like(array) for name, array in arrays.items() if name.startswith("bias")}
    expected = torch_memory(cell, bare | zeros, inputs_of("float32"), RAGGED, 2, False)
    close(from_torch(bare, cell)(inputs_of("float32"), mask=RAGGED), expected, 1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias_hh_l0": None}, "arrays must be weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0"),
        ({"weight_hr_l0": np.zeros((2, UNITS))}, "arrays must be"),
        ({"weight_ih_l0": None, "rnn.weight_ih_l0": np.zeros((3 * UNITS, FEATURES))}, "arrays must be"),
        (dict.fromkeys(["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]), "arrays must be"),
        ({"weight_hh_l0_reverse": np.zeros((3 * UNITS, UNITS))}, "arrays must be .* weight_ih_l0_reverse"),
        ({"weight_ih_l2": np.zeros((3 * UNITS, UNITS))}, "arrays must be .* weight_ih_l1"),
        ({"bias_ih_l0": np.zeros(4 * UNITS)}, r"bias_ih_l0 must be of shape \(12,\), got \(16,\)"),
        ({"weight_ih_l0": np.zeros((4 * UNITS, 3))}, r"weight_ih_l0 must be of shape \(12, 3\)"),
        ({"weight_hh_l0": np.zeros((12, 5))}, r"weight_ih_l0 must be of shape \(15, 3\)"),
        ({"weight_hh_l0": np.zeros((10, 4))}, r"weight_hh_l0 must be of shape \(12, 4\)"),
        ({"weight_hh_l0": np.zeros(12)}, "weight_hh_l0 must be a matrix"),
    ],
)
def test_arrays_that_are_no_module(changes, message):
    arrays = {name: array for name, array in (torch_arrays("gru") | changes).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        from_torch(arrays, "gru")
