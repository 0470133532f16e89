"""From a run's configuration to layers: the one place where both are known."""

from typing import Any

from seq2seq.config.sections import Config
from seq2seq.layers import Decoder, Encoder, create_context
from seq2seq.models.labelers import SequenceClassifier, SequenceTagger
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import FIRST_LABEL_ID
from seq2seq.text.tokenizer import Tokenizer


def build_model(config: Config, tokenizer: Tokenizer, dtype: str = "float32") -> Any:
    """An untrained model as the recipe describes it.

    Args:
        config: The run.
        tokenizer: Its vocabulary sizes become the model's; the model keeps it.
        dtype: Keras dtype policy: `float32`, `mixed_bfloat16`, ...

    Returns:
        The model that the recipe's task asks for, with all its weights.
    """
    common: dict[str, Any] = {
        "embedding_dropout": config.model.embedding_dropout,
        "context_dropout": config.model.context_dropout,
        "source_word_dropout": config.model.source_word_dropout,
        "label_smoothing": config.model.label_smoothing,
        "tokenizer": tokenizer,
        "recipe": config.to_dict(),
        "dtype": dtype,
    }
    if not config.gives_labels:
        return _build_seq2seq(config, tokenizer, common)
    common |= {
        "vocabulary_size": tokenizer.source.size,
        "num_labels": tokenizer.target.size - FIRST_LABEL_ID,
        "embedding_size": config.model.embedding_size,
        "readout_dropout": config.model.readout_dropout,
    }
    encoder = _encoder(config, dtype)
    if config.task == "tag":
        return SequenceTagger(encoder, name="tagger", **common)
    return SequenceClassifier(encoder, _context(config, dtype), name="classifier", **common)


def _encoder(config: Config, dtype: str) -> Encoder:
    encoder = config.model.encoder
    return Encoder(
        encoder.units,
        num_layers=encoder.num_layers,
        cell=encoder.cell,
        update_gate=encoder.update_gate,
        bidirectional=encoder.bidirectional,
        residual=encoder.residual,
        dropout=config.model.dropout,
        front_end=encoder.front_end,
        stride=encoder.stride,
        kernel_size=encoder.kernel_size,
        subsample=encoder.subsample,
        implementation=config.model.implementation,
        dtype=dtype,
        name="encoder",
    )


def _context(config: Config, dtype: str) -> Any:
    options = _attention_options(config)
    return create_context(
        config.model.context, config.model.encoder.bidirectional, dtype=dtype, name="context", **options
    )


def _build_seq2seq(config: Config, tokenizer: Tokenizer, common: dict[str, Any]) -> Seq2Seq:
    decoder, dtype = config.model.decoder, common["dtype"]
    return Seq2Seq(
        encoder=_encoder(config, dtype),
        decoder=Decoder(
            tokenizer.target.size,
            config.model.embedding_size,
            decoder.units,
            context=_context(config, dtype),
            num_layers=decoder.num_layers,
            cell=decoder.cell,
            update_gate=decoder.update_gate,
            context_inputs=config.model.context_inputs,
            attention_position=decoder.attention_position,
            input_feeding=decoder.input_feeding,
            residual=decoder.residual,
            readout_size=config.model.readout_size,
            tie_output=config.model.tie_embeddings in ("output", "all"),
            embedding_dropout=config.model.embedding_dropout,
            dropout=config.model.dropout,
            readout_dropout=config.model.readout_dropout,
            copy=config.model.copy,
            copy_window=1 if config.model.copy == "none" else config.model.encoder.reduction,
            implementation=config.model.implementation,
            dtype=dtype,
            name="decoder",
        ),
        source_vocabulary_size=(
            None if config.model.tie_embeddings in ("source_target", "all") else tokenizer.source.size
        ),
        target_word_dropout=config.model.target_word_dropout,
        coverage_loss=config.model.coverage_loss,
        force_copy=config.model.force_copy,
        decoding=config.decoding,
        name="seq2seq",
        **common,
    )


def _attention_options(config: Config) -> dict[str, Any]:
    if config.model.context != "attention":
        return {}
    attention = config.model.attention
    return {
        "score": attention.score,
        "units": attention.units,
        "num_heads": attention.num_heads,
        "window": attention.window,
        "coverage": attention.coverage,
    }
