"""Models whose encoder joins source steps: padding, search, files, and what an attention weight speaks of."""

import numpy as np
import pytest

from seq2seq.errors import ArgumentError, ConfigError
from seq2seq.inspection.trace import trace
from seq2seq.layers import Decoder, Encoder
from seq2seq.layers.quantized import FusedDecoder, FusedEncoder
from seq2seq.models.archive import load
from seq2seq.models.generation import Ensemble
from seq2seq.models.search_graph import Plan, create_components
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import PAD_ID

TEXTS = ["the big cat sees the dog", "the girl hears the old king today", "the man"]
REDUCED = {
    "model__encoder__front_end": "convolution",
    "model__encoder__stride": 2,
    "model__encoder__kernel_size": 3,
    "model__encoder__num_layers": 2,
    "model__encoder__subsample": 2,
}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(**REDUCED)


def test_padding_changes_no_logits(model, toy_tokenizer):
    ids = pad(toy_tokenizer.source.encode(TEXTS))
    targets = pad(toy_tokenizer.target.encode(["la kato", "la hundo vidas", "la"]))
    expected = model({"source_ids": ids, "target_ids": targets})
    for more in (1, 2, 3, 9):
        padded = np.pad(ids, [(0, 0), (0, more)], constant_values=PAD_ID)
        np.testing.assert_allclose(model({"source_ids": padded, "target_ids": targets}), expected, atol=1e-6)
    memory, mask = model.encode(ids)
    lengths = np.count_nonzero(ids != PAD_ID, axis=1)
    assert np.count_nonzero(mask, axis=1).tolist() == (-(-lengths // 4)).tolist()
    assert memory.shape[1] == -(-ids.shape[1] // 4) == mask.shape[1]


def test_the_search_finds_what_the_model_says_and_attends_to_windows(model):
    options = {"beam_size": 3, "coverage_penalty": "wu", "max_length": 12}
    hypotheses = [found[0] for found in model.generate(TEXTS, attention=True, n_best=1, **options)]
    assert [found.text for found in hypotheses] == [
        model.generate([text], attention=True, n_best=1, **options)[0][0].text for text in TEXTS
    ]
    for text, found in zip(TEXTS, hypotheses, strict=True):
        pieces = model.require_tokenizer().source.tokenize(text)
        assert model.memory_tokens(text) == tuple("".join(pieces[at : at + 4]) for at in range(0, len(pieces), 4))
        assert found.attention_weights.shape == (len(found.token_ids), -(-len(pieces) // 4))
        np.testing.assert_allclose(found.attention_weights.sum(axis=-1), 1, atol=1e-5)
        logits = model({"source_ids": pad(model.require_tokenizer().source.encode([text])),
                        "target_ids": np.array([found.token_ids])})  # fmt: skip
        log_probs = np.log(np.exp(logits[0]) / np.exp(logits[0]).sum(axis=-1, keepdims=True))
        np.testing.assert_allclose(log_probs[np.arange(len(found.token_ids)), found.token_ids],
                                   found.token_log_probs, atol=1e-4)  # fmt: skip


class TestCopying:
    """Tokens of a window are copied one by one, whatever the steps that attention reads."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, make_model):
        def make_one(mode, coverage):
            model = make_model(model__copy=mode, model__attention__coverage=coverage, **REDUCED)
            random = np.random.default_rng(0)
            model.set_weights([random.normal(scale=0.3, size=weight.shape) for weight in model.get_weights()])
            return model

        return make_one

    @pytest.mark.parametrize(("mode", "coverage"), [("reuse", True), ("separate", False)])
    def test_probabilities_add_up_to_one_and_padding_changes_none(self, make, mode, coverage, toy_tokenizer):
        copying = make(mode, coverage)
        ids = {"source_ids": pad(toy_tokenizer.source.encode(TEXTS)), "target_ids": pad([[5, 6, 3], [7, 3], [8, 9, 3]])}
        log_probs = np.array(copying(ids))
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1, atol=1e-5)
        weights = np.array(copying.decode_teacher_forced(ids).copies.weights)
        assert weights.shape == (3, 3, ids["source_ids"].shape[1])
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
        assert not weights[np.broadcast_to((ids["source_ids"] == PAD_ID)[:, None], weights.shape)].any()
        for more in (1, 3, 6):
            padded = ids | {"source_ids": np.pad(ids["source_ids"], [(0, 0), (0, more)])}
            np.testing.assert_allclose(copying(padded), log_probs, atol=1e-5)

    def test_search_score_loss_and_trace_agree(self, make, toy_tokenizer):
        copying = make("reuse", True)
        for found, text in zip(copying.generate(TEXTS, beam_size=3, max_length=9), TEXTS, strict=True):
            ids = {"source_ids": pad(toy_tokenizer.source.encode([text])), "target_ids": np.array([found[0].token_ids])}
            log_probs = np.array(copying(ids))[0, np.arange(len(found[0].token_ids)), found[0].token_ids]
            np.testing.assert_allclose(found[0].token_log_probs, log_probs, atol=1e-4)
            assert float(copying.loss_and_tokens(ids)[0]) == pytest.approx(-log_probs.sum(), rel=1e-4)
        traced = trace(copying, TEXTS[0], "la kato")
        assert traced.copying.weights.shape == (3, len(traced.source_tokens))
        assert traced.attention.shape == (3, len(traced.memory_tokens))
        ids = {
            "source_ids": pad(toy_tokenizer.source.encode(TEXTS[:1])),
            "target_ids": np.array(toy_tokenizer.target.encode(["la kato"])),
        }
        expected = np.array(copying(ids))[0, np.arange(3), ids["target_ids"][0]]
        np.testing.assert_allclose(traced.log_probs, expected, atol=1e-5)

    def test_a_file_holds_it(self, make, tmp_path):
        copying = make("separate", False)
        copying.save(tmp_path / "model.keras")
        ids = {"source_ids": np.array([[5, 6, 7, 8, 3]]), "target_ids": np.array([[6, 3]])}
        np.testing.assert_array_equal(load(tmp_path / "model.keras")(ids), copying(ids))


def test_a_decoder_copies_from_the_windows_of_its_encoder():
    with pytest.raises(ArgumentError, match="copy_window must be 2"):
        Seq2Seq(Encoder(4, front_end="mean", stride=2), Decoder(9, 6, 8, copy="reuse"))


def test_a_file_holds_all_of_it(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert loaded.encoder.get_config() == model.encoder.get_config()
    assert loaded.encoder.reduction == 4
    ids = {"source_ids": np.array([[5, 6, 7, 8, 3]]), "target_ids": np.array([[6, 3]])}
    np.testing.assert_array_equal(loaded(ids), model(ids))


def test_models_that_join_more_and_fewer_tokens_vote(model, make_model):
    other = make_model(seed=2)
    ensemble = Ensemble([model, other])
    assert len(ensemble.translate(TEXTS)) == 3
    for options in ({"attention": True}, {"coverage_penalty": "wu"}):
        with pytest.raises(ConfigError, match="for models that cut sources into different steps"):
            ensemble.generate(TEXTS, **options)


def test_its_decoder_is_packed(make_model, toy_tokenizer):
    model = make_model(model__copy="reuse", **REDUCED)
    ids = pad(toy_tokenizer.source.encode(TEXTS))
    components = create_components(model, Plan(model.decoding.replaced(precision="bfloat16")))
    assert isinstance(components.decoder, FusedDecoder)
    prepared, state = components.prepare(ids)
    found, expected = (one.step(np.array([5, 6, 7]), state, prepared) for one in (components.decoder, model.decoder))
    np.testing.assert_allclose(found.logits, expected.logits, atol=0.05)
    with pytest.raises(ValueError, match="cannot be had here: the encoder joins source steps"):
        FusedEncoder(model.encoder, np.zeros((9, 16), "float32"), "float32")
