"""Writing with a part of the vocabulary: nothing else is written, and padding and batch change nothing."""

import pytest

import seq2seq
from seq2seq.errors import ConfigError
from seq2seq.models.archive import save
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.generation import Ensemble


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
    with pytest.raises(ConfigError, match=words):
        learned.generate(["the cat"], **options)


def test_whoever_has_none(trained, learned):
    with pytest.raises(ConfigError, match="shortlist must be 0 for a model without a lexicon"):
        trained.translate(["the cat"], shortlist=5)
    with pytest.raises(ConfigError, match="shortlist must be 0 for several models"):
        Ensemble([learned, learned]).translate(["the cat"], shortlist=5)
