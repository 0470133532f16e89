"""The base class of all models: a source is encoded; tokenizer and recipe travel with the weights."""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Self, TypeVar

import keras
import numpy as np
from keras import ops

from seq2seq.errors import DataError, ModelFileError
from seq2seq.layers import Encoder, Recurrent
from seq2seq.layers.cells import CELLS
from seq2seq.layers.dropout import SharedDropout, WordDropout
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.models.inference import IDS, InferenceCache, run_in_batches
from seq2seq.models.results import PairScore
from seq2seq.text.ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from seq2seq.text.tokenizer import Tokenizer, Truncation, joined_pieces

FORMAT_VERSION = 2
"""Version of model files, raised when older packages cannot read the files of this one."""


class TextModel(keras.Model):
    """Define what training, scoring, files and inspection use of every model."""

    PARTS: ClassVar[tuple[str, ...]] = ("encoder",)
    """Arguments that are layers."""
    SETTINGS: ClassVar[tuple[str, ...]] = ("embedding_dropout", "context_dropout", "source_word_dropout")
    """Arguments that are plain values."""
    ASSETS: ClassVar[tuple[str, ...]] = ("tokenizer",)
    """Attributes that are neither weights nor settings."""

    encoder: Encoder

    def __init__(self, tokenizer: Tokenizer | None, recipe: dict[str, Any] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        # As text: Keras would wrap a dictionary attribute and look for layers in it.
        self._recipe = json.dumps(recipe or {})
        self._inference = InferenceCache()
        # The loss runs parts of itself through XLA; the step around them would not compile.
        self.supports_jit = False

    def _create_source_layers(
        self, embedding: keras.Layer, embedding_dropout: float, context_dropout: float, source_word_dropout: float
    ) -> None:
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

    def _release_reference_cycles(self) -> None:
        """Remove the methods that Keras wraps for each instance, whose closures refer back to the layer."""
        for layer in self._flatten_layers():
            if layer.built:
                layer.__dict__.pop("build", None)
                layer.__dict__.pop("quantize", None)

    @property
    def task(self) -> str:
        """Return the task as recipes name it."""
        return str(self.recipe.get("task", "translate"))

    @property
    def recipe(self) -> dict[str, Any]:
        """Return the recipe of the run that trained the model; empty without one."""
        return dict(json.loads(self._recipe))

    @property
    def parts(self) -> dict[str, keras.Layer]:
        """Return the layers with weights by the names that recipes have for them; of tied layers only the first."""
        return {name: getattr(self, name) for name in self.PARTS} | {"source_embedding": self.embedding}

    @property
    def recurrent_layers(self) -> dict[str, Recurrent]:
        """Return every recurrent layer by name, the encoder's first: `encoder.forward_0`, `decoder.recurrent_0`, ..."""
        encoder = self.encoder
        return {f"encoder.{layer.name}": layer for layer in [*encoder.forward_layers, *encoder.backward_layers]}

    @property
    def is_sequential(self) -> bool:
        """Return whether a layer needs the output of its last step, so that no kernel fits it."""
        return False

    def kernel_choices(self) -> dict[str, KernelChoice]:
        """Return the kernel that each recurrent layer trains on here, and every reason against cuDNN."""
        return {name: layer.kernel_choice() for name, layer in self.recurrent_layers.items()}

    def require_tokenizer(self) -> Tokenizer:
        """Return the tokenizer, or raise `ModelFileError` if there is none."""
        if self.tokenizer is None:
            raise ModelFileError(
                "Strings need a model with a tokenizer, but this one has none. "
                f"Give {type(self).__name__} its tokenizer, or call it on token ids."
            )
        return self.tokenizer

    @functools.cached_property
    def truncation(self) -> Truncation:
        """Return how long sources are truncated, as they were in training."""
        data = self.recipe.get("data", {})
        return Truncation(data.get("truncate", "none"), data.get("max_source_tokens", 0))

    def truncate(self, source_ids: Sequence[list[int]]) -> tuple[list[list[int]], list[int]]:
        """Truncate encoded sources; return the ids that the model reads and the number of tokens cut from each."""
        rows = [self.truncation.cut(ids) for ids in source_ids]
        return rows, [len(ids) - len(row) for ids, row in zip(source_ids, rows, strict=True)]

    def source_pieces(self, text: str) -> list[str]:
        """Return the pieces of a source that the model reads."""
        return self.truncation.cut(self.require_tokenizer().source.tokenize(text))

    def encode_sources(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of sources that the model reads, the end token last."""
        return self.truncate(self.require_tokenizer().source.encode(texts))[0]

    def memory_tokens(self, text: str) -> tuple[str, ...]:
        """Return the text of each step of a source's memory: a piece, or several joined."""
        return joined_pieces(self.source_pieces(text), self.encoder.reduction)

    def encode(self, source_ids: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Return the memory `(batch, memory_steps, memory_units)` of `(batch, source_steps)` ids, and its mask."""
        mask = ops.not_equal(source_ids, PAD_ID)
        source_ids = self.source_word_dropout_layer(source_ids, training=training)
        embedded = ops.cast(self.embedding(source_ids), self.compute_dtype)
        embedded = self.embedding_dropout_layer(embedded, training=training)
        memory = self.encoder(embedded, mask=mask, training=training)
        return self.context_dropout_layer(memory, training=training), self.encoder.memory_mask(mask)

    def loss_and_tokens(self, inputs: dict[str, Any], training: bool | None = None) -> tuple[Any, Any]:
        """Return the summed cross entropy of the targets and the number of tokens or labels, two float32 scalars."""
        raise NotImplementedError

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the mean cross entropy for `fit`, or the loss given to `compile` if `fit` has labels."""
        if y is not None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss, tokens = self.loss_and_tokens(x, training)
        return loss / tokens

    def target_log_probs(self, source_ids: Any, target_ids: Any) -> Any:
        """Return the log-probability of every target id that is no padding, row after row, `(tokens,)`."""
        raise NotImplementedError

    def score(self, sources: Sequence[str], targets: Sequence[str], batch_tokens: int = 8_192) -> list[PairScore]:
        """Compute how probable each target is, given its source: the sum that a search would reach on its way to it.

        Args:
            sources: Sources.
            targets: A target for each. A character that the tokenizer does not know counts as the unknown token.
            batch_tokens: Most source and target tokens of a batch, with padding.

        Returns:
            A score for each pair, in order: `log_prob`, `token_log_probs` and `pieces`.

        Raises:
            DataError: There are not as many targets as sources, or not as many labels as a source needs.
            ModelFileError: The model has no tokenizer.
            TypeError: Either argument is one string.
        """
        require_list("sources", sources)
        require_list("targets", targets)
        if len(sources) != len(targets):
            raise DataError(
                f"targets must be as many as the {len(sources)} sources, got {len(targets)}. "
                "Check that no line was lost or added."
            )
        tokenizer = self.require_tokenizer()
        whole, target_ids = tokenizer.encode_pairs(sources, targets)
        source_ids, truncated = self.truncate(whole)
        function = self._inference.compiled("target_log_probs", self.target_log_probs, IDS, IDS)
        log_probs: list[np.ndarray] = [np.empty(0)] * len(targets)
        for batch, output in run_in_batches(function, source_ids, target_ids, batch_tokens):
            ends = np.cumsum(np.count_nonzero(batch.target_ids != PAD_ID, axis=1))
            for index, of_target in zip(batch.indices, np.split(output, ends[:-1]), strict=True):
                log_probs[index] = of_target
        return [
            PairScore(float(row.sum()), row.tolist(), tokenizer.target.pieces(ids), count)
            for row, ids, count in zip(log_probs, target_ids, truncated, strict=True)
        ]

    def answers(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Return the best target of each source as a line of a target file."""
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
        settings = {name: getattr(self, name) for name in self.SETTINGS}
        return (
            parts
            | settings
            | {
                "format_version": FORMAT_VERSION,
                "name": self.name,
                "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
                "recipe": self.recipe,
            }
        )

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in cls.PARTS
        }
        settings = {name: value for name, value in config.items() if name != "format_version"}
        return cls(**settings | parts)


Model = TypeVar("Model", bound=TextModel)


def clone_with_implementation(model: Model, implementation: str, update_gate: str | None = None) -> Model:
    """Build a model with the same weights on other kernels: `raw`, `scan` or `auto`, as in `Recurrent`.

    `scan` becomes `raw` for a cell without a kernel. `update_gate`, `keep` or `write`, sets the reading of update
    gates; the sign of the weights that make a gate changes with its reading.
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
    clone = type(model).from_config(config)
    for name in model.ASSETS:
        setattr(clone, name, getattr(model, name))
    clone.set_weights(model.get_weights())
    for name, layer in clone.recurrent_layers.items():
        if layer.update_gate != model.recurrent_layers[name].update_gate:
            layer.cell.set_weights([layer.cell.with_gate_turned(weight) for weight in layer.cell.get_weights()])
    return clone


def require_list(name: str, texts: Sequence[str]) -> None:
    """Raise `TypeError` for one string, which would be read letter by letter."""
    if isinstance(texts, str):
        raise TypeError(f"{name} must be a list of strings, got {texts!r}. Put it into a list.")
