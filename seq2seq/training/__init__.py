"""The training room: corpus, step, loop, checkpoints and scores of a run."""

from seq2seq.training.benchmark import TrainingBenchmark, benchmark_training
from seq2seq.training.comparison import compare
from seq2seq.training.decoding_benchmark import DecodingBenchmark, benchmark_decoding
from seq2seq.training.evaluation import by_source_length, evaluate, evaluate_agreement
from seq2seq.training.loop import Trainer
from seq2seq.training.side_by_side import System, side_by_side
from seq2seq.training.step import TrainingStep
from seq2seq.training.train import TrainingResult, train

__all__ = [
    "DecodingBenchmark",
    "System",
    "Trainer",
    "TrainingBenchmark",
    "TrainingResult",
    "TrainingStep",
    "benchmark_decoding",
    "benchmark_training",
    "by_source_length",
    "compare",
    "evaluate",
    "evaluate_agreement",
    "side_by_side",
    "train",
]
