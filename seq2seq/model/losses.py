"""Cross entropy over a large vocabulary, without work on padding and without holding all logits at once.

The output product and the softmax over the vocabulary are the largest part of a training step. They run here over chunks
of a fixed number of valid tokens, and each chunk leaves its loss and its gradients behind: no (tokens, vocabulary) array
outlives its chunk, and the elementwise part is compiled once, because every chunk has one shape.
"""

from typing import Any

import tensorflow as tf

CHUNK = 512
"""Tokens in a chunk: enough for the product to run at full rate, few enough for its logits to stay in cache."""


def token_cross_entropy(
    features: Any, labels: Any, mask: Any, embeddings: Any, bias: Any, label_smoothing: float = 0.0
) -> Any:
    """Sum over valid tokens of the cross entropy with smoothed labels; differentiable in the first and last two tensors.

        loss = - sum_k t_k log softmax(E f + b)_k,   t = (1 - smoothing) onehot(label) + smoothing / vocabulary

    Label smoothing: Szegedy et al. 2016 (arXiv 1512.00567). Chunking: Wijmans et al. 2024 (arXiv 2411.09009) do the same for
    memory. The gradient is computed on the way forward, since a sum's gradient needs nothing from behind.

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
    tokens, units = tf.shape(features)[0], features.shape[1]
    chunks = (tokens + CHUNK - 1) // CHUNK
    missing = chunks * CHUNK - tokens
    features = tf.reshape(tf.pad(features, [[0, missing], [0, 0]]), [chunks, CHUNK, units])
    labels = tf.reshape(tf.pad(labels, [[0, missing]]), [chunks, CHUNK])
    counts = tf.reshape(tf.pad(tf.ones([tokens]), [[0, missing]]), [chunks, CHUNK])
    transposed = tf.transpose(embeddings)

    def body(index: Any, loss: Any, collected: Any, of_embeddings: Any, of_bias: Any) -> tuple[Any, ...]:
        logits = tf.ensure_shape(tf.matmul(features[index], transposed), [CHUNK, embeddings.shape[0]])
        chunk_loss, of_logits, of_bias_here = _softmax_loss(logits, bias, labels[index], counts[index], label_smoothing)
        of_features = tf.matmul(of_logits, embeddings)
        of_embeddings += tf.cast(tf.matmul(of_logits, features[index], transpose_a=True), tf.float32)
        return index + 1, loss + chunk_loss, collected.write(index, of_features), of_embeddings, of_bias + of_bias_here

    _, loss, collected, of_embeddings, of_bias = tf.while_loop(
        lambda index, *_: index < chunks,
        body,
        (
            0,
            tf.zeros([]),
            tf.TensorArray(features.dtype, chunks, element_shape=[CHUNK, units]),
            tf.zeros(embeddings.shape),
            tf.zeros(bias.shape),
        ),
    )
    of_features = tf.reshape(collected.stack(), [-1, units])[:tokens]
    return loss, (of_features, tf.cast(of_embeddings, embeddings.dtype), of_bias)


@tf.function(jit_compile=True, autograph=False)
def _softmax_loss(logits: Any, bias: Any, labels: Any, counts: Any, label_smoothing: float) -> tuple[Any, Any, Any]:
    """Loss of one chunk and its gradients by logits and bias, in float32 inside."""
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
