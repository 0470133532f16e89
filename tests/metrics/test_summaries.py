"""Scores of summaries against formulas written out here, and counts done by hand."""

import re
from collections import Counter

import numpy as np
import pytest

from seq2seq.errors import DataError
from seq2seq.metrics.summaries import SUMMARY_SCORES, compare_summaries, rouge_l, summary_scores
from seq2seq.metrics.translation import exact_match

WORDS = ["The", "cat", "sat", "on", "a", "mat", "in", "Ulm", "3.5", "mm", "7", "Rain", "."]


def random_texts(seed, count=40):
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 12))) for _ in range(count)]


REFERENCES, HYPOTHESES, SOURCES = random_texts(1), random_texts(2), random_texts(3)


def f1(matches, ours, right):
    return 200 * matches / (ours + right) if ours + right and matches else 0.0


def plain_rouge_n(hypothesis, reference, order):
    grams = []
    for text in (hypothesis, reference):
        words = re.findall("[a-z0-9]+", text.lower())
        grams.append(Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1)))
    return f1(sum((grams[0] & grams[1]).values()), sum(grams[0].values()), sum(grams[1].values()))


def plain_rouge_l(hypothesis, reference):
    ours, right = (re.findall("[a-z0-9]+", text.lower()) for text in (hypothesis, reference))
    longest = np.zeros((len(ours) + 1, len(right) + 1), int)
    for i, one in enumerate(ours):
        for j, other in enumerate(right):
            longest[i + 1, j + 1] = longest[i, j] + 1 if one == other else max(longest[i, j + 1], longest[i + 1, j])
    return f1(longest[-1, -1], len(ours), len(right))


def test_rouge_is_lins():
    pairs = list(zip(HYPOTHESES, REFERENCES, strict=True))
    found = summary_scores(HYPOTHESES, REFERENCES, SOURCES)
    assert found["rouge_1"].value == pytest.approx(np.mean([plain_rouge_n(*pair, 1) for pair in pairs]))
    assert found["rouge_2"].value == pytest.approx(np.mean([plain_rouge_n(*pair, 2) for pair in pairs]))
    assert found["rouge_l"].value == pytest.approx(np.mean([plain_rouge_l(*pair) for pair in pairs]))
    assert found["rouge_l"] == rouge_l(HYPOTHESES, REFERENCES)
    assert re.fullmatch(r"rouge2\|f1\|nrefs:1\|case:lc\|stem:no\|rouge-score:[0-9.]+", found["rouge_2"].signature)


SOURCE = "The mayor of New Ulm spoke. On 3 May it was -4.5 °C; 12 people, not 120, came to Ulm."


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        # Equal but for white space.
        ("On 3 May it  was cold .", "On 3 May it was cold .", {"exact_match": 100, "token_f1": 100}),
        # Five tokens of six and seven are common, the full stop one of them.
        ("12 people came to Bonn.", "12 people came here, too.", {"token_f1": 100 * 2 * 4 / (6 + 7), "exact_match": 0}),
        # -4.5, 12 and 120 are in the source; 4.5 and 2 are not, though their digits are; 7 is in the reference alone.
        ("-4.5 and 4.5, 2 or 12 of 120, 7", "12 12 7", {"numbers_precision": 200 / 3, "numbers_recall": 200 / 3}),
        # "The" and "Ulm" begin sentences; Bonn is in neither text, Lima in the reference.
        ("The Ulm of May. Ulm, Bonn, Lima.", "In Ulm, Ulm, Ulm, Lima. X", {"names_precision": 75, "names_recall": 75}),
        # The words "mayor spoke twice" are new in part, as are all pairs.
        ("the mayor spoke twice", "x", {"novel_1": 25, "novel_2": 200 / 3, "length_ratio": 400}),
        ("", "x y", {"token_f1": 0, "rouge_1": 0, "length_ratio": 0}),
    ],
)  # fmt: skip
def test_counts_by_hand(hypothesis, reference, expected):
    found = summary_scores([hypothesis], [reference], [SOURCE])
    assert {name: found[name].value for name in expected} == pytest.approx(expected)


def test_shares_are_of_the_whole_corpus():
    found = summary_scores(["1 2 3", "x"], ["4", "x"], ["1", "5"])
    assert found["numbers_precision"].value == pytest.approx(100 / 3)
    assert not {"names_precision", "names_recall"} & found.keys()
    assert found["length_ratio"].value == 200


def test_exact_match_is_that_of_translations():
    texts = ["a  b", "c", "D"], ["a b", "c", "d"]
    assert summary_scores(*texts, ["x"] * 3)["exact_match"] == exact_match(*texts)


def test_values_equal_each_system_alone():
    systems = [HYPOTHESES, random_texts(4)]
    found = compare_summaries(systems, REFERENCES, SOURCES)
    for hypotheses, estimates in zip(systems, found, strict=True):
        alone = summary_scores(hypotheses, REFERENCES, SOURCES)
        assert list(estimates) == list(alone) == list(SUMMARY_SCORES)
        for name, estimate in estimates.items():
            assert estimate.value == pytest.approx(alone[name].value)
            assert estimate.signature.startswith(f"{alone[name].signature}|bs:1000|seed:12345|")
            assert (estimate.p_value is None) == (hypotheses is HYPOTHESES)


def test_intervals_by_a_plain_loop():
    found = compare_summaries([HYPOTHESES], REFERENCES, SOURCES)[0]["length_ratio"]
    ours, right = (np.array([len(text.replace(".", " .").replace("3 .5", "3.5").split()) for text in texts])
                   for texts in (HYPOTHESES, REFERENCES))  # fmt: skip
    drawn = np.random.default_rng(12345).choice(40, size=(1000, 40))
    samples = np.sort(100 * ours[drawn].sum(axis=1) / right[drawn].sum(axis=1))
    assert found.mean == pytest.approx(samples.mean())
    assert found.margin == pytest.approx((samples[974] - samples[25]) / 2)


def test_the_other_paired_test(monkeypatch):
    monkeypatch.setattr("seq2seq.metrics.translation.TRIALS", 100)
    texts = ["a b", "c"], ["a c", "d"], ["a", "x"]
    [_, found] = compare_summaries(texts[:2], texts[1], texts[2], test="randomization")
    assert "|bs:1000|ar:100|" in found["novel_2"].signature


def test_a_sample_without_any_counts_as_none():
    [found] = compare_summaries([["1", "x"]], ["1", "x"], ["1", "x"])
    assert found["numbers_recall"].value == 100
    assert 0 < found["numbers_recall"].mean < 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a"], ["a", "b"], ["a"]), "hypotheses must be as many as references, 2, got 1"),
        ((["a"], ["a"], ["a", "b"]), "hypotheses must be as many as sources, 2, got 1"),
        (([], [], []), "hypotheses must hold at least one text"),
    ],
)
def test_lists_that_do_not_fit(arguments, words):
    hypotheses, references, sources = arguments
    with pytest.raises(DataError, match=words):
        summary_scores(hypotheses, references, sources)
    with pytest.raises(DataError, match=words):
        compare_summaries([hypotheses], references, sources)
