"""What every shape of model shares: it reads a source, and holds the tokenizer and the recipe that it was made with."""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar

import keras
from keras import ops

from seq2seq.errors import ModelFileError
from seq2seq.layers import Encoder, Recurrent
from seq2seq.layers.cells import CELLS
from seq2seq.layers.dropout import SharedDropout, WordDropout
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.models.scoring import PairScore
from seq2seq.text.ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from seq2seq.text.tokenizer import Tokenizer, Truncation, joined_pieces

FORMAT_VERSION = 1
"""Of model files: one more whenever an older package could not read what this one writes."""


class TextModel(keras.Model):
    """A model of sources: what training, scores, files and inspection ask of any shape of one.

    Args:
        tokenizer: Turns strings into tokens and back.
        recipe: The whole recipe of the run that trained the model, kept with it.
    """

    PARTS: ClassVar[tuple[str, ...]] = ("encoder",)
    """The layers that the model is made of, by the names of its arguments."""
    ASSETS: ClassVar[tuple[str, ...]] = ("tokenizer",)
    """What it holds besides weights and settings."""

    encoder: Encoder

    def __init__(self, tokenizer: Tokenizer | None, recipe: dict[str, Any] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        # As text: Keras would wrap a dictionary attribute and look for layers in it.
        self._recipe = json.dumps(recipe or {})

    def _read_with(
        self, embedding: keras.Layer, embedding_dropout: float, context_dropout: float, source_word_dropout: float
    ) -> None:
        """Makes the layers around the encoder."""
        policy = {"dtype": self.dtype_policy}
        self.embedding = embedding
        self.embedding_dropout = embedding_dropout
        self.context_dropout = context_dropout
        self.source_word_dropout = source_word_dropout
        self.embedding_dropout_layer = SharedDropout(embedding_dropout, name="embedding_dropout", **policy)
        self.context_dropout_layer = SharedDropout(context_dropout, name="context_dropout", **policy)
        self.source_word_dropout_layer = self._word_dropout("source", source_word_dropout)

    def _word_dropout(self, side: str, rate: float) -> WordDropout:
        return WordDropout(rate, UNKNOWN_ID, (PAD_ID, START_ID, END_ID), name=f"{side}_word_dropout")

    @property
    def task(self) -> str:
        """What the model makes of a source, as recipes call it."""
        return str(self.recipe.get("task", "translate"))

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe of the run that trained the model; empty where there was none."""
        return dict(json.loads(self._recipe))

    @property
    def parts(self) -> dict[str, keras.Layer]:
        """The layers that hold weights, by the names that recipes have for them; where two share one, the first."""
        return {name: getattr(self, name) for name in self.PARTS} | {"source_embedding": self.embedding}

    @property
    def recurrent_layers(self) -> dict[str, Recurrent]:
        """Every recurrent layer by name, the encoder's first: `encoder.forward_0`, `decoder.recurrent_0`, ..."""
        encoder = self.encoder
        return {f"encoder.{layer.name}": layer for layer in [*encoder.forward_layers, *encoder.backward_layers]}

    @property
    def is_sequential(self) -> bool:
        """Whether a part needs more of its last step than its state, so that no kernel fits it."""
        return False

    def kernel_choices(self) -> dict[str, KernelChoice]:
        """What each recurrent layer trains on here, by its name, and every reason against cuDNN."""
        return {name: layer.kernel_choice() for name, layer in self.recurrent_layers.items()}

    def with_raw_cells(self, update_gate: str | None = None) -> Self:
        """The same model on cells that run step by step and can be asked for every gate.

        Args:
            update_gate: `keep` or `write`: how update gates are to be read; None: as in this model.

        Returns:
            A new model with the weights of this one; it gives the same results, more slowly.

        >>> from seq2seq import Decoder, Seq2Seq
        >>> model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
        >>> model.with_raw_cells().recurrent_layers["encoder.forward_0"].kernel_choice().implementation
        'raw'
        """
        return clone_with_implementation(self, "raw", update_gate)

    def with_kernels(self) -> Self:
        """The way back from `with_raw_cells`: the same weights on the fastest kernels that this machine has."""
        return clone_with_implementation(self, "auto")

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer, for what cannot do without.

        Raises:
            ModelFileError: There is none.
        """
        if self.tokenizer is None:
            raise ModelFileError(
                "Strings need a model with a tokenizer, but this one has none. "
                f"Give {type(self).__name__} its tokenizer, or call it on token ids."
            )
        return self.tokenizer

    @functools.cached_property
    def truncation(self) -> Truncation:
        """What the model reads of a source of more tokens than its recipe allows: what it read of such in training."""
        data = self.recipe.get("data", {})
        return Truncation(data.get("truncate", "none"), data.get("max_source_tokens", 0))

    def source_pieces(self, text: str) -> list[str]:
        """The pieces of a source that the model reads: all, unless it is too long and `truncation` cuts it.

        Raises:
            ModelFileError: There is no tokenizer.
        """
        return self.truncation.cut(self.require_tokenizer().source.tokenize(text))

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of sources as the model reads them, each with its end token last.

        Raises:
            ModelFileError: There is no tokenizer.
        """
        return [self.truncation.cut(ids) for ids in self.require_tokenizer().source.encode(texts)]

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
        embedded = ops.cast(self.embedding(source_ids), self.compute_dtype)
        embedded = self.embedding_dropout_layer(embedded, training=training)
        memory = self.encoder(embedded, mask=mask, training=training)
        return self.context_dropout_layer(memory, training=training), self.encoder.memory_mask(mask)

    def loss_and_tokens(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        """Summed cross entropy of the targets, and how many tokens or labels it sums over: two float32 scalars.

        Args:
            inputs: As for the call.
            training: Whether dropout acts.
        """
        raise NotImplementedError

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[PairScore]:
        """How probable each target is, given its source, in order."""
        raise NotImplementedError

    def answers(self, texts: Sequence[str], **options: Any) -> list[str]:
        """The best target of each source, as a target file has it, in order."""
        raise NotImplementedError

    def save_assets(self, directory: str) -> None:
        if self.tokenizer is not None:
            for name, content in self.tokenizer.models.items():
                (pathlib.Path(directory) / name).write_bytes(content)

    def load_assets(self, directory: str) -> None:
        models = {path.name: path.read_bytes() for path in pathlib.Path(directory).glob("*.model")}
        self.tokenizer = Tokenizer.from_models(models) if models else None

    def get_config(self) -> dict[str, Any]:
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.PARTS}
        return parts | {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "embedding_dropout": self.embedding_dropout,
            "context_dropout": self.context_dropout,
            "source_word_dropout": self.source_word_dropout,
            "recipe": self.recipe,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in cls.PARTS
        }
        settings = {name: value for name, value in config.items() if name != "format_version"}
        return cls(**settings | parts)


Model = TypeVar("Model", bound="TextModel")


def clone_with_implementation(model: Model, implementation: str, update_gate: str | None = None) -> Model:
    """A model with the weights of another, whose recurrent layers run in another way.

    Args:
        model: The model; it stays as it is.
        implementation: As in `Recurrent`; for a cell that the processor has no kernel for, `scan` is read as `raw`.
        update_gate: `keep` or `write`: how the twin's update gates are to be read, where its cells have any. None: as
            in the model.

    Returns:
        A new model. Where the gate's reading changes, the sign of the weights that make it does; all others are equal.
    """
    config = model.get_config()
    for part in model.PARTS:
        layer = getattr(model, part)
        if not hasattr(layer, "implementation"):
            continue
        spec = CELLS[layer.cell].spec
        has_kernel = spec.kernel is not None
        config[part]["config"]["implementation"] = implementation if has_kernel or implementation != "scan" else "raw"
        if update_gate is not None and spec.has_update_gate:
            config[part]["config"]["update_gate"] = update_gate
    twin = type(model).from_config(config)
    for name in model.ASSETS:
        setattr(twin, name, getattr(model, name))
    twin.set_weights(model.get_weights())
    for name, layer in twin.recurrent_layers.items():
        if layer.update_gate != model.recurrent_layers[name].update_gate:
            layer.cell.set_weights([layer.cell.with_gate_turned(weight) for weight in layer.cell.get_weights()])
    return twin
