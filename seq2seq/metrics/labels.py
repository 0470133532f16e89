"""Scores of labels: accuracy, macro F1, the confusion of labels, and confidence intervals."""

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
"""The labels of each text: one, or one per word."""


def label_accuracy(hypotheses: Labels, references: Labels) -> Score:
    """Compute the percentage of labels that are right.

    >>> label_accuracy([["noun", "verb"], ["noun"]], [["noun", "noun"], ["noun"]]).value.__round__(1)
    66.7
    """
    return _score("accuracy", hypotheses, references)


def label_macro_f1(hypotheses: Labels, references: Labels) -> Score:
    """Compute the mean F1 = 2 right / (predicted + wanted), in percent, of all labels that are predicted or wanted.

    >>> label_macro_f1([["noun", "verb"], ["noun"]], [["noun", "noun"], ["noun"]]).value
    40.0
    """
    return _score("macro_f1", hypotheses, references)


def label_confusion(hypotheses: Labels, references: Labels) -> dict[str, dict[str, int]]:
    """Count, for each right label, the labels that were predicted in its place.

    >>> label_confusion([["noun", "verb"], ["noun"]], [["noun", "noun"], ["noun"]])
    {'noun': {'noun': 2, 'verb': 1}}
    """
    confusion: dict[str, Counter[str]] = {}
    for predicted, wanted in zip(hypotheses, references, strict=True):
        for label, right in zip(predicted, wanted, strict=True):
            confusion.setdefault(right, Counter())[label] += 1
    return {right: dict(sorted(counts.items())) for right, counts in sorted(confusion.items())}


def compare_labels(systems: Sequence[Labels], references: Labels) -> list[dict[str, Estimate]]:
    """Estimate accuracy and macro F1 of each system by the paired bootstrap (Koehn 2004), as sacreBLEU does.

    sacreBLEU's own bootstrap would need memory for samples x texts x labels.
    """
    others = list(itertools.chain.from_iterable(systems))
    counts = np.stack([_counts(hypotheses, references, others) for hypotheses in systems])
    drawn = _resampled(counts)
    return [
        {name: _estimate(name, counts[[number, 0]], drawn[[number, 0]], number > 0) for name in SCORES}
        for number in range(len(systems))
    ]


def _score(name: str, hypotheses: Labels, references: Labels) -> Score:
    counts = _counts(hypotheses, references)
    return Score(float(SCORES[name](counts.sum(axis=0))), f"{name}|labels:{counts.shape[-1]}")


def _estimate(name: str, counts: np.ndarray, drawn: np.ndarray, is_compared: bool) -> Estimate:
    """Estimate one score from the counts, and from resampled sums, of a system and of the first one."""
    value, first = SCORES[name](counts.sum(axis=1)).tolist()
    samples, of_first = SCORES[name](drawn)
    low, high = np.quantile(samples, [0.025, 0.975])
    differences = np.abs(samples - of_first)
    chance = (np.sum(differences - differences.mean() > abs(value - first)) + 1) / (len(samples) + 1)
    p_value = None if not is_compared else 1.0 if value == first else float(chance)
    signature = f"{name}|labels:{counts.shape[-1]}|bs:{RESAMPLES}|seed:{SEED}"
    return Estimate(value, float(samples.mean()), float(high - low) / 2, signature, p_value)


def _counts(hypotheses: Labels, references: Labels, others: Labels = ()) -> np.ndarray:
    """Count how often each label was right, predicted and wanted in each text: `(texts, 3, labels)`."""
    check_pairs(hypotheses, references)
    names = sorted({label for text in [*hypotheses, *references, *others] for label in text})
    column = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(references), 3, len(names)))
    for text, (predicted, wanted) in enumerate(zip(hypotheses, references, strict=True)):
        if len(predicted) != len(wanted):
            raise DataError(f"text {text + 1}: must have {len(wanted)} labels, got {len(predicted)}.")
        for label, right in zip(predicted, wanted, strict=True):
            counts[text, 0, column[right]] += label == right
            counts[text, 1, column[label]] += 1
            counts[text, 2, column[right]] += 1
    return counts


def _resampled(counts: np.ndarray) -> np.ndarray:
    """Sum the counts of texts that are drawn again, the same for all systems: `(systems, samples, 3, labels)`."""
    systems, texts = counts.shape[:2]
    draw, flat = np.random.default_rng(SEED), counts.reshape(systems, texts, -1)
    # All samples at once would need a number for each text in each of them.
    parts = [
        draw.multinomial(texts, np.full(texts, 1 / texts), size=DRAWN_AT_ONCE) @ flat
        for _ in range(RESAMPLES // DRAWN_AT_ONCE)
    ]
    return np.concatenate(parts, axis=1).reshape(systems, RESAMPLES, *counts.shape[2:])


def _accuracy(sums: np.ndarray) -> Any:
    return 100 * sums[..., 0, :].sum(axis=-1) / sums[..., 2, :].sum(axis=-1)


def _macro_f1(sums: np.ndarray) -> Any:
    right, predicted, wanted = np.moveaxis(sums, -2, 0)
    total = predicted + wanted
    f1 = np.divide(2 * right, total, out=np.zeros_like(total), where=total > 0)
    return 100 * f1.sum(axis=-1) / (total > 0).sum(axis=-1)


SCORES = {"accuracy": _accuracy, "macro_f1": _macro_f1}
