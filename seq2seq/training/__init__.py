"""The training room: corpus, step, loop, checkpoints and scores of a run."""

from seq2seq.training.evaluation import evaluate, evaluate_agreement
from seq2seq.training.loop import Trainer
from seq2seq.training.step import TrainingStep
from seq2seq.training.train import TrainingResult, train

__all__ = ["Trainer", "TrainingResult", "TrainingStep", "evaluate", "evaluate_agreement", "train"]
