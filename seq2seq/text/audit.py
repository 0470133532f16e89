"""What the pairs of a corpus look like, counted in one pass: memory holds counts and hashes, never the lines."""

import dataclasses
import itertools
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from seq2seq.text.corpora import Pair
from seq2seq.text.ids import UNKNOWN_ID
from seq2seq.text.tokenizer import Tokenizer

# What is never meant: controls but the tab, zero width spaces and marks, Unicode's own line breaks, and the character
# that stands where a decoder failed.
CONTROL = re.compile("[\x01-\x08\x0a-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffd]")

RATIO_SMOOTHING = 10  # characters
RATIO_FACTOR = 3
_BINS_PER_E = 100

_CHUNK_PAIRS = 4_096
_MOST_UNKNOWN = 100_000


@dataclasses.dataclass
class Occurrences:
    """How often something was met, and where first (`path:line`)."""

    count: int = 0
    first: str | None = None

    def add(self, where: str) -> None:
        """Count one more."""
        self.count += 1
        if self.first is None:
            self.first = where


@dataclasses.dataclass
class RatioBin:
    """The pairs of about one length ratio: how many, and the number and place of the first."""

    count: int
    number: int
    where: str


@dataclasses.dataclass
class PairStatistics:
    """Counts of the texts of a corpus.

    Args:
        pairs: number of pairs.
        source_words, target_words: number of texts by the number of words between their spaces.
        source_characters, target_characters: the same by characters.
        copies: pairs whose source is their target.
        not_normalized: pairs with a side that is not in Unicode's composed form (NFC).
        control: pairs with a side that holds a character of `CONTROL`.
        ratios: pairs by the logarithm of their length ratio, in hundredths.
        pair_hashes: a hash of 64 bits for each pair, in order: equal pairs have equal hashes in one process.
        source_hashes: the same of the sources alone.
    """

    pairs: int = 0
    source_words: Counter[int] = dataclasses.field(default_factory=Counter)
    target_words: Counter[int] = dataclasses.field(default_factory=Counter)
    source_characters: Counter[int] = dataclasses.field(default_factory=Counter)
    target_characters: Counter[int] = dataclasses.field(default_factory=Counter)
    copies: Occurrences = dataclasses.field(default_factory=Occurrences)
    not_normalized: Occurrences = dataclasses.field(default_factory=Occurrences)
    control: Occurrences = dataclasses.field(default_factory=Occurrences)
    ratios: dict[int, RatioBin] = dataclasses.field(default_factory=dict)
    pair_hashes: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))
    source_hashes: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))

    def add(self, pair: Pair) -> None:
        """Count one more pair."""
        source, target, where = pair
        characters = len(source), len(target)
        self.source_words[len(source.split())] += 1
        self.target_words[len(target.split())] += 1
        self.source_characters[characters[0]] += 1
        self.target_characters[characters[1]] += 1
        if source == target:
            self.copies.add(where)
        if not (unicodedata.is_normalized("NFC", source) and unicodedata.is_normalized("NFC", target)):
            self.not_normalized.add(where)
        if CONTROL.search(source) or CONTROL.search(target):
            self.control.add(where)
        place = round(_BINS_PER_E * math.log((characters[1] + RATIO_SMOOTHING) / (characters[0] + RATIO_SMOOTHING)))
        found = self.ratios.get(place)
        if found is None:
            self.ratios[place] = RatioBin(1, self.pairs, where)
        else:
            found.count += 1
        self.pair_hashes.append(hash((source, target)))
        self.source_hashes.append(hash(source))
        self.pairs += 1

    def ratio_outliers(self) -> tuple[Occurrences, float]:
        """Pairs whose length ratio is more than `RATIO_FACTOR` times above or below the median one, and that median.

        The ratio is that of the characters of target and source, each with `RATIO_SMOOTHING` more, so that a few
        characters more do not make a short pair stand out; it is known to one hundredth.
        """
        if not self.ratios:
            return Occurrences(), 1.0
        middle = quantile({place: found.count for place, found in self.ratios.items()}, 0.5)
        limit = _BINS_PER_E * math.log(RATIO_FACTOR)
        outliers = [found for place, found in self.ratios.items() if abs(place - middle) > limit]
        first = min(outliers, key=lambda found: found.number).where if outliers else None
        return Occurrences(sum(found.count for found in outliers), first), math.exp(middle / _BINS_PER_E)


def read_pair_statistics(pairs: Iterable[Pair]) -> PairStatistics:
    """The statistics of all pairs of a corpus.

    Examples:
        >>> statistics = read_pair_statistics([Pair("a cat", "un chat", "a:1"), Pair("Oslo", "Oslo", "a:2")])
        >>> statistics.pairs, dict(statistics.source_words), statistics.copies
        (2, {2: 1, 1: 1}, Occurrences(count=1, first='a:2'))
    """
    statistics = PairStatistics()
    for pair in pairs:
        statistics.add(pair)
    return statistics


def quantile(counts: Mapping[int, int], share: float) -> int:
    """The smallest number that at least this share of all is not above.

    Args:
        counts: how often each number occurs; one at least.
        share: from 0 to 1.

    Examples:
        >>> quantile({3: 5, 8: 4, 20: 1}, 0.5), quantile({3: 5, 8: 4, 20: 1}, 0.95)
        (3, 20)
    """
    numbers = sorted(counts)
    reached = itertools.accumulate(counts[number] for number in numbers)
    wanted = share * sum(counts.values())
    return next(number for number, below in zip(numbers, reached, strict=True) if below >= wanted)


def repeated(hashes: Sequence[int]) -> tuple[int, int | None]:
    """How many of the hashes have stood before, and the number of the first of these; None: there is none.

    Examples:
        >>> repeated([5, 7, 5, 5])
        (2, 2)
    """
    values = np.asarray(hashes, np.int64)
    order = np.argsort(values, kind="stable")
    again = order[1:][values[order[1:]] == values[order[:-1]]]
    return len(again), int(again.min()) if len(again) else None


def shared(hashes: Sequence[int], others: Sequence[int]) -> tuple[int, int | None]:
    """How many of the hashes are among the others, and the number of the first of these; None: there is none.

    Examples:
        >>> shared([5, 7, 9], [9, 7, 1])
        (2, 1)
    """
    found = np.flatnonzero(np.isin(np.asarray(hashes, np.int64), np.asarray(others, np.int64)))
    return len(found), int(found[0]) if len(found) else None


def place_of(pairs: Iterable[Pair], number: int) -> str:
    """Where the pair of this number stands, the first being 0: `path:line`."""
    return next(itertools.islice(pairs, number, None)).where


@dataclasses.dataclass
class SideStatistics:
    """Counts of one side of a corpus in tokens.

    Args:
        tokens: number of texts by the number of their tokens, the end token counted.
        over: texts of more tokens than the limit.
        over_tokens: by how many tokens they are over it, all together.
        unknown: texts with a part that has no token.
        unknown_tokens: number of such parts.
        unknown_parts: how often each is met: characters, or words where tokens are words.
    """

    tokens: Counter[int] = dataclasses.field(default_factory=Counter)
    over: Occurrences = dataclasses.field(default_factory=Occurrences)
    over_tokens: int = 0
    unknown: Occurrences = dataclasses.field(default_factory=Occurrences)
    unknown_tokens: int = 0
    unknown_parts: Counter[str] = dataclasses.field(default_factory=Counter)


@dataclasses.dataclass
class TokenStatistics:
    """Counts of both sides of a corpus in tokens.

    Args:
        source: of the sources.
        target: of the targets.
        over: pairs with a side of more tokens than its limit, a source that is cut to it not counted.
        rewritten: pairs whose target comes out otherwise than it went in, and so can never be matched exactly.
    """

    source: SideStatistics = dataclasses.field(default_factory=SideStatistics)
    target: SideStatistics = dataclasses.field(default_factory=SideStatistics)
    over: Occurrences = dataclasses.field(default_factory=Occurrences)
    rewritten: Occurrences = dataclasses.field(default_factory=Occurrences)


def read_token_statistics(
    pairs: Iterable[Pair],
    tokenizer: Tokenizer,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
    cuts: bool = False,
    words: bool,
) -> TokenStatistics:
    """The statistics of all pairs of a corpus as a tokenizer cuts them.

    Args:
        pairs: the pairs.
        tokenizer: cuts them.
        max_source_tokens: a source of more is counted as over the limit.
        max_target_tokens: the same for the target.
        cuts: whether a source over the limit is cut to it.
        words: whether tokens are words, so that what has no token is a word and not a character.
    """
    statistics = TokenStatistics()
    # A tokenizer shows the pieces of a text for its source side: one made of the target's model shows those of targets.
    target_model = tokenizer.models.get("target.model")
    target_view = Tokenizer(target_model) if target_model else tokenizer
    for group in _groups(pairs):
        source_texts, target_texts = [pair.source for pair in group], [pair.target for pair in group]
        source_ids, target_ids = tokenizer.encode_source(source_texts), tokenizer.encode_target(target_texts)
        for place, pair in enumerate(group):
            over_source = _count(statistics.source, pair.where, source_ids[place], max_source_tokens)
            over_target = _count(statistics.target, pair.where, target_ids[place], max_target_tokens)
            if (over_source and not cuts) or over_target:
                statistics.over.add(pair.where)
            if UNKNOWN_ID in source_ids[place]:
                _count_unknown(statistics.source, tokenizer, pair.source, source_ids[place], pair.where, words)
            if UNKNOWN_ID in target_ids[place]:
                _count_unknown(statistics.target, target_view, pair.target, target_ids[place], pair.where, words)
        for pair, written in zip(group, tokenizer.decode_target(target_ids), strict=True):
            if written != pair.target.strip():
                statistics.rewritten.add(pair.where)
    return statistics


def _groups(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while group := list(itertools.islice(iterator, _CHUNK_PAIRS)):
        yield group


def _count(side: SideStatistics, where: str, ids: list[int], limit: int) -> bool:
    side.tokens[len(ids)] += 1
    if len(ids) <= limit:
        return False
    side.over.add(where)
    side.over_tokens += len(ids) - limit
    return True


def _count_unknown(
    side: SideStatistics, tokenizer: Tokenizer, text: str, ids: list[int], where: str, words: bool
) -> None:
    side.unknown.add(where)
    side.unknown_tokens += ids.count(UNKNOWN_ID)
    for piece, token_id in zip(tokenizer.source_pieces(text), ids, strict=True):
        if token_id != UNKNOWN_ID:
            continue
        # One piece holds all that is unknown in a row.
        parts = piece.split("▁")
        for found in filter(None, parts if words else "".join(parts)):
            # Characters are few, but a corpus has words without end: the first ones are enough to show.
            if found in side.unknown_parts or len(side.unknown_parts) < _MOST_UNKNOWN:
                side.unknown_parts[found] += 1
