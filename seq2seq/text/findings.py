"""What the statistics of a corpus mean: a finding each, with a verdict and what to do about it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from seq2seq.text.audit import (
    RATIO_FACTOR,
    RATIO_SMOOTHING,
    Occurrences,
    PairStatistics,
    SideStatistics,
    TokenStatistics,
    quantile,
)
from seq2seq.text.corpora import CorpusReport

NOTABLE = 0.01
"""The share of the pairs from which on something that every real corpus has a little of is worth a warning."""
SPOILED = 0.05
"""The share of the pairs of a test set that, once seen in training, make its scores worthless."""
SHOWN_PARTS = 12
_ROW = "(median/95 %/longest)"


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
    numbers = {name: _quantiles(lengths) for name, lengths in counts.items()}
    text = f"source {_row(numbers['source_words'])}, target {_row(numbers['target_words'])} words {_ROW}"
    return Finding(f"{corpus}.lengths", "ok", text, numbers)


def duplicates_finding(corpus: str, again: Occurrences, pairs: int) -> Finding:
    """Pairs that have stood before.

    Args:
        corpus: "train", "dev" or "test".
        again: those that have.
        pairs: how many there are.
    """
    return _counted(
        f"{corpus}.duplicates",
        again,
        pairs,
        "pairs have stood before",
        "Each copy counts as an example more: remove them, unless that is meant.",
    )


def copies_finding(corpus: str, statistics: PairStatistics) -> Finding:
    """Pairs whose source is their target."""
    return _counted(
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
    finding = _counted(
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
    return _counted(
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
    return _counted(
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
    of_pairs = _counted(
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
    of_sources = _counted(
        f"overlap.{corpus}_sources",
        same_sources,
        pairs,
        f"{corpus} sources are in training too, whatever their target",
        "Scores are those of sentences seen before: remove them from the training files.",
        from_share=SPOILED,
    )
    return of_pairs, of_sources


def tokens_finding(corpus: str, statistics: TokenStatistics) -> Finding:
    """How long the texts are in tokens."""
    numbers = {"source": _quantiles(statistics.source.tokens), "target": _quantiles(statistics.target.tokens)}
    text = f"source {_row(numbers['source'])}, target {_row(numbers['target'])} tokens {_ROW}"
    return Finding(f"tokens.{corpus}_lengths", "ok", text, numbers)


def limits_finding(statistics: TokenStatistics, max_source_tokens: int, max_target_tokens: int, stops: bool) -> Finding:
    """What the limits of tokens leave out of training.

    Args:
        statistics: of the training pairs.
        max_source_tokens: `data.max_source_tokens`.
        max_target_tokens: `data.max_target_tokens`.
        stops: whether the run stops at a pair over a limit.
    """
    pairs = statistics.source.tokens.total()
    sides = {
        "max_source_tokens": (max_source_tokens, statistics.source),
        "max_target_tokens": (max_target_tokens, statistics.target),
    }
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
        text = f"none is over data.max_source_tokens {max_source_tokens} or data.max_target_tokens"
        return Finding("tokens.limits", "ok", f"{text} {max_target_tokens}", numbers)
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
    return _counted(
        f"tokens.{corpus}_rewritten",
        statistics.rewritten,
        statistics.target.tokens.total(),
        "targets come out of the tokenizer otherwise than they went in",
        "No translation can equal them: set tokenizer.normalization to identity, or normalise the files.",
    )


def _counted(name: str, found: Occurrences, total: int, what: str, advice: str, from_share: float = NOTABLE) -> Finding:
    """A finding about a number of pairs, a warning where it is more than nothing and reaches a share."""
    share = share_of(found.count, total)
    numbers = {"count": found.count, "share": share, "first": found.first}
    if not found.count:
        return Finding(name, "ok", "none", numbers)
    text = f"{found.count:,} {what} ({100 * share:.1f} %; first: {found.first})"
    if share < from_share:
        return Finding(name, "ok", text, numbers)
    return Finding(name, "warning", f"{text}. {advice}", numbers)


def _quantiles(lengths: Counter[int]) -> dict[str, int]:
    shares = {"median": 0.5, "p95": 0.95, "p99": 0.99, "longest": 1.0}
    return {name: quantile(lengths, share) if lengths else 0 for name, share in shares.items()}


def _row(quantiles: Mapping[str, int]) -> str:
    return "/".join(f"{quantiles[name]:,}" for name in ("median", "p95", "longest"))


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
