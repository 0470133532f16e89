"""The cuDNN road without a GPU: what is handed to the kernel, what is made of its answer, and what is in the graph."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import AttentionContext, Decoder, Encoder, Recurrent, kernels, recurrent
from tests.layers import oracles
from tests.layers.samples import RAGGED, close, normal, operations, randomize

# The package holds a function of the module's name.
keras_rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")
ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 6
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
NOT_EMPTY = RAGGED | (np.arange(STEPS) == 0)


class FakeCudnn:
    """Stands in for `tf.raw_ops.CudnnRNNV3`: keeps its arguments and computes, in NumPy, what cuDNN documents."""

    def __init__(self):
        self.calls = []

    def __call__(self, **arguments):
        self.calls.append(arguments)
        lengths = np.asarray(arguments["sequence_lengths"])
        inputs, state = np.asarray(arguments["input"]), np.asarray(arguments["input_h"])[:, 0]
        outputs, final = oracles.cudnn_gru(inputs, state, arguments["params"], lengths, state.shape[-1])
        nothing = tf.zeros([])
        return tf.cast(outputs, inputs.dtype), tf.cast(final[:, None], inputs.dtype), nothing, nothing, nothing


@pytest.fixture
def fake(monkeypatch):
    fake = FakeCudnn()
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", fake)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": True})
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    return fake


def sample():
    weights = tuple(
        normal(place, *shape) for place, shape in enumerate([(FEATURES, 3 * UNITS), (UNITS, 3 * UNITS), (2, 3 * UNITS)])
    )
    return normal(5, ROWS, STEPS, FEATURES), normal(6, ROWS, UNITS), weights


def create(reverse=False, implementation="cudnn"):
    layer = Recurrent(UNITS, reverse=reverse, implementation=implementation)
    layer.build((None, None, FEATURES))
    return randomize(layer)


@DIRECTIONS
@pytest.mark.parametrize("mask", [None, NOT_EMPTY], ids=["full", "ragged"])
def test_cudnn_is_called_just_as_keras_calls_it(fake, reverse, mask):
    inputs, state, weights = sample()
    mask = None if mask is None else tf.constant(mask)
    kernels.cudnn_gru(tf.constant(inputs), mask, tf.constant(state), weights, reverse)
    keras_rnn._cudnn_gru(tf.constant(inputs), tf.constant(state), *weights, mask, False, reverse, True)
    ours, theirs = fake.calls
    assert set(ours) == set(theirs)
    for name in ("rnn_mode", "time_major", "is_training"):
        assert ours[name] == theirs[name]
    for name in ("input", "input_h", "input_c", "params", "sequence_lengths"):
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]), err_msg=name)
    assert ours["sequence_lengths"].dtype == tf.int32


def test_packed_weights_are_the_vector_of_keras():
    """The same through Keras' own packer, with the gates put in cuDNN's order by hand."""
    _, _, (kernel, recurrent_kernel, bias) = sample()
    order = [1, 0, 2]
    blocks = [np.split(matrix, 3, axis=1)[gate] for matrix in (kernel, recurrent_kernel) for gate in order]
    biases = [np.split(row, 3)[gate] for row in bias for gate in order]
    expected = keras_rnn._standardize_cudnn_weights(blocks, biases, tf.constant([-1]), transpose_weights=True)
    packed = kernels.pack_cudnn_gru(kernel, recurrent_kernel, bias)
    assert packed.shape == (3 * UNITS * (FEATURES + UNITS + 2),)
    np.testing.assert_array_equal(packed, expected)


@DIRECTIONS
@pytest.mark.parametrize("mask", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "given"])
def test_the_cudnn_road_gives_what_the_loop_gives(fake, reverse, mask, with_state):
    inputs, state, _ = sample()
    layer, state = create(reverse), state if with_state else None
    outputs, states = layer(inputs, mask=mask, initial_state=None if state is None else [state])
    assert len(fake.calls) == 1
    expected_outputs, expected_state = oracles.gru(inputs, mask, state, layer.get_weights(), reverse)
    close(outputs, expected_outputs, 1e-5)
    close(states[0], expected_state, 1e-5)


def test_empty_rows_reach_cudnn_as_rows_of_one_step(fake):
    inputs, state, weights = sample()
    kernels.cudnn_gru(tf.constant(inputs), tf.constant(RAGGED), tf.constant(state), weights, False)
    assert fake.calls[0]["sequence_lengths"].numpy().tolist() == [5, 3, 1, 1]


def test_keras_leaves_a_model_with_a_cudnn_kernel_out_of_xla(monkeypatch):
    """XLA has no cuDNN kernel: `compile`, which uses XLA on a GPU unless a layer objects, would break `fit`."""
    assert create(implementation="auto").supports_jit
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    assert create(implementation="scan").supports_jit
    assert not create(implementation="auto").supports_jit
    encoder = Encoder(UNITS, num_layers=2)
    assert not all(layer.supports_jit for layer in encoder._flatten_layers())


@pytest.mark.parametrize("masked", [False, True], ids=["full", "ragged"])
def test_xla_compiles_the_kernel_of_processors_and_its_gradient(masked):
    inputs, state, weights = sample()
    mask = tf.constant(RAGGED) if masked else None

    def gradient(inputs, state, *weights):
        with tf.GradientTape() as tape:
            tape.watch([inputs, state, *weights])
            outputs, last = kernels.scan_gru(inputs, mask, state, weights, True)
            value = tf.reduce_sum(outputs**2) + tf.reduce_sum(last**2)
        return tape.gradient(value, [inputs, state, *weights])

    values = [tf.constant(value) for value in (inputs, state, *weights)]
    compiled = tf.function(gradient, jit_compile=True, autograph=False)
    for actual, expected in zip(compiled(*values), gradient(*values), strict=True):
        close(actual, expected, 1e-4)


@DIRECTIONS
@pytest.mark.parametrize("masked", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_traced_step_holds_one_kernel_each_way_and_no_loop(monkeypatch, reverse, masked, dtype):
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    layer = Recurrent(UNITS, reverse=reverse, dtype=dtype)
    layer.build((None, None, FEATURES))

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None, None], "bool")], autograph=False
    )
    def train(inputs, mask):
        with tf.GradientTape() as tape:
            outputs, states = layer(inputs, mask=mask if masked else None)
            loss = tf.reduce_sum(tf.cast(outputs, "float32")) + tf.reduce_sum(tf.cast(states[0], "float32"))
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    found = operations(train.get_concrete_function())
    assert found.count("CudnnRNNV3") == 1
    assert found.count("CudnnRNNBackpropV3") == 1
    assert not [name for name in found if "While" in name]


def test_encoder_and_decoder_hold_one_kernel_a_layer_and_direction_and_no_loop(monkeypatch):
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    encoder = Encoder(UNITS, num_layers=2)
    decoder = Decoder(7, 4, UNITS, context=AttentionContext("general"), num_layers=2, attend="between")
    encoder.build((None, None, FEATURES))
    decoder.build((None, None), (None, None, 2 * UNITS))
    variables = encoder.trainable_variables + decoder.trainable_variables

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, FEATURES]),
            tf.TensorSpec([None, None], "bool"),
            tf.TensorSpec([None, None], "int32"),
        ],
        autograph=False,
    )
    def train(inputs, mask, token_ids):
        with tf.GradientTape() as tape:
            logits = decoder(token_ids, memory=encoder(inputs, mask=mask), memory_mask=mask, training=True)
            loss = tf.reduce_sum(logits)
        return tape.gradient(loss, [variable.value for variable in variables])

    found = operations(train.get_concrete_function())
    assert found.count("CudnnRNNV3") == found.count("CudnnRNNBackpropV3") == 2 * 2 + 2
    assert not [name for name in found if "While" in name]


def test_without_a_gpu_the_same_step_holds_loops_and_no_cudnn():
    """The count above would be worth nothing if it could not tell the roads apart."""
    layer = create(implementation="scan")
    found = operations(
        tf.function(lambda inputs: layer(inputs), [tf.TensorSpec([None, None, FEATURES])]).get_concrete_function()
    )
    assert not [name for name in found if "Cudnn" in name]
    assert [name for name in found if "While" in name]


def test_the_input_product_and_the_weight_gradients_stand_outside_the_loops():
    """What makes `scan_gru` fast: one product a step forwards, one a step backwards, the rest once."""
    layer = create(implementation="scan")

    def matmuls(function):
        concrete = function.get_concrete_function()
        bodies = [
            definition
            for definition in concrete.graph.as_graph_def().library.function
            if "body" in definition.signature.name
        ]
        inside = [sum(node.op == "MatMul" for node in body.node_def) for body in bodies]
        return operations(concrete).count("MatMul") - sum(inside), sorted(inside)

    @tf.function(input_signature=[tf.TensorSpec([None, None, FEATURES])], autograph=False)
    def train(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs)[0])
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    outside, inside = matmuls(train)
    assert inside == [1, 1]
    assert outside == 3


@pytest.mark.skipif(not tf.config.list_logical_devices("GPU"), reason="needs a GPU")
@DIRECTIONS
def test_cudnn_itself_gives_what_the_loop_gives(reverse):
    inputs, state, _ = sample()
    layer = create(reverse)
    outputs, states = layer(inputs, mask=RAGGED, initial_state=[state])
    expected_outputs, expected_state = oracles.gru(inputs, RAGGED, state, layer.get_weights(), reverse)
    close(outputs, expected_outputs, 1e-4)
    close(states[0], expected_state, 1e-4)
    assert keras.backend.backend() == "tensorflow"
