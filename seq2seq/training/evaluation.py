"""Scores of a model on pairs of texts: the loss a token, and what real decoding gives against the references."""

import functools
import math
from collections.abc import Sequence
from typing import Any

from seq2seq.config import LABEL_TASKS
from seq2seq.metrics import (
    AgreementItem,
    agreement_accuracy,
    bleu,
    chrf,
    exact_match,
    label_accuracy,
    label_confusion,
    label_macro_f1,
    rouge_l,
    score_by_length,
    summary_scores,
)
from seq2seq.model import SourceReader, perplexity
from seq2seq.text import split_labels

SUMMARY_EDGES = (25, 50, 100, 200, 400, 800, 1600)
"""What is summarised has more words than what is translated."""


def corpus_loss(model: SourceReader, sources: Sequence[str], references: Sequence[str]) -> float:
    """Mean cross entropy a target token, the end token counted, in nats; `exp` of it is the perplexity.

    Args:
        model: A model with a tokenizer.
        sources: Source texts.
        references: Their right targets, as many.
    """
    scores = model.score(sources, references)
    return -math.fsum(score.log_prob for score in scores) / sum(len(score.pieces) for score in scores)


def evaluate(
    model: SourceReader, sources: Sequence[str], references: Sequence[str], **decoding: Any
) -> tuple[dict[str, Any], list[str]]:
    """All scores of a model on a set of pairs.

    Args:
        model: A model with a tokenizer.
        sources: Source texts.
        references: Their right targets, as many.
        **decoding: Settings of `seq2seq.config.Decoding` that differ from the model's own.

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


def evaluate_agreement(model: SourceReader, items: Sequence[AgreementItem], **decoding: Any) -> dict[str, float]:
    """Share of right verb forms, in percent, by the number of distracting nouns.

    Args:
        model: A model with a tokenizer.
        items: The agreement test.
        **decoding: As for `evaluate`.
    """
    found = agreement_accuracy(model.answers([item.source for item in items], **decoding), items)
    return {str(distractors): score.accuracy for distractors, score in found.items()}
