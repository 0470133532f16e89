"""Greedy search against a loop in plain Python, and sampling against one that reads the same random numbers."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.interface import Prefix, SearchConfig
from seq2seq.decoding.processors import NoRepeatedNgram
from seq2seq.decoding.sampling import SamplingConfig, greedy_search, random_numbers, sample_search
from seq2seq.errors import ArgumentError
from tests.decoding import oracles
from tests.decoding.oracles import END, IDS, PAD, START, UNKNOWN, TableLanguage, greedy, tokens_of


class TestGreedy:
    @pytest.mark.parametrize(("vocabulary", "banned"), [(8, []), (8, [UNKNOWN, 5]), (1500, [UNKNOWN])])
    def test_best_token_at_every_step(self, vocabulary, banned):
        language, limits = TableLanguage(sentences=10, vocabulary=vocabulary, seed=1), list(range(1, 11))
        language.logits[..., [PAD, START]] += 2.0
        hypotheses = greedy(language, limits, banned_ids=banned, return_attention=True)
        assert hypotheses.token_ids.shape == (10, 1, max(hypotheses.lengths[:, 0].numpy()))
        for sentence, limit in enumerate(limits):
            ((tokens, total),) = oracles.search_plainly(language, sentence, limit, 1, banned=[PAD, START, *banned])
            assert tokens_of(hypotheses, sentence) == [tokens]
            np.testing.assert_allclose(hypotheses.scores[sentence, 0], total, rtol=1e-5)
            np.testing.assert_allclose(hypotheses.log_probs[sentence, 0], total, rtol=1e-5)
            weights = hypotheses.attention_weights.numpy()[sentence, 0]
            expected = [language.attention_after(sentence, tokens[:i]) for i in range(len(tokens))]
            np.testing.assert_array_equal(weights[: len(tokens)], expected)
            assert not weights[len(tokens) :].any()

    def test_one_graph_for_all_shapes(self):
        language = TableLanguage(sentences=5, vocabulary=9, seed=2)
        traces = []

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2, autograph=False)
        def search(sentences, limits):
            traces.append(None)
            return greedy_search(language.step(), language.state(sentences), SearchConfig(max_steps=limits, **IDS))

        for sentences, limits in (([0, 1, 2, 3, 4], [5, 4, 0, 2, 7]), ([3], [9]), ([], [])):
            hypotheses = search(tf.constant(sentences, tf.int32), tf.constant(limits, tf.int32))
            assert hypotheses.attention_weights is None
            for place, (sentence, limit) in enumerate(zip(sentences, limits, strict=True)):
                ((tokens, total),) = oracles.search_plainly(language, sentence, limit, 1)
                assert tokens_of(hypotheses, place) == [tokens]
                np.testing.assert_allclose(hypotheses.scores[place, 0], total, rtol=1e-5)
        assert len(traces) == 1

    def test_other_special_ids(self):
        language, limits = TableLanguage(sentences=4, vocabulary=9, seed=3), [6, 20, 20, 20]
        language.logits[..., [7, 8]] += 9.0
        hypotheses = greedy(language, limits, start_id=8, end_id=0, pad_id=7)
        for row, length, limit in zip(hypotheses.token_ids[:, 0], hypotheses.lengths[:, 0], limits, strict=True):
            tokens = row[:length].numpy().tolist()
            assert not {7, 8} & set(tokens)
            assert tokens[-1] == 0 or length == limit
            assert np.all(row[length:] == 7)

    def test_finished_sentence_reads_padding(self):
        read = []

        def count_up(token_ids, state):
            read.append(token_ids.numpy().tolist())
            return tf.one_hot(token_ids + state[:, 0], 12), state, None

        config = SearchConfig(max_steps=[5, 5, 2], start_id=4, end_id=8)
        greedy_search(count_up, tf.constant([[1], [2], [1]]), config)
        assert read == [[4, 4, 4], [5, 6, 5], [6, 8, 6], [7, PAD, PAD]]


def draw_samples(language, limits, numbers, **options):
    config = SamplingConfig(max_steps=limits, samples=numbers.shape[1], numbers=numbers, **IDS, **options)
    return sample_search(language.step(), language.state(), config)


def draw(values, number, top_k, top_p):
    """Return the token at which the cumulative probability exceeds the number."""
    tokens = np.arange(len(values))
    if top_k or top_p is not None:
        tokens = tokens[np.argsort(-values, kind="stable")][: top_k or None]
    probabilities = np.exp(values[tokens] - values.max())
    probabilities /= probabilities.sum()
    if top_p is not None:
        kept = np.searchsorted(np.cumsum(probabilities), top_p) + 1
        tokens, probabilities = tokens[:kept], probabilities[:kept] / probabilities[:kept].sum()
    return int(tokens[np.argmax(np.cumsum(probabilities) > number)])


@pytest.mark.parametrize("vocabulary", [7, 1500])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, None), (0.5, 0, None), (1.0, 3, None), (2.0, 0, 0.7), (1.3, 4, 0.9)]
)
def test_samples_follow_the_numbers(vocabulary, temperature, top_k, top_p):
    language, limits, samples = TableLanguage(sentences=5, vocabulary=vocabulary, seed=1), [9, 1, 4, 7, 9], 3
    numbers = random_numbers(seed=3, sentences=range(5), samples=samples, steps=9)
    prefix = Prefix(tf.constant([[4, 5], [0, 0], [6, 0], [0, 0], [0, 0]]), tf.constant([2, 0, 1, 0, 0]))
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "prefix": prefix}
    hypotheses = draw_samples(language, limits, numbers, processors=[NoRepeatedNgram(size=1)], **options)
    for sentence, limit in enumerate(limits):
        expected = []
        for sample in range(samples):
            tokens, total = (), 0.0
            while len(tokens) < limit and END not in tokens:
                forced = [(4, 5), (), (6,), (), ()][sentence]
                options = {"processors": [oracles.no_repeated_ngram(1)], "prefix": forced}
                gains = oracles.gains_after(language, sentence, tokens, **options) / temperature
                is_forced = len(tokens) < len(forced)
                token = (
                    forced[len(tokens)]
                    if is_forced
                    else draw(gains, numbers[sentence, sample, len(tokens)], top_k, top_p)
                )
                total += language.log_probs(sentence, tokens)[token]
                tokens += (token,)
            expected.append((total, tokens))
        expected.sort(key=lambda item: -item[0])
        assert tokens_of(hypotheses, sentence) == [tokens for _, tokens in expected]
        np.testing.assert_allclose(hypotheses.scores[sentence], [total for total, _ in expected], rtol=1e-4)


def test_frequencies_are_probabilities():
    probabilities = np.array([0, 0, 0, 0.1, 0.2, 0.3, 0.4], np.float32)
    logits = tf.math.log([probabilities])
    numbers = random_numbers(seed=0, sentences=range(50), samples=200, steps=1)
    hypotheses = sample_search(
        lambda token_ids, state: (tf.repeat(logits, tf.size(token_ids), axis=0), state, None),
        (),
        SamplingConfig(max_steps=[1] * 50, samples=200, numbers=numbers, **IDS),
    )
    shares = np.bincount(hypotheses.token_ids.numpy().ravel(), minlength=7) / 10_000
    # Five standard deviations of a share of 10,000.
    np.testing.assert_allclose(shares, probabilities, atol=5 * 0.5 / 100)


def test_random_numbers():
    numbers = random_numbers(seed=5, sentences=[3, 9, 3], samples=4, steps=6)
    assert numbers.shape == (3, 4, 6)
    np.testing.assert_array_equal(numbers[0], numbers[2])
    np.testing.assert_array_equal(random_numbers(5, [9], 2, 3)[0], numbers[1, :2, :3])
    assert len(np.unique(numbers)) == 2 * 4 * 6
    assert not np.any(random_numbers(6, [3], 4, 6) == numbers[:1])
    assert (numbers >= 0).all()
    assert (numbers < 1).all()


def test_largest_number_draws_the_last_possible_token():
    logits = tf.math.log([[0.0, 0.0, 0.0, 1e-7, 0.7, 0.3, 0.0, 0.0]])
    numbers = np.full((1, 1, 1), np.nextafter(np.float32(1), np.float32(0)))
    config = SamplingConfig(max_steps=[1], samples=1, numbers=numbers, **IDS)
    hypotheses = sample_search(lambda token_ids, state: (logits, state, None), (), config)
    assert hypotheses.token_ids.numpy().tolist() == [[[5]]]


def test_nan_logits():
    language = TableLanguage(sentences=2, vocabulary=9, seed=6)
    language.logits[0] = np.nan
    numbers = random_numbers(0, [0, 1], 2, 5)
    hypotheses = draw_samples(language, [5, 5], numbers)
    assert tokens_of(hypotheses, 0) == [(), ()]
    assert all(tokens and PAD not in tokens for tokens in tokens_of(hypotheses, 1))


@pytest.mark.parametrize(
    ("argument", "value"), [("samples", 0), ("top_k", -1), ("temperature", 0.0), ("top_p", 0.0), ("top_p", 1.5)]
)
def test_bad_arguments(argument, value):
    arguments = {"max_steps": [2], "samples": 1, "numbers": np.zeros((1, 1, 2)), **IDS, argument: value}
    with pytest.raises(ArgumentError, match=f"^{argument} must be"):
        SamplingConfig(**arguments)
