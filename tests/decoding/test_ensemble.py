"""Ensembles of step functions against averages in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.beam import BeamConfig, beam_search
from seq2seq.decoding.ensemble import ensemble_step
from seq2seq.errors import ArgumentError
from tests.decoding.oracles import IDS, TableLanguage, assert_found, ranked, search_plainly


class Average:
    """Languages as one, in plain Python."""

    def __init__(self, languages, average):
        self.languages, self.average, self.vocabulary = languages, average, languages[0].vocabulary

    def log_probs(self, sentence, tokens):
        each = np.array([language.log_probs(sentence, tokens) for language in self.languages])
        if self.average == "probs":
            return np.log(np.exp(each).mean(axis=0))
        mean = each.mean(axis=0)
        return mean - np.log(np.exp(mean).sum())


@pytest.mark.parametrize("average", ["log_probs", "probs"])
def test_searches_the_average(average):
    languages = [TableLanguage(sentences=6, vocabulary=9, seed=seed) for seed in (1, 2, 3)]
    limits = [6, 2, 5, 1, 7, 4]
    hypotheses = beam_search(
        ensemble_step([language.step() for language in languages], average),
        tuple(language.state() for language in languages),
        BeamConfig(max_steps=limits, beam_size=3, n_best=3, return_attention=True, **IDS),
    )
    together = Average(languages, average)
    for sentence, limit in enumerate(limits):
        found = search_plainly(together, sentence, limit, 3)
        expected = ranked(together, sentence, found, 3, length=("average", 1.0))
        assert_found(hypotheses, sentence, expected)
        tokens = expected[0][1]
        weights = [
            np.mean([one.attention_after(sentence, tokens[:i]) for one in languages], axis=0)
            for i in range(len(tokens))
        ]
        np.testing.assert_allclose(hypotheses.attention_weights[sentence, 0, : len(weights)], weights, rtol=1e-5)


def test_no_attention_where_one_has_none():
    steps = [
        lambda ids, state, weights=weights: (tf.zeros([1, 4]), state, weights) for weights in (tf.ones([1, 2]), None)
    ]
    assert ensemble_step(steps)(tf.constant([2]), ((), ()))[2] is None


@pytest.mark.parametrize(("steps", "average", "argument"), [([], "probs", "steps"), ([None], "logits", "average")])
def test_bad_arguments(steps, average, argument):
    with pytest.raises(ArgumentError, match=f"^{argument} must be"):
        ensemble_step(steps, average)
