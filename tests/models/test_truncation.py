"""A model reads of a long source what its recipe says, and tells how much it did not read."""

import pytest

from seq2seq.inspection.trace import trace
from seq2seq.models.archive import load
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.generation import Ensemble

LONG, SHORT = "the big cat sees the old dog today", "the man sees the girl"
OTHER = "the big man hears the wild horse old dog today"
CUT = {"data__truncate": "head_tail", "data__max_source_tokens": 6}


@pytest.fixture(scope="module")
def model(make_model):
    return make_model(**CUT)


@pytest.fixture(scope="module")
def whole(model, make_model):
    other = make_model()
    other.set_weights(model.get_weights())
    return other


def test_the_search_reads_what_is_left(model, whole):
    found = [hypotheses[0] for hypotheses in model.generate([LONG, "", SHORT, OTHER], attention=True)]
    assert [hypothesis.num_truncated_tokens for hypothesis in found] == [3, 0, 0, 5]
    pieces = ["▁the", "▁big", "▁cat", "▁dog", "▁today", "</s>"]
    assert model.source_pieces(LONG) == pieces
    assert model.memory_tokens(LONG) == tuple(pieces)
    read = whole.generate(["the big cat dog today"])[0][0]
    assert found[0].token_ids == read.token_ids
    assert found[0].score == pytest.approx(read.score, abs=1e-5)
    assert found[0].attention_weights.shape == (len(found[0].token_ids), 6)
    assert whole.generate([LONG])[0][0].num_truncated_tokens == 0
    assert Ensemble([whole, model]).generate([LONG, SHORT])[0][0].num_truncated_tokens == 3


def test_scores_and_traces_are_of_what_is_left(model, whole):
    target = "la kato vidas"
    cut, short = model.score([LONG, SHORT], [target, target])
    assert (cut.num_truncated_tokens, short.num_truncated_tokens) == (3, 0)
    assert cut.log_prob == pytest.approx(whole.score(["the big cat dog today"], [target])[0].log_prob, abs=1e-4)
    assert trace(model, LONG, target).source_tokens == ("▁the", "▁big", "▁cat", "▁dog", "▁today", "</s>")


def test_a_file_knows_its_limit(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = load(tmp_path / "model.keras")
    assert loaded.truncation == model.truncation == ("head_tail", 6)
    assert clone_with_implementation(loaded, "raw").encode_sources([LONG]) == model.encode_sources([LONG])
