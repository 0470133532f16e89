"""Scores of generated text: strings in, numbers out."""

from seq2seq.metrics.agreement import AgreementItem, AgreementScore, agreement_accuracy, read_agreement_items
from seq2seq.metrics.by_length import LengthBin, score_by_length
from seq2seq.metrics.labels import compare_labels, label_accuracy, label_confusion, label_macro_f1
from seq2seq.metrics.moses import tokenized_bleu
from seq2seq.metrics.summaries import compare_summaries, lead, rouge_l, summary_scores, tuned_lead
from seq2seq.metrics.translation import (
    Estimate,
    PairedTestKind,
    Score,
    bleu,
    chrf,
    compare_perplexities,
    compare_systems,
    exact_match,
    pairwise_chrf,
    ter,
)

__all__ = [
    "AgreementItem",
    "AgreementScore",
    "Estimate",
    "LengthBin",
    "PairedTestKind",
    "Score",
    "agreement_accuracy",
    "bleu",
    "chrf",
    "compare_labels",
    "compare_perplexities",
    "compare_summaries",
    "compare_systems",
    "exact_match",
    "label_accuracy",
    "label_confusion",
    "label_macro_f1",
    "lead",
    "pairwise_chrf",
    "read_agreement_items",
    "rouge_l",
    "score_by_length",
    "summary_scores",
    "ter",
    "tokenized_bleu",
    "tuned_lead",
]
