"""What the pairs of a corpus look like, counted in one pass: memory holds counts and hashes, never the lines."""

import dataclasses
import itertools
import logging
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seq2seq.diagnostics import corpus_audit as findings
from seq2seq.diagnostics import corpus_audit as token_findings
from seq2seq.errors import DataError
from seq2seq.text.corpus import CorpusReport, Pair
from seq2seq.text.ids import UNKNOWN_ID
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer, Truncation

LOG = logging.getLogger(__name__)

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
    for group in _groups(pairs):
        source_texts, target_texts = [pair.source for pair in group], [pair.target for pair in group]
        source_ids, target_ids = tokenizer.source.encode(source_texts), tokenizer.target.encode(target_texts)
        for place, pair in enumerate(group):
            over_source = _count(statistics.source, pair.where, source_ids[place], max_source_tokens)
            over_target = _count(statistics.target, pair.where, target_ids[place], max_target_tokens)
            if (over_source and not cuts) or over_target:
                statistics.over.add(pair.where)
            if UNKNOWN_ID in source_ids[place]:
                _count_unknown(statistics.source, tokenizer.source, pair.source, source_ids[place], pair.where, words)
            if UNKNOWN_ID in target_ids[place]:
                _count_unknown(statistics.target, tokenizer.target, pair.target, target_ids[place], pair.where, words)
        for pair, written in zip(group, tokenizer.target.decode(target_ids), strict=True):
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
    side: SideStatistics,
    vocabulary: SubwordVocabulary | LabelVocabulary,
    text: str,
    ids: list[int],
    where: str,
    words: bool,
) -> None:
    side.unknown.add(where)
    side.unknown_tokens += ids.count(UNKNOWN_ID)
    for piece, token_id in zip(vocabulary.tokenize(text), ids, strict=True):
        if token_id != UNKNOWN_ID:
            continue
        # One piece holds all that is unknown in a row.
        parts = piece.split("▁")
        for found in filter(None, parts if words else "".join(parts)):
            # Characters are few, but a corpus has words without end: the first ones are enough to show.
            if found in side.unknown_parts or len(side.unknown_parts) < _MOST_UNKNOWN:
                side.unknown_parts[found] += 1


NOTABLE = 0.01
"""The share of the pairs from which on something that every real corpus has a little of is worth a warning."""
SPOILED = 0.05
"""The share of the pairs of a test set that, once seen in training, make its scores worthless."""
QUANTILES = "(median/95 %/longest)"


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that was looked at, and what was found.

    Args:
        name: `topic.name`: "train.duplicates".
        verdict: ok; warning: the run works, and may be worse for it; problem: the run would stop, or its scores would
            mean nothing.
        text: what was found and, unless all is well, what to do.
        numbers: the same in numbers, as JSON can hold them.
    """

    name: str
    verdict: Literal["ok", "warning", "problem"]
    text: str
    numbers: dict[str, Any]


def share_of(count: int, total: int) -> float:
    """The share that a count is of a total; of nothing it is 0."""
    return count / total if total else 0.0


def pairs_finding(corpus: str, report: CorpusReport, stops: bool) -> Finding:
    """Which pairs can be read.

    Args:
        corpus: "train", "dev" or "test".
        report: of the reading.
        stops: whether the run stops at a line that cannot be used.
    """
    numbers = {"pairs": report.pairs, "skipped": dict(report.skipped), "first": dict(report.first)}
    name = f"{corpus}.pairs"
    if not report.number_skipped and report.pairs:
        return Finding(name, "ok", f"{report.pairs:,} pairs, all of them usable", numbers)
    reasons = "; ".join(
        f"{count:,} {reason} (first: {report.first[reason]})" for reason, count in sorted(report.skipped.items())
    )
    found = f"{report.pairs:,} pairs, {report.number_skipped:,} that cannot be used"
    found += f": {reasons}. " if reasons else ". "
    if not report.pairs:
        return Finding(name, "problem", f"{found}Nothing is left: check data.folder and the names in data.", numbers)
    if stops:
        return Finding(
            name, "problem", f"{found}The run stops at the first: mend it, or set data.on_bad_line to skip.", numbers
        )
    total = report.pairs + report.number_skipped
    notable = share_of(report.number_skipped, total) >= NOTABLE
    return Finding(name, "warning" if notable else "ok", f"{found}They are skipped.", numbers)


def lengths_finding(corpus: str, statistics: PairStatistics) -> Finding:
    """How long the texts are, in words and in characters."""
    counts = {
        "source_words": statistics.source_words,
        "target_words": statistics.target_words,
        "source_characters": statistics.source_characters,
        "target_characters": statistics.target_characters,
    }
    numbers = {name: quantiles_of(lengths) for name, lengths in counts.items()}
    source, target = shown_quantiles(numbers["source_words"]), shown_quantiles(numbers["target_words"])
    return Finding(f"{corpus}.lengths", "ok", f"source {source}, target {target} words {QUANTILES}", numbers)


def duplicates_finding(corpus: str, again: Occurrences, pairs: int) -> Finding:
    """Pairs that have stood before.

    Args:
        corpus: "train", "dev" or "test".
        again: those that have.
        pairs: how many there are.
    """
    return counted(
        f"{corpus}.duplicates",
        again,
        pairs,
        "pairs have stood before",
        "Each copy counts as an example more: remove them, unless that is meant.",
    )


def copies_finding(corpus: str, statistics: PairStatistics) -> Finding:
    """Pairs whose source is their target."""
    return counted(
        f"{corpus}.copies",
        statistics.copies,
        statistics.pairs,
        "pairs have one text on both sides",
        "They teach the model to copy: remove what was never translated.",
    )


def ratios_finding(corpus: str, statistics: PairStatistics) -> Finding:
    """Pairs whose sides do not fit each other in length."""
    outliers, median = statistics.ratio_outliers()
    rule = f"more than {RATIO_FACTOR} times off the median, {median:.2f} target characters to 1 of the source"
    finding = counted(
        f"{corpus}.length_ratio",
        outliers,
        statistics.pairs,
        f"pairs are {rule}, {RATIO_SMOOTHING} added to each side",
        "Look whether the files have come out of step, and remove what is no translation.",
    )
    text = finding.text if outliers.count else f"none is {rule}"
    return dataclasses.replace(finding, text=text, numbers=finding.numbers | {"median_ratio": round(median, 2)})


def normal_form_finding(corpus: str, statistics: PairStatistics, normalization: str) -> Finding:
    """Texts that are not in Unicode's composed form.

    Args:
        corpus: "train", "dev" or "test".
        statistics: of the corpus.
        normalization: that of the tokenizer; all but identity compose the text themselves.
    """
    composes = normalization != "identity"
    return counted(
        f"{corpus}.normal_form",
        statistics.not_normalized,
        statistics.pairs,
        "pairs are not in Unicode's composed form (NFC)",
        "The tokenizer composes them, but scores compare with the files as they are: write these in NFC."
        if composes
        else "The same word has two spellings: write the files in NFC, or set tokenizer.normalization to nfkc.",
        from_share=NOTABLE if composes and corpus == "train" else 0.0,
    )


def control_characters_finding(corpus: str, statistics: PairStatistics) -> Finding:
    """Texts with characters that nobody sees and nobody meant."""
    return counted(
        f"{corpus}.control_characters",
        statistics.control,
        statistics.pairs,
        "pairs hold control characters, zero width spaces or the mark of a failed decoding (U+FFFD)",
        "Remove these characters, and check in which encoding the files were made.",
        from_share=0.0,
    )


def overlap_findings(
    corpus: str, pairs: int, same_pairs: Occurrences, same_sources: Occurrences
) -> tuple[Finding, Finding]:
    """What of a dev or test set is in training too: whole pairs, and sources whatever their target.

    Args:
        corpus: "dev" or "test".
        pairs: how many it has.
        same_pairs: those that training has too.
        same_sources: those whose source training has too.
    """
    share = share_of(same_pairs.count, pairs)
    of_pairs = counted(
        f"overlap.{corpus}_pairs",
        same_pairs,
        pairs,
        f"{corpus} pairs are in training too",
        "A model may know them by heart: remove them from the training files.",
        from_share=0.0,
    )
    if share >= SPOILED:
        text = f"{of_pairs.text} From {100 * SPOILED:.0f} % on, scores say little of new text."
        of_pairs = dataclasses.replace(of_pairs, verdict="problem", text=text)
    of_sources = counted(
        f"overlap.{corpus}_sources",
        same_sources,
        pairs,
        f"{corpus} sources are in training too, whatever their target",
        "Scores are those of sentences seen before: remove them from the training files.",
        from_share=SPOILED,
    )
    return of_pairs, of_sources


def counted(name: str, found: Occurrences, total: int, what: str, advice: str, from_share: float = NOTABLE) -> Finding:
    """A finding about a number of pairs: a warning where there are some, and they reach a share.

    Args:
        name: of the finding.
        found: how many pairs, and where the first stands.
        total: how many pairs there are.
        what: is said after the number.
        advice: what to do, said with a warning.
        from_share: the share.
    """
    share = share_of(found.count, total)
    numbers = {"count": found.count, "share": share, "first": found.first}
    if not found.count:
        return Finding(name, "ok", "none", numbers)
    text = f"{found.count:,} {what} ({100 * share:.1f} %; first: {found.first})"
    if share < from_share:
        return Finding(name, "ok", text, numbers)
    return Finding(name, "warning", f"{text}. {advice}", numbers)


def quantiles_of(lengths: Counter[int]) -> dict[str, int]:
    """Median, 95 %, 99 % and longest of lengths that are counted; 0 where there are none."""
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "longest": 1.0}
    return {name: quantile(lengths, share) if lengths else 0 for name, share in shares.items()}


def shown_quantiles(quantiles: Mapping[str, int]) -> str:
    """Quantiles as `QUANTILES` names them.

    >>> shown_quantiles(quantiles_of(Counter({4: 9, 30: 1})))
    '4/30/30'
    """
    return "/".join(f"{quantiles[name]:,}" for name in ("median", "p95", "longest"))


Readers = dict[str, Callable[[CorpusReport], Iterator[Pair]]]
"""Give the pairs of each corpus, by its name (`train`, `dev`, `test`), anew each time that they are called."""


def examine_texts(readers: Readers, stops: bool, normalization: str) -> Iterator[Finding]:
    """What can be said of the texts alone.

    Args:
        readers: the corpora; lines that cannot be used are passed over and reported.
        stops: whether the run stops at such a line.
        normalization: that of the tokenizer.

    Returns:
        An iterator over the findings, as they are made.
    """
    read: dict[str, PairStatistics] = {}
    for name, pairs in readers.items():
        LOG.info(f"reading the {name} pairs ...")
        report = CorpusReport()
        try:
            statistics = read_pair_statistics(pairs(report))
        except DataError as error:
            yield Finding(f"{name}.pairs", "problem", str(error), {})
            continue
        # A corpus may be part of a file.
        report.pairs = statistics.pairs
        yield findings.pairs_finding(name, report, stops)
        if not statistics.pairs:
            continue
        read[name] = statistics
        yield findings.lengths_finding(name, statistics)
        again = _placed(repeated(statistics.pair_hashes), pairs)
        yield findings.duplicates_finding(name, again, statistics.pairs)
        yield findings.copies_finding(name, statistics)
        yield findings.ratios_finding(name, statistics)
        yield findings.normal_form_finding(name, statistics, normalization)
        yield findings.control_characters_finding(name, statistics)
    if "train" not in read:
        return
    train = read.pop("train")
    for name, statistics in read.items():
        same_pairs = _placed(shared(statistics.pair_hashes, train.pair_hashes), readers[name])
        same_sources = _placed(shared(statistics.source_hashes, train.source_hashes), readers[name])
        yield from findings.overlap_findings(name, statistics.pairs, same_pairs, same_sources)


def examine_tokens(
    readers: Readers,
    tokenizer: Tokenizer,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
    truncate: str = "none",
    words: bool,
    stops: bool,
) -> Iterator[Finding]:
    """What can be said of the texts as a tokenizer cuts them; of training also what the limits leave out.

    Args:
        readers: the corpora.
        tokenizer: cuts them.
        max_source_tokens: a longer source is left out of training.
        max_target_tokens: a longer target is left out of training.
        truncate: how a longer source is cut, where it is not left out.
        words: whether tokens are words.
        stops: whether the run stops at a pair over a limit.

    Returns:
        An iterator over the findings, as they are made.
    """
    cuts = truncate != "none"
    for name, pairs in readers.items():
        LOG.info(f"cutting the {name} pairs into tokens ...")
        statistics = read_token_statistics(
            pairs(CorpusReport()),
            tokenizer,
            max_source_tokens=max_source_tokens,
            max_target_tokens=max_target_tokens,
            cuts=cuts,
            words=words,
        )
        yield token_findings.tokens_finding(name, statistics)
        if name == "train":
            yield token_findings.limits_finding(statistics, max_source_tokens, max_target_tokens, stops, cuts)
        if cuts:
            yield token_findings.cut_finding(name, statistics, Truncation(truncate, max_source_tokens))
        yield token_findings.unknown_finding(name, statistics, words)
        if name != "train":
            yield token_findings.rewritten_finding(name, statistics)


def _placed(found: tuple[int, int | None], pairs: Callable[[CorpusReport], Iterable[Pair]]) -> Occurrences:
    """A count with the place of the first, whose number alone was kept: the file is read again up to there."""
    count, number = found
    return Occurrences(count, None if number is None else place_of(pairs(CorpusReport()), number))


SHOWN_PARTS = 12
SOME_ARE_CUT = 0.1
"""The share of the sources from which on a limit that cuts them is worth a warning."""


def tokens_finding(corpus: str, statistics: TokenStatistics) -> Finding:
    """How long the texts are in tokens."""
    numbers = {"source": quantiles_of(statistics.source.tokens), "target": quantiles_of(statistics.target.tokens)}
    text = (
        f"source {shown_quantiles(numbers['source'])}, target {shown_quantiles(numbers['target'])} tokens {QUANTILES}"
    )
    return Finding(f"tokens.{corpus}_lengths", "ok", text, numbers)


def cut_finding(corpus: str, statistics: TokenStatistics, truncation: Truncation) -> Finding:
    """How many sources are cut, and how much of the text is not read.

    Args:
        corpus: "train", "dev" or "test".
        statistics: of its pairs.
        truncation: how they are cut.
    """
    side, limit = statistics.source, truncation.max_tokens
    share = share_of(side.over_tokens, _total(side.tokens))
    finding = counted(
        f"tokens.{corpus}_cut",
        side.over,
        side.tokens.total(),
        f"sources are cut to {limit:,} tokens ({truncation.policy}), {side.over_tokens:,} tokens "
        f"({100 * share:.1f} %) are not read",
        "Raise data.max_source_tokens, if what they say there matters.",
        from_share=SOME_ARE_CUT,
    )
    return dataclasses.replace(finding, numbers=finding.numbers | {"tokens": side.over_tokens, "token_share": share})


def limits_finding(
    statistics: TokenStatistics, max_source_tokens: int, max_target_tokens: int, stops: bool, cuts: bool = False
) -> Finding:
    """What the limits of tokens leave out of training.

    Args:
        statistics: of the training pairs.
        max_source_tokens: `data.max_source_tokens`.
        max_target_tokens: `data.max_target_tokens`.
        stops: whether the run stops at a pair over a limit.
        cuts: whether sources are cut to theirs.
    """
    pairs = statistics.source.tokens.total()
    sides = {
        "max_source_tokens": (max_source_tokens, statistics.source),
        "max_target_tokens": (max_target_tokens, statistics.target),
    }
    if cuts:
        del sides["max_source_tokens"]
    numbers: dict[str, Any] = {"pairs": statistics.over.count, "share": share_of(statistics.over.count, pairs)}
    numbers |= {
        name: {
            "limit": limit,
            "over": side.over.count,
            "first": side.over.first,
            "longest": max(side.tokens, default=0),
        }
        for name, (limit, side) in sides.items()
    }
    if not statistics.over.count:
        limits = " or ".join(f"data.{name} {limit}" for name, (limit, _) in sides.items())
        return Finding("tokens.limits", "ok", f"none is over {limits}", numbers)
    found = "; ".join(
        f"{side.over.count:,} over data.{name} {limit} (first: {side.over.first}, longest: {max(side.tokens):,})"
        for name, (limit, side) in sides.items()
        if side.over.count
    )
    text = f"{statistics.over.count:,} pairs ({100 * numbers['share']:.1f} %) are too long: {found}. "
    if statistics.over.count == pairs:
        return Finding("tokens.limits", "problem", f"{text}Nothing is left: raise the limits.", numbers)
    if stops:
        advice = "The run stops at the first: raise the limit, or set data.on_bad_line to skip."
        return Finding("tokens.limits", "problem", f"{text}{advice}", numbers)
    return Finding("tokens.limits", "warning" if numbers["share"] >= NOTABLE else "ok", f"{text}Skipped.", numbers)


def unknown_finding(corpus: str, statistics: TokenStatistics, words: bool) -> Finding:
    """What the tokenizer has no token for.

    Args:
        corpus: "train", "dev" or "test".
        statistics: of the corpus.
        words: whether tokens are words.
    """
    sides = {"source": statistics.source, "target": statistics.target}
    numbers = {side: _unknown_numbers(found) for side, found in sides.items()}
    name, kind = f"tokens.{corpus}_unknown", "words" if words else "characters"
    if not any(found.unknown.count for found in sides.values()):
        return Finding(name, "ok", f"none: the tokenizer has all {kind}", numbers)
    parts = [
        f"{side}: {found.unknown_tokens:,} of {_total(found.tokens):,} tokens unknown in {found.unknown.count:,} texts "
        f"(first: {found.unknown.first}): {_examples(found.unknown_parts)}"
        for side, found in sides.items()
        if found.unknown.count
    ]
    advice = (
        "Raise tokenizer.vocabulary_size, or take a tokenizer.kind of subwords."
        if words
        else "Set tokenizer.byte_fallback to true, or raise tokenizer.character_coverage."
    )
    return Finding(name, "warning", f"{'; '.join(parts)}. The model sees and writes them as ⁇. {advice}", numbers)


def rewritten_finding(corpus: str, statistics: TokenStatistics) -> Finding:
    """References that no output can be equal to, whatever the model writes."""
    return counted(
        f"tokens.{corpus}_rewritten",
        statistics.rewritten,
        statistics.target.tokens.total(),
        "targets come out of the tokenizer otherwise than they went in",
        "No translation can equal them: set tokenizer.normalization to identity, or normalise the files.",
    )


def _unknown_numbers(side: SideStatistics) -> dict[str, Any]:
    return {
        "texts": side.unknown.count,
        "first": side.unknown.first,
        "tokens": side.unknown_tokens,
        "share": share_of(side.unknown_tokens, _total(side.tokens)),
        "parts": dict(side.unknown_parts.most_common(SHOWN_PARTS)),
    }


def _total(tokens: Counter[int]) -> int:
    return sum(length * count for length, count in tokens.items())


def _examples(parts: Counter[str]) -> str:
    shown = ", ".join(_shown(part, count) for part, count in parts.most_common(SHOWN_PARTS))
    more = len(parts) - SHOWN_PARTS
    return f"{shown} and {more:,} more" if more > 0 else shown


def _shown(part: str, count: int) -> str:
    point = f" (U+{ord(part):04X})" if len(part) == 1 else ""
    return f"{part if part.isprintable() else '?'}{point} {count:,} x"
