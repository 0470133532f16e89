"""How probable a model holds given targets: the log-probability of each token, from one parallel pass a batch."""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.layers.copying import label_shares, logaddexp
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.text.ids import PAD_ID
from seq2seq.threads import count_workers, map_parallel

if TYPE_CHECKING:
    from seq2seq.models.seq2seq import Seq2Seq

LOGITS_AT_ONCE = 1 << 23
"""Logits computed at once at most: 32 MiB of float32, however large the vocabulary and however many the tokens."""


class PairScore(NamedTuple):
    """How probable a target is, given its source, in nats.

    `pieces` are the target's tokens, the end token last, and `token_log_probs` the log-probability of each after those
    before it; `log_prob` is their sum. `num_truncated_tokens` tokens of the source were not read, for it has more than the model's
    recipe allows.

    >>> score = PairScore(log_prob=-3.0, token_log_probs=[-2.0, -1.0], pieces=["▁chat", "</s>"])
    >>> round(score.perplexity, 2)
    4.48
    """

    log_prob: float
    token_log_probs: list[float]
    pieces: list[str]
    num_truncated_tokens: int = 0

    @property
    def perplexity(self) -> float:
        """exp of the mean of -log p over the tokens: among how many equally likely tokens the model would choose."""
        return perplexity(-self.log_prob / len(self.pieces))


class Scorer:
    """The log-probabilities that one model gives, by a function compiled once for all shapes."""

    def __init__(self, model: "Seq2Seq") -> None:
        self._model = model

    def score(self, sources: list[str], targets: list[str], batch_tokens: int) -> list[PairScore]:
        """The score of each pair, in order; see `Seq2Seq.score`."""
        tokenizer = self._model.require_tokenizer()
        target_ids = tokenizer.target.encode(targets)
        whole = tokenizer.source.encode(sources)
        source_ids = [self._model.truncation.cut(ids) for ids in whole]
        corpus = EncodedCorpus.from_lists(source_ids, target_ids)
        log_probs: list[np.ndarray] = [np.empty(0)] * len(targets)
        batches = list(Batches(corpus, batch_tokens=batch_tokens, shuffle=False).epoch(0))
        # A graph is traced here, on one thread.
        compiled = self._log_probs.get_concrete_function()

        def log_probs_of(batch: Batch) -> np.ndarray:
            found: np.ndarray = compiled(tf.constant(batch.source_ids), tf.constant(batch.target_ids)).numpy()
            return found.astype(np.float64)

        for batch, of_tokens in zip(batches, map_parallel(log_probs_of, batches, count_workers()), strict=True):
            ends = np.cumsum([len(target_ids[index]) for index in batch.indices])
            for index, of_target in zip(batch.indices, np.split(of_tokens, ends[:-1]), strict=True):
                log_probs[index] = of_target
        return [
            PairScore(float(found.sum()), found.tolist(), tokenizer.target.pieces(ids), len(every) - len(read))
            for found, ids, every, read in zip(log_probs, target_ids, whole, source_ids, strict=True)
        ]

    @functools.cached_property
    def _log_probs(self) -> Any:
        """Log-probabilities of the valid target tokens of a batch, row after row, `(tokens,)`."""
        model = self._model
        rows = max(1, LOGITS_AT_ONCE // model.target_vocabulary_size)

        def log_probs(source_ids: Any, target_ids: Any) -> Any:
            mask = tf.not_equal(target_ids, PAD_ID)
            readouts = model.decode_teacher_forced({"source_ids": source_ids, "target_ids": target_ids}, training=False)
            features, labels = tf.boolean_mask(readouts.features, mask), tf.boolean_mask(target_ids, mask)
            tokens = tf.shape(labels)[0]

            def take_rows(number: Any, results: Any) -> tuple[Any, Any]:
                part = slice(number * rows, tf.minimum((number + 1) * rows, tokens))
                logits = tf.cast(model.decoder.logits(features[part]), tf.float32)
                cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[part], logits)
                return number + 1, results.write(number, -cross_entropy)

            parts = -(-tokens // rows)
            results = tf.TensorArray(tf.float32, size=parts, element_shape=[None], infer_shape=False)
            # One part after the other: several at a time would hold the logits of all of them.
            _, results = tf.while_loop(
                lambda number, _: number < parts, take_rows, (tf.constant(0), results), parallel_iterations=1
            )
            if readouts.copies is None:
                return results.concat()
            shares = label_shares(readouts.copies, source_ids, target_ids)
            generated = tf.boolean_mask(shares.log_generated, mask) + results.concat()
            return logaddexp(generated, tf.boolean_mask(shares.log_copied, mask))

        ids = tf.TensorSpec([None, None], tf.int32)
        return tf.function(log_probs, input_signature=[ids, ids], autograph=False)


def perplexity(loss: float) -> float:
    """exp(loss), of a mean loss a token in nats; infinite where no float can hold it."""
    return math.exp(loss) if loss < 700 else math.inf
