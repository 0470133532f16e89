"""The recorder: one twin, one search and one pass, whatever is asked of a sentence."""

import pytest

from seq2seq.errors import ArgumentError
from seq2seq.inspection import recorder as recorder_module
from seq2seq.inspection.gradient_flow import flow_of
from seq2seq.inspection.recorder import Recorder
from seq2seq.inspection.report import inspect_sentence
from seq2seq.inspection.unit_probes import LabelledSentence, MarkedText

SOURCE, TARGET = "the girl hears the old king", "la knabino aŭdas la reĝo maljuna"


@pytest.fixture
def counts(monkeypatch, trained):
    """Count twins, searches and passes."""
    found = {"twins": 0, "searches": 0, "passes": 0}

    def counting(name, function):
        def counted(*args, **kwargs):
            found[name] += 1
            return function(*args, **kwargs)

        return counted

    clone = recorder_module.clone_with_implementation
    monkeypatch.setattr(recorder_module, "clone_with_implementation", counting("twins", clone))
    monkeypatch.setattr(type(trained), "generate", counting("searches", type(trained).generate))
    monkeypatch.setattr(Recorder, "_run", counting("passes", Recorder._run))
    return found


def test_an_inspection_is_one_recording(trained, counts):
    inspect_sentence(trained, SOURCE)
    assert counts == {"twins": 1, "searches": 1, "passes": 1}


def test_corpus_and_labels_share_the_twin(trained, counts, toy_pairs):
    corpus = [source for source, _ in toy_pairs[:8]]
    labelled = [LabelledSentence("ab"[number % 2], MarkedText(0, 1, text)) for number, text in enumerate(corpus)]
    inspect_sentence(trained, SOURCE, span="girl", around=0, corpus=corpus, labelled=labelled)
    assert counts["twins"] == 1
    # The sentence, the corpus and the labelled sentences; where decoders are not asked, nothing is translated.
    assert (counts["searches"], counts["passes"]) == (1, 3)


def test_cells_are_released(make_random_model, monkeypatch):
    recorder = Recorder(make_random_model("gru"))
    recorder.record([SOURCE], [TARGET])
    monkeypatch.setattr(type(recorder.raw.decoder), "step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recorder.record([SOURCE], [TARGET])
    assert all(layer.cell.on_step is None for layer in recorder.raw.recurrent_layers.values())


def test_gradients_of_one_sentence_only(make_random_model):
    recorder = Recorder(make_random_model("gru"))
    with pytest.raises(ArgumentError, match="sources must be one sentence with gradients, got 2"):
        recorder.record([SOURCE] * 2, [TARGET] * 2, gradients=True)
    with pytest.raises(ArgumentError, match="gradients must be True"):
        flow_of(recorder.record([SOURCE], [TARGET]))
