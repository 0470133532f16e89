"""The cuDNN road without a GPU: what is handed to the kernel, what is made of its answer, and what is in the graph."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import AttentionContext, Decoder, Encoder, Recurrent, cpu_kernel, cudnn_kernel, recurrent
from seq2seq.layers.cells import CELLS
from tests.layers import oracles
from tests.layers.samples import RAGGED, close, normal, operations, randomize

# The package holds a function of the module's name.
keras_rnn = importlib.import_module("keras.src.backend.tensorflow.rnn")
ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 6
MODES = {"rnn": "rnn_tanh", "lstm": "lstm", "gru": "gru"}
BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3, "gru_simplified": 2}
CUDNN_CELLS = pytest.mark.parametrize("cell", MODES)
KERNEL_CELLS = pytest.mark.parametrize("cell", BLOCKS)
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
NOT_EMPTY = RAGGED | (np.arange(STEPS) == 0)


class FakeCudnn:
    """Stands in for `tf.raw_ops.CudnnRNNV3`: keeps its arguments and computes, in NumPy, what cuDNN documents."""

    def __init__(self):
        self.calls = []

    def __call__(self, **arguments):
        self.calls.append(arguments)
        inputs, state = np.asarray(arguments["input"]), np.asarray(arguments["input_h"])[:, 0]
        is_lstm = arguments["rnn_mode"] == "lstm"
        assert is_lstm or np.ndim(arguments["input_c"]) == 0
        cell_state = np.asarray(arguments["input_c"])[:, 0] if is_lstm else np.zeros_like(state)
        outputs, final, final_cell = oracles.cudnn(
            arguments["rnn_mode"],
            inputs,
            state,
            cell_state,
            arguments["params"],
            np.asarray(arguments["sequence_lengths"]),
            state.shape[-1],
        )
        nothing = tf.zeros([])
        final_cell = tf.cast(final_cell[:, None], inputs.dtype) if is_lstm else nothing
        return tf.cast(outputs, inputs.dtype), tf.cast(final[:, None], inputs.dtype), final_cell, nothing, nothing


@pytest.fixture
def fake(monkeypatch):
    fake = FakeCudnn()
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", fake)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_cuda_build": True, "is_rocm_build": False})
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    return fake


def sample(cell="gru"):
    width = BLOCKS[cell] * UNITS
    bias_shape = (2, width) if cell == "gru" else (width,)
    weights = tuple(
        tf.constant(normal(place, *shape))
        for place, shape in enumerate([(FEATURES, width), (UNITS, width), bias_shape])
    )
    states = [tf.constant(normal(6 + place, ROWS, UNITS)) for place in range(oracles.number_of_states(cell))]
    return tf.constant(normal(5, ROWS, STEPS, FEATURES)), states, weights


def create(cell="gru", reverse=False, implementation="cudnn"):
    layer = Recurrent(UNITS, cell, reverse=reverse, implementation=implementation)
    layer.build((None, None, FEATURES))
    return randomize(layer)


def check_against_the_loop(layer, mask, states, tolerance=1e-5):
    inputs, _, _ = sample(layer.cell_name)
    outputs, final_states = layer(inputs, mask=mask, initial_state=states)
    expected_outputs, expected_states = oracles.recurrent(
        layer.cell_name, inputs, mask, states, layer.get_weights(), layer.reverse
    )
    close(outputs, expected_outputs, tolerance)
    for final_state, expected_state in zip(final_states, expected_states, strict=True):
        close(final_state, expected_state, tolerance)


def without_sides_of_biases(params, cell):
    """Add up the two biases of a cell with one: cuDNN adds both, so it does not matter which of them holds it."""
    params, width = np.asarray(params), BLOCKS[cell] * UNITS
    biases = params[-2 * width :].reshape(2, width)
    return np.concatenate([params[: -2 * width], np.ravel(biases if cell == "gru" else biases.sum(axis=0))])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@DIRECTIONS
@pytest.mark.parametrize("mask", [None, NOT_EMPTY], ids=["full", "ragged"])
def test_cudnn_is_called_just_as_keras_calls_it(fake, cell, reverse, mask):
    inputs, states, weights = sample(cell)
    mask = None if mask is None else tf.constant(mask)
    cudnn_kernel.run(MODES[cell], inputs, mask, states, weights, reverse)
    keras_call = {"lstm": keras_rnn._cudnn_lstm, "gru": keras_rnn._cudnn_gru}[cell]
    keras_call(inputs, *states, *weights, mask, False, reverse, True)
    ours, theirs = fake.calls
    assert set(ours) == set(theirs)
    for name in ("rnn_mode", "time_major", "is_training"):
        assert ours[name] == theirs[name]
    for name in ("input", "input_h", "input_c", "sequence_lengths"):
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]), err_msg=name)
    np.testing.assert_array_equal(*(without_sides_of_biases(call["params"], cell) for call in (ours, theirs)))
    assert ours["sequence_lengths"].dtype == tf.int32


@CUDNN_CELLS
@DIRECTIONS
@pytest.mark.parametrize("mask", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "given"])
def test_cudnn_agrees_with_the_loop(fake, cell, reverse, mask, with_state):
    check_against_the_loop(create(cell, reverse), mask, sample(cell)[1] if with_state else None)
    assert len(fake.calls) == 1


def test_cudnn_with_a_gate_that_writes(fake):
    layer = Recurrent(UNITS, update_gate="write", implementation="cudnn")
    inputs, states, _ = sample()
    layer.build(inputs.shape)
    randomize(layer)
    outputs, _ = layer(inputs, mask=RAGGED, initial_state=states)
    expected, _ = oracles.recurrent("gru", inputs, RAGGED, states, layer.get_weights(), update_gate="write")
    close(outputs, expected, 1e-5)
    assert len(fake.calls) == 1


def test_empty_rows_reach_cudnn_as_rows_of_one_step(fake):
    inputs, states, weights = sample()
    cudnn_kernel.run("gru", inputs, tf.constant(RAGGED), states, weights, False)
    assert fake.calls[0]["sequence_lengths"].numpy().tolist() == [5, 3, 1, 1]


def test_cudnn_keeps_a_model_out_of_xla(monkeypatch):
    """XLA has no cuDNN kernel: `compile`, which uses XLA on a GPU unless a layer objects, would break `fit`."""
    assert create(implementation="auto").supports_jit
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    assert create(implementation="scan").supports_jit
    assert not create(implementation="auto").supports_jit
    encoder = Encoder(UNITS, num_layers=2)
    assert not all(layer.supports_jit for layer in encoder._flatten_layers())


@pytest.mark.parametrize(
    ("cell", "masked"), [("rnn", False), *((cell, True) for cell in BLOCKS)], ids=["rnn-full", *BLOCKS]
)
def test_xla_compiles_the_processor_kernel(cell, masked):
    inputs, states, weights = sample(cell)
    mask = tf.constant(RAGGED) if masked else None

    def gradient(inputs, states, weights):
        with tf.GradientTape() as tape:
            tape.watch([inputs, states, weights])
            outputs, last = cpu_kernel.run(CELLS[cell].spec.kernel, inputs, mask, states, weights, True)
            value = sum(tf.reduce_sum(values**2) for values in [outputs, *last])
        return tf.nest.flatten(tape.gradient(value, [inputs, states, weights]))

    compiled = tf.function(gradient, jit_compile=True, autograph=False)
    values = (inputs, states, weights)
    for actual, expected in zip(compiled(*values), gradient(*values), strict=True):
        close(actual, expected, 1e-4)


@KERNEL_CELLS
def test_compiled_steps_give_the_same(monkeypatch, cell):
    monkeypatch.setattr(cpu_kernel, "COMPILED_UNITS", UNITS)
    inputs, states, weights = sample(cell)

    def values_and_gradients(compiled):
        with tf.GradientTape() as tape:
            tape.watch([inputs, states, weights])
            outputs, last = cpu_kernel.run(
                CELLS[cell].spec.kernel, inputs, tf.constant(RAGGED), states, weights, True, compiled
            )
            value = sum(tf.reduce_sum(values**2) for values in [outputs, *last])
        return [outputs, *last, *tf.nest.flatten(tape.gradient(value, [inputs, states, weights]))]

    for actual, expected in zip(values_and_gradients(True), values_and_gradients(False), strict=True):
        close(actual, expected, 1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_only_training_compiles_for_its_shapes(monkeypatch, training):
    monkeypatch.setattr(cpu_kernel, "COMPILED_UNITS", UNITS)
    layer = create(implementation="scan")
    graph = (
        tf.function(lambda inputs: layer(inputs, training=training), [tf.TensorSpec([None, None, FEATURES])])
        .get_concrete_function()
        .graph.as_graph_def()
    )
    compiled = [one for one in graph.library.function if one.attr["_XlaMustCompile"].b]
    assert bool(compiled) == training


@CUDNN_CELLS
@DIRECTIONS
@pytest.mark.parametrize(
    ("masked", "dtype"), [(False, "float32"), (True, "mixed_bfloat16")], ids=["full-float32", "ragged-bfloat16"]
)
def test_one_kernel_each_way_and_no_loop(monkeypatch, cell, reverse, masked, dtype):
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    layer = Recurrent(UNITS, cell, reverse=reverse, dtype=dtype)
    layer.build((None, None, FEATURES))

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None, None], "bool")], autograph=False
    )
    def train(inputs, mask):
        with tf.GradientTape() as tape:
            outputs, states = layer(inputs, mask=mask if masked else None)
            loss = sum(tf.reduce_sum(tf.cast(values, "float32")) for values in [outputs, *states])
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    found = operations(train.get_concrete_function())
    assert found.count("CudnnRNNV3") == 1
    assert found.count("CudnnRNNBackpropV3") == 1
    assert not [name for name in found if "While" in name]


@pytest.mark.parametrize(
    "joining", [{}, {"front_end": "convolution", "stride": 2, "subsample": 2}], ids=["all", "fewer"]
)
def test_one_kernel_a_layer_and_direction(monkeypatch, joining):
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    encoder = Encoder(UNITS, num_layers=2, **joining)
    decoder = Decoder(7, 4, UNITS, context=AttentionContext("general"), num_layers=2, attention_position="between")
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
            memory, memory_mask = encoder(inputs, mask=mask), encoder.memory_mask(mask)
            logits = decoder(token_ids, memory=memory, memory_mask=memory_mask, training=True)
            loss = tf.reduce_sum(logits)
        return tape.gradient(loss, [variable.value for variable in variables])

    found = operations(train.get_concrete_function())
    assert found.count("CudnnRNNV3") == found.count("CudnnRNNBackpropV3") == 2 * 2 + 2
    assert not [name for name in found if "While" in name]


def test_without_a_gpu_there_are_loops_and_no_cudnn():
    """The count above would be worth nothing if it could not tell the roads apart."""
    layer = create(implementation="scan")
    found = operations(
        tf.function(lambda inputs: layer(inputs), [tf.TensorSpec([None, None, FEATURES])]).get_concrete_function()
    )
    assert not [name for name in found if "Cudnn" in name]
    assert [name for name in found if "While" in name]


@KERNEL_CELLS
def test_products_outside_of_the_loops(cell):
    """What makes the kernels fast: one product a step forwards, one a step backwards, the rest once.

    The rest: the input product, the gradients of inputs, kernel and recurrent kernel, and the sum of each bias row.
    """
    layer = create(cell, implementation="scan")

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
            outputs, states = layer(inputs)
            loss = sum(tf.reduce_sum(values) for values in [outputs, *states])
        return tape.gradient(loss, [variable.value for variable in layer.trainable_variables])

    outside, inside = matmuls(train)
    assert inside == [1, 1]
    assert outside == 4 + (2 if cell == "gru" else 1)


@pytest.mark.skipif(not tf.config.list_logical_devices("GPU"), reason="needs a GPU")
@CUDNN_CELLS
@DIRECTIONS
def test_cudnn_itself_gives_what_the_loop_gives(cell, reverse):
    check_against_the_loop(create(cell, reverse), RAGGED, sample(cell)[1], 1e-4)
    assert keras.backend.backend() == "tensorflow"
