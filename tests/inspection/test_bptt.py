"""The derivation by hand against TensorFlow's autodiff and Keras' layers, all in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.errors import ArgumentError
from seq2seq.inspection.bptt import back_propagate, back_propagate_labels, split_weights

FEATURES, UNITS, NUM_LABELS = 3, 4, 6
KINDS = [
    ("rnn", "keep"),
    ("lstm", "keep"),
    *((cell, gate) for cell in ("gru", "gru_reset_before", "gru_simplified") for gate in ("keep", "write")),
]
NUM_BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3, "gru_reset_before": 3, "gru_simplified": 2}
# Kernels, recurrent kernels and biases of one gate after the other, so that a mixed-up block is seen.
NAMES = {
    "rnn": "W U b",
    "lstm": "W_i W_f W_n W_o U_i U_f U_n U_o b_i b_f b_n b_o",
    "gru": "W_z W_r W_n U_z U_r U_n b_z b_r b_n c_z c_r c_n",
    "gru_reset_before": "W_z W_r W_n U_z U_r U_n b_z b_r b_n",
    "gru_simplified": "W_z W_n U_z U_n b_z b_n",
}


def packed_weights(cell, generator):
    width = NUM_BLOCKS[cell] * UNITS
    bias_shape = (2, width) if cell == "gru" else (width,)
    return [generator.normal(size=shape) for shape in ((FEATURES, width), (UNITS, width), bias_shape)]


def random_problem(cell, steps, seed=0):
    generator = np.random.default_rng(seed)
    weights = split_weights(cell, *packed_weights(cell, generator))
    inputs = generator.normal(size=(steps, FEATURES))
    initial_states = [generator.normal(size=UNITS) for _ in range(2 if cell == "lstm" else 1)]
    outside = [generator.normal(size=(steps, UNITS)) for _ in initial_states]
    return weights, inputs, initial_states, outside


def with_output_layer(weights, seed=1):
    generator = np.random.default_rng(seed)
    return weights | {"V": generator.normal(size=(UNITS, NUM_LABELS)), "b_V": generator.normal(size=NUM_LABELS)}


def plain_step(cell, update_gate, w, x, states):
    """Take one step by the equations of the cells, for TensorFlow to differentiate."""

    def product(vector, matrix):
        return tf.linalg.matvec(matrix, vector, transpose_a=True)

    def gate(letter, h):
        return product(x, w[f"W_{letter}"]) + product(h, w[f"U_{letter}"]) + w[f"b_{letter}"]

    h = states[0]
    if cell == "rnn":
        return [tf.tanh(product(x, w["W"]) + product(h, w["U"]) + w["b"])]
    if cell == "lstm":
        i, f, o = (tf.sigmoid(gate(letter, h)) for letter in "ifo")
        c = f * states[1] + i * tf.tanh(gate("n", h))
        return [o * tf.tanh(c), c]
    if cell == "gru":
        z = tf.sigmoid(gate("z", h) + w["c_z"])
        r = tf.sigmoid(gate("r", h) + w["c_r"])
        n = tf.tanh(product(x, w["W_n"]) + w["b_n"] + r * (product(h, w["U_n"]) + w["c_n"]))
    elif cell == "gru_reset_before":
        z, r = tf.sigmoid(gate("z", h)), tf.sigmoid(gate("r", h))
        n = tf.tanh(gate("n", r * h))
    else:
        z, n = tf.sigmoid(gate("z", h)), tf.tanh(gate("n", h))
    return [z * h + (1 - z) * n if update_gate == "keep" else (1 - z) * h + z * n]


class Autodiff:
    """Gradients by TensorFlow of a loop in which every step has a copy of each matrix of its own."""

    def __init__(self, cell, update_gate, weights, inputs, initial_states, loss_of):
        # (steps, *shape): the gradient of copy t is the contribution of step t.
        copies = {name: tf.constant(np.repeat(matrix[None], len(inputs), 0)) for name, matrix in weights.items()}
        inputs = tf.constant(inputs)
        initial_states = [tf.constant(state) for state in initial_states]
        with tf.GradientTape() as tape:
            tape.watch([*copies.values(), inputs, *initial_states])
            states, history = initial_states, []
            for t in range(len(inputs)):
                states = plain_step(cell, update_gate, {name: copies[name][t] for name in copies}, inputs[t], states)
                history.append(states)
            self.losses = loss_of(history, copies)
            loss = tf.reduce_sum(self.losses)
        sources = {"copies": copies, "inputs": inputs, "initial_states": initial_states, "history": history}
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        self.states = [np.stack(of_state) for of_state in zip(*history, strict=True)]
        self.contributions = {name: gradient.numpy() for name, gradient in gradients["copies"].items()}
        self.inputs = gradients["inputs"].numpy()
        self.initial_states = [gradient.numpy() for gradient in gradients["initial_states"]]
        self.of_states = [np.stack(of_state) for of_state in zip(*gradients["history"], strict=True)]


def assert_equal(result, autodiff):
    def close(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)

    assert result.contributions.keys() == result.gradients.keys() == autodiff.contributions.keys()
    for name, expected in autodiff.contributions.items():
        close(result.contributions[name], expected)
        close(result.gradients[name], expected.sum(0))
    close(result.values["state"], autodiff.states[0])
    close(result.gradients_of_states, autodiff.of_states[0])
    close(result.gradients_of_inputs, autodiff.inputs)
    close(result.gradients_of_initial_states, autodiff.initial_states)
    if len(autodiff.states) == 2:
        close(result.values["cell_state"], autodiff.states[1])
        close(result.gradients_of_cell_states, autodiff.of_states[1])
    else:
        assert result.gradients_of_cell_states is None


def reaching_each_state(outside):
    """Make a loss that sends just these gradients into the states."""
    return lambda history, copies: [
        tf.reduce_sum(gradients[t] * state)
        for t, states in enumerate(history)
        for gradients, state in zip(outside, states, strict=False)
    ]


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize(("cell", "update_gate"), KINDS)
def test_gradients_of_every_step_are_autodiffs(cell, update_gate, steps):
    weights, inputs, initial_states, outside = random_problem(cell, steps, seed=steps)
    expected = Autodiff(cell, update_gate, weights, inputs, initial_states, reaching_each_state(outside[:1]))
    result = back_propagate(cell, weights, inputs, initial_states, outside[0], update_gate)
    assert_equal(result, expected)


def test_gradients_that_reach_cell_states_from_outside():
    weights, inputs, initial_states, outside = random_problem("lstm", 5)
    expected = Autodiff("lstm", "keep", weights, inputs, initial_states, reaching_each_state(outside))
    of_cell_states = {"outside_gradients_of_cell_states": outside[1]}
    assert_equal(back_propagate("lstm", weights, inputs, initial_states, outside[0], **of_cell_states), expected)


@pytest.mark.parametrize(("cell", "update_gate"), KINDS)
def test_gradients_with_labels_are_autodiffs(cell, update_gate):
    weights, inputs, initial_states, _ = random_problem(cell, 6)
    weights = with_output_layer(weights)
    labels = np.array([5, 0, 3, 3, 1, 2])

    def cross_entropy(history, copies):
        logits = [
            tf.linalg.matvec(copies["V"][t], states[0], transpose_a=True) + copies["b_V"][t]
            for t, states in enumerate(history)
        ]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.stack(logits))

    expected = Autodiff(cell, update_gate, weights, inputs, initial_states, cross_entropy)
    losses, result = back_propagate_labels(cell, weights, inputs, initial_states, labels, update_gate)
    assert_equal(result, expected)
    np.testing.assert_allclose(losses, expected.losses, rtol=0, atol=1e-10)


KERAS_LAYERS = {
    "rnn": lambda: keras.layers.SimpleRNN(UNITS, return_sequences=True, dtype="float64"),
    "lstm": lambda: keras.layers.LSTM(UNITS, return_sequences=True, dtype="float64"),
    "gru": lambda: keras.layers.GRU(UNITS, return_sequences=True, dtype="float64", reset_after=True),
    "gru_reset_before": lambda: keras.layers.GRU(UNITS, return_sequences=True, dtype="float64", reset_after=False),
}


@pytest.mark.parametrize("cell", KERAS_LAYERS)
def test_packed_weights_are_those_of_keras(cell):
    _, inputs, initial_states, outside = random_problem(cell, 7)
    layer = KERAS_LAYERS[cell]()
    layer.build((1, None, FEATURES))
    packed = packed_weights(cell, np.random.default_rng(3))
    layer.set_weights(packed)
    with tf.GradientTape() as tape:
        outputs = layer(inputs[None], initial_state=[tf.constant(state[None]) for state in initial_states])
        loss = tf.reduce_sum(outputs[0] * outside[0])
    expected = split_weights(cell, *(gradient.numpy() for gradient in tape.gradient(loss, layer.trainable_variables)))
    result = back_propagate(cell, split_weights(cell, *packed), inputs, initial_states, outside[0])
    np.testing.assert_allclose(result.values["state"], outputs[0], rtol=0, atol=1e-10)
    assert result.gradients.keys() == expected.keys()
    for name, gradient in result.gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "gru_simplified"])
def test_keep_and_write_are_one_model(cell):
    weights, inputs, initial_states, outside = random_problem(cell, 5)
    turned = {name: -matrix if name.endswith("_z") else matrix for name, matrix in weights.items()}
    keep = back_propagate(cell, weights, inputs, initial_states, outside[0], "keep")
    write = back_propagate(cell, turned, inputs, initial_states, outside[0], "write")
    np.testing.assert_allclose(write.values["update"], 1 - keep.values["update"], atol=1e-12)
    np.testing.assert_allclose(write.values["state"], keep.values["state"], atol=1e-12)
    for name, gradient in keep.gradients.items():
        np.testing.assert_allclose(write.gradients[name], -gradient if name.endswith("_z") else gradient, atol=1e-12)


@pytest.mark.parametrize("cell", NAMES)
def test_matrices_are_cut_in_keras_order(cell):
    kernel, recurrent_kernel, bias = packed_weights(cell, np.random.default_rng(0))
    weights = split_weights(cell, kernel, recurrent_kernel, bias)
    assert list(weights) == NAMES[cell].split()

    def joined(letter):
        return np.concatenate([matrix for name, matrix in weights.items() if name[0] == letter], axis=-1)

    np.testing.assert_array_equal(joined("W"), kernel)
    np.testing.assert_array_equal(joined("U"), recurrent_kernel)
    np.testing.assert_array_equal(joined("b"), bias[0] if cell == "gru" else bias)
    if cell == "gru":
        np.testing.assert_array_equal(joined("c"), bias[1])


def test_large_sums_saturate_without_overflow():
    weights, inputs, initial_states, outside = random_problem("lstm", 3)
    result = back_propagate("lstm", weights, 1e5 * inputs, initial_states, outside[0])
    assert all(np.isfinite(gradient).all() for gradient in result.gradients.values())
    assert set(np.unique(result.values["forget_gate"])) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("cell", "changes", "message"),
    [
        ("gru", {"cell": "elman"}, "cell must be one of rnn, lstm, gru,"),
        ("gru", {"update_gate": "forget"}, "update_gate must be one of keep, write"),
        ("gru", {"inputs": np.zeros((0, FEATURES))}, r"inputs must be \(steps, features\) with one step or more"),
        ("gru", {"inputs": np.zeros((3, 5))}, r"weights\['W_z'\] must be of shape \(5, 4\)"),
        ("gru", {"initial_states": []}, "initial_states must be 1 arrays"),
        ("gru", {"initial_states": [np.zeros((1, UNITS))]}, r"initial_states must be of shape \(4,\)"),
        ("gru", {"weights": {}}, "weights must be W_z, .*, c_n for gru"),
        ("gru", {"outside_gradients": np.zeros((2, UNITS))}, "outside_gradients must be of shape"),
        ("gru", {"outside_gradients_of_cell_states": np.zeros((3, UNITS))}, "cell_states must be None for gru"),
        ("lstm", {"update_gate": "write"}, "update_gate must be one of keep for lstm"),
        ("lstm", {"outside_gradients_of_cell_states": np.zeros(UNITS)}, "cell_states must be of shape"),
    ],
)
def test_what_does_not_go_together_is_refused(cell, changes, message):
    weights, inputs, initial_states, outside = random_problem(cell, steps=3)
    arguments = {
        "weights": weights,
        "inputs": inputs,
        "initial_states": initial_states,
        "outside_gradients": outside[0],
    }
    with pytest.raises(ArgumentError, match=message):
        back_propagate(**{"cell": cell} | arguments | changes)


@pytest.mark.parametrize(
    ("labels", "output_layer", "message"),
    [
        ([0, 1], {}, r"labels must be of shape \(3,\)"),
        ([0.0, 1.0, 2.0], {}, "labels must be whole numbers from 0 to 5"),
        ([0, 6, -1], {}, "labels must be whole numbers from 0 to 5"),
        ([0, 1, 2], None, "weights must be W, U, b, V, b_V"),
        ([0, 1, 2], {"V": np.zeros((UNITS + 1, 2)), "b_V": np.zeros(2)}, r"weights\['V'\] must be of shape \(4, 2\)"),
    ],
)
def test_labels_and_output_layers_that_do_not_fit_are_refused(labels, output_layer, message):
    weights, inputs, initial_states, _ = random_problem("rnn", 3)
    if output_layer is not None:
        weights = with_output_layer(weights) | output_layer
    with pytest.raises(ArgumentError, match=message):
        back_propagate_labels("rnn", weights, inputs, initial_states, np.array(labels))


@pytest.mark.parametrize(
    ("cell", "shapes", "message"),
    [
        ("elman", [(3, 4), (4, 4), (4,)], "cell must be one of"),
        ("rnn", [(3,), (4, 4), (4,)], "kernel and recurrent_kernel must be matrices"),
        ("lstm", [(3, 16), (4, 12), (16,)], r"recurrent_kernel must be of shape \(4, 16\)"),
        ("gru", [(3, 12), (4, 12), (12,)], r"bias must be of shape \(2, 12\)"),
    ],
)
def test_arrays_of_another_layer_are_refused(cell, shapes, message):
    with pytest.raises(ArgumentError, match=message):
        split_weights(cell, *(np.zeros(shape) for shape in shapes))
