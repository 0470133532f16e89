"""Logits processors, alone and together: every search against plain Python and exhaustive enumeration."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.beam import BeamConfig, beam_search
from seq2seq.decoding.interface import Prefix
from seq2seq.decoding.penalties import Ranking
from seq2seq.decoding.processors import (
    BannedPhrases,
    MinimumLength,
    NoRepeatedNgram,
    OnlyWhereAllowed,
    RepetitionPenalty,
)
from tests.decoding import oracles
from tests.decoding.oracles import END, IDS, PAD, TableLanguage, assert_found, beam, enumerate_all, greedy, ranked


def bans(*sequences, sentences, vocabulary):
    """Build an automaton for sequences of tokens, with one state for each of their places."""
    transitions, states = [], 2
    for sequence in sequences:
        for place, token in enumerate(sequence):
            is_last = place == len(sequence) - 1
            transitions.append((states + place if place else 0, token, -1 if is_last else states + place + 1))
        states += len(sequence)
    table = np.array(transitions, np.int32)
    table[table < 0] = states
    sources, token_ids, targets = (tf.constant(np.tile(column, (sentences, 1))) for column in table.T)
    return BannedPhrases(sources, token_ids, targets, tf.constant(states + 1), tf.zeros([vocabulary], tf.bool))


# By name: the processors for 6 sentences and 6 tokens, and the same in plain Python for each sentence.
PROCESSORS = {
    "minimum length": (
        [MinimumLength(tf.constant([0, 1, 2, 3, 4, 9]), END)],
        lambda sentence: [oracles.minimum_length([0, 1, 2, 3, 4, 9][sentence])],
    ),
    "one token in some sentences": (
        [OnlyWhereAllowed(4, tf.constant([True, False] * 3))],
        lambda sentence: [oracles.banned_sequence(4)] if sentence % 2 else [],
    ),
    "no unigram twice": ([NoRepeatedNgram(size=1)], lambda _: [oracles.no_repeated_ngram(1)]),
    "no bigram twice": ([NoRepeatedNgram(size=2)], lambda _: [oracles.no_repeated_ngram(2)]),
    "no trigram twice": ([NoRepeatedNgram(size=3)], lambda _: [oracles.no_repeated_ngram(3)]),
    "repetition": ([RepetitionPenalty(penalty=tf.constant(1.7))], lambda _: [oracles.repetition_penalty(1.7)]),
    "bans": (
        [bans((4,), (5, 1), (1, 1, 5), sentences=6, vocabulary=6)],
        lambda _: [oracles.banned_sequence(*tokens) for tokens in ((4,), (5, 1), (1, 1, 5))],
    ),
    # Some hypotheses have no token left: they take the end, however short they are.
    "everything": (
        [
            RepetitionPenalty(penalty=tf.constant(1.3)),
            MinimumLength(tf.constant([4, 4, 4, 4, 4, 4]), END),
            NoRepeatedNgram(size=1),
            bans((4,), sentences=6, vocabulary=6),
        ],
        lambda _: [
            oracles.repetition_penalty(1.3),
            oracles.minimum_length(4),
            oracles.no_repeated_ngram(1),
            oracles.banned_sequence(4),
        ],
    ),
}
PREFIX = Prefix(tf.constant([[4, 1], [1, 0], [0, 0], [5, 5], [1, 1], [4, 0]]), tf.constant([2, 1, 0, 2, 2, 1]))
PREFIXES = [(4, 1), (1,), (), (5, 5), (1, 1), (4,)]


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("prefix", [None, PREFIX], ids=["free", "prefix"])
def test_beam_search(name, prefix):
    language, limits = TableLanguage(sentences=6, vocabulary=6, seed=1), [4, 1, 3, 2, 4, 4]
    processors, plain = PROCESSORS[name]
    for size, n_best in ((121, 121), (130, 1), (3, 3)):
        hypotheses = beam(language, limits, beam_size=size, n_best=n_best, processors=processors, prefix=prefix)
        for sentence, limit in enumerate(limits):
            options = {"processors": plain(sentence), "prefix": PREFIXES[sentence] if prefix is not None else ()}
            if size > 3:
                found = enumerate_all(language, sentence, limit, **options)
            else:
                found = oracles.search_plainly(language, sentence, limit, size, **options)
            assert_found(hypotheses, sentence, ranked(language, sentence, found, n_best, length=("average", 1.0)))


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("prefix", [None, PREFIX], ids=["free", "prefix"])
def test_greedy_search(name, prefix):
    language, limits = TableLanguage(sentences=6, vocabulary=6, seed=2), [9, 1, 7, 12, 9, 9]
    processors, plain = PROCESSORS[name]
    hypotheses = greedy(language, limits, processors=processors, prefix=prefix)
    for sentence, limit in enumerate(limits):
        tokens = ()
        while len(tokens) < limit and END not in tokens:
            options = {"processors": plain(sentence), "prefix": PREFIXES[sentence] if prefix is not None else ()}
            gains = oracles.gains_after(language, sentence, tokens, **options)
            tokens += (int(np.argmax(gains)),)
        assert oracles.tokens_of(hypotheses, sentence) == [tokens]
        own = [language.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens)]
        np.testing.assert_allclose(hypotheses.token_log_probs[sentence, 0, : len(tokens)], own, rtol=1e-5)
        np.testing.assert_allclose(hypotheses.log_probs[sentence, 0], sum(own), rtol=1e-5)


def test_log_probs_are_the_models_own():
    language = TableLanguage(sentences=6, vocabulary=6, seed=3)
    ranking = Ranking("none")
    processors = PROCESSORS["repetition"][0]
    hypotheses = beam(language, [5] * 6, beam_size=4, n_best=4, ranking=ranking, processors=processors, prefix=PREFIX)
    is_lower = []
    for sentence in range(6):
        for place, tokens in enumerate(oracles.tokens_of(hypotheses, sentence)):
            own = [language.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens)]
            np.testing.assert_allclose(hypotheses.token_log_probs[sentence, place, : len(tokens)], own, rtol=1e-5)
            assert not np.any(hypotheses.token_log_probs[sentence, place, len(tokens) :])
            np.testing.assert_allclose(hypotheses.log_probs[sentence, place], sum(own), rtol=1e-5)
            is_lower.append(hypotheses.scores[sentence, place] < hypotheses.log_probs[sentence, place] - 1e-3)
    assert np.mean(is_lower) > 0.5


def test_one_graph_and_independent_sentences():
    language = TableLanguage(sentences=6, vocabulary=9, seed=4)
    ids = tf.TensorSpec([None], tf.int32)

    @tf.function(input_signature=[ids, ids, tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def search(sentences, limits, prefix_ids):
        config = BeamConfig(
            max_steps=limits,
            beam_size=4,
            n_best=4,
            processors=[
                RepetitionPenalty(penalty=tf.constant(1.5)), NoRepeatedNgram(size=2), MinimumLength(limits - 2, END)
            ],
            prefix=Prefix(prefix_ids, tf.reduce_sum(tf.cast(prefix_ids != PAD, tf.int32), axis=-1)),
            **IDS,
        )  # fmt: skip
        return beam_search(language.step(), language.state(sentences), config)

    limits, prefixes = np.array([7, 3, 9, 12, 5, 4]), np.array([[4, 5, 6], [7, 0, 0], [0, 0, 0]] * 2)
    together = search(np.arange(6), limits, prefixes)
    for sentence in range(6):
        # Alone, a prefix is not padded to the longest.
        shortest = max(np.count_nonzero(prefixes[sentence]), 1)
        alone = search([sentence], limits[[sentence]], prefixes[[sentence], :shortest])
        assert oracles.tokens_of(alone, 0) == oracles.tokens_of(together, sentence)
        np.testing.assert_allclose(alone.scores[0], together.scores[sentence], rtol=1e-6)
