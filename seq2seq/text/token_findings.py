"""What the statistics of a corpus in tokens mean: what the limits leave out, and what has no token."""

import dataclasses
from collections import Counter
from typing import Any

from seq2seq.text.audit import SideStatistics, TokenStatistics
from seq2seq.text.findings import NOTABLE, QUANTILES, Finding, counted, quantiles_of, share_of, shown_quantiles
from seq2seq.text.truncation import Truncation

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
