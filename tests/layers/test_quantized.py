"""Products in fewer bits against NumPy, and fused encoders and decoders against the layers that they copy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import AttentionContext, Decoder, Encoder, PooledContext
from seq2seq.layers.quantized import (
    LEVELS,
    FusedDecoder,
    FusedEncoder,
    best_scale,
    has_int8,
    matmul_backend,
    memory_bound,
    reasons_against,
)
from tests.layers.samples import randomize

IDS = np.array([[4, 5, 6, 7, 3], [8, 3, 0, 0, 0], [9, 4, 3, 0, 0]])
needs_int8 = pytest.mark.skipif(not has_int8(), reason="no 8-bit products here")


@pytest.fixture
def numbers():
    random = np.random.default_rng(1)
    rows = np.concatenate([random.uniform(-1, 1, (6, 5)), random.uniform(-2, 2, (6, 3))], axis=1).astype("float32")
    matrix, bias = random.normal(size=(8, 16)).astype("float32"), random.normal(size=16).astype("float32")
    return rows, matrix, bias


def multiply(precision, rows, matrix, bias):
    """Five features between -1 and 1, three between -2 and 2."""
    backend = matmul_backend(precision)
    quantized = np.concatenate([backend.quantize(rows[:, :5], 1.0), backend.quantize(rows[:, 5:], 2.0)], axis=1)
    return backend.matmul(matrix, bias, [(5, 1.0), (3, 2.0)])(quantized).numpy()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_floating_point_products(numbers, precision, tolerance):
    rows, matrix, bias = numbers
    found = multiply(precision, *numbers)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows @ matrix + bias, atol=tolerance)


@needs_int8
def test_integers_are_multiplied_exactly(numbers):
    rows, matrix, bias = numbers
    bounds = np.array([1.0] * 5 + [2.0] * 3)
    codes = np.floor(rows / bounds * 127.5 + 128.0).astype("int64")
    assert codes.min() >= 0
    assert codes.max() <= 255
    scaled = matrix * bounds[:, None]
    scale = best_scale(scaled)
    levels = np.clip(np.round(scaled / scale), -LEVELS, LEVELS).astype("int64")
    expected = (codes @ levels) * scale / 127.5 - scale * levels.sum(axis=0) + bias
    np.testing.assert_allclose(multiply("int8", *numbers), expected, atol=1e-4)


@needs_int8
def test_int8_is_close_up_to_the_bounds_and_row_by_row(numbers):
    rows, matrix, bias = numbers
    rows[0], rows[1] = [1.0] * 5 + [2.0] * 3, [-1.0] * 5 + [-2.0] * 3
    together = multiply("int8", rows, matrix, bias)
    np.testing.assert_allclose(together, rows @ matrix + bias, atol=0.15)
    np.testing.assert_array_equal(multiply("int8", rows[2:3], matrix, bias), together[2:3])


def test_best_scale_cuts_off_an_outlier():
    matrix = np.random.default_rng(2).normal(size=(100, 100))
    matrix[3, 4] = 20.0
    assert best_scale(matrix) < 20.0 / LEVELS
    assert best_scale(np.zeros((2, 2))) > 0


def test_unknown_precision():
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16, int8"):
        matmul_backend("int4")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bidirectional": False},
        {"num_layers": 3},
        {"num_layers": 3, "residual": True},
        {"num_layers": 2, "bidirectional": False, "update_gate": "write"},
    ],
    ids=str,
)
def test_fused_encoder(options):
    embeddings = np.random.default_rng(4).normal(size=(10, 6)).astype("float32")
    encoder = Encoder(units=8, **options)
    encoder.build((None, None, 6))
    randomize(encoder, 3, 0.4)
    mask = IDS != 0
    expected = encoder(embeddings[IDS], mask=mask).numpy()
    fused = FusedEncoder(encoder, embeddings, "float32")
    np.testing.assert_allclose(fused(tf.constant(IDS), mask), expected, atol=1e-5)
    assert np.abs(expected).max() <= memory_bound(encoder)
    if has_int8():
        np.testing.assert_allclose(FusedEncoder(encoder, embeddings, "int8")(IDS, mask), expected, atol=0.15)


def decoder_of(**options):
    decoder = Decoder(vocabulary_size=10, embedding_size=6, units=8, **options)
    decoder.build((None, None), (None, None, 8))
    return randomize(decoder, 3, 0.4)


def steps_of(decoder, step):
    """Logits and weights of three steps, with two beams a sentence."""
    random = np.random.default_rng(5)
    memory = random.uniform(-1, 1, (3, 5, 8)).astype("float32")
    context = decoder.prepare(tf.constant(memory), tf.constant(IDS != 0), tf.constant(IDS, tf.int32))
    state = tf.nest.map_structure(lambda leaf: tf.repeat(leaf, 2, axis=0), decoder.start(context))
    found = []
    for _ in range(3):
        result = step(random.integers(4, 10, 6), state, context)
        state = result.state
        found.append((result.logits, result.attention_weights))
    return found


BETWEEN = {"attention_position": "between"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2} | BETWEEN,
        {"num_layers": 3, "residual": True, "update_gate": "write", "tie_output": True} | BETWEEN,
        {"num_layers": 2, "context_inputs": ("state",)} | BETWEEN,
        {"context": AttentionContext("additive"), "context_inputs": ("readout",)},
        {"context": AttentionContext("multi_head")},
        {"context": PooledContext("mean"), "num_layers": 2},
        {"context": AttentionContext("dot", coverage=True), "copy": "reuse", "num_layers": 2} | BETWEEN,
        {"context": AttentionContext("general", coverage=True), "copy": "separate"},
        {"context": PooledContext("mean"), "copy": "separate"},
    ],
    ids=lambda options: ",".join(options),
)
def test_fused_decoder(options):
    decoder = decoder_of(**options)
    expected = steps_of(decoder, decoder.step)
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.1), ("int8", 0.3)):
        if reasons_against(decoder, precision):
            continue
        found = steps_of(decoder, FusedDecoder(decoder, precision).step)
        for (logits, weights), (right, right_weights) in zip(found, expected, strict=True):
            np.testing.assert_allclose(logits, right, atol=tolerance)
            assert (weights is None) == (right_weights is None)
            if weights is not None:
                np.testing.assert_allclose(weights, right_weights, atol=tolerance)


def test_layers_that_cannot_be_fused():
    decoder = decoder_of(cell="lstm", context_inputs=("input",), context=PooledContext("mean"))
    with pytest.raises(ValueError, match="cell is 'lstm', not 'gru'; the decoder's input is more than the last token"):
        FusedDecoder(decoder, "bfloat16")
    assert "the context is not a mean of states, whose bound is known" in reasons_against(decoder, "int8")
    with pytest.raises(ValueError, match="the encoder's cell is 'rnn', not 'gru'"):
        FusedEncoder(Encoder(units=4, cell="rnn"), np.zeros((3, 2), "float32"), "bfloat16")
    half = Decoder(vocabulary_size=9, embedding_size=4, units=8, dtype=keras.DTypePolicy("mixed_bfloat16"))
    assert reasons_against(half, "bfloat16") == ["the model computes in bfloat16 anyway"]
