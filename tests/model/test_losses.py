"""The cross entropy of a batch against its definition, written out in float64."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.model import losses

UNITS, VOCABULARY, ROWS = 5, 11, 8


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
    weights = [tf.Variable(array) for array in (features, embeddings, bias)]
    with tf.GradientTape() as tape:
        loss = losses.token_cross_entropy(weights[0], labels, mask, weights[1], weights[2], smoothing)
        scaled = scale * loss
    return loss, tape.gradient(scaled, weights)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(losses, "ROWS", ROWS)


# Fewer tokens than rows, just as many, one more, just twice as many, three times and some; holes of padding.
@pytest.mark.parametrize("lengths", [[1], [3, 0, 2], [8], [4, 4], [9], [5, 3, 1], [8, 8], [6, 1, 9, 2, 7]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equals_its_definition(lengths, smoothing):
    arguments = tokens(lengths)
    expected_loss, *expected = oracle(*arguments, smoothing)
    loss, gradients = loss_and_gradients(*arguments, smoothing)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, right, rtol=1e-5, atol=2e-6)


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


def test_in_bfloat16_comes_close():
    features, labels, mask, embeddings, bias = tokens([9, 8, 3], vocabulary=40)
    expected_loss, *expected = oracle(features, labels, mask, embeddings, bias, 0.1)
    halved = tf.cast(features, tf.bfloat16)
    loss, gradients = loss_and_gradients(halved, labels, mask, embeddings, bias, 0.1)
    assert loss.dtype == tf.float32
    assert [gradient.dtype for gradient in gradients] == [tf.bfloat16, tf.float32, tf.float32]
    np.testing.assert_allclose(loss, expected_loss, rtol=0.01)
    for gradient, right in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(tf.cast(gradient, tf.float32), right, atol=0.02 * np.max(np.abs(right)))


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
