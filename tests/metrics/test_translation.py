"""Corpus scores against formulas written out here, and the signatures that go with them."""

import math
import re
from collections import Counter

import pytest
import sacrebleu

from seq2seq.errors import DataError
from seq2seq.metrics import bleu, chrf, exact_match

HYPOTHESES = ["The cat is on the mat .", "there is a dog in the large garden", "A small bird"]
REFERENCES = ["the cat sat on the mat .", "there is a dog in the garden", "a small blue bird sings"]


def plain_bleu(hypotheses, references):
    """BLEU as in Papineni et al. 2002, over white space, for corpora in which every order has a match."""
    matches, totals = [0] * 4, [0] * 4
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        for order in range(1, 5):
            grams = [
                Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
                for words in (hypothesis.split(), reference.split())
            ]
            matches[order - 1] += sum((grams[0] & grams[1]).values())
            totals[order - 1] += sum(grams[0].values())
    lengths = [sum(len(text.split()) for text in texts) for texts in (hypotheses, references)]
    brevity = min(0.0, 1 - lengths[1] / lengths[0])
    return 100 * math.exp(brevity + sum(math.log(m / t) for m, t in zip(matches, totals, strict=True)) / 4)


def plain_chrf(hypotheses, references):
    """chrF2 as in Popović 2015: character 1- to 6-grams without spaces, over the corpus."""
    matches, hypothesis_totals, reference_totals = Counter(), Counter(), Counter()
    for pair in zip(hypotheses, references, strict=True):
        texts = ["".join(text.split()) for text in pair]
        for order in range(1, 7):
            grams = [Counter(text[i : i + order] for i in range(len(text) - order + 1)) for text in texts]
            matches[order] += sum((grams[0] & grams[1]).values())
            hypothesis_totals[order] += sum(grams[0].values())
            reference_totals[order] += sum(grams[1].values())
    precision = sum(matches[n] / hypothesis_totals[n] for n in range(1, 7)) / 6
    recall = sum(matches[n] / reference_totals[n] for n in range(1, 7)) / 6
    return 100 * 5 * precision * recall / (4 * precision + recall)


def lowered(texts):
    return [text.lower() for text in texts]


def test_bleu_is_papinenis():
    score = bleu(HYPOTHESES, REFERENCES, tokenize="none")
    assert score.value == pytest.approx(plain_bleu(HYPOTHESES, REFERENCES))
    score = bleu(HYPOTHESES, REFERENCES, tokenize="none", lowercase=True)
    assert score.value == pytest.approx(plain_bleu(lowered(HYPOTHESES), lowered(REFERENCES)))
    assert score.value > bleu(HYPOTHESES, REFERENCES, tokenize="none").value


def test_bleu_splits_punctuation_unless_told_otherwise():
    joined = [text.replace(" .", ".") for text in HYPOTHESES]
    assert bleu(joined, REFERENCES).value == pytest.approx(plain_bleu(HYPOTHESES, REFERENCES))
    assert bleu(joined, REFERENCES, tokenize="none").value < plain_bleu(HYPOTHESES, REFERENCES)


def test_signatures_are_sacrebleus():
    version = f"version:{sacrebleu.__version__}"
    assert bleu(HYPOTHESES, REFERENCES).signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert "case:lc" in bleu(HYPOTHESES, REFERENCES, lowercase=True).signature
    assert "tok:intl" in bleu(HYPOTHESES, REFERENCES, tokenize="intl").signature
    assert chrf(HYPOTHESES, REFERENCES).signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"
    assert "nw:2" in chrf(HYPOTHESES, REFERENCES, word_order=2).signature


def test_chrf_is_popovics():
    long = [(h, r) for h, r in zip(HYPOTHESES, REFERENCES, strict=True)]
    hypotheses, references = [h for h, _ in long], [r for _, r in long]
    assert chrf(hypotheses, references).value == pytest.approx(plain_chrf(hypotheses, references))
    score = chrf(hypotheses, references, lowercase=True)
    assert score.value == pytest.approx(plain_chrf(lowered(hypotheses), lowered(references)))
    assert chrf(hypotheses, references, word_order=2).value != pytest.approx(chrf(hypotheses, references).value)


def test_exact_match_counts_equal_texts():
    hypotheses, references = ["a b", " a  b\t", "A b", "ab", ""], ["a b", "a b", "a b", "a b", ""]
    assert exact_match(hypotheses, references) == (60.0, "exact|nrefs:1|case:mixed")
    assert exact_match(hypotheses, references, lowercase=True) == (80.0, "exact|nrefs:1|case:lc")


def test_an_unknown_tokenizer():
    with pytest.raises(ValueError, match=r"tokenize must be one of none, .*13a.*, but is 'moses' instead"):
        bleu(HYPOTHESES, REFERENCES, tokenize="moses")


@pytest.mark.parametrize("metric", [bleu, chrf, exact_match])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a"], ["a", "b"], "hypotheses must be as many as references, 2, but are 1 instead"),
        ([], [], "hypotheses must hold at least one text, but are empty instead"),
        ("a", ["a"], "hypotheses must be a list of strings, but is one string instead"),
        (["a"], "a", "references must be a list of strings, but is one string instead"),
    ],
)
def test_lists_that_cannot_be_compared(metric, hypotheses, references, message):
    with pytest.raises(DataError, match=re.escape(message)):
        metric(hypotheses, references)


def test_text_that_looks_tokenized_is_warned_of_unless_it_was_said_to_be(caplog):
    texts = ["the cat sat on the mat ."] * 200
    assert bleu(texts, texts, tokenize="none").value == pytest.approx(100)
    assert not caplog.records
    bleu(texts, texts)
    assert "tokenized period" in caplog.text
