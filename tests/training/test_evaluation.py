"""Scores of a model: the loss a token against a sum over sentences in NumPy, and what decoding gives."""

import math

import numpy as np
import pytest

from seq2seq.text import START_ID
from seq2seq.training import evaluation
from seq2seq.training.evaluation import corpus_loss, evaluate, perplexity


@pytest.fixture(scope="module")
def model(make_step):
    """An untrained model with label smoothing and dropout, of which its scores must know nothing."""
    return make_step(training__label_smoothing=0.3, model__dropout={"embedding": 0.5, "readout": 0.5}).model


def loss_by_hand(model, sources, references):
    """Mean of -log softmax over all target tokens, one sentence and one step of the decoder after the other."""
    losses = []
    for source, reference in zip(sources, references, strict=True):
        (source_ids,) = model.tokenizer.encode_source([source])
        (target_ids,) = model.tokenizer.encode_target([reference])
        memory, mask = model.encode(np.array([source_ids], "int32"))
        prepared = model.decoder.context.prepare(memory, mask)
        state = model.decoder.start(prepared)
        for last, token in zip([START_ID, *target_ids], target_ids, strict=False):
            step = model.decoder.step(np.array([last], "int32"), state, prepared)
            state = step.state
            logits = np.array(step.logits, np.float64)[0]
            losses.append(np.log(np.sum(np.exp(logits))) - logits[token])
    return np.mean(losses)


def test_loss_is_the_mean_over_all_tokens(model, toy_pairs, monkeypatch):
    sources, references = zip(*toy_pairs[:12], strict=True)
    right = loss_by_hand(model, sources, references)
    np.testing.assert_allclose(corpus_loss(model, sources, references), right, rtol=1e-5)
    # Other batches, among them some of one sentence, and another order: the same mean.
    monkeypatch.setattr(evaluation, "BATCH_TOKENS", 30)
    np.testing.assert_allclose(corpus_loss(model, sources[::-1], references[::-1]), right, rtol=1e-5)


def test_scores_are_of_the_translations(model, toy_pairs, monkeypatch):
    sources, references = zip(*toy_pairs[:10], strict=True)
    asked = []

    def translate(texts, **options):
        asked.append((texts, options))
        return [*references[:8], "la kato", ""]

    monkeypatch.setattr(model, "translate", translate, raising=False)
    scores, hypotheses = evaluate(model, sources, references, beam_size=3)
    assert asked == [(sources, {"beam_size": 3})]
    assert hypotheses == [*references[:8], "la kato", ""]
    assert scores["exact_match"] == 80.0
    assert scores["sentences"] == 10
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["loss"] == pytest.approx(corpus_loss(model, sources, references))
    assert 50 < scores["bleu"] < 100
    assert 50 < scores["chrf"] < 100
    assert "tok:13a" in scores["signature"]["bleu"]
    assert "nc:6" in scores["signature"]["chrf"]


def test_perplexity():
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(10_000.0) == math.inf
