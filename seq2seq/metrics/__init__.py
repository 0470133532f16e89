"""Scores of generated text: strings in, numbers out."""

from seq2seq.metrics.agreement import AgreementItem, AgreementScore, agreement_accuracy, read_agreement_items
from seq2seq.metrics.by_length import LengthBin, score_by_length
from seq2seq.metrics.moses import tokenized_bleu
from seq2seq.metrics.translation import Score, bleu, chrf, exact_match, pairwise_chrf

__all__ = [
    "AgreementItem",
    "AgreementScore",
    "LengthBin",
    "Score",
    "agreement_accuracy",
    "bleu",
    "chrf",
    "exact_match",
    "pairwise_chrf",
    "read_agreement_items",
    "score_by_length",
    "tokenized_bleu",
]
