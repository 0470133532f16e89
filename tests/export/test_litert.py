"""LiteRT: one shape for all sentences, and the translations of the model; in 8 bits nearly so."""

import sys

import pytest

from seq2seq.errors import MissingDependencyError
from seq2seq.export.exporting import export_model
from seq2seq.export.runner import Translator

OPTIONS = {"beam_size": 3, "n_best": 2, "source_steps": 12, "no_repeat_ngram_size": 1}


@pytest.fixture(scope="module")
def sources(toy_pairs):
    return [source for source, _ in toy_pairs[:15]] + ["", "the cat " * 9]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_translates_as_the_model(trained, sources, tmp_path, precision):
    folder = tmp_path / "toy.litert"
    parity = export_model(trained, folder, "litert", sources, precision=precision, **OPTIONS)
    # The last source is too long for the shape of the graph.
    assert parity.sentences == len(sources) - 1
    assert parity.identical >= (1.0 if precision == "float32" else 0.9) * parity.sentences
    translator = Translator(folder)
    expected = trained.generate(sources[:5], attention=True, beam_size=3, n_best=2, no_repeat_ngram_size=1)
    if precision == "float32":
        for ours, theirs in zip(expected, translator.generate(sources[:5], attention=True), strict=True):
            assert [found.text for found in theirs] == [found.text for found in ours]
            assert theirs[0].attention_weights == pytest.approx(ours[0].attention_weights, abs=1e-4)
    for text, options, message in (
        (sources[-1], {}, r"texts\[0\] must have at most 12 tokens, as exported, got 19"),
        (sources[0], {"beam_size": 5}, "beam_size must be 3, as exported, got 5"),
        (sources[0], {"max_length": 999}, "max_length must be less"),
    ):
        with pytest.raises(ValueError, match=message):
            translator.translate([text], **options)


def test_missing_ai_edge_litert(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingDependencyError, match=r"Install it with pip install 'seq2seq\[litert\]'\."):
        export_model(trained, tmp_path / "out", "litert", ["the cat"])
