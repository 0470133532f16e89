"""The page of one sentence: its figures and tables; the words around them are in `templates/sentence.html`."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seq2seq.inspection.figures import Figure, Scale, bars, heatmap, heatmaps, lines
from seq2seq.inspection.gradient_flow import EXPLODING, VANISHING
from seq2seq.inspection.html import Table, write_page
from seq2seq.inspection.report import Inspection
from seq2seq.inspection.trace import LayerTrace, Trace
from seq2seq.inspection.unit_probes import LabelUnits, UnitProbe
from seq2seq.inspection.units import Match, text_of
from seq2seq.layers.equations import describe_gate

SLOWEST_UNITS = 12
SPAN_UNITS = 5
LABEL_UNITS = 8
MAX_CONTEXT = 48
MIN_SENTENCES = 20
WORDS = {"encoder": "source", "decoder": "target"}


class Group(NamedTuple):
    """Layers of a side, `encoder` or `decoder`, that read the same tokens: all of them, without a pyramid."""

    side: str
    names: list[str]
    title: str
    anchor: str

    @property
    def word(self) -> str:
        """Name what the layers read."""
        return WORDS[self.side]


class RankedProbe(NamedTuple):
    """A probe among those of all layers."""

    layer: str
    probe: UnitProbe
    always_correct: float
    training_always_correct: float


def write_sentence_page(path: str | pathlib.Path, found: Inspection, model_name: str) -> pathlib.Path:
    """Write the page of a sentence; its title names the sentence and the model."""
    return write_page(path, "sentence.html", found=found, model_name=model_name, **page_content(found))


def page_content(found: Inspection) -> dict[str, Any]:
    """Make the figures and tables of a page, by the names that the template has for them."""
    trace, flow = found.trace, found.flow
    groups = list(layer_groups(trace.layers))
    ranked = ranked_probes(found.label_units or [])
    span_rows = [
        (span.layer, unit.unit, "red" if unit.sign > 0 else "blue", unit.inside, unit.outside, unit.margin)
        for span in found.span_units
        for unit in span.units[:SPAN_UNITS]
    ]
    return {
        "slowest": slowest_units(found, list(trace.layers))[0],
        "translation": translation(trace),
        "alignment": alignment(trace),
        "copying": copying(trace),
        "memory": memory(found),
        "remembering": [(group, unit_rows(trace.layers, slowest_units(found, group.names))) for group in groups],
        "span_units": Table(["layer", "unit", "on is", "weakest inside", "strongest outside", "margin"], span_rows),
        "span_rows": list(rows_along(trace, [(layer, unit) for layer, unit, *_ in span_rows])),
        "span_matches": [(span, matches_table(span.matches)) for span in found.span_units if span.matches],
        "ranked_probes": ranked,
        "label_units": label_table(ranked),
        "label_steps": label_steps(found.label_units or []),
        "label_rows": list(rows_along(trace, [(entry.layer, entry.probe.unit) for entry in ranked])),
        "gradients": Table(
            ["layer", "left after a step", "left after ten", "verdict"],
            [[name, layer.rate, layer.rate**10, layer.verdict] for name, layer in flow.layers.items()],
        ),
        "limits": (VANISHING, EXPLODING),
        "norms": [(group, norms(found, group.names)) for group in groups],
        "gates": gates(trace),
        "layers": {name: layer_values(layer, found.half_lives[name]) for name, layer in trace.layers.items()},
    }


def layer_groups(layers: Mapping[str, LayerTrace]) -> Iterator[Group]:
    """Group the layers by the tokens that they read, the encoder's first."""
    for side in WORDS:
        by_tokens: dict[tuple[str, ...], list[str]] = {}
        for name, layer in layers.items():
            if name.startswith(side):
                by_tokens.setdefault(layer.tokens, []).append(name)
        for number, names in enumerate(by_tokens.values()):
            title = f"the {side}" if len(by_tokens) == 1 else f"the {side} ({', '.join(names)})"
            yield Group(side, names, title, side if len(by_tokens) == 1 else f"{side}-{number}")


def unit_rows(layers: Mapping[str, LayerTrace], units: Sequence[tuple[str, int]]) -> Figure:
    """Draw the states of units of layers that read the same tokens, a row each."""
    return heatmap(
        np.stack([layers[name].values["state"][:, unit] for name, unit in units]),
        [f"{name.split('.')[1]}, unit {unit}" for name, unit in units],
        layers[units[0][0]].tokens,
        row_title="unit",
        column_title="token",
        name="state",
    )


def rows_along(trace: Trace, units: Sequence[tuple[str, int]]) -> Iterator[tuple[Group, Figure]]:
    """Draw chosen units of all layers, those that read the same tokens in one figure."""
    for group in layer_groups(trace.layers):
        if here := [(name, unit) for name, unit in units if name in group.names]:
            yield group, unit_rows(trace.layers, here)


def translation(trace: Trace) -> Figure:
    """Draw the probability of each piece of the target."""
    probabilities = np.exp(trace.log_probs)
    series = {"probability": (range(len(probabilities)), probabilities.tolist())}
    return bars(series, x_labels=trace.target_tokens, y_title="probability", y_range=(0, 1))


def alignment(trace: Trace) -> Figure | None:
    """Draw the attention weights; None without attention."""
    if trace.attention is None:
        return None
    return weights_map(trace.attention, trace.target_tokens, trace.memory_tokens, "read")


def copying(trace: Trace) -> tuple[Table, Figure] | None:
    """Show what each piece is copied from; None for a decoder that does not copy."""
    copies = trace.copying
    if copies is None:
        return None
    rows = []
    for token, gate, copied, place in zip(trace.target_tokens, copies.gate, copies.copied, copies.places, strict=True):
        source = (trace.source_tokens[place], int(place) + 1) if place >= 0 else (None, None)
        rows.append([token, float(gate), float(copied), *source])
    table = Table(["written", "gate g", "share that is copied", "from", "place in the source"], rows)
    return table, weights_map(copies.weights, trace.target_tokens, trace.source_tokens, "copied")


def weights_map(weights: np.ndarray, written: Sequence[str], read: Sequence[str], verb: str) -> Figure:
    """Draw weights of the source, a row for each piece of the target."""
    return heatmap(weights, written, read, row_title="written", column_title=verb, scale="share", name="weight")


def memory(found: Inspection) -> Table:
    """Show the half-lives of each layer."""
    rows = []
    for name, lives in found.half_lives.items():
        longest = [f"{unit} ({lives[unit]:.1f})" for unit in np.argsort(-lives, kind="stable")[:5]]
        rows.append([name, found.trace.layers[name].cell, len(lives), float(np.median(lives)), ", ".join(longest)])
    return Table(["layer", "cell", "units", "median half-life", "longest half-lives: unit (steps)"], rows)


def slowest_units(found: Inspection, names: Sequence[str]) -> list[tuple[str, int]]:
    """Return the layers and numbers of the units that remember longest, the slowest first."""
    units = [(float(life), name, unit) for name in names for unit, life in enumerate(found.half_lives[name])]
    return [(name, unit) for _, name, unit in sorted(units, key=lambda unit: -unit[0])[:SLOWEST_UNITS]]


def matches_table(matches: Sequence[Match]) -> Table:
    """Show matches in a corpus, each with what stands before and after it."""
    rows = []
    for match in matches:
        parts = slice(match.start), slice(match.start, match.stop), slice(match.stop, None)
        before, inside, after = (text_of(match.tokens[part]) for part in parts)
        before = before if len(before) <= MAX_CONTEXT else "…" + before[-MAX_CONTEXT:]
        after = after if len(after) <= MAX_CONTEXT else after[:MAX_CONTEXT] + "…"
        rows.append([match.line, before, inside, after])
    return Table(["line", "before", "units are on", "after"], rows, right_aligned=["before"])


def ranked_probes(label_units: Sequence[LabelUnits]) -> list[RankedProbe]:
    """Rank the probes of all layers by the half that chose them, so that the other half stays a fair test."""
    ranked = [
        RankedProbe(layer.layer, probe, always, training_always)
        for layer in label_units
        for probe, always, training_always in zip(
            layer.probes,
            layer.persistence.always_correct.tolist(),
            layer.persistence.training_always_correct.tolist(),
            strict=True,
        )
    ]
    return sorted(ranked, key=lambda entry: (-entry.probe.training_gain, -entry.training_always_correct))[:LABEL_UNITS]


def label_table(ranked: Sequence[RankedProbe]) -> Table:
    """Show the probes that tell the label best."""
    rows = []
    for layer, probe, always_correct, _ in ranked:
        when = f"{'above' if probe.sign > 0 else 'below'} {probe.sign * probe.threshold:.2f}"
        rows.append([layer, probe.unit, when, probe.label, probe.accuracy, probe.baseline, always_correct])
    columns = ["layer", "unit", "when", "says", "% right", "% right, one answer for all", "% right at every step"]
    return Table(columns, rows)


def label_steps(label_units: Sequence[LabelUnits]) -> Figure:
    """Draw the accuracy of the best unit of each layer at each step that enough sentences reach."""
    series = {}
    for layer in label_units:
        persistence = layer.persistence
        is_enough = persistence.sentences >= min(MIN_SENTENCES, persistence.sentences[0])
        accuracy = persistence.accuracy[is_enough, 0].tolist()
        series[f"{layer.layer}, unit {layer.probes[0].unit}"] = (np.flatnonzero(is_enough).tolist(), accuracy)
    return lines(series, x_title="steps after the word that shows the label", y_title="percent right")


def norms(found: Inspection, names: Sequence[str]) -> Figure:
    """Draw |dL/dh| of layers that read the same tokens."""
    tokens = found.flow.layers[names[0]].tokens
    series = {name: (range(len(tokens)), found.flow.layers[name].norms.tolist()) for name in names}
    return lines(series, x_labels=tokens, x_title="token", y_title="|dL/dh|", logarithmic=True)


def gates(trace: Trace) -> Table:
    """Show the symbol and the meaning of every gate and state of the model."""
    meanings = {}
    for layer in trace.layers.values():
        for field in layer.values:
            gate = describe_gate(field, layer.update_gate)
            meanings[field] = [field, gate.symbol, gate.meaning]
    return Table(["shown", "symbol", "meaning"], list(meanings.values()))


def layer_values(layer: LayerTrace, lives: np.ndarray) -> Figure:
    """Draw every gate and state of a layer, the units that remember longest on the left."""
    order = np.argsort(-lives, kind="stable")
    scales: dict[str, Scale] = {
        field: "share" if describe_gate(field).range == (0, 1) else "signed" for field in layer.values
    }
    return heatmaps(
        {field: values[:, order] for field, values in layer.values.items()},
        layer.tokens,
        [str(unit) for unit in order],
        row_title="token",
        column_title="unit",
        scales=scales,
    )
