"""A model at work: lines come in, answers go out in the same order, however many, and whatever some of them are."""

from seq2seq.serving.pairs import PairRequest, ScoredPair, pair_requests, score_stream
from seq2seq.serving.requests import Request, json_requests, text_requests
from seq2seq.serving.stream import Answer, StreamReport, answer_stream, label_stream

__all__ = [
    "Answer",
    "PairRequest",
    "Request",
    "ScoredPair",
    "StreamReport",
    "answer_stream",
    "json_requests",
    "label_stream",
    "pair_requests",
    "score_stream",
    "text_requests",
]
