"""The model: text in, text out, around an encoder, a context and a decoder."""

import pathlib
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import DataError
from seq2seq.layers import Decoder, Encoder, Recurrent
from seq2seq.layers.copying import LabelShares, label_shares
from seq2seq.layers.decoder import TeacherForcedOutputs
from seq2seq.layers.dropout import create_embedding
from seq2seq.layers.masking import LARGE_NEGATIVE
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.models.base import TextModel
from seq2seq.models.generation import Generator, Translator
from seq2seq.models.losses import repeated_attention, token_cross_entropy
from seq2seq.models.scoring import PairScore, Scorer
from seq2seq.text.ids import PAD_ID, START_ID
from seq2seq.text.lexicon import Lexicon, learn_lexicon
from seq2seq.text.tokenizer import Tokenizer

LEXICON = "lexicon.npz"


@keras.saving.register_keras_serializable(package="seq2seq")
class Seq2Seq(TextModel, Translator):
    """An encoder-decoder that holds its tokenizer: what one `.keras` file carries.

    It is an ordinary Keras model: `compile` and `fit` work on it, with batches of the dictionary below and no separate
    labels, and so does `keras.saving.load_model`. `seq2seq.training` trains it faster, with what a run needs.

    Args:
        encoder: Turns embedded source tokens into the memory.
        decoder: Writes the target; its context reads the memory.
        source_vocabulary_size: Number of source tokens; None: source and target share the decoder's embedding.
        embedding_dropout: Share of the source embeddings' units dropped in training.
        context_dropout: Share of the memory's units dropped in training.
        source_word_dropout: Share of the source's tokens read as unknown in training.
        target_word_dropout: Share of the target's tokens that the decoder reads as unknown in training.
        label_smoothing: Probability that the loss spreads over the whole vocabulary.
        coverage_loss: What the attention that goes where it has been counts for in the training loss; see
            `losses.repeated_attention`.
        force_copy: Whether in training a token that stands in the source must be copied, so that the gate learns when.
        tokenizer: Turns strings into tokens and back; without one the model takes and gives token ids only.
        decoding: Defaults of `translate` and `generate`.
        recipe: The whole recipe of the run that trained the model, kept with it.

    Call arguments:
        inputs: `{"source_ids": (batch, source_steps), "target_ids": (batch, target_steps)}`, int32, each row ended by
            an end token and padded on the right.

    Returns:
        Logits of each target token, `(batch, target_steps, target_vocabulary_size)`, float32; log-probabilities where
        the decoder copies.

    Raises:
        ValueError: `force_copy` of a decoder that does not copy, a decoder that copies from another vocabulary, or a
            `coverage_loss` without attention.

    >>> import numpy as np
    >>> model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
    >>> ids = np.array([[4, 5, 3], [6, 3, 0]], "int32")
    >>> model({"source_ids": ids, "target_ids": ids}).shape.as_list()
    [2, 3, 9]
    """

    PARTS = ("encoder", "decoder")
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
        self._check_copying()
        if coverage_loss and not decoder.context.is_attention:
            raise ValueError(
                f"coverage_loss must be 0 for a decoder without attention, but is {coverage_loss} instead."
            )
        embedding = decoder.embedding
        if source_vocabulary_size is not None:
            size = decoder.embedding_size
            embedding = create_embedding(source_vocabulary_size, size, "source_embedding", self.variable_dtype)
        self._read_with(embedding, embedding_dropout, context_dropout, source_word_dropout)
        self.target_word_dropout_layer = self._word_dropout("target", target_word_dropout)
        self.lexicon: Lexicon | None = None
        self._generator = Generator([self])
        self._scorer = Scorer(self)
        self.build({"source_ids": (None, None), "target_ids": (None, None)})

    def _check_copying(self) -> None:
        size, copy = self.decoder.vocabulary_size, self.decoder.copy
        if self.force_copy and copy == "none":
            raise ValueError("force_copy must be False for a decoder that does not copy, but is True instead.")
        if copy != "none" and self.source_vocabulary_size not in (None, size):
            raise ValueError(
                f"source_vocabulary_size must be None or {size}, the target's, for a decoder that copies, but is "
                f"{self.source_vocabulary_size} instead. Source and target must share one vocabulary."
            )
        if copy != "none" and self.decoder.copy_window != self.encoder.reduction:
            raise ValueError(
                f"copy_window of the decoder must be {self.encoder.reduction}, the source tokens that a step of the "
                f"encoder's memory stands for, but is {self.decoder.copy_window} instead."
            )
        if copy != "none" and self.tokenizer is not None and not self.tokenizer.is_joint:
            raise ValueError(
                "tokenizer must be a joint one for a decoder that copies, but has a vocabulary for each side instead."
            )

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
        """Number of target tokens."""
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

    def answers(self, texts: Sequence[str], **options: Any) -> list[str]:
        return self.translate(texts, **options)

    def decode_teacher_forced(
        self, inputs: dict[str, Any], training: bool | None = None, attention: bool = False
    ) -> TeacherForcedOutputs:
        """All but the output product for a known target; see `Decoder.read_out`."""
        source_ids = inputs["source_ids"]
        memory, mask = self.encode(source_ids, training)
        prepared = self.decoder.prepare(memory, mask, source_ids, ops.not_equal(source_ids, PAD_ID))
        targets = ops.cast(inputs["target_ids"], "int32")
        start = ops.full_like(targets[:, :1], START_ID)
        written = ops.concatenate([start, targets[:, :-1]], axis=1)
        written = self.target_word_dropout_layer(written, training=training)
        return self.decoder.decode_teacher_forced(written, prepared, training, attention)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return ops.cast(
            self.decoder.scores(self.decode_teacher_forced(inputs, training), inputs["source_ids"]), "float32"
        )

    def _label_shares(
        self, readouts: TeacherForcedOutputs, inputs: dict[str, Any], training: bool | None
    ) -> LabelShares | None:
        if readouts.copies is None:
            return None
        shares = label_shares(readouts.copies, inputs["source_ids"], inputs["target_ids"])
        if not (training and self.force_copy):
            return shares
        return shares._replace(log_generated=ops.where(shares.is_in_source, LARGE_NEGATIVE, shares.log_generated))

    def loss_and_tokens(
        self, inputs: dict[str, Any], training: bool | None = None, label_smoothing: float | None = None
    ) -> tuple[Any, Any]:
        """Summed cross entropy of the targets, in training with the coverage loss, and how many tokens it sums over.

        Args:
            inputs: As for the call.
            training: Whether dropout acts, and what belongs to the loss in training alone.
            label_smoothing: None: the model's own.

        Returns:
            Two float32 scalars; their quotient is the loss a token, which padding cannot change.
        """
        # The mixed precision of the layers is theirs alone: here the weights are wanted whole.
        mask = ops.not_equal(inputs["target_ids"], PAD_ID)
        has_coverage_loss = bool(training and self.coverage_loss)
        readouts = self.decode_teacher_forced(inputs, training, attention=has_coverage_loss)
        loss = token_cross_entropy(
            readouts.features,
            inputs["target_ids"],
            mask,
            ops.convert_to_tensor(self.decoder.output_embeddings),
            ops.convert_to_tensor(self.decoder.readout.output_bias),
            self.label_smoothing if label_smoothing is None else label_smoothing,
            self._label_shares(readouts, inputs, training),
        )
        if has_coverage_loss:
            loss += self.coverage_loss * repeated_attention(readouts.attention_weights, mask)
        return loss, ops.sum(ops.cast(mask, "float32"))

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of `fit`: a token's mean cross entropy, unless `compile` was given a loss and `fit` labels."""
        if y is not None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.decoder.copy != "none" or self.coverage_loss:
            # What the loss is made of cannot be told from the mixture any more, nor the attention from the logits.
            loss, tokens = self.loss_and_tokens(x, training)
            return loss / tokens
        targets = ops.cast(x["target_ids"], "int32")
        weights = ops.cast(ops.not_equal(targets, PAD_ID), "float32")
        log_probs = ops.log_softmax(y_pred, axis=-1)
        at_label = ops.squeeze(ops.take_along_axis(log_probs, targets[..., None], axis=-1), -1)
        smoothed = (1 - self.label_smoothing) * at_label + self.label_smoothing * ops.mean(log_probs, axis=-1)
        return -ops.sum(smoothed * weights) / ops.sum(weights)

    def score(self, sources: Sequence[str], targets: Sequence[str], batch_tokens: int = 8_192) -> list[PairScore]:
        """How probable each target is, given its source: what the search would have summed up on its way to it.

        Args:
            sources: Sources.
            targets: A target for each. A character that the tokenizer does not know counts as the unknown token.
            batch_tokens: Source and target tokens scored at once at most, with their padding.

        Returns:
            A score a pair, in order: `log_prob`, `token_log_probs` and `pieces`.

        Raises:
            DataError: There are not as many targets as sources.
            ModelFileError: The model has no tokenizer.
            TypeError: Either is one string, which would be read letter by letter.
        """
        for name, texts in (("sources", sources), ("targets", targets)):
            if isinstance(texts, str):
                raise TypeError(f"{name} must be a list of strings, but is {texts!r} instead. Put it into a list.")
        if len(sources) != len(targets):
            raise DataError(
                f"targets must be as many as sources, {len(sources)}, but are {len(targets)} instead. "
                "Check that no line was lost or added."
            )
        return self._scorer.score(list(sources), list(targets), batch_tokens)

    def learn_lexicon(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Learns which target tokens translate which source tokens, for the option `shortlist`; saved with the model.

        Args:
            sources: Sources of the training data.
            targets: A target for each.

        Raises:
            DataError: There are no pairs.
        """
        tokenizer = self.require_tokenizer()
        self.lexicon = learn_lexicon(
            tokenizer.source.encode(sources),
            tokenizer.target.encode(targets),
            tokenizer.source.size,
            tokenizer.target.size,
            tokenizer.is_joint,
        )

    def save_assets(self, directory: str) -> None:
        super().save_assets(directory)
        if self.lexicon is not None:
            (pathlib.Path(directory) / LEXICON).write_bytes(self.lexicon.to_bytes())

    def load_assets(self, directory: str) -> None:
        super().load_assets(directory)
        lexicon = pathlib.Path(directory) / LEXICON
        self.lexicon = Lexicon.from_bytes(lexicon.read_bytes()) if lexicon.is_file() else None

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "source_vocabulary_size": self.source_vocabulary_size,
            "target_word_dropout": self.target_word_dropout,
            "label_smoothing": self.label_smoothing,
            "coverage_loss": self.coverage_loss,
            "force_copy": self.force_copy,
            "decoding": self.decoding.to_dict(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        return super().from_config(config | {"decoding": DecodingConfig.from_dict(config["decoding"])}, custom_objects)
