"""Everything that can be found out about one sentence, at once: the content of the page and of `--json`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seq2seq.config.sections import LABEL_TASKS
from seq2seq.inspection.gradient_flow import GradientFlow, flow_of
from seq2seq.inspection.recorder import FIRST_LAYERS, Recorder
from seq2seq.inspection.trace import Trace, unpacked
from seq2seq.inspection.unit_probes import LabelledSentence, LabelUnits, label_units
from seq2seq.inspection.units import WORD_START, SpanUnits, half_lives, text_of, units_across, with_matches
from seq2seq.models.base import TextModel
from seq2seq.text.ids import END_PIECE

DECIMALS = 6


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Findings about one sentence; None and nothing stand for what was not asked.

    `half_lives` are those of each layer's units, `(units,)`; `decisive_word` has the most evidence for the labels that
    a model of labels gives.
    """

    trace: Trace
    flow: GradientFlow
    half_lives: Mapping[str, np.ndarray]
    span: str | None = None
    span_units: Sequence[SpanUnits] = ()
    label_units: Sequence[LabelUnits] | None = None
    decisive_word: str | None = None


def inspect_sentence(
    model: TextModel | Recorder,
    source: str,
    target: str | None = None,
    span: str | None = None,
    around: int | None = None,
    corpus: Sequence[str] = (),
    labelled: Sequence[LabelledSentence] = (),
) -> Inspection:
    """Find out everything about a sentence, from one recording of it.

    A span, part of the source or of the target, is one that units may mark; `around`, `corpus` and `labelled` are as in
    `units_on`, `with_matches` and `label_units`.
    """
    recorder = Recorder.of(model)
    recording = recorder.record([source], None if target is None else [target], gradients=True)
    (trace,), flow = unpacked(recording), flow_of(recording)
    span_units = [] if span is None else units_across(trace, span, around)
    gives_labels = recorder.model.task in LABEL_TASKS
    return Inspection(
        trace,
        flow,
        {name: half_lives(layer) for name, layer in trace.layers.items()},
        span,
        with_matches(recorder, span_units, corpus) if corpus else span_units,
        label_units(recorder, labelled) if labelled else None,
        decisive_word(flow.layers[FIRST_LAYERS[0]].tokens, flow.evidence) if gives_labels else None,
    )


def decisive_word(tokens: Sequence[str], evidence: np.ndarray) -> str:
    """Return the word whose pieces have the most evidence; words, where an encoder joins their pieces in a step.

    >>> decisive_word(["▁the", "▁cat", "s", "</s>"], np.array([0.1, 0.2, 0.3, 0.9]))
    'cats'
    >>> decisive_word(["▁the▁cat", "s▁ate", "▁fish</s>"], np.array([0.1, 0.2, 0.2]))
    'the cats ate'
    """
    is_word = [step for step, token in enumerate(tokens) if step and token.startswith(WORD_START)]
    starts, ends = [0, *is_word], [*is_word, len(tokens) - (tokens[-1] == END_PIECE)]
    best = max(zip(starts, ends, strict=True), key=lambda word: evidence[slice(*word)].sum())
    return text_of(tokens[slice(*best)])


def as_numbers(value: Any) -> Any:
    """Convert findings to mappings, lists, numbers and texts, as JSON has them; infinity and NaN become None."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        names += [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        return {name: as_numbers(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {name: as_numbers(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return as_numbers(np.round(value.astype("float64"), DECIMALS).tolist())
    if isinstance(value, list | tuple):
        return [as_numbers(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
