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
from seq2seq.layers.decoder import Decoder
from seq2seq.layers.encoder import Encoder
from seq2seq.layers.final_state import FinalStateDecoder, FinalStateEncoder
from seq2seq.layers.front_end import FrontEnd
from seq2seq.layers.interchange import from_keras, from_torch, to_keras, to_torch
from seq2seq.layers.readout import Readout
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
    "PooledContext",
    "ProjectedContext",
    "RNNCell",
    "Readout",
    "Recurrent",
    "create_context",
    "from_keras",
    "from_torch",
    "to_keras",
    "to_torch",
]
