"""Everything about one sentence, of translation models and of models of labels, in Python and as JSON."""

import json
import random

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.inspection.gradient_flow import back_propagate_layer, gradient_flow
from seq2seq.inspection.report import as_numbers, inspect_sentence
from seq2seq.inspection.sentence_page import write_sentence_page
from seq2seq.inspection.trace import trace
from seq2seq.inspection.unit_probes import LabelledSentence, MarkedText, label_units
from seq2seq.inspection.units import half_lives, units_across, with_matches
from seq2seq.models.build import build_model
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer

SOURCE, TARGET = "the old cat sees the dog", "la kato maljuna vidas la hundo"
CORPUS = [SOURCE, "the dog sees"]
TEXT = "the old cats near the dogs slept"


@pytest.fixture(scope="module")
def model(make_random_model):
    return make_random_model("lstm")


@pytest.fixture(scope="module")
def labelled(toy_pairs):
    return [
        LabelledSentence("no" if number % 2 else "yes", MarkedText(1, 2, source))
        for number, (source, _) in enumerate(toy_pairs[:6])
    ]


@pytest.fixture(scope="module")
def found(model, labelled):
    return inspect_sentence(model, SOURCE, TARGET, span="old cat", around=1, corpus=CORPUS, labelled=labelled)


def test_an_inspection_is_what_each_function_finds_alone(model, labelled, found):
    alone = trace(model, SOURCE, TARGET)
    assert as_numbers(found.trace) == as_numbers(alone)
    assert as_numbers(found.flow) == as_numbers(gradient_flow(model, SOURCE, TARGET))
    for name, layer in alone.layers.items():
        np.testing.assert_array_equal(found.half_lives[name], half_lives(layer))
    assert found.span_units == with_matches(model, units_across(alone, "old cat", 1), CORPUS)
    assert as_numbers(found.label_units) == as_numbers(label_units(model, labelled))
    without = inspect_sentence(model, SOURCE, TARGET)
    assert (without.span, without.span_units, without.label_units, without.decisive_word) == (None, [], None, None)


def test_numbers_are_json(found):
    numbers = as_numbers(found)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert numbers["trace"]["target_tokens"] == list(found.trace.target_tokens)
    np.testing.assert_allclose(numbers["trace"]["attention"], found.trace.attention, atol=1e-6)
    flow = numbers["flow"]["layers"]["encoder.forward_0"]
    assert flow["verdict"] == found.flow.layers["encoder.forward_0"].verdict
    # The step that a layer reads first has none before it, and so no rate.
    assert flow["rates"][0] is None
    (span, *_) = numbers["span_units"]
    assert span["units"][0]["margin"] == found.span_units[0].units[0].margin
    # The sentence itself is the first of the corpus.
    assert (1, 1, 3) in {(match["line"], match["start"], match["stop"]) for match in span["matches"]}
    assert as_numbers(np.array([np.inf, 1.0])) == [None, 1.0]


@pytest.fixture(scope="module", params=["classify", "tag"])
def labeler(request):
    by_word = request.param == "tag"
    pieces = train_tokenizer([TEXT, "a dog slept"], [], kind="bpe", vocabulary_size=30).models["joint.model"]
    config = Config.from_dict(
        {"task": request.param, "model": {"embedding_size": 5, "context": "attentive", "encoder": {"units": 4}}}
    )
    random.seed(2)
    labels = LabelVocabulary(["A", "B", "C"], by_word)
    made = build_model(config, Tokenizer(SubwordVocabulary(pieces, by_word), labels))
    draw = np.random.default_rng(3)
    made.set_weights([draw.normal(scale=0.6, size=weight.shape) for weight in made.get_weights()])
    return made


def test_trace_of_labels(labeler):
    found, (prediction,) = trace(labeler, TEXT), labeler.predict_labels([TEXT])
    assert found.target == prediction.text
    assert list(found.target_tokens) == prediction.labels
    np.testing.assert_allclose(np.exp(found.log_probs), prediction.probabilities.max(axis=1), atol=1e-5)
    (ids,) = labeler.tokenizer.source.encode([TEXT])
    memory = labeler.encoder(labeler.embedding(np.array([ids]))).numpy()[0]
    both = [found.layers[f"encoder.{name}_0"].values["state"] for name in ("forward", "backward")]
    np.testing.assert_allclose(np.concatenate(both, axis=1), memory, atol=1e-5)
    given = trace(labeler, TEXT, target=" ".join("B" * len(prediction.labels)))
    np.testing.assert_allclose(given.log_probs, np.log(prediction.probabilities[:, 1]), atol=1e-4)


def test_evidence_is_gradient_times_input(labeler):
    """The oracle sees the embeddings as one tensor that nothing else is known of, on the kernels."""
    (ids,), (places,) = labeler.tokenizer.encode_with_label_positions([TEXT])
    embedded = tf.Variable(labeler.embedding(np.array([ids])))
    best = [labeler.labels.index(label) for label in labeler.predict_labels([TEXT])[0].labels]
    with tf.GradientTape() as tape:
        features = labeler.encoder(embedded)
        features = (
            features[0]
            if labeler.context is None
            else labeler.context.summarize(features, tf.ones([1, len(ids)], bool))
        )
        logits = tf.gather(labeler.output_layer(features), places)
        log_prob = tf.reduce_mean(tf.gather(tf.nn.log_softmax(logits), best, batch_dims=1))
    expected = (tape.gradient(log_prob, embedded) * embedded).numpy()[0].sum(axis=1)
    found = gradient_flow(labeler, TEXT)
    np.testing.assert_allclose(found.evidence, expected, atol=1e-5)
    assert found.loss == pytest.approx(-float(log_prob), abs=1e-5)
    by_hand = back_propagate_layer(labeler, "encoder.forward_0", TEXT)
    assert all(np.isfinite(gradient).all() for gradient in by_hand.gradients.values())


def test_page_of_labels(labeler, tmp_path):
    texts = [("plural", "the cats slept"), ("singular", "the dog slept")] * 4
    labelled = [LabelledSentence(label, MarkedText(1, 2, text), MarkedText(0, 0, "Hund")) for label, text in texts]
    corpus = [TEXT, "a dog slept near the cats"]
    found = inspect_sentence(labeler, TEXT, span="near the", corpus=corpus, labelled=labelled)
    assert found.decisive_word in TEXT.split()
    page = write_sentence_page(tmp_path / "page.html", found, "m").read_text(encoding="utf-8")
    assert f">Labels: {found.trace.target}</a></h2>" in page
    assert f"“{found.decisive_word}” decided" in page
    assert '<section id="decoder' not in page
    numbers = as_numbers(found)
    assert numbers["decisive_word"] == found.decisive_word
    assert set(numbers["trace"]["layers"]) == {"encoder.forward_0", "encoder.backward_0"}
    assert {layer["layer"] for layer in numbers["label_units"]} <= set(numbers["trace"]["layers"])
