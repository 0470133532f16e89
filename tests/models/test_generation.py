"""From strings to hypotheses: order, blanks, limits, scores, attention."""

import numpy as np
import pytest

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ModelFileError, Seq2SeqError
from seq2seq.layers import Decoder, Encoder
from seq2seq.models.results import Hypothesis
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import END_ID


@pytest.fixture(scope="module")
def untrained(make_model):
    """Weights so large that its logits differ, and hypotheses of all lengths: every token is likely somewhere."""
    model = make_model()
    for variable in model.trainable_variables:
        variable.assign(2.5 * variable)
    return model


def log_probs_by_teacher(model, texts, token_ids):
    """Log-probabilities of every token at every step of some targets, from one parallel pass, in float64."""
    ids = {"source_ids": pad(model.tokenizer.source.encode(texts)), "target_ids": pad(token_ids)}
    logits = np.array(model(ids), np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


class TestTranslate:
    def test_knows_what_it_learnt(self, trained, toy_pairs):
        sources, targets = zip(*toy_pairs, strict=True)
        assert trained.translate(sources) == list(targets)

    # One sentence at a time, as many as fit, and all at once: three different mixtures of lengths in a batch.
    @pytest.mark.parametrize("beam_size", [1, 4])
    def test_alone_equals_sixty_four_together(self, trained, untrained, toy_pairs, beam_size):
        for model in (trained, untrained):
            sources = [source for source, _ in toy_pairs[:64]]
            together = model.translate(sources, beam_size=beam_size)
            assert model.translate(sources, beam_size=beam_size, batch_tokens=40) == together
            alone = [model.translate([source], beam_size=beam_size)[0] for source in sources[:16]]
            assert alone == together[:16]
            assert len(set(together)) > 30

    def test_blank_gives_blank(self, trained, toy_pairs):
        (source, target), *_ = toy_pairs
        assert trained.translate(["", source, "  \t", source]) == ["", target, "", target]
        assert trained.translate(["", "  "]) == ["", ""]
        assert trained.translate([]) == []
        assert trained.generate([" "], n_best=2) == [[Hypothesis("", 0.0, 0.0, [END_ID], ["</s>"], [0.0])]]

    def test_says_how_many_sources_are_done(self, trained, toy_pairs):
        sources, counts = ["", *(source for source, _ in toy_pairs[:12]), " "], []
        trained.translate(sources, batch_tokens=30, progress=counts.append)
        assert counts[0] == 2
        assert len(counts) > 4
        assert sum(counts) == len(sources)

    def test_greedy_takes_the_best_token_at_every_step(self, untrained, toy_pairs):
        sources = [source for source, _ in toy_pairs[:24]]
        written = [best.token_ids for (best,) in untrained.generate(sources, beam_size=1)]
        for tokens, log_probs in zip(written, log_probs_by_teacher(untrained, sources, written), strict=True):
            # Padding, the unknown word and the start are never written.
            assert tokens == (log_probs[: len(tokens), END_ID:].argmax(-1) + END_ID).tolist()

    def test_a_string_alone_is_refused(self, trained):
        with pytest.raises(TypeError, match=r"texts must be a list of strings, got 'the cat'"):
            trained.translate("the cat")


class TestHypotheses:
    @pytest.mark.parametrize(("penalty", "alpha"), [("none", 1.0), ("average", 0.5), ("wu", 0.7)])
    def test_scores_are_those_of_the_teacher(self, untrained, toy_pairs, penalty, alpha):
        sources = [source for source, _ in toy_pairs[:8]]
        options = {"length_penalty": penalty, "length_penalty_alpha": alpha, "n_best": 4, "beam_size": 4}
        results = untrained.generate(sources, max_length=12, **options)
        assert {len(hypotheses) for hypotheses in results} == {4}
        found = [one for hypotheses in results for one in hypotheses]
        by_teacher = log_probs_by_teacher(
            untrained, [source for source in sources for _ in range(4)], [one.token_ids for one in found]
        )
        for one, log_probs in zip(found, by_teacher, strict=True):
            length = len(one.token_ids)
            right = log_probs[range(length), one.token_ids].sum()
            np.testing.assert_allclose(one.log_prob, right, rtol=1e-5)
            divisor = {"none": 1.0, "average": length**alpha, "wu": ((5 + length) / 6) ** alpha}[penalty]
            np.testing.assert_allclose(one.score, right / divisor, rtol=1e-5)

    def test_are_different_and_best_first(self, untrained, toy_pairs):
        sources = [source for source, _ in toy_pairs[:20]]
        many = untrained.generate(sources, n_best=5)
        for hypotheses in many:
            scores = [found.score for found in hypotheses]
            assert scores == sorted(scores, reverse=True)
            assert len({tuple(found.token_ids) for found in hypotheses}) == 5
        assert [[found.token_ids for found in one] for one in untrained.generate(sources)] == [
            [hypotheses[0].token_ids] for hypotheses in many
        ]
        assert untrained.translate(sources) == [hypotheses[0].text for hypotheses in many]

    def test_text_is_that_of_the_tokens(self, untrained, toy_pairs):
        for (found,) in untrained.generate([source for source, _ in toy_pairs[:8]]):
            assert found.text == untrained.tokenizer.target.decode([found.token_ids])[0]
            assert END_ID not in found.token_ids[:-1]

    def test_end_at_the_limit(self, untrained, toy_pairs):
        sources = [source for source, _ in toy_pairs[:20]]
        lengths = [len(ids) for ids in untrained.tokenizer.source.encode(sources)]
        longest = []
        for options, limits in (
            ({"max_length_ratio": 1.5, "max_length_extra": 2}, [int(1.5 * length) + 2 for length in lengths]),
            ({"max_length": 3}, [3 for _ in lengths]),
            ({"max_length_ratio": 0.0, "max_length_extra": 1}, [1 for _ in lengths]),
        ):
            found = untrained.generate(sources, beam_size=4, length_penalty_alpha=2.0, **options)
            written = [len(best.token_ids) for (best,) in found]
            assert all(length <= limit for length, limit in zip(written, limits, strict=True))
            longest.append(any(length == limit for length, limit in zip(written, limits, strict=True)))
        assert longest == [True, True, True]

    def test_of_a_limit_below_one_token_have_one(self, trained):
        (found,) = trained.generate(["the cat sees the dog"], max_length_ratio=0.1, max_length_extra=0)[0]
        assert len(found.token_ids) == 1

    def test_of_a_model_without_numbers_are_none(self, make_model):
        model = make_model()
        model.decoder.readout.output_bias.assign(np.full(model.target_vocabulary_size, np.nan))
        with pytest.raises(Seq2SeqError, match=r"no hypothesis was found, since the model's scores are not numbers"):
            model.translate(["the cat"], beam_size=2)


class TestAttention:
    @pytest.mark.parametrize("beam_size", [1, 3])
    def test_weights_of_each_token_are_shares_of_the_source(self, trained, toy_pairs, beam_size):
        sources = [source for source, _ in toy_pairs[:6]]
        lengths = [len(ids) for ids in trained.tokenizer.source.encode(sources)]
        assert len(set(lengths)) > 1
        results = trained.generate(sources, attention=True, beam_size=beam_size, n_best=beam_size)
        for length, hypotheses in zip(lengths, results, strict=True):
            for found in hypotheses:
                assert found.attention_weights.shape == (len(found.token_ids), length)
                assert found.attention_weights.min() >= 0
                np.testing.assert_allclose(found.attention_weights.sum(-1), 1, atol=1e-5)

    def test_weights_are_those_of_the_decoder(self, trained):
        text = "the big cat sees the dog"
        ((found,),) = trained.generate([text], attention=True)
        memory, mask = trained.encode(np.array(trained.tokenizer.source.encode([text]), "int32"))
        prepared = trained.decoder.context.prepare(memory, mask)
        state = trained.decoder.start(prepared)
        for last, weights in zip([2, *found.token_ids], found.attention_weights, strict=False):
            step = trained.decoder.step(np.array([last], "int32"), state, prepared)
            state = step.state
            np.testing.assert_allclose(weights, step.attention_weights[0], atol=1e-5)

    def test_is_none_unless_asked(self, trained, make_model):
        assert trained.generate(["the cat"])[0][0].attention_weights is None
        without = make_model(model__context="last")
        assert without.generate(["the cat"], attention=True)[0][0].attention_weights is None


class TestOptions:
    def test_defaults_are_the_models_own(self, make_model, toy_pairs):
        model = make_model(decoding__beam_size=3, decoding__n_best=3, decoding__max_length=4)
        assert model.decoding == DecodingConfig(beam_size=3, n_best=3, max_length=4)
        hypotheses = model.generate([toy_pairs[0][0]])[0]
        assert len(hypotheses) == 3
        assert max(len(found.token_ids) for found in hypotheses) <= 4

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"beam_sise": 3}, "beam_size"),
            ({"beam_size": 0}, "beam_size must be"),
            ({"length_penalty": "wo"}, "length_penalty must be"),
            ({"n_best": 9}, "n_best must be"),
        ],
    )
    def test_mistakes_are_told(self, trained, options, message):
        with pytest.raises(ValueError, match=message):
            trained.generate(["the cat"], **options)

    def test_strings_need_a_tokenizer(self):
        model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
        for verb in (model.generate, model.translate):
            with pytest.raises(ModelFileError, match=r"tokenizer, but this one has none\. Give Seq2Seq its tokenizer"):
                verb(["the cat"])
