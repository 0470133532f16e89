"""Where else in a corpus a set of units does the same: the match view of LSTMVis."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from seq2seq.inspection.trace import Trace
from seq2seq.inspection.units import UnitThreshold


@dataclasses.dataclass(frozen=True)
class Match:
    """A span of a corpus across which units are on together.

    Attributes:
        sentence: Number of the sentence, from 0.
        start: First step of the span.
        stop: The step after its last.
        tokens: The pieces that these steps read.
        units: Those of the units that are on at each of these steps.
    """

    sentence: int
    start: int
    stop: int
    tokens: tuple[str, ...]
    units: tuple[int, ...]


def matches(
    traces: Iterable[Trace],
    layer_name: str,
    units: Sequence[UnitThreshold],
    at_least: int | None = None,
    field: str = "state",
) -> list[Match]:
    """The spans of a corpus across which all of the units, or most of them, are on together.

    What units that are on across one span have in common shows in the other spans where they are (Strobelt et al.
    2016, arXiv 1606.07461, section 5). Each span here is as long as it can be: with one more step on either side, fewer
    than `at_least` of the units would be on across it. Where only most of them must be on, spans of one sentence can
    overlap.

    Args:
        traces: The corpus; read once.
        layer_name: The layer of the units.
        units: The units, each with where it counts as on: what `units_on` or `probe` found.
        at_least: How many of them must be on, the same ones at each step of a span; None: all.
        field: Which gate or state to read.

    Returns:
        Longest spans first; of equally long ones those with more units first, then in the order of the corpus.

    Raises:
        ValueError: for no units or one of them twice, a layer, unit or field that the model has not, or a bad
            `at_least`.

    >>> from seq2seq.inspection.trace import LayerTrace
    >>> state = np.array([[0.1], [0.9], [0.7], [0.2]])
    >>> layer = LayerTrace("encoder.forward_0", "gru", "keep", ("▁the", "▁cat", "s", "</s>"), {"state": state})
    >>> trace = Trace("the cats", "", layer.tokens, (), {layer.name: layer}, None, np.zeros(0))
    >>> matches([trace], "encoder.forward_0", [UnitThreshold(unit=0, sign=1, threshold=0.5)])
    [Match(sentence=0, start=1, stop=3, tokens=('▁cat', 's'), units=(0,))]
    """
    numbers = [unit.unit for unit in units]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"units must be one or more, each once, but are {numbers} instead.")
    at_least = len(units) if at_least is None else at_least
    if not 1 <= at_least <= len(units):
        raise ValueError(f"at_least must be from 1 to the {len(units)} units given, but is {at_least} instead.")
    found = []
    for sentence, trace in enumerate(traces):
        layer = trace.layer(layer_name)
        values = layer.field(field)
        if not 0 <= min(numbers) <= max(numbers) < values.shape[1]:
            raise ValueError(
                f"units must be from 0 to {values.shape[1] - 1} in {layer_name}, but are {numbers} instead. "
                "Look for them in the layer that they were found in."
            )
        is_on = np.stack([unit.is_on(values) for unit in units], axis=1)
        for start, stop in _longest_spans(is_on, at_least):
            agreeing = tuple(numbers[place] for place in np.flatnonzero(is_on[start:stop].all(axis=0)))
            found.append(Match(sentence, start, stop, layer.tokens[start:stop], agreeing))
    return sorted(found, key=lambda match: (match.start - match.stop, -len(match.units)))


def _longest_spans(is_on: np.ndarray, at_least: int) -> list[tuple[int, int]]:
    """The spans across which so many columns of `(steps, units)` are true, none of them part of another."""
    spans: list[tuple[int, int]] = []
    for start in range(len(is_on)):
        still_on = np.logical_and.accumulate(is_on[start:], axis=0).sum(axis=1)
        stop = start + int((still_on >= at_least).sum())
        # A span that begins earlier and reaches as far holds this one.
        if stop > (spans[-1][1] if spans else 0) and stop > start:
            spans.append((start, stop))
    return spans
