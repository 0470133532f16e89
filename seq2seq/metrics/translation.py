"""Corpus scores by sacreBLEU, each with the signature that lets others reproduce it, and exact match.

BLEU: Papineni et al. 2002. chrF: Popović 2015. Signatures: Post 2018 (arXiv:1804.08771).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF

from seq2seq.metrics.checks import check_pairs


class Score(NamedTuple):
    """A score from 0 to 100 and how it was computed."""

    value: float
    signature: str


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False, tokenize: str = "13a"
) -> Score:
    """Corpus BLEU of plain text against one reference a text.

    >>> bleu(["the cat is full now"], ["the cat is full today"]).value.__round__(1)
    66.9

    Args:
        hypotheses: the generated texts, not tokenized.
        references: the right ones.
        lowercase: whether to ignore case.
        tokenize: sacreBLEU's tokenizer: `13a` for most languages, `intl`, `zh`, `char`, ...; `none` for text
            that is tokenized already.

    Returns:
        BLEU with sacreBLEU's signature.

    Raises:
        DataError: for empty lists or unequal counts.
        ValueError: for an unknown tokenizer.
    """
    check_pairs(hypotheses, references)
    if tokenize not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise ValueError(f"tokenize must be one of {known}, but is {tokenize!r} instead. Use 13a for most languages.")
    # sacreBLEU warns of text that looks tokenized; `none` says that it is.
    metric = BLEU(lowercase=lowercase, tokenize=tokenize, force=tokenize == "none")
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def chrf(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False, word_order: int = 0
) -> Score:
    """Corpus chrF, the F-score of character n-grams: it sees a right stem where BLEU sees a wrong word.

    >>> chrf(["the cats"], ["the cats"]).value
    100.0

    Args:
        hypotheses: the generated texts, not tokenized.
        references: the right ones.
        lowercase: whether to ignore case.
        word_order: the longest n-gram of words that counts too; 2 gives chrF++.

    Returns:
        chrF with sacreBLEU's signature.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    check_pairs(hypotheses, references)
    metric = CHRF(lowercase=lowercase, word_order=word_order)
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def exact_match(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Score:
    """The share of texts that equal their reference, in percent; a run of white space counts as one space.

    >>> exact_match(["a b", "a  c ", "d"], ["a b", "a c", "D"]).value.__round__(1)
    66.7

    Args:
        hypotheses: the generated texts.
        references: the right ones.
        lowercase: whether to ignore case.

    Returns:
        The share, with a signature in sacreBLEU's manner.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    check_pairs(hypotheses, references)
    equal = sum(
        _words(hypothesis, lowercase) == _words(reference, lowercase)
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    )
    return Score(100.0 * equal / len(hypotheses), f"exact|nrefs:1|case:{'lc' if lowercase else 'mixed'}")


def _words(text: str, lowercase: bool) -> list[str]:
    return (text.lower() if lowercase else text).split()


def pairwise_chrf(texts: Sequence[str]) -> list[list[float]]:
    """chrF of each text with each as its reference: how well translations of one source agree.

    >>> pairwise_chrf(["ab", "ab", "xy"])
    [[100.0, 100.0, 0.0], [100.0, 100.0, 0.0], [0.0, 0.0, 100.0]]

    Args:
        texts: the texts.

    Returns:
        A row a text, from 0 to 100, with a column for each reference.
    """
    metric = CHRF()
    return [[metric.sentence_score(text, [reference]).score for reference in texts] for text in texts]
