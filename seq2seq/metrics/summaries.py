"""Scores of summaries: ROUGE, what was copied right, what is new, how long; and how sure all of them are.

ROUGE: Lin 2004. Novel n-grams: See et al. 2017 (arXiv:1704.04368). Token F1 of compressions: Filippova et al. 2015.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

from seq2seq.metrics.translation import Estimate, PairedTestKind, Score, check_pairs, compare_means

ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
SUMMARY_SCORES = (
    *ROUGE,
    "token_f1",
    "exact_match",
    "numbers_precision",
    "numbers_recall",
    "names_precision",
    "names_recall",
    "novel_1",
    "novel_2",
    "length_ratio",
)
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w+|[^\w\s]")
_NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:[.,]\d+)*")
_SENTENCE_ENDS = {".", "!", "?"}


class _Text(NamedTuple):
    """What the scores look for in a text."""

    tokens: Sequence[str]
    numbers: Counter[str]
    names: Counter[str]


def summary_scores(hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]) -> dict[str, Score]:
    """All scores of summaries, in percent.

    >>> source, reference = "Rain fell in Ulm on 3 May. Bonn had 17.5 mm.", "Bonn had rain: 17.5 mm."
    >>> scores = summary_scores(["Ulm had rain: 17.5 mm."], [reference], [source])
    >>> {name: round(scores[name].value, 1) for name in ("rouge_1", "token_f1", "numbers_recall", "novel_2")}
    {'rouge_1': 83.3, 'token_f1': 85.7, 'numbers_recall': 100.0, 'novel_2': 66.7}

    Args:
        hypotheses: the generated summaries.
        references: the right ones.
        sources: what they sum up.

    Returns:
        A score for each name that the texts have something of:

        - `rouge_1`, `rouge_2`, `rouge_l`: the mean F1 of unigrams, bigrams and the longest common subsequence, by
          rouge-score without stemming. It ignores case, and knows no letters but a to z and digits.
        - `token_f1`: the mean F1 of the tokens, punctuation and case counted, in any order.
        - `exact_match`: as for translations.
        - `numbers_precision`: the share of the numbers written that are in the source or, rounded or counted, in the
          reference: the others are made up; `numbers_recall`: of the reference's numbers, the share that was written.
        - `names_precision`, `names_recall`: the same of names, which are words with a capital that do not begin a
          sentence.
        - `novel_1`, `novel_2`: the share of words, and of pairs of them, that are not in the source, case ignored.
        - `length_ratio`: tokens for a hundred tokens of the references.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    pairs = _pairs(hypotheses, references, sources)
    return {
        name: Score(100.0 * sum(one for one, _ in found) / sum(count for _, count in found), _signature(name))
        for name, found in pairs.items()
    }


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """ROUGE-L alone, as in `summary_scores`.

    >>> rouge_l(["the cat sat"], ["the cat sat down"]).value.__round__(1)
    85.7

    Args:
        hypotheses: the generated summaries.
        references: the right ones.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    check_pairs(hypotheses, references)
    found = _rouge(hypotheses, references, ("rouge_l",))["rouge_l"]
    return Score(100.0 * sum(found) / len(found), _signature("rouge_l"))


def compare_summaries(
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    sources: Sequence[str],
    *,
    test: PairedTestKind = "bootstrap",
) -> list[dict[str, Estimate]]:
    """Score summaries of the same sources by one system or more, and test whether the others differ from the first.

    >>> [found] = compare_summaries([["a cat", "a dog"]], ["a cat", "a cow"], ["a cat sat", "a cow or a dog"])
    >>> found["rouge_1"].value, found["novel_1"].value
    (75.0, 0.0)

    Args:
        systems: the summaries of each system.
        references: the right ones.
        sources: what they sum up.
        test: as for `compare_systems`.

    Returns:
        For each system the scores of `summary_scores` that all of them have.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    pairs = [_pairs(hypotheses, references, sources) for hypotheses in systems]
    names = [name for name in SUMMARY_SCORES if all(name in found for found in pairs)]
    signatures = {name: _signature(name) for name in names}
    scaled = [{name: [(100.0 * one, count) for one, count in found[name]] for name in names} for found in pairs]
    return compare_means(scaled, signatures, test=test)


def lead(sources: Sequence[str], words: int) -> list[str]:
    """The first words of each text: the baseline that a summariser of news has to beat.

    >>> lead(["the cat sat on the mat"], 3)
    ['the cat sat']

    Args:
        sources: the texts.
        words: how many, between white space.
    """
    return [" ".join(source.split()[:words]) for source in sources]


def tuned_lead(
    sources: Sequence[str],
    references: Sequence[str],
    metric: Callable[[Sequence[str], Sequence[str]], float],
    longest: int = 60,
) -> int:
    """The number of first words that scores best.

    >>> tuned_lead(["a b c d"], ["a b"], lambda hypotheses, references: rouge_l(hypotheses, references).value)
    2

    Args:
        sources: texts of a dev set.
        references: their summaries.
        metric: a score of two lists, better when higher.
        longest: the most words to try.
    """
    return max(range(1, longest + 1), key=lambda words: metric(lead(sources, words), references))


def _pairs(
    hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]
) -> dict[str, list[tuple[float, int]]]:
    """For each score a part and its whole, one a text; scores of which there is nothing are left out."""
    check_pairs(hypotheses, references)
    check_pairs(hypotheses, sources, "sources")
    texts = [tuple(map(_read, three)) for three in zip(hypotheses, references, sources, strict=True)]
    found: dict[str, list[tuple[float, int]]] = {
        name: [(value, 1) for value in values] for name, values in _rouge(hypotheses, references, tuple(ROUGE)).items()
    }
    found |= {
        "token_f1": [(_f1(Counter(ours.tokens), Counter(right.tokens)), 1) for ours, right, _ in texts],
        "exact_match": [
            (hypothesis.split() == reference.split(), 1)
            for hypothesis, reference in zip(hypotheses, references, strict=True)
        ],
        "numbers_precision": [_share(ours.numbers, {*source.numbers, *right.numbers}) for ours, right, source in texts],
        "numbers_recall": [_overlap(right.numbers, ours.numbers) for ours, right, _ in texts],
        "names_precision": [_share(ours.names, {*source.tokens, *right.tokens}) for ours, right, source in texts],
        "names_recall": [_overlap(right.names, Counter(ours.tokens)) for ours, right, _ in texts],
        "novel_1": [_novel(ours, source, 1) for ours, _, source in texts],
        "novel_2": [_novel(ours, source, 2) for ours, _, source in texts],
        "length_ratio": [(len(ours.tokens), len(right.tokens)) for ours, right, _ in texts],
    }
    return {name: pairs for name, pairs in found.items() if any(count for _, count in pairs)}


def _rouge(hypotheses: Sequence[str], references: Sequence[str], names: tuple[str, ...]) -> dict[str, list[float]]:
    scorer = _rouge_scorer(names)
    found = [scorer.score(reference, text) for text, reference in zip(hypotheses, references, strict=True)]
    return {name: [scores[ROUGE[name]].fmeasure for scores in found] for name in names}


@functools.cache
def _rouge_scorer(names: tuple[str, ...]) -> Any:
    # It takes two seconds to import, for a stemmer that is not wanted here.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([ROUGE[name] for name in names])


def _signature(name: str) -> str:
    if name in ROUGE:
        return f"{ROUGE[name]}|f1|nrefs:1|case:lc|stem:no|rouge-score:{version('rouge-score')}"
    case = "lc" if name.startswith("novel") else "mixed"
    return f"{'exact' if name == 'exact_match' else name}|nrefs:1|case:{case}"


def _read(text: str) -> _Text:
    tokens = _TOKEN.findall(text)
    names = [
        token
        for before, token in zip([".", *tokens], tokens, strict=False)
        if token[0].isupper() and before not in _SENTENCE_ENDS
    ]
    return _Text(tokens, Counter(_NUMBER.findall(text)), Counter(names))


def _f1(ours: Counter[str], right: Counter[str]) -> float:
    total = ours.total() + right.total()
    return 2 * (ours & right).total() / total if total else 1.0


def _share(wanted: Counter[str], there: set[str]) -> tuple[float, int]:
    return sum(count for item, count in wanted.items() if item in there), wanted.total()


def _overlap(wanted: Counter[str], there: Counter[str]) -> tuple[float, int]:
    return (wanted & there).total(), wanted.total()


def _novel(ours: _Text, source: _Text, order: int) -> tuple[float, int]:
    known = set(_ngrams(source.tokens, order))
    written = list(_ngrams(ours.tokens, order))
    return sum(ngram not in known for ngram in written), len(written)


def _ngrams(tokens: Sequence[str], order: int) -> Iterable[tuple[str, ...]]:
    lowered = [token.lower() for token in tokens]
    return zip(*(lowered[start:] for start in range(order)), strict=False)
