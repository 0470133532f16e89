"""Agreement of verb and subject across nouns of the other number (Linzen, Dupoux and Goldberg 2016, arXiv:1611.01368).

Each item is a sentence whose translation shows, by the form of one verb, whether the subject's number was remembered.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.errors import DataError
from seq2seq.metrics.translation import check_pairs

COLUMNS = "distractors, source, target, right form, wrong form"


class AgreementItem(NamedTuple):
    """A sentence, its translation, two forms of its verb, and the number of distracting nouns before the verb."""

    distractors: int
    source: str
    target: str
    right_form: str
    wrong_form: str


class AgreementScore(NamedTuple):
    """Numbers of translations with the right form, the wrong form, and neither of the two or both."""

    right: int
    wrong: int
    neither: int

    @property
    def accuracy(self) -> float:
        """Compute the percentage of all sentences that have the right form."""
        return 100.0 * self.right / sum(self)


def parse_agreement_items(lines: Iterable[str], path: str | Path) -> list[AgreementItem]:
    """Parse lines of five tab-separated columns; `path` is their file, which a DataError names."""
    items = [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    if not items:
        raise DataError(f"{path}: must hold at least one item, got none. Check the path.")
    return items


def agreement_accuracy(hypotheses: Sequence[str], items: Sequence[AgreementItem]) -> dict[int, AgreementScore]:
    """Count, by the number of distractors, the translations whose verb agrees with its subject.

    A translation is right if it has the right form at least as often as the reference and the wrong form no more often
    than the reference, whose other verbs may take it. Forms are whole words, and case is ignored.

    >>> source, target = "the cat near the dogs is full", "le chat près des chiens est plein"
    >>> items = [AgreementItem(1, source, target, "est", "sont")]
    >>> agreement_accuracy(["le chat près des chiens sont pleins"], items)
    {1: AgreementScore(right=0, wrong=1, neither=0)}
    """
    check_pairs(hypotheses, items, "items")
    counts: dict[int, Counter[str]] = {}
    for hypothesis, item in zip(hypotheses, items, strict=True):
        counts.setdefault(item.distractors, Counter())[_verdict(hypothesis, item)] += 1
    return {
        distractors: AgreementScore(count["right"], count["wrong"], count["neither"])
        for distractors, count in sorted(counts.items())
    }


def _parse(line: str, where: str) -> AgreementItem:
    columns = line.split("\t")
    if len(columns) != 5:
        raise DataError(
            f"{where}: must have 5 tab-separated columns ({COLUMNS}), got {len(columns)}. Check the line's tabs."
        )
    distractors, source, target, right_form, wrong_form = columns
    if not re.fullmatch("[0-9]+", distractors):
        raise DataError(f"{where}: distractors must be a whole number, got {distractors!r}.")
    if not _occurrences(right_form, target):
        raise DataError(f"{where}: target must contain the right form {right_form!r}, got {target!r}.")
    if _words(wrong_form) in ([], _words(right_form)):
        raise DataError(f"{where}: wrong form must be another word than {right_form!r}, got {wrong_form!r}.")
    return AgreementItem(int(distractors), source, target, right_form, wrong_form)


def _verdict(hypothesis: str, item: AgreementItem) -> str:
    missing = _occurrences(item.right_form, hypothesis) < _occurrences(item.right_form, item.target)
    surplus = _occurrences(item.wrong_form, hypothesis) > _occurrences(item.wrong_form, item.target)
    if missing == surplus:
        return "wrong" if missing else "right"
    return "neither"


def _occurrences(form: str, text: str) -> int:
    wanted, words = _words(form), _words(text)
    if not wanted:
        return 0
    return sum(words[start : start + len(wanted)] == wanted for start in range(len(words)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
