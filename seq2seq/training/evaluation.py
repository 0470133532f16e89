"""Scores of a model on pairs of texts: the loss a token, and what real decoding gives against the references."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from seq2seq.config.sections import LABEL_TASKS
from seq2seq.metrics.agreement import AgreementItem, agreement_accuracy
from seq2seq.metrics.labels import compare_labels, label_accuracy, label_confusion, label_macro_f1
from seq2seq.metrics.summaries import compare_summaries, rouge_l, summary_scores
from seq2seq.metrics.translation import (
    PairedTestKind,
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

SUMMARY_EDGES = (25, 50, 100, 200, 400, 800, 1600)
"""What is summarised has more words than what is translated."""


def corpus_loss(model: TextModel, sources: Sequence[str], references: Sequence[str]) -> float:
    """Mean cross entropy a target token, the end token counted, in nats; `exp` of it is the perplexity.

    Args:
        model: A model with a tokenizer.
        sources: Source texts.
        references: Their right targets, as many.
    """
    scores = model.score(sources, references)
    return -math.fsum(score.log_prob for score in scores) / sum(len(score.pieces) for score in scores)


def evaluate(
    model: TextModel, sources: Sequence[str], references: Sequence[str], **decoding: Any
) -> tuple[dict[str, Any], list[str]]:
    """All scores of a model on a set of pairs.

    Args:
        model: A model with a tokenizer.
        sources: Source texts.
        references: Their right targets, as many.
        **decoding: Settings of `DecodingConfig` that differ from the model's own.

    Returns:
        Scores: `loss`, `perplexity`, `sentences`, the model's task's scores, and the `signature` of each: `bleu`,
        `chrf` and `exact_match` (a percentage) of translations, those of `seq2seq.metrics.summary_scores` of summaries,
        `accuracy` and `macro_f1` of labels, and their `confusion`; and the outputs.
    """
    loss = corpus_loss(model, sources, references)
    hypotheses = model.answers(sources, **decoding)
    scores: dict[str, Any] = {"loss": loss, "perplexity": perplexity(loss)}
    if model.task in LABEL_TASKS:
        given, right = labels_of(model.task, hypotheses), labels_of(model.task, references)
        found = {"accuracy": label_accuracy(given, right), "macro_f1": label_macro_f1(given, right)}
        scores["confusion"] = label_confusion(given, right)
    elif model.task == "summarize":
        found = summary_scores(hypotheses, references, sources)
    else:
        found = {metric.__name__: metric(hypotheses, references) for metric in (bleu, chrf, exact_match)}
    scores |= {name: score.value for name, score in found.items()}
    scores["sentences"] = len(references)
    scores["signature"] = {name: score.signature for name, score in found.items()}
    return scores, hypotheses


def labels_of(task: str, targets: Sequence[str]) -> list[list[str]]:
    """The labels of each target of a task that gives labels."""
    return [split_labels(target, task == "tag") for target in targets]


def by_source_length(
    task: str, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], **options: Any
) -> list[dict[str, Any]]:
    """BLEU, ROUGE-L of summaries, or accuracy of labels, by words in the source: where a fixed-size context gives way.

    Args:
        task: What the hypotheses are, as in `Config`.
        sources: Source texts.
        hypotheses: What a model makes of them.
        references: Their right targets.
        **options: As for `seq2seq.metrics.bleu`.

    Returns:
        For each group of lengths that has sentences: `shortest`, `longest` (None: no end), `sentences`, and `bleu`,
        `rouge_l` or `accuracy`.
    """
    if task in LABEL_TASKS:
        given, right = labels_of(task, hypotheses), labels_of(task, references)
        name, bins = "accuracy", score_by_length(label_accuracy, given, right, sources)
    elif task == "summarize":
        name, bins = "rouge_l", score_by_length(rouge_l, hypotheses, references, sources, SUMMARY_EDGES)
    else:
        name, bins = "bleu", score_by_length(functools.partial(bleu, **options), hypotheses, references, sources)
    return [
        {"shortest": part.shortest, "longest": part.longest, "sentences": part.sentences, name: part.score.value}
        for part in bins
    ]


def evaluate_agreement(model: TextModel, items: Sequence[AgreementItem], **decoding: Any) -> dict[str, float]:
    """Share of right verb forms, in percent, by the number of distracting nouns.

    Args:
        model: A model with a tokenizer.
        items: The agreement test.
        **decoding: As for `evaluate`.
    """
    found = agreement_accuracy(model.answers([item.source for item in items], **decoding), items)
    return {str(distractors): score.accuracy for distractors, score in found.items()}


class System(NamedTuple):
    """What a system makes of a test set.

    Attributes:
        name: What the scores call it.
        hypotheses: Its translations of the sources.
        references: The log-probability that its model gives each reference, and the number of its tokens; None where
            there is no model.
    """

    name: str
    hypotheses: list[str]
    references: list[tuple[float, int]] | None = None

    @classmethod
    def of(
        cls, model: TextModel, name: str, sources: Sequence[str], references: Sequence[str], **options: Any
    ) -> "System":
        """Let a model translate a test set and score its right translations.

        Args:
            model: A model with a tokenizer.
            name: What the scores are to call it.
            sources: Source texts.
            references: Their right targets, as many.
            **options: As for `model.translate`.
        """
        scores = [(score.log_prob, len(score.pieces)) for score in model.score(sources, references)]
        return cls(name, model.answers(sources, **options), scores)


def score_systems(
    systems: Sequence[System],
    sources: Sequence[str],
    references: Sequence[str],
    *,
    task: str = "translate",
    lowercase: bool = False,
    tokenize: str = "13a",
    test: PairedTestKind = "bootstrap",
) -> list[dict[str, Any]]:
    """All scores of one system or more, and whether the others differ from the first by more than chance.

    Args:
        systems: What is compared.
        sources: Source texts.
        references: Their right targets.
        task: What the systems do with the sources, as in `Config`.
        lowercase: As for `seq2seq.metrics.compare_systems`, of translations; also the next.
        tokenize: BLEU's tokenizer.
        test: The paired test.

    Returns:
        For each system its name as `system`; `loss` and `perplexity` where it is a model; the scores of
        `seq2seq.metrics.compare_systems`, or of `compare_summaries`; `sentences`; the `signature` of each score;
        `confidence`, the `mean` and `margin` of each, as in `seq2seq.metrics.Estimate`; `p_value` of each, for all
        systems but the first; and BLEU or ROUGE-L `by_length`.
    """
    hypotheses = [system.hypotheses for system in systems]
    if of_labels := task in LABEL_TASKS:
        right = labels_of(task, references)
        estimates = compare_labels([labels_of(task, targets) for targets in hypotheses], right)
    elif task == "summarize":
        estimates = compare_summaries(hypotheses, references, sources, test=test)
    else:
        estimates = compare_systems(hypotheses, references, lowercase=lowercase, tokenize=tokenize, test=test)
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
        if of_labels:
            scores["confusion"] = label_confusion(labels_of(task, system.hypotheses), right)
        scores["by_length"] = by_source_length(
            task, sources, system.hypotheses, references, lowercase=lowercase, tokenize=tokenize
        )
        found.append(scores)
    return found


def _perplexities(systems: Sequence[System], test: PairedTestKind) -> list[dict[str, Any]]:
    """The perplexity of each system that has one, tested together only where all are of the same tokens."""
    counts = {system.references and tuple(count for _, count in system.references) for system in systems}
    pairs = [system.references for system in systems if system.references is not None]
    if len(counts) == 1 and pairs:
        return [{"perplexity": estimate} for estimate in compare_perplexities(pairs, test=test)]
    return [
        {} if system.references is None else {"perplexity": compare_perplexities([system.references], test=test)[0]}
        for system in systems
    ]
