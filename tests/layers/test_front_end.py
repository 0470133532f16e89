"""Steps made into fewer: against loops over windows, and against Keras' own convolution."""

import re

import keras
import numpy as np
import pytest

from seq2seq.layers import Encoder, FrontEnd
from tests.layers import oracles
from tests.layers.samples import RAGGED, close, normal, randomize

BATCH, STEPS, FEATURES = 4, 5, 3
FRONT_ENDS = [("mean", 2, None), ("max", 2, None), ("max", 3, None)]
FRONT_ENDS += [("convolution", 2, None), ("convolution", 2, 3), ("convolution", 2, 5), ("convolution", 3, 4)]
EVERY_FRONT_END = pytest.mark.parametrize("choice", FRONT_ENDS, ids=str)


def create(kind, stride, kernel_size, dtype="float64"):
    layer = FrontEnd(kind, stride, kernel_size, dtype=dtype)
    layer.build((None, None, FEATURES))
    return randomize(layer)


def windows_one_by_one(layer, inputs, mask):
    """What every window should be, row by row; windows without a valid step stay zero."""
    found = np.zeros((len(inputs), -(-inputs.shape[1] // layer.stride), FEATURES))
    for row, valid in zip(range(len(inputs)), mask, strict=True):
        steps = inputs[row][valid]
        for window in range(-(-len(steps) // layer.stride)):
            first = window * layer.stride
            if layer.kind != "convolution":
                reduce = {"mean": np.mean, "max": np.max}[layer.kind]
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
def test_every_window_is_that_of_the_loop(choice):
    layer, inputs = create(*choice), normal(1, BATCH, STEPS, FEATURES, dtype="float64")
    garbage = np.where(RAGGED[..., None], inputs, 1e6)
    close(layer(garbage, mask=RAGGED), windows_one_by_one(layer, inputs, RAGGED), 1e-10)
    everything = np.ones((BATCH, STEPS), bool)
    close(layer(inputs), windows_one_by_one(layer, inputs, everything), 1e-10)
    assert layer.compute_output_shape(inputs.shape) == layer(inputs).shape
    assert layer.compute_output_shape((None, None, 3)) == (None, None, 3)


@EVERY_FRONT_END
def test_padding_to_any_length_changes_no_bit(choice):
    layer, inputs = create(*choice, dtype="float32"), normal(2, BATCH, STEPS, FEATURES)
    expected = layer(inputs, mask=RAGGED).numpy()
    for more in (1, 2, 7):
        longer = np.concatenate([inputs, np.full((BATCH, more, FEATURES), 1e3, "float32")], axis=1)
        mask = np.concatenate([RAGGED, np.zeros((BATCH, more), bool)], axis=1)
        padded = layer(longer, mask=mask).numpy()
        np.testing.assert_array_equal(padded[:, : expected.shape[1]], expected)
        assert not padded[:, expected.shape[1] :].any()


def test_the_convolution_is_that_of_keras():
    # Keras, at every step: of its outputs every second one is left.
    layer, inputs = create("convolution", 2, 4), normal(3, BATCH, 8, FEATURES, dtype="float64")
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
def test_the_memory_is_that_of_the_loops_and_comes_with_its_mask(options):
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


def test_masks_are_those_of_the_loop_also_in_a_functional_model():
    encoder, steps = Encoder(4, 2, front_end="mean", stride=3, subsample=2), keras.Input((None, FEATURES))
    mask = keras.Input((None,), dtype="bool")
    model = keras.Model([steps, mask], [encoder(steps, mask=mask), encoder.memory_mask(mask)])
    for number in (1, 5, 6, 7, 12, 14):
        masks = np.arange(number) < np.array([[number], [1], [0]])
        memory, memory_mask = model([normal(6, 3, number, FEATURES), masks])
        np.testing.assert_array_equal(memory_mask, masks_one_by_one(masks, 6))
        assert memory.shape[1] == memory_mask.shape[1]


def test_a_step_of_the_memory_reads_its_source_steps_and_no_other():
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
    ("arguments", "message"),
    [
        (("conv", 2), "kind must be one of convolution, mean, max, but is 'conv' instead."),
        (("mean", 1), "stride must be a whole number of at least 2, but is 1 instead."),
        (("mean", 2.0), "stride must be a whole number of at least 2, but is 2.0 instead."),
        (("max", 2, 3), "kernel_size must be None where kind is 'max', but is 3 instead."),
        (
            ("convolution", 3, 2),
            "kernel_size must be a whole number of at least stride (3), but is 2 instead: it would pass steps over.",
        ),
    ],
)
def test_a_front_end_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FrontEnd(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 2}, "stride must be 1 and kernel_size None without a front end, but are 2 and None instead."),
        ({"kernel_size": 3}, "stride must be 1 and kernel_size None without a front end, but are 1 and 3 instead."),
        ({"front_end": "conv", "stride": 2}, "kind must be one of convolution, mean, max, but is 'conv' instead."),
        ({"subsample": 0}, "subsample must be a positive whole number, but is 0 instead."),
        ({"subsample": 2}, "subsample must be 1 with one layer, or with residual, but is 2 instead"),
        (
            {"subsample": 2, "num_layers": 2, "residual": True},
            "subsample must be 1 with one layer, or with residual, but is 2 instead",
        ),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Encoder(4, **arguments)
