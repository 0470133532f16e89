"""The parts of a page about single units: those that remember, that mark a span, that tell a label."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seq2seq.inspection.page import Part, Table
from seq2seq.inspection.pictures import Figure, heatmap, lines
from seq2seq.inspection.sentence import Inspection
from seq2seq.inspection.spans import CorpusMatch, SpanUnits, text_of
from seq2seq.inspection.trace import LayerTrace, by_tokens

SPAN_UNITS = 5
LABEL_UNITS = 8
MOST_CHARACTERS = 48
FEWEST_SENTENCES = 20


def unit_rows(layers: Mapping[str, LayerTrace], units: Sequence[tuple[str, int]]) -> Figure:
    """The states of units of layers that read the same tokens, a row each.

    Args:
        layers: The layers of a trace by name.
        units: Name of the layer and number of the unit for each row.
    """
    return heatmap(
        np.stack([layers[name].values["state"][:, unit] for name, unit in units]),
        [f"{name.split('.')[1]}, unit {unit}" for name, unit in units],
        layers[units[0][0]].tokens,
        row_title="unit",
        column_title="token",
        name="state",
    )


def span_parts(found: Inspection) -> Iterator[Part]:
    """The units that are on across the span that was asked for; no part where none was."""
    if found.span is None:
        return
    title = f"Units that are on across “{found.span}” and off outside it"
    chosen = [(span.layer, unit) for span in found.span_units for unit in span.units[:SPAN_UNITS]]
    if not chosen:
        yield Part(title, "There are none: no single unit of a layer that reads the span does so.", None)
        return
    yield Part(
        title,
        "At every step of the span such a unit is further on one side of 0 than outside. The wider the margin between "
        "its weakest step inside and its strongest outside, the more clearly it marks the span.",
        Table(
            ["layer", "unit", "on is", "weakest inside", "strongest outside", "margin"],
            [
                [layer, unit.unit, "red" if unit.sign > 0 else "blue", unit.inside, unit.outside, unit.margin]
                for layer, unit in chosen
            ],
        ),
    )
    yield from _along(
        found,
        [(layer, unit.unit) for layer, unit in chosen],
        "Units that mark the span",
        "Look for rows that are coloured across the span and pale, or of the other colour, outside.",
    )
    yield from (_matches(span) for span in found.span_units if span.matches)


def label_parts(found: Inspection) -> Iterator[Part]:
    """The units that tell the labels that were asked for; no part where none were."""
    if found.label_units is None:
        return
    if not found.label_units:
        yield Part("Units that tell the label", "There are none: no unit of a layer has two different values.", None)
        return
    # The half by which units were chosen ranks them, so that the other half's percent stay a fair test.
    ranked = sorted(
        (
            (layer.layer, unit, *throughout)
            for layer in found.label_units
            for unit, *throughout in zip(
                layer.probes,
                layer.carried.throughout.tolist(),
                layer.carried.training_throughout.tolist(),
                strict=True,
            )
        ),
        key=lambda row: (-row[1].training_gain, -row[3]),
    )[:LABEL_UNITS]
    best_layer, best, best_throughout, _ = ranked[0]
    yield Part(
        f"Unit {best.unit} of {best_layer} tells {best.label} best: {best.accuracy:.0f} % right, "
        f"{best_throughout:.0f} % all the way",
        "A unit above or below one threshold is read as one answer. Percent right are of sentences that had no part in "
        "the choice of unit and threshold, after the last word at which the label must be known. All the way: right "
        "there and at every step before, from the word that shows the label on: such a unit carries it.",
        Table(
            ["layer", "unit", "when", "says", "% right", "% right, one answer for all", "% right all the way"],
            [
                [
                    layer,
                    unit.unit,
                    f"{'above' if unit.sign > 0 else 'below'} {unit.sign * unit.threshold:.2f}",
                    unit.label,
                    unit.accuracy,
                    unit.baseline,
                    throughout,
                ]
                for layer, unit, throughout, _ in ranked
            ],
        ),
    )
    yield Part(
        "Which layers know the label all the way?",
        "The best unit of each layer, at each step after the word that shows the label. A line that stays high carries "
        "it; one that rises at the end gets it from elsewhere, by attention for one.",
        lines(
            {
                f"{layer.layer}, unit {layer.probes[0].unit}": (
                    np.flatnonzero(enough).tolist(),
                    layer.carried.accuracy[enough, 0].tolist(),
                )
                for layer in found.label_units
                for enough in [layer.carried.sentences >= min(FEWEST_SENTENCES, layer.carried.sentences[0])]
            },
            x_title="steps after the word that shows the label",
            y_title="percent right",
        ),
    )
    yield from _along(
        found,
        [(layer, unit.unit) for layer, unit, *_ in ranked],
        "Units that tell the label",
        "Look at which token a row takes its colour, and whether it keeps it. Best on top.",
    )


def _along(found: Inspection, units: Sequence[tuple[str, int]], title: str, text: str) -> Iterator[Part]:
    for side, word in (("encoder", "source"), ("decoder", "target")):
        for names in by_tokens(found.trace.layers, side):
            if here := [(name, unit) for name, unit in units if name in names]:
                yield Part(f"{title}, along the {word}", text, unit_rows(found.trace.layers, here))


def _matches(span: SpanUnits) -> Part:
    return Part(
        f"Where else {span.layer} has these units on together: {', '.join(map(str, span.matches[0].match.units))}",
        f"The longest of {span.match_count:,} spans of the corpus. What they share may be what the units stand for.",
        Table(
            ["line", "before", "units are on", "after"],
            [[place.line, *_in_context(place)] for place in span.matches],
            right_aligned=["before"],
        ),
    )


def _in_context(place: CorpusMatch) -> tuple[str, str, str]:
    before, after = place.tokens[: place.match.start], place.tokens[place.match.stop :]
    before_text, after_text = text_of(before), text_of(after)
    if len(before_text) > MOST_CHARACTERS:
        before_text = "…" + before_text[-MOST_CHARACTERS:]
    if len(after_text) > MOST_CHARACTERS:
        after_text = after_text[:MOST_CHARACTERS] + "…"
    return before_text, text_of(place.match.tokens), after_text
