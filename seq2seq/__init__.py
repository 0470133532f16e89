"""Recurrent sequence-to-sequence models on Keras: train, translate, summarise, and look inside.

The names below load when they are first used, so that a command can print its help without TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

from seq2seq.registration import register_with_keras

if TYPE_CHECKING:
    from seq2seq.layers import AttentionContext as AttentionContext
    from seq2seq.layers import AttentiveContext as AttentiveContext
    from seq2seq.layers import Decoder as Decoder
    from seq2seq.layers import Encoder as Encoder
    from seq2seq.layers import FrontEnd as FrontEnd
    from seq2seq.layers import GRUCell as GRUCell
    from seq2seq.layers import GRUResetBeforeCell as GRUResetBeforeCell
    from seq2seq.layers import GRUSimplifiedCell as GRUSimplifiedCell
    from seq2seq.layers import LastContext as LastContext
    from seq2seq.layers import LSTMCell as LSTMCell
    from seq2seq.layers import OutputProjection as OutputProjection
    from seq2seq.layers import PooledContext as PooledContext
    from seq2seq.layers import ProjectedContext as ProjectedContext
    from seq2seq.layers import Recurrent as Recurrent
    from seq2seq.layers import RNNCell as RNNCell
    from seq2seq.models.archive import load as load
    from seq2seq.models.from_keras_torch import Tokens as Tokens
    from seq2seq.models.from_keras_torch import from_keras as from_keras
    from seq2seq.models.from_keras_torch import from_torch as from_torch
    from seq2seq.models.generation import Ensemble as Ensemble
    from seq2seq.models.labelers import SequenceClassifier as SequenceClassifier
    from seq2seq.models.labelers import SequenceTagger as SequenceTagger
    from seq2seq.models.results import Hypothesis as Hypothesis
    from seq2seq.models.seq2seq import Seq2Seq as Seq2Seq
    from seq2seq.text.tokenizer import Tokenizer as Tokenizer

_MODULES = {
    "seq2seq.layers": (
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
        "OutputProjection",
        "Recurrent",
    ),
    "seq2seq.models.archive": ("load",),
    "seq2seq.models.generation": ("Ensemble",),
    "seq2seq.models.results": ("Hypothesis",),
    "seq2seq.models.from_keras_torch": ("Tokens", "from_keras", "from_torch"),
    "seq2seq.models.seq2seq": ("Seq2Seq",),
    "seq2seq.models.labelers": (
        "SequenceClassifier",
        "SequenceTagger",
    ),
    "seq2seq.text.tokenizer": ("Tokenizer",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'seq2seq' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_keras()
