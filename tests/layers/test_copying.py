"""Copying against a loop over source tokens, and where numbers are hardest."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers.context import AttentionContext
from seq2seq.layers.copying import Copies, Copying, label_shares, mixture
from seq2seq.layers.decoder import Decoder
from seq2seq.layers.masking import reduced_mask
from tests.layers import oracles
from tests.layers.samples import close, normal, randomize

SOURCE_IDS = np.array([[4, 2, 4, 4, 1], [3, 0, 0, 0, 0]], "int32")
MASK = SOURCE_IDS != 0
VOCABULARY, BEAMS, STEPS = 6, 2, 3
ROWS = len(SOURCE_IDS) * BEAMS


def sample():
    weights = np.exp(normal(1, ROWS, STEPS, 5)) * np.repeat(MASK, BEAMS, axis=0)[:, None]
    copies = Copies(2 * normal(2, ROWS, STEPS), weights / weights.sum(-1, keepdims=True))
    return 3 * normal(3, ROWS, STEPS, VOCABULARY), copies


def test_mixture_is_that_of_a_loop():
    logits, copies = sample()
    found = mixture(tf.constant(logits), Copies(*map(tf.constant, copies)), tf.constant(SOURCE_IDS))
    for row, step in np.ndindex(ROWS, STEPS):
        gate = oracles.sigmoid(copies.gate[row, step].astype("float64"))
        probabilities = oracles.softmax(logits[row, step].astype("float64"))
        expected = oracles.mixture(gate, probabilities, copies.weights[row, step], SOURCE_IDS[row // BEAMS])
        close(found[row, step], np.log(expected), 1e-5)


def test_shares_of_labels_are_what_the_mixture_has_there():
    logits, copies = sample()
    logits, copies = logits[::BEAMS], Copies(*(part[::BEAMS] for part in copies))
    labels = np.array([[4, 2, 5], [3, 3, 1]], "int32")
    shares = label_shares(copies, SOURCE_IDS, labels)
    assert shares.is_in_source.numpy().tolist() == [[True, True, False], [True, True, False]]
    generated = tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=2) + shares.log_generated
    mixed = mixture(tf.constant(logits), copies, SOURCE_IDS)
    close(np.logaddexp(generated, shares.log_copied), tf.gather(mixed, labels, batch_dims=2), 1e-6)


@pytest.mark.parametrize("gate", [-200.0, 0.0, 200.0])
def test_mixture_and_its_gradient_are_numbers_however_unlikely(gate):
    logits = tf.constant(1000 * sample()[0], "bfloat16")
    gates, weights = tf.fill([ROWS, STEPS], gate), tf.one_hot(tf.zeros([ROWS, STEPS], tf.int32), 5)
    with tf.GradientTape() as tape:
        tape.watch([logits, gates, weights])
        mixed = mixture(logits, Copies(gates, weights), SOURCE_IDS)
    assert mixed.dtype == tf.float32
    assert np.isfinite(mixed).all()
    close(np.exp(mixed).sum(-1), 1.0, 1e-5)
    for gradient in tape.gradient(mixed, [logits, gates, weights]):
        assert np.isfinite(tf.cast(gradient, "float32")).all()


def test_weights_of_a_window_are_made_to_add_up_to_one():
    context = AttentionContext("local", window=1)
    decoder = Decoder(VOCABULARY, 4, 4, context=context, copy="reuse")
    decoder.build((None, None), (None, None, 4))
    randomize(decoder)
    logits = decoder(SOURCE_IDS, memory=normal(4, 2, 5, 4), memory_mask=MASK, source_ids=SOURCE_IDS)
    close(np.exp(logits).sum(-1), 1.0, 1e-5)


def test_begins_in_the_middle_and_can_begin_by_generating():
    copying, inputs = Copying(), [normal(5, 1, 2, 4)]
    copying.build([(None, None, 4)], (None, None, 3))
    weights = np.full((1, 2, 3), 1 / 3, "float32")
    assert not copying(inputs, weights).gate.numpy().any()
    randomize(copying)
    copying.begin_generating()
    close(1 - oracles.sigmoid(copying(inputs, weights).gate.numpy()), 0.0067, 1e-4)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("beams", [1, BEAMS])
def test_the_weight_of_a_window_is_shared_out_among_its_tokens(separate, beams):
    """Windows of two tokens, one of them half padding and one all padding, against a loop over places."""
    copying = Copying(separate, window=2)
    copying.build([(None, None, 4), (None, None, 3)], (None, None, 5))
    randomize(copying)
    embedded, memory = normal(6, 2, 5, 3), normal(7, 2, 3, 5)
    query, last = normal(8, 2 * beams, STEPS, 4), normal(9, 2 * beams, STEPS, 3)
    memory_mask = np.array([[True, True, True], [True, False, False]])
    weights = np.exp(normal(10, 2 * beams, STEPS, 3)) * np.repeat(memory_mask, beams, axis=0)[:, None]
    source = copying.source(SOURCE_IDS, embedded, MASK, memory, memory_mask)
    copies = copying([query, last], None if separate else tf.constant(weights), source=source)
    assert copies.weights.shape == (2 * beams, STEPS, 5)
    inner = copying.window_score.kernel.numpy()
    for row, step in np.ndindex(2 * beams, STEPS):
        sentence = row // beams
        coarse = weights[row, step] / weights[row, step].sum()
        if separate:
            valid = memory[sentence][memory_mask[sentence]]
            coarse = oracles.softmax(valid @ copying.score.kernel.numpy() @ query[row, step])
        expected = np.zeros(5)
        for window in range(memory_mask[sentence].sum()):
            places = [place for place in (2 * window, 2 * window + 1) if place < 5 and MASK[sentence, place]]
            shares = oracles.softmax(embedded[sentence][places] @ inner @ query[row, step])
            expected[places] = coarse[window] * shares
        close(copies.weights[row, step], expected, 1e-5)


def test_windows_need_the_mask_of_their_tokens():
    with pytest.raises(ValueError, match="window must be an integer >= 1"):
        Copying(window=0)
    decoder = Decoder(VOCABULARY, 4, 4, copy="reuse", copy_window=2)
    with pytest.raises(ValueError, match="source_mask must be given"):
        decoder(SOURCE_IDS, memory=normal(4, 2, 3, 4), source_ids=SOURCE_IDS)
    memory = {"memory": normal(4, 2, 3, 4), "memory_mask": reduced_mask(MASK, 2)}
    logits = decoder(SOURCE_IDS, **memory, source_ids=SOURCE_IDS, source_mask=MASK)
    close(np.exp(logits).sum(-1), 1.0, 1e-5)
