"""Copying: a share of each next token's probability goes to the tokens of the source, by attention.

A copied word needs to be in the vocabulary piece by piece only: a name that no training text had can be written in the
pieces of the source. All numbers here are float32, whatever type the model computes in.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.errors import require_integer
from seq2seq.layers.attention import GeneralScore
from seq2seq.layers.masking import LARGE_NEGATIVE, ExplicitMaskLayer, in_windows, masked_softmax

COPY = ("none", "reuse", "separate")

LEAST_MASS = 1e-30
"""Smallest weight of a source token, so that its logarithm and the gradient of the logarithm are finite."""

GENERATING = 5.0
"""Bias of a gate that leaves all but 0.7 % to the vocabulary, and can still learn: a trained model starts from it."""


class CopySource(NamedTuple):
    """Source sentences prepared for copying: token ids `(batch, source_steps)` and the mask of the memory.

    `keys` are those of a separate copy attention. `token_keys` `(batch, memory_steps, window, units)` and `token_mask`
    are those of the tokens, where a step of the memory stands for a window of them.
    """

    token_ids: Any
    mask: Any
    keys: Any
    token_keys: Any = None
    token_mask: Any = None


class Copies(NamedTuple):
    """Logits of the vocabulary's share `(rows, steps)` and weights of source tokens `(rows, steps, source_steps)`."""

    gate: Any
    weights: Any


@keras.saving.register_keras_serializable(package="seq2seq")
class Copying(ExplicitMaskLayer):
    """The gate between vocabulary and source, and the weights of the copied tokens (See et al. 2017, arXiv 1704.04368).

        g = sigma(w [s_t ; c_t ; x_t] + b)
        p(token) = g p_vocabulary(token) + (1 - g) sum of alpha_s over the places s with source_s = token

    with s_t the decoder's output, c_t the context and x_t the embedded input; training starts at g = 1/2. alpha is the
    context's attention, or an attention of its own where `separate`, which compares s_t with the memory by a general
    score. Where a step of the memory stands for a `window` of tokens, its weight is divided among them by how well s_t
    fits the embedding e_i of each:

        alpha_i = alpha_window softmax over the window of (e_i W s_t)
    """

    def __init__(self, separate: bool = False, window: int = 1, **kwargs: Any) -> None:
        # Keras would round the weights to the type that the model computes in.
        super().__init__(autocast=False, **kwargs)
        require_integer("window", window)
        self.separate = separate
        self.window = window
        self.window_score = GeneralScore(dtype=self.dtype_policy, name="window_score") if window > 1 else None
        self.score = GeneralScore(dtype=self.dtype_policy, name="score") if separate else None

    def build(self, inputs_shapes: Any, memory_shape: Any) -> None:
        features = sum(shape[-1] for shape in inputs_shapes)
        self.kernel = self.add_weight(name="kernel", shape=(features, 1), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(1,), initializer="zeros")
        if self.score is not None:
            self.score.build(inputs_shapes[0], memory_shape)
        if self.window_score is not None:
            self.window_score.build(inputs_shapes[0], inputs_shapes[-1])

    def source(self, token_ids: Any, embedded: Any, token_mask: Any, memory: Any, mask: Any) -> CopySource:
        """Prepare sentences: token ids, their embeddings and mask, the memory and its mask."""
        keys = None if self.score is None else self.score.keys(memory)
        if self.window_score is None:
            return CopySource(token_ids, mask, keys)
        token_keys = in_windows(self.window_score.keys(embedded), self.window)
        return CopySource(token_ids, mask, keys, token_keys, in_windows(token_mask, self.window))

    def call(self, inputs: Any, weights: Any = None, source: Any = None) -> Copies:
        """Compute gate and weights from s_t, c_t where there is one, and x_t, each `(rows, steps, units)`.

        `weights` are the attention of the context, `(rows, steps, memory_steps)`, unused where `separate`; `source` is
        needed where `separate` and for windows. Rows may be a whole multiple of its batch.
        """
        joined = ops.cast(ops.concatenate(inputs, axis=-1), "float32")
        gate = ops.matmul(joined, ops.cast(self.kernel, "float32")) + ops.cast(self.bias, "float32")
        if self.score is not None:
            query = self._by_sentence(inputs[0], source.mask)
            weights = masked_softmax(self.score(query, keys=source.keys), source.mask[:, None, :])
            weights = ops.reshape(weights, (*ops.shape(inputs[0])[:2], ops.shape(source.mask)[1]))
        # The weights of a local window do not sum to one.
        weights /= ops.maximum(ops.sum(weights, axis=-1, keepdims=True), LEAST_MASS)
        if self.window_score is not None:
            weights = self._divide(weights, inputs[0], source)
        return Copies(ops.squeeze(gate, -1), weights)

    def _by_sentence(self, sequence: Any, mask: Any) -> Any:
        """Reshape `(rows, steps, units)` to `(batch, rows of a sentence * steps, units)`."""
        batch, (rows, steps) = ops.shape(mask)[0], ops.shape(sequence)[:2]
        return ops.reshape(sequence, (batch, rows * steps // batch, sequence.shape[-1]))

    def _divide(self, weights: Any, query: Any, source: CopySource) -> Any:
        """Divide the weights of windows, `(rows, steps, memory_steps)`, among tokens, `(rows, steps, source_steps)`."""
        rows, steps, windows = ops.shape(weights)
        by_sentence = ops.cast(self._by_sentence(query, source.mask), "float32")
        scores = ops.einsum("bqu,bnwu->bqnw", by_sentence, ops.cast(source.token_keys, "float32"))
        shares = masked_softmax(scores, source.token_mask[:, None])
        shares = ops.reshape(shares, (rows, steps, windows, self.window)) * weights[..., None]
        return ops.reshape(shares, (rows, steps, windows * self.window))[..., : ops.shape(source.token_ids)[1]]

    def begin_generating(self) -> None:
        """Set the gate so that nearly nothing is copied, for a trained model that starts to learn to copy."""
        self.kernel.assign(ops.zeros_like(self.kernel))
        self.bias.assign(ops.full_like(self.bias, GENERATING))


def mixture(logits: Any, copies: Copies, source_ids: Any) -> Any:
    """Mix the vocabulary's logits `(rows, steps, vocabulary_size)` with copies of `source_ids` `(batch, source_steps)`.

    Returns normalised float32 log-probabilities of all tokens; rows may be a whole multiple of the batch.

    >>> copies = Copies(tf.constant([[0.0]]), tf.constant([[[0.5, 0.25, 0.25]]]))
    >>> tf.exp(mixture(tf.zeros([1, 1, 4]), copies, tf.constant([[3, 1, 3]]))).numpy().tolist()
    [[[0.125, 0.25, 0.125, 0.5]]]
    """
    shape = tf.shape(logits)
    rows, steps, vocabulary_size = tf.unstack(shape)
    log_shares = tf.math.log_sigmoid(copies.gate)[..., None]
    generated = tf.reshape(log_shares + tf.nn.log_softmax(tf.cast(logits, tf.float32)), [-1])
    of_rows = tf.repeat(tf.cast(source_ids, tf.int32), rows // tf.shape(source_ids)[0], axis=0)[:, None, :]
    first_places = tf.reshape(tf.range(rows * steps) * vocabulary_size, [rows, steps, 1])
    places = first_places + of_rows
    # Only the tokens of the source change: the shares of all places of a token are added up, and no other token costs
    # a logarithm.
    masses = tf.gather(tf.math.unsorted_segment_sum(copies.weights, places, tf.size(generated)), places)
    copied = tf.math.log_sigmoid(-copies.gate)[..., None] + tf.math.log(tf.maximum(masses, LEAST_MASS))
    mixed = logaddexp(tf.gather(generated, places), tf.where(masses > 0, copied, LARGE_NEGATIVE))
    # A token in several places is written several times, with the same number.
    return tf.reshape(
        tf.tensor_scatter_nd_update(generated, tf.reshape(places, [-1, 1]), tf.reshape(mixed, [-1])), shape
    )


class LabelShares(NamedTuple):
    """Logarithms of the vocabulary's share and of what is copied of each right token, `(batch, steps)` each."""

    log_generated: Any
    log_copied: Any
    is_in_source: Any


def label_shares(copies: Copies, source_ids: Any, labels: Any) -> LabelShares:
    """Compute the parts of the mixture for each right token `(batch, steps)` only."""
    labels, source_ids = tf.cast(labels, tf.int32), tf.cast(source_ids, tf.int32)
    is_label = tf.equal(labels[:, :, None], source_ids[:, None, :])
    masses = tf.reduce_sum(tf.where(is_label, copies.weights, 0.0), axis=-1)
    is_in_source = tf.reduce_any(is_label, axis=-1)
    log_copied = tf.math.log_sigmoid(-copies.gate) + tf.math.log(tf.maximum(masses, LEAST_MASS))
    return LabelShares(
        tf.math.log_sigmoid(copies.gate), tf.where(is_in_source, log_copied, LARGE_NEGATIVE), is_in_source
    )


def logaddexp(first: Any, second: Any) -> Any:
    """Compute log(exp(first) + exp(second)) of finite numbers."""
    highest = tf.maximum(first, second)
    return highest + tf.math.log1p(tf.exp(-tf.abs(first - second)))
