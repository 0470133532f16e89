"""Looking inside a trained model: gates, gradients through time, alignments, units, pictures."""

from seq2seq.inspection.gradient_flow import GradientFlow, LayerFlow, back_propagate_layer, gradient_flow
from seq2seq.inspection.trace import LayerTrace, Trace, trace, traces

__all__ = [
    "GradientFlow",
    "LayerFlow",
    "LayerTrace",
    "Trace",
    "back_propagate_layer",
    "gradient_flow",
    "trace",
    "traces",
]
