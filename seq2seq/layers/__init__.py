"""The mathematics as Keras layers with plain arguments; nothing here reads a configuration."""

from seq2seq.layers.cells import GRUCell, GRUResetBeforeCell, GRUSimplifiedCell, LSTMCell, RNNCell
from seq2seq.layers.context import (
    AttentionContext,
    AttentiveContext,
    LastContext,
    PooledContext,
    ProjectedContext,
    create_context,
)
from seq2seq.layers.decoder import Decoder, OutputProjection
from seq2seq.layers.encoder import Encoder, FrontEnd
from seq2seq.layers.interchange import FinalStateDecoder, FinalStateEncoder, from_keras, from_torch, to_keras, to_torch
from seq2seq.layers.recurrent import Recurrent

__all__ = [
    "AttentionContext",
    "AttentiveContext",
    "Decoder",
    "Encoder",
    "FinalStateDecoder",
    "FinalStateEncoder",
    "FrontEnd",
    "GRUCell",
    "GRUResetBeforeCell",
    "GRUSimplifiedCell",
    "LSTMCell",
    "LastContext",
    "OutputProjection",
    "PooledContext",
    "ProjectedContext",
    "RNNCell",
    "Recurrent",
    "create_context",
    "from_keras",
    "from_torch",
    "to_keras",
    "to_torch",
]
