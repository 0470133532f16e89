"""Corpus scores by sacreBLEU, with signatures that let others reproduce them; exact match; how sure all of them are.

BLEU: Papineni et al. 2002. chrF: Popović 2015. TER: Snover et al. 2006. Signatures: Post 2018 (arXiv:1804.08771).
Bootstrap: Koehn 2004. Approximate randomisation: Riezler and Maxwell 2005.
"""

from __future__ import annotations

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

from seq2seq.errors import DataError, MissingDependencyError


def check_pairs(hypotheses: Sequence[Any], others: Sequence[Any], others_name: str = "references") -> None:
    """Refuse lists that cannot be compared line by line.

    Args:
        hypotheses: the generated texts.
        others: what they are compared with, one for each.
        others_name: what the messages call them.

    Raises:
        DataError: for one string in place of a list, for empty lists and for unequal counts.
    """
    for name, texts in (("hypotheses", hypotheses), (others_name, others)):
        if isinstance(texts, str):
            raise DataError(f"{name} must be a list of strings, but is one string instead. Put it in a list.")
    if len(hypotheses) != len(others):
        raise DataError(
            f"hypotheses must be as many as {others_name}, {len(others):,}, but are {len(hypotheses):,} "
            "instead. Check that no line was lost or added."
        )
    if not hypotheses:
        raise DataError("hypotheses must hold at least one text, but are empty instead. There is nothing to score.")


PairedTestKind = Literal["bootstrap", "randomization"]
RESAMPLES = 1000
TRIALS = 10_000


class Score(NamedTuple):
    """A score from 0 to 100 and how it was computed."""

    value: float
    signature: str


class Estimate(NamedTuple):
    """A score and how sure it is.

    Of the scores of test sets drawn again from the same sentences (the bootstrap) 95 % lie in an interval of twice
    the `margin`; `mean` is the mean of all. `p_value` tells how often chance alone would make a system differ as much
    from the first one as it does; None: there is nothing to compare with.
    """

    value: float
    mean: float
    margin: float
    signature: str
    p_value: float | None


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
    return _corpus_score(_bleu(lowercase, tokenize), hypotheses, references)


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
    return _corpus_score(CHRF(lowercase=lowercase, word_order=word_order), hypotheses, references)


def ter(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = True) -> Score:
    """Corpus TER: the edits, a moved phrase being one, that turn a text into its reference, for 100 words of it.

    >>> ter(["on the mat the cat sat"], ["the cat sat on the mat"]).value.__round__(1)
    16.7

    Args:
        hypotheses: the generated texts; words are what stands between white space.
        references: the right ones.
        lowercase: whether to ignore case, as is usual for TER.

    Returns:
        TER with sacreBLEU's signature: 0 is best, and it may exceed 100.

    Raises:
        DataError: for empty lists or unequal counts.
    """
    check_pairs(hypotheses, references)
    return _corpus_score(TER(case_sensitive=not lowercase), hypotheses, references)


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
    equal = _equal(hypotheses, references, lowercase)
    return Score(100.0 * sum(equal) / len(equal), f"exact|nrefs:1|case:{'lc' if lowercase else 'mixed'}")


def compare_systems(
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    *,
    lowercase: bool = False,
    tokenize: str = "13a",
    test: PairedTestKind = "bootstrap",
) -> list[dict[str, Estimate]]:
    """Score translations of the same sources by one system or more, and test whether the others differ from the first.

    >>> first, second = compare_systems([["a cat", "a dog"] * 9, ["a cat", "a cow"] * 9], ["a cat", "a dog"] * 9)
    >>> first["exact_match"].value, second["exact_match"].value, second["exact_match"].p_value < 0.05
    (100.0, 50.0, True)

    Args:
        systems: the translations of each system.
        references: the right ones.
        lowercase: whether BLEU, chrF and exact match ignore case; TER does in any case.
        tokenize: BLEU's tokenizer, as for `bleu`.
        test: sacreBLEU's paired test: `bootstrap` resamples the test set, `randomization` swaps the systems'
            translations of single sentences.

    Returns:
        For each system its `bleu`, `chrf`, `ter` and `exact_match`.

    Raises:
        DataError: for empty lists or unequal counts.
        ValueError: for an unknown tokenizer.
    """
    for hypotheses in systems:
        check_pairs(hypotheses, references)
    metrics = {"bleu": _bleu(lowercase, tokenize), "chrf": CHRF(lowercase=lowercase), "ter": TER()}
    equal = [[(100.0 * same, 1) for same in _equal(hypotheses, references, lowercase)] for hypotheses in systems]
    case = "lc" if lowercase else "mixed"
    of_texts = _tested(systems, metrics, [list(references)], test)
    of_equality = _tested(equal, {"exact_match": _Mean("exact", lambda mean: mean, case=case)}, None, test)
    return [texts | equality for texts, equality in zip(of_texts, of_equality, strict=True)]


def compare_perplexities(
    systems: Sequence[Sequence[tuple[float, int]]], *, test: PairedTestKind = "bootstrap"
) -> list[Estimate]:
    """Perplexity of the same references under one model or more, and whether the others differ from the first.

    >>> compare_perplexities([[(-2.0, 2), (-4.0, 4)]])[0].value.__round__(3)
    2.718

    Args:
        systems: for each model the log-probability of each reference, in nats, and its number of tokens, which must be
            the same for all: a perplexity is of tokens.
        test: as for `compare_systems`.

    Returns:
        The perplexity of each.

    Raises:
        DataError: for numbers of tokens that differ.
    """
    if any([count for _, count in pairs] != [count for _, count in systems[0]] for pairs in systems):
        raise DataError(
            "Perplexities must be of the same tokens to be compared, but the models cut the references into others. "
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
    """Scores that are all parts over all wholes, for one system or more, and whether the others differ from the first.

    >>> compare_means([{"right": [(1, 2), (1, 1)]}], {"right": "right"})[0]["right"].value.__round__(3)
    0.667

    Args:
        systems: for each system and score a part and its whole, one pair a text; a sample that has nothing of it
            scores 0.
        signatures: how each score is computed.
        test: as for `compare_systems`.

    Returns:
        The scores of each system.
    """
    found: list[dict[str, Estimate]] = [{} for _ in systems]
    for name, signature in signatures.items():
        pairs = [list(system[name]) for system in systems]
        for scores, tested in zip(found, _tested(pairs, {name: _Mean(name, float)}, None, test), strict=True):
            # sacreBLEU's signature begins with what every score here has, the number of references.
            sampling = tested[name].signature.removeprefix("nrefs:1")
            scores[name] = tested[name]._replace(signature=f"{signature}{sampling}")
    return found


class _Mean:
    """What sacreBLEU's tests ask of a metric, for a function of the mean of (sum, count) pairs, one a sentence."""

    def __init__(self, name: str, score_of: Callable[[float], float], **signature: str) -> None:
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
    # Only the second test needs a bootstrap beside it for the intervals.
    confidence = RESAMPLES if kind == "ar" else -1
    # Of an infinite perplexity there is no margin.
    with np.errstate(invalid="ignore"):
        signatures, found = PairedTest(
            named, metrics, references, test_type=kind, n_samples=samples, n_ar_confidence=confidence
        )()
    # sacreBLEU has names of its own for the metrics, in our order.
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
        raise ValueError(f"tokenize must be one of {known}, but is {tokenize!r} instead. Use 13a for most languages.")
    # sacreBLEU warns of text that looks tokenized; `none` says that it is.
    return BLEU(lowercase=lowercase, tokenize=tokenize, force=tokenize == "none")


def _corpus_score(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def _equal(hypotheses: Sequence[str], references: Sequence[str], lowercase: bool) -> list[bool]:
    """Whether each text equals its reference but for white space."""

    def words(text: str) -> list[str]:
        return (text.lower() if lowercase else text).split()

    pairs = zip(hypotheses, references, strict=True)
    return [words(hypothesis) == words(reference) for hypothesis, reference in pairs]


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


DEFAULT_EDGES = (5, 10, 15, 20, 25, 30, 40, 50)


class LengthBin(NamedTuple):
    """The score of the texts whose source has from `shortest` to `longest` words; None: no upper end."""

    shortest: int
    longest: int | None
    sentences: int
    score: Score


def score_by_length(
    metric: Callable[[Sequence[Any], Sequence[Any]], Score],
    hypotheses: Sequence[Any],
    references: Sequence[Any],
    sources: Sequence[str],
    edges: Sequence[int] = DEFAULT_EDGES,
) -> list[LengthBin]:
    """Score the texts in groups of similar source length, counted in words between white space.

    >>> from seq2seq.metrics.translation import exact_match
    >>> bins = score_by_length(exact_match, ["x", "y"], ["x", "z"], ["a b", "a b c d e f"], edges=(5,))
    >>> [(part.shortest, part.longest, part.score.value) for part in bins]
    [(0, 5, 100.0), (6, None, 0.0)]

    Args:
        metric: a score of two lists, such as `bleu`.
        hypotheses: the generated texts.
        references: the right ones.
        sources: what they were made from.
        edges: the largest length of each group but the last, in rising order.

    Returns:
        The groups that have sentences, shortest first.

    Raises:
        DataError: for empty lists or unequal counts.
        ValueError: for edges that do not rise.
    """
    check_pairs(hypotheses, references)
    check_pairs(hypotheses, sources, "sources")
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"edges must be rising lengths, but are {list(edges)} instead. Sort them and drop repeats.")
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


def tokenized_bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    language: str,
    references_are_tokenized: bool = False,
) -> Score:
    """BLEU after Moses' punctuation normalization, lower-casing and Moses' tokenizer.

    Args:
        hypotheses: the generated texts, plain.
        references: the right ones.
        language: the code of their language, such as `de`; it decides on abbreviations and apostrophes.
        references_are_tokenized: whether the references went through all that already, as in the tokenized
            files that come with some corpora. They are then used as they are.

    Returns:
        BLEU, with sacreBLEU's signature and the tokenizer's name, version and language.

    Raises:
        DataError: for empty lists or unequal counts.
        MissingDependencyError: where sacremoses is not installed.
    """
    check_pairs(hypotheses, references)
    sacremoses = _import_sacremoses()
    normalizer = sacremoses.MosesPunctNormalizer(lang=language)
    tokenizer = sacremoses.MosesTokenizer(lang=language)

    def tokenize(text: str) -> str:
        return tokenizer.tokenize(normalizer.normalize(text.lower()), return_str=True)

    tokenized_references = references if references_are_tokenized else [tokenize(text) for text in references]
    score = bleu([tokenize(text) for text in hypotheses], tokenized_references, lowercase=True, tokenize="none")
    return Score(score.value, f"{score.signature}|moses:{sacremoses.__version__}|lang:{language}")


def _import_sacremoses() -> ModuleType:
    try:
        import sacremoses
    except ImportError as error:
        raise MissingDependencyError(
            "BLEU on Moses tokens needs sacremoses, which is not installed. "
            "Install it with: pip install 'seq2seq[metrics]'"
        ) from error
    return sacremoses
