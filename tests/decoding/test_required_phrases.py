"""Required phrases against enumeration of all hypotheses that hold them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.interface import Prefix
from seq2seq.decoding.processors import NoRepeatedNgram
from seq2seq.decoding.required_phrases import RequiredPhrases, best_of_each_bank
from tests.decoding.oracles import END, TableLanguage, assert_found, beam, enumerate_all, ranked, tokens_of

# No phrase, one token, one that overlaps itself, two, two that share a start, two that overlap each other.
PHRASES = [[], [[5]], [[4, 4, 5]], [[4], [5, 1]], [[1, 4], [1, 5]], [[4, 5], [5, 4]]]


def holds(tokens, phrase):
    return any(tokens[i : i + len(phrase)] == tuple(phrase) for i in range(len(tokens) - len(phrase) + 1))


def missing(tokens, phrases):
    """Count the tokens to come if the phrase that is furthest is finished and the others follow in full."""
    absent = [phrase for phrase in phrases if not holds(tokens, phrase)]
    begun = [max(n for n in range(len(p)) if tokens[len(tokens) - n :] == tuple(p[:n])) for p in absent]
    return sum(map(len, absent)) - max(begun, default=0)


def keeps_room(tokens, phrases, limit):
    return all(missing(tokens[:i], phrases) <= limit - i for i in range(len(tokens) + 1)) and all(
        holds(tokens, phrase) for phrase in phrases
    )


def run(language, limits, phrases, **options):
    return beam(language, limits, required=RequiredPhrases.from_lists(phrases), **options)


@pytest.mark.parametrize("n_best", [1, 400])
def test_wide_beam_finds_the_best(n_best):
    language, limits = TableLanguage(sentences=6, vocabulary=6, seed=1), [3, 3, 5, 5, 5, 4]
    hypotheses = run(language, limits, PHRASES, beam_size=400, n_best=n_best)
    for sentence, (limit, phrases) in enumerate(zip(limits, PHRASES, strict=True)):
        everything = enumerate_all(language, sentence, limit)
        held = [item for item in everything if keeps_room(item[0], phrases, limit)]
        assert len(held) > 1
        assert_found(hypotheses, sentence, ranked(language, sentence, held, n_best, length=("average", 1.0)))


@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("groups", [1, 2])
def test_narrow_beam_has_them_all(beam_size, groups):
    language = TableLanguage(sentences=60, vocabulary=9, seed=2, scale=4.0)
    # The required tokens are the least probable of all, and the end is likely at once.
    language.logits[..., [4, 5]] -= 12.0
    language.logits[..., END] += 6.0
    random = np.random.default_rng(3)
    phrases = [
        [random.integers(4, 7, size=random.integers(1, 4)).tolist() for _ in range(random.integers(0, 4))]
        for _ in range(60)
    ]
    needed = [sum(map(len, sentence)) for sentence in phrases]
    for room in (0, 1, 12):
        limits = [max(tokens + room, 1) for tokens in needed]
        # No processor prevents them, not even one that forbids every repeated token.
        options = {"beam_size": beam_size * groups, "beam_groups": groups, "processors": [NoRepeatedNgram(size=1)]}
        hypotheses = run(language, limits, phrases, **options)
        for sentence in range(60):
            (tokens,) = tokens_of(hypotheses, sentence)
            assert 0 < len(tokens) <= limits[sentence]
            assert all(holds(tokens, phrase) for phrase in phrases[sentence])


def test_prefix_comes_first_and_counts():
    language, phrases = TableLanguage(sentences=3, vocabulary=9, seed=4), [[[5, 6]], [[5, 6]], [[7]]]
    prefix = Prefix(tf.constant([[4, 5], [5, 6], [8, 0]]), tf.constant([2, 2, 1]))
    hypotheses = run(language, [4, 2, 2], phrases, beam_size=5, prefix=prefix)
    assert [tokens_of(hypotheses, sentence)[0] for sentence in (1, 2)] == [(5, 6), (8, 7)]
    (tokens,) = tokens_of(hypotheses, 0)
    assert tokens[:2] == (4, 5)
    assert holds(tokens, (5, 6))


def test_start_of_a_longer_word_does_not_count():
    language = TableLanguage(sentences=20, vocabulary=9, seed=5)
    # 7 and 8 continue the word before them, and the model prefers them after 5.
    continues_word = tf.constant(np.isin(np.arange(9), [7, 8]))
    language.logits[..., [7, 8]] += 4.0
    phrases = RequiredPhrases.from_lists([[[4, 5]]] * 20)
    phrases = dataclasses.replace(phrases, continues_word=continues_word)
    for limit in (2, 3, 9):
        hypotheses = beam(language, [limit] * 20, beam_size=4, n_best=4, required=phrases)
        for sentence in range(20):
            for tokens in filter(None, tokens_of(hypotheses, sentence)):
                ends = [i + 2 for i in range(len(tokens)) if tokens[i : i + 2] == (4, 5)]
                assert any(end == len(tokens) or tokens[end] not in (7, 8) for end in ends)


def test_no_room_no_hypothesis():
    language = TableLanguage(sentences=2, vocabulary=9, seed=6)
    hypotheses = run(language, [2, 2], [[[4, 5, 6]], [[4]]], beam_size=3)
    assert tokens_of(hypotheses, 0) == [()]
    assert 4 in tokens_of(hypotheses, 1)[0]


def test_banks_take_turns_fullest_first():
    priorities = tf.constant([[-1.0, -2.0, -3.0, -4.0, -5.0, -np.inf, np.inf, -6.0]])
    banks = tf.constant([[0, 0, 0, 1, 2, 2, 1, 1]])
    # What is kept comes first, and counts as the first of its bank; then 2, 0, and the second ones of 1 and 0.
    for count, expected in ((1, [6]), (2, [6, 4]), (3, [6, 4, 0]), (5, [6, 4, 0, 3, 1]), (7, [6, 4, 0, 3, 1, 7, 2])):
        assert best_of_each_bank(priorities, banks, count)[0].numpy().tolist() == expected
