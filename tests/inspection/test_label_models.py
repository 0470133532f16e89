"""Inspection of models of labels: what is traced is what the model computes, and evidence is gradient times input."""

import random

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.inspection.gradient_flow import back_propagate_layer, gradient_flow
from seq2seq.inspection.report import as_numbers, inspect_sentence
from seq2seq.inspection.sentence_page import sentence_parts
from seq2seq.inspection.trace import trace
from seq2seq.inspection.units import LabelledSentence, MarkedText
from seq2seq.models.build import build_model
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer

TEXT = "the old cats near the dogs slept"


@pytest.fixture(scope="module", params=["classify", "tag"])
def model(request):
    pieces = train_tokenizer([TEXT, "a dog slept"], [], kind="bpe", vocabulary_size=30).models["joint.model"]
    config = Config.from_dict(
        {"task": request.param, "model": {"embedding_size": 5, "context": "attentive", "encoder": {"units": 4}}}
    )
    random.seed(2)
    made = build_model(
        config,
        Tokenizer(
            SubwordVocabulary(pieces, request.param == "tag"), LabelVocabulary(["A", "B", "C"], request.param == "tag")
        ),
    )
    draw = np.random.default_rng(3)
    made.set_weights([draw.normal(scale=0.6, size=weight.shape) for weight in made.get_weights()])
    return made


def test_trace_has_states_and_the_probabilities_of_the_labels(model):
    found, (labelling,) = trace(model, TEXT), model.predict_labels([TEXT])
    assert found.target == labelling.text
    assert list(found.target_tokens) == labelling.labels
    np.testing.assert_allclose(np.exp(found.log_probs), labelling.probabilities.max(axis=1), atol=1e-5)
    (ids,) = model.tokenizer.source.encode([TEXT])
    memory = model.encoder(model.embedding(np.array([ids]))).numpy()[0]
    both = [found.layers[f"encoder.{name}_0"].values["state"] for name in ("forward", "backward")]
    np.testing.assert_allclose(np.concatenate(both, axis=1), memory, atol=1e-5)
    given = trace(model, TEXT, target=" ".join("B" * len(labelling.labels)))
    expected = np.log(labelling.probabilities[:, 1])
    np.testing.assert_allclose(given.log_probs, expected, atol=1e-4)


def test_evidence_is_gradient_times_input(model):
    """The oracle sees the embeddings as one tensor that nothing else is known of, on the kernels."""
    (ids,), (places,) = model.tokenizer.encode_with_label_positions([TEXT])
    embedded = tf.Variable(model.embedding(np.array([ids])))
    best = [model.labels.index(label) for label in model.predict_labels([TEXT])[0].labels]
    with tf.GradientTape() as tape:
        memory = model.encoder(embedded)
        features = memory[0] if model.context is None else model.context.summarize(memory, tf.ones([1, len(ids)], bool))
        logits = tf.gather(model.output_layer(features), places)
        log_prob = tf.reduce_mean(tf.gather(tf.nn.log_softmax(logits), best, batch_dims=1))
    expected = (tape.gradient(log_prob, embedded) * embedded).numpy()[0].sum(axis=1)
    found = gradient_flow(model, TEXT)
    np.testing.assert_allclose(found.evidence, expected, atol=1e-5)
    assert found.loss == pytest.approx(-float(log_prob), abs=1e-5)
    by_hand = back_propagate_layer(model, "encoder.forward_0", TEXT)
    assert all(np.isfinite(gradient).all() for gradient in by_hand.gradients.values())


def test_page_and_numbers(model):
    sentences = [
        LabelledSentence(label, MarkedText(1, 2, text), MarkedText(0, 0, "ein Hund"))
        for label, text in [("plural", "the cats slept"), ("singular", "the dog slept")] * 4
    ]
    found = inspect_sentence(
        model, TEXT, span="near the", corpus=[TEXT, "a dog slept near the cats"], labelled=sentences
    )
    assert found.decisive in TEXT.split()
    parts = sentence_parts(found)
    assert parts[0].title == f"Labels: {found.trace.target}"
    assert f"{found.decisive} decided" in parts[0].text
    assert not [part.title for part in parts if "decoder" in part.title]
    numbers = as_numbers(found)
    assert numbers["decisive_word"] == found.decisive
    assert set(numbers["layers"]) == {"encoder.forward_0", "encoder.backward_0"}
    assert set(numbers["labels"]) <= set(numbers["layers"])
