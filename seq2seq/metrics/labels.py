"""Scores of labels: accuracy, macro F1, which label is taken for which, and how sure the scores are."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from seq2seq.errors import DataError
from seq2seq.metrics.translation import RESAMPLES, Estimate, Score, check_pairs

DRAWN_AT_ONCE = 50
SEED = 12345

Labels = Sequence[Sequence[str]]
"""The labels of each text: one, or one a word."""


def label_accuracy(hypotheses: Labels, references: Labels) -> Score:
    """The share of labels that are right, in percent.

    >>> label_accuracy([["noun", "verb"], ["noun"]], [["noun", "noun"], ["noun"]]).value.__round__(1)
    66.7

    Args:
        hypotheses: the labels that a model gives.
        references: the right ones.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    counts = _counts(hypotheses, references)
    return Score(float(_accuracy(counts.sum(axis=0))), f"accuracy|labels:{counts.shape[-1]}")


def label_macro_f1(hypotheses: Labels, references: Labels) -> Score:
    """The mean of F1 = 2 right / (given + wanted) over the labels that are given or wanted, in percent.

    >>> label_macro_f1([["noun", "verb"], ["noun"]], [["noun", "noun"], ["noun"]]).value
    40.0
    """
    counts = _counts(hypotheses, references)
    return Score(float(_macro_f1(counts.sum(axis=0))), f"macro_f1|labels:{counts.shape[-1]}")


def label_confusion(hypotheses: Labels, references: Labels) -> dict[str, dict[str, int]]:
    """How often each right label was taken for which.

    >>> label_confusion([["noun", "verb"], ["noun"]], [["noun", "noun"], ["noun"]])
    {'noun': {'noun': 2, 'verb': 1}}
    """
    confusion: dict[str, Counter[str]] = {}
    for given, wanted in zip(hypotheses, references, strict=True):
        for one, right in zip(given, wanted, strict=True):
            confusion.setdefault(right, Counter())[one] += 1
    return {right: dict(sorted(counts.items())) for right, counts in sorted(confusion.items())}


def compare_labels(systems: Sequence[Labels], references: Labels) -> list[dict[str, Estimate]]:
    """Accuracy and macro F1 of one system or more, how sure they are, and whether the others differ from the first.

    Texts are drawn again 1,000 times, the same for all systems (the paired bootstrap of Koehn 2004), as sacreBLEU does.

    Args:
        systems: the labels of each system.
        references: the right ones.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    others = list(itertools.chain.from_iterable(systems))
    counts = np.stack([_counts(hypotheses, references, others) for hypotheses in systems])
    drawn = _resampled(counts)
    kinds = {"accuracy": _accuracy, "macro_f1": _macro_f1}
    found: list[dict[str, Estimate]] = []
    for number in range(len(systems)):
        estimates = {}
        for name, score in kinds.items():
            value, first = (float(score(counts[which].sum(axis=0))) for which in (number, 0))
            samples, of_first = score(drawn[number]), score(drawn[0])
            low, high = np.quantile(samples, [0.025, 0.975])
            differences = np.abs(samples - of_first)
            chance = (np.sum(differences - differences.mean() > abs(value - first)) + 1) / (len(samples) + 1)
            p_value = None if number == 0 else 1.0 if value == first else float(chance)
            signature = f"{name}|labels:{counts.shape[-1]}|bs:{RESAMPLES}|seed:{SEED}"
            estimates[name] = Estimate(value, float(samples.mean()), float(high - low) / 2, signature, p_value)
        found.append(estimates)
    return found


def _counts(hypotheses: Labels, references: Labels, others: Labels = ()) -> np.ndarray:
    """How often each label was right, given and wanted in each text, `(texts, 3, labels)`."""
    check_pairs(hypotheses, references)
    names = sorted({label for text in [*hypotheses, *references, *others] for label in text})
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(references), 3, len(names)))
    for text, (given, wanted) in enumerate(zip(hypotheses, references, strict=True)):
        if len(given) != len(wanted):
            raise DataError(f"text {text + 1}: must have {len(wanted)} labels, but has {len(given)} instead.")
        for one, right in zip(given, wanted, strict=True):
            counts[text, 0, place[right]] += one == right
            counts[text, 1, place[one]] += 1
            counts[text, 2, place[right]] += 1
    return counts


def _resampled(counts: np.ndarray) -> np.ndarray:
    """The sums of texts drawn again and again, `(systems, samples, 3, labels)`."""
    systems, texts = counts.shape[:2]
    draw, flat = np.random.default_rng(SEED), counts.reshape(systems, texts, -1)
    # A few at a time, for memory: a number for each text in each of them.
    parts = [
        draw.multinomial(texts, np.full(texts, 1 / texts), size=DRAWN_AT_ONCE) @ flat
        for _ in range(RESAMPLES // DRAWN_AT_ONCE)
    ]
    return np.concatenate(parts, axis=1).reshape(systems, RESAMPLES, *counts.shape[2:])


def _accuracy(sums: np.ndarray) -> Any:
    return 100 * sums[..., 0, :].sum(axis=-1) / sums[..., 2, :].sum(axis=-1)


def _macro_f1(sums: np.ndarray) -> Any:
    right, given, wanted = np.moveaxis(sums, -2, 0)
    there = given + wanted
    f1 = np.divide(2 * right, there, out=np.zeros_like(there), where=there > 0)
    return 100 * f1.sum(axis=-1) / (there > 0).sum(axis=-1)
