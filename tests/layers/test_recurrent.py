"""One recurrent layer on each of its roads against a NumPy loop, Keras' own layers and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import Recurrent, recurrent
from tests.layers import oracles
from tests.layers.samples import (
    CELLS,
    RAGGED,
    ROADS,
    TOLERANCE,
    close,
    finite_differences,
    gradients,
    normal,
    operations,
    randomize,
)

ROWS, STEPS, FEATURES, UNITS = 4, 5, 3, 6
GRU = ("gru", "keep", "scan")
EVERY_ROAD = pytest.mark.parametrize("road", ROADS, ids=["-".join(road) for road in ROADS])
KEEPING = [road for road in ROADS if road[1] == "keep"]
EVERY_KEEPING_ROAD = pytest.mark.parametrize("road", KEEPING, ids=["-".join(road[::2]) for road in KEEPING])
DIRECTIONS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "backward"])
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
KERAS = {
    "rnn": keras.layers.SimpleRNN,
    "lstm": lambda *args, **options: keras.layers.LSTM(*args, use_cudnn=False, **options),
    "gru": lambda *args, **options: keras.layers.GRU(*args, use_cudnn=False, **options),
    "gru_reset_before": lambda *args, **options: keras.layers.GRU(*args, reset_after=False, **options),
}


def create(road=GRU, reverse=False, dtype="float32", seed=0):
    cell, update_gate, implementation = road
    layer = Recurrent(UNITS, cell, reverse=reverse, implementation=implementation, update_gate=update_gate, dtype=dtype)
    layer.build((None, None, FEATURES))
    return randomize(layer, seed)


def sample(dtype="float32", cell="gru"):
    states = [normal(2 + place, ROWS, UNITS, dtype=dtype) for place in range(oracles.number_of_states(cell))]
    return normal(1, ROWS, STEPS, FEATURES, dtype=dtype), states


def loop(layer, inputs, mask, states):
    return oracles.recurrent(
        layer.cell_name, inputs, mask, states, layer.get_weights(), layer.reverse, layer.update_gate
    )


def weighted(outputs, states):
    """Reduce outputs and final states to a scalar that every element enters in its own way."""
    return sum(
        tf.reduce_sum(values * tf.cast(normal(10 + place, *values.shape), values.dtype))
        for place, values in enumerate([outputs, *states])
    )


def loss_of(layer, mask=RAGGED):
    def loss(inputs, *states):
        outputs, states = layer(inputs, mask=mask, initial_state=list(states))
        return weighted(outputs, states)

    return loss


def with_gradients(loss, layer, values):
    """Value of a loss, and its gradients to `values` and to the weights of a layer."""
    with tf.GradientTape() as tape:
        watched = [tf.constant(value) for value in values]
        tape.watch(watched)
        value = loss(*watched)
    return [value, *tape.gradient(value, watched + [variable.value for variable in layer.trainable_variables])]


@EVERY_ROAD
@DIRECTIONS
@DTYPES
def test_outputs_and_final_states(road, reverse, dtype):
    layer, (inputs, states) = create(road, reverse, dtype), sample(dtype, road[0])
    for mask, initial_state in ((None, None), (RAGGED, states)):
        outputs, final_states = layer(inputs, mask=mask, initial_state=initial_state)
        expected_outputs, expected_states = loop(layer, inputs, mask, initial_state)
        assert outputs.dtype == dtype
        close(outputs, expected_outputs, TOLERANCE[dtype])
        for final_state, expected_state in zip(final_states, expected_states, strict=True):
            close(final_state, expected_state, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "road", [road for road in KEEPING if road[0] in KERAS], ids=lambda road: f"{road[0]}-{road[2]}"
)
@DIRECTIONS
@pytest.mark.parametrize(
    ("mask", "dtype"),
    [(None, "float32"), (RAGGED, "float32"), (RAGGED, "float64")],
    ids=["full-float32", "ragged-float32", "ragged-float64"],
)
def test_keras_agrees_with_gradients(road, reverse, mask, dtype):
    layer, (inputs, states) = create(road, reverse, dtype), sample(dtype, road[0])
    other = KERAS[road[0]](UNITS, return_sequences=True, return_state=True, go_backwards=reverse, dtype=dtype)
    other.build((ROWS, STEPS, FEATURES))
    other.set_weights(layer.get_weights())
    keep = tf.ones([ROWS, STEPS, 1], dtype) if mask is None else tf.cast(mask[..., None], dtype)

    def keras_loss(inputs, *states):
        outputs, *last = other(inputs, mask=mask, initial_state=list(states))
        return weighted((tf.reverse(outputs, [1]) if reverse else outputs) * keep, last)

    values = [inputs, *states]
    ours, theirs = with_gradients(loss_of(layer, mask), layer, values), with_gradients(keras_loss, other, values)
    for actual, expected in zip(ours, theirs, strict=True):
        close(actual, expected, TOLERANCE[dtype] * 5)


@pytest.mark.parametrize("road", [road for road in ROADS if road[2] == "raw"], ids=lambda road: f"{road[0]}-{road[1]}")
def test_finite_differences(road):
    layer, (inputs, states) = create(road, True, "float64"), sample("float64", road[0])
    values = [inputs, *states, *layer.get_weights()]

    def numpy_loss(inputs, *rest):
        states, weights = rest[:-3], rest[-3:]
        outputs, last = oracles.recurrent(road[0], inputs, RAGGED, states, weights, True, road[1])
        return sum(np.sum(values * normal(10 + place, *values.shape)) for place, values in enumerate([outputs, *last]))

    value, *found = with_gradients(loss_of(layer), layer, [inputs, *states])
    close(value, numpy_loss(*values), 1e-5)
    for actual, expected in zip(found, finite_differences(numpy_loss, values), strict=True):
        close(actual, expected, 1e-6)


@pytest.mark.parametrize("road", [road for road in ROADS if road[2] == "scan"], ids=lambda road: f"{road[0]}-{road[1]}")
@DIRECTIONS
def test_gradients_of_kernel_and_cell(road, reverse):
    layer, (inputs, states) = create(road, reverse, "float64"), sample("float64", road[0])
    raw = create((*road[:2], "raw"), reverse, "float64")
    for mask in (None, RAGGED):
        results = [with_gradients(loss_of(each, mask), each, [inputs, *states]) for each in (layer, raw)]
        for actual, expected in zip(*results, strict=True):
            close(actual, expected, 1e-10)


@EVERY_KEEPING_ROAD
def test_bfloat16_is_close_to_float32(road):
    layer, (inputs, states) = create(road, True, "mixed_bfloat16"), sample(cell=road[0])

    def loss(inputs, *states):
        outputs, states = layer(inputs, mask=RAGGED, initial_state=list(states))
        assert {outputs.dtype, *(state.dtype for state in states)} == {tf.bfloat16}
        return weighted(tf.cast(outputs, "float32"), [tf.cast(state, "float32") for state in states])

    expected_outputs, expected_states = loop(layer, inputs, RAGGED, states)
    outputs, final_states = layer(inputs, mask=RAGGED, initial_state=states)
    for actual, expected in zip([outputs, *final_states], [expected_outputs, *expected_states], strict=True):
        close(tf.cast(actual, "float32"), expected, 5e-2)
    exact = gradients(loss_of(create((*road[:2], "raw"), True)), inputs, *states)[1]
    for actual, expected in zip(gradients(loss, inputs, *states)[1], exact, strict=True):
        close(actual, expected, 0.15)


@EVERY_ROAD
def test_one_step_at_a_time_is_the_sequence(road):
    layer, (inputs, states) = create(road), sample(cell=road[0])
    outputs, final_states = layer(inputs, initial_state=states)
    by_call, by_step = states, states
    for step in range(STEPS):
        output, by_call = layer(inputs[:, step : step + 1], initial_state=by_call)
        single, by_step = layer.step(inputs[:, step], by_step)
        close(output[:, 0], outputs[:, step], 1e-6)
        close(single, outputs[:, step], 1e-6)
    for each in (by_call, by_step):
        for state, final_state in zip(each, final_states, strict=True):
            close(state, final_state, 1e-6)


def test_a_single_step_runs_no_loop():
    layer = create()
    one, many = (
        tf.function(lambda inputs: layer(inputs), [tf.TensorSpec([None, steps, FEATURES])]).get_concrete_function()
        for steps in (1, None)
    )
    assert not [name for name in operations(one) if "While" in name]
    assert [name for name in operations(many) if "While" in name]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_single_masked_step(cell):
    layer, (inputs, states) = create((cell, "keep", "scan")), sample(cell=cell)
    mask = RAGGED[:, 3:4]
    outputs, final_states = layer(inputs[:, :1], mask=mask, initial_state=states)
    expected_outputs, expected_states = loop(layer, inputs[:, :1], mask, states)
    close(outputs, expected_outputs, 1e-5)
    for final_state, expected_state in zip(final_states, expected_states, strict=True):
        close(final_state, expected_state, 1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_first_state_is_zeros(cell):
    layer, (inputs, _) = create((cell, "keep", "auto")), sample()
    assert [state.shape.as_list() for state in layer.initial_state(2)] == [[2, UNITS]] * oracles.number_of_states(cell)
    assert not any(state.numpy().any() for state in layer.initial_state(2))
    close(layer(inputs)[0], layer(inputs, initial_state=layer.initial_state(ROWS))[0], 0)


NO_GPU = "TensorFlow sees no GPU"


@pytest.mark.parametrize("cell", CELLS)
def test_kernel_choice(monkeypatch, cell):
    def choice(implementation):
        return create((cell, "keep", implementation)).kernel_choice()

    no_kernel = () if cell in ("rnn", "lstm", "gru") else (f"cuDNN has no kernel for the cell '{cell}'",)
    processor = "raw" if cell == "gru_reset_before" else "scan"
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: False)
    assert choice("auto") == (processor, (*no_kernel, NO_GPU))
    assert choice("cudnn").reasons_against_cudnn == (*no_kernel, NO_GPU)
    if processor == "scan":
        assert choice("scan") == (processor, (*no_kernel, "implementation is 'scan'", NO_GPU))
    assert choice("raw") == ("raw", (*no_kernel, "implementation is 'raw'", NO_GPU))
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: True)
    fastest = (processor, no_kernel) if no_kernel else ("cudnn", ())
    assert choice("auto") == choice("cudnn") == fastest
    assert choice("raw") == ("raw", (*no_kernel, "implementation is 'raw'"))


def test_cudnn_without_a_gpu_is_refused_with_every_reason(monkeypatch):
    monkeypatch.setattr(recurrent, "gpu_is_available", lambda: False)
    with pytest.raises(
        ValueError, match=f"implementation must be 'auto' here.*for the cell 'gru_simplified'; {NO_GPU}"
    ):
        create(("gru_simplified", "keep", "cudnn"))(sample()[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "gruu"}, "cell must be one of rnn, lstm, gru, gru_reset_before, gru_simplified"),
        ({"implementation": "fast"}, "implementation must be one of auto, cudnn, scan, raw"),
        ({"cell": "gru_reset_before", "implementation": "scan"}, "implementation must be 'auto' or 'raw'"),
        ({"units": 2.5}, "units must be"),
        ({"cell": "lstm", "update_gate": "write"}, "update_gate must be 'keep'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Recurrent(**{"units": 3} | arguments)


@pytest.mark.parametrize("implementation", ["scan", "raw"])
def test_mask_of_numbers(implementation):
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
