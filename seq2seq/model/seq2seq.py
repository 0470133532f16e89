"""The model: text in, text out, around an encoder, a context and a decoder."""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from seq2seq.config import Decoding
from seq2seq.errors import DataError, ModelFileError
from seq2seq.layers import Decoder, Encoder, Recurrent
from seq2seq.layers.copying import LabelShares, label_shares
from seq2seq.layers.decoder import Readouts
from seq2seq.layers.dropout import SharedDropout, WordDropout
from seq2seq.layers.masking import LARGE_NEGATIVE
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.model.generation import Generator
from seq2seq.model.losses import repeated_attention, token_cross_entropy
from seq2seq.model.scoring import PairScore, Scorer
from seq2seq.model.translator import Translator
from seq2seq.model.twins import twin_of
from seq2seq.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer, Truncation
from seq2seq.text.lexicon import Lexicon, learn_lexicon
from seq2seq.text.tokenizer import joined_pieces

LEXICON = "lexicon.npz"

FORMAT_VERSION = 1
"""Of model files: one more whenever an older package could not read what this one writes."""


@keras.saving.register_keras_serializable(package="seq2seq")
class Seq2Seq(keras.Model, Translator):
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
        decoding: Decoding | None = None,
        recipe: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.source_vocabulary_size = source_vocabulary_size
        self.embedding_dropout = embedding_dropout
        self.context_dropout = context_dropout
        self.source_word_dropout = source_word_dropout
        self.target_word_dropout = target_word_dropout
        self.label_smoothing = label_smoothing
        self.coverage_loss = coverage_loss
        self.force_copy = force_copy
        self.tokenizer = tokenizer
        self.decoding = decoding or Decoding()
        self._check_copying()
        if coverage_loss and not decoder.context.reads_every_step:
            raise ValueError(
                f"coverage_loss must be 0 for a decoder without attention, but is {coverage_loss} instead."
            )
        # As text: Keras would wrap a dictionary attribute and look for layers in it.
        self._recipe = json.dumps(recipe or {})
        policy = {"dtype": self.dtype_policy}
        self.embedding = decoder.embedding
        if source_vocabulary_size is not None:
            self.embedding = keras.layers.Embedding(
                source_vocabulary_size,
                decoder.embedding_size,
                embeddings_initializer=decoder.embedding.embeddings_initializer.clone(),
                name="source_embedding",
                **policy,
            )
        self.embedding_dropout_layer = SharedDropout(embedding_dropout, name="embedding_dropout", **policy)
        self.context_dropout_layer = SharedDropout(context_dropout, name="context_dropout", **policy)
        self.source_word_dropout_layer, self.target_word_dropout_layer = (
            WordDropout(rate, UNKNOWN_ID, (PAD_ID, START_ID, END_ID), name=f"{side}_word_dropout")
            for side, rate in (("source", source_word_dropout), ("target", target_word_dropout))
        )
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
    def recipe(self) -> dict[str, Any]:
        """The recipe of the run that trained the model; empty where there was none."""
        return dict(json.loads(self._recipe))

    @functools.cached_property
    def truncation(self) -> Truncation:
        """What the model reads of a source of more tokens than its recipe allows: what it read of such in training."""
        data = self.recipe.get("data", {})
        return Truncation(data.get("truncate", "none"), data.get("max_source_tokens", 0))

    @property
    def task(self) -> str:
        """What the model was trained to do with a text, as its recipe says: `translate` or `summarize`."""
        return str(self.recipe.get("task", "translate"))

    @property
    def target_vocabulary_size(self) -> int:
        """Number of target tokens."""
        return int(self.decoder.vocabulary_size)

    @property
    def recurrent_layers(self) -> dict[str, Recurrent]:
        """Every recurrent layer by name, the encoder's first: `encoder.forward_0`, `decoder.recurrent_0`, ..."""
        encoder, decoder = self.encoder, self.decoder
        return {f"encoder.{layer.name}": layer for layer in [*encoder.forward_layers, *encoder.backward_layers]} | {
            f"decoder.{layer.name}": layer for layer in decoder.recurrent_layers
        }

    def kernel_choices(self) -> dict[str, KernelChoice]:
        """What each recurrent layer trains on here, by its name, and every reason against cuDNN."""
        choices = {name: layer.kernel_choice() for name, layer in self.recurrent_layers.items()}
        if not self.decoder.runs_step_by_step:
            return choices
        reason = "the decoder runs step by step, since each step reads the last one's context or readout"
        return {
            name: KernelChoice("raw", (reason, *choice.reasons_against_cudnn)) if name.startswith("decoder") else choice
            for name, choice in choices.items()
        }

    def with_raw_cells(self, update_gate: str | None = None) -> "Seq2Seq":
        """The same model on cells that run step by step and can be asked for every gate.

        Args:
            update_gate: `keep` or `write`: how update gates are to be read; None: as in this model.

        Returns:
            A new model with the weights of this one; it gives the same results, more slowly.

        >>> model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
        >>> model.with_raw_cells().recurrent_layers["encoder.forward_0"].kernel_choice().implementation
        'raw'
        """
        return twin_of(self, "raw", update_gate)

    def with_kernels(self) -> "Seq2Seq":
        """The way back from `with_raw_cells`: the same weights on the fastest kernels that this machine has."""
        return twin_of(self, "auto")

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer, for what cannot do without.

        Raises:
            ModelFileError: There is none.
        """
        if self.tokenizer is None:
            raise ModelFileError(
                "Strings need a model with a tokenizer, but this one has none. "
                "Give Seq2Seq its tokenizer, or call it on token ids."
            )
        return self.tokenizer

    def source_pieces(self, text: str) -> list[str]:
        """The pieces of a source that the model reads: all, unless it is too long and `truncation` cuts it.

        Raises:
            ModelFileError: There is no tokenizer.
        """
        return self.truncation.cut(self.require_tokenizer().source_pieces(text))

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of sources as the model reads them, each with its end token last.

        Raises:
            ModelFileError: There is no tokenizer.
        """
        return [self.truncation.cut(ids) for ids in self.require_tokenizer().encode_source(texts)]

    def memory_tokens(self, text: str) -> tuple[str, ...]:
        """The pieces of a source that each step of the memory stands for, joined where these are several.

        Raises:
            ModelFileError: There is no tokenizer.
        """
        return joined_pieces(self.source_pieces(text), self.encoder.reduction)

    def encode(self, source_ids: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Reads a source.

        Args:
            source_ids: `(batch, source_steps)`.

        Returns:
            The memory `(batch, memory_steps, memory_units)` and its mask `(batch, memory_steps)`, with as many steps as
            the source where the encoder joins none.
        """
        mask = ops.not_equal(source_ids, PAD_ID)
        source_ids = self.source_word_dropout_layer(source_ids, training=training)
        embedded = self.embedding_dropout_layer(self.embedding(source_ids), training=training)
        memory = self.encoder(embedded, mask=mask, training=training)
        return self.context_dropout_layer(memory, training=training), self.encoder.memory_mask(mask)

    def read_out(self, inputs: dict[str, Any], training: bool | None = None, attention: bool = False) -> Readouts:
        """All but the output product for a known target; see `Decoder.read_out`."""
        source_ids = inputs["source_ids"]
        memory, mask = self.encode(source_ids, training)
        prepared = self.decoder.prepare(memory, mask, source_ids, ops.not_equal(source_ids, PAD_ID))
        targets = ops.cast(inputs["target_ids"], "int32")
        start = ops.full_like(targets[:, :1], START_ID)
        written = ops.concatenate([start, targets[:, :-1]], axis=1)
        written = self.target_word_dropout_layer(written, training=training)
        return self.decoder.read_out(written, prepared, training, attention)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return ops.cast(self.decoder.scores(self.read_out(inputs, training), inputs["source_ids"]), "float32")

    def _label_shares(self, readouts: Readouts, inputs: dict[str, Any], training: bool | None) -> LabelShares | None:
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
        readouts = self.read_out(inputs, training, attention=has_coverage_loss)
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
            tokenizer.encode_source(sources),
            tokenizer.encode_target(targets),
            tokenizer.source_vocabulary_size,
            tokenizer.target_vocabulary_size,
            tokenizer.is_joint,
        )

    def save_assets(self, directory: str) -> None:
        if self.tokenizer is not None:
            for name, content in self.tokenizer.models.items():
                (pathlib.Path(directory) / name).write_bytes(content)
        if self.lexicon is not None:
            (pathlib.Path(directory) / LEXICON).write_bytes(self.lexicon.to_bytes())

    def load_assets(self, directory: str) -> None:
        models = {path.name: path.read_bytes() for path in pathlib.Path(directory).glob("*.model")}
        self.tokenizer = Tokenizer.from_models(models) if models else None
        lexicon = pathlib.Path(directory) / LEXICON
        self.lexicon = Lexicon.from_bytes(lexicon.read_bytes()) if lexicon.is_file() else None

    def get_config(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "source_vocabulary_size": self.source_vocabulary_size,
            "embedding_dropout": self.embedding_dropout,
            "context_dropout": self.context_dropout,
            "source_word_dropout": self.source_word_dropout,
            "target_word_dropout": self.target_word_dropout,
            "label_smoothing": self.label_smoothing,
            "coverage_loss": self.coverage_loss,
            "force_copy": self.force_copy,
            "decoding": self.decoding.to_dict(),
            "recipe": self.recipe,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Seq2Seq":
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("encoder", "decoder")
        }
        settings = {name: value for name, value in config.items() if name != "format_version"}
        return cls(**settings | parts | {"decoding": Decoding.from_dict(config["decoding"])})
