"""Scores of a model on pairs of texts: the loss a token, and the outputs of real decoding against references."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from seq2seq.config.sections import LABEL_TASKS
from seq2seq.metrics.agreement import AgreementItem, agreement_accuracy
from seq2seq.metrics.labels import compare_labels, label_accuracy, label_confusion, label_macro_f1
from seq2seq.metrics.summaries import compare_summaries, rouge_l, summary_scores
from seq2seq.metrics.translation import (
    Estimate,
    LengthBin,
    PairedTestKind,
    Score,
    bleu,
    chrf,
    compare_perplexities,
    compare_systems,
    exact_match,
    score_by_length,
)
from seq2seq.models.base import TextModel
from seq2seq.models.results import perplexity
from seq2seq.text.tokenizer import split_labels

Lines = Sequence[str]

SUMMARY_EDGES = (25, 50, 100, 200, 400, 800, 1600)
"""Sources of summaries have more words than those of translations."""


class TaskMetrics(NamedTuple):
    """The scores of a task.

    Args:
        does: completes "a model that ...".
        by_length_score: name of the score of groups of sources of like length.
        options: options of an evaluation that have a meaning for the task.
        scores: scores one system, given its hypotheses, the references and the sources.
        compare: scores several systems with confidence intervals, and compares each with the first.
        bins: scores groups of sources of like length.
        details: gives results that are not a number.
    """

    does: str
    by_length_score: str
    options: frozenset[str]
    scores: Callable[[Lines, Lines, Lines], dict[str, Score]]
    compare: Callable[..., list[dict[str, Estimate]]]
    bins: Callable[..., list[LengthBin]]
    details: Callable[[Lines, Lines], dict[str, Any]] = lambda *_: {}


def metrics_for(task: str) -> TaskMetrics:
    """Return the scores of a task, which `Config.task` names."""
    if task in LABEL_TASKS:
        return _label_metrics(by_word=task == "tag")
    if task == "summarize":
        return TaskMetrics(
            "summarizes",
            "rouge_l",
            frozenset({"significance", "search"}),
            summary_scores,
            lambda systems, references, sources, test, **_: compare_summaries(systems, references, sources, test=test),
            lambda hypotheses, references, sources, **_: score_by_length(
                rouge_l, hypotheses, references, sources, SUMMARY_EDGES
            ),
        )
    return TaskMetrics(
        "translates",
        "bleu",
        frozenset({"significance", "tokenize", "lowercase", "lowercase_tokenized", "agreement", "search"}),
        lambda hypotheses, references, _: {
            metric.__name__: metric(hypotheses, references) for metric in (bleu, chrf, exact_match)
        },
        lambda systems, references, _, test, **options: compare_systems(systems, references, test=test, **options),
        lambda hypotheses, references, sources, **options: score_by_length(
            functools.partial(bleu, **options), hypotheses, references, sources
        ),
    )


def _label_metrics(by_word: bool) -> TaskMetrics:
    def labels(targets: Lines) -> list[list[str]]:
        return [split_labels(target, by_word) for target in targets]

    def scores(hypotheses: Lines, references: Lines, _: Lines) -> dict[str, Score]:
        given, right = labels(hypotheses), labels(references)
        return {"accuracy": label_accuracy(given, right), "macro_f1": label_macro_f1(given, right)}

    return TaskMetrics(
        "gives labels",
        "accuracy",
        frozenset({"agreement"}),
        scores,
        lambda systems, references, *_, **__: compare_labels([labels(one) for one in systems], labels(references)),
        lambda hypotheses, references, sources, **_: score_by_length(
            label_accuracy, labels(hypotheses), labels(references), sources
        ),
        lambda hypotheses, references: {"confusion": label_confusion(labels(hypotheses), labels(references))},
    )


def corpus_loss(model: TextModel, sources: Lines, references: Lines) -> float:
    """Return the mean cross entropy a target token, the end token counted, in nats; `exp` of it is the perplexity."""
    scores = model.score(sources, references)
    return -math.fsum(score.log_prob for score in scores) / sum(len(score.pieces) for score in scores)


def evaluate(model: TextModel, sources: Lines, references: Lines, **decoding: Any) -> tuple[dict[str, Any], list[str]]:
    """Score a model on a set of pairs.

    Args:
        model: a model with a tokenizer.
        sources: source texts.
        references: their right targets.
        **decoding: settings of `decoding` that differ from the model's own.

    Returns:
        Scores (`loss`, `perplexity`, those of the model's task, `sentences` and the `signature` of each), and outputs.
    """
    metrics = metrics_for(model.task)
    loss = corpus_loss(model, sources, references)
    hypotheses = model.answers(sources, **decoding)
    found = metrics.scores(hypotheses, references, sources)
    scores = {"loss": loss, "perplexity": perplexity(loss)} | metrics.details(hypotheses, references)
    scores |= {name: score.value for name, score in found.items()}
    scores["sentences"] = len(references)
    scores["signature"] = {name: score.signature for name, score in found.items()}
    return scores, hypotheses


def by_source_length(
    task: str, sources: Lines, hypotheses: Lines, references: Lines, **options: Any
) -> list[dict[str, Any]]:
    """Score groups of sources by their number of words: `shortest`, `longest` (None: no limit), `sentences`, score."""
    metrics = metrics_for(task)
    return [
        {
            "shortest": part.shortest,
            "longest": part.longest,
            "sentences": part.sentences,
            metrics.by_length_score: part.score.value,
        }
        for part in metrics.bins(hypotheses, references, sources, **options)
    ]


def evaluate_agreement(model: TextModel, items: Sequence[AgreementItem], **decoding: Any) -> dict[str, float]:
    """Return the share of right verb forms, in percent, by the number of distracting nouns."""
    found = agreement_accuracy(model.answers([item.source for item in items], **decoding), items)
    return {str(distractors): score.accuracy for distractors, score in found.items()}


class System(NamedTuple):
    """The outputs of one system for a test set.

    Args:
        name: its name in the scores.
        hypotheses: its outputs.
        references: log-probability and number of tokens of each reference; None where there is no model.
    """

    name: str
    hypotheses: list[str]
    references: list[tuple[float, int]] | None = None

    @classmethod
    def from_model(cls, model: TextModel, name: str, sources: Lines, references: Lines, **options: Any) -> "System":
        """Let a model answer a test set and score its references."""
        scores = [(score.log_prob, len(score.pieces)) for score in model.score(sources, references)]
        return cls(name, model.answers(sources, **options), scores)


def score_systems(
    systems: Sequence[System],
    sources: Lines,
    references: Lines,
    *,
    task: str = "translate",
    test: PairedTestKind = "bootstrap",
    **options: Any,
) -> list[dict[str, Any]]:
    """Score systems with confidence intervals, and test whether the others differ from the first by more than chance.

    Args:
        systems: what is compared.
        sources: source texts.
        references: their right targets.
        task: the task of the systems.
        test: the paired test.
        **options: `lowercase` and `tokenize` of translations.

    Returns:
        For each system its name as `system`; `loss` and `perplexity` of a model; its scores; `sentences`; the
        `signature` of each score; `confidence`, the `mean` and `margin` of each; `p_value` of each, for all but the
        first; results `by_length`, and the `confusion` of labels.
    """
    metrics = metrics_for(task)
    estimates = metrics.compare([system.hypotheses for system in systems], references, sources, test, **options)
    found: list[dict[str, Any]] = []
    for system, of_texts, of_tokens in zip(systems, estimates, _perplexities(systems, test), strict=True):
        scores: dict[str, Any] = {"system": system.name}
        if system.references is not None:
            log_prob, tokens = map(sum, zip(*system.references, strict=True))
            scores["loss"] = -log_prob / tokens
        every = of_tokens | of_texts
        scores |= {name: estimate.value for name, estimate in every.items()}
        scores["sentences"] = len(references)
        scores["signature"] = {name: estimate.signature for name, estimate in every.items()}
        scores["confidence"] = {
            name: {"mean": estimate.mean, "margin": estimate.margin} for name, estimate in every.items()
        }
        if found:
            scores["p_value"] = {name: estimate.p_value for name, estimate in every.items()}
        scores |= metrics.details(system.hypotheses, references)
        scores["by_length"] = by_source_length(task, sources, system.hypotheses, references, **options)
        found.append(scores)
    return found


def _perplexities(systems: Sequence[System], test: PairedTestKind) -> list[dict[str, Any]]:
    """Return the perplexity of each system that has one, tested together only where all have the same tokens."""
    counts = {system.references and tuple(count for _, count in system.references) for system in systems}
    pairs = [system.references for system in systems if system.references is not None]
    if len(counts) == 1 and pairs:
        return [{"perplexity": estimate} for estimate in compare_perplexities(pairs, test=test)]
    return [
        {} if system.references is None else {"perplexity": compare_perplexities([system.references], test=test)[0]}
        for system in systems
    ]
