"""Models whose encoder joins source steps: padding, search, files, and what an attention weight speaks of."""

import numpy as np
import pytest

from seq2seq.errors import ConfigError
from seq2seq.model import Ensemble, load
from seq2seq.model.build import build_model
from seq2seq.text import PAD_ID, pad

TEXTS = ["the big cat sees the dog", "the girl hears the old king today", "the man"]
REDUCED = {
    "model__encoder__front_end": "convolution",
    "model__encoder__stride": 2,
    "model__encoder__kernel_size": 3,
    "model__encoder__num_layers": 2,
    "model__encoder__pyramid": 2,
}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(**REDUCED)


def test_padding_changes_no_logits(model, toy_tokenizer):
    ids = pad(toy_tokenizer.encode_source(TEXTS))
    targets = pad(toy_tokenizer.encode_target(["la kato", "la hundo vidas", "la"]))
    expected = model({"source_ids": ids, "target_ids": targets})
    for more in (1, 2, 3, 9):
        padded = np.pad(ids, [(0, 0), (0, more)], constant_values=PAD_ID)
        np.testing.assert_allclose(model({"source_ids": padded, "target_ids": targets}), expected, atol=1e-6)
    memory, mask = model.encode(ids)
    lengths = np.count_nonzero(ids != PAD_ID, axis=1)
    assert np.count_nonzero(mask, axis=1).tolist() == (-(-lengths // 4)).tolist()
    assert memory.shape[1] == -(-ids.shape[1] // 4) == mask.shape[1]


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 3, "coverage_penalty": "wu", "max_length": 12}])
def test_the_search_finds_what_the_model_says_and_attends_to_windows(model, options):
    hypotheses = [found[0] for found in model.generate(TEXTS, attention=True, n_best=1, **options)]
    assert [found.text for found in hypotheses] == [model.translate([text], **options)[0] for text in TEXTS]
    for text, found in zip(TEXTS, hypotheses, strict=True):
        pieces = model.require_tokenizer().source_pieces(text)
        assert model.memory_tokens(text) == tuple("".join(pieces[at : at + 4]) for at in range(0, len(pieces), 4))
        assert found.attention_weights.shape == (len(found.token_ids), -(-len(pieces) // 4))
        np.testing.assert_allclose(found.attention_weights.sum(axis=-1), 1, atol=1e-5)
        logits = model({"source_ids": pad(model.require_tokenizer().encode_source([text])),
                        "target_ids": np.array([found.token_ids])})  # fmt: skip
        log_probs = np.log(np.exp(logits[0]) / np.exp(logits[0]).sum(axis=-1, keepdims=True))
        np.testing.assert_allclose(log_probs[np.arange(len(found.token_ids)), found.token_ids],
                                   found.token_log_probs, atol=1e-4)  # fmt: skip


def test_a_file_holds_all_of_it(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert loaded.encoder.get_config() == model.encoder.get_config()
    assert loaded.encoder.reduction == 4
    assert loaded.score(TEXTS, TEXTS) == model.score(TEXTS, TEXTS)


def test_models_that_join_more_and_fewer_tokens_vote(model, make_model):
    other = make_model(seed=2)
    ensemble = Ensemble([model, other])
    assert len(ensemble.translate(TEXTS)) == 3
    for options in ({"attention": True}, {"coverage_penalty": "wu"}):
        with pytest.raises(ConfigError, match="join as many of them to a step, but these do not"):
            ensemble.generate(TEXTS, **options)


def test_it_cannot_be_packed(model):
    with pytest.raises(ConfigError, match="packed in bfloat16: the encoder joins source steps"):
        model.translate(TEXTS, precision="bfloat16")


def test_training_teaches_it(model, make_model, toy_config, toy_tokenizer, toy_pairs):
    import keras

    from seq2seq.training import TrainingStep

    step = TrainingStep(
        make_model(**REDUCED), build_model(toy_config(**REDUCED), toy_tokenizer), keras.optimizers.Adam(0.01),
        clip_norm=1.0, ema=0.0,
    )  # fmt: skip
    sources, targets = zip(*toy_pairs[:32], strict=True)
    batch = pad(toy_tokenizer.encode_source(sources)), pad(toy_tokenizer.encode_target(targets))
    losses = [float(step(*batch, 0.01).loss) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]
