"""BLEU on Moses tokens."""

import sys

import pytest
import sacremoses

from seq2seq.errors import DataError, MissingDependencyError
from seq2seq.metrics.translation import bleu, tokenized_bleu

PLAIN = ["L\u2019homme au chapeau regarde l'herbe, puis s'en va.", "Elle lit «Le Monde» à midi."]
TOKENIZED = [
    "l&apos; homme au chapeau regarde l&apos; herbe , puis s&apos; en va .",
    "elle lit &quot; le monde &quot; à midi .",
]


def test_plain_text_becomes_the_tokens_of_the_tokenized_files():
    assert tokenized_bleu(PLAIN, TOKENIZED, language="fr", references_are_tokenized=True).value == pytest.approx(100)
    assert tokenized_bleu(PLAIN, [text.upper() for text in PLAIN], language="fr").value == pytest.approx(100)
    assert tokenized_bleu(PLAIN, TOKENIZED, language="fr").value < 99


def test_the_score_is_that_of_the_tokens():
    hypotheses = ["L'homme au chapeau regarde les herbes, puis s'en va.", "Elle lit «Le Figaro» à midi."]
    tokens = [
        "l&apos; homme au chapeau regarde les herbes , puis s&apos; en va .",
        "elle lit &quot; le figaro &quot; à midi .",
    ]
    score = tokenized_bleu(hypotheses, TOKENIZED, language="fr", references_are_tokenized=True)
    assert score.value == pytest.approx(bleu(tokens, TOKENIZED, tokenize="none").value)
    assert 30 < score.value < 99
    assert score.signature.startswith("nrefs:1|case:lc|eff:no|tok:none|smooth:exp|version:")
    assert score.signature.endswith(f"|moses:{sacremoses.__version__}|lang:fr")


def test_the_language_decides_where_apostrophes_go():
    texts = ["l'herbe verte de l'homme est haute"]
    tokens = ["l&apos; herbe verte de l&apos; homme est haute"]
    french = tokenized_bleu(texts, tokens, language="fr", references_are_tokenized=True)
    english = tokenized_bleu(texts, tokens, language="en", references_are_tokenized=True)
    assert french.value == pytest.approx(100)
    assert english.value < 60


def test_without_sacremoses(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(MissingDependencyError, match=r"needs sacremoses, .* pip install 'seq2seq\[metrics\]'"):
        tokenized_bleu(PLAIN, TOKENIZED, language="fr")


def test_unequal_counts():
    with pytest.raises(DataError, match="hypotheses must be as many as references, 1, but are 2 instead"):
        tokenized_bleu(PLAIN, TOKENIZED[:1], language="fr")
