"""Sampling against a loop in NumPy that reads the same random numbers."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.interface import Prefix
from seq2seq.decoding.processors import NoRepeatedNgram
from seq2seq.decoding.sampling import random_numbers, sample_search
from tests.decoding import oracles
from tests.decoding.oracles import END, PAD, START, tokens_of

IDS = {"start_id": START, "end_id": END}


def draw(values, number, top_k, top_p):
    """The token at which the cumulated probability passes the number."""
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
def test_samples_are_those_that_the_numbers_say(make_language, vocabulary, temperature, top_k, top_p):
    language, limits, samples = make_language(sentences=5, vocabulary=vocabulary, seed=1), [9, 1, 4, 7, 9], 3
    numbers = random_numbers(seed=3, sentences=range(5), samples=samples, steps=9)
    prefix = Prefix(tf.constant([[4, 5], [0, 0], [6, 0], [0, 0], [0, 0]]), tf.constant([2, 0, 1, 0, 0]))
    hypotheses = sample_search(
        language.step(),
        language.state(),
        batch_size=5,
        max_steps=limits,
        samples=samples,
        numbers=numbers,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        rules=[NoRepeatedNgram(1)],
        prefix=prefix,
        **IDS,
    )
    for sentence, limit in enumerate(limits):
        expected = []
        for sample in range(samples):
            tokens, total = (), 0.0
            while len(tokens) < limit and END not in tokens:
                forced = [(4, 5), (), (6,), (), ()][sentence]
                options = {"rules": [oracles.no_repeated_ngram(1)], "prefix": forced}
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


def test_tokens_come_as_often_as_they_are_probable():
    probabilities = np.array([0, 0, 0, 0.1, 0.2, 0.3, 0.4], np.float32)
    logits = tf.math.log([probabilities])
    numbers = random_numbers(seed=0, sentences=range(50), samples=200, steps=1)
    hypotheses = sample_search(
        lambda token_ids, state: (tf.repeat(logits, tf.size(token_ids), axis=0), state, None),
        (),
        batch_size=50,
        max_steps=1,
        samples=200,
        numbers=numbers,
        **IDS,
    )
    shares = np.bincount(hypotheses.token_ids.numpy().ravel(), minlength=7) / 10_000
    # Five standard deviations of a share of 10,000.
    np.testing.assert_allclose(shares, probabilities, atol=5 * 0.5 / 100)


def test_numbers_are_functions_of_seed_sentence_sample_and_step():
    numbers = random_numbers(seed=5, sentences=[3, 9, 3], samples=4, steps=6)
    assert numbers.shape == (3, 4, 6)
    np.testing.assert_array_equal(numbers[0], numbers[2])
    np.testing.assert_array_equal(random_numbers(5, [9], 2, 3)[0], numbers[1, :2, :3])
    assert len(np.unique(numbers)) == 2 * 4 * 6
    assert not np.any(random_numbers(6, [3], 4, 6) == numbers[:1])
    assert (numbers >= 0).all()
    assert (numbers < 1).all()


def test_the_largest_number_draws_the_last_token_that_may_be():
    logits = tf.math.log([[0.0, 0.0, 0.0, 1e-7, 0.7, 0.3, 0.0, 0.0]])
    hypotheses = sample_search(
        lambda token_ids, state: (logits, state, None),
        (),
        batch_size=1,
        max_steps=1,
        samples=1,
        numbers=np.full((1, 1, 1), np.nextafter(np.float32(1), np.float32(0))),
        **IDS,
    )
    assert hypotheses.token_ids.numpy().tolist() == [[[5]]]


def test_logits_that_are_not_numbers_give_nothing(make_language):
    language = make_language(sentences=2, vocabulary=9, seed=6)
    language.logits[0] = np.nan
    numbers = random_numbers(0, [0, 1], 2, 5)
    hypotheses = sample_search(
        language.step(), language.state(), batch_size=2, max_steps=5, samples=2, numbers=numbers, **IDS
    )
    assert tokens_of(hypotheses, 0) == [(), ()]
    assert all(tokens and PAD not in tokens for tokens in tokens_of(hypotheses, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, but is 0 instead"),
        ({"top_k": -1}, "top_k must be at least 0, but is -1 instead"),
        ({"temperature": 0.0}, "temperature must be greater than 0, but is 0.0 instead"),
        ({"top_p": 0.0}, "top_p must be greater than 0 and at most 1, but is 0.0 instead"),
        ({"top_p": 1.5}, "top_p must be greater than 0 and at most 1, but is 1.5 instead"),
    ],
)
def test_arguments_that_cannot_be(make_language, options, message):
    language = make_language(sentences=1, vocabulary=9, seed=16)
    arguments = {"batch_size": 1, "max_steps": 2, "samples": 1, "numbers": np.zeros((1, 1, 2)), **IDS, **options}
    with pytest.raises(ValueError, match=message):
        sample_search(language.step(), language.state(), **arguments)
