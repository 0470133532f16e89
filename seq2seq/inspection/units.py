"""What single units do in one sentence: how long they remember, and which are on across a span of its tokens."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.errors import DataError
from seq2seq.inspection.recording import placeholder_targets
from seq2seq.inspection.trace import LayerTrace, Trace, traces
from seq2seq.models.base import TextModel
from seq2seq.progress import track
from seq2seq.text.ids import END_PIECE, START_PIECE
from seq2seq.text.lines import scan_lines


@dataclasses.dataclass(frozen=True)
class UnitThreshold:
    """Where a unit counts as on: a state may be as strongly negative as positive, so a threshold has a side.

    Attributes:
        unit: Number of the unit in its layer, from 0.
        sign: 1: on above the threshold; -1: on below minus the threshold.
        threshold: What `sign * value` must exceed.
    """

    unit: int
    sign: int
    threshold: float

    def is_on(self, values: np.ndarray) -> np.ndarray:
        """Whether the unit is on, `(...)`, for the values of its layer, `(..., units)`.

        >>> UnitThreshold(unit=1, sign=-1, threshold=0.5).is_on(np.array([[0.9, -0.4], [0.0, -0.6]])).tolist()
        [False, True]
        """
        return self.sign * values[..., self.unit] > self.threshold


@dataclasses.dataclass(frozen=True)
class UnitSpan(UnitThreshold):
    """A unit that is on at every step of a span and off outside it.

    Attributes:
        inside: Its weakest value in the span, times `sign`.
        outside: Its strongest value outside, times `sign`; 0 where it has none on that side of 0.
    """

    inside: float
    outside: float

    @property
    def margin(self) -> float:
        """How far on and off are apart, in units of the state: every threshold between the two tells them apart."""
        return self.inside - self.outside


def half_lives(layer: LayerTrace, start: int = 0, stop: int | None = None) -> np.ndarray:
    """How many steps like those of this sentence, or of a span of it, it takes until half of what a unit holds is left.

    A cell with a gate keeps the share z_t of its past at step t, and of what it holds the product of n such shares
    after n steps. With g their geometric mean over the steps, half is left after n = log 2 / log(1 / g) steps. That
    is what the gate keeps; what a unit writes back to itself through the candidate is not counted. A unit that is
    written at one step and then held shows in a span that begins after that step, and hardly in the whole sentence.

    A plain RNN has no such gate, and its trace has no weights. There g is the autocorrelation of the unit's state from
    one step to the next: in a first-order autoregression h_t = g h_(t-1) + noise it is just the share that one step
    leaves of the state before. It cannot tell what is held from an input that stays the same, so do not set
    half-lives of the two kinds of cell against each other.

    Args:
        layer: The trace of a layer.
        start: First step of the span.
        stop: The step after its last; None: the end of the sentence.

    Returns:
        Half-lives in steps, `(units,)`: infinite for a unit that keeps everything at every step (a gate of one as
        float32 has it, a state that never moves), 0 for one that keeps nothing at some step (or whose state shows no
        positive autocorrelation).

    Raises:
        ValueError: for an empty span or one outside the sentence.

    >>> kept = np.array([[0.5, 1.0], [0.5, 1.0]])
    >>> layer = LayerTrace("encoder.forward_0", "gru", "keep", ("a", "</s>"), {"state": kept, "update": kept})
    >>> half_lives(layer).tolist()
    [1.0, inf]
    """
    span = _span(layer, start, stop)
    share = _autocorrelation(layer.values["state"][span]) if layer.kept is None else layer.kept[span]
    with np.errstate(divide="ignore"):
        halvings = np.log2(1 / share.astype("float64")).mean(axis=0)
        return 1 / halvings


def units_on(
    layer: LayerTrace, start: int, stop: int, field: str = "state", around: int | None = None
) -> list[UnitSpan]:
    """The units that stay on across a span of tokens and are off outside it.

    The question of LSTMVis (Strobelt et al. 2016, arXiv 1606.07461), without its threshold: a unit belongs here if any
    threshold, above 0 or below, holds it on at each step of the span and off at each other one, and the further apart
    on and off are, the better. 0 is off, because every sentence starts there: a unit that is weak in the span gains
    nothing by being strong on the other side of 0 elsewhere.

    Args:
        layer: The trace of a layer.
        start: First step of the span.
        stop: The step after its last.
        field: Which gate or state to read; a state of either sign, or a gate, which is on near one.
        around: At how many steps on either side of the span a unit must be off; None: at all of them. Few units of a
            trained model are on across a long span and nowhere else in the sentence.

    Returns:
        The units, the widest margin first, each with a threshold halfway between on and off. Empty where no unit
        does it.

    Raises:
        ValueError: for an empty span, one outside the sentence, an unknown field, or a negative `around`.

    >>> state = np.array([[0.1, 0.2], [0.9, -0.8], [0.7, -0.9], [0.2, 0.3]])
    >>> layer = LayerTrace("encoder.forward_0", "gru", "keep", ("a", "b", "c", "</s>"), {"state": state})
    >>> [(found.unit, found.sign, round(found.margin, 2)) for found in units_on(layer, 1, 3)]
    [(1, -1, 0.8), (0, 1, 0.5)]
    """
    if around is not None and around < 0:
        raise ValueError(f"around must be 0 or more steps, or None for all, but is {around} instead.")
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
        raise ValueError(
            f"start and stop must be 0 <= start < stop <= {steps} in a sentence of {steps} tokens, but are {start} and "
            f"{stop} instead."
        )
    return slice(start, stop)


def _autocorrelation(state: np.ndarray) -> np.ndarray:
    """From one step to the next, `(1, units)`: 1 for a unit that never moves, 0 for a negative one."""
    # Less its first value, a unit that never moves is exactly 0, which less a rounded mean it would not be.
    moved = state.astype("float64") - state[:1]
    moved -= moved.mean(axis=0)
    variance = (moved**2).sum(axis=0, keepdims=True)
    covariance = (moved[1:] * moved[:-1]).sum(axis=0, keepdims=True)
    return np.where(variance > 0, np.maximum(covariance, 0) / np.where(variance > 0, variance, 1), 1.0)


COLUMNS = "label, first word, last word, sentence, and for its translation again first word, last word, sentence"

# What SentencePiece writes for the space before a word.
WORD_START = "▁"


class MarkedText(NamedTuple):
    """A text with two of its words marked, by their numbers from 0; words are what stands between spaces.

    Attributes:
        first: The word that shows a property.
        last: The last word at which the property must still be known.
        text: The text.
    """

    first: int
    last: int
    text: str


class LabelledSentence(NamedTuple):
    """A sentence and a property of it.

    Attributes:
        label: The property, such as `plural`.
        source: The sentence.
        target: Its translation; None where nobody has said which.
    """

    label: str
    source: MarkedText
    target: MarkedText | None = None


def read_labelled_sentences(path: str | Path) -> list[LabelledSentence]:
    """Read labelled sentences, such as `data/en-fr/number.tsv`: columns between tabs, without a header.

    Args:
        path: A UTF-8 file with the columns label, first word, last word and sentence, and then, in every line or in
            none, first word, last word and text of its translation.

    Raises:
        DataError: naming the file and the line.
    """
    sentences: list[LabelledSentence] = []
    for line in scan_lines(path):
        if line.problem:
            raise DataError(f"{line.where}: {line.problem.message}")
        sentences.append(_parse(line.text, line.where))
        if (sentences[-1].target is None) != (sentences[0].target is None):
            raise DataError(f"{line.where}: every line must have a translation, or none. Add it, or leave it out.")
    if not sentences:
        raise DataError(f"{path}: must hold at least one labelled sentence, but is empty instead. Check the path.")
    return sentences


def last_pieces(tokens: Sequence[str]) -> list[int]:
    """The step of each word's last piece, the comma after it being part of it, in a row of pieces with its end token.

    >>> last_pieces(["▁the", "▁cat", "s", ",", "▁which", "</s>"])
    [0, 3, 4]
    """
    ends = []
    for step, token in enumerate(tokens[:-1]):
        # Unknown words that follow each other are one piece, with starts of words inside it.
        ends += [step if place else step - 1 for place, character in enumerate(token) if character == WORD_START]
    return [*ends[1:], len(tokens) - 2]


def steps_between(marked: MarkedText, tokens: Sequence[str]) -> tuple[int, int]:
    """The steps of the last pieces of the first and the last marked word: from here to there a property is known.

    Args:
        marked: The text.
        tokens: Its pieces, the end token last.

    Raises:
        DataError: where the tokenizer makes more or fewer words of it than there are between its spaces.

    >>> steps_between(MarkedText(1, 2, "the cats slept"), ["▁the", "▁cat", "s", "▁slept", "</s>"])
    (2, 3)
    """
    ends = last_pieces(tokens)
    words = len(marked.text.split())
    if len(ends) != words:
        raise DataError(
            f"The tokenizer must find the {words} words of {marked.text!r}, but finds {len(ends)} instead: "
            f"{' '.join(tokens)}. Leave the sentence out, or write it without characters that become spaces."
        )
    return ends[marked.first], ends[marked.last]


def _parse(text: str, where: str) -> LabelledSentence:
    columns = text.split("\t")
    if len(columns) not in (4, 7):
        raise DataError(
            f"{where}: expected 4 or 7 tab-separated columns ({COLUMNS}), got {len(columns)}. Check the line's tabs."
        )
    label = columns[0]
    if not label.strip():
        raise DataError(f"{where}: the label must be a word or more, but is {label!r} instead. Write one.")
    marked = [_marked(*columns[place : place + 3], where=where) for place in range(1, len(columns), 3)]
    return LabelledSentence(label, *marked)


def _marked(first: str, last: str, text: str, *, where: str) -> MarkedText:
    words = len(text.split())
    numbers = [int(number) if number.isascii() and number.isdigit() else -1 for number in (first, last)]
    if not 0 <= numbers[0] <= numbers[1] < words:
        raise DataError(
            f"{where}: the numbers of two words must be 0 <= first <= last < {words} in a text of {words} words, but "
            f"are {first!r} and {last!r} instead. Count from 0 what stands between spaces."
        )
    return MarkedText(numbers[0], numbers[1], text)


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


MATCHED_UNITS = 3
MOST_MATCHES = 20


@dataclasses.dataclass(frozen=True)
class CorpusMatch:
    """A span of a corpus across which the units of another span are on too.

    Attributes:
        line: Number of the sentence in the corpus, from 1.
        tokens: All pieces of the sentence.
        match: The span.
    """

    line: int
    tokens: tuple[str, ...]
    match: Match


@dataclasses.dataclass(frozen=True)
class SpanUnits:
    """What one layer does at a span of its tokens.

    Attributes:
        layer: Name of the layer.
        start: First step of the span.
        stop: The step after its last.
        units: The units that are on across the span and off outside it, the widest margin first.
        match_count: How many spans of the corpus there are across which the first three of the units are on together.
        matches: The first of these spans, longest first.
    """

    layer: str
    start: int
    stop: int
    units: list[UnitSpan]
    match_count: int = 0
    matches: Sequence[CorpusMatch] = ()


def find_span(tokens: Sequence[str], text: str) -> list[tuple[int, int]]:
    """Where a text stands in a row of pieces: first step and the step after the last, for each place.

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


def units_across(traced: Trace, span: str, around: int | None = None) -> list[SpanUnits]:
    """For each layer that reads a span, the units that are on across it and off outside it.

    Args:
        traced: The trace of the sentence.
        span: Part of the source, which encoder layers read, or of the target, which decoder layers read.
        around: At how many steps on either side of the span a unit must be off; None: at all.

    Raises:
        DataError: The span is not in the sentence, or more than once.
    """
    found = []
    for name, layer in traced.layers.items():
        places = find_span(layer.tokens, span)
        if len(places) > 1:
            raise DataError(
                f"The span must stand once in the sentence, but {span!r} stands {len(places)} times in "
                f"{text_of(layer.tokens)!r} instead. Give more of the words beside it."
            )
        found += [SpanUnits(name, start, stop, units_on(layer, start, stop, around=around)) for start, stop in places]
    if not found:
        texts = dict.fromkeys(text_of(layer.tokens) for layer in traced.layers.values())
        raise DataError(
            f"The span must be a part of {' or of '.join(map(repr, texts))}, but is {span!r} instead. "
            "Copy it from there."
        )
    return found


def text_of(tokens: Sequence[str]) -> str:
    """Pieces as text, without start and end.

    >>> text_of(["▁the", "▁cat", "s", "</s>"])
    'the cats'
    """
    return "".join(_text_of_one(token) for token in tokens).strip()


def _text_of_one(token: str) -> str:
    # What a step reads may be several pieces, the last of them the end.
    return token.removeprefix(START_PIECE).removesuffix(END_PIECE).replace(WORD_START, " ")


def with_matches(model: TextModel, spans: Sequence[SpanUnits], corpus: Sequence[str]) -> list[SpanUnits]:
    """The same with the places of a corpus where the first three units of a layer's span are on together.

    Args:
        model: The model.
        spans: What `units_across` found.
        corpus: Sentences; blank ones are passed over.
    """
    searched = [span for span in spans if span.units]
    if not searched:
        return list(spans)
    lines = [number for number, sentence in enumerate(corpus, 1) if sentence.strip()]
    sources = [corpus[number - 1] for number in lines]
    targets = (
        placeholder_targets(model, len(sources)) if all(span.layer.startswith("encoder") for span in searched) else None
    )
    found: dict[str, list[CorpusMatch]] = {span.layer: [] for span in spans}
    progress = track(traces(model, sources, targets), len(lines), "sentence", "corpus")
    for line, traced in zip(lines, progress, strict=True):
        for span in searched:
            tokens = traced.layers[span.layer].tokens
            here = matches([traced], span.layer, span.units[:MATCHED_UNITS])
            found[span.layer] += [CorpusMatch(line, tokens, match) for match in here]
    for places in found.values():
        places.sort(key=lambda place: place.match.start - place.match.stop)
    return [
        dataclasses.replace(span, match_count=len(found[span.layer]), matches=found[span.layer][:MOST_MATCHES])
        for span in spans
    ]
