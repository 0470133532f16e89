"""Translating in fewer bits: the same translations where the model is sure, and always those of the weights it has."""

import numpy as np
import pytest

from seq2seq.errors import ConfigError
from seq2seq.layers.quantized import has_int8, reasons_against
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
        match=r"decoding\.precision must be float32 .* cell is 'lstm', not 'gru'; the decoder's cell is 'lstm', not 'gru'",
    ):
        model.translate(["the cat"], precision="bfloat16")


def test_without_onednn_there_are_no_8_bits(trained, monkeypatch):
    monkeypatch.setattr("seq2seq.layers.quantized.has_int8", lambda: False)
    assert reasons_against(trained.decoder, "int8") == [
        "TensorFlow has no 8-bit products here, which need an x86 processor with oneDNN on"
    ]
    assert reasons_against(trained.decoder, "bfloat16") == []
