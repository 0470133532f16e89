"""Cross entropy over a large vocabulary, without work on padding, in chunks of tokens.

The output product and the softmax are the largest part of a training step, and their arrays its largest. Both run over
valid tokens only, chunk by chunk; a chunk leaves its loss and its gradients behind, so that memory does not grow with
the number of tokens and XLA processes logits while they are in the processor's cache.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq.layers.copying import LabelShares, logaddexp

CHUNK = 512
"""Tokens of a chunk: enough for products at full rate, few enough to keep the logits of 8,000 words in a cache."""

ROWS = 64
"""The last chunk is padded to a multiple of this number, since XLA compiles again for each number of tokens."""

SLICES = 8
"""Slices of the vocabulary for its maximum."""


def token_cross_entropy(
    features: Any,
    labels: Any,
    mask: Any,
    embeddings: Any,
    bias: Any,
    label_smoothing: float = 0.0,
    shares: LabelShares | None = None,
) -> Any:
    """Sum the cross entropy with smoothed labels over the tokens in `mask`, as float32.

        loss = - sum_k t_k log softmax(E f + b)_k,   t = (1 - smoothing) onehot(label) + smoothing / vocabulary

    With `shares` of copied tokens, the label's part is the logarithm of the mixture, and the smoothed part that of the
    vocabulary, which moves neither gate nor attention:

        loss = - (1 - smoothing) log(g softmax(E f + b)_label + copied_label)
               - smoothing / vocabulary sum_k log softmax(E f + b)_k

    Label smoothing: Szegedy et al. 2016 (arXiv 1512.00567). The gradient is computed on the way forward, because that
    of a sum needs nothing from behind, so that no chunk is computed twice, as it is in Wijmans et al. 2024 (arXiv
    2411.09009). Products have the type of `features`; softmax and sums are float32, or float64 for float64 features.

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
    """Sum the attention `(batch, steps, source_steps)` that repeats itself: the coverage loss of See et al. 2017.

        loss = sum_t sum_s min(alpha_ts, coverage_ts),   coverage_ts = sum of alpha_is over the steps i before t

    >>> weights = tf.constant([[[1.0, 0.0], [0.25, 0.75]]])
    >>> float(repeated_attention(weights, tf.constant([[True, True]])))
    0.25
    """
    coverage = tf.cumsum(weights, axis=1, exclusive=True)
    return tf.reduce_sum(tf.where(mask[..., None], tf.minimum(weights, coverage), 0.0))


def _loss_and_gradients(
    features: Any, labels: Any, embeddings: Any, bias: Any, label_smoothing: float, logs: Sequence[Any]
) -> tuple[Any, Any, Any, Any, list[Any]]:
    """Return the loss of `(tokens, units)` features and its gradients by features, embeddings, bias and `logs`."""
    tokens, units, dtype = tf.shape(features)[0], features.shape[1], features.dtype
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    filled = tf.maximum((tokens + ROWS - 1) // ROWS, 1) * ROWS
    filling = [0, filled - tokens]
    # A column of ones makes the gradient by the bias a column of that by the embeddings; its zeros mark padding.
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
        # A product that transposes a large matrix takes oneDNN up to a third longer.
        of_features = tf.transpose(tf.matmul(transposed, of_logits))
        parts = zip(collected, [of_features, *of_logs], strict=True)
        collected = [array.write(start // CHUNK, part) for array, part in parts]
        of_embeddings, of_bias = _added(of_embeddings, of_bias, tf.matmul(of_logits, chunk))
        return end, loss + of_loss, collected, of_embeddings, of_bias

    chunks = (filled + CHUNK - 1) // CHUNK
    collected = [tf.TensorArray(dtype, chunks, infer_shape=False, element_shape=[None, units])]
    collected += [tf.TensorArray(wide, chunks, infer_shape=False, element_shape=[None]) for _ in logs]
    sums = tf.zeros([], wide), collected, tf.zeros(embeddings.shape, wide), tf.zeros(bias.shape, wide)
    # One chunk at a time: the logits of a second one would need its memory and its place in the cache.
    _, loss, collected, of_embeddings, of_bias = tf.while_loop(
        lambda start, *_: start < filled, add_chunk, (0, *sums), parallel_iterations=1
    )
    of_features, *of_logs = [array.concat()[:tokens] for array in collected]
    return loss, of_features, of_embeddings, of_bias, of_logs


@tf.function(jit_compile=True, autograph=False)
def _views(embeddings: Any, dtype: Any, wide: Any) -> tuple[Any, Any, Any]:
    """Return the embeddings in the type of the products, their transpose, and their sum over the vocabulary."""
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
    """Return the loss of a chunk and its gradients by logits, `(vocabulary, tokens)`, and by `logs`, `(tokens,)`."""
    wide, vocabulary = bias.dtype, logits.shape[0]
    everywhere = label_smoothing / vocabulary
    features, counts = tf.cast(chunk[:, :-1], wide), tf.cast(chunk[:, -1], wide)
    scores = tf.cast(logits, wide) + bias[:, None]
    highest = _maximum(scores)
    # Stored for sum and gradient, which is faster than a second pass of exponentials.
    exponentials = tf.exp(scores - highest)
    total = tf.reduce_sum(exponentials, axis=0)
    places = tf.stack([labels, tf.range(tf.shape(labels)[0])], axis=1)
    at_label = tf.cast(tf.gather_nd(logits, places), wide) + tf.gather(bias, labels)
    # The sum of all scores by one product, without a pass over the logits.
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
    # The share of the label that is generated, whose gradient is that of the softmax.
    share = (1 - label_smoothing) * tf.sigmoid(generated - copied)
    target = tf.where(is_label, share + everywhere, tf.constant(everywhere, wide))
    of_logits = exponentials * (counts * (share + label_smoothing) / total) - counts * target
    of_copied = (1 - label_smoothing) * tf.sigmoid(copied - generated)
    return loss, tf.cast(of_logits, logits.dtype), -counts * share, -counts * of_copied


def _maximum(scores: Any) -> Any:
    """Compute the maximum over the vocabulary, of slices first, which XLA fuses with the scores."""
    vocabulary = scores.shape[0]
    size = -(-vocabulary // SLICES)
    slices = [scores[end - size : end] for end in (min((number + 1) * size, vocabulary) for number in range(SLICES))]
    highest = slices[0]
    for other in slices[1:]:
        highest = tf.maximum(highest, other)
    return tf.reduce_max(highest, axis=0)


@tf.function(jit_compile=True, autograph=False)
def _added(of_embeddings: Any, of_bias: Any, product: Any) -> tuple[Any, Any]:
    """Add the gradients of a chunk, of which the product holds both side by side, to the sums."""
    product = tf.cast(product, of_bias.dtype)
    return of_embeddings + product[:, :-1], of_bias + product[:, -1]
