"""The encoder against a stack of NumPy loops."""

import re

import numpy as np
import pytest

from seq2seq.layers import Encoder
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
def test_memory_is_that_of_the_loops(bidirectional, num_layers, residual, mask):
    encoder = create(bidirectional=bidirectional, num_layers=num_layers, residual=residual)
    inputs = normal(1, BATCH, STEPS, FEATURES)
    memory = encoder(inputs, mask=mask)
    assert memory.shape == (BATCH, STEPS, encoder.memory_units)
    assert encoder.memory_units == UNITS * (2 if bidirectional else 1)
    assert encoder.compute_output_shape(inputs.shape) == memory.shape
    close(memory, oracles.encoder(inputs, mask, layers_of(encoder), residual), 1e-5)


@pytest.mark.parametrize("implementation", ["scan", "raw"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_road_and_precision(implementation, dtype):
    encoder = create(dtype, num_layers=2, residual=True, implementation=implementation)
    inputs = normal(1, BATCH, STEPS, FEATURES, dtype=dtype)
    memory = encoder(inputs, mask=RAGGED)
    assert memory.dtype == dtype
    close(memory, oracles.encoder(inputs, RAGGED, layers_of(encoder), True), TOLERANCE[dtype])


@pytest.mark.parametrize("road", ROADS, ids=["-".join(road) for road in ROADS])
def test_every_cell_stacked(road):
    cell, update_gate, implementation = road
    choices = {"cell": cell, "update_gate": update_gate}
    for bidirectional, dtype in ((True, "float64"), (False, "float32")):
        encoder = create(dtype, num_layers=2, bidirectional=bidirectional, implementation=implementation, **choices)
        inputs = normal(1, BATCH, STEPS, FEATURES, dtype=dtype)
        memory = encoder(inputs, mask=RAGGED)
        close(memory, oracles.encoder(inputs, RAGGED, layers_of(encoder), **choices), TOLERANCE[dtype])


@pytest.mark.parametrize("residual", [False, True])
def test_padding_is_zero_and_changes_nothing(residual):
    encoder = create(num_layers=2, residual=residual)
    inputs = normal(1, BATCH, STEPS, FEATURES)
    memory = encoder(inputs, mask=RAGGED)
    garbage = np.where(RAGGED[..., None], inputs, np.float32(1e4))
    longer = np.concatenate([garbage, np.full((BATCH, 2, FEATURES), -1e4, "float32")], axis=1)
    mask = np.concatenate([RAGGED, np.zeros((BATCH, 2), bool)], axis=1)
    padded = encoder(longer, mask=mask).numpy()
    assert not padded[~mask].any()
    close(padded[:, :STEPS], memory, 1e-6)


def test_dropout_drops_the_inputs_of_each_layer_at_all_steps_alike(monkeypatch):
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


def test_nothing_is_dropped_outside_training():
    encoder, inputs = create(num_layers=2, dropout=0.5), normal(1, BATCH, STEPS, FEATURES)
    close(encoder(inputs, mask=RAGGED), oracles.encoder(inputs, RAGGED, layers_of(encoder)), 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers must be a positive whole number, but is 0 instead."),
        ({"num_layers": 1.5}, "num_layers must be a positive whole number, but is 1.5 instead."),
        (
            {"cell": "gruu"},
            "cell must be one of rnn, lstm, gru, gru_reset_before, gru_simplified, but is 'gruu' instead.",
        ),
        (
            {"cell": "lstm", "update_gate": "write"},
            "update_gate must be 'keep' where cell is 'lstm', but is 'write' instead.",
        ),
        ({"implementation": "fast"}, "implementation must be one of auto, cudnn, scan, raw, but is 'fast' instead."),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Encoder(UNITS, **arguments)
