"""What is said of a corpus: every message, its verdict and its numbers, for planted counts."""

import pytest

from seq2seq.diagnostics import corpus_audit as findings
from seq2seq.diagnostics.corpus_audit import Occurrences, read_pair_statistics
from seq2seq.text.corpus import CorpusReport, Pair


def said(finding):
    return finding.name, finding.verdict, finding.text


def report(pairs, **skipped):
    made = CorpusReport(pairs)
    for reason, count in skipped.items():
        for number in range(count):
            made.skip(reason.replace("_", " "), f"train.en:{number + 1}")
    return made


BAD = "2 blank target (first: train.en:1); 1 not UTF-8 (first: train.en:1). "


@pytest.mark.parametrize(
    ("made", "stops", "verdict", "text"),
    [
        (report(1_200), True, "ok", "1,200 pairs, all of them usable"),
        (report(200, blank_target=2, not_UTF_8=1), True, "problem",
         f"200 pairs, 3 that cannot be used: {BAD}The run stops at the first: mend it, or set data.on_bad_line to "
         "skip."),
        (report(200, blank_target=2, not_UTF_8=1), False, "warning",
         f"200 pairs, 3 that cannot be used: {BAD}They are skipped."),
        (report(1_200, blank_target=2, not_UTF_8=1), False, "ok",
         f"1,200 pairs, 3 that cannot be used: {BAD}They are skipped."),
        (report(0), False, "problem",
         "0 pairs, 0 that cannot be used. Nothing is left: check data.folder and the names in data."),
        (report(0, blank_target=2, not_UTF_8=1), False, "problem",
         f"0 pairs, 3 that cannot be used: {BAD}Nothing is left: check data.folder and the names in data."),
    ],
)  # fmt: skip
def test_pairs(made, stops, verdict, text):
    made.skipped = {reason.replace("not UTF 8", "not UTF-8"): count for reason, count in made.skipped.items()}
    made.first = {reason.replace("not UTF 8", "not UTF-8"): where for reason, where in made.first.items()}
    finding = findings.pairs_finding("train", made, stops)
    assert said(finding) == ("train.pairs", verdict, text)
    assert finding.numbers == {"pairs": made.pairs, "skipped": made.skipped, "first": made.first}


def test_lengths():
    pairs = [Pair("a " * (number - 1) + "a", "bb", "x") for number in range(1, 101)]
    finding = findings.lengths_finding("dev", read_pair_statistics(pairs))
    assert said(finding) == (
        "dev.lengths",
        "ok",
        "source 50/95/100, target 1/1/1 words (median/95 %/longest)",
    )
    assert finding.numbers["source_words"] == {"median": 50, "p95": 95, "p99": 99, "longest": 100}
    assert finding.numbers["source_characters"] == {"median": 99, "p95": 189, "p99": 197, "longest": 199}
    assert list(finding.numbers) == ["source_words", "target_words", "source_characters", "target_characters"]


@pytest.mark.parametrize(
    ("count", "verdict", "text"),
    [
        (0, "ok", "none"),
        (9, "ok", "9 pairs have stood before (0.9 %; first: a:3)"),
        (10, "warning", "10 pairs have stood before (1.0 %; first: a:3). Each copy counts as an example more: remove "
         "them, unless that is meant."),
    ],
)  # fmt: skip
def test_duplicates(count, verdict, text):
    finding = findings.duplicates_finding("train", Occurrences(count, "a:3" if count else None), 1_000)
    assert said(finding) == ("train.duplicates", verdict, text)
    assert finding.numbers == {"count": count, "share": count / 1_000, "first": "a:3" if count else None}


def statistics(*pairs):
    return read_pair_statistics([Pair(*pair, f"a:{number}") for number, pair in enumerate(pairs, start=1)])


def test_copies():
    finding = findings.copies_finding("test", statistics(("a", "b"), ("Oslo", "Oslo")))
    assert said(finding) == (
        "test.copies",
        "warning",
        "1 pairs have one text on both sides (50.0 %; first: a:2). They teach the model to copy: remove what was never "
        "translated.",
    )
    assert findings.copies_finding("test", statistics(("a", "b"))).text == "none"


def test_length_ratio():
    finding = findings.ratios_finding("train", statistics(("a", "b"), ("a", "b"), ("a", "b" * 60)))
    assert said(finding) == (
        "train.length_ratio",
        "warning",
        "1 pairs are more than 3 times off the median, 1.00 target characters to 1 of the source, 10 added to each "
        "side (33.3 %; first: a:3). Look whether the files have come out of step, and remove what is no translation.",
    )
    sound = findings.ratios_finding("train", statistics(("a", "b"), ("a", "b")))
    text = "none is more than 3 times off the median, 1.00 target characters to 1 of the source"
    assert said(sound) == ("train.length_ratio", "ok", text)
    assert finding.numbers["median_ratio"] == 1.0


COMPOSES = "The tokenizer composes them, but scores compare with the files as they are: write these in NFC."
KEEPS = "The same word has two spellings: write the files in NFC, or set tokenizer.normalization to nfkc."


@pytest.mark.parametrize(
    ("corpus", "normalization", "count", "verdict", "advice"),
    [
        ("train", "nmt_nfkc", 200, "ok", ""),
        ("train", "nmt_nfkc", 50, "warning", f". {COMPOSES}"),
        ("test", "nmt_nfkc", 200, "warning", f". {COMPOSES}"),
        ("train", "identity", 200, "warning", f". {KEEPS}"),
    ],
)
def test_normal_form(corpus, normalization, count, verdict, advice):
    found = statistics(("cafe\u0301", "b"), *[("a", "b")] * (count - 1))
    finding = findings.normal_form_finding(corpus, found, normalization)
    text = f"1 pairs are not in Unicode's composed form (NFC) ({100 / count:.1f} %; first: a:1){advice}"
    assert said(finding) == (f"{corpus}.normal_form", verdict, text)


def test_control_characters():
    finding = findings.control_characters_finding("train", statistics(("a\u200b", "b"), *[("a", "b")] * 999))
    assert said(finding) == (
        "train.control_characters",
        "warning",
        "1 pairs hold control characters, zero width spaces or the mark of a failed decoding (U+FFFD) (0.1 %; first: "
        "a:1). Remove these characters, and check in which encoding the files were made.",
    )


KNOWN = " test pairs are in training too"
REMOVE = "A model may know them by heart: remove them from the training files."


@pytest.mark.parametrize(
    ("count", "verdict", "text"),
    [
        (0, "ok", "none"),
        (1, "warning", f"1{KNOWN} (0.1 %; first: t:1). {REMOVE}"),
        (50, "problem", f"50{KNOWN} (5.0 %; first: t:1). {REMOVE} From 5 % on, scores say little of new text."),
    ],
)
def test_overlap_of_pairs(count, verdict, text):
    same = Occurrences(count, "t:1" if count else None)
    finding, _ = findings.overlap_findings("test", 1_000, same, Occurrences())
    assert said(finding) == ("overlap.test_pairs", verdict, text)
    assert finding.numbers["share"] == count / 1_000


@pytest.mark.parametrize(
    ("count", "verdict", "advice"),
    [
        (49, "ok", ""),
        (50, "warning", ". Scores are those of sentences seen before: remove them from the training files."),
    ],
)
def test_overlap_of_sources(count, verdict, advice):
    _, finding = findings.overlap_findings("dev", 1_000, Occurrences(), Occurrences(count, "d:2"))
    text = f"{count} dev sources are in training too, whatever their target ({count / 10:.1f} %; first: d:2){advice}"
    assert said(finding) == ("overlap.dev_sources", verdict, text)


def test_a_share_of_nothing():
    assert findings.share_of(0, 0) == 0.0
