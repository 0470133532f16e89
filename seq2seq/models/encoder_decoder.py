"""The encoder-decoder: from token ids to logits, losses and decoding steps; it knows no search."""

import pathlib
from typing import Any, Self

import keras
import tensorflow as tf
from keras import ops

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ArgumentError
from seq2seq.layers import Decoder, Encoder, Recurrent
from seq2seq.layers.context import PreparedContext
from seq2seq.layers.copying import LabelShares, label_shares, logaddexp
from seq2seq.layers.decoder import TeacherForcedOutputs
from seq2seq.layers.dropout import create_embedding
from seq2seq.layers.masking import LARGE_NEGATIVE
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.models.base import TextModel
from seq2seq.models.losses import repeated_attention, token_cross_entropy
from seq2seq.text.ids import PAD_ID, START_ID
from seq2seq.text.lexicon import Lexicon
from seq2seq.text.tokenizer import Tokenizer

LEXICON = "lexicon.npz"

LOGITS_AT_ONCE = 1 << 23
"""Most logits that scoring computes at once: 32 MiB of float32 for any vocabulary and any number of tokens."""


class EncoderDecoder(TextModel):
    """Encode a source, and compute the logits, the loss or one step of its target; see `Seq2Seq` for the arguments."""

    PARTS = ("encoder", "decoder")
    SETTINGS = (
        *TextModel.SETTINGS,
        "source_vocabulary_size",
        "target_word_dropout",
        "label_smoothing",
        "coverage_loss",
        "force_copy",
    )
    ASSETS = ("tokenizer", "lexicon")

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        source_vocabulary_size: int | None = None,
        embedding_dropout: float = 0.0,
        context_dropout: float = 0.0,
        source_word_dropout: float = 0.0,
        target_word_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        coverage_loss: float = 0.0,
        force_copy: bool = False,
        tokenizer: Tokenizer | None = None,
        decoding: DecodingConfig | None = None,
        recipe: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, recipe, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.source_vocabulary_size = source_vocabulary_size
        self.target_word_dropout = target_word_dropout
        self.label_smoothing = label_smoothing
        self.coverage_loss = coverage_loss
        self.force_copy = force_copy
        self.decoding = decoding or DecodingConfig()
        self._check_arguments()
        embedding = decoder.embedding
        if source_vocabulary_size is not None:
            size = decoder.embedding_size
            embedding = create_embedding(source_vocabulary_size, size, "source_embedding", self.variable_dtype)
        self._create_source_layers(embedding, embedding_dropout, context_dropout, source_word_dropout)
        self.target_word_dropout_layer = self._word_dropout("target", target_word_dropout)
        self.lexicon: Lexicon | None = None
        self.build({"source_ids": (None, None), "target_ids": (None, None)})
        self._release_reference_cycles()

    def _check_arguments(self) -> None:
        if self.coverage_loss and not self.decoder.context.is_attention:
            raise ArgumentError("coverage_loss", "0 for a decoder without attention", self.coverage_loss)
        if self.decoder.copy == "none":
            if self.force_copy:
                raise ArgumentError("force_copy", "False for a decoder that does not copy", True)
            return
        size, reduction = self.decoder.vocabulary_size, self.encoder.reduction
        if self.source_vocabulary_size not in (None, size):
            raise ArgumentError(
                "source_vocabulary_size",
                f"None or {size}, the target's, for a decoder that copies",
                self.source_vocabulary_size,
                "Source and target must share one vocabulary.",
            )
        if self.decoder.copy_window != reduction:
            raise ArgumentError(
                "copy_window", f"{reduction}, the source tokens of a memory step", self.decoder.copy_window
            )
        if self.tokenizer is not None and not self.tokenizer.is_joint:
            raise ArgumentError("tokenizer", "joint for a decoder that copies", "a vocabulary for each side")

    def build(self, input_shape: Any) -> None:
        ids_shape = (None, None)
        memory_shape = (None, None, self.encoder.memory_units)
        for layer, shapes in (
            (self.embedding, (ids_shape,)),
            (self.encoder, ((None, None, self.decoder.embedding_size),)),
            (self.decoder, (ids_shape, memory_shape)),
        ):
            if not layer.built:
                layer.build(*shapes)
        self.built = True

    @property
    def target_vocabulary_size(self) -> int:
        """Return the number of target tokens."""
        return int(self.decoder.vocabulary_size)

    @property
    def parts(self) -> dict[str, keras.Layer]:
        context = {"decoder/context": self.decoder.context, "decoder/embedding": self.decoder.embedding}
        return {"encoder": self.encoder} | context | super().parts

    @property
    def recurrent_layers(self) -> dict[str, Recurrent]:
        return super().recurrent_layers | {f"decoder.{layer.name}": layer for layer in self.decoder.recurrent_layers}

    @property
    def is_sequential(self) -> bool:
        return bool(self.decoder.is_sequential)

    def kernel_choices(self) -> dict[str, KernelChoice]:
        choices = super().kernel_choices()
        if not self.is_sequential:
            return choices
        reason = "the decoder runs step by step, since each step reads the last one's context or readout"
        return {
            name: KernelChoice("raw", (reason, *choice.reasons_against_cudnn)) if name.startswith("decoder") else choice
            for name, choice in choices.items()
        }

    def prepare(self, source_ids: Any, encoded: tuple[Any, Any] | None = None) -> tuple[PreparedContext, Any]:
        """Return what decoding steps read of `(batch, source_steps)` sources, and the decoder's first state.

        `encoded` is the memory and its mask, if another encoder than the model's own computed them.
        """
        prepared = self._prepare_context(source_ids, encoded or self.encode(source_ids, training=False))
        return prepared, self.decoder.start(prepared)

    def _prepare_context(self, source_ids: Any, encoded: tuple[Any, Any]) -> PreparedContext:
        memory, mask = encoded
        return self.decoder.prepare(memory, mask, source_ids, ops.not_equal(source_ids, PAD_ID))

    def decode_teacher_forced(
        self, inputs: dict[str, Any], training: bool | None = None, attention: bool = False
    ) -> TeacherForcedOutputs:
        """Run the decoder over a known target, all but the output product."""
        source_ids = inputs["source_ids"]
        prepared = self._prepare_context(source_ids, self.encode(source_ids, training))
        targets = ops.cast(inputs["target_ids"], "int32")
        start = ops.full_like(targets[:, :1], START_ID)
        written = ops.concatenate([start, targets[:, :-1]], axis=1)
        written = self.target_word_dropout_layer(written, training=training)
        return self.decoder.decode_teacher_forced(written, prepared, training, attention)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        outputs = self.decode_teacher_forced(inputs, training)
        return ops.cast(self.decoder.scores(outputs, inputs["source_ids"]), "float32")

    def loss_and_tokens(
        self, inputs: dict[str, Any], training: bool | None = None, label_smoothing: float | None = None
    ) -> tuple[Any, Any]:
        # Mixed precision is for the layers only: the loss needs the weights in full precision.
        mask = ops.not_equal(inputs["target_ids"], PAD_ID)
        has_coverage_loss = bool(training and self.coverage_loss)
        outputs = self.decode_teacher_forced(inputs, training, attention=has_coverage_loss)
        loss = token_cross_entropy(
            outputs.features,
            inputs["target_ids"],
            mask,
            ops.convert_to_tensor(self.decoder.output_embeddings),
            ops.convert_to_tensor(self.decoder.readout.output_bias),
            self.label_smoothing if label_smoothing is None else label_smoothing,
            self._label_shares(outputs, inputs, training),
        )
        if has_coverage_loss:
            loss += self.coverage_loss * repeated_attention(outputs.attention_weights, mask)
        return loss, ops.sum(ops.cast(mask, "float32"))

    def _label_shares(
        self, outputs: TeacherForcedOutputs, inputs: dict[str, Any], training: bool | None
    ) -> LabelShares | None:
        if outputs.copies is None:
            return None
        shares = label_shares(outputs.copies, inputs["source_ids"], inputs["target_ids"])
        if not (training and self.force_copy):
            return shares
        return shares._replace(log_generated=ops.where(shares.is_in_source, LARGE_NEGATIVE, shares.log_generated))

    def target_log_probs(self, source_ids: Any, target_ids: Any) -> Any:
        mask = tf.not_equal(target_ids, PAD_ID)
        outputs = self.decode_teacher_forced({"source_ids": source_ids, "target_ids": target_ids}, training=False)
        features, labels = tf.boolean_mask(outputs.features, mask), tf.boolean_mask(target_ids, mask)
        rows = max(1, LOGITS_AT_ONCE // self.target_vocabulary_size)
        tokens = tf.shape(labels)[0]
        chunks = -(-tokens // rows)

        def add_chunk(number: Any, results: Any) -> tuple[Any, Any]:
            chunk = slice(number * rows, tf.minimum((number + 1) * rows, tokens))
            logits = tf.cast(self.decoder.logits(features[chunk]), tf.float32)
            cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[chunk], logits)
            return number + 1, results.write(number, -cross_entropy)

        results = tf.TensorArray(tf.float32, size=chunks, element_shape=[None], infer_shape=False)
        # One chunk at a time bounds the memory of logits.
        _, results = tf.while_loop(
            lambda number, _: number < chunks, add_chunk, (tf.constant(0), results), parallel_iterations=1
        )
        if outputs.copies is None:
            return results.concat()
        shares = label_shares(outputs.copies, source_ids, target_ids)
        generated = tf.boolean_mask(shares.log_generated, mask) + results.concat()
        return logaddexp(generated, tf.boolean_mask(shares.log_copied, mask))

    def save_assets(self, directory: str) -> None:
        super().save_assets(directory)
        if self.lexicon is not None:
            (pathlib.Path(directory) / LEXICON).write_bytes(self.lexicon.to_bytes())

    def load_assets(self, directory: str) -> None:
        super().load_assets(directory)
        lexicon = pathlib.Path(directory) / LEXICON
        self.lexicon = Lexicon.from_bytes(lexicon.read_bytes()) if lexicon.is_file() else None

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"decoding": self.decoding.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        return super().from_config(config | {"decoding": DecodingConfig.from_dict(config["decoding"])}, custom_objects)
