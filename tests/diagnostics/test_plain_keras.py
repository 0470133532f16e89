"""The model as straightforward Keras is the same model: the same weights give the same loss."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.diagnostics.plain_keras import PlainKeras, check_plain_keras
from seq2seq.errors import ConfigError
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus

SHIPPED = {
    "model__tie_embeddings": "all", "model__decoder__num_layers": 2, "model__decoder__attention_position": "between",
    "model__label_smoothing": 0.1,
}  # fmt: skip
OTHER = {
    "model__encoder__cell": "lstm", "model__encoder__num_layers": 2, "model__encoder__residual": True,
    "model__decoder__cell": "lstm", "model__decoder__num_layers": 2, "model__decoder__residual": True,
    "model__attention__score": "general", "model__readout_size": 12,
}  # fmt: skip
ONE_WAY = {
    "model__encoder__cell": "gru_reset_before", "model__encoder__bidirectional": False, "model__decoder__cell": "rnn",
    "model__decoder__units": 16, "model__context_inputs": ["readout"], "model__tie_embeddings": "output",
}  # fmt: skip


@pytest.fixture(scope="module")
def toy_batch(toy_pairs, toy_tokenizer):
    sources, targets = zip(*toy_pairs[:16], strict=True)
    corpus = EncodedCorpus.from_lists(toy_tokenizer.source.encode(sources), toy_tokenizer.target.encode(targets))
    with contextlib.closing(Batches(corpus, batch_tokens=10_000, prefetch=0).epoch(0)) as epoch:
        return next(epoch)


def give_weights(plain, model):
    """Copy our model's weights to Keras' layers."""
    encoder, decoder = model.encoder, model.decoder

    def put(name, *weights):
        plain.get_layer(name).set_weights([np.asarray(weight) for weight in weights])

    put("embedding", decoder.embedding.embeddings)
    if model.embedding is not decoder.embedding:
        put("source_embedding", model.embedding.embeddings)
    for index, layer in enumerate(encoder.forward_layers):
        weights = layer.get_weights()
        if encoder.bidirectional:
            put(f"both_ways_{index}", *weights, *encoder.backward_layers[index].get_weights())
        else:
            put(f"encoder_{index}", *weights)
    for index, layer in enumerate(decoder.recurrent_layers):
        put(f"decoder_{index}", *layer.get_weights())
    for bridge in decoder.bridges:
        put(bridge.name, *bridge.get_weights())
    if decoder.context.score == "general":
        put("keys", decoder.context.score_layer.kernel)
    put("readout", decoder.readout.kernel, decoder.readout.bias)
    if not decoder.tie_output:
        put("output", np.asarray(decoder.output_embeddings).T, decoder.readout.output_bias)


@pytest.mark.parametrize("changes", [SHIPPED, OTHER, ONE_WAY], ids=["shipped", "other", "one_way"])
def test_the_same_weights_give_the_same_loss(make_model, toy_config, toy_tokenizer, toy_batch, changes):
    model = make_model(**changes)
    random = np.random.default_rng(3)
    model.set_weights([random.normal(scale=0.3, size=weight.shape) for weight in model.get_weights()])
    if model.decoder.tie_output:
        model.decoder.readout.output_bias.assign(np.zeros(model.target_vocabulary_size))
    plain = PlainKeras(toy_config(**changes), toy_tokenizer.source.size, toy_tokenizer.target.size, "float32")
    give_weights(plain.model, model)
    source_ids, target_ids = map(tf.constant, toy_batch[:2])
    loss, tokens = model.loss_and_tokens({"source_ids": source_ids, "target_ids": target_ids}, training=False)
    np.testing.assert_allclose(plain.loss(source_ids, target_ids, training=False), loss / tokens, rtol=2e-5)


def test_dropout_clipping_and_average_are_the_recipes(toy_config, toy_tokenizer):
    names = ("embedding_dropout", "dropout", "context_dropout", "readout_dropout")
    changes = {f"model__{name}": share for name, share in zip(names, (0.1, 0.2, 0.3, 0.4), strict=True)}
    plain = PlainKeras(
        toy_config(**SHIPPED | changes, training__ema=0.9),
        toy_tokenizer.source.size,
        toy_tokenizer.target.size,
        "mixed_bfloat16",
    )
    dropout = [layer.rate for layer in plain.model.layers if isinstance(layer, keras.layers.Dropout)]
    assert sorted(dropout) == [0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.4]
    assert plain.optimizer.global_clipnorm == 1.0
    assert plain.optimizer.ema_momentum == 0.9
    assert plain.model.get_layer("decoder_0").compute_dtype == "bfloat16"


def test_a_step_learns(toy_config, toy_tokenizer, toy_batch):
    plain = PlainKeras(toy_config(**ONE_WAY), toy_tokenizer.source.size, toy_tokenizer.target.size, "float32")
    losses = [plain([toy_batch], 0.02) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("model.encoder.cell", {"model__encoder__cell": "gru_simplified"}),
        ("model.encoder.front_end", {"model__encoder__front_end": "max", "model__encoder__stride": 2}),
        ("model.encoder.subsample", {"model__encoder__num_layers": 2, "model__encoder__subsample": 2}),
        ("model.context", {"model__context": "mean"}),
        ("model.attention.score", {"model__attention__score": "local"}),
        ("model.attention.coverage", {"model__attention__coverage": True}),
        ("model.copy", {"model__copy": "reuse"}),
        ("model.coverage_loss", {"model__coverage_loss": 1.0}),
        ("model.context_inputs", {"model__context_inputs": ["state", "input"]}),
        ("model.decoder.input_feeding", {"model__decoder__input_feeding": True}),
    ],
)
def test_recipes_that_keras_has_no_layers_for(toy_config, key, changes):
    with pytest.raises(ConfigError, match=rf"{key} must be .* --against keras") as raised:
        check_plain_keras(toy_config(**changes))
    assert raised.value.key == key
