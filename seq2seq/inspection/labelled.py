"""Sentences with a labelled property, and the steps of a trace that its words are at."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seq2seq.errors import DataError
from seq2seq.text.lines import scan_lines

COLUMNS = "label, first word, last word, sentence, and for its translation again first word, last word, sentence"

# What SentencePiece writes for the space before a word.
WORD_START = "▁"


class MarkedText(NamedTuple):
    """A text with two of its words marked, by their numbers from 0; words are what stands between spaces.

    Attributes:
        first: The word that shows a property.
        last: The last word at which the property must still be known.
        text: The text.
    """

    first: int
    last: int
    text: str


class LabelledSentence(NamedTuple):
    """A sentence and a property of it.

    Attributes:
        label: The property, such as `plural`.
        source: The sentence.
        target: Its translation; None where nobody has said which.
    """

    label: str
    source: MarkedText
    target: MarkedText | None = None


def read_labelled_sentences(path: str | Path) -> list[LabelledSentence]:
    """Read labelled sentences, such as `data/en-fr/number.tsv`: columns between tabs, without a header.

    Args:
        path: A UTF-8 file with the columns label, first word, last word and sentence, and then, in every line or in
            none, first word, last word and text of its translation.

    Raises:
        DataError: naming the file and the line.
    """
    sentences: list[LabelledSentence] = []
    for line in scan_lines(path):
        if line.problem:
            raise DataError(f"{line.where}: {line.problem.message}")
        sentences.append(_parse(line.text, line.where))
        if (sentences[-1].target is None) != (sentences[0].target is None):
            raise DataError(f"{line.where}: every line must have a translation, or none. Add it, or leave it out.")
    if not sentences:
        raise DataError(f"{path}: must hold at least one labelled sentence, but is empty instead. Check the path.")
    return sentences


def last_pieces(tokens: Sequence[str]) -> list[int]:
    """The step of each word's last piece, the comma after it being part of it, in a row of pieces with its end token.

    >>> last_pieces(["▁the", "▁cat", "s", ",", "▁which", "</s>"])
    [0, 3, 4]
    """
    ends = []
    for step, token in enumerate(tokens[:-1]):
        # Unknown words that follow each other are one piece, with starts of words inside it.
        ends += [step if place else step - 1 for place, character in enumerate(token) if character == WORD_START]
    return [*ends[1:], len(tokens) - 2]


def steps_between(marked: MarkedText, tokens: Sequence[str]) -> tuple[int, int]:
    """The steps of the last pieces of the first and the last marked word: from here to there a property is known.

    Args:
        marked: The text.
        tokens: Its pieces, the end token last.

    Raises:
        DataError: where the tokenizer makes more or fewer words of it than there are between its spaces.

    >>> steps_between(MarkedText(1, 2, "the cats slept"), ["▁the", "▁cat", "s", "▁slept", "</s>"])
    (2, 3)
    """
    ends = last_pieces(tokens)
    words = len(marked.text.split())
    if len(ends) != words:
        raise DataError(
            f"The tokenizer must find the {words} words of {marked.text!r}, but finds {len(ends)} instead: "
            f"{' '.join(tokens)}. Leave the sentence out, or write it without characters that become spaces."
        )
    return ends[marked.first], ends[marked.last]


def _parse(text: str, where: str) -> LabelledSentence:
    columns = text.split("\t")
    if len(columns) not in (4, 7):
        raise DataError(
            f"{where}: expected 4 or 7 tab-separated columns ({COLUMNS}), got {len(columns)}. Check the line's tabs."
        )
    label = columns[0]
    if not label.strip():
        raise DataError(f"{where}: the label must be a word or more, but is {label!r} instead. Write one.")
    marked = [_marked(*columns[place : place + 3], where=where) for place in range(1, len(columns), 3)]
    return LabelledSentence(label, *marked)


def _marked(first: str, last: str, text: str, *, where: str) -> MarkedText:
    words = len(text.split())
    numbers = [int(number) if number.isascii() and number.isdigit() else -1 for number in (first, last)]
    if not 0 <= numbers[0] <= numbers[1] < words:
        raise DataError(
            f"{where}: the numbers of two words must be 0 <= first <= last < {words} in a text of {words} words, but "
            f"are {first!r} and {last!r} instead. Count from 0 what stands between spaces."
        )
    return MarkedText(numbers[0], numbers[1], text)
