"""The two shapes without a decoder: a label for a sequence, and a label for each of its words."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from seq2seq.errors import DataError, ModelFileError
from seq2seq.layers import Encoder
from seq2seq.layers.context import ConstantContext
from seq2seq.layers.dropout import SharedDropout, create_embedding
from seq2seq.models.base import TextModel
from seq2seq.models.scoring import PairScore
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.text.ids import FIRST_LABEL_ID, PAD_ID
from seq2seq.text.tokenizer import LabelVocabulary, Tokenizer
from seq2seq.threads import count_workers, map_parallel


class LabelPrediction(NamedTuple):
    """The labels of one source: the most probable ones, and how probable each is, `(places, labels)`.

    `num_truncated_tokens` tokens of the source were not read, for it has more than the model's recipe allows.
    """

    labels: list[str]
    probabilities: np.ndarray
    num_truncated_tokens: int = 0

    @property
    def text(self) -> str:
        """The labels as a target file has them, apart by spaces."""
        return " ".join(self.labels)


class LabelPredictor(TextModel):
    """What both share: the encoder, then a softmax over labels, p = softmax(W h + b).

    Args:
        encoder: Turns embedded source tokens into the memory.
        vocabulary_size: Number of source tokens.
        num_labels: Number of labels.
        embedding_size: Width of the embeddings.
        context: Makes one C of the memory; None: each step of the memory has its label.
        embedding_dropout, context_dropout, source_word_dropout: As in `Seq2Seq`.
        readout_dropout: Share of what the softmax reads dropped in training.
        label_smoothing: Probability that the loss spreads over all labels.
        tokenizer: Turns strings into tokens and ids into labels.
        recipe: The whole recipe of the run that trained the model, kept with it.
    """

    def __init__(
        self,
        encoder: Encoder,
        vocabulary_size: int,
        num_labels: int,
        embedding_size: int,
        context: ConstantContext | None = None,
        embedding_dropout: float = 0.0,
        context_dropout: float = 0.0,
        source_word_dropout: float = 0.0,
        readout_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        tokenizer: Tokenizer | None = None,
        recipe: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, recipe, **kwargs)
        self.encoder = encoder
        self.context = context
        self.vocabulary_size = vocabulary_size
        self.num_labels = num_labels
        self.embedding_size = embedding_size
        self.readout_dropout = readout_dropout
        self.label_smoothing = label_smoothing
        policy = {"dtype": self.dtype_policy}
        embedding = create_embedding(vocabulary_size, embedding_size, "source_embedding", self.variable_dtype)
        self._read_with(embedding, embedding_dropout, context_dropout, source_word_dropout)
        self.readout_dropout_layer = SharedDropout(readout_dropout, name="readout_dropout", **policy)
        self.output_layer = keras.layers.Dense(num_labels, name="output", **policy)
        self.build(None)

    def build(self, input_shape: Any) -> None:
        memory_units = self.encoder.memory_units
        features = memory_units if self.context is None else self.context.context_units(memory_units)
        widths = {self.encoder: self.embedding_size, self.context: memory_units, self.output_layer: features}
        for layer, width in widths.items():
            # A layer that was read from a file is built.
            if layer is not None and not layer.built:
                layer.build((None, None, width))
        self.embedding.build((None, None))
        self.built = True

    @property
    def parts(self) -> dict[str, keras.Layer]:
        return super().parts | {"output": self.output_layer}

    @property
    def target_vocabulary_size(self) -> int:
        """Number of labels."""
        return self.num_labels

    def label_logits(self, source_ids: Any, training: bool | None = None) -> Any:
        """Scores of all labels at each place that has one, and at others that count for nothing.

        Args:
            source_ids: `(batch, source_steps)`.

        Returns:
            `(batch, places, labels)`, float32.
        """
        memory, mask = self.encode(source_ids, training)
        features = memory if self.context is None else self.context.summarize(memory, mask)[:, None, :]
        return ops.cast(self.output_layer(self.readout_dropout_layer(features, training=training)), "float32")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return self.label_logits(inputs["source_ids"], training)

    def loss_and_tokens(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        return self._loss_and_labels(self.label_logits(inputs["source_ids"], training), inputs["target_ids"])

    def _loss_and_labels(self, logits: Any, target_ids: Any) -> tuple[Any, Any]:
        targets = ops.cast(target_ids, "int32")
        counts = ops.cast(ops.not_equal(targets, PAD_ID), "float32")
        log_probs = ops.log_softmax(logits, axis=-1)
        at_label = ops.sum(log_probs * ops.one_hot(targets - FIRST_LABEL_ID, self.num_labels), axis=-1)
        smoothed = (1 - self.label_smoothing) * at_label + self.label_smoothing * ops.mean(log_probs, axis=-1)
        return -ops.sum(smoothed * counts), ops.sum(counts)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss of `fit`: a label's mean cross entropy, unless `compile` was given a loss and `fit` labels."""
        if y is not None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss, labels = self._loss_and_labels(y_pred, x["target_ids"])
        return loss / labels

    @functools.cached_property
    def _log_probs(self) -> Any:
        def log_probs(source_ids: Any) -> Any:
            return tf.nn.log_softmax(self.label_logits(source_ids, training=False))

        return tf.function(log_probs, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)

    def _label_log_probs(
        self, texts: Sequence[str], batch_tokens: int = 8_192, progress: Callable[[int], None] | None = None
    ) -> list[tuple[np.ndarray, int]]:
        """Log-probabilities of all labels at the places of each source, `(places, labels)`, and its tokens left out."""
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of strings, but is {texts!r} instead. Put it into a list.")
        whole, places = self.require_tokenizer().encode_with_label_positions(texts)
        rows = [self.truncation.cut(row) for row in whole]
        batches = list(
            Batches(EncodedCorpus.from_lists(rows, places), batch_tokens=batch_tokens, shuffle=False).epoch(0)
        )
        # A graph is traced here, on one thread.
        compiled = self._log_probs.get_concrete_function()

        def log_probs_of(batch: Batch) -> np.ndarray:
            found: np.ndarray = compiled(tf.constant(batch.source_ids)).numpy()
            return found.astype(np.float64)

        results = [np.empty((0, self.num_labels))] * len(texts)
        for batch, found in zip(batches, map_parallel(log_probs_of, batches, count_workers()), strict=True):
            for index, of_source in zip(batch.indices, found, strict=True):
                results[index] = of_source[places[index]]
            if progress is not None:
                progress(len(batch.indices))
        num_truncated_tokens = [len(every) - len(read) for every, read in zip(whole, rows, strict=True)]
        return list(zip(results, num_truncated_tokens, strict=True))

    def require_tokenizer(self) -> Tokenizer:
        tokenizer = super().require_tokenizer()
        if not isinstance(tokenizer.target, LabelVocabulary):
            raise ModelFileError(f"{type(self).__name__} must have a tokenizer with labels, got {tokenizer}.")
        return tokenizer

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the softmax."""
        return cast(LabelVocabulary, self.require_tokenizer().target).labels

    def predict_labels(self, texts: Sequence[str], **options: Any) -> list[LabelPrediction]:
        """The most probable labels of each source, and the probabilities of all; a blank source has none.

        Args:
            texts: Sources.
            **options: `batch_tokens`, source tokens labelled at once at most, and `progress`, which is called with how
                many more sources are done.

        Returns:
            A labelling a source, in order; what it says does not depend on the other sources.

        Raises:
            ModelFileError: The model has no tokenizer.
            TypeError: `texts` is one string, which would be read letter by letter.
        """
        labels = self.labels
        found = []
        for text, (log_probs, num_truncated_tokens) in zip(texts, self._label_log_probs(texts, **options), strict=True):
            probabilities = np.exp(log_probs[: len(log_probs) if text.strip() else 0])
            best = [labels[number] for number in probabilities.argmax(axis=-1)]
            found.append(LabelPrediction(best, probabilities, num_truncated_tokens))
        return found

    def answers(self, texts: Sequence[str], **options: Any) -> list[str]:
        return [labelling.text for labelling in self.predict_labels(texts, **options)]

    def score(self, sources: Sequence[str], targets: Sequence[str], batch_tokens: int = 8_192) -> list[PairScore]:
        """How probable the labels of each source are.

        Args:
            sources: Sources.
            targets: Their labels.
            batch_tokens: Source tokens labelled at once at most.

        Raises:
            DataError: There are not as many targets as sources, or not the labels of a source.
        """
        if len(sources) != len(targets):
            raise DataError(f"targets must be as many as sources, {len(sources)}, but are {len(targets)} instead.")
        tokenizer = self.require_tokenizer()
        _, target_ids = tokenizer.encode_pairs(sources, targets)
        scores = []
        for ids, (log_probs, num_truncated_tokens) in zip(
            target_ids, self._label_log_probs(sources, batch_tokens), strict=True
        ):
            numbers = [number - FIRST_LABEL_ID for number in ids if number != PAD_ID]
            of_labels = log_probs[np.arange(len(numbers)), numbers]
            scores.append(
                PairScore(
                    float(of_labels.sum()), of_labels.tolist(), tokenizer.target.pieces(ids), num_truncated_tokens
                )
            )
        return scores

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "num_labels": self.num_labels,
            "embedding_size": self.embedding_size,
            "readout_dropout": self.readout_dropout,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable(package="seq2seq")
class SequenceClassifier(LabelPredictor):
    """Many to one: a label for a source, p = softmax(W C + b), with any context C that is built once a source.

    An ordinary Keras model, as `Seq2Seq` is; a batch's `target_ids` are `(batch, 1)`, from `FIRST_LABEL_ID`.

    Args:
        encoder: Turns embedded source tokens into the memory.
        context: Makes C of the memory: `LastContext`, `PooledContext`, `AttentiveContext`, ...
        **options: As in `LabelPredictor`.

    Returns:
        Logits, `(batch, 1, labels)`, float32.

    Raises:
        ValueError: The context reads the memory anew at each step, and nothing is written.

    >>> from seq2seq.layers import LastContext
    >>> model = SequenceClassifier(Encoder(4), LastContext(True), vocabulary_size=9, num_labels=2, embedding_size=6)
    >>> model({"source_ids": np.array([[4, 5, 3], [6, 3, 0]])}).shape.as_list()
    [2, 1, 2]
    """

    PARTS = ("encoder", "context")
    task = "classify"

    def __init__(self, encoder: Encoder, context: ConstantContext, **options: Any) -> None:
        if not isinstance(context, ConstantContext):
            raise ValueError(
                f"context must be one that is built once a source, but is {type(context).__name__} instead. "
                "Take AttentiveContext to weigh the memory."
            )
        super().__init__(encoder, context=context, **options)


@keras.saving.register_keras_serializable(package="seq2seq")
class SequenceTagger(LabelPredictor):
    """Many to many in step: a label for each word of a source, p_t = softmax(W h_t + b), read at its first piece.

    An ordinary Keras model, as `Seq2Seq` is; a batch's `target_ids` are `(batch, source_steps)`, from
    `FIRST_LABEL_ID`, and `PAD_ID` where there is none.

    Args:
        encoder: Turns embedded source tokens into the memory.
        **options: As in `LabelPredictor`.

    Returns:
        Logits, `(batch, source_steps, labels)`, float32.

    Raises:
        ValueError: The encoder joins source steps, so that not every word has one of its own.

    >>> model = SequenceTagger(Encoder(units=4), vocabulary_size=9, num_labels=2, embedding_size=6)
    >>> model({"source_ids": np.array([[4, 5, 3], [6, 3, 0]])}).shape.as_list()
    [2, 3, 2]
    """

    task = "tag"

    def __init__(self, encoder: Encoder, **options: Any) -> None:
        if encoder.reduction > 1:
            raise ValueError(
                f"reduction of a tagger's encoder must be 1, but is {encoder.reduction} instead. Each word needs a "
                "step of its own: leave out front end and pyramid."
            )
        super().__init__(encoder, **options)
