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
    quantile,
)
from seq2seq.text.corpora import CorpusReport

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
