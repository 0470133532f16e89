"""Corpus scores of translations by sacreBLEU, their confidence intervals, and tests of the difference between systems.

BLEU: Papineni et al. 2002. chrF: Popović 2015. TER: Snover et al. 2006. Signatures: Post 2018 (arXiv:1804.08771).
Bootstrap: Koehn 2004. Approximate randomization: Riezler and Maxwell 2005.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Score as SacreScore
from sacrebleu.metrics.base import Signature
from sacrebleu.significance import PairedTest

from seq2seq.errors import ArgumentError, DataError, MissingDependencyError

PairedTestKind = Literal["bootstrap", "randomization"]
RESAMPLES = 1000
TRIALS = 10_000
LENGTH_EDGES = (5, 10, 15, 20, 25, 30, 40, 50)


class Score(NamedTuple):
    """A score, most from 0 to 100, and the signature that says how it was computed."""

    value: float
    signature: str


class Estimate(NamedTuple):
    """A score with its bootstrap mean, the half width of its 95 % interval, and its difference from the first system.

    `p_value` is the probability that chance alone makes a difference as large; None for the first system.
    """

    value: float
    mean: float
    margin: float
    signature: str
    p_value: float | None


class LengthBin(NamedTuple):
    """The score of the texts whose source has `shortest` to `longest` words; None: no upper limit."""

    shortest: int
    longest: int | None
    sentences: int
    score: Score


def check_pairs(hypotheses: Sequence[Any], others: Sequence[Any], others_name: str = "references") -> None:
    """Raise a DataError unless both are lists, not empty, and of one length."""
    for name, texts in (("hypotheses", hypotheses), (others_name, others)):
        if isinstance(texts, str):
            raise DataError(f"{name} must be a list of strings, got one string. Put it in a list.")
    if len(hypotheses) != len(others):
        raise DataError(
            f"hypotheses must be as many as {others_name}, {len(others):,}, got {len(hypotheses):,}. "
            "Check that no line was lost or added."
        )
    if not hypotheses:
        raise DataError("hypotheses must hold at least one text, got none. There is nothing to score.")


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False, tokenize: str = "13a"
) -> Score:
    """Compute corpus BLEU of plain text; `tokenize` names sacreBLEU's tokenizer, `none` for tokenized text.

    >>> bleu(["the cat is full now"], ["the cat is full today"]).value.__round__(1)
    66.9
    """
    return _corpus_score(_bleu(lowercase, tokenize), hypotheses, references)


def chrf(
    hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False, word_order: int = 0
) -> Score:
    """Compute corpus chrF, the F-score of character n-grams; `word_order=2` gives chrF++."""
    return _corpus_score(CHRF(lowercase=lowercase, word_order=word_order), hypotheses, references)


def ter(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = True) -> Score:
    """Compute corpus TER: the edits per 100 reference words; 0 is best.

    >>> ter(["on the mat the cat sat"], ["the cat sat on the mat"]).value.__round__(1)
    16.7
    """
    return _corpus_score(TER(case_sensitive=not lowercase), hypotheses, references)


def exact_match(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Score:
    """Compute the percentage of texts that equal their reference, runs of white space taken as one space.

    >>> exact_match(["a b", "a  c ", "d"], ["a b", "a c", "D"]).value.__round__(1)
    66.7
    """
    check_pairs(hypotheses, references)
    equal = _equal(hypotheses, references, lowercase)
    return Score(100.0 * sum(equal) / len(equal), f"exact|nrefs:1|case:{'lc' if lowercase else 'mixed'}")


def tokenized_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, language: str, references_are_tokenized: bool = False
) -> Score:
    """Compute BLEU after Moses' punctuation normalization, lowercasing and Moses' tokenizer of a language (`de`)."""
    check_pairs(hypotheses, references)
    sacremoses = _import_sacremoses()
    normalizer = sacremoses.MosesPunctNormalizer(lang=language)
    tokenizer = sacremoses.MosesTokenizer(lang=language)

    def tokenize(texts: Sequence[str]) -> list[str]:
        return [tokenizer.tokenize(normalizer.normalize(text.lower()), return_str=True) for text in texts]

    tokenized_references = references if references_are_tokenized else tokenize(references)
    score = bleu(tokenize(hypotheses), tokenized_references, lowercase=True, tokenize="none")
    return Score(score.value, f"{score.signature}|moses:{sacremoses.__version__}|lang:{language}")


def pairwise_chrf(texts: Sequence[str]) -> list[list[float]]:
    """Compute chrF of each text, a row, against each text as its reference, a column.

    >>> pairwise_chrf(["ab", "ab", "xy"])
    [[100.0, 100.0, 0.0], [100.0, 100.0, 0.0], [0.0, 0.0, 100.0]]
    """
    metric = CHRF()
    return [[metric.sentence_score(text, [reference]).score for reference in texts] for text in texts]


def score_by_length(
    metric: Callable[[Sequence[Any], Sequence[Any]], Score],
    hypotheses: Sequence[Any],
    references: Sequence[Any],
    sources: Sequence[str],
    edges: Sequence[int] = LENGTH_EDGES,
) -> list[LengthBin]:
    """Score the texts in groups by the number of words in their source; `edges` are the largest lengths of the groups.

    >>> bins = score_by_length(exact_match, ["x", "y"], ["x", "z"], ["a b", "a b c d e f"], edges=(5,))
    >>> [(part.shortest, part.longest, part.score.value) for part in bins]
    [(0, 5, 100.0), (6, None, 0.0)]
    """
    check_pairs(hypotheses, references)
    check_pairs(hypotheses, sources, "sources")
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ArgumentError("edges", "rising lengths", list(edges), "Sort them and drop repeats.")
    groups: dict[int, list[int]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(bisect_left(edges, len(source.split())), []).append(index)
    bins = []
    for group, indices in sorted(groups.items()):
        score = metric([hypotheses[index] for index in indices], [references[index] for index in indices])
        shortest = edges[group - 1] + 1 if group else 0
        longest = edges[group] if group < len(edges) else None
        bins.append(LengthBin(shortest, longest, len(indices), score))
    return bins


def compare_systems(
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    tokenize: str = "13a",
    test: PairedTestKind = "bootstrap",
) -> list[dict[str, Estimate]]:
    """Estimate BLEU, chrF, TER and exact match of translations of the same sources, one dictionary per system.

    >>> first, second = compare_systems([["a cat", "a dog"] * 9, ["a cat", "a cow"] * 9], ["a cat", "a dog"] * 9)
    >>> first["exact_match"].value, second["exact_match"].value, second["exact_match"].p_value < 0.05
    (100.0, 50.0, True)
    """
    for hypotheses in systems:
        check_pairs(hypotheses, references)
    metrics = {"bleu": _bleu(lowercase, tokenize), "chrf": CHRF(lowercase=lowercase), "ter": TER()}
    equal = [[(100.0 * same, 1) for same in _equal(hypotheses, references, lowercase)] for hypotheses in systems]
    case = "lc" if lowercase else "mixed"
    of_texts = _tested(systems, metrics, [list(references)], test)
    of_equality = _tested(equal, {"exact_match": _Mean("exact", case=case)}, None, test)
    return [texts | equality for texts, equality in zip(of_texts, of_equality, strict=True)]


def compare_perplexities(
    systems: Sequence[Sequence[tuple[float, int]]], *, test: PairedTestKind = "bootstrap"
) -> list[Estimate]:
    """Estimate perplexities from the (log-probability in nats, number of tokens) of each reference, per system.

    >>> compare_perplexities([[(-2.0, 2), (-4.0, 4)]])[0].value.__round__(3)
    2.718
    """
    if any([count for _, count in pairs] != [count for _, count in systems[0]] for pairs in systems):
        raise DataError(
            "Perplexities must be of the same tokens to be compared, got different numbers of tokens. "
            "Compare models with one tokenizer."
        )
    metric = _Mean("perplexity", lambda mean: math.exp(-mean) if mean > -700 else math.inf)
    return [estimates["perplexity"] for estimates in _tested(systems, {"perplexity": metric}, None, test)]


def compare_means(
    systems: Sequence[Mapping[str, Sequence[tuple[float, int]]]],
    signatures: Mapping[str, str],
    *,
    test: PairedTestKind = "bootstrap",
) -> list[dict[str, Estimate]]:
    """Estimate scores that are a sum of parts over a sum of wholes, one (part, whole) per text, system and score.

    >>> compare_means([{"right": [(1, 2), (1, 1)]}], {"right": "right"})[0]["right"].value.__round__(3)
    0.667
    """
    found: list[dict[str, Estimate]] = [{} for _ in systems]
    for name, signature in signatures.items():
        pairs = [list(system[name]) for system in systems]
        for scores, tested in zip(found, _tested(pairs, {name: _Mean(name)}, None, test), strict=True):
            # sacreBLEU's signature begins with the number of references, which the own signature has already.
            sampling = tested[name].signature.removeprefix("nrefs:1")
            scores[name] = tested[name]._replace(signature=f"{signature}{sampling}")
    return found


class _Mean:
    """Give sacreBLEU's tests the interface of a metric for a function of the mean of (sum, count) pairs."""

    def __init__(self, name: str, score_of: Callable[[float], float] = float, **signature: str) -> None:
        self._name, self._score_of, self._signature = name, score_of, signature

    def _extract_corpus_statistics(self, pairs: Sequence[tuple[float, int]], references: None) -> Any:
        return list(pairs)

    def _aggregate_and_compute(self, statistics: Any) -> SacreScore:
        return self._compute_score_from_stats(np.sum(statistics, axis=0))

    def _compute_score_from_stats(self, statistics: Any) -> SacreScore:
        total, count = statistics
        return SacreScore(self._name, self._score_of(float(total / count) if count else 0.0))

    def get_signature(self) -> Signature:
        signature = Signature({"num_refs": 1})
        for key, value in self._signature.items():
            signature.update(key, value)
        return signature


def _tested(
    systems: Sequence[Any], metrics: Mapping[str, Any], references: Any, test: PairedTestKind
) -> list[dict[str, Estimate]]:
    named = [(str(number), list(system)) for number, system in enumerate(systems)]
    kind, samples = ("ar", TRIALS) if test == "randomization" else ("bs", RESAMPLES)
    # The randomization test gives no intervals by itself.
    confidence = RESAMPLES if kind == "ar" else -1
    # An infinite perplexity has no margin.
    with np.errstate(invalid="ignore"):
        signatures, found = PairedTest(
            named, metrics, references, test_type=kind, n_samples=samples, n_ar_confidence=confidence
        )()
    # sacreBLEU renames the metrics, but keeps their order.
    columns = [(metric, str(signatures[name]), found[name]) for metric, name in zip(metrics, signatures, strict=True)]
    return [
        {metric: _estimate(results[number], results[0], signature) for metric, signature, results in columns}
        for number in range(len(systems))
    ]


def _estimate(result: Any, first: Any, signature: str) -> Estimate:
    # sacreBLEU finds the difference of a system from itself, which no resampling changes, significant.
    p_value = 1.0 if result is not first and result.score == first.score else result.p_value
    return Estimate(float(result.score), float(result.mean), float(result.ci), signature, p_value)


def _bleu(lowercase: bool, tokenize: str) -> BLEU:
    if tokenize not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise ArgumentError("tokenize", f"one of {known}", tokenize, "Use 13a for most languages.")
    # Unless forced, sacreBLEU warns of text that looks tokenized.
    return BLEU(lowercase=lowercase, tokenize=tokenize, force=tokenize == "none")


def _corpus_score(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    check_pairs(hypotheses, references)
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def _equal(hypotheses: Sequence[str], references: Sequence[str], lowercase: bool) -> list[bool]:
    def words(text: str) -> list[str]:
        return (text.lower() if lowercase else text).split()

    pairs = zip(hypotheses, references, strict=True)
    return [words(hypothesis) == words(reference) for hypothesis, reference in pairs]


def _import_sacremoses() -> ModuleType:
    try:
        import sacremoses
    except ImportError as error:
        raise MissingDependencyError(
            "BLEU on Moses tokens needs sacremoses, which is not installed. "
            "Install it with: pip install 'seq2seq[metrics]'"
        ) from error
    return sacremoses
