"""Recurrent sequence-to-sequence models on Keras: train, translate, summarise, and look inside.

The names below load when they are first used, so that a command can print its help without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from seq2seq.registration import register_with_keras

if TYPE_CHECKING:
    from seq2seq.layers import (
        AttentionContext as AttentionContext,
    )
    from seq2seq.layers import (
        AttentiveContext as AttentiveContext,
    )
    from seq2seq.layers import (
        Decoder as Decoder,
    )
    from seq2seq.layers import (
        Encoder as Encoder,
    )
    from seq2seq.layers import (
        FrontEnd as FrontEnd,
    )
    from seq2seq.layers import (
        GRUCell as GRUCell,
    )
    from seq2seq.layers import (
        GRUResetBeforeCell as GRUResetBeforeCell,
    )
    from seq2seq.layers import (
        GRUSimplifiedCell as GRUSimplifiedCell,
    )
    from seq2seq.layers import (
        LastContext as LastContext,
    )
    from seq2seq.layers import (
        LSTMCell as LSTMCell,
    )
    from seq2seq.layers import (
        PooledContext as PooledContext,
    )
    from seq2seq.layers import (
        ProjectedContext as ProjectedContext,
    )
    from seq2seq.layers import (
        Readout as Readout,
    )
    from seq2seq.layers import (
        Recurrent as Recurrent,
    )
    from seq2seq.layers import (
        RNNCell as RNNCell,
    )
    from seq2seq.model import Ensemble as Ensemble
    from seq2seq.model import Hypothesis as Hypothesis
    from seq2seq.model import Seq2Seq as Seq2Seq
    from seq2seq.model import SequenceClassifier as SequenceClassifier
    from seq2seq.model import SequenceTagger as SequenceTagger
    from seq2seq.model import Tokens as Tokens
    from seq2seq.model import from_keras as from_keras
    from seq2seq.model import from_torch as from_torch
    from seq2seq.model import load as load
    from seq2seq.text import Tokenizer as Tokenizer

_ROOMS = {
    "layers": (
        "AttentionContext",
        "AttentiveContext",
        "Decoder",
        "Encoder",
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
    ),
    "model": (
        "Ensemble",
        "Hypothesis",
        "Seq2Seq",
        "SequenceClassifier",
        "SequenceTagger",
        "Tokens",
        "from_keras",
        "from_torch",
        "load",
    ),
    "text": ("Tokenizer",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted(_ROOM_OF)


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'seq2seq' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seq2seq.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_keras()
