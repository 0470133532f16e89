"""Does the verb agree with its subject when nouns of the other number stand between them?

The test of Linzen, Dupoux and Goldberg 2016 (arXiv:1611.01368), asked of a translation: each sentence has a
verb whose form shows whether the subject's number was carried past the distracting nouns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.errors import DataError
from seq2seq.metrics.translation import check_pairs

COLUMNS = "distractors, source, target, right form, wrong form"


class AgreementItem(NamedTuple):
    """One sentence of an agreement test.

    Attributes:
        distractors: how many nouns of the other number stand between the subject and its verb.
        source: the sentence to translate.
        target: its translation.
        right_form: the form of the verb, in the translation, that agrees with the subject.
        wrong_form: the form of the same verb in the other number.
    """

    distractors: int
    source: str
    target: str
    right_form: str
    wrong_form: str


class AgreementScore(NamedTuple):
    """Counts of translations with the right form, the wrong form, and neither of the two or both."""

    right: int
    wrong: int
    neither: int

    @property
    def accuracy(self) -> float:
        """The share of all sentences that have the right form, in percent."""
        return 100.0 * self.right / sum(self)


def read_agreement_items(path: str | Path) -> list[AgreementItem]:
    """Read the items of an agreement test: five columns between tabs, without a header.

    Args:
        path: a UTF-8 file with the columns distractors, source, target, right form and wrong form.

    Raises:
        DataError: naming the file and the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: must be UTF-8 text, but has other bytes at {error.start:,} instead. Convert it."
        ) from error
    if lines == [""]:
        raise DataError(f"{path}: must hold at least one item, but is empty instead. Check the path.")
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def agreement_accuracy(hypotheses: Sequence[str], items: Sequence[AgreementItem]) -> dict[int, AgreementScore]:
    """Count, for each number of distractors, the translations whose verb agrees with its subject.

    A translation is right if it has the right form as often as the reference has, or more, and the wrong form
    no more often than the reference has, whose other verbs may take it. Case is ignored; a form is one or
    more whole words, so that `est` is found in `n'est` and not in `reste`.

    >>> source, target = "the cat near the dogs is full", "le chat près des chiens est plein"
    >>> items = [AgreementItem(1, source, target, "est", "sont")]
    >>> agreement_accuracy(["le chat près des chiens sont pleins"], items)
    {1: AgreementScore(right=0, wrong=1, neither=0)}

    Args:
        hypotheses: the translations of the items' sources.
        items: the test.

    Returns:
        Scores by the number of distractors, in rising order.

    Raises:
        DataError: for empty lists or unequal counts.
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
            f"{where}: expected 5 tab-separated columns ({COLUMNS}), got {len(columns)}. Check the line's tabs."
        )
    distractors, source, target, right_form, wrong_form = columns
    if not re.fullmatch("[0-9]+", distractors):
        raise DataError(f"{where}: distractors must be a whole number, but is {distractors!r} instead. Correct it.")
    if not _occurrences(right_form, target):
        raise DataError(f"{where}: the target must hold the right form {right_form!r}, but does not. Correct either.")
    if _words(wrong_form) in ([], _words(right_form)):
        raise DataError(
            f"{where}: the wrong form must be another word than the right form {right_form!r}, but is "
            f"{wrong_form!r} instead. Correct it."
        )
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
