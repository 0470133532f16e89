"""The rule that moves the weights, and which of them it may draw towards zero."""

from typing import Any

import keras

from seq2seq.config import Training
from seq2seq.model import SourceReader


def create_optimizer(settings: Training, model: SourceReader) -> keras.Optimizer:
    """The optimizer of a recipe for a model, whose biases and embeddings it never decays.

    Args:
        settings: The recipe's section `training`.
        model: What will be trained.
    """
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(settings.learning_rate)
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    decayed = {id(variable) for variable in decayed_variables(model)}
    optimizer.exclude_from_weight_decay([kept for kept in model.trainable_variables if id(kept) not in decayed])
    return optimizer


def decayed_variables(model: SourceReader) -> list[Any]:
    """The trainable weights that weight decay and `training.l2` draw towards zero: all but biases and embeddings.

    A bias multiplies nothing, and the embedding of a rare word would fade between the few steps that meet it. An output
    matrix that is tied to the embeddings is left alone with them.
    """
    return [
        variable
        for variable in model.trainable_variables
        if variable.name != "embeddings" and not variable.name.endswith("bias")
    ]
