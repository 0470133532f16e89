"""Every option of the search on a real model of random weights, and what is written in words."""

import itertools
import re

import numpy as np
import pytest

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ArgumentError, ConfigError, DataError
from seq2seq.metrics.translation import chrf
from seq2seq.models.build import build_model
from seq2seq.models.generation import Ensemble
from seq2seq.models.search_graph import Plan, check_decoding
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import END_ID
from seq2seq.text.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(toy_pairs):
    """Subwords, so that most words can be written in many ways."""
    sources, targets = zip(*toy_pairs, strict=True)
    return train_tokenizer(sources, targets, kind="bpe", vocabulary_size=120)


@pytest.fixture(scope="module")
def make_subword_model(toy_config, tokenizer):
    def make(seed=1, **changes) -> Seq2Seq:
        changes = {"tokenizer__kind": "bpe", "tokenizer__vocabulary_size": 120, **changes}
        model = build_model(toy_config(**changes), tokenizer, "float32")
        random = np.random.default_rng(seed)
        model.set_weights([random.normal(scale=0.6, size=weight.shape) for weight in model.get_weights()])
        # It likes what continues a word no more than what begins one, and ends now and then.
        bias = np.zeros(model.target_vocabulary_size)
        bias[END_ID] = 3.0
        model.decoder.readout.output_bias.assign(bias)
        return model

    return make


@pytest.fixture(scope="module")
def model(make_subword_model):
    return make_subword_model()


@pytest.fixture(scope="module")
def sources(toy_pairs):
    return ["cat", "", *(source for source, _ in toy_pairs[:10]), "the big red dog often sees the old king today"]


def texts_of(results):
    return [[found.text for found in hypotheses] for hypotheses in results]


def words_of(text):
    return re.findall(r"\w+", text)


# Each of these is one graph.
OPTIONS = {
    "greedy": {"beam_size": 1, "min_length_ratio": 1.0, "no_repeat_ngram_size": 3, "repetition_penalty": 1.4},
    "coverage": {"coverage_penalty": "wu", "n_best": 3, "length_penalty": "reward", "length_penalty_alpha": 0.4},
    "groups": {"beam_size": 6, "beam_groups": 3, "n_best": 6, "coverage_penalty": "summary", "min_length": 3},
    "samples": {"sample": True, "n_best": 4, "top_k": 30, "top_p": 0.9, "temperature": 0.8, "seed": 3},
    "constraints": {"n_best": 3, "length_penalty": "wu", "no_repeat_ngram_size": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_sentences_are_independent(model, sources, name):
    options = {"max_length_ratio": 1.5, "max_length_extra": 9, **OPTIONS[name]}
    constraints = {}
    if name == "constraints":
        count = len(sources)
        constraints = {
            "prefixes": ["la", "", None, "granda kato"] * (count // 4) + [""] * (count % 4),
            "required": [["birdo"], [], ["kato", "viro amas"]] * (count // 3) + [[]] * (count % 3),
            "banned": [["hundo", "la"], []] * (count // 2) + [[]] * (count % 2),
        }
        constraints["required"][1] = []
    together = model.generate(sources, attention=True, **constraints, **options)
    small = model.generate(sources, attention=True, batch_tokens=1, **constraints, **options)
    places = range(len(sources)) if options.get("sample") else reversed(range(len(sources)))
    order = list(places)
    reordered = model.generate(
        [sources[place] for place in order],
        attention=True,
        batch_tokens=30,
        **{key: [values[place] for place in order] for key, values in constraints.items()},
        **options,
    )
    for place in range(len(sources)):
        for others in (small[place], reordered[order.index(place)]):
            for one, other in zip(together[place], others, strict=True):
                assert one.token_ids == other.token_ids
                np.testing.assert_allclose(one.score, other.score, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(one.token_log_probs, other.token_log_probs, rtol=1e-3, atol=1e-4)
                if one.attention_weights is not None:
                    np.testing.assert_allclose(one.attention_weights, other.attention_weights, atol=1e-4)
                    assert one.alignment == one.attention_weights.argmax(-1).tolist()


@pytest.mark.parametrize("name", OPTIONS)
def test_token_scores_equal_scoring(model, toy_pairs, name):
    texts = [source for source, _ in toy_pairs[10:16]]
    # With attention it is a graph that is there already.
    results = model.generate(texts, attention=True, **OPTIONS[name])
    for hypotheses, text in zip(results, texts, strict=True):
        for found in hypotheses:
            assert len(found.pieces) == len(found.token_ids) == len(found.token_log_probs)
            np.testing.assert_allclose(found.log_prob, sum(found.token_log_probs), rtol=1e-4)
            # Another cut into tokens has another probability.
            if model.tokenizer.target.encode([found.text])[0] == found.token_ids:
                (score,) = model.score([text], [found.text])
                np.testing.assert_allclose(score.token_log_probs, found.token_log_probs, rtol=1e-3, atol=1e-4)


class TestLengths:
    def test_bounds(self, model, toy_pairs):
        texts = [source for source, _ in toy_pairs[:12]]
        for options, least, most in (
            ({"min_length": 6}, lambda _: 6, lambda _: 256),
            ({"min_length_ratio": 1.5}, lambda n: int(1.5 * n), lambda _: 256),
            ({"min_length": 8, "max_length_ratio": 0.0, "max_length_extra": 5}, lambda _: 5, lambda _: 5),
        ):
            for beam_size in (1, 5):
                results = model.generate(texts, beam_size=beam_size, **options)
                for text, (found,) in zip(texts, results, strict=True):
                    source_length = len(model.tokenizer.source.encode([text])[0])
                    assert least(source_length) <= len(found.token_ids) <= most(source_length)

    def test_sentence_without_allowed_tokens_ends(self, model, toy_pairs):
        # Every token but the end is used up or has no place, long before the least length.
        texts = [source for source, _ in toy_pairs[:3]]
        options = {"no_repeat_ngram_size": 1, "min_length": 250, "max_length_ratio": 100.0}
        for (found,) in model.generate(texts, beam_size=1, **options):
            assert len(set(found.token_ids)) == len(found.token_ids)
            assert found.token_ids[-1] == END_ID
            # All but padding, the unknown and the start.
            assert len(found.token_ids) == model.target_vocabulary_size - 3


class TestWords:
    def test_prefixes_start_the_text(self, model, sources):
        prefixes = ["la granda", "", None, "birdo"] * 3 + ["viro"]
        for beam_size in (1, 3):
            results = model.generate(sources, prefixes=prefixes, beam_size=beam_size, prefix="la")
            for (found,), prefix, source in zip(results, prefixes, sources, strict=True):
                assert found.text.startswith(prefix or "la")
                assert source or found.text

    def test_required_phrases_are_in_every_output(self, model, toy_pairs):
        texts = [source for source, _ in toy_pairs[:60]]
        random = np.random.default_rng(4)
        vocabulary = sorted({word for _, target in toy_pairs for word in target.split()})
        required = [
            [" ".join(random.choice(vocabulary, random.integers(1, 4))) for _ in range(random.integers(0, 4))]
            for _ in texts
        ]
        results = model.generate(texts, required=required, n_best=5, max_length_extra=20)
        for hypotheses, phrases in zip(results, required, strict=True):
            for found in hypotheses:
                for phrase in phrases:
                    assert re.search(rf"(?<!\w){phrase}(?!\w)", found.text), (phrase, found.text)

    @pytest.mark.parametrize("beam_size", [1, 5])
    def test_banned_words_are_in_no_output(self, model, toy_pairs, beam_size):
        texts = [source for source, _ in toy_pairs[:40]]
        before = model.generate(texts, beam_size=beam_size)
        # What each would write first, second and last.
        banned = [[words[0], " ".join(words[1:3]), words[-1]] if (words := words_of(found.text)) else []
                  for (found,) in before]  # fmt: skip
        banned = [[phrase for phrase in phrases if phrase] for phrases in banned]
        assert sum(map(len, banned)) > 60
        results = model.generate(texts, banned=banned, beam_size=beam_size)
        for (found,), phrases in zip(results, banned, strict=True):
            for phrase in phrases:
                assert not re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", found.text), (phrase, found.text)

    def test_own_phrases_add_to_the_options(self, model):
        texts = ["the cat", "the dog"]
        found = model.translate(texts, required_phrases=["kato"], required=[["birdo"], []], prefix="viro")
        assert all("kato" in text and text.startswith("viro") for text in found)
        assert "birdo" in found[0]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"required": [[], ["日本"]]}, DataError, r"texts\[1\]: required must be text"),
            ({"required": [[], [" "]]}, DataError, r"texts\[1\]: required must hold words"),
            ({"banned": [[" "], []]}, DataError, r"texts\[0\]: banned must hold words"),
            ({"prefixes": ["", "日本"]}, DataError, r"texts\[1\]: prefix must be text"),
            ({"required": [[]]}, DataError, "required must have an entry for each of 2 texts, got 1"),
            ({"prefixes": "la"}, DataError, "prefixes must have an entry for each of 2 texts, got one string"),
            ({"banned": ["a", []]}, TypeError, r"banned\[0\] must be a list of phrases"),
            ({"required": [[], ["la granda kato"]], "max_length": 3}, DataError, r"texts\[1\]: .* at most 3 tokens"),
            (
                {"required": [["la kato amas"], []], "banned": [["kato"], []]},
                DataError,
                r"texts\[0\]: required must not hold a banned phrase",
            ),
            ({"required_phrases": ["日本"]}, ConfigError, r"decoding\.required_phrases must be text"),
            ({"prefix": "日本"}, ConfigError, r"decoding\.prefix must be text"),
            (
                {"required_phrases": ["la kato"], "banned_phrases": ["kato"]},
                ConfigError,
                r"decoding\.required_phrases must not hold a banned phrase",
            ),
            ({"required": [["kato"], []], "sample": True}, ConfigError, r"decoding\.sample must be false"),
        ],
    )
    def test_refused_constraints(self, model, arguments, error, message):
        with pytest.raises(error, match=message):
            model.generate(["the cat", "the dog"], **arguments)

    def test_an_error_costs_its_own_sentence_only(self, model):
        errors = {}
        required = [["kato"], ["日本"], []]
        texts = ["the cat", "the dog", ""]
        found = model.generate(texts, required=required, on_error=errors.__setitem__)
        assert [len(hypotheses) for hypotheses in found] == [1, 0, 1]
        assert found[0] == model.generate(texts[:1], required=required[:1])[0]
        assert list(errors) == [1]
        assert str(errors[1]).startswith("required must be text")

    def test_banned_phrase_outside_the_vocabulary(self, model):
        assert model.translate(["the cat"], banned=[["日本"]]) == model.translate(["the cat"])


class TestSamples:
    def test_depend_on_seed_and_place_alone(self, model, toy_pairs):
        texts = [source for source, _ in toy_pairs[:6]]
        options = {"sample": True, "n_best": 9}
        first = model.generate(texts, **options)
        assert model.generate(texts, **options) == first
        assert model.generate(texts, seed=1, **options) != first
        # A stream that comes in pieces, and fewer samples of the same.
        assert texts_of(model.generate(texts[4:], first_index=4, **options)) == texts_of(first)[4:]
        single = texts_of(model.generate(texts, sample=True))
        assert all(one in nine for (one,), nine in zip(single, texts_of(first), strict=True))
        assert len({one for (one,) in texts_of(model.generate(["the cat"] * 6, sample=True))}) > 1

    def test_consensus_agrees_most_with_all(self, model, toy_pairs):
        texts = [source for source, _ in toy_pairs[:4]]
        options = {"sample": True, "temperature": 0.5, "seed": 2}
        samples = model.generate(texts, n_best=9, **options)
        for found, drawn in zip(model.generate(texts, n_best=2, mbr_samples=9, **options), samples, strict=True):
            worth = {
                one.text: np.mean([chrf([one.text], [other.text]).value for other in drawn]) if one.text else 0.0
                for one in drawn
                if all(other.text for other in drawn)
            }
            if worth:
                best = sorted(worth, key=worth.get, reverse=True)
                np.testing.assert_allclose(found[0].score, worth[best[0]], rtol=1e-5)
                np.testing.assert_allclose(worth[found[0].text], worth[best[0]], rtol=1e-5)
            assert len({one.text for one in found}) == len(found)


class TestEnsemble:
    def test_of_equal_models_is_the_model(self, model, toy_pairs):
        texts = [source for source, _ in toy_pairs[:8]]
        alone = model.generate(texts, attention=True, n_best=2)
        for average in ("log_probs", "probs"):
            together = Ensemble([model, model], average).generate(texts, attention=True, n_best=2)
            pairs = zip(itertools.chain(*alone), itertools.chain(*together), strict=True)
            for one, other in pairs:
                assert one.token_ids == other.token_ids
                np.testing.assert_allclose(one.score, other.score, rtol=1e-4)
                np.testing.assert_allclose(one.attention_weights, other.attention_weights, atol=1e-5)

    def test_of_two_scores_as_their_mean(self, model, make_subword_model, toy_pairs):
        texts = [source for source, _ in toy_pairs[:8]]
        other = make_subword_model(seed=2, model__encoder__cell="lstm", model__context="last")
        together = Ensemble([model, other], "probs")
        assert together.decoding == model.decoding
        for text, (found,) in zip(texts, together.generate(texts, beam_size=3), strict=True):
            each = [one.score([text], [found.text])[0] for one in (model, other)]
            if each[0].pieces == found.pieces:
                mean = np.log(np.mean(np.exp([score.token_log_probs for score in each]), axis=0))
                np.testing.assert_allclose(found.token_log_probs, mean, rtol=1e-3, atol=1e-4)
        assert together.generate(texts[:1], attention=True, beam_size=3)[0][0].attention_weights is None
        with pytest.raises(ConfigError, match=r"coverage_penalty must be none for a model without attention"):
            together.translate(texts[:1], coverage_penalty="wu")

    def test_needs_one_target_vocabulary(self, model, make_model):
        with pytest.raises(ValueError, match="models must be models that share one target vocabulary"):
            Ensemble([model, make_model()])
        with pytest.raises(ValueError, match="average must be one of log_probs, probs, got 'mean'"):
            Ensemble([model], "mean")


def test_one_graph_serves_all_numbers(make_subword_model):
    model = make_subword_model()
    for alpha, penalty, least in ((0.5, 1.2, 3), (1.0, 1.5, 4)):
        options = {"repetition_penalty": penalty, "min_length": least, "max_length": 20 + least}
        model.generate(["the cat", "the big dog"], length_penalty_alpha=alpha, **options)
        model.generate(["the cat"], length_penalty_alpha=alpha, **options)
    assert sum(isinstance(key, Plan) for key in model._inference._values) == 1


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"n_best": 6}, "n_best"),
        ({"beam_groups": 2}, "beam_groups"),
        ({"temperature": 0.5}, "temperature"),
        ({"sample": True, "coverage_penalty": "wu"}, "coverage_penalty"),
        ({"sample": True, "mbr_samples": 3, "n_best": 4}, "n_best"),
        ({"max_length_ratio": 0.0, "max_length_extra": 0}, "max_length_extra"),
        ({"min_length": 300}, "min_length"),
        ({"shortlist": 5, "min_length": 3}, "shortlist"),
    ],
)
def test_settings_that_exclude_each_other(settings, argument):
    with pytest.raises(ArgumentError, match=f"^{argument} must be"):
        check_decoding(DecodingConfig(**settings))
