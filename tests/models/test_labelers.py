"""The two shapes without a decoder against NumPy, their files, and what they say of bad input."""

import random

import keras
import numpy as np
import pytest

import seq2seq
from seq2seq.config.sections import Config
from seq2seq.errors import DataError, ModelFileError
from seq2seq.layers import AttentionContext, Encoder, LastContext
from seq2seq.layers.cells import CELLS
from seq2seq.models.archive import load, save
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.build import build_model
from seq2seq.models.labelers import SequenceClassifier, SequenceTagger
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer

TEXTS = ["the cat sees the old dog", "a dog", "the king often hears a big wild horse today", "birds"]


@pytest.fixture(scope="module")
def make():
    lines = ["the cat sees the old dog", "a king often hears a big wild horse today", "birds"]
    model = train_tokenizer(lines, [], kind="bpe", vocabulary_size=45).models["joint.model"]

    def make(task, dtype="float32", **settings):
        config = Config.from_dict(
            {
                "task": task,
                "model": {
                    "embedding_size": 6,
                    "context": "last",
                    "encoder": {"units": 5},
                    "label_smoothing": 0.1,
                    **settings,
                },
            }
        )
        random.seed(3)
        built = build_model(
            config,
            Tokenizer(SubwordVocabulary(model, task == "tag"), LabelVocabulary(["A", "B", "C"], task == "tag")),
            dtype,
        )
        draw = np.random.default_rng(5)
        built.set_weights([draw.normal(scale=0.5, size=weight.shape) for weight in built.get_weights()])
        return built

    return make


def by_hand(model, text):
    """Probabilities of the labels of one text: the encoder alone on that text, then context and softmax in NumPy."""
    (ids,), (places,) = model.tokenizer.encode_with_label_positions([text])
    memory = model.encoder(model.embedding(np.array([ids]))).numpy()[0].astype("float64")
    kernel, bias = (weight.numpy() for weight in model.output_layer.weights)
    if isinstance(model, SequenceClassifier):
        half = memory.shape[1] // 2
        # Both ends of what was read: the last step forwards, the first backwards.
        features = np.concatenate([memory[-1, :half], memory[0, half:]])[None]
    else:
        features = memory[places]
    scores = np.exp(features @ kernel + bias)
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_probabilities_and_loss_by_hand_whatever_the_padding(make, task):
    model = make(task)
    targets = ["A", "C", "B", "A"] if task == "classify" else ["A B C A B C", "B A", "A A B B C C A B C", "C"]
    expected = [by_hand(model, text) for text in TEXTS]
    for found, right in zip(model.predict_labels(TEXTS), expected, strict=True):
        np.testing.assert_allclose(found.probabilities, right, atol=1e-5)
        assert found.labels == ["ABC"[best] for best in right.argmax(axis=1)]
    assert model.answers(TEXTS[::-1]) == [found.text for found in model.predict_labels(TEXTS, batch_tokens=1)][::-1]
    wanted = [["ABC".index(label) for label in target.split()] for target in targets]
    of_labels = [np.log(p[np.arange(len(ids)), ids]) for p, ids in zip(expected, wanted, strict=True)]
    for score, right, target in zip(model.score(TEXTS, targets), of_labels, targets, strict=True):
        np.testing.assert_allclose(score.token_log_probs, right, atol=1e-5)
        assert (score.pieces, score.log_prob) == (target.split(), pytest.approx(right.sum(), abs=1e-4))
    smoothed = sum((0.9 * one + 0.1 * np.log(p).mean(axis=1)).sum() for one, p in zip(of_labels, expected, strict=True))
    source_ids, target_ids = model.tokenizer.encode_pairs(TEXTS, targets)
    inputs = {"source_ids": pad(source_ids), "target_ids": pad(target_ids)}
    loss, labels = model.loss_and_tokens(inputs, training=False)
    assert (float(loss), float(labels)) == (pytest.approx(-smoothed, rel=1e-5), sum(map(len, wanted)))
    fitted = float(model.compute_loss(inputs, y_pred=model(inputs)))
    assert fitted == pytest.approx(float(loss) / float(labels), rel=1e-6)


def test_a_blank_source_has_no_labels(make):
    for task in ("classify", "tag"):
        model = make(task)
        assert model.answers(["", "  ", "a dog"])[:2] == ["", ""]
        assert model.predict_labels([]) == []


def test_fit_learns(make):
    model, targets = make("tag", encoder={"units": 8}), ["A B C A B C", "B A", "A A B B C C A B C", "C"]
    source_ids, target_ids = model.tokenizer.encode_pairs(TEXTS, targets)
    model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    model.fit({"source_ids": pad(source_ids), "target_ids": pad(target_ids)}, epochs=30, verbose=0, batch_size=4)
    assert model.answers(TEXTS) == targets


@pytest.mark.parametrize(
    ("cell", "context"), [*zip(CELLS, ["last", "projected", "mean", "attentive", None], strict=True)]
)
def test_one_file(make, tmp_path, cell, context):
    settings = {"encoder": {"units": 4, "cell": cell}} | ({"context": context} if context else {})
    model = make("classify" if context else "tag", **settings)
    path = save(model, tmp_path / "model.keras")
    for again in (load(path), keras.saving.load_model(path)):
        assert type(again) is type(model)
        assert (again.tokenizer, again.recipe, again.task) == (model.tokenizer, model.recipe, model.task)
        for one, other in zip(again.predict_labels(TEXTS), model.predict_labels(TEXTS), strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
    raw = clone_with_implementation(model, "raw")
    assert {layer.kernel_choice().implementation for layer in raw.recurrent_layers.values()} == {"raw"}
    for one, other in zip(raw.predict_labels(TEXTS), model.predict_labels(TEXTS), strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_half_precision_keeps_the_softmax_whole(make):
    model = make("classify", dtype="mixed_bfloat16")
    assert model.label_logits(np.array([[4, 5, 3]])).dtype == "float32"


def test_who_wants_another_shape(make, tmp_path):
    path = save(make("tag"), tmp_path / "model.keras")
    with pytest.raises(ModelFileError, match="must be a Seq2Seq"):
        load(path, Seq2Seq)


def test_public_names():
    assert seq2seq.SequenceClassifier is SequenceClassifier
    assert seq2seq.SequenceTagger is SequenceTagger


def test_a_context_that_is_read_at_every_step():
    with pytest.raises(ValueError, match="context must be computed once for a source"):
        SequenceClassifier(Encoder(4), AttentionContext("dot"), vocabulary_size=9, num_labels=2, embedding_size=4)


def test_an_encoder_that_joins_steps_tags_no_words():
    with pytest.raises(ValueError, match="must be 1 for a tagger"):
        SequenceTagger(Encoder(4, front_end="mean", stride=2), vocabulary_size=9, num_labels=2, embedding_size=4)


def test_a_long_source_is_classified_by_what_training_read_of_it(make):
    model = make("classify")
    text, rest = "the old dog", " sees a big wild horse"
    data = {"truncate": "head", "max_source_tokens": len(model.tokenizer.source.encode([text])[0])}
    cut = type(model).from_config(model.get_config() | {"recipe": model.recipe | {"data": data}})
    cut.tokenizer = model.tokenizer
    cut.set_weights(model.get_weights())
    found, whole = cut.predict_labels([text + rest, text]), model.predict_labels([text + rest, text])
    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, rtol=1e-6)
    assert [labelling.num_truncated_tokens for labelling in [*found, *whole]] == [
        len(model.encode_sources([rest])[0]) - 1,
        0,
        0,
        0,
    ]
    assert abs(whole[0].probabilities - whole[1].probabilities).max() > 1e-4


def test_without_tokenizer_or_with_one_of_texts(make, toy_tokenizer):
    sizes = {"vocabulary_size": 9, "num_labels": 2, "embedding_size": 4}
    with pytest.raises(ModelFileError, match=r"Give SequenceTagger its tokenizer, or call it on token ids"):
        SequenceTagger(Encoder(4), **sizes).answers(["a"])
    with pytest.raises(ModelFileError, match=r"SequenceClassifier must have a tokenizer with labels"):
        SequenceClassifier(Encoder(4), LastContext(True), tokenizer=toy_tokenizer, **sizes).answers(["a"])


def test_bad_texts(make):
    model = make("classify")
    with pytest.raises(TypeError, match="texts must be a list of strings"):
        model.answers("a dog")
    with pytest.raises(DataError, match="targets must be as many as the 2 sources, got 1"):
        model.score(["a", "b"], ["A"])
