"""A run as a tree of frozen dataclasses, read from a recipe and from flags; no TensorFlow here.

Flags and help are cyclopts' work. Of the libraries compared (jsonargparse, tyro, pydantic-settings) it names the
nearest right flag for a wrong one, answers in a quarter of a second, leaves the words of all other messages to its
caller, and is well kept; the recipe is read here, since none of them says in which line of it a mistake is.
"""

from seq2seq.config.architecture import Attention, Copy, Decoder, Dropout, Encoder, Model
from seq2seq.config.corpus import Data, Tokenizer
from seq2seq.config.decoding import Decoding
from seq2seq.config.flags import load_config, parse_train_arguments
from seq2seq.config.optimisation import Training
from seq2seq.config.run import LABEL_TASKS, SCORES, Config, Run
from seq2seq.config.variations import Comparison, Variant, plan_comparison

__all__ = [
    "LABEL_TASKS",
    "SCORES",
    "Attention",
    "Comparison",
    "Config",
    "Copy",
    "Data",
    "Decoder",
    "Decoding",
    "Dropout",
    "Encoder",
    "Model",
    "Run",
    "Tokenizer",
    "Training",
    "Variant",
    "load_config",
    "parse_train_arguments",
    "plan_comparison",
]
