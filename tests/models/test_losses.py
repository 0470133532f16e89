"""The cross entropy of a batch against its definition, written out in float64."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers.copying import Copies, label_shares
from seq2seq.layers.masking import masked_softmax
from seq2seq.models import losses

UNITS, VOCABULARY, CHUNK, ROWS = 5, 11, 8, 4


def oracle(features, labels, mask, embeddings, bias, smoothing):
    """Loss and gradients by features, embeddings and bias, one token after the other."""
    features, embeddings, bias = (np.asarray(array, np.float64) for array in (features, embeddings, bias))
    loss, of_features = 0.0, np.zeros_like(features)
    of_embeddings, of_bias = np.zeros_like(embeddings), np.zeros_like(bias)
    for place in zip(*np.nonzero(mask), strict=True):
        scores = embeddings @ features[place] + bias
        log_probs = scores - np.log(np.sum(np.exp(scores)))
        target = np.full(len(bias), smoothing / len(bias))
        target[labels[place]] += 1 - smoothing
        loss -= target @ log_probs
        of_scores = np.exp(log_probs) - target
        of_features[place] = of_scores @ embeddings
        of_embeddings += np.outer(of_scores, features[place])
        of_bias += of_scores
    return loss, of_features, of_embeddings, of_bias


def tokens(lengths, seed=0, vocabulary=VOCABULARY):
    random = np.random.default_rng(seed)
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    features = random.normal(size=(*mask.shape, UNITS)).astype(np.float32)
    embeddings = random.normal(size=(vocabulary, UNITS)).astype(np.float32)
    bias = random.normal(size=vocabulary).astype(np.float32)
    labels = random.integers(vocabulary, size=mask.shape).astype(np.int32)
    return features, labels, mask, embeddings, bias


def loss_and_gradients(features, labels, mask, embeddings, bias, smoothing, scale=1.0):
    weights = [tf.convert_to_tensor(array) for array in (features, embeddings, bias)]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        loss = losses.token_cross_entropy(weights[0], labels, mask, weights[1], weights[2], smoothing)
        scaled = scale * loss
    return loss, tape.gradient(scaled, weights)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK", CHUNK)
    monkeypatch.setattr(losses, "ROWS", ROWS)


# Fewer tokens than rows, a last chunk of one row count and the other, full chunks alone; holes of padding.
@pytest.mark.parametrize("lengths", [[1], [3, 0, 2], [4, 4], [5, 3, 1], [8, 8], [6, 1, 9, 2, 7]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_its_definition(lengths, smoothing):
    arguments = tokens(lengths)
    expected_loss, *expected = oracle(*arguments, smoothing)
    loss, gradients = loss_and_gradients(*arguments, smoothing)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("vocabulary", [3, 16])
def test_gradients_are_exact_in_float64_for_any_vocabulary(vocabulary):
    features, labels, mask, *output = tokens([6, 1, 9], vocabulary=vocabulary)
    arguments = features.astype(np.float64), labels, mask, *(array.astype(np.float64) for array in output)
    _, *expected = oracle(*arguments, 0.1)
    _, gradients = loss_and_gradients(*arguments, 0.1)
    for gradient, right in zip(gradients, expected, strict=True):
        assert gradient.dtype == tf.float64
        np.testing.assert_allclose(gradient, right, rtol=0, atol=1e-13)


def shares_of(gate, weights, source_ids, labels):
    return label_shares(Copies(gate, weights), source_ids, labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_copies_is_the_logarithm_of_the_mixture_and_so_are_its_gradients(smoothing):
    """Against the mixture of all tokens in probabilities, and what TensorFlow makes of that."""
    features, labels, mask, *output = tokens([6, 1, 9])
    random = np.random.default_rng(3)
    gate, scores = random.normal(size=mask.shape) * 3, random.normal(size=(*mask.shape, 4))
    source_ids = random.integers(VOCABULARY, size=(3, 4))
    source_ids[:, 1], source_ids[:, 3] = labels[:, 0], source_ids[:, 0]
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    inputs = [tf.constant(array, tf.float64) for array in (features, *output, gate, weights)]

    def by_definition(features, embeddings, bias, gate, weights):
        log_probs = tf.nn.log_softmax(tf.einsum("btu,vu->btv", features, embeddings) + bias)
        copied = tf.einsum("bts,bsv->btv", weights, tf.one_hot(source_ids, VOCABULARY, dtype=tf.float64))
        share = tf.sigmoid(gate)[..., None]
        mixed = tf.math.log(share * tf.exp(log_probs) + (1 - share) * copied)
        right = tf.gather(mixed, labels, batch_dims=2)
        losses = (1 - smoothing) * right + smoothing * tf.reduce_mean(log_probs, axis=-1)
        return -tf.reduce_sum(tf.where(mask, losses, 0.0))

    def chunked(features, embeddings, bias, gate, weights):
        shares = shares_of(gate, weights, source_ids, labels)
        return losses.token_cross_entropy(features, labels, mask, embeddings, bias, smoothing, shares)

    results = []
    for function in (by_definition, chunked):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = function(*inputs)
        results.append([loss, *tape.gradient(loss, inputs)])
    (right, *expected), (found, *gradients) = results
    np.testing.assert_allclose(found, right, rtol=1e-6)
    for gradient, of_definition in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, of_definition, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gate", [-300.0, 300.0])
def test_copies_with_next_to_no_probability_give_numbers(gate):
    """In bfloat16, with a gate that is shut, a source token of no weight, and a label that no source has."""
    features, labels, mask, embeddings, bias = tokens([5])
    features, source_ids = tf.cast(300 * features, tf.bfloat16), np.array([[labels[0, 0], 12, labels[0, 2]]])
    scores = tf.constant(np.tile([0.0, 1e4, -1e4], (1, 5, 1)), tf.float32)
    gate = tf.fill([1, 5], tf.constant(gate))
    with tf.GradientTape() as tape:
        tape.watch([features, scores, gate])
        shares = shares_of(gate, masked_softmax(scores, True), source_ids, labels)
        loss = losses.token_cross_entropy(features, labels, mask, embeddings, bias, 0.1, shares)
    assert np.isfinite(loss)
    for gradient in tape.gradient(loss, [features, scores, gate]):
        assert np.all(np.isfinite(tf.cast(gradient, tf.float32)))


def test_has_the_same_bits_again(monkeypatch):
    """Of tokens enough for several threads; a resumed run builds its graph anew, as the second time here."""
    monkeypatch.setattr(losses, "CHUNK", 128)
    results = []
    for _ in range(2):
        arguments = tokens([90, 86, 80], vocabulary=500)
        compiled = tf.function(loss_and_gradients, autograph=False)
        loss, gradients = compiled(*(tf.constant(array) for array in arguments), 0.1)
        results.append([loss, *gradients])
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


def test_of_no_token_is_nothing():
    features, labels, mask, embeddings, bias = tokens([3, 2])
    loss, gradients = loss_and_gradients(features, labels, np.zeros_like(mask), embeddings, bias, 0.1)
    assert float(loss) == 0
    assert all(not np.any(gradient) for gradient in gradients)


def test_gradients_follow_what_is_made_of_the_sum():
    arguments = tokens([7, 4])
    _, *expected = oracle(*arguments, 0.1)
    _, gradients = loss_and_gradients(*arguments, 0.1, scale=-0.25)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, -0.25 * right, rtol=1e-5, atol=1e-6)


def test_padding_is_never_read():
    features, labels, mask, embeddings, bias = tokens([7, 4])
    loss, gradients = loss_and_gradients(features, labels, mask, embeddings, bias, 0.1)
    other_labels = np.where(mask, labels, VOCABULARY + 5)
    other_features = np.where(mask[..., None], features, np.float32(1e30))
    other_loss, others = loss_and_gradients(other_features, other_labels, mask, embeddings, bias, 0.1)
    assert float(loss) == float(other_loss)
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_array_equal(gradient, other)


def test_stands_large_scores():
    features, labels, mask, embeddings, bias = tokens([5])
    features, bias = 300 * features, 300 * bias
    loss, gradients = loss_and_gradients(features, labels, mask, embeddings, bias, 0.0)
    best = np.max(features.astype(np.float64) @ embeddings.T + bias, axis=-1)
    scores = np.sum(features.astype(np.float64) * embeddings[labels], -1) + bias[labels]
    np.testing.assert_allclose(loss, np.sum(best - scores), rtol=1e-5)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_in_half_precision_comes_close(dtype):
    features, labels, mask, embeddings, bias = tokens([9, 4, 3])
    expected_loss, *expected = oracle(features, labels, mask, embeddings, bias, 0.1)
    halved = tf.cast(features, dtype)
    loss, gradients = loss_and_gradients(halved, labels, mask, embeddings, bias, 0.1)
    assert loss.dtype == tf.float32
    assert [gradient.dtype for gradient in gradients] == [dtype, tf.float32, tf.float32]
    np.testing.assert_allclose(loss, expected_loss, rtol=0.01)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(tf.cast(gradient, tf.float32), right, atol=0.02 * np.max(np.abs(right)))


def test_the_normaliser_is_exact_in_bfloat16():
    """Where products need no rounding, neither does the loss: all numbers here are small and whole."""
    random = np.random.default_rng(0)
    features, embeddings = (random.integers(-2, 3, size=size).astype(np.float32) for size in ((1, 32, 5), (300, 5)))
    labels, mask = random.integers(300, size=(1, 32)), np.ones((1, 32), bool)
    bias = random.normal(size=300).astype(np.float32)
    right, *_, of_bias = oracle(features, labels, mask, embeddings, bias, 0.1)
    loss, gradients = loss_and_gradients(tf.cast(features, tf.bfloat16), labels, mask, embeddings, bias, 0.1)
    np.testing.assert_allclose(loss, right, rtol=1e-6)
    np.testing.assert_allclose(gradients[2], of_bias, atol=0.01 * np.max(np.abs(of_bias)))


def test_compiles_once_for_all_shapes():
    features, labels, mask, embeddings, bias = tokens([7, 4])
    traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, UNITS]),
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.bool),
        ]
    )
    def compiled(features, labels, mask):
        traces.append(features.shape)
        return losses.token_cross_entropy(features, labels, mask, tf.constant(embeddings), tf.constant(bias), 0.1)

    for steps in (7, 4, 1):
        part = features[:, :steps], labels[:, :steps], mask[:, :steps]
        right, *_ = oracle(*part, embeddings, bias, 0.1)
        np.testing.assert_allclose(compiled(*part), right, rtol=1e-6)
    assert len(traces) == 1


PEAK_OF_A_LARGE_VOCABULARY = """
import resource
import tensorflow as tf
from seq2seq.models.losses import token_cross_entropy

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

@tf.function(autograph=False)
def gradients(features, labels, embeddings, bias):
    loss = token_cross_entropy(features, labels, tf.ones(labels.shape, bool), embeddings, bias, 0.1)
    return tf.gradients(loss, [features, embeddings, bias])

def run(tokens):
    arguments = tf.ones([1, tokens, 8]), tf.zeros([1, tokens], tf.int32), tf.ones([64_000, 8]), tf.zeros([64_000])
    return sum(float(tf.norm(gradient)) for gradient in gradients(*arguments))

run(1)
before = peak()
run(4_096)
print((peak() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count the memory in other units")
def test_memory_is_bounded_whatever_the_number_of_tokens():
    """All logits of 4,096 tokens and 64,000 words would be 1,000 MB in float32; in a chunk they are 125 MB."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF_A_LARGE_VOCABULARY], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(done.stdout) < 500
