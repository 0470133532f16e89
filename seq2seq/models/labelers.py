"""The models without a decoder: a label for a sequence, and a label for each of its words."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, ModelFileError
from seq2seq.layers import Encoder
from seq2seq.layers.context import ConstantContext
from seq2seq.layers.dropout import SharedDropout, create_embedding
from seq2seq.models.base import TextModel, require_list
from seq2seq.models.inference import IDS, run_in_batches
from seq2seq.models.results import LabelPrediction
from seq2seq.text.ids import FIRST_LABEL_ID, PAD_ID
from seq2seq.text.tokenizer import LabelVocabulary, Tokenizer


class LabelPredictor(TextModel):
    """Predict labels with an encoder and a softmax over labels, p = softmax(W h + b); without a context, one a step."""

    SETTINGS = (
        *TextModel.SETTINGS,
        "vocabulary_size",
        "num_labels",
        "embedding_size",
        "readout_dropout",
        "label_smoothing",
    )

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
        self._create_source_layers(embedding, embedding_dropout, context_dropout, source_word_dropout)
        self.readout_dropout_layer = SharedDropout(readout_dropout, name="readout_dropout", **policy)
        self.output_layer = keras.layers.Dense(num_labels, name="output", **policy)
        self.build(None)
        self._release_reference_cycles()

    def build(self, input_shape: Any) -> None:
        memory_units = self.encoder.memory_units
        features = memory_units if self.context is None else self.context.context_units(memory_units)
        widths = {self.encoder: self.embedding_size, self.context: memory_units, self.output_layer: features}
        for layer, width in widths.items():
            # A layer that was loaded from a file is built.
            if layer is not None and not layer.built:
                layer.build((None, None, width))
        self.embedding.build((None, None))
        self.built = True

    @property
    def parts(self) -> dict[str, keras.Layer]:
        return super().parts | {"output": self.output_layer}

    @property
    def target_vocabulary_size(self) -> int:
        """Return the number of labels."""
        return self.num_labels

    def label_logits(self, source_ids: Any, training: bool | None = None) -> Any:
        """Return the float32 logits of `(batch, source_steps)` ids, `(batch, places, labels)`."""
        memory, mask = self.encode(source_ids, training)
        features = memory if self.context is None else self.context.summarize(memory, mask)[:, None, :]
        return ops.cast(self.output_layer(self.readout_dropout_layer(features, training=training)), "float32")

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return self.label_logits(inputs["source_ids"], training)

    def loss_and_tokens(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        targets = ops.cast(inputs["target_ids"], "int32")
        counts = ops.cast(ops.not_equal(targets, PAD_ID), "float32")
        log_probs = ops.log_softmax(self.label_logits(inputs["source_ids"], training), axis=-1)
        at_label = ops.sum(log_probs * ops.one_hot(targets - FIRST_LABEL_ID, self.num_labels), axis=-1)
        smoothed = (1 - self.label_smoothing) * at_label + self.label_smoothing * ops.mean(log_probs, axis=-1)
        return -ops.sum(smoothed * counts), ops.sum(counts)

    def target_log_probs(self, source_ids: Any, target_ids: Any) -> Any:
        mask = tf.not_equal(target_ids, PAD_ID)
        log_probs = tf.boolean_mask(self._label_log_probs(source_ids), mask)
        return tf.gather(log_probs, tf.boolean_mask(target_ids, mask) - FIRST_LABEL_ID, batch_dims=1)

    def _label_log_probs(self, source_ids: Any, _: Any = None) -> Any:
        return tf.nn.log_softmax(self.label_logits(source_ids, training=False))

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels in the order of the softmax."""
        vocabulary = self.require_tokenizer().target
        if not isinstance(vocabulary, LabelVocabulary):
            raise ModelFileError(f"{type(self).__name__} must have a tokenizer with labels, got {self.tokenizer}.")
        return vocabulary.labels

    def predict_labels(
        self, texts: Sequence[str], batch_tokens: int = 8_192, progress: Callable[[int], None] | None = None
    ) -> list[LabelPrediction]:
        """Predict the labels of each source, and the probabilities of all labels; a blank source has none.

        Args:
            texts: Sources.
            batch_tokens: Most source tokens of a batch, with padding.
            progress: Function to call with the number of further sources done, after each batch.

        Returns:
            A prediction for each source, in order; it does not depend on the other sources.

        Raises:
            ModelFileError: The model has no tokenizer.
            TypeError: `texts` is one string.
        """
        require_list("texts", texts)
        names = self.labels
        whole, places = self.require_tokenizer().encode_with_label_positions(texts)
        source_ids, truncated = self.truncate(whole)
        function = self._inference.compiled("label_log_probs", self._label_log_probs, IDS, IDS)
        results: list[LabelPrediction] = [LabelPrediction([], np.empty((0, self.num_labels)))] * len(texts)
        for batch, output in run_in_batches(function, source_ids, places, batch_tokens):
            for index, log_probs in zip(batch.indices, output, strict=True):
                probabilities = np.exp(log_probs[places[index] if texts[index].strip() else []])
                labels = [names[number] for number in probabilities.argmax(axis=-1)]
                results[index] = LabelPrediction(labels, probabilities, truncated[index])
            if progress is not None:
                progress(len(batch.indices))
        return results

    def answers(self, texts: Sequence[str], **options: Any) -> list[str]:
        return [prediction.text for prediction in self.predict_labels(texts, **options)]


@keras.saving.register_keras_serializable(package="seq2seq")
class SequenceClassifier(LabelPredictor):
    """Classify a sequence: p = softmax(W C + b), with any context C that is computed once for a source.

    The model is an ordinary Keras model, as `Seq2Seq` is; the `target_ids` of a batch are `(batch, 1)` labels from
    `FIRST_LABEL_ID` on.

    Args:
        encoder: Encodes embedded source tokens as the memory.
        context: Summarizes the memory as C: `LastContext`, `PooledContext`, `AttentiveContext`, ...
        **options: `vocabulary_size` of the source, `num_labels`, `embedding_size`; `embedding_dropout`,
            `context_dropout`, `source_word_dropout`, `label_smoothing`, `tokenizer` and `recipe` as in `Seq2Seq`; and
            `readout_dropout`, the share of the input of the softmax to drop in training.

    Returns:
        Logits, `(batch, 1, labels)`, float32.

    Raises:
        ArgumentError: The context reads the memory again at each step of a decoder, which the model does not have.

    >>> from seq2seq.layers import LastContext
    >>> model = SequenceClassifier(Encoder(4), LastContext(True), vocabulary_size=9, num_labels=2, embedding_size=6)
    >>> model({"source_ids": np.array([[4, 5, 3], [6, 3, 0]])}).shape.as_list()
    [2, 1, 2]
    """

    PARTS = ("encoder", "context")
    task = "classify"

    def __init__(self, encoder: Encoder, context: ConstantContext, **options: Any) -> None:
        if not isinstance(context, ConstantContext):
            raise ArgumentError(
                "context",
                "computed once for a source, for a model of labels",
                type(context).__name__,
                "Take AttentiveContext to weigh the memory.",
            )
        super().__init__(encoder, context=context, **options)


@keras.saving.register_keras_serializable(package="seq2seq")
class SequenceTagger(LabelPredictor):
    """Label each word of a sequence: p_t = softmax(W h_t + b), read at the first piece of the word.

    The model is an ordinary Keras model, as `Seq2Seq` is; the `target_ids` of a batch are `(batch, source_steps)`
    labels from `FIRST_LABEL_ID` on, and `PAD_ID` at pieces without one.

    Args:
        encoder: Encodes embedded source tokens as the memory.
        **options: As in `SequenceClassifier`.

    Returns:
        Logits, `(batch, source_steps, labels)`, float32.

    Raises:
        ArgumentError: The encoder joins source steps, so that some words share a step.

    >>> model = SequenceTagger(Encoder(units=4), vocabulary_size=9, num_labels=2, embedding_size=6)
    >>> model({"source_ids": np.array([[4, 5, 3], [6, 3, 0]])}).shape.as_list()
    [2, 3, 2]
    """

    task = "tag"

    def __init__(self, encoder: Encoder, **options: Any) -> None:
        if encoder.reduction > 1:
            name = "stride" if encoder.stride > 1 else "subsample"
            advice = "Each word needs a step of its own."
            raise ArgumentError(name, "1 for a tagger's encoder", getattr(encoder, name), advice)
        super().__init__(encoder, **options)
