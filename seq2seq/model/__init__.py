"""Where the rooms meet: configuration, layers, text and search become one Keras model."""

from seq2seq.model.archive import load, save
from seq2seq.model.build import build_model
from seq2seq.model.ensemble import Ensemble
from seq2seq.model.hypothesis import Hypothesis
from seq2seq.model.imported import Tokens, from_keras, from_torch
from seq2seq.model.labelling import Labelling, LabelModel, SequenceClassifier, SequenceTagger
from seq2seq.model.reader import SourceReader
from seq2seq.model.scoring import PairScore, perplexity
from seq2seq.model.seq2seq import Seq2Seq
from seq2seq.model.workers import count_cores, give_each_operation_one_thread, give_each_operation_threads

__all__ = [
    "Ensemble",
    "Hypothesis",
    "LabelModel",
    "Labelling",
    "PairScore",
    "Seq2Seq",
    "SequenceClassifier",
    "SequenceTagger",
    "SourceReader",
    "Tokens",
    "build_model",
    "count_cores",
    "from_keras",
    "from_torch",
    "give_each_operation_one_thread",
    "give_each_operation_threads",
    "load",
    "perplexity",
    "save",
]
