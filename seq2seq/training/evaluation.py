"""Scores of a model on pairs of texts: the loss a token, and what real decoding gives against the references."""

import functools
import math
from collections.abc import Sequence
from typing import Any

from seq2seq.metrics import AgreementItem, agreement_accuracy, bleu, chrf, exact_match, score_by_length
from seq2seq.model import Seq2Seq, perplexity


def corpus_loss(model: Seq2Seq, sources: Sequence[str], references: Sequence[str]) -> float:
    """Mean cross entropy a target token, the end token counted, in nats; `exp` of it is the perplexity.

    Args:
        model: A model with a tokenizer.
        sources: Source texts.
        references: Their right targets, as many.
    """
    scores = model.score(sources, references)
    return -math.fsum(score.log_prob for score in scores) / sum(len(score.pieces) for score in scores)


def evaluate(
    model: Seq2Seq, sources: Sequence[str], references: Sequence[str], **decoding: Any
) -> tuple[dict[str, Any], list[str]]:
    """All scores of a model on a set of pairs.

    Args:
        model: A model with a tokenizer.
        sources: Source texts.
        references: Their right targets, as many.
        **decoding: Settings of `seq2seq.config.Decoding` that differ from the model's own.

    Returns:
        Scores: `loss`, `perplexity`, `bleu` and `chrf` with sacreBLEU's `signature` of each, `exact_match` (a
        percentage), `sentences`; and the translations.
    """
    loss = corpus_loss(model, sources, references)
    hypotheses = model.translate(sources, **decoding)
    bleu_score, chrf_score = bleu(hypotheses, references), chrf(hypotheses, references)
    scores = {
        "loss": loss,
        "perplexity": perplexity(loss),
        "bleu": bleu_score.value,
        "chrf": chrf_score.value,
        "exact_match": exact_match(hypotheses, references).value,
        "sentences": len(references),
        "signature": {"bleu": bleu_score.signature, "chrf": chrf_score.signature},
    }
    return scores, hypotheses


def bleu_by_length(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], **options: Any
) -> list[dict[str, Any]]:
    """BLEU by the number of words in the source: where a context of fixed size gives way.

    Args:
        sources: Source texts.
        hypotheses: Their translations.
        references: Their right targets.
        **options: As for `seq2seq.metrics.bleu`.

    Returns:
        For each group of lengths that has sentences: `shortest`, `longest` (None: no end), `sentences`, `bleu`.
    """
    return [
        {"shortest": part.shortest, "longest": part.longest, "sentences": part.sentences, "bleu": part.score.value}
        for part in score_by_length(functools.partial(bleu, **options), hypotheses, references, sources)
    ]


def evaluate_agreement(model: Seq2Seq, items: Sequence[AgreementItem], **decoding: Any) -> dict[str, float]:
    """Share of right verb forms, in percent, by the number of distracting nouns.

    Args:
        model: A model with a tokenizer.
        items: The agreement test.
        **decoding: As for `evaluate`.
    """
    found = agreement_accuracy(model.translate([item.source for item in items], **decoding), items)
    return {str(distractors): score.accuracy for distractors, score in found.items()}
