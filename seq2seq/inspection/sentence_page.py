"""The page of one sentence: what to look for in it, part by part."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seq2seq.inspection.figures import Figure, Scale, bars, heatmap, heatmaps, lines
from seq2seq.inspection.gradient_flow import EXPLODING, VANISHING, GradientFlow, LayerFlow
from seq2seq.inspection.html import Part, Table
from seq2seq.inspection.report import Inspection
from seq2seq.inspection.trace import LayerTrace, Trace, by_tokens
from seq2seq.inspection.units import CorpusMatch, SpanUnits, text_of

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
            (layer.layer, unit, *always_correct)
            for layer in found.label_units
            for unit, *always_correct in zip(
                layer.probes,
                layer.persistence.always_correct.tolist(),
                layer.persistence.training_throughout.tolist(),
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
                    always_correct,
                ]
                for layer, unit, always_correct, _ in ranked
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
                    layer.persistence.accuracy[enough, 0].tolist(),
                )
                for layer in found.label_units
                for enough in [layer.persistence.sentences >= min(FEWEST_SENTENCES, layer.persistence.sentences[0])]
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


LONGEST = 12
GATES = ("update", "reset", "input_gate", "forget_gate", "output_gate")

MEANINGS = {
    "state": "what the layer hands on; red above 0, blue below",
    "cell_state": "what an LSTM keeps to itself, c; the state is its tanh behind the output gate",
    "update": "share of the past that the unit keeps; dark: it remembers, white: it is written anew",
    "reset": "share of the past that the candidate sees; white: it is made from the token alone",
    "candidate": "what would be written if the unit kept nothing",
    "recurrent_candidate": "the past's part in the candidate",
    "input_gate": "share of the candidate that is written",
    "forget_gate": "share of the cell state that is kept; dark: it remembers",
    "output_gate": "share of the cell state that is shown",
}
UPDATE_THAT_WRITES = "share of the candidate that is written; white: the unit remembers, dark: it is written anew"


def sentence_parts(found: Inspection) -> list[Part]:
    """The parts of the page of a sentence.

    Args:
        found: What was found out about it.

    Returns:
        Parts for `write_page`: translation, alignment where there is one, what is copied where anything is, the units
        that remember longest, the span and labels that were asked for, gradient flow, how to read gates, and each
        layer.
    """
    return [
        _target(found),
        *_alignment(found.trace),
        *_copying(found.trace),
        *_memory(found),
        *span_parts(found),
        *label_parts(found),
        *_gradient_flow(found.flow),
        _reading(found.trace),
        *(_layer(layer, found.half_lives[name]) for name, layer in found.trace.layers.items()),
    ]


def _target(found: Inspection) -> Part:
    trace = found.trace
    probabilities = np.exp(trace.log_probs)
    least = int(probabilities.argmin())
    name, text = "Translation", "How sure the model is of each piece of it, given the pieces before."
    if found.decisive is not None:
        name, text = "Labels", f"{found.decisive} decided: the word that speaks most for them (gradient times input)."
    return Part(
        f"{name}: {trace.target}",
        f"{text} Look for low bars: there it hesitates, "
        f"most of all at {trace.target_tokens[least]} ({probabilities[least]:.0%}). ▁ is the space before a word.",
        bars(
            {"probability": (range(len(probabilities)), probabilities.tolist())},
            x_labels=trace.target_tokens,
            y_title="probability",
            y_range=(0, 1),
        ),
    )


def _alignment(trace: Trace) -> Iterator[Part]:
    if trace.attention is not None:
        yield Part(
            "Alignment: what the decoder reads while it writes",
            "Each row is a piece that is written, its dark cells are where the decoder looks; a row adds up to 1. A "
            "diagonal is word by word; where it breaks, the two languages order their words differently.",
            heatmap(
                trace.attention,
                trace.target_tokens,
                trace.memory_tokens,
                row_title="written",
                column_title="read",
                scale="share",
                name="weight",
            ),
        )


def _copying(trace: Trace) -> Iterator[Part]:
    copying = trace.copying
    if copying is not None:
        rows = []
        for token, gate, copied, place in zip(
            trace.target_tokens, copying.gate, copying.copied, copying.places, strict=True
        ):
            source = (trace.source_tokens[place], int(place) + 1) if place >= 0 else (None, None)
            rows.append([token, float(gate), float(copied), *source])
        yield Part(
            "Copying: what is taken from the source",
            "The gate g is what the next piece leaves to the vocabulary; 1 - g goes to the pieces of the source, by "
            "their weights below. A piece that both can write has its share of each: look for names and numbers, whose "
            "share should be near 1.",
            Table(["written", "gate g", "share that is copied", "from", "place in the source"], rows),
        )
        yield Part(
            "Where it is copied from",
            "Each row is a piece that is written; its dark cells are what would be copied then; a row adds up to 1.",
            heatmap(
                copying.weights,
                trace.target_tokens,
                trace.source_tokens,
                row_title="written",
                column_title="copied",
                scale="share",
                name="weight",
            ),
        )


def _memory(found: Inspection) -> Iterator[Part]:
    layers = found.trace.layers
    by = "what its gate keeps at each step of this sentence"
    if any(layer.kept is None for layer in layers.values()):
        by += " (in a cell without a gate, by how alike its state is from one step to the next)"
    yield Part(
        "Memory: how long each layer keeps what it holds",
        f"Steps until half of what a unit holds is left, by {by}. A layer whose units forget within a step works word "
        "by word; a few units with long half-lives carry the rest.",
        Table(
            ["layer", "cell", "units", "median half-life", "longest half-lives: unit (steps)"],
            [
                [name, layer.cell, len(lives), float(np.median(lives)), _listed(lives)]
                for name, layer in layers.items()
                for lives in [found.half_lives[name]]
            ],
        ),
    )
    for side, word, names in _alike(layers):
        units = [(float(life), name, unit) for name in names for unit, life in enumerate(found.half_lives[name])]
        longest = sorted(units, key=lambda found: -found[0])[:LONGEST]
        yield Part(
            f"{side[0].upper()}{side[1:]}'s units that remember longest",
            f"Each row is a unit, the slowest on top, along the {word}. A row that stays red, or blue, across a clause "
            "carries something through it; the token where its colour changes is what it reacts to.",
            unit_rows(layers, [(name, unit) for _, name, unit in longest]),
        )


def _listed(lives: np.ndarray) -> str:
    best = np.argsort(-lives, kind="stable")[:5]
    return ", ".join(f"{unit} ({lives[unit]:.1f})" for unit in best)


def _gradient_flow(flow: GradientFlow) -> Iterator[Part]:
    yield Part(
        "Gradient flow: does the loss still reach the first steps?",
        "How much of a gradient is left when it has gone back along the recurrence by one step, and by ten. "
        f"Below {VANISHING} a step it vanishes, above {EXPLODING} it explodes. {_clipping(flow)}",
        Table(
            ["layer", "left after a step", "left after ten", "verdict"],
            [[name, layer.rate, layer.rate**10, layer.verdict] for name, layer in flow.layers.items()],
        ),
    )
    for side, word, names in _alike(flow.layers):
        layers = {name: flow.layers[name] for name in names}
        tokens = layers[names[0]].tokens
        yield Part(
            f"How much the loss depends on {side}'s state at each token",
            f"|dL/dh| along the {word}, a line a layer. A line that falls toward the side where its layer begins to "
            "read is a memory that training cannot reach; a level one has other ways to the loss, attention for one.",
            lines(
                {name: (range(len(tokens)), layer.norms.tolist()) for name, layer in layers.items()},
                x_labels=tokens,
                x_title="token",
                y_title="|dL/dh|",
                logarithmic=True,
            ),
        )


def _alike(layers: Mapping[str, LayerTrace | LayerFlow]) -> Iterator[tuple[str, str, list[str]]]:
    """What to call layers that read the same tokens, of what they read these, and the names of the layers."""
    for side, word in (("encoder", "source"), ("decoder", "target")):
        groups = by_tokens(layers, side)
        for names in groups:
            yield f"the {side}" if len(groups) == 1 else f"the {side} ({', '.join(names)})", word, names


def _clipping(flow: GradientFlow) -> str:
    norm = f"The gradient of all weights has norm {flow.gradient_norm:.3g}"
    if not flow.clip_norm:
        return f"{norm}, and training did not clip."
    if flow.clip_factor == 1:
        return f"{norm}, within the {flow.clip_norm:.3g} at which training clips, so clipping leaves it as it is."
    return (
        f"{norm}, above the {flow.clip_norm:.3g} at which training clips: every gradient is multiplied by "
        f"{flow.clip_factor:.3g}, and what vanishes still vanishes."
    )


def _reading(trace: Trace) -> Part:
    meanings = {}
    for layer in trace.layers.values():
        writes = "update" in layer.values and layer.update_gate == "write"
        for field in layer.values:
            meanings[field] = UPDATE_THAT_WRITES if writes and field == "update" else MEANINGS[field]
    return Part(
        "Every gate and state, layer by layer",
        "Below, a row is a token and a column a unit, those that remember longest on the left. The buttons choose what "
        "is shown, the mouse tells value, unit and token; drag to zoom, double-click to go back.",
        Table(["shown", "meaning"], list(meanings.items())),
    )


def _layer(layer: LayerTrace, lives: np.ndarray) -> Part:
    order = np.argsort(-lives, kind="stable")
    scales: dict[str, Scale] = {field: "share" if field in GATES else "signed" for field in layer.values}
    return Part(
        f"{layer.name}: {layer.cell}, {len(lives)} units",
        _what_to_see(layer),
        heatmaps(
            {field: values[:, order] for field, values in layer.values.items()},
            layer.tokens,
            [str(unit) for unit in order],
            row_title="token",
            column_title="unit",
            scales=scales,
        ),
    )


def _what_to_see(layer: LayerTrace) -> str:
    if layer.name.startswith("decoder"):
        return (
            "Reads the piece that was written before. A column that keeps its colour downward is a unit that remembers."
        )
    if "backward" in layer.name:
        return "Reads from the last token to the first. A column that keeps its colour upward is a unit that remembers."
    return "Reads from the first token to the last. A column that keeps its colour downward is a unit that remembers."
