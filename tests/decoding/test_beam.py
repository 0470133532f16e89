"""Beam search against exhaustive enumeration, and against a beam search in plain Python."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.penalties import Ranking
from seq2seq.errors import ArgumentError
from tests.decoding.oracles import (
    END,
    PAD,
    START,
    UNKNOWN,
    TableLanguage,
    assert_found,
    beam,
    enumerate_all,
    greedy,
    ranked,
    search_plainly,
)
from tests.decoding.oracles import tokens_of as as_lists

LENGTHS = [
    ("none", 0.0),
    ("average", 0.5),
    ("average", 1.0),
    ("average", 2.0),
    ("wu", 0.6),
    ("wu", 2.0),
    ("reward", 0.7),
    ("reward", 4.0),
]
COVERAGES = [("none", 0.0), ("wu", 0.3), ("summary", 0.4)]
# Every length penalty, and every coverage penalty with some.
PENALTIES = [(length, COVERAGES[0]) for length in LENGTHS] + [
    (length, coverage) for length in (LENGTHS[0], LENGTHS[2], LENGTHS[-1]) for coverage in COVERAGES[1:]
]


def as_ranking(length, coverage, sentences):
    if coverage[0] == "none":
        return Ranking(*length)
    # The last source token of every other sentence is padding.
    mask = np.ones((sentences, 3), bool)
    mask[1::2, 2] = False
    return Ranking(*length, *coverage, source_mask=tf.constant(mask))


def as_penalties(length, coverage, sentence):
    return {"length": length, "coverage": coverage, "source_steps": 3 - sentence % 2}


@pytest.mark.parametrize(("length", "coverage"), PENALTIES)
def test_wide_beam_is_exhaustive(length, coverage):
    language, limits = TableLanguage(sentences=4, vocabulary=6, seed=1), [4, 1, 3, 2]
    hypotheses = beam(language, limits, beam_size=121, n_best=121, ranking=as_ranking(length, coverage, 4))
    for sentence, limit in enumerate(limits):
        penalties = as_penalties(length, coverage, sentence)
        everything = enumerate_all(language, sentence, limit)
        assert_found(hypotheses, sentence, ranked(language, sentence, everything, 121, **penalties))


@pytest.mark.parametrize(("length", "coverage"), PENALTIES)
def test_early_stop_loses_nothing(length, coverage):
    language, limits = TableLanguage(sentences=12, vocabulary=5, seed=2), [4, 5, 6] * 4
    for n_best in (1, 3):
        hypotheses = beam(language, limits, beam_size=130, n_best=n_best, ranking=as_ranking(length, coverage, 12))
        for sentence, limit in enumerate(limits):
            penalties = as_penalties(length, coverage, sentence)
            everything = enumerate_all(language, sentence, limit)
            assert_found(hypotheses, sentence, ranked(language, sentence, everything, n_best, **penalties))


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_narrow_beam(beam_size):
    language, limits = TableLanguage(sentences=10, vocabulary=9, seed=3), list(range(1, 11))
    for length, coverage in PENALTIES:
        options = {"beam_size": beam_size, "n_best": beam_size, "ranking": as_ranking(length, coverage, 10)}
        hypotheses = beam(language, limits, **options)
        for sentence, limit in enumerate(limits):
            found = search_plainly(language, sentence, limit, beam_size)
            penalties = as_penalties(length, coverage, sentence)
            assert_found(hypotheses, sentence, ranked(language, sentence, found, beam_size, **penalties))


@pytest.mark.parametrize("diversity", [0.3, 5.0])
@pytest.mark.parametrize(("beam_size", "groups"), [(4, 2), (6, 3), (3, 3)])
def test_groups_are_diverse(beam_size, groups, diversity):
    language, limits = TableLanguage(sentences=10, vocabulary=9, seed=21), list(range(1, 11))
    options = {"beam_groups": groups, "diversity": diversity, "n_best": beam_size}
    hypotheses = beam(language, limits, beam_size=beam_size, **options)
    for sentence, limit in enumerate(limits):
        found = search_plainly(language, sentence, limit, beam_size, groups, diversity)
        expected = ranked(language, sentence, found, beam_size, length=("average", 1.0))
        assert_found(hypotheses, sentence, expected)
    firsts = [{tokens[0] for tokens in as_lists(hypotheses, sentence)} for sentence in range(10)]
    assert diversity < 5 or all(len(tokens) >= groups for tokens in firsts)


def test_log_probs_without_penalty():
    language = TableLanguage(sentences=3, vocabulary=9, seed=4)
    hypotheses = beam(language, [3, 6, 9], beam_size=4, n_best=4)
    for sentence in range(3):
        for tokens, total in zip(as_lists(hypotheses, sentence), hypotheses.log_probs[sentence], strict=True):
            gains = [language.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens)]
            np.testing.assert_allclose(total, sum(gains), rtol=1e-5)


def test_one_beam_is_greedy_search():
    language = TableLanguage(sentences=20, vocabulary=9, seed=5)
    limits = [1 + sentence % 8 for sentence in range(20)]
    one, other = beam(language, limits, beam_size=1), greedy(language, limits)
    np.testing.assert_array_equal(one.token_ids, other.token_ids)
    np.testing.assert_allclose(one.log_probs, other.log_probs, rtol=1e-6)


def test_finished_hypothesis_never_changes():
    # The end is likely at once, and the other tokens are certain afterwards, so that its beam is always in demand.
    language = TableLanguage(sentences=1, vocabulary=6, seed=6)
    language.logits[:] = -20.0
    language.logits[..., 4] = 0.0
    language.logits[0, language.code(())] = [-20, -20, -20, np.log(0.3), np.log(0.5), np.log(0.2)]
    for limit in (2, 5, 30):
        hypotheses = beam(language, [limit], beam_size=3, n_best=3, ranking=Ranking("none"))
        assert (END,) in as_lists(hypotheses, 0)
        place = as_lists(hypotheses, 0).index((END,))
        np.testing.assert_allclose(hypotheses.log_probs[0, place], np.log(0.3), rtol=1e-5)
        assert as_lists(hypotheses, 0)[0] == (4,) * limit


def test_trailing_hypothesis_may_win():
    # By the mean, (4, 4, 4, END) at log 0.3 overtakes (END,) at log 0.7, which is ahead for three steps.
    language = TableLanguage(sentences=1, vocabulary=5, seed=7)
    language.logits[:] = -30.0
    language.logits[0, language.code(()), [END, 4]] = np.log([0.7, 0.3])
    language.logits[0, language.code((4,)), 4] = 0.0
    language.logits[0, language.code((4, 4)), 4] = 0.0
    language.logits[0, language.code((4, 4, 4)), END] = 0.0
    hypotheses = beam(language, [10], beam_size=2)
    assert as_lists(hypotheses, 0) == [(4, 4, 4, END)]
    hypotheses = beam(language, [10], beam_size=2, ranking=Ranking("none"))
    assert as_lists(hypotheses, 0) == [(END,)]


def test_search_ends_with_its_last_sentence():
    language = TableLanguage(sentences=2, vocabulary=6, seed=8)
    language.logits[:] = -30.0
    language.logits[..., END] = 0.0
    hypotheses = beam(language, [1000, 1000], beam_size=4, ranking=Ranking("none"))
    assert hypotheses.token_ids.shape == (2, 1, 1)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_sentences_are_independent(alpha):
    language, limits = TableLanguage(sentences=9, vocabulary=12, seed=9), [2, 9, 4, 15, 1, 7, 7, 3, 12]
    options = {"beam_size": 4, "n_best": 4, "ranking": Ranking("average", alpha), "return_attention": True}
    together = beam(language, limits, **options)
    reverse = beam(language, limits[::-1], sentences=range(8, -1, -1), **options)
    for sentence, limit in enumerate(limits):
        alone = beam(language, [limit], sentences=[sentence], **options)
        steps = alone.token_ids.shape[2]
        for batch, place in ((together, sentence), (reverse, 8 - sentence)):
            np.testing.assert_array_equal(batch.token_ids[place, :, :steps], alone.token_ids[0])
            np.testing.assert_allclose(batch.scores[place], alone.scores[0], rtol=1e-6)
            np.testing.assert_array_equal(batch.attention_weights[place, :, :steps], alone.attention_weights[0])
            assert not np.any(batch.token_ids[place, :, steps:])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_logits_of_some_columns(beam_size):
    """They are as good as logits of all tokens with minus infinity elsewhere."""
    language, few = TableLanguage(sentences=5, vocabulary=12, seed=23), [END, 5, 6, 7, 11]
    step = language.step()

    class Few:
        # Padded to whole groups, as many as there are candidates.
        columns = tf.constant([*few, *[PAD] * (64 * (beam_size + 4) - len(few))])

        def __call__(self, token_ids, state):
            logits, state, weights = step(token_ids, state)
            is_padding = tf.range(tf.size(self.columns)) >= len(few)
            return tf.where(is_padding, -float("inf"), tf.gather(logits, self.columns, axis=1)), state, weights

    def masked(token_ids, state):
        logits, state, weights = step(token_ids, state)
        is_one = tf.reduce_any(tf.range(12)[:, tf.newaxis] == few, axis=1)
        return tf.where(is_one, logits, -float("inf")), state, weights

    search, options = (greedy, {}) if beam_size == 1 else (beam, {"beam_size": beam_size, "n_best": beam_size})
    found, expected = (search(language, [2, 9, 4, 7, 6], step=one, **options) for one in (Few(), masked))
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.token_log_probs, expected.token_log_probs, rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_finished_sentences_are_removed_without_effect(beam_size):
    language, limits = TableLanguage(sentences=9, vocabulary=12, seed=9), [2, 9, 4, 15, 1, 7, 7, 3, 12]
    search, options = greedy, {}
    if beam_size > 1:
        search, options = beam, {"beam_size": beam_size, "n_best": beam_size, "return_attention": True}
    seen = []

    class Watched(type(language.step_by_place())):
        def for_sentences(self, sentences):
            seen.append(sentences.numpy().tolist())
            return Watched(*super().for_sentences(sentences))

    removed = search(language, limits, step=Watched(*language.step_by_place()), **options)
    step = language.step_by_place()
    together = search(language, limits, step=lambda token_ids, state: step(token_ids, state), **options)
    for values, expected in zip(removed, together, strict=True):
        if expected is not None:
            np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert seen[0] == list(range(9))
    assert 4 not in seen[1]
    assert len(seen) > 3
    assert all(set(later) < set(earlier) for earlier, later in itertools.pairwise(seen))


def test_attention_weights():
    language = TableLanguage(sentences=4, vocabulary=9, seed=10)
    hypotheses = beam(language, [6, 2, 4, 1], beam_size=5, n_best=3, return_attention=True)
    weights = hypotheses.attention_weights.numpy()
    assert weights.shape == (*hypotheses.token_ids.shape, 3)
    for sentence in range(4):
        for place, tokens in enumerate(as_lists(hypotheses, sentence)):
            expected = [language.attention_after(sentence, tokens[:i]) for i in range(len(tokens))]
            np.testing.assert_array_equal(weights[sentence, place, : len(tokens)], expected)
            assert not weights[sentence, place, len(tokens) :].any()
    assert beam(language, [3] * 4, beam_size=2).attention_weights is None


@pytest.mark.parametrize("return_attention", [False, True])
def test_one_graph_for_all_shapes_agrees_with_eager(return_attention):
    language = TableLanguage(sentences=7, vocabulary=9, seed=11)
    options = {"beam_size": 3, "n_best": 2, "return_attention": return_attention}
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2, autograph=False)
    def search(sentences, limits):
        traces.append(None)
        return beam(language, limits, sentences=sentences, **options)

    for sentences, limits in (([0, 1, 2, 3, 4, 5, 6], [5, 4, 8, 2, 7, 1, 3]), ([3], [9])):
        in_graph = search(tf.constant(sentences), tf.constant(limits))
        eager = beam(language, limits, sentences=sentences, **options)
        tf.nest.map_structure(np.testing.assert_array_equal, eager, in_graph)
    assert len(traces) == 1
    loops = [op for op in search.get_concrete_function().graph.get_operations() if "While" in op.type]
    # One takes the steps, one traces back what each hypothesis took.
    assert len(loops) == 2


def test_empty_batch_and_limits_of_zero():
    language = TableLanguage(sentences=2, vocabulary=9, seed=12)
    options = {"beam_size": 3, "n_best": 2, "return_attention": True}
    nothing = beam(language, tf.zeros([0], tf.int32), sentences=[], **options)
    assert nothing.token_ids.shape[:2] == (0, 2)
    hypotheses = beam(language, [0, 3], **options)
    assert as_lists(hypotheses, 0) == [(), ()]
    np.testing.assert_array_equal(hypotheses.scores[0], [0.0, -np.inf])
    assert not np.any(hypotheses.attention_weights[0])
    alone = beam(language, [3], sentences=[1], **options)
    np.testing.assert_array_equal(hypotheses.token_ids[1], alone.token_ids[0])


def test_banned_tokens_keep_their_probability():
    language = TableLanguage(sentences=3, vocabulary=7, seed=13)
    language.logits[..., [PAD, UNKNOWN, START]] += 5.0
    hypotheses = beam(language, [3] * 3, beam_size=85, n_best=85, banned_ids=[UNKNOWN])
    for sentence in range(3):
        everything = enumerate_all(language, sentence, 3, banned=(PAD, START, UNKNOWN))
        assert_found(hypotheses, sentence, ranked(language, sentence, everything, 85, length=("average", 1.0)))


def test_unused_beam_reads_padding():
    language = TableLanguage(sentences=2, vocabulary=1500, seed=19)
    language.logits[..., :3] = language.logits[..., 5:] = -np.inf
    language.logits[..., [END, 4]] = [1.0, 0.0]
    step, read = language.step(), []

    def reading(token_ids, state):
        read.append(token_ids.numpy().reshape(2, 4))
        return step(token_ids, state)

    hypotheses = beam(language, [4, 2], step=reading, beam_size=4, n_best=4)
    assert as_lists(hypotheses, 0) == [(END,), (4, END), (4, 4, END), (4, 4, 4, END)]
    assert set(as_lists(hypotheses, 1)) == {(END,), (4, END), (4, 4), ()}
    assert [sorted(ids[0].tolist()) for ids in read[1:]] == [[PAD, PAD, END, 4]] * 3
    assert [ids[1].tolist().count(4) for ids in read[1:]] == [1, 1, 0]
    assert [ids[1].tolist().count(PAD) for ids in read[1:]] == [2, 2, 4]


def test_bfloat16_logits_are_summed_in_float32():
    language = TableLanguage(sentences=2, vocabulary=9, seed=14)
    language.logits[..., END] = -100.0
    language.logits[:] = tf.cast(tf.cast(language.logits, tf.bfloat16), tf.float32)
    hypotheses = beam(language, [50, 50], step=language.step(tf.bfloat16), beam_size=3)
    assert hypotheses.scores.dtype == tf.float32
    for sentence in range(2):
        (tokens,) = as_lists(hypotheses, sentence)
        assert len(tokens) == 50
        gains = [language.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens)]
        np.testing.assert_allclose(hypotheses.log_probs[sentence, 0], sum(gains), rtol=1e-5)


def test_long_vocabulary():
    language = TableLanguage(sentences=2, vocabulary=1500, seed=15, scale=3.0)
    hypotheses = beam(language, [6, 6], beam_size=4, n_best=4)
    for sentence in range(2):
        expected = ranked(language, sentence, search_plainly(language, sentence, 6, 4), 4, length=("average", 1.0))
        assert_found(hypotheses, sentence, expected)


def test_nan_logits_affect_only_their_sentence():
    language = TableLanguage(sentences=2, vocabulary=9, seed=20)
    alone = beam(language, [7], sentences=[1], beam_size=3, n_best=3)
    language.logits[0] = np.nan
    hypotheses = beam(language, [7, 7], beam_size=3, n_best=3)
    assert as_lists(hypotheses, 0) == [(), (), ()]
    assert np.all(hypotheses.scores[0] == -np.inf)
    assert as_lists(hypotheses, 1) == as_lists(alone, 0)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"beam_size": 0}, "beam_size"),
        ({"n_best": 0}, "n_best"),
        ({"n_best": 4}, "n_best"),
        ({"banned_ids": [END]}, "end_id"),
        ({"beam_groups": 2}, "beam_groups"),
        ({"beam_groups": 0}, "beam_groups"),
        ({"max_steps": [[1], [2]]}, "max_steps"),
        ({"max_steps": [1, 2, 3]}, "state"),
        ({"return_attention": True}, "attention_weights"),
        ({"ranking": Ranking(coverage_penalty="wu", source_mask=tf.ones([2, 3], tf.bool))}, "attention_weights"),
    ],
)
def test_bad_arguments(options, argument):
    language = TableLanguage(sentences=2, vocabulary=9, seed=16)
    step = language.step()
    options = {"max_steps": [2, 2], "beam_size": 3, **options}
    with pytest.raises(ArgumentError, match=f"^{argument} must be"):
        beam(language, step=lambda token_ids, state: (*step(token_ids, state)[:2], None), **options)


def test_a_negative_limit():
    language = TableLanguage(sentences=2, vocabulary=9, seed=17)
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_steps must be at least 0"):
        beam(language, [2, -1], beam_size=3)
