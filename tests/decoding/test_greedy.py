"""Greedy search against a loop in plain Python."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.sampling import greedy_search

PAD, UNKNOWN, START, END = 0, 1, 2, 3
IDS = {"start_id": START, "end_id": END}


def search_plainly(language, sentence, limit, banned=(PAD, START)):
    tokens, total = [], 0.0
    while len(tokens) < limit and END not in tokens:
        gains = language.log_probs(sentence, tokens)
        gains[list(banned)] = -np.inf
        tokens.append(int(np.argmax(gains)))
        total += gains[tokens[-1]]
    return tokens, total


@pytest.mark.parametrize(("vocabulary", "banned"), [(8, []), (8, [UNKNOWN, 5]), (1500, [UNKNOWN])])
def test_the_best_token_is_taken_at_every_step(make_language, vocabulary, banned):
    language, limits = make_language(sentences=10, vocabulary=vocabulary, seed=1), list(range(1, 11))
    language.logits[..., [PAD, START]] += 2.0
    hypotheses = greedy_search(
        language.step(),
        language.state(),
        batch_size=10,
        max_steps=limits,
        banned_ids=banned,
        return_attention=True,
        **IDS,
    )
    lengths = hypotheses.lengths.numpy()[:, 0]
    assert hypotheses.token_ids.shape == (10, 1, max(lengths))
    for sentence, limit in enumerate(limits):
        tokens, total = search_plainly(language, sentence, limit, (PAD, START, *banned))
        padded = tokens + [PAD] * (max(lengths) - len(tokens))
        assert hypotheses.token_ids.numpy()[sentence, 0].tolist() == padded
        assert lengths[sentence] == len(tokens)
        np.testing.assert_allclose(hypotheses.scores[sentence, 0], total, rtol=1e-5)
        np.testing.assert_allclose(hypotheses.log_probs[sentence, 0], total, rtol=1e-5)
        weights = hypotheses.attention_weights.numpy()[sentence, 0]
        expected = [language.attention_after(sentence, tokens[:i]) for i in range(len(tokens))]
        np.testing.assert_array_equal(weights[: len(tokens)], expected)
        assert not weights[len(tokens) :].any()


def test_one_graph_serves_all_shapes(make_language):
    language = make_language(sentences=5, vocabulary=9, seed=2)
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 2, autograph=False)
    def search(sentences, limits):
        traces.append(None)
        rows = tf.shape(sentences)[0]
        state = {"sentence": sentences, "history": (tf.zeros([rows, 1], tf.int32),)}
        return greedy_search(language.step(), state, batch_size=rows, max_steps=limits, **IDS)

    for sentences, limits in (([0, 1, 2, 3, 4], [5, 4, 0, 2, 7]), ([3], [9]), ([], [])):
        hypotheses = search(tf.constant(sentences, tf.int32), tf.constant(limits, tf.int32))
        assert hypotheses.attention_weights is None
        for place, (sentence, limit) in enumerate(zip(sentences, limits, strict=True)):
            tokens, total = search_plainly(language, sentence, limit)
            length = hypotheses.lengths.numpy()[place, 0]
            assert hypotheses.token_ids.numpy()[place, 0, :length].tolist() == tokens
            np.testing.assert_allclose(hypotheses.scores[place, 0], total, rtol=1e-5)
    assert len(traces) == 1


def test_other_ids_for_padding_start_and_end(make_language):
    language = make_language(sentences=4, vocabulary=9, seed=3)
    ids = {"start_id": 8, "end_id": 0, "pad_id": 7}
    language.logits[..., [7, 8]] += 9.0
    hypotheses = greedy_search(language.step(), language.state(), batch_size=4, max_steps=[6, 20, 20, 20], **ids)
    for row, length, limit in zip(hypotheses.token_ids[:, 0], hypotheses.lengths[:, 0], [6, 20, 20, 20], strict=True):
        tokens = row[:length].numpy().tolist()
        assert not {7, 8} & set(tokens)
        assert tokens[-1] == 0 or length == limit
        assert np.all(row[length:] == 7)


def test_a_state_without_leaves():
    hypotheses = greedy_search(
        lambda token_ids, state: (tf.one_hot(token_ids + 1, 9), state, None),
        (),
        batch_size=2,
        max_steps=4,
        start_id=4,
        end_id=3,
    )
    assert hypotheses.token_ids[:, 0].numpy().tolist() == [[5, 6, 7, 8]] * 2


def test_a_finished_sentence_reads_padding():
    read = []

    def count_up(token_ids, state):
        read.append(token_ids.numpy().tolist())
        return tf.one_hot(token_ids + state[:, 0], 12), state, None

    greedy_search(count_up, tf.constant([[1], [2], [1]]), batch_size=3, max_steps=[5, 5, 2], start_id=4, end_id=8)
    assert read == [[4, 4, 4], [5, 6, 5], [6, 8, 6], [7, PAD, PAD]]
