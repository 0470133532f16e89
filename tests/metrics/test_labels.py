"""Accuracy, macro F1 and confusion counted by hand; the bootstrap against drawing texts one by one."""

import numpy as np
import pytest

from seq2seq.errors import DataError
from seq2seq.metrics.labels import compare_labels, label_accuracy, label_confusion, label_macro_f1

WANTED = [["N", "V", "D"], ["N", "N"], ["V"], ["D", "N"]]
GIVEN = [["N", "N", "D"], ["N", "V"], ["V"], ["D", "P"]]


def test_by_hand():
    # Right: N 2, V 1, D 2 of 8. F1: N 2*2/(3+4), V 2*1/(2+2), D 2*2/(2+2), P 0/(1+0).
    assert label_accuracy(GIVEN, WANTED).value == pytest.approx(100 * 5 / 8)
    assert label_macro_f1(GIVEN, WANTED).value == pytest.approx(100 * (4 / 7 + 1 / 2 + 1 + 0) / 4)
    assert label_confusion(GIVEN, WANTED) == {"D": {"D": 2}, "N": {"N": 2, "P": 1, "V": 1}, "V": {"N": 1, "V": 1}}
    assert label_accuracy(GIVEN, WANTED).signature == "accuracy|labels:4"


def f1_of(given, wanted):
    scores = []
    for label in {*given, *wanted}:
        both = sum(one == right == label for one, right in zip(given, wanted, strict=True))
        scores.append(2 * both / (given.count(label) + wanted.count(label)))
    return 100 * sum(scores) / len(scores)


def test_intervals_are_those_of_texts_drawn_again():
    draw = np.random.default_rng(0)
    wanted = [list(draw.choice(["A", "B", "C"], draw.integers(1, 5))) for _ in range(60)]
    first, second = ([[x if draw.random() < p else "A" for x in row] for row in wanted] for p in (0.5, 0.8))
    found, better = compare_labels([first, second], wanted)
    samples = []
    for _ in range(2000):
        rows = draw.integers(0, 60, 60)
        samples.append(f1_of([x for row in rows for x in first[row]], [x for row in rows for x in wanted[row]]))
    low, high = np.quantile(samples, [0.025, 0.975])
    assert found["macro_f1"].value == pytest.approx(label_macro_f1(first, wanted).value)
    assert found["macro_f1"].mean == pytest.approx(np.mean(samples), abs=0.5)
    assert found["macro_f1"].margin == pytest.approx((high - low) / 2, rel=0.15)
    assert found["accuracy"].p_value is None
    assert better["accuracy"].p_value < 0.01
    assert compare_labels([first, first], wanted)[1]["accuracy"].p_value == 1.0


def test_other_counts():
    with pytest.raises(DataError, match=r"text 2: must have 2 labels, got 1"):
        label_accuracy([["N", "V", "D"], ["N"], ["V"], ["D", "N"]], WANTED)
