"""Scores of summaries: ROUGE, correctly copied numbers and names, new words, length, and confidence intervals.

ROUGE: Lin 2004. Novel n-grams: See et al. 2017 (arXiv:1704.04368). Token F1 of compressions: Filippova et al. 2015.
"""

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
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
    tokens: Sequence[str]
    numbers: Counter[str]
    names: Counter[str]


def summary_scores(hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]) -> dict[str, Score]:
    """Compute, in percent, those of `SUMMARY_SCORES` (defined in this room's README) that the texts have anything of.

    >>> source, reference = "Rain fell in Ulm on 3 May. Bonn had 17.5 mm.", "Bonn had rain: 17.5 mm."
    >>> scores = summary_scores(["Ulm had rain: 17.5 mm."], [reference], [source])
    >>> {name: round(scores[name].value, 1) for name in ("rouge_1", "token_f1", "numbers_recall", "novel_2")}
    {'rouge_1': 83.3, 'token_f1': 85.7, 'numbers_recall': 100.0, 'novel_2': 66.7}
    """
    pairs = _pairs(hypotheses, references, sources)
    return {
        name: Score(100.0 * sum(part for part, _ in found) / sum(whole for _, whole in found), _signature(name))
        for name, found in pairs.items()
    }


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Compute ROUGE-L alone.

    >>> rouge_l(["the cat sat"], ["the cat sat down"]).value.__round__(1)
    85.7
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
    """Estimate the scores that summaries of all systems have, one dictionary per system.

    >>> [found] = compare_summaries([["a cat", "a dog"]], ["a cat", "a cow"], ["a cat sat", "a cow or a dog"])
    >>> found["rouge_1"].value, found["novel_1"].value
    (75.0, 0.0)
    """
    pairs = [_pairs(hypotheses, references, sources) for hypotheses in systems]
    names = [name for name in SUMMARY_SCORES if all(name in found for found in pairs)]
    signatures = {name: _signature(name) for name in names}
    scaled = [{name: [(100.0 * part, whole) for part, whole in found[name]] for name in names} for found in pairs]
    return compare_means(scaled, signatures, test=test)


def _pairs(
    hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str]
) -> dict[str, list[tuple[float, int]]]:
    """Compute a (part, whole) of each score for each text, without the scores whose wholes are all 0."""
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
    # Importing it takes two seconds, for a stemmer that is not used here.
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
