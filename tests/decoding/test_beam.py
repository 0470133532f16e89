"""Beam search against exhaustive enumeration, and against a beam search in plain Python."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.beam import beam_search
from seq2seq.decoding.sampling import greedy_search
from tests.decoding.oracles import (
    END,
    PAD,
    START,
    UNKNOWN,
    assert_found,
    enumerate_all,
    ranked,
    search_plainly,
)
from tests.decoding.oracles import tokens_of as as_lists

IDS = {"start_id": START, "end_id": END}
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


def as_options(length, coverage, sentences):
    options = {"length_penalty_kind": length[0], "length_penalty": length[1]}
    if coverage[0] != "none":
        # The last source token of every other sentence is padding.
        mask = np.ones((sentences, 3), bool)
        mask[1::2, 2] = False
        options |= {
            "coverage_penalty_kind": coverage[0], "coverage_penalty": coverage[1], "source_mask": tf.constant(mask)
        }  # fmt: skip
    return options


def as_penalties(length, coverage, sentence):
    return {"length": length, "coverage": coverage, "source_steps": 3 - sentence % 2}


def run(language, *, max_steps, sentences=None, **options):
    state = language.state(sentences)
    batch = len(state["sentence"])
    return beam_search(language.step(), state, batch_size=batch, max_steps=max_steps, **IDS, **options)


@pytest.mark.parametrize(("length", "coverage"), PENALTIES)
def test_a_wide_beam_finds_what_enumeration_finds(make_language, length, coverage):
    language, limits = make_language(sentences=4, vocabulary=6, seed=1), [4, 1, 3, 2]
    hypotheses = run(language, max_steps=limits, beam_size=121, n_best=121, **as_options(length, coverage, 4))
    for sentence, limit in enumerate(limits):
        penalties = as_penalties(length, coverage, sentence)
        everything = enumerate_all(language, sentence, limit)
        assert_found(hypotheses, sentence, ranked(language, sentence, everything, 121, **penalties))


@pytest.mark.parametrize(("length", "coverage"), PENALTIES)
def test_stopping_early_loses_nothing(make_language, length, coverage):
    language, limits = make_language(sentences=12, vocabulary=5, seed=2), [4, 5, 6] * 4
    for n_best in (1, 3):
        options = as_options(length, coverage, 12)
        hypotheses = run(language, max_steps=limits, beam_size=130, n_best=n_best, **options)
        for sentence, limit in enumerate(limits):
            penalties = as_penalties(length, coverage, sentence)
            everything = enumerate_all(language, sentence, limit)
            assert_found(hypotheses, sentence, ranked(language, sentence, everything, n_best, **penalties))


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_a_narrow_beam_finds_what_a_plain_search_finds(make_language, beam_size):
    language, limits = make_language(sentences=10, vocabulary=9, seed=3), list(range(1, 11))
    for length, coverage in PENALTIES:
        options = as_options(length, coverage, 10)
        hypotheses = run(language, max_steps=limits, beam_size=beam_size, n_best=beam_size, **options)
        for sentence, limit in enumerate(limits):
            found = search_plainly(language, sentence, limit, beam_size)
            penalties = as_penalties(length, coverage, sentence)
            assert_found(hypotheses, sentence, ranked(language, sentence, found, beam_size, **penalties))


@pytest.mark.parametrize("diversity", [0.3, 5.0])
@pytest.mark.parametrize(("beam_size", "groups"), [(4, 2), (6, 3), (3, 3)])
def test_groups_avoid_what_those_before_them_take(make_language, beam_size, groups, diversity):
    language, limits = make_language(sentences=10, vocabulary=9, seed=21), list(range(1, 11))
    options = {"length_penalty": 1.0, "groups": groups, "diversity": diversity, "n_best": beam_size}
    hypotheses = run(language, max_steps=limits, beam_size=beam_size, **options)
    for sentence, limit in enumerate(limits):
        found = search_plainly(language, sentence, limit, beam_size, groups, diversity)
        expected = ranked(language, sentence, found, beam_size, length=("average", 1.0))
        assert_found(hypotheses, sentence, expected)
    firsts = [{tokens[0] for tokens in as_lists(hypotheses, sentence)} for sentence in range(10)]
    assert diversity < 5 or all(len(tokens) >= groups for tokens in firsts)


def test_log_probs_are_the_sums_without_the_penalty(make_language):
    language = make_language(sentences=3, vocabulary=9, seed=4)
    hypotheses = run(language, max_steps=[3, 6, 9], beam_size=4, n_best=4, length_penalty=1.0)
    for sentence in range(3):
        for tokens, total in zip(as_lists(hypotheses, sentence), hypotheses.log_probs[sentence], strict=True):
            gains = [language.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens)]
            np.testing.assert_allclose(total, sum(gains), rtol=1e-5)


def test_one_beam_is_greedy_search(make_language):
    language = make_language(sentences=20, vocabulary=9, seed=5)
    limits = [1 + sentence % 8 for sentence in range(20)]
    beam = run(language, max_steps=limits, beam_size=1)
    greedy = greedy_search(language.step(), language.state(), batch_size=20, max_steps=limits, **IDS)
    np.testing.assert_array_equal(beam.token_ids, greedy.token_ids)
    np.testing.assert_allclose(beam.log_probs, greedy.log_probs, rtol=1e-6)


def test_a_finished_hypothesis_never_changes(make_language):
    # The end is likely at once, and what goes on is certain at every step, so that its place is never wanted less.
    language = make_language(sentences=1, vocabulary=6, seed=6)
    language.logits[:] = -20.0
    language.logits[..., 4] = 0.0
    language.logits[0, language.code(())] = [-20, -20, -20, np.log(0.3), np.log(0.5), np.log(0.2)]
    for limit in (2, 5, 30):
        hypotheses = run(language, max_steps=limit, beam_size=3, n_best=3, length_penalty=0.0)
        assert (END,) in as_lists(hypotheses, 0)
        place = as_lists(hypotheses, 0).index((END,))
        np.testing.assert_allclose(hypotheses.log_probs[0, place], np.log(0.3), rtol=1e-5)
        assert as_lists(hypotheses, 0)[0] == (4,) * limit


def test_a_hypothesis_that_is_behind_may_win_in_the_end(make_language):
    # By the mean, (4, 4, 4, END) at log 0.3 overtakes (END,) at log 0.7, which is ahead for three steps.
    language = make_language(sentences=1, vocabulary=5, seed=7)
    language.logits[:] = -30.0
    language.logits[0, language.code(()), [END, 4]] = np.log([0.7, 0.3])
    language.logits[0, language.code((4,)), 4] = 0.0
    language.logits[0, language.code((4, 4)), 4] = 0.0
    language.logits[0, language.code((4, 4, 4)), END] = 0.0
    hypotheses = run(language, max_steps=10, beam_size=2, length_penalty=1.0)
    assert as_lists(hypotheses, 0) == [(4, 4, 4, END)]
    hypotheses = run(language, max_steps=10, beam_size=2, length_penalty=0.0)
    assert as_lists(hypotheses, 0) == [(END,)]


def test_the_search_ends_with_its_last_sentence(make_language):
    language = make_language(sentences=2, vocabulary=6, seed=8)
    language.logits[:] = -30.0
    language.logits[..., END] = 0.0
    hypotheses = run(language, max_steps=1000, beam_size=4, length_penalty=0.0)
    assert hypotheses.token_ids.shape == (2, 1, 1)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_sentence_does_not_depend_on_its_company(make_language, alpha):
    language, limits = make_language(sentences=9, vocabulary=12, seed=9), [2, 9, 4, 15, 1, 7, 7, 3, 12]
    options = {"beam_size": 4, "n_best": 4, "length_penalty": alpha, "return_attention": True}
    together = run(language, max_steps=limits, **options)
    reverse = run(language, max_steps=limits[::-1], sentences=range(8, -1, -1), **options)
    for sentence, limit in enumerate(limits):
        alone = run(language, max_steps=[limit], sentences=[sentence], **options)
        steps = alone.token_ids.shape[2]
        for batch, place in ((together, sentence), (reverse, 8 - sentence)):
            np.testing.assert_array_equal(batch.token_ids[place, :, :steps], alone.token_ids[0])
            np.testing.assert_allclose(batch.scores[place], alone.scores[0], rtol=1e-6)
            np.testing.assert_array_equal(batch.attention_weights[place, :, :steps], alone.attention_weights[0])
            assert not np.any(batch.token_ids[place, :, steps:])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_logits_of_some_tokens_find_what_those_of_all_find_with_the_others_at_minus_infinity(make_language, beam_size):
    language, few = make_language(sentences=5, vocabulary=12, seed=23), [END, 5, 6, 7, 11]
    step = language.step()

    class Few:
        # Filled up to whole groups, as many as there are candidates.
        columns = tf.constant([*few, *[PAD] * (64 * (beam_size + 4) - len(few))])

        def __call__(self, token_ids, state):
            logits, state, weights = step(token_ids, state)
            is_filling = tf.range(tf.size(self.columns)) >= len(few)
            return tf.where(is_filling, -float("inf"), tf.gather(logits, self.columns, axis=1)), state, weights

    def masked(token_ids, state):
        logits, state, weights = step(token_ids, state)
        is_one = tf.reduce_any(tf.range(12)[:, tf.newaxis] == few, axis=1)
        return tf.where(is_one, logits, -float("inf")), state, weights

    arguments = {"batch_size": 5, "max_steps": [2, 9, 4, 7, 6], **IDS}
    if beam_size > 1:
        arguments |= {"beam_size": beam_size, "n_best": beam_size}
    search = beam_search if beam_size > 1 else greedy_search
    found, expected = (search(one, language.state(), **arguments) for one in (Few(), masked))
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.token_log_probs, expected.token_log_probs, rtol=1e-5)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_sentences_that_are_done_leave_the_loop_and_the_others_find_what_they_find_with_them(make_language, beam_size):
    language, limits = make_language(sentences=9, vocabulary=12, seed=9), [2, 9, 4, 15, 1, 7, 7, 3, 12]
    arguments = {"batch_size": 9, "max_steps": limits, **IDS}
    if beam_size > 1:
        arguments |= {"beam_size": beam_size, "n_best": beam_size, "return_attention": True}
    search = beam_search if beam_size > 1 else greedy_search
    seen = []

    class Watched(type(language.step_by_place())):
        def for_sentences(self, sentences):
            seen.append(sentences.numpy().tolist())
            return Watched(*super().for_sentences(sentences))

    left = search(Watched(*language.step_by_place()), language.state(), **arguments)
    step = language.step_by_place()
    together = search(lambda token_ids, state: step(token_ids, state), language.state(), **arguments)
    for values, expected in zip(left, together, strict=True):
        if expected is not None:
            np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert seen[0] == list(range(9))
    assert 4 not in seen[1]
    assert len(seen) > 3
    assert all(set(later) < set(earlier) for earlier, later in itertools.pairwise(seen))


def test_attention_weights_belong_to_the_tokens(make_language):
    language = make_language(sentences=4, vocabulary=9, seed=10)
    hypotheses = run(language, max_steps=[6, 2, 4, 1], beam_size=5, n_best=3, return_attention=True)
    weights = hypotheses.attention_weights.numpy()
    assert weights.shape == (*hypotheses.token_ids.shape, 3)
    for sentence in range(4):
        for place, tokens in enumerate(as_lists(hypotheses, sentence)):
            expected = [language.attention_after(sentence, tokens[:i]) for i in range(len(tokens))]
            np.testing.assert_array_equal(weights[sentence, place, : len(tokens)], expected)
            assert not weights[sentence, place, len(tokens) :].any()
    assert run(language, max_steps=3, beam_size=2).attention_weights is None


@pytest.mark.parametrize("return_attention", [False, True])
def test_one_graph_serves_all_shapes_and_agrees_with_eager(make_language, return_attention):
    language = make_language(sentences=7, vocabulary=9, seed=11)
    options = {"beam_size": 3, "n_best": 2, "return_attention": return_attention, **IDS}
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2, autograph=False)
    def search(sentences, limits):
        traces.append(None)
        rows = tf.shape(sentences)[0]
        state = {"sentence": sentences, "history": (tf.zeros([rows, 1], tf.int32),)}
        return beam_search(language.step(), state, batch_size=rows, max_steps=limits, **options)

    for sentences, limits in (([0, 1, 2, 3, 4, 5, 6], [5, 4, 8, 2, 7, 1, 3]), ([3], [9])):
        in_graph = search(tf.constant(sentences), tf.constant(limits))
        eager = run(
            language, max_steps=limits, sentences=sentences, beam_size=3, n_best=2, return_attention=return_attention
        )
        tf.nest.map_structure(np.testing.assert_array_equal, eager, in_graph)
    assert len(traces) == 1
    loops = [op for op in search.get_concrete_function().graph.get_operations() if "While" in op.type]
    # One takes the steps, one goes back to see what each hypothesis took.
    assert len(loops) == 2


def test_an_empty_batch_and_limits_of_nothing(make_language):
    language = make_language(sentences=2, vocabulary=9, seed=12)
    options = {"beam_size": 3, "n_best": 2, "return_attention": True}
    nothing = run(language, max_steps=tf.zeros([0], tf.int32), sentences=[], **options)
    assert nothing.token_ids.shape[:2] == (0, 2)
    hypotheses = run(language, max_steps=[0, 3], **options)
    assert as_lists(hypotheses, 0) == [(), ()]
    np.testing.assert_array_equal(hypotheses.scores[0], [0.0, -np.inf])
    assert not np.any(hypotheses.attention_weights[0])
    alone = run(language, max_steps=[3], sentences=[1], **options)
    np.testing.assert_array_equal(hypotheses.token_ids[1], alone.token_ids[0])


def test_banned_tokens_are_never_taken_and_keep_their_probability(make_language):
    language = make_language(sentences=3, vocabulary=7, seed=13)
    language.logits[..., [PAD, UNKNOWN, START]] += 5.0
    hypotheses = run(language, max_steps=3, beam_size=85, n_best=85, banned_ids=[UNKNOWN], length_penalty=1.0)
    for sentence in range(3):
        everything = enumerate_all(language, sentence, 3, banned=(PAD, START, UNKNOWN))
        assert_found(hypotheses, sentence, ranked(language, sentence, everything, 85, length=("average", 1.0)))


def test_a_place_without_a_hypothesis_reads_padding(make_language):
    language = make_language(sentences=2, vocabulary=1500, seed=19)
    language.logits[..., :3] = language.logits[..., 5:] = -np.inf
    language.logits[..., [END, 4]] = [1.0, 0.0]
    step, read = language.step(), []

    def reading(token_ids, state):
        read.append(token_ids.numpy().reshape(2, 4))
        return step(token_ids, state)

    hypotheses = beam_search(reading, language.state(), batch_size=2, max_steps=[4, 2], beam_size=4, n_best=4, **IDS)
    assert as_lists(hypotheses, 0) == [(END,), (4, END), (4, 4, END), (4, 4, 4, END)]
    assert set(as_lists(hypotheses, 1)) == {(END,), (4, END), (4, 4), ()}
    assert [sorted(ids[0].tolist()) for ids in read[1:]] == [[PAD, PAD, END, 4]] * 3
    assert [ids[1].tolist().count(4) for ids in read[1:]] == [1, 1, 0]
    assert [ids[1].tolist().count(PAD) for ids in read[1:]] == [2, 2, 4]


def test_logits_in_bfloat16_are_summed_in_float32(make_language):
    language = make_language(sentences=2, vocabulary=9, seed=14)
    language.logits[..., END] = -100.0
    language.logits[:] = tf.cast(tf.cast(language.logits, tf.bfloat16), tf.float32)
    hypotheses = beam_search(
        language.step(tf.bfloat16), language.state(), batch_size=2, max_steps=50, beam_size=3, **IDS
    )
    assert hypotheses.scores.dtype == tf.float32
    for sentence in range(2):
        (tokens,) = as_lists(hypotheses, sentence)
        assert len(tokens) == 50
        gains = [language.log_probs(sentence, tokens[:i])[token] for i, token in enumerate(tokens)]
        np.testing.assert_allclose(hypotheses.log_probs[sentence, 0], sum(gains), rtol=1e-5)


def test_a_long_vocabulary_is_searched_in_groups_as_well(make_language):
    language = make_language(sentences=2, vocabulary=1500, seed=15, scale=3.0)
    hypotheses = run(language, max_steps=6, beam_size=4, n_best=4)
    for sentence in range(2):
        expected = ranked(language, sentence, search_plainly(language, sentence, 6, 4), 4, length=("average", 1.0))
        assert_found(hypotheses, sentence, expected)


def test_logits_that_are_not_numbers_end_and_leave_the_others_alone(make_language):
    language = make_language(sentences=2, vocabulary=9, seed=20)
    alone = run(language, max_steps=[7], sentences=[1], beam_size=3, n_best=3)
    language.logits[0] = np.nan
    hypotheses = run(language, max_steps=7, beam_size=3, n_best=3)
    assert as_lists(hypotheses, 0) == [(), (), ()]
    assert np.all(hypotheses.scores[0] == -np.inf)
    assert as_lists(hypotheses, 1) == as_lists(alone, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size must be at least 1, but is 0 instead"),
        ({"n_best": 0}, "n_best must be between 1 and beam_size, which is 3, but is 0 instead"),
        ({"n_best": 4}, "n_best must be between 1 and beam_size, which is 3, but is 4 instead"),
        ({"banned_ids": [END]}, "end_id must be a token that may be produced, but is 3"),
        ({"length_penalty": -1.0}, "length_penalty must be at least 0, but is -1.0 instead"),
        ({"length_penalty": float("nan")}, "length_penalty must be at least 0, but is nan instead"),
        (
            {"length_penalty_kind": "mean"},
            "length_penalty_kind must be 'none', 'average', 'wu' or 'reward', but is 'mean'",
        ),
        ({"coverage_penalty_kind": "mean"}, "coverage_penalty_kind must be 'none', 'wu' or 'summary', but is 'mean'"),
        ({"coverage_penalty": -0.1}, "coverage_penalty must be at least 0, but is -0.1 instead"),
        ({"coverage_penalty_kind": "wu"}, "source_mask must be given with a coverage penalty, but is None instead"),
        ({"groups": 2}, "groups must be at least 1 and divide beam_size, which is 3, but is 2 instead"),
        ({"groups": 0}, "groups must be at least 1 and divide beam_size, which is 3, but is 0 instead"),
        ({"max_steps": [[1], [2]]}, r"max_steps must be one number or one for each sentence, but is of shape \(2, 1\)"),
        ({"batch_size": 3, "max_steps": 2}, r"initial_state must have one row a sentence, 3 in all, .* shape \(2, 1\)"),
    ],
)
def test_arguments_that_cannot_be(make_language, options, message):
    language = make_language(sentences=2, vocabulary=9, seed=16)
    arguments = {"batch_size": 2, "max_steps": 2, "beam_size": 3, **IDS, **options}
    with pytest.raises(ValueError, match=message):
        beam_search(language.step(), language.state(), **arguments)


def test_a_negative_limit(make_language):
    language = make_language(sentences=2, vocabulary=9, seed=17)
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_steps must be at least 0, but is negative"):
        run(language, max_steps=[2, -1], beam_size=3)


def test_attention_asked_of_a_step_without_it(make_language):
    language = make_language(sentences=2, vocabulary=9, seed=18)
    step = language.step()
    with pytest.raises(
        ValueError, match="return_attention must be False and coverage_penalty_kind 'none' for a step function"
    ):
        beam_search(
            lambda token_ids, state: (*step(token_ids, state)[:2], None),
            language.state(),
            batch_size=2,
            max_steps=2,
            beam_size=3,
            return_attention=True,
            **IDS,
        )
