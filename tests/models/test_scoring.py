"""Log-probabilities of given pairs: against the decoder's own steps in NumPy, the search, and every way to batch."""

import math

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.errors import DataError, ModelFileError
from seq2seq.layers import Decoder, Encoder
from seq2seq.models import encoder_decoder
from seq2seq.models.results import PairScore, perplexity
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import START_ID, UNKNOWN_ID


@pytest.fixture(scope="module")
def model(make_model):
    """Make an untrained model with a sequential decoder, dropout and label smoothing, which scores ignore."""
    made = make_model(
        model__label_smoothing=0.3,
        model__embedding_dropout=0.5,
        model__readout_dropout=0.5,
        model__context_dropout=0.5,
        model__decoder__num_layers=2,
        model__encoder__num_layers=2,
    )
    random = np.random.default_rng(3)
    made.set_weights([random.normal(scale=0.4, size=weight.shape) for weight in made.get_weights()])
    return made


def log_probs_by_hand(model, source, target):
    """Log softmax of each target token, one step of the decoder after the other, in float64."""
    (source_ids,), (target_ids,) = model.tokenizer.source.encode([source]), model.tokenizer.target.encode([target])
    memory, mask = model.encode(np.array([source_ids], "int32"))
    prepared = model.decoder.context.prepare(memory, mask)
    state = model.decoder.start(prepared)
    log_probs = []
    for last, token in zip([START_ID, *target_ids], target_ids, strict=False):
        step = model.decoder.step(np.array([last], "int32"), state, prepared)
        state, logits = step.state, np.array(step.logits, np.float64)[0]
        log_probs.append(logits[token] - np.log(np.exp(logits).sum()))
    return log_probs


def test_tokens_score_as_step_by_step(model, toy_pairs):
    sources, targets = zip(*toy_pairs[:12], strict=True)
    # No right target: a score is of whatever is given, also nothing and unknown words.
    targets = [*targets[1:10], "la zebro", "", targets[0]]
    for source, target, score in zip(sources, targets, model.score(sources, targets), strict=True):
        by_hand = log_probs_by_hand(model, source, target)
        np.testing.assert_allclose(score.token_log_probs, by_hand, atol=1e-5)
        assert score.log_prob == pytest.approx(sum(by_hand), abs=1e-4)
        assert score.perplexity == pytest.approx(math.exp(-np.mean(by_hand)), rel=1e-4)
        (ids,) = model.tokenizer.target.encode([target])
        assert score.pieces == model.tokenizer.target.pieces(ids)
        assert len(score.pieces) == len(score.token_log_probs)
    assert UNKNOWN_ID in model.tokenizer.target.encode(["la zebro"])[0]
    assert model.score([], []) == []


def test_the_search_sums_up_the_same(make_model, toy_pairs):
    model = make_model()
    for variable in model.trainable_variables:
        variable.assign(2.5 * variable)
    sources = [source for source, _ in toy_pairs[:24]]
    found = [
        (source, hypothesis)
        for source, hypotheses in zip(sources, model.generate(sources, beam_size=3, n_best=3), strict=True)
        for hypothesis in hypotheses
    ]
    assert len(found) == 72
    assert len({len(hypothesis.token_ids) for _, hypothesis in found}) > 3
    scores = model.score([source for source, _ in found], [hypothesis.text for _, hypothesis in found])
    for (_, hypothesis), score in zip(found, scores, strict=True):
        # A hypothesis that was cut at its limit lacks the end token that every given target has.
        summed = sum(score.token_log_probs[: len(hypothesis.token_ids)])
        assert summed == pytest.approx(hypothesis.log_prob, abs=2e-4)


def test_neither_batch_nor_order_nor_padding_changes_a_score(model, toy_pairs):
    sources, targets = zip(*toy_pairs[:40], strict=True)
    together = model.score(sources, targets)

    def same(scores, expected):
        for score, other in zip(scores, expected, strict=True):
            np.testing.assert_allclose(score.token_log_probs, other.token_log_probs, atol=1e-5)
            assert score.pieces == other.pieces

    same(model.score(sources[::-1], targets[::-1]), together[::-1])
    same(model.score(sources, targets, batch_tokens=1), together)
    # A companion of forty words pads everybody.
    longer = model.score([*sources, " ".join(sources[:8])], [*targets, " ".join(targets[:8])])
    same(longer[:-1], together)


def test_logits_are_computed_some_rows_at_a_time(make_model, toy_pairs, monkeypatch):
    sources, targets = zip(*toy_pairs[:30], strict=True)
    whole = make_model().score(sources, targets)
    model = make_model()
    seen, logits = [], model.decoder.logits

    def watched(features):
        tf.py_function(lambda rows: seen.append(int(rows)), [tf.shape(features)[0]], [])
        return logits(features)

    monkeypatch.setattr(model.decoder, "logits", watched)
    # Seven rows of the vocabulary, which is no divisor of the number of tokens.
    monkeypatch.setattr(encoder_decoder, "LOGITS_AT_ONCE", 7 * model.target_vocabulary_size + 3)
    scores = model.score(sources, targets)
    for score, other in zip(scores, whole, strict=True):
        np.testing.assert_allclose(score.token_log_probs, other.token_log_probs, atol=1e-5)
    assert set(seen[:-1]) == {7}
    assert 0 < seen[-1] < 7
    assert sum(seen) == sum(len(score.pieces) for score in scores)


def test_perplexity():
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(10_000.0) == math.inf
    assert PairScore(-4.0, [-1.0, -3.0], ["▁a", "</s>"]).perplexity == pytest.approx(math.exp(2))


def test_what_cannot_be_scored(model):
    with pytest.raises(TypeError, match=r"sources must be a list of strings, got 'the cat'"):
        model.score("the cat", ["la kato"])
    with pytest.raises(TypeError, match=r"targets must be a list of strings, got 'la kato'"):
        model.score(["the cat"], "la kato")
    with pytest.raises(DataError, match=r"targets must be as many as the 2 sources, got 1"):
        model.score(["a", "b"], ["c"])
    bare = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
    with pytest.raises(ModelFileError, match="Strings need a model with a tokenizer"):
        bare.score(["a"], ["b"])
