"""The encoder against a stack of NumPy loops, its front end against loops over windows and Keras' own convolution."""

import keras
import numpy as np
import pytest

from seq2seq.layers import Encoder, FrontEnd
from seq2seq.layers.dropout import SharedDropout
from tests.layers import oracles
from tests.layers.samples import RAGGED, ROADS, TOLERANCE, close, normal, randomize

BATCH, STEPS, FEATURES, UNITS = 4, 5, 3, 4


def create(dtype="float32", **options):
    encoder = Encoder(UNITS, dtype=dtype, **options)
    encoder.build((None, None, FEATURES))
    return randomize(encoder)


def layers_of(encoder):
    directions = (encoder.forward_layers, encoder.backward_layers)[: 1 + encoder.bidirectional]
    return [[direction[index].get_weights() for direction in directions] for index in range(encoder.num_layers)]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_layers", "residual"), [(1, False), (1, True), (3, False), (3, True)])
@pytest.mark.parametrize("mask", [None, RAGGED], ids=["full", "ragged"])
def test_memory(bidirectional, num_layers, residual, mask):
    encoder = create(bidirectional=bidirectional, num_layers=num_layers, residual=residual)
    inputs = normal(1, BATCH, STEPS, FEATURES)
    memory = encoder(inputs, mask=mask)
    assert memory.shape == (BATCH, STEPS, encoder.memory_units)
    assert encoder.memory_units == UNITS * (2 if bidirectional else 1)
    assert encoder.compute_output_shape(inputs.shape) == memory.shape
    close(memory, oracles.encoder(inputs, mask, layers_of(encoder), residual), 1e-5)


@pytest.mark.parametrize("road", ROADS, ids=["-".join(road) for road in ROADS])
def test_every_cell_stacked(road):
    cell, update_gate, implementation = road
    choices = {"cell": cell, "update_gate": update_gate}
    for bidirectional, dtype in ((True, "float64"), (False, "float32")):
        encoder = create(dtype, num_layers=2, bidirectional=bidirectional, implementation=implementation, **choices)
        inputs = normal(1, BATCH, STEPS, FEATURES, dtype=dtype)
        memory = encoder(inputs, mask=RAGGED)
        close(memory, oracles.encoder(inputs, RAGGED, layers_of(encoder), **choices), TOLERANCE[dtype])


def test_dropout_of_layer_inputs_is_shared_over_time(monkeypatch):
    factors = []
    original = SharedDropout.call

    def recording(self, inputs, training=False):
        outputs = original(self, inputs, training=training)
        factors.append((outputs / inputs).numpy()[:, :1])
        return outputs

    monkeypatch.setattr(SharedDropout, "call", recording)
    encoder = create(num_layers=2, residual=True, dropout=0.4)
    inputs = normal(1, BATCH, STEPS, FEATURES)
    memory = encoder(inputs, training=True)
    assert len(factors) == 2
    assert all(0 < (factor == 0).mean() < 1 for factor in factors)
    close(memory, oracles.encoder(inputs, None, layers_of(encoder), True, factors), 1e-5)


FRONT_ENDS = [("mean", 2, None), ("max", 2, None), ("max", 3, None)]
FRONT_ENDS += [("convolution", 2, None), ("convolution", 2, 3), ("convolution", 2, 5), ("convolution", 3, 4)]
EVERY_FRONT_END = pytest.mark.parametrize("choice", FRONT_ENDS, ids=str)


def front_end(kind, stride, kernel_size, dtype="float64"):
    layer = FrontEnd(kind, stride, kernel_size, dtype=dtype)
    layer.build((None, None, FEATURES))
    return randomize(layer)


def windows_one_by_one(layer, inputs, mask):
    """Compute every window row by row; windows without a valid step stay zero."""
    found = np.zeros((len(inputs), -(-inputs.shape[1] // layer.stride), FEATURES))
    for row, valid in zip(range(len(inputs)), mask, strict=True):
        steps = inputs[row][valid]
        for window in range(-(-len(steps) // layer.stride)):
            first = window * layer.stride
            if layer.front_end != "convolution":
                reduce = {"mean": np.mean, "max": np.max}[layer.front_end]
                found[row, window] = reduce(steps[first : first + layer.stride], axis=0)
                continue
            kernel, bias = layer.get_weights()
            total = bias.copy()
            for place, matrix in enumerate(kernel, first - (len(kernel) - layer.stride) // 2):
                if 0 <= place < len(steps):
                    total += steps[place] @ matrix
            found[row, window] = np.tanh(total)
    return found


def masks_one_by_one(mask, size):
    return np.array([[row[start : start + size].any() for start in range(0, len(row), size)] for row in mask])


@EVERY_FRONT_END
def test_windows(choice):
    layer, inputs = front_end(*choice), normal(1, BATCH, STEPS, FEATURES, dtype="float64")
    garbage = np.where(RAGGED[..., None], inputs, 1e6)
    close(layer(garbage, mask=RAGGED), windows_one_by_one(layer, inputs, RAGGED), 1e-10)
    everything = np.ones((BATCH, STEPS), bool)
    close(layer(inputs), windows_one_by_one(layer, inputs, everything), 1e-10)
    assert layer.compute_output_shape(inputs.shape) == layer(inputs).shape
    assert layer.compute_output_shape((None, None, 3)) == (None, None, 3)


@EVERY_FRONT_END
def test_front_end_ignores_padding(choice):
    layer, inputs = front_end(*choice, dtype="float32"), normal(2, BATCH, STEPS, FEATURES)
    expected = layer(inputs, mask=RAGGED).numpy()
    for more in (1, 2, 7):
        longer = np.concatenate([inputs, np.full((BATCH, more, FEATURES), 1e3, "float32")], axis=1)
        mask = np.concatenate([RAGGED, np.zeros((BATCH, more), bool)], axis=1)
        padded = layer(longer, mask=mask).numpy()
        np.testing.assert_array_equal(padded[:, : expected.shape[1]], expected)
        assert not padded[:, expected.shape[1] :].any()


def test_convolution_is_that_of_keras():
    # Keras, at every step: of its outputs every second one is left.
    layer, inputs = front_end("convolution", 2, 4), normal(3, BATCH, 8, FEATURES, dtype="float64")
    plain = keras.layers.Conv1D(FEATURES, 4, padding="valid", activation="tanh", dtype="float64")
    padded = np.pad(inputs, [(0, 0), (1, 1), (0, 0)])
    plain.build(padded.shape)
    plain.set_weights(layer.get_weights())
    close(layer(inputs), plain(padded)[:, ::2], 1e-10)


ENCODERS = {
    "front end": {"front_end": "convolution", "stride": 2, "kernel_size": 3},
    "subsample": {"num_layers": 3, "subsample": 2},
    "both": {"num_layers": 2, "front_end": "max", "stride": 2, "subsample": 2},
    "one way": {"num_layers": 2, "front_end": "mean", "stride": 3, "residual": True, "bidirectional": False},
}


def encoder_one_by_one(encoder, inputs, mask):
    """Front end and layers as loops, each layer of a pyramid over windows that are cut by hand."""
    outputs = inputs
    if encoder.front_end_layer is not None:
        outputs, mask = (
            windows_one_by_one(encoder.front_end_layer, inputs, mask),
            masks_one_by_one(mask, encoder.stride),
        )
    for index in range(encoder.num_layers):
        if index > 0 and encoder.subsample > 1:
            rows = []
            for row in outputs:
                row = np.concatenate([row, np.zeros((-len(row) % encoder.subsample, row.shape[1]))])
                rows.append([np.concatenate(few) for few in np.split(row, len(row) // encoder.subsample)])
            outputs, mask = np.array(rows), masks_one_by_one(mask, encoder.subsample)
        layers = [encoder.forward_layers[index], *encoder.backward_layers[index : index + 1]]
        found = [
            oracles.recurrent("gru", outputs, mask, None, layer.get_weights(), reverse=layer.reverse)[0]
            for layer in layers
        ]
        found = np.concatenate(found, axis=-1)
        outputs = found + outputs if encoder.residual and index > 0 else found
    return outputs, mask


@pytest.mark.parametrize("options", ENCODERS.values(), ids=ENCODERS)
def test_reduced_memory_and_its_mask(options):
    encoder = Encoder(4, dtype="float64", implementation="scan", **options)
    encoder.build((None, None, FEATURES))
    randomize(encoder)
    mask = np.arange(9) < np.array([[9], [8], [5], [1]])
    inputs = normal(4, BATCH, 9, FEATURES, dtype="float64")
    memory, expected_mask = encoder_one_by_one(encoder, inputs, mask)
    close(encoder(inputs, mask=mask), memory, 1e-9)
    np.testing.assert_array_equal(encoder.memory_mask(mask), expected_mask)
    assert memory.shape[1] == -(-9 // encoder.reduction)
    assert encoder.compute_output_shape(inputs.shape) == memory.shape
    # Valid steps without padding, and without a mask.
    close(encoder(inputs[1:2, :8]), memory[1:2, : -(-8 // encoder.reduction)], 1e-9)


def test_masks_in_a_functional_model():
    encoder, steps = Encoder(4, 2, front_end="mean", stride=3, subsample=2), keras.Input((None, FEATURES))
    mask = keras.Input((None,), dtype="bool")
    model = keras.Model([steps, mask], [encoder(steps, mask=mask), encoder.memory_mask(mask)])
    for number in (1, 5, 6, 7, 12, 14):
        masks = np.arange(number) < np.array([[number], [1], [0]])
        memory, memory_mask = model([normal(6, 3, number, FEATURES), masks])
        np.testing.assert_array_equal(memory_mask, masks_one_by_one(masks, 6))
        assert memory.shape[1] == memory_mask.shape[1]


def test_a_step_of_the_memory_reads_only_its_source_steps():
    encoder = Encoder(4, 3, front_end="mean", stride=2, subsample=2, bidirectional=False)
    inputs = normal(5, 1, 24, FEATURES)
    before = encoder(inputs).numpy()
    assert encoder.reduction == 8
    for step in (0, 7, 8, 15, 23):
        changed = inputs.copy()
        changed[0, step] += 1
        (first, *_) = np.flatnonzero((encoder(changed).numpy() != before).any(axis=-1)[0])
        assert first == step // encoder.reduction


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: FrontEnd("conv", 2), "front_end must be one of convolution, mean, max"),
        (lambda: FrontEnd("mean", 1), "stride must be an integer >= 2"),
        (lambda: FrontEnd("max", 2, 3), "kernel_size must be None for the front end 'max'"),
        (lambda: FrontEnd("convolution", 3, 2), "kernel_size must be an integer >= 3"),
        (lambda: Encoder(4, num_layers=1.5), "num_layers must be"),
        (lambda: Encoder(4, cell="lstm", update_gate="write"), "update_gate must be 'keep'"),
        (lambda: Encoder(4, implementation="fast"), "implementation must be one of"),
        (lambda: Encoder(4, front_end="conv", stride=2), "front_end must be one of none, convolution"),
        (lambda: Encoder(4, front_end="mean"), "stride must be an integer >= 2"),
        (lambda: Encoder(4, stride=2), "stride must be 1 without a front end"),
        (lambda: Encoder(4, kernel_size=3), "kernel_size must be None without a front end"),
        (lambda: Encoder(4, subsample=0), "subsample must be"),
        (lambda: Encoder(4, subsample=2), "subsample must be 1 with one layer or with residual"),
        (lambda: Encoder(4, num_layers=2, subsample=2, residual=True), "subsample must be 1"),
    ],
)
def test_bad_arguments(create, message):
    with pytest.raises(ValueError, match=message):
        create()
