"""From a run's settings to a model: settings are named as the arguments that they become."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import keras

from seq2seq.config.recipe import known_settings, located
from seq2seq.config.sections import Config, Section
from seq2seq.errors import ArgumentError, ConfigError
from seq2seq.layers import Decoder, Encoder
from seq2seq.layers.context import create_context
from seq2seq.models.labelers import SequenceClassifier, SequenceTagger
from seq2seq.models.search_graph import check_decoding
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import FIRST_LABEL_ID
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.tokenizer_training import TokenizerOptions

OTHER_NAMES = {
    "tokenizer": "tokenizer.shared",
    "alpha": "training.sampling_alpha",
    "nbest_size": "training.sampling_nbest",
}
"""Settings with another name than the argument that they become."""


def build_model(config: Config, tokenizer: Tokenizer, dtype: str = "float32") -> Any:
    """Build the untrained model of a recipe; its vocabulary sizes are the tokenizer's."""
    settings, options = config.model, dict[str, Any](dtype=dtype)
    with _recipe_errors(config, "model.encoder", "model"):
        shared = _picked(settings, "dropout", "implementation")
        encoder = Encoder(**vars(settings.encoder), **shared, **options, name="encoder")
    context = None
    if config.task != "tag":
        with _recipe_errors(config, "model.attention", "model"):
            attention = vars(settings.attention) if settings.context == "attention" else {}
            bidirectional = settings.encoder.bidirectional
            context = create_context(settings.context, bidirectional, **attention, **options, name="context")
    options |= _picked(settings, "embedding_dropout", "context_dropout", "source_word_dropout", "label_smoothing")
    options |= {"tokenizer": tokenizer, "recipe": config.to_dict()}
    with _recipe_errors(config, "model", "model.decoder", "model.attention", "model.encoder"):
        if config.gives_labels:
            return _build_labeler(config, tokenizer, encoder, context, options)
        return _build_seq2seq(config, tokenizer, encoder, context, options)


def _build_labeler(
    config: Config, tokenizer: Tokenizer, encoder: Encoder, context: Any, options: dict[str, Any]
) -> Any:
    options |= _picked(config.model, "embedding_size", "readout_dropout")
    sizes = {"vocabulary_size": tokenizer.source.size, "num_labels": tokenizer.target.size - FIRST_LABEL_ID}
    if config.task == "tag":
        return SequenceTagger(encoder, name="tagger", **sizes, **options)
    return SequenceClassifier(encoder, context, name="classifier", **sizes, **options)


def _build_seq2seq(
    config: Config, tokenizer: Tokenizer, encoder: Encoder, context: Any, options: dict[str, Any]
) -> Seq2Seq:
    settings = config.model
    names = ("embedding_size", "context_inputs", "readout_size", "copy", "embedding_dropout", "dropout")
    decoder = Decoder(
        tokenizer.target.size,
        context=context,
        tie_output=settings.tie_embeddings in ("output", "all"),
        copy_window=1 if settings.copy == "none" else encoder.reduction,
        **vars(settings.decoder),
        **_picked(settings, *names, "readout_dropout", "implementation"),
        dtype=options["dtype"],
        name="decoder",
    )
    return Seq2Seq(
        encoder,
        decoder,
        None if settings.tie_embeddings in ("source_target", "all") else tokenizer.source.size,
        decoding=config.decoding,
        **_picked(settings, "target_word_dropout", "coverage_loss", "force_copy"),
        **options,
        name="seq2seq",
    )


def check_recipe(config: Config) -> None:
    """Raise a ConfigError, with its line, where settings exclude each other: plan model, search and sampling."""
    with _recipe_errors(config, "decoding"):
        check_decoding(config.decoding)
    with _recipe_errors(config, "tokenizer"):
        TokenizerOptions(**vars(config.tokenizer))
    with _recipe_errors(config):
        if config.training.sampling_alpha > 0:
            Sampling(config.training.sampling_alpha, config.training.sampling_nbest)
    vocabulary = SimpleNamespace(size=2 * FIRST_LABEL_ID)
    planned: Any = SimpleNamespace(source=vocabulary, target=vocabulary, is_joint=config.tokenizer.shared)
    # Here weights have shapes and no values.
    with keras.StatelessScope(initialize_variables=False):
        build_model(config, planned)


def _picked(section: Section, *names: str) -> dict[str, Any]:
    return {name: getattr(section, name) for name in names}


@contextlib.contextmanager
def _recipe_errors(config: Config, *sections: str) -> Iterator[None]:
    """Name the setting and its line where an argument is refused; it is searched in the sections in their order."""
    try:
        yield
    except ArgumentError as error:
        keys = [f"{section}.{error.argument}" for section in sections]
        key = next((key for key in keys if key in known_settings()), OTHER_NAMES.get(error.argument))
        if key is None:
            raise
        raise located(ConfigError(str(error).replace(error.argument, key, 1), key), config.places) from None
