"""Looking inside a trained model: gates, gradients through time, alignments, units, pictures."""

from seq2seq.inspection.bptt import BackPropagation, back_propagate, back_propagate_labels
from seq2seq.inspection.gradient_flow import GradientFlow, LayerFlow, back_propagate_layer, gradient_flow
from seq2seq.inspection.labelled import LabelledSentence, MarkedText, read_labelled_sentences
from seq2seq.inspection.matches import Match, matches
from seq2seq.inspection.matrices import split_weights
from seq2seq.inspection.probes import Carried, UnitProbe, carried, probe, values_across
from seq2seq.inspection.recording import Held
from seq2seq.inspection.trace import LayerTrace, Trace, trace, traces
from seq2seq.inspection.units import UnitSpan, UnitThreshold, half_lives, units_on

__all__ = [
    "BackPropagation",
    "Carried",
    "GradientFlow",
    "Held",
    "LabelledSentence",
    "LayerFlow",
    "LayerTrace",
    "MarkedText",
    "Match",
    "Trace",
    "UnitProbe",
    "UnitSpan",
    "UnitThreshold",
    "back_propagate",
    "back_propagate_labels",
    "back_propagate_layer",
    "carried",
    "gradient_flow",
    "half_lives",
    "matches",
    "probe",
    "read_labelled_sentences",
    "split_weights",
    "trace",
    "traces",
    "units_on",
    "values_across",
]
