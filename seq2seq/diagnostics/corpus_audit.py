"""Audit of a corpus: counts gathered in one pass, judged by a table of checks; memory holds counts and hashes only."""

import dataclasses
import itertools
import logging
import math
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from seq2seq.config.sections import Config
from seq2seq.errors import DataError
from seq2seq.text.corpus import CorpusReport, Pair
from seq2seq.text.ids import UNKNOWN_ID
from seq2seq.text.tokenizer import Tokenizer

LOG = logging.getLogger(__name__)

Readers = dict[str, Callable[[CorpusReport], Iterator[Pair]]]
"""By corpus (`train`, `dev`, `test`): start reading its pairs, skipping and reporting unusable lines."""

Verdict = Literal["ok", "warning", "problem"]

# Controls except the tab, zero width spaces and marks, Unicode's own line breaks, and the replacement character.
CONTROL = re.compile("[\x01-\x08\x0a-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffd]")

NOTABLE = 0.01
"""Share of the pairs from which a flaw that every real corpus has a little of is worth a warning."""
RATIO_SMOOTHING = 10  # characters
RATIO_FACTOR = 3
QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99, "longest": 1.0}
SHOWN_PARTS = 12
_BINS_PER_E = 100
_CHUNK_PAIRS = 4_096
_MOST_UNKNOWN = 100_000


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of a check, `topic.name`: its text says what was found and what to do, its numbers fit into JSON.

    A problem would stop the run or make its scores meaningless; with a warning the run works, but may be worse.
    """

    name: str
    verdict: Verdict
    text: str
    numbers: dict[str, Any]


@dataclasses.dataclass
class Occurrences:
    """A count, and the place (`path:line`) of the first occurrence."""

    count: int = 0
    first: str | None = None

    def add(self, where: str) -> None:
        """Count one more."""
        self.count += 1
        if self.first is None:
            self.first = where


@dataclasses.dataclass(frozen=True)
class Check:
    """A row of the audit: what to say after the number of pairs, and the shares from which a verdict is due."""

    text: str
    advice: str
    warning_share: float = NOTABLE
    problem_share: float = math.inf
    applies: Callable[[str, str], bool] | None = None
    """Tell from the source and target of a pair alone whether the pair counts."""

    def finding(self, name: str, found: Occurrences, total: int, **numbers: Any) -> Finding:
        """Judge a count of a total; `numbers` complete the text and those of the finding."""
        share, text = share_of(found.count, total), self.text.format(**numbers)
        every = {"count": found.count, "share": share, "first": found.first, **numbers}
        if not found.count:
            return Finding(name, "ok", f"no {text}", every)
        return judged(
            name,
            f"{found.count:,} {text} ({100 * share:.1f} %; first: {found.first})",
            every,
            (share >= self.problem_share, "problem", self.advice),
            (share >= self.warning_share, "warning", self.advice),
        )


CHECKS = {
    "duplicates": Check(
        "pairs repeat an earlier pair", "Each copy counts as one more example: remove them, unless that is intended."
    ),
    "copies": Check(
        "pairs have the same text on both sides",
        "They teach the model to copy: remove what was never translated.",
        applies=lambda source, target: source == target,
    ),
    "length_ratio": Check(
        f"pairs are more than {RATIO_FACTOR} times off the median length ratio, {{median_ratio:.2f}} target characters "
        f"to 1 of the source with {RATIO_SMOOTHING} added to each side",
        "Check that the files in data.folder are aligned line by line, and remove pairs that are no translations.",
    ),
    "normal_form": Check(
        "pairs are not in Unicode's composed form (NFC)",
        "The same word has two spellings: write the files in NFC, or set tokenizer.normalization to nfkc.",
        warning_share=0.0,
        applies=lambda source, target: (
            not (unicodedata.is_normalized("NFC", source) and unicodedata.is_normalized("NFC", target))
        ),
    ),
    "control_characters": Check(
        "pairs contain control characters, zero width spaces or the replacement character (U+FFFD)",
        "Remove these characters, and check the encoding of the files in data.folder.",
        warning_share=0.0,
        applies=lambda source, target: bool(CONTROL.search(source) or CONTROL.search(target)),
    ),
    "overlap_pairs": Check(
        "pairs are in the training set too",
        "The model may know them by heart, which inflates its scores: remove them from the training files.",
        warning_share=0.0,
        problem_share=0.05,
    ),
    "overlap_sources": Check(
        "sources are in the training set too, with any target",
        "Scores are partly of sentences seen in training: remove them from the training files.",
        warning_share=0.05,
    ),
    "cut": Check(
        "sources are cut to {max_tokens:,} tokens ({truncate}): {tokens:,} tokens, {token_share:.1%}, are not read",
        "Raise data.max_source_tokens, if these parts matter.",
        warning_share=0.1,
    ),
    "rewritten": Check(
        "targets change when they are encoded and decoded",
        "No translation can equal them: set tokenizer.normalization to identity, or normalize the files.",
    ),
}
COMPOSED_BY_TOKENIZER = dataclasses.replace(
    CHECKS["normal_form"],
    advice="The tokenizer composes them, but scores are computed on the files as they are: write these in NFC.",
)
PAIR_CHECKS = {name: check.applies for name, check in CHECKS.items() if check.applies}


def judged(name: str, text: str, numbers: dict[str, Any], *rules: tuple[bool, Verdict, str]) -> Finding:
    """Make a finding with the verdict and the advice of the first rule that holds; ok if none does."""
    verdict, advice = next(((verdict, advice) for holds, verdict, advice in rules if holds), ("ok", ""))
    return Finding(name, verdict, f"{text}. {advice}" if advice else text, numbers)


def share_of(count: int, total: int) -> float:
    """Divide a count by a total; 0 of nothing."""
    return count / total if total else 0.0


@dataclasses.dataclass
class PairStatistics:
    """Counts of the texts of a corpus: lengths, pairs by check, length ratios in hundredths of their logarithm.

    Equal pairs, and equal sources, have equal hashes of 64 bits within a process.
    """

    pairs: int = 0
    lengths: dict[str, Counter[int]] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    checked: dict[str, Occurrences] = dataclasses.field(
        default_factory=lambda: {name: Occurrences() for name in PAIR_CHECKS}
    )
    ratios: dict[int, Occurrences] = dataclasses.field(default_factory=lambda: defaultdict(Occurrences))
    pair_hashes: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))
    source_hashes: "array[int]" = dataclasses.field(default_factory=lambda: array("q"))

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> "PairStatistics":
        """Count all pairs of a corpus."""
        statistics = cls()
        for pair in pairs:
            statistics.add(pair)
        return statistics

    def add(self, pair: Pair) -> None:
        """Count one more pair."""
        source, target, where = pair[:3]
        characters = len(source), len(target)
        self.lengths["source_words"][len(source.split())] += 1
        self.lengths["target_words"][len(target.split())] += 1
        self.lengths["source_characters"][characters[0]] += 1
        self.lengths["target_characters"][characters[1]] += 1
        for name, applies in PAIR_CHECKS.items():
            if applies(source, target):
                self.checked[name].add(where)
        ratio = (characters[1] + RATIO_SMOOTHING) / (characters[0] + RATIO_SMOOTHING)
        self.ratios[round(_BINS_PER_E * math.log(ratio))].add(where)
        self.pair_hashes.append(hash((source, target)))
        self.source_hashes.append(hash(source))
        self.pairs += 1

    def ratio_outliers(self) -> tuple[Occurrences, float]:
        """Find the pairs whose length ratio is more than `RATIO_FACTOR` times off the median, and the median ratio.

        Both lengths get `RATIO_SMOOTHING` more characters, so that short pairs do not stand out for a few characters.
        """
        if not self.ratios:
            return Occurrences(), 1.0
        median = quantile({place: found.count for place, found in self.ratios.items()}, 0.5)
        limit = _BINS_PER_E * math.log(RATIO_FACTOR)
        # Bins are in the order of their first pairs.
        outliers = [found for place, found in self.ratios.items() if abs(place - median) > limit]
        first = outliers[0].first if outliers else None
        return Occurrences(sum(found.count for found in outliers), first), math.exp(median / _BINS_PER_E)


def quantile(counts: Mapping[int, int], share: float) -> int:
    """Find the smallest number that is at least as large as this share of all numbers, of which each has a count.

    >>> quantile({3: 5, 8: 4, 20: 1}, 0.5), quantile({3: 5, 8: 4, 20: 1}, 0.95)
    (3, 20)
    """
    numbers = sorted(counts)
    reached = itertools.accumulate(counts[number] for number in numbers)
    wanted = share * sum(counts.values())
    return next(number for number, below in zip(numbers, reached, strict=True) if below >= wanted)


def quantiles(lengths: Counter[int]) -> dict[str, int]:
    """Compute `QUANTILES` of counted lengths; 0 if there are none."""
    return {name: quantile(lengths, share) if lengths else 0 for name, share in QUANTILES.items()}


def repeated(hashes: Sequence[int]) -> np.ndarray:
    """Find the indices of the hashes that occurred before.

    >>> repeated([5, 7, 5, 5])
    array([2, 3])
    """
    values = np.asarray(hashes, np.int64)
    order = np.argsort(values, kind="stable")
    return np.sort(order[1:][values[order[1:]] == values[order[:-1]]])


def shared(hashes: Sequence[int], others: Sequence[int]) -> np.ndarray:
    """Find the indices of the hashes that are among the others.

    >>> shared([5, 7, 9], [9, 7, 1])
    array([1, 2])
    """
    return np.flatnonzero(np.isin(np.asarray(hashes, np.int64), np.asarray(others, np.int64)))


def audit_texts(readers: Readers, config: Config) -> Iterator[Finding]:
    """Yield findings on the texts alone, of each corpus and of what the dev and test sets share with training."""
    read: dict[str, PairStatistics] = {}
    composes = config.tokenizer.normalization != "identity"
    for corpus, pairs in readers.items():
        LOG.info(f"reading the {corpus} pairs ...")
        report = CorpusReport()
        try:
            statistics = PairStatistics.of(pairs(report))
        except DataError as error:
            yield Finding(f"{corpus}.pairs", "problem", str(error), {})
            continue
        # A corpus may be part of a file.
        report.pairs = statistics.pairs
        yield pairs_finding(corpus, report, config.data.on_bad_line == "error")
        if not statistics.pairs:
            continue
        read[corpus] = statistics
        yield lengths_finding(f"{corpus}.lengths", statistics.lengths, "words")
        again = _located(repeated(statistics.pair_hashes), pairs)
        yield CHECKS["duplicates"].finding(f"{corpus}.duplicates", again, statistics.pairs)
        outliers, median = statistics.ratio_outliers()
        yield CHECKS["length_ratio"].finding(
            f"{corpus}.length_ratio", outliers, statistics.pairs, median_ratio=round(median, 2)
        )
        for name, found in statistics.checked.items():
            check = CHECKS[name]
            if name == "normal_form" and composes:
                share = NOTABLE if corpus == "train" else 0.0
                check = dataclasses.replace(COMPOSED_BY_TOKENIZER, warning_share=share)
            yield check.finding(f"{corpus}.{name}", found, statistics.pairs)
    train = read.pop("train", None)
    for corpus, statistics in read.items() if train else ():
        for kind in ("pair", "source"):
            hashes = getattr(statistics, f"{kind}_hashes"), getattr(train, f"{kind}_hashes")
            found = _located(shared(*hashes), readers[corpus])
            check = CHECKS[f"overlap_{kind}s"]
            yield check.finding(f"overlap.{corpus}_{kind}s", found, statistics.pairs)


def _located(indices: np.ndarray, pairs: Callable[[CorpusReport], Iterator[Pair]]) -> Occurrences:
    """Read the corpus again up to the first of some pairs, to learn its place."""
    if not len(indices):
        return Occurrences()
    return Occurrences(len(indices), next(itertools.islice(pairs(CorpusReport()), int(indices[0]), None)).where)


def pairs_finding(corpus: str, report: CorpusReport, stops: bool) -> Finding:
    """Judge how many pairs of a corpus can be used; `stops`: the run stops at an unusable line."""
    name = f"{corpus}.pairs"
    numbers = {"pairs": report.pairs, "skipped": dict(report.skipped), "first": dict(report.first)}
    if not report.number_skipped and report.pairs:
        return Finding(name, "ok", f"{report.pairs:,} pairs, all of them usable", numbers)
    reasons = "; ".join(
        f"{count:,} {reason} (first: {report.first[reason]})" for reason, count in sorted(report.skipped.items())
    )
    share = share_of(report.number_skipped, report.pairs + report.number_skipped)
    return judged(
        name,
        f"{report.pairs:,} pairs, {report.number_skipped:,} more cannot be used" + (f": {reasons}" if reasons else ""),
        numbers,
        (not report.pairs, "problem", "No pair is left: check data.folder and the names in data."),
        (stops, "problem", "The run stops at the first: correct it, or set data.on_bad_line to skip."),
        (True, "warning" if share >= NOTABLE else "ok", "They are skipped."),
    )


def lengths_finding(name: str, lengths: Mapping[str, Counter[int]], unit: str) -> Finding:
    """Report quantiles of counted lengths; the text shows those of the first two, source and target, in their unit.

    >>> lengths_finding("dev.lengths", {"source": Counter({4: 9, 30: 1}), "target": Counter({5: 3})}, "words").text
    'source 4/30/30, target 5/5/5 words (median/95 %/longest)'
    """
    numbers = {key: quantiles(counts) for key, counts in lengths.items()}
    source, target = (
        f"{found['median']:,}/{found['p95']:,}/{found['longest']:,}" for found in itertools.islice(numbers.values(), 2)
    )
    return Finding(name, "ok", f"source {source}, target {target} {unit} (median/95 %/longest)", numbers)


@dataclasses.dataclass
class SideStatistics:
    """Counts of one side of a corpus in tokens: lengths with the end token, texts over the limit, unknown parts.

    `unknown_parts` are characters, or words if tokens are words.
    """

    tokens: Counter[int] = dataclasses.field(default_factory=Counter)
    over: Occurrences = dataclasses.field(default_factory=Occurrences)
    over_tokens: int = 0
    unknown: Occurrences = dataclasses.field(default_factory=Occurrences)
    unknown_tokens: int = 0
    unknown_parts: Counter[str] = dataclasses.field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Count the tokens of all texts."""
        return sum(length * count for length, count in self.tokens.items())

    def add(self, where: str, ids: list[int], limit: int) -> bool:
        """Count one more text, and tell whether it has more tokens than the limit."""
        self.tokens[len(ids)] += 1
        if len(ids) <= limit:
            return False
        self.over.add(where)
        self.over_tokens += len(ids) - limit
        return True

    def add_unknown(self, where: str, ids: list[int], pieces: list[str], words: bool) -> None:
        """Count the unknown parts of a text that has any."""
        self.unknown.add(where)
        self.unknown_tokens += ids.count(UNKNOWN_ID)
        for piece, token_id in zip(pieces, ids, strict=True):
            if token_id != UNKNOWN_ID:
                continue
            # Consecutive unknown characters share one piece.
            parts = piece.split("▁")
            for part in filter(None, parts if words else "".join(parts)):
                # A corpus has endlessly many words: the first ones are enough to show.
                if part in self.unknown_parts or len(self.unknown_parts) < _MOST_UNKNOWN:
                    self.unknown_parts[part] += 1


@dataclasses.dataclass
class TokenStatistics:
    """Counts of both sides in tokens, of pairs over a limit, sources to be cut not counted, and of altered targets."""

    source: SideStatistics = dataclasses.field(default_factory=SideStatistics)
    target: SideStatistics = dataclasses.field(default_factory=SideStatistics)
    over: Occurrences = dataclasses.field(default_factory=Occurrences)
    rewritten: Occurrences = dataclasses.field(default_factory=Occurrences)

    @classmethod
    def of(cls, pairs: Iterable[Pair], tokenizer: Tokenizer, config: Config) -> "TokenStatistics":
        """Count all pairs of a corpus as a tokenizer encodes them."""
        statistics, limits = cls(), (config.data.max_source_tokens, config.data.max_target_tokens)
        cuts, words = config.data.truncate != "none", config.tokenizer.kind == "word"
        iterator = iter(pairs)
        while group := list(itertools.islice(iterator, _CHUNK_PAIRS)):
            source_ids = tokenizer.source.encode([pair.source for pair in group])
            target_ids = tokenizer.target.encode([pair.target for pair in group])
            decoded = tokenizer.target.decode(target_ids)
            for pair, source, target, text in zip(group, source_ids, target_ids, decoded, strict=True):
                over = statistics.source.add(pair.where, source, limits[0]) and not cuts
                if statistics.target.add(pair.where, target, limits[1]) or over:
                    statistics.over.add(pair.where)
                if UNKNOWN_ID in source:
                    statistics.source.add_unknown(pair.where, source, tokenizer.source.tokenize(pair.source), words)
                if UNKNOWN_ID in target:
                    statistics.target.add_unknown(pair.where, target, tokenizer.target.tokenize(pair.target), words)
                if text != pair.target.strip():
                    statistics.rewritten.add(pair.where)
        return statistics


def audit_tokens(readers: Readers, tokenizer: Tokenizer, config: Config) -> Iterator[Finding]:
    """Yield findings on the texts as a tokenizer encodes them, and on what the limits leave out of training."""
    data = config.data
    for corpus, pairs in readers.items():
        LOG.info(f"cutting the {corpus} pairs into tokens ...")
        statistics = TokenStatistics.of(pairs(CorpusReport()), tokenizer, config)
        source, target = statistics.source, statistics.target
        lengths = {"source": source.tokens, "target": target.tokens}
        yield lengths_finding(f"tokens.{corpus}_lengths", lengths, "tokens")
        if corpus == "train":
            yield limits_finding(statistics, config)
        if data.truncate != "none":
            yield CHECKS["cut"].finding(
                f"tokens.{corpus}_cut",
                source.over,
                source.tokens.total(),
                max_tokens=data.max_source_tokens,
                truncate=data.truncate,
                tokens=source.over_tokens,
                token_share=share_of(source.over_tokens, source.total),
            )
        yield unknown_finding(f"tokens.{corpus}_unknown", statistics, config.tokenizer.kind == "word")
        if corpus != "train":
            total = target.tokens.total()
            yield CHECKS["rewritten"].finding(f"tokens.{corpus}_rewritten", statistics.rewritten, total)


def limits_finding(statistics: TokenStatistics, config: Config) -> Finding:
    """Judge how many training pairs the limits of tokens leave out."""
    pairs, over = statistics.source.tokens.total(), statistics.over.count
    sides = {"max_target_tokens": statistics.target}
    if config.data.truncate == "none":
        sides = {"max_source_tokens": statistics.source} | sides
    share, found = share_of(over, pairs), []
    numbers: dict[str, Any] = {"pairs": over, "share": share}
    for name, side in sides.items():
        limit, longest = getattr(config.data, name), max(side.tokens, default=0)
        count, first = side.over.count, side.over.first
        numbers[name] = {"limit": limit, "over": count, "first": first, "longest": longest}
        if count:
            found.append(f"{count:,} over data.{name} {limit} (first: {first}, longest: {longest:,})")
    if not over:
        limits = " or ".join(f"data.{name} {numbers[name]['limit']}" for name in sides)
        return Finding("tokens.limits", "ok", f"no pairs are over {limits}", numbers)
    stops = config.data.on_bad_line == "error"
    return judged(
        "tokens.limits",
        f"{over:,} pairs ({100 * share:.1f} %) are too long: {'; '.join(found)}",
        numbers,
        (over == pairs, "problem", "No pair is left: raise the limits."),
        (stops, "problem", "The run stops at the first: raise the limit, or set data.on_bad_line to skip."),
        (True, "warning" if share >= NOTABLE else "ok", "They are skipped."),
    )


def unknown_finding(name: str, statistics: TokenStatistics, words: bool) -> Finding:
    """Judge the characters, or words, that the tokenizer has no token for."""
    sides = {"source": statistics.source, "target": statistics.target}
    numbers = {
        side: {
            "texts": found.unknown.count,
            "first": found.unknown.first,
            "tokens": found.unknown_tokens,
            "share": share_of(found.unknown_tokens, found.total),
            "parts": dict(found.unknown_parts.most_common(SHOWN_PARTS)),
        }
        for side, found in sides.items()
    }
    parts = [
        f"{side}: {found.unknown_tokens:,} of {found.total:,} tokens unknown in {found.unknown.count:,} texts "
        f"(first: {found.unknown.first}): {_examples(found.unknown_parts)}"
        for side, found in sides.items()
        if found.unknown.count
    ]
    if not parts:
        return Finding(name, "ok", f"no unknown {'words' if words else 'characters'}", numbers)
    advice = "Set tokenizer.byte_fallback to true, or raise tokenizer.character_coverage."
    if words:
        advice = "Raise tokenizer.vocabulary_size, or set tokenizer.kind to one of subwords."
    return Finding(name, "warning", f"{'; '.join(parts)}. The model reads and writes them as ⁇. {advice}", numbers)


def _examples(parts: Counter[str]) -> str:
    shown = []
    for part, count in parts.most_common(SHOWN_PARTS):
        code = f" (U+{ord(part):04X})" if len(part) == 1 else ""
        shown.append(f"{part if part.isprintable() else '?'}{code} {count:,} x")
    more = len(parts) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
