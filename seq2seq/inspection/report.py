"""All that can be found out about one sentence, at once: what the page shows and `--json` prints."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seq2seq.config.sections import LABEL_TASKS
from seq2seq.inspection.gradient_flow import READ_EMBEDDINGS, GradientFlow, gradient_flow
from seq2seq.inspection.trace import Trace, trace
from seq2seq.inspection.unit_probes import LabelUnits, label_units
from seq2seq.inspection.units import (
    WORD_START,
    LabelledSentence,
    SpanUnits,
    half_lives,
    text_of,
    units_across,
    with_matches,
)
from seq2seq.models.base import TextModel
from seq2seq.text.ids import END_PIECE

DECIMALS = 6


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found out about one sentence.

    Attributes:
        trace: Gates, states and attention.
        flow: Gradients through time.
        half_lives: Of each layer's units by the layer's name, in steps, `(units,)`.
        span: The span that was asked for; None: none was.
        span_units: Of each layer that reads the span, the units that are on across it.
        label_units: Of each layer the units that tell the label of labelled sentences; None: no labels were given.
        decisive: The word that speaks most for the labels that the model gives; None: it gives none.
    """

    trace: Trace
    flow: GradientFlow
    half_lives: Mapping[str, np.ndarray]
    span: str | None = None
    span_units: Sequence[SpanUnits] = ()
    label_units: Sequence[LabelUnits] | None = None
    decisive: str | None = None


def inspect_sentence(
    model: TextModel,
    source: str,
    target: str | None = None,
    span: str | None = None,
    around: int | None = None,
    corpus: Sequence[str] = (),
    labelled: Sequence[LabelledSentence] = (),
) -> Inspection:
    """Find out about a sentence what there is to find out.

    Args:
        model: The model.
        source: The source text.
        target: The target text; None: the model's own translation.
        span: Part of the source or of the target; which units are on across it, and off outside?
        around: At how many steps on either side of the span these must be off; None: at all.
        corpus: Sentences among which to look for spans where these units do the same; blank ones are passed over.
        labelled: Sentences with a label; which units tell it?

    Raises:
        DataError: A text is blank, or the span is not in the sentence, or more than once.
        ModelFileError: The model has no tokenizer.
        ValueError: For fewer than two labels, or fewer than two sentences of one.
    """
    traced, flow = trace(model, source, target), gradient_flow(model, source, target)
    span_units = [] if span is None else units_across(traced, span, around)
    return Inspection(
        traced,
        flow,
        {name: half_lives(layer) for name, layer in traced.layers.items()},
        span,
        with_matches(model, span_units, corpus) if corpus else span_units,
        label_units(model, labelled) if labelled else None,
        decisive_word(flow.layers[READ_EMBEDDINGS[0]].tokens, flow.evidence) if model.task in LABEL_TASKS else None,
    )


def decisive_word(tokens: Sequence[str], evidence: np.ndarray) -> str:
    """The word whose pieces together speak most for the target; words, where an encoder joins their pieces in a step.

    >>> decisive_word(["▁the", "▁cat", "s", "</s>"], np.array([0.1, 0.2, 0.3, 0.9]))
    'cats'
    >>> decisive_word(["▁the▁cat", "s▁ate", "▁fish</s>"], np.array([0.1, 0.2, 0.2]))
    'the cats ate'
    """
    is_word = [step for step, token in enumerate(tokens) if step and token.startswith(WORD_START)]
    starts, ends = [0, *is_word], [*is_word, len(tokens) - (tokens[-1] == END_PIECE)]
    best = max(zip(starts, ends, strict=True), key=lambda word: evidence[slice(*word)].sum())
    return text_of(tokens[slice(*best)])


def as_numbers(found: Inspection) -> dict[str, Any]:
    """All of an inspection in lists, numbers and texts, as JSON has them; what is infinite or not a number is None."""
    traced, flow = found.trace, found.flow
    numbers: dict[str, Any] = {
        "source": traced.source,
        "target": traced.target,
        "source_tokens": traced.source_tokens,
        "target_tokens": traced.target_tokens,
        "log_probs": traced.log_probs,
        "evidence": flow.evidence,
        "decisive_word": found.decisive,
        "attention": traced.attention,
        "memory_tokens": traced.memory_tokens,
        "layers": {
            name: {
                "cell": layer.cell,
                "update_gate": layer.update_gate,
                "tokens": layer.tokens,
                "values": layer.values,
                "half_lives": found.half_lives[name],
            }
            for name, layer in traced.layers.items()
        },
        "gradient_flow": {
            "loss": flow.loss,
            "gradient_norm": flow.gradient_norm,
            "clip_norm": flow.clip_norm,
            "clip_factor": flow.clip_factor,
            "layers": {
                name: {
                    "tokens": layer.tokens,
                    "norms": layer.norms,
                    "rates": layer.rates,
                    "rate": layer.rate,
                    "verdict": layer.verdict,
                }
                for name, layer in flow.layers.items()
            },
        },
    }
    if traced.copying is not None:
        numbers["copying"] = dataclasses.asdict(traced.copying)
    if found.span is not None:
        numbers["span"] = {"text": found.span, "layers": {span.layer: _span_numbers(span) for span in found.span_units}}
    if found.label_units is not None:
        numbers["labels"] = {of_layer.layer: _label_numbers(of_layer) for of_layer in found.label_units}
    return _plain(numbers)


def _span_numbers(span: SpanUnits) -> dict[str, Any]:
    return {
        "start": span.start,
        "stop": span.stop,
        "units": [dataclasses.asdict(unit) | {"margin": unit.margin} for unit in span.units],
        "match_count": span.match_count,
        "matches": [
            {
                "line": found.line,
                "tokens": found.tokens,
                "start": found.match.start,
                "stop": found.match.stop,
                "units": found.match.units,
            }
            for found in span.matches
        ],
    }


def _label_numbers(found: LabelUnits) -> dict[str, Any]:
    return {
        "units": [
            dataclasses.asdict(unit) | {"always_correct": always_correct}
            for unit, always_correct in zip(found.probes, found.persistence.always_correct.tolist(), strict=True)
        ],
        "sentences_by_step": found.persistence.sentences.tolist(),
        "accuracy_by_step": found.persistence.accuracy,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(np.round(value.astype("float64"), DECIMALS).tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
