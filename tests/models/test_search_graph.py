"""Searches on copies of the weights in fewer bits, and with a part of the vocabulary."""

import numpy as np
import pytest

import seq2seq
from seq2seq.errors import ConfigError
from seq2seq.layers.quantized import has_int8, reasons_against
from seq2seq.models.archive import save
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.generation import Ensemble

SOURCES = ["the cat sees the old dog", "the king loves the girl today", "the wild bird finds the man", ""]
PRECISIONS = ["bfloat16", *["int8"] * has_int8()]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_that_is_sure_translates_alike(trained, precision):
    wide = {"beam_size": 3, "n_best": 2, "no_repeat_ngram_size": 3}
    for options in ({"beam_size": 1}, wide):
        plain = trained.generate(SOURCES, attention=True, **options)
        packed = trained.generate(SOURCES, attention=True, precision=precision, **options)
        for expected, found in zip(plain, packed, strict=True):
            assert found[0].text == expected[0].text
            assert found[0].log_prob == pytest.approx(expected[0].log_prob, abs=0.1)
            assert (found[0].attention_weights is None) == (expected[0].attention_weights is None)
    together = Ensemble([trained, trained]).generate(SOURCES, attention=True, precision=precision, **wide)
    assert [found[0].text for found in together] == [found[0].text for found in packed]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_changed_weights_are_packed_again(trained, precision):
    model, expected = clone_with_implementation(trained, "auto"), trained.translate(SOURCES, beam_size=1)
    assert model.translate(SOURCES, beam_size=1, precision=precision) == expected
    weights = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in weights])
    (nothing,) = model.generate(SOURCES[:1], beam_size=1, precision=precision, max_length=3)
    assert nothing[0].log_prob == pytest.approx(len(nothing[0].token_ids) * -np.log(model.target_vocabulary_size))
    model.set_weights(weights)
    assert model.translate(SOURCES, beam_size=1, precision=precision) == expected


def test_a_model_that_cannot_be_packed_says_why(make_model):
    model = make_model(model__encoder__cell="lstm", model__decoder__cell="lstm")
    with pytest.raises(
        ConfigError,
        match=r"decoding\.precision must be float32 .* cell is 'lstm'.*; the decoder's cell is 'lstm', not 'gru'",
    ):
        model.translate(["the cat"], precision="bfloat16")


def test_without_onednn_there_are_no_8_bits(trained, monkeypatch):
    monkeypatch.setattr("seq2seq.layers.quantized.has_int8", lambda: False)
    assert reasons_against(trained.decoder, "int8") == [
        "TensorFlow has no 8-bit products here, which need an x86 processor with oneDNN on"
    ]
    assert reasons_against(trained.decoder, "bfloat16") == []


@pytest.fixture(scope="module")
def pairs(toy_pairs):
    return tuple(zip(*toy_pairs, strict=True))


@pytest.fixture(scope="module")
def learned(trained, pairs):
    model = clone_with_implementation(trained, "auto")
    model.learn_lexicon(*pairs)
    return model


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 3, "precision": "bfloat16"}], ids=str)
def test_with_the_right_words_it_translates_as_without(learned, pairs, options):
    sources = pairs[0][:30]
    expected = learned.translate(sources, **options)
    assert learned.translate(sources, shortlist=128, **options) == expected
    assert [learned.translate([source], shortlist=128, **options)[0] for source in sources[:5]] == expected[:5]


def test_it_writes_with_nothing_else_and_alone_as_in_a_batch(make_model, pairs):
    model = make_model(seed=3, tokenizer__kind="word")
    model.learn_lexicon(*pairs)
    sources = pairs[0][:12]
    options = {"shortlist": 1, "beam_size": 4, "n_best": 4, "max_length": 6}
    together = model.generate(sources, **options)
    for source, found in zip(sources, together, strict=True):
        (ids,) = model.tokenizer.source.encode([source])
        assert {token for one in found for token in one.token_ids} <= set(model.lexicon.shortlist(ids, 1).tolist())
        (alone,) = model.generate([source], **options)
        assert [one.token_ids for one in alone] == [one.token_ids for one in found]
        assert [one.log_prob for one in alone] == pytest.approx([one.log_prob for one in found], abs=1e-4)


def test_the_file_keeps_what_was_learned(learned, pairs, tmp_path):
    model = seq2seq.load(save(learned, tmp_path / "model.keras"))
    assert model.lexicon.to_bytes() == learned.lexicon.to_bytes()
    assert model.translate(pairs[0][:3], shortlist=5) == learned.translate(pairs[0][:3], shortlist=5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shortlist": 129}, "shortlist must be at most 128"),
        ({"shortlist": 5, "min_length": 2}, "shortlist must be 0"),
        ({"shortlist": 5, "prefix": "la"}, "shortlist must be 0"),
        ({"shortlist": 5, "required": [["la"]]}, "shortlist must be 0 for targets with constraints"),
    ],
)
def test_what_does_not_go_with_a_shortlist(learned, options, words):
    with pytest.raises(ValueError, match=words):
        learned.generate(["the cat"], **options)


def test_whoever_has_none(trained, learned):
    with pytest.raises(ConfigError, match="shortlist must be 0 for a model without a lexicon"):
        trained.translate(["the cat"], shortlist=5)
    with pytest.raises(ConfigError, match="shortlist must be 0 for several models"):
        Ensemble([learned, learned]).translate(["the cat"], shortlist=5)
