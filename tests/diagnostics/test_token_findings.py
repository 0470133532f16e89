"""What is said of a corpus in tokens: every message, its verdict and its numbers, for planted counts."""

from collections import Counter

import pytest

from seq2seq.diagnostics import corpus_audit as token_findings
from seq2seq.diagnostics.corpus_audit import Occurrences, SideStatistics, TokenStatistics
from seq2seq.text.tokenizer import Truncation


def said(finding):
    return finding.name, finding.verdict, finding.text


def side(lengths, over=0, **unknown):
    made = SideStatistics(Counter(lengths), Occurrences(over, "a:7" if over else None))
    made.unknown_parts = Counter(unknown)
    made.unknown_tokens = sum(unknown.values())
    made.unknown = Occurrences(len(unknown), "a:9" if unknown else None)
    return made


def test_tokens():
    finding = token_findings.tokens_finding("train", TokenStatistics(side({4: 9, 9: 1}), side({5: 10})))
    assert said(finding) == (
        "tokens.train_lengths", "ok", "source 4/9/9, target 5/5/5 tokens (median/95 %/longest)"
    )  # fmt: skip
    assert finding.numbers["target"] == {"median": 5, "p95": 5, "p99": 5, "longest": 5}


OVER = "{} pairs ({} %) are too long: {} over data.max_source_tokens 50 (first: a:7, longest: 60)"


@pytest.mark.parametrize(
    ("source_over", "target_over", "pairs", "stops", "verdict", "text"),
    [
        (0, 0, 100, True, "ok", "none is over data.max_source_tokens 50 or data.max_target_tokens 40"),
        (2, 0, 100, True, "problem", OVER.format(2, "2.0", 2)
         + ". The run stops at the first: raise the limit, or set data.on_bad_line to skip."),
        (2, 1, 100, False, "warning", OVER.format(3, "3.0", 2)
         + "; 1 over data.max_target_tokens 40 (first: a:7, longest: 45). Skipped."),
        (1, 0, 101, False, "ok", OVER.format(1, "1.0", 1) + ". Skipped."),
        (100, 0, 100, False, "problem", OVER.format(100, "100.0", 100) + ". Nothing is left: raise the limits."),
    ],
)  # fmt: skip
def test_limits(source_over, target_over, pairs, stops, verdict, text):
    source = side({60: source_over, 5: pairs - source_over}, source_over)
    target = side({45: target_over, 5: pairs - target_over}, target_over)
    found = TokenStatistics(source, target, Occurrences(source_over + target_over, "a:7"))
    finding = token_findings.limits_finding(found, 50, 40, stops)
    assert said(finding) == ("tokens.limits", verdict, text)
    assert finding.numbers["pairs"] == source_over + target_over
    assert finding.numbers["max_target_tokens"] == {
        "limit": 40, "over": target_over, "first": "a:7" if target_over else None,
        "longest": max(length for length, count in target.tokens.items()),
    }  # fmt: skip


def test_limits_where_sources_are_cut():
    source, target = side({60: 5, 5: 95}, 5), side({45: 2, 5: 98}, 2)
    finding = token_findings.limits_finding(TokenStatistics(source, target, Occurrences(2, "a:7")), 50, 40, True, True)
    assert finding.text.startswith("2 pairs (2.0 %) are too long: 2 over data.max_target_tokens 40 (first")
    assert finding.verdict == "problem"
    finding = token_findings.limits_finding(TokenStatistics(source, side({5: 100})), 50, 40, True, True)
    assert said(finding) == ("tokens.limits", "ok", "none is over data.max_target_tokens 40")


@pytest.mark.parametrize(
    ("over", "verdict", "end"),
    [
        (0, "ok", None),
        (9, "ok", ""),
        (10, "warning", ". Raise data.max_source_tokens, if what they say there matters."),
    ],
)
def test_cut_sources(over, verdict, end):
    source = side({60: over, 10: 100 - over}, over)
    source.over_tokens = 10 * over
    finding = token_findings.cut_finding("dev", TokenStatistics(source), Truncation("head", 50))
    tokens = 60 * over + 10 * (100 - over)
    text = (
        f"{over} sources are cut to 50 tokens (head), {10 * over} tokens ({1000 * over / tokens:.1f} %) are not read "
        f"({over}.0 %; first: a:7){end}"
    )
    assert said(finding) == ("tokens.dev_cut", verdict, "none" if end is None else text)
    assert (finding.numbers["count"], finding.numbers["tokens"]) == (over, 10 * over)


def test_nothing_unknown():
    found = TokenStatistics(side({4: 9}), side({4: 9}))
    assert said(token_findings.unknown_finding("dev", found, words=False)) == (
        "tokens.dev_unknown", "ok", "none: the tokenizer has all characters"
    )  # fmt: skip
    assert token_findings.unknown_finding("dev", found, words=True).text == "none: the tokenizer has all words"


def test_unknown_characters():
    found = TokenStatistics(side({5: 20}, **{"☃": 3, "\u200e": 1}), side({6: 10}, **{"日": 1}))
    finding = token_findings.unknown_finding("test", found, words=False)
    assert said(finding) == (
        "tokens.test_unknown",
        "warning",
        "source: 4 of 100 tokens unknown in 2 texts (first: a:9): ☃ (U+2603) 3 x, ? (U+200E) 1 x; target: 1 of 60 "
        "tokens unknown in 1 texts (first: a:9): 日 (U+65E5) 1 x. The model sees and writes them as ⁇. Set "
        "tokenizer.byte_fallback to true, or raise tokenizer.character_coverage.",
    )
    assert finding.numbers["source"] == {
        "texts": 2, "first": "a:9", "tokens": 4, "share": 0.04, "parts": {"☃": 3, "\u200e": 1}
    }  # fmt: skip


def test_unknown_words():
    words = {f"word{number}": 20 - number for number in range(14)}
    found = TokenStatistics(side({5: 200}, **words), side({6: 10}))
    finding = token_findings.unknown_finding("train", found, words=True)
    assert finding.verdict == "warning"
    assert "word0 20 x, word1 19 x" in finding.text
    assert "word11 9 x and 2 more. The model sees and writes them as ⁇. Raise tokenizer.voc" in finding.text
    assert finding.text.endswith("Raise tokenizer.vocabulary_size, or take a tokenizer.kind of subwords.")
    assert "target:" not in finding.text
    assert len(finding.numbers["source"]["parts"]) == token_findings.SHOWN_PARTS


def test_rewritten():
    found = TokenStatistics(side({4: 10}), side({4: 10}), rewritten=Occurrences(2, "t:4"))
    assert said(token_findings.rewritten_finding("test", found)) == (
        "tokens.test_rewritten",
        "warning",
        "2 targets come out of the tokenizer otherwise than they went in (20.0 %; first: t:4). No translation can "
        "equal them: set tokenizer.normalization to identity, or normalise the files.",
    )
