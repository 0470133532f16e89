"""Which units mark a span of a sentence, and where in a corpus they do the same."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from seq2seq.errors import DataError
from seq2seq.inspection.labelled import WORD_START
from seq2seq.inspection.matches import Match, matches
from seq2seq.inspection.recording import any_targets
from seq2seq.inspection.trace import Trace, traces
from seq2seq.inspection.units import UnitSpan, units_on
from seq2seq.model import SourceReader
from seq2seq.text.ids import END_PIECE, START_PIECE

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


def with_matches(model: SourceReader, spans: Sequence[SpanUnits], corpus: Sequence[str]) -> list[SpanUnits]:
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
    targets = any_targets(model, len(sources)) if all(span.layer.startswith("encoder") for span in searched) else None
    found: dict[str, list[CorpusMatch]] = {span.layer: [] for span in spans}
    progress = tqdm(traces(model, sources, targets), "corpus", len(lines), unit="sentence", disable=None)
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
