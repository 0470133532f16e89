"""Ensembles of step functions against averages in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.beam import beam_search
from seq2seq.decoding.ensemble import ensemble_step
from tests.decoding.oracles import END, START, assert_found, ranked, search_plainly

IDS = {"start_id": START, "end_id": END}


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
def test_a_search_over_several_is_a_search_over_their_average(make_language, average):
    languages = [make_language(sentences=6, vocabulary=9, seed=seed) for seed in (1, 2, 3)]
    limits = [6, 2, 5, 1, 7, 4]
    hypotheses = beam_search(
        ensemble_step([language.step() for language in languages], average),
        tuple(language.state() for language in languages),
        batch_size=6,
        max_steps=limits,
        beam_size=3,
        n_best=3,
        return_attention=True,
        **IDS,
    )
    together = Average(languages, average)
    for sentence, limit in enumerate(limits):
        found = search_plainly(together, sentence, limit, 3)
        expected = ranked(together, sentence, found, 3, length=("average", 1.0))
        assert_found(hypotheses, sentence, expected)
        weights = [np.mean([one.attention_after(sentence, expected[0][1][:i]) for one in languages], axis=0)
                   for i in range(len(expected[0][1]))]  # fmt: skip
        found_weights = hypotheses.attention_weights[sentence, 0, : len(weights)]
        np.testing.assert_allclose(found_weights, weights, rtol=1e-5)


def test_attention_is_missing_where_one_has_none():
    steps = [
        lambda ids, state, weights=weights: (tf.zeros([1, 4]), state, weights) for weights in (tf.ones([1, 2]), None)
    ]
    assert ensemble_step(steps)(tf.constant([2]), ((), ()))[2] is None


@pytest.mark.parametrize(
    ("steps", "average", "message"),
    [
        ([], "probs", "steps must hold at least one step function, but is empty instead"),
        ([None], "logits", "average must be one of log_probs, probs, but is 'logits' instead"),
    ],
)
def test_arguments_that_cannot_be(steps, average, message):
    with pytest.raises(ValueError, match=message):
        ensemble_step(steps, average)
