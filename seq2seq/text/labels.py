"""Labels in the place of a target text: one for a source, or one for each of its words."""

import itertools
import json
from collections.abc import Container, Iterable, Sequence
from typing import Any

from seq2seq.errors import DataError
from seq2seq.text.ids import END_ID, FIRST_LABEL_ID, PAD_ID, UNKNOWN_ID
from seq2seq.text.lines import Problem
from seq2seq.text.sampling import Sampling
from seq2seq.text.tokenizer import Tokenizer


def split_labels(target: str, by_word: bool) -> list[str]:
    """The labels of a target: what stands between its spaces, or the whole of it."""
    return target.split() if by_word else [target.strip()]


def label_problem(source: str, target: str, by_word: bool, known: Container[str] | None) -> Problem | None:
    """Why a target cannot be the labels of a source, or None.

    Args:
        source: the source.
        target: its labels.
        by_word: whether each word has a label, or the source as a whole.
        known: the labels that there are; None: any may be one.

    >>> label_problem("the cat", "noun", True, None).message
    'the target must have a label for each of 2 words of its source, but has 1 instead. Check the words and labels.'
    """
    labels, words = split_labels(target, by_word), len(source.split())
    if by_word and len(labels) != words:
        message = f"the target must have a label for each of {words} words of its source, but has {len(labels)} instead"
        return Problem("as many labels as words", f"{message}. Check the words and labels.")
    strange = [] if known is None else [label for label in labels if label not in known]
    if strange:
        message = f"the label must be one of the training pairs, but is {strange[0]!r} instead. Correct it, or train it"
        return Problem("unknown label", f"{message} with pairs that have it.")
    return None


class LabelTokenizer(Tokenizer):
    """A tokenizer whose target side is a list of labels: its ids begin with `FIRST_LABEL_ID`, and `PAD_ID` is none.

    Where each word has a label, words are cut apart from each other, so that each has a first piece: that is where its
    label lies in the ids of the target, which are then as many as those of the source.

    Args:
        source_model: bytes of the SentencePiece model of the sources.
        labels: in the order of their ids.
        by_word: whether each word has a label, or the source as a whole.

    Examples:
        >>> from seq2seq.text.tokenizer_training import train_tokenizer
        >>> model = train_tokenizer(["a cat"], [], kind="char", vocabulary_size=50).models["joint.model"]
        >>> tokenizer = LabelTokenizer(model, ["article", "noun"], by_word=True)
        >>> source_ids, target_ids = tokenizer.encode_pairs(["a cat"], ["article noun"])
        >>> tokenizer.source_pieces("a cat"), target_ids
        (['▁', 'a', '▁', 'c', 'a', 't', '</s>'], [[4, 0, 5, 0, 0, 0, 0]])
    """

    def __init__(self, source_model: bytes, labels: Sequence[str], by_word: bool) -> None:
        super().__init__(source_model)
        self.labels = tuple(labels)
        self.by_word = by_word
        self._ids = {label: number for number, label in enumerate(self.labels, start=FIRST_LABEL_ID)}

    @property
    def models(self) -> dict[str, bytes]:
        """The bytes of the SentencePiece model, and the labels as JSON, by file name."""
        described = json.dumps({"labels": self.labels, "by_word": self.by_word}, ensure_ascii=False)
        return {"source.model": self._source_model, "labels.model": described.encode()}

    @property
    def is_joint(self) -> bool:
        return False

    @property
    def target_vocabulary_size(self) -> int:
        """Number of target ids: the labels, and the special ones before them."""
        return len(self.labels) + FIRST_LABEL_ID

    def cut(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of each source, and at which of them its labels lie: the first piece of each word, or the first of all.

        Args:
            texts: the sources.
        """
        if not self.by_word:
            return super().encode_source(texts), [[0]] * len(texts)
        words = [text.split() for text in texts]
        cut = super().encode_source(list(itertools.chain.from_iterable(words)))
        # Of a word of invisible characters normalisation leaves nothing; it has its label all the same.
        pieces = iter([ids[:-1] or [UNKNOWN_ID] for ids in cut])
        rows = [[next(pieces) for _ in of_text] for of_text in words]
        ends = [list(itertools.accumulate(map(len, row), initial=0)) for row in rows]
        return [[*itertools.chain.from_iterable(row), END_ID] for row in rows], [places[:-1] for places in ends]

    def encode_source(
        self, texts: Sequence[str], sampling: Sampling | None = None, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        if sampling is None:
            return self.cut(texts)[0]
        if self.by_word:
            raise ValueError("sampling must be None where each word has a label, but is given. Leave it out.")
        return super().encode_source(texts, sampling, seeds)

    def encode_target(
        self, texts: Sequence[str], sampling: Sampling | None = None, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Ids of the labels of every target, one after the other; there is nothing to draw.

        Raises:
            DataError: A label is unknown.
        """
        for text in texts:
            if problem := label_problem(text if self.by_word else "", text, self.by_word, self._ids):
                raise DataError(problem.message)
        return [[self._ids[label] for label in split_labels(text, self.by_word)] for text in texts]

    def encode_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of both sides; where each word has a label, the target's are laid on the first pieces of the source's.

        Raises:
            DataError: A label is unknown, or there is not one for each word.
        """
        for source, target in zip(sources, targets, strict=True):
            if problem := label_problem(source, target, self.by_word, self._ids):
                raise DataError(problem.message)
        (source_ids, places), label_ids = self.cut(sources), self.encode_target(targets)
        if not self.by_word:
            return source_ids, label_ids
        target_ids = [[PAD_ID] * len(ids) for ids in source_ids]
        for row, of_row, ids in zip(target_ids, places, label_ids, strict=True):
            for place, label in zip(of_row, ids, strict=True):
                row[place] = label
        return source_ids, target_ids

    def source_pieces(self, text: str) -> list[str]:
        if not self.by_word:
            return super().source_pieces(text)
        words = [super(LabelTokenizer, self).source_pieces(word)[:-1] or [word] for word in text.split()]
        return [*itertools.chain.from_iterable(words), *super().source_pieces("")]

    def target_pieces(self, token_ids: Iterable[int]) -> list[str]:
        """The labels of a row of ids; those that stand for none are dropped."""
        return [self.labels[number - FIRST_LABEL_ID] for number in token_ids if number != PAD_ID]

    def decode_target(self, token_ids: Iterable[Iterable[int]]) -> list[str]:
        """The labels of rows of ids, apart by spaces."""
        return [" ".join(self.target_pieces(row)) for row in token_ids]

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelTokenizer, (self._source_model, self.labels, self.by_word)

    def __repr__(self) -> str:
        return f"LabelTokenizer(source {self.source_vocabulary_size} pieces, {len(self.labels)} labels)"
