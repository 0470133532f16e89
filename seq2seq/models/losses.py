"""Cross entropy over a large vocabulary: no work on padding, and no logits that outlive their chunk of tokens.

The output product and the softmax over the vocabulary are the largest part of a training step, and what they make its
largest arrays. Both run here over the valid tokens only, one chunk of them after the other. A chunk leaves its loss and
its share of the gradients behind, so that memory does not grow with the number of tokens; and what XLA does to each
logit, it does while the chunk is in the processor's cache.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq.layers.copying import LabelShares, logaddexp

CHUNK = 512
"""Tokens in a chunk: enough for products at full rate, few enough for the logits of 8,000 words to stay in a cache."""

ROWS = 64
"""The last chunk is filled up to a multiple of this, since XLA compiles anew for each number of tokens it meets."""

SLICES = 8
"""The vocabulary is cut into so many for its maximum."""


def token_cross_entropy(
    features: Any,
    labels: Any,
    mask: Any,
    embeddings: Any,
    bias: Any,
    label_smoothing: float = 0.0,
    shares: LabelShares | None = None,
) -> Any:
    """Sum over valid tokens of the cross entropy with smoothed labels, differentiable in features and output matrix.

        loss = - sum_k t_k log softmax(E f + b)_k,   t = (1 - smoothing) onehot(label) + smoothing / vocabulary

    Where tokens are copied too, the label's part of it is the logarithm of the mixture, and the smoothed rest speaks of
    the vocabulary as before, so that it moves neither gate nor attention:

        loss = - (1 - smoothing) log(g softmax(E f + b)_label + copied_label)
               - smoothing / vocabulary sum_k log softmax(E f + b)_k

    Label smoothing: Szegedy et al. 2016 (arXiv 1512.00567). The gradient is computed on the way forward, since that of
    a sum needs nothing from behind; so no chunk is computed twice, as in Wijmans et al. 2024 (arXiv 2411.09009), who
    save the same memory. Products are in the features' type; the softmax, the loss and all sums over tokens outside a
    product in float32, or in float64 for features in float64.

    Args:
        features: Readout vectors, `(batch, steps, units)`.
        labels: Right tokens, `(batch, steps)`.
        mask: True at the tokens that count, `(batch, steps)`.
        embeddings: E, `(vocabulary, units)`.
        bias: b, `(vocabulary,)`.
        label_smoothing: Probability spread over the whole vocabulary.
        shares: Of the labels, differentiable too, where tokens are copied.

    Returns:
        The sum, a float32 scalar. The number of tokens that it sums over is the sum of `mask`.

    >>> mask = tf.constant([[True, False]])
    >>> loss = token_cross_entropy(tf.zeros([1, 2, 3]), tf.constant([[1, 0]]), mask, tf.zeros([4, 3]), tf.zeros([4]))
    >>> round(float(loss), 4)
    1.3863
    """

    logs = () if shares is None else (shares.log_generated, shares.log_copied)

    @tf.custom_gradient
    def summed(features: Any, embeddings: Any, bias: Any, *logs: Any) -> Any:
        shape, units = tf.shape(features), features.shape[-1]
        places = tf.where(tf.reshape(mask, [-1]))
        valid = tf.gather_nd(tf.reshape(features, [-1, units]), places)
        valid_labels = tf.gather_nd(tf.reshape(tf.cast(labels, tf.int32), [-1]), places)
        valid_logs = [tf.gather_nd(tf.reshape(log, [-1]), places) for log in logs]
        loss, of_valid, of_embeddings, of_bias, of_logs = _loss_and_gradients(
            valid, valid_labels, embeddings, bias, label_smoothing, valid_logs
        )
        of_inputs = features, embeddings, bias, *logs

        def gradient(upstream: Any) -> list[Any]:
            tokens = shape[0] * shape[1]
            of_features = tf.reshape(tf.scatter_nd(places, of_valid, [tokens, units]), shape)
            of_each_log = [tf.reshape(tf.scatter_nd(places, of_log, [tokens]), shape[:2]) for of_log in of_logs]
            found = of_features, of_embeddings, of_bias, *of_each_log
            return [
                tf.cast(tf.cast(gradient, loss.dtype) * tf.cast(upstream, loss.dtype), of_input.dtype)
                for gradient, of_input in zip(found, of_inputs, strict=True)
            ]

        return tf.cast(loss, tf.float32), gradient

    return summed(features, tf.convert_to_tensor(embeddings), tf.convert_to_tensor(bias), *logs)


def repeated_attention(weights: Any, mask: Any) -> Any:
    """Sum over valid tokens of the attention that goes where it has been: the coverage loss of See et al. 2017.

        loss = sum_t sum_s min(alpha_ts, coverage_ts),   coverage_ts = sum of alpha_is over the steps i before t

    Args:
        weights: alpha, `(batch, steps, source_steps)`.
        mask: True at the tokens that count, `(batch, steps)`.

    Returns:
        The sum, a float32 scalar.

    >>> weights = tf.constant([[[1.0, 0.0], [0.25, 0.75]]])
    >>> float(repeated_attention(weights, tf.constant([[True, True]])))
    0.25
    """
    coverage = tf.cumsum(weights, axis=1, exclusive=True)
    return tf.reduce_sum(tf.where(mask[..., None], tf.minimum(weights, coverage), 0.0))


def _loss_and_gradients(
    features: Any, labels: Any, embeddings: Any, bias: Any, label_smoothing: float, logs: Sequence[Any]
) -> tuple[Any, Any, Any, Any, list[Any]]:
    """The loss of tokens, `(tokens, units)`, and its gradients by features, embeddings, bias and each of `logs`."""
    tokens, units, dtype = tf.shape(features)[0], features.shape[1], features.dtype
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    filled = tf.maximum((tokens + ROWS - 1) // ROWS, 1) * ROWS
    filling = [0, filled - tokens]
    # A column of ones makes the gradient by the bias a column of that by the embeddings. Its zeros tell the filling.
    extended = tf.pad(tf.pad(features, [[0, 0], [0, 1]], constant_values=1), [filling, [0, 0]])
    labels = tf.pad(labels, [filling])
    logs = [tf.pad(tf.cast(log, wide), [filling]) for log in logs]
    bias = tf.cast(bias, wide)
    embeddings, transposed, summed_embeddings = _views(embeddings, dtype, wide)

    def add_chunk(start: Any, loss: Any, collected: Any, of_embeddings: Any, of_bias: Any) -> tuple[Any, ...]:
        end = start + CHUNK
        chunk, logs_of_chunk = extended[start:end], [log[start:end] for log in logs]
        logits = tf.matmul(embeddings, chunk[:, :units], transpose_b=True)
        of_loss, of_logits, *of_logs = _softmax_loss(
            logits, bias, labels[start:end], chunk, summed_embeddings, label_smoothing, logs_of_chunk
        )
        # Of the large matrices none is transposed by a product: oneDNN takes up to a third longer then.
        of_features = tf.transpose(tf.matmul(transposed, of_logits))
        parts = zip(collected, [of_features, *of_logs], strict=True)
        collected = [array.write(start // CHUNK, part) for array, part in parts]
        of_embeddings, of_bias = _added(of_embeddings, of_bias, tf.matmul(of_logits, chunk))
        return end, loss + of_loss, collected, of_embeddings, of_bias

    chunks = (filled + CHUNK - 1) // CHUNK
    collected = [tf.TensorArray(dtype, chunks, infer_shape=False, element_shape=[None, units])]
    collected += [tf.TensorArray(wide, chunks, infer_shape=False, element_shape=[None]) for _ in logs]
    sums = tf.zeros([], wide), collected, tf.zeros(embeddings.shape, wide), tf.zeros(bias.shape, wide)
    # One chunk at a time: the logits of a second one would take its memory, and its place in the cache.
    _, loss, collected, of_embeddings, of_bias = tf.while_loop(
        lambda start, *_: start < filled, add_chunk, (0, *sums), parallel_iterations=1
    )
    of_features, *of_logs = [array.concat()[:tokens] for array in collected]
    return loss, of_features, of_embeddings, of_bias, of_logs


@tf.function(jit_compile=True, autograph=False)
def _views(embeddings: Any, dtype: Any, wide: Any) -> tuple[Any, Any, Any]:
    """The embeddings in the type of the products, the same transposed, and their sum over the vocabulary."""
    embeddings = tf.cast(embeddings, dtype)
    return embeddings, tf.transpose(embeddings), tf.reduce_sum(tf.cast(embeddings, wide), axis=0)


@tf.function(jit_compile=True, autograph=False)
def _softmax_loss(
    logits: Any,
    bias: Any,
    labels: Any,
    chunk: Any,
    summed_embeddings: Any,
    label_smoothing: float,
    logs: Sequence[Any],
) -> tuple[Any, ...]:
    """The loss of a chunk, its gradient by the logits, both `(vocabulary, tokens)`, and by each of `logs`, `(tokens,)`:
    those of the vocabulary's share of each token and of what is copied of the label, or none."""
    wide, vocabulary = bias.dtype, logits.shape[0]
    everywhere = label_smoothing / vocabulary
    features, counts = tf.cast(chunk[:, :-1], wide), tf.cast(chunk[:, -1], wide)
    scores = tf.cast(logits, wide) + bias[:, None]
    highest = _maximum(scores)
    # Written once and read for sum and gradient, which takes less time than a second pass of exponentials.
    exponentials = tf.exp(scores - highest)
    total = tf.reduce_sum(exponentials, axis=0)
    places = tf.stack([labels, tf.range(tf.shape(labels)[0])], axis=1)
    at_label = tf.cast(tf.gather_nd(logits, places), wide) + tf.gather(bias, labels)
    # The sum of all scores is that of the logits before they were rounded, for no pass over them.
    summed = tf.linalg.matvec(features, summed_embeddings) + tf.reduce_sum(bias)
    is_label = tf.range(vocabulary)[:, None] == labels
    if not logs:
        expected = (1 - label_smoothing) * at_label + everywhere * summed
        loss = tf.reduce_sum(counts * (highest + tf.math.log(total) - expected))
        target = tf.where(is_label, tf.constant(1 - label_smoothing + everywhere, wide), tf.constant(everywhere, wide))
        return loss, tf.cast(exponentials * (counts / total) - counts * target, logits.dtype)
    normaliser = highest + tf.math.log(total)
    generated, copied = logs[0] + at_label - normaliser, logs[1]
    expected = (1 - label_smoothing) * logaddexp(generated, copied) + everywhere * summed
    loss = tf.reduce_sum(counts * (label_smoothing * normaliser - expected))
    # How far the label is the vocabulary's: so far its gradient is that of the softmax.
    share = (1 - label_smoothing) * tf.sigmoid(generated - copied)
    target = tf.where(is_label, share + everywhere, tf.constant(everywhere, wide))
    of_logits = exponentials * (counts * (share + label_smoothing) / total) - counts * target
    of_copied = (1 - label_smoothing) * tf.sigmoid(copied - generated)
    return loss, tf.cast(of_logits, logits.dtype), -counts * share, -counts * of_copied


def _maximum(scores: Any) -> Any:
    """The maximum over the vocabulary: of slices first, which XLA makes in the pass that makes the scores."""
    vocabulary = scores.shape[0]
    size = -(-vocabulary // SLICES)
    slices = [scores[end - size : end] for end in (min((number + 1) * size, vocabulary) for number in range(SLICES))]
    highest = slices[0]
    for other in slices[1:]:
        highest = tf.maximum(highest, other)
    return tf.reduce_max(highest, axis=0)


@tf.function(jit_compile=True, autograph=False)
def _added(of_embeddings: Any, of_bias: Any, product: Any) -> tuple[Any, Any]:
    """Both sums with a chunk's share, which the product holds side by side."""
    product = tf.cast(product, of_bias.dtype)
    return of_embeddings + product[:, :-1], of_bias + product[:, -1]
