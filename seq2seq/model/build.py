"""From a run's configuration to layers: the one place where both are known."""

from typing import Any

from seq2seq.config import Config
from seq2seq.layers import Decoder, Encoder, create_context
from seq2seq.model.seq2seq import Seq2Seq
from seq2seq.text import Tokenizer


def build_model(config: Config, tokenizer: Tokenizer, dtype: str = "float32") -> Seq2Seq:
    """An untrained model as the recipe describes it.

    Args:
        config: The run.
        tokenizer: Its vocabulary sizes become the model's; the model keeps it.
        dtype: Keras dtype policy: `float32`, `mixed_bfloat16`, ...

    Returns:
        The model, with all its weights.
    """
    encoder, decoder, dropout = config.model.encoder, config.model.decoder, config.model.dropout
    shared: dict[str, Any] = {"dtype": dtype, "implementation": config.training.implementation}
    return Seq2Seq(
        encoder=Encoder(
            encoder.units,
            num_layers=encoder.num_layers,
            cell=encoder.cell,
            update_gate=encoder.update_gate,
            bidirectional=encoder.bidirectional,
            residual=encoder.residual,
            dropout=dropout.recurrent,
            front_end=encoder.front_end,
            stride=encoder.stride,
            kernel_size=encoder.kernel_size or None,
            pyramid=encoder.pyramid,
            name="encoder",
            **shared,
        ),
        decoder=Decoder(
            tokenizer.target_vocabulary_size,
            config.model.embedding_size,
            decoder.units,
            context=create_context(
                config.model.context, encoder.bidirectional, dtype=dtype, name="context", **_attention_options(config)
            ),
            num_layers=decoder.num_layers,
            cell=decoder.cell,
            update_gate=decoder.update_gate,
            feeds=config.model.feeds,
            attend=decoder.attend,
            input_feeding=decoder.input_feeding,
            residual=decoder.residual,
            readout_size=config.model.readout_size or None,
            tie_output=config.model.tie in ("output", "all"),
            embedding_dropout=dropout.embedding,
            dropout=dropout.recurrent,
            readout_dropout=dropout.readout,
            copy=config.model.copy.mode,
            copy_window=1 if config.model.copy.mode == "none" else encoder.reduction,
            name="decoder",
            **shared,
        ),
        source_vocabulary_size=(
            None if config.model.tie in ("source_target", "all") else tokenizer.source_vocabulary_size
        ),
        embedding_dropout=dropout.embedding,
        context_dropout=dropout.context,
        source_word_dropout=dropout.source_word,
        target_word_dropout=dropout.target_word,
        label_smoothing=config.training.label_smoothing,
        coverage_loss=config.training.coverage_loss,
        force_copy=config.model.copy.force,
        tokenizer=tokenizer,
        decoding=config.decoding,
        recipe=config.to_dict(),
        dtype=dtype,
        name="seq2seq",
    )


def _attention_options(config: Config) -> dict[str, Any]:
    if config.model.context != "attention":
        return {}
    attention = config.model.attention
    return {
        "score": attention.score,
        "units": attention.units or None,
        "num_heads": attention.num_heads,
        "window": attention.window,
        "coverage": attention.coverage,
    }
