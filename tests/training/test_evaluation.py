"""Scores of a model: the mean over tokens of what `score` gives for each, and what decoding gives."""

import math

import pytest

from seq2seq.config.sections import METRICS_BY_TASK
from seq2seq.training.evaluation import by_source_length, corpus_loss, evaluate


@pytest.fixture(scope="module")
def model(make_step):
    """Make an untrained model with label smoothing and dropout, which its scores must ignore."""
    return make_step(model__label_smoothing=0.3, model__embedding_dropout=0.5, model__readout_dropout=0.5).model


def test_loss_is_the_mean_over_all_tokens(model, toy_pairs):
    sources, references = zip(*toy_pairs[:12], strict=True)
    of_tokens = [log_prob for score in model.score(sources, references) for log_prob in score.token_log_probs]
    assert corpus_loss(model, sources, references) == pytest.approx(-sum(of_tokens) / len(of_tokens))


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
    assert (scores["exact_match"], scores["sentences"]) == (80.0, 10)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert scores["loss"] == pytest.approx(corpus_loss(model, sources, references))
    assert 50 < scores["bleu"] < 100


def test_scores_are_those_of_the_models_task(make_model, toy_pairs, monkeypatch):
    model = make_model(task="summarize")
    sources, references = zip(*toy_pairs[:3], strict=True)
    monkeypatch.setattr(model, "translate", lambda texts, **options: [*references[:2], "la"], raising=False)
    scores, _ = evaluate(model, sources, references)
    assert scores["exact_match"] == pytest.approx(200 / 3)
    assert scores["novel_1"] > 0
    assert scores["signature"].keys() == scores.keys() - {"loss", "perplexity", "sentences", "signature"}
    assert set(METRICS_BY_TASK["summarize"]) <= scores.keys()
    assert "bleu" not in scores


def test_scores_by_length_are_of_the_task():
    sources, texts = ["a " * 30, "b"], ["c d", "e"]
    rows = by_source_length("summarize", sources, texts, texts)
    assert [(row["shortest"], row["longest"], row["rouge_l"]) for row in rows] == [(0, 25, 100.0), (26, 50, 100.0)]
    [_, row] = by_source_length("translate", sources, texts, texts)
    assert row.keys() == {"shortest", "longest", "sentences", "bleu"}
