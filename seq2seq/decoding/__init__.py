"""Search over any step function; knows no model and no text."""

from seq2seq.decoding.beam import beam_search
from seq2seq.decoding.greedy import greedy_search
from seq2seq.decoding.hypotheses import Hypotheses, StepFunction

__all__ = ["Hypotheses", "StepFunction", "beam_search", "greedy_search"]
