"""Cross entropy over a large vocabulary, without work on padding and with its gradient made on the way forward.

The output product and the softmax over the vocabulary are the largest part of a training step. They run here over the
valid tokens only; the elementwise part is one function compiled by XLA, which writes the gradient where it reads the
logits. XLA compiles anew for each shape, so the tokens are filled up to a multiple of `ROWS`: a run then has a
handful of shapes.
"""

from typing import Any

import tensorflow as tf

ROWS = 512
"""The number of tokens is filled up to a multiple of this."""


def token_cross_entropy(
    features: Any, labels: Any, mask: Any, embeddings: Any, bias: Any, label_smoothing: float = 0.0
) -> Any:
    """Sum over valid tokens of the cross entropy with smoothed labels, differentiable in features and output matrix.

        loss = - sum_k t_k log softmax(E f + b)_k,   t = (1 - smoothing) onehot(label) + smoothing / vocabulary

    Label smoothing: Szegedy et al. 2016 (arXiv 1512.00567). The gradient is computed on the way forward, since that of
    a sum needs nothing from behind.

    Args:
        features: Readout vectors, `(batch, steps, units)`.
        labels: Right tokens, `(batch, steps)`.
        mask: True at the tokens that count, `(batch, steps)`.
        embeddings: E, `(vocabulary, units)`.
        bias: b, `(vocabulary,)`.
        label_smoothing: Probability spread over the whole vocabulary.

    Returns:
        The sum, a float32 scalar. The number of tokens that it sums over is the sum of `mask`.

    >>> mask = tf.constant([[True, False]])
    >>> loss = token_cross_entropy(tf.zeros([1, 2, 3]), tf.constant([[1, 0]]), mask, tf.zeros([4, 3]), tf.zeros([4]))
    >>> round(float(loss), 4)
    1.3863
    """
    dtype = features.dtype
    valid = tf.boolean_mask(features, mask)
    labels = tf.boolean_mask(tf.cast(labels, tf.int32), mask)
    return _summed(valid, tf.cast(embeddings, dtype), tf.cast(bias, tf.float32), labels, label_smoothing)


def _summed(features: Any, embeddings: Any, bias: Any, labels: Any, label_smoothing: float) -> Any:
    @tf.custom_gradient
    def summed(features: Any, embeddings: Any, bias: Any) -> Any:
        loss, gradients = _loss_and_gradients(features, embeddings, bias, labels, label_smoothing)

        def gradient(upstream: Any) -> list[Any]:
            return [gradient * tf.cast(upstream, gradient.dtype) for gradient in gradients]

        return loss, gradient

    return summed(features, embeddings, bias)


def _loss_and_gradients(
    features: Any, embeddings: Any, bias: Any, labels: Any, label_smoothing: float
) -> tuple[Any, tuple[Any, Any, Any]]:
    tokens = tf.shape(features)[0]
    missing = -tokens % ROWS
    filled = tf.pad(features, [[0, missing], [0, 0]])
    counts = tf.pad(tf.ones([tokens]), [[0, missing]])
    logits = tf.matmul(filled, embeddings, transpose_b=True)
    loss, of_logits, of_bias = _softmax_loss(logits, bias, tf.pad(labels, [[0, missing]]), counts, label_smoothing)
    of_features = tf.matmul(of_logits, embeddings)[:tokens]
    of_embeddings = tf.matmul(of_logits, filled, transpose_a=True)
    return loss, (of_features, of_embeddings, of_bias)


@tf.function(jit_compile=True, autograph=False)
def _softmax_loss(logits: Any, bias: Any, labels: Any, counts: Any, label_smoothing: float) -> tuple[Any, Any, Any]:
    """The loss and its gradients by logits and bias, in float32 inside; `counts` is zero where a row is filling."""
    scores = tf.cast(logits, tf.float32) + bias
    vocabulary = scores.shape[1]
    shifted = scores - tf.reduce_max(scores, axis=1, keepdims=True)
    exponentials = tf.exp(shifted)
    total = tf.reduce_sum(exponentials, axis=1, keepdims=True)
    is_label = tf.range(vocabulary)[None, :] == labels[:, None]
    at_label = tf.reduce_sum(tf.where(is_label, shifted, 0.0), axis=1)
    expected = (1 - label_smoothing) * at_label + label_smoothing / vocabulary * tf.reduce_sum(shifted, axis=1)
    loss = tf.reduce_sum(counts * (tf.math.log(total[:, 0]) - expected))
    target = tf.where(is_label, 1 - label_smoothing, 0.0) + label_smoothing / vocabulary
    of_scores = (exponentials / total - target) * counts[:, None]
    return loss, tf.cast(of_scores, logits.dtype), tf.reduce_sum(of_scores, axis=0)
