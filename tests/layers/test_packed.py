"""Packed encoders and decoders against the layers that they are made from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import Decoder, Encoder
from seq2seq.layers.context import AttentionContext, PooledContext
from seq2seq.layers.quantized import FusedDecoder, PackedEncoder, has_int8, memory_bound, reasons_against_decoder

IDS = np.array([[4, 5, 6, 7, 3], [8, 3, 0, 0, 0], [9, 4, 3, 0, 0]])


def with_random_weights(layer):
    random = np.random.default_rng(3)
    layer.set_weights([random.normal(scale=0.4, size=weight.shape) for weight in layer.get_weights()])
    return layer


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
def test_encoder(options):
    embeddings = np.random.default_rng(4).normal(size=(10, 6)).astype("float32")
    encoder = Encoder(units=8, **options)
    encoder.build((None, None, 6))
    encoder = with_random_weights(encoder)
    mask = IDS != 0
    expected = encoder(embeddings[IDS], mask=mask).numpy()
    packed = PackedEncoder(encoder, embeddings, "float32")
    np.testing.assert_allclose(packed(tf.constant(IDS), mask), expected, atol=1e-5)
    assert np.abs(expected).max() <= memory_bound(encoder)
    if has_int8():
        np.testing.assert_allclose(PackedEncoder(encoder, embeddings, "int8")(IDS, mask), expected, atol=0.15)


def decoder_of(**options):
    decoder = Decoder(vocabulary_size=10, embedding_size=6, units=8, **options)
    decoder.build((None, None), (None, None, 8))
    return with_random_weights(decoder)


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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2, "attention_position": "between"},
        {
            "num_layers": 3,
            "attention_position": "between",
            "residual": True,
            "update_gate": "write",
            "tie_output": True,
        },
        {"num_layers": 2, "context_inputs": ("state",), "attention_position": "between"},
        {"context": AttentionContext("additive"), "context_inputs": ("readout",)},
        {"context": AttentionContext("multi_head")},
        {"context": PooledContext("mean"), "num_layers": 2},
        {
            "context": AttentionContext("dot", coverage=True),
            "copy": "reuse",
            "num_layers": 2,
            "attention_position": "between",
        },
        {"context": AttentionContext("general", coverage=True), "copy": "separate"},
        {"context": PooledContext("mean"), "copy": "separate"},
    ],
    ids=lambda options: ",".join(options),
)
def test_decoder(options):
    decoder = decoder_of(**options)
    expected = steps_of(decoder, decoder.step)
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.1), ("int8", 0.3)):
        if reasons_against_decoder(decoder, precision):
            continue
        for (logits, weights), (right, right_weights) in zip(
            steps_of(decoder, FusedDecoder(decoder, precision).step), expected, strict=True
        ):
            np.testing.assert_allclose(logits, right, atol=tolerance)
            if right_weights is None:
                assert weights is None
            else:
                np.testing.assert_allclose(weights, right_weights, atol=tolerance)


def test_what_cannot_be_packed_is_refused_with_every_reason():
    decoder = decoder_of(cell="lstm", context_inputs=("input",), context=PooledContext("mean"))
    with pytest.raises(ValueError, match="cell is 'lstm', not 'gru'; the decoder's input is more than the last token"):
        FusedDecoder(decoder, "bfloat16")
    assert "the context is not a mean of states, whose bound is known" in reasons_against_decoder(decoder, "int8")
    with pytest.raises(ValueError, match="the encoder's cell is 'rnn', not 'gru'"):
        PackedEncoder(Encoder(units=4, cell="rnn"), np.zeros((3, 2), "float32"), "bfloat16")
    half = Decoder(vocabulary_size=9, embedding_size=4, units=8, dtype=keras.DTypePolicy("mixed_bfloat16"))
    assert reasons_against_decoder(half, "bfloat16") == ["the model computes in bfloat16 anyway"]
