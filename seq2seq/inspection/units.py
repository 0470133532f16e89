"""Single units of a layer in one sentence: their memory, the spans that they mark, and the same spans in a corpus."""

import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from seq2seq.errors import ArgumentError, DataError
from seq2seq.inspection.recorder import Recorder
from seq2seq.inspection.trace import LayerTrace, Trace, traces
from seq2seq.models.base import TextModel
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.progress import track
from seq2seq.text.ids import END_PIECE, START_PIECE

WORD_START = "▁"
"""The character that SentencePiece writes for the space before a word."""
MATCHED_UNITS = 3
MAX_MATCHES = 20


@dataclasses.dataclass(frozen=True)
class UnitThreshold:
    """A unit that counts as on if `sign * value > threshold`; sign is 1 or -1, for a state may be on below zero."""

    unit: int
    sign: int
    threshold: float

    def is_on(self, values: np.ndarray) -> np.ndarray:
        """Tell where the unit is on, `(...)`, from the values of its layer, `(..., units)`."""
        return self.sign * values[..., self.unit] > self.threshold


@dataclasses.dataclass(frozen=True)
class UnitSpan(UnitThreshold):
    """A unit that is on at every step of a span and off outside it.

    `inside` is its weakest value in the span, `outside` its strongest one elsewhere, at least 0, both times `sign`.
    """

    inside: float
    outside: float

    @property
    def margin(self) -> float:
        """Distance between on and off: every threshold between the two tells them apart."""
        return self.inside - self.outside


@dataclasses.dataclass(frozen=True)
class Match:
    """A span of a sentence of a corpus, from step `start` to before `stop`, across which `units` are on together.

    Lines are counted from 1; `tokens` are the pieces of the whole sentence.
    """

    line: int
    start: int
    stop: int
    tokens: tuple[str, ...]
    units: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class SpanUnits:
    """Units of one layer that are on across a span and off outside it, the widest margin first.

    `match_count` counts the spans of a corpus across which the first three are on together; `matches` are the longest.
    """

    layer: str
    start: int
    stop: int
    units: list[UnitSpan]
    match_count: int = 0
    matches: Sequence[Match] = ()


def half_lives(layer: LayerTrace, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Return the half-life of each unit's memory in steps, `(units,)`, from a sentence or a span of it.

    A cell with a gate keeps the share z_t of its past at step t, and of what it holds the product of n such shares
    after n steps. With g their geometric mean over the steps, half is left after n = log 2 / log(1 / g) steps. That
    is what the gate keeps; what a unit writes back to itself through the candidate is not counted. A unit that is
    written at one step and then held shows in a span that begins after that step, and hardly in the whole sentence.

    A plain RNN has no such gate. There g is the autocorrelation of the unit's state from one step to the next: in a
    first-order autoregression h_t = g h_(t-1) + noise it is just the share that one step leaves of the state before. It
    cannot tell what is held from an input that stays the same, so half-lives of the two kinds of cell do not compare.
    """
    span, kept = _span(layer, start, stop), layer.share_kept()
    share = _autocorrelation(layer.values["state"][span]) if kept is None else kept[span]
    with np.errstate(divide="ignore"):
        halvings = np.log2(1 / share.astype("float64")).mean(axis=0)
        return 1 / halvings


def units_on(
    layer: LayerTrace, start: int, stop: int, field: str = "state", around: int | None = None
) -> list[UnitSpan]:
    """Find the units that stay on across a span of tokens and are off outside it, the widest margin first.

    The question of LSTMVis (Strobelt et al. 2016, arXiv 1606.07461), without its threshold: any threshold above 0 or
    below may tell on from off, and 0 is off, because every sentence starts there. `around` is the number of steps on
    either side of the span at which a unit must be off (None: all of them); few units of a trained model are on across
    a long span and nowhere else in the sentence.
    """
    if around is not None and around < 0:
        raise ArgumentError("around", "0 or more steps, or None for all", around)
    values = layer.field(field).astype("float64")
    span = _span(layer, start, stop)
    reach = len(values) if around is None else around
    outside_values = np.concatenate([values[max(0, start - reach) : start], values[stop : stop + reach]])
    found = []
    for sign in (1, -1):
        inside = (sign * values[span]).min(axis=0)
        outside = (sign * outside_values).max(axis=0, initial=0.0)
        for unit in np.flatnonzero(inside > outside).tolist():
            halfway = float(inside[unit] + outside[unit]) / 2
            found.append(UnitSpan(unit, sign, halfway, float(inside[unit]), float(outside[unit])))
    return sorted(found, key=lambda unit: (-unit.margin, unit.unit))


def _span(layer: LayerTrace, start: int, stop: int | None) -> slice:
    steps = len(layer.tokens)
    stop = steps if stop is None else stop
    if not 0 <= start < stop <= steps:
        raise ArgumentError("start and stop", f"0 <= start < stop <= {steps}", (start, stop))
    return slice(start, stop)


def _autocorrelation(state: np.ndarray) -> np.ndarray:
    """Return it from one step to the next, `(1, units)`: 1 for a unit that never moves, 0 for a negative one."""
    # Less its first value, a unit that never moves is exactly 0, which less a rounded mean it would not be.
    moved = state.astype("float64") - state[:1]
    moved -= moved.mean(axis=0)
    variance = (moved**2).sum(axis=0, keepdims=True)
    covariance = (moved[1:] * moved[:-1]).sum(axis=0, keepdims=True)
    return np.where(variance > 0, np.maximum(covariance, 0) / np.where(variance > 0, variance, 1), 1.0)


def text_of(tokens: Sequence[str]) -> str:
    """Join pieces to a text, without start and end tokens.

    >>> text_of(["▁the", "▁cat", "s", "</s>"])
    'the cats'
    """
    return "".join(map(_text_of_one, tokens)).strip()


def _text_of_one(token: str) -> str:
    # What a step reads may be several pieces, the last of them the end.
    return token.removeprefix(START_PIECE).removesuffix(END_PIECE).replace(WORD_START, " ")


def find_span(tokens: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Find the places of a text in a row of pieces: the first step of each, and the step after its last.

    >>> find_span(["▁the", "▁cat", ",", "▁whi", "ch", "▁ate", "</s>"], "which ate")
    [(3, 6)]
    """
    pieces = [_text_of_one(token) for token in tokens]
    ends = np.cumsum([len(piece) for piece in pieces])
    wanted, whole = re.escape(" ".join(text.split())), "".join(pieces)
    # Whole words if there are such, for "art" is not meant to be found in "the cart"; not every script has spaces.
    found = list(re.finditer(rf"(?<!\w){wanted}(?!\w)", whole)) or list(re.finditer(wanted, whole))
    return [
        (int(np.searchsorted(ends, place.start(), "right")), int(np.searchsorted(ends, place.end(), "left")) + 1)
        for place in found
        if place.group()
    ]


def units_across(trace: Trace, span: str, around: int | None = None) -> list[SpanUnits]:
    """Find for each layer that reads a span, a part of the source or of the target, the units that mark it."""
    found = []
    for name, layer in trace.layers.items():
        places = find_span(layer.tokens, span)
        if len(places) > 1:
            raise DataError(
                f"The span must be in the sentence once, got {span!r}, which is {len(places)} times in "
                f"{text_of(layer.tokens)!r}. Give more of the words next to it."
            )
        found += [SpanUnits(name, start, stop, units_on(layer, start, stop, around=around)) for start, stop in places]
    if not found:
        texts = dict.fromkeys(text_of(layer.tokens) for layer in trace.layers.values())
        raise DataError(
            f"The span must be a part of {' or of '.join(map(repr, texts))}, got {span!r}. Copy it from there."
        )
    return found


def matches(
    traces: Iterable[Trace],
    layer_name: str,
    units: Sequence[UnitThreshold],
    at_least: int | None = None,
    field: str = "state",
) -> list[Match]:
    """Find the spans of a corpus across which at least so many of the units (None: all) are on together.

    What units that are on across one span have in common shows in the other spans where they are (Strobelt et al.
    2016, arXiv 1606.07461, section 5). Each span is as long as it can be; the longest come first. Where only most of
    the units must be on, spans of one sentence can overlap.
    """
    numbers = [unit.unit for unit in units]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ArgumentError("units", "one or more, each once", numbers)
    at_least = len(units) if at_least is None else at_least
    if not 1 <= at_least <= len(units):
        raise ArgumentError("at_least", f"from 1 to the {len(units)} units given", at_least)
    found = []
    for line, trace in enumerate(traces, 1):
        layer = trace.layer(layer_name)
        values = layer.field(field)
        if not 0 <= min(numbers) <= max(numbers) < values.shape[1]:
            raise ArgumentError("units", f"from 0 to {values.shape[1] - 1} in {layer_name}", numbers)
        is_on = np.stack([unit.is_on(values) for unit in units], axis=1)
        for start, stop in _longest_spans(is_on, at_least):
            agreeing = tuple(numbers[place] for place in np.flatnonzero(is_on[start:stop].all(axis=0)))
            found.append(Match(line, start, stop, layer.tokens, agreeing))
    return sorted(found, key=lambda match: (match.start - match.stop, -len(match.units)))


def _longest_spans(is_on: np.ndarray, at_least: int) -> list[tuple[int, int]]:
    """Return the spans across which so many columns of `(steps, units)` are true, none of them part of another."""
    spans: list[tuple[int, int]] = []
    for start in range(len(is_on)):
        still_on = np.logical_and.accumulate(is_on[start:], axis=0).sum(axis=1)
        stop = start + int((still_on >= at_least).sum())
        # A span that begins earlier and reaches as far holds this one.
        if stop > (spans[-1][1] if spans else 0) and stop > start:
            spans.append((start, stop))
    return spans


def with_matches(model: TextModel | Recorder, spans: Sequence[SpanUnits], corpus: Sequence[str]) -> list[SpanUnits]:
    """Add the matches in a corpus of the first three units of each layer's span; blank lines are passed over."""
    recorder = Recorder.of(model)
    searched = [span for span in spans if span.units]
    if not searched:
        return list(spans)
    lines = [number for number, sentence in enumerate(corpus, 1) if sentence.strip()]
    sources = [corpus[number - 1] for number in lines]
    reads_sources_only = all(span.layer.startswith("encoder") for span in searched)
    targets = placeholder_targets(recorder.model, len(sources)) if reads_sources_only else None
    found: dict[str, list[Match]] = {span.layer: [] for span in spans}
    progress = track(traces(recorder, sources, targets), len(lines), "sentence", "corpus")
    for line, trace in zip(lines, progress, strict=True):
        for span in searched:
            here = matches([trace], span.layer, span.units[:MATCHED_UNITS])
            found[span.layer] += [dataclasses.replace(match, line=line) for match in here]
    for layer in found:
        found[layer].sort(key=lambda match: match.start - match.stop)
    return [
        dataclasses.replace(span, match_count=len(found[span.layer]), matches=found[span.layer][:MAX_MATCHES])
        for span in spans
    ]


def placeholder_targets(model: TextModel, count: int) -> list[str] | None:
    """Return targets for looking at the encoder alone, which does not read them: they save a search."""
    return ["."] * count if isinstance(model, Seq2Seq) else None
