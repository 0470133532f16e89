"""Search over any step function; knows no model and no text."""

from seq2seq.decoding.beam import beam_search
from seq2seq.decoding.ensemble import ensemble_step
from seq2seq.decoding.greedy import greedy_search
from seq2seq.decoding.hypotheses import Hypotheses, Prefix, StepFunction
from seq2seq.decoding.required import RequiredPhrases
from seq2seq.decoding.rules import (
    BannedPhrases,
    MinimumLength,
    NoRepeatedNgram,
    OnlyWhereAllowed,
    RepetitionPenalty,
    Rule,
)
from seq2seq.decoding.sampling import random_numbers, sample_search

__all__ = [
    "BannedPhrases",
    "Hypotheses",
    "MinimumLength",
    "NoRepeatedNgram",
    "OnlyWhereAllowed",
    "Prefix",
    "RepetitionPenalty",
    "RequiredPhrases",
    "Rule",
    "StepFunction",
    "beam_search",
    "ensemble_step",
    "greedy_search",
    "random_numbers",
    "sample_search",
]
