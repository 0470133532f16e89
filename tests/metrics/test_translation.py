"""Corpus scores against formulas written out here, their signatures, and scores by length."""

import math
import re
import sys
from collections import Counter

import numpy as np
import pytest
import sacrebleu
import sacremoses

from seq2seq.errors import ArgumentError, DataError, MissingDependencyError
from seq2seq.metrics.translation import (
    bleu,
    chrf,
    compare_perplexities,
    compare_systems,
    exact_match,
    score_by_length,
    ter,
    tokenized_bleu,
)

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


def test_bleu_splits_punctuation():
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
    score = chrf(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(plain_chrf(HYPOTHESES, REFERENCES))
    assert chrf(HYPOTHESES, REFERENCES, lowercase=True).value == pytest.approx(
        plain_chrf(lowered(HYPOTHESES), lowered(REFERENCES))
    )
    assert chrf(HYPOTHESES, REFERENCES, word_order=2).value != pytest.approx(score.value)


def test_exact_match_counts_equal_texts():
    hypotheses, references = ["a b", " a  b\t", "A b", "ab", ""], ["a b", "a b", "a b", "a b", ""]
    assert exact_match(hypotheses, references) == (60.0, "exact|nrefs:1|case:mixed")
    assert exact_match(hypotheses, references, lowercase=True) == (80.0, "exact|nrefs:1|case:lc")


def test_ter_is_edits_a_word():
    hypotheses = ["the cat sat", "on the mat it sat today", "A Bird"]
    references = ["the cat sat down", "it sat on the mat", "a bird"]
    # A missing word; a moved phrase and a word too many; nothing but case.
    assert ter(hypotheses, references).value == pytest.approx(100 * (1 + 2 + 0) / (4 + 5 + 2))
    assert ter(hypotheses, references, lowercase=False).value == pytest.approx(100 * (1 + 2 + 2) / (4 + 5 + 2))
    assert "case:mixed|tok:tercom" in ter(hypotheses, references, lowercase=False).signature


@pytest.mark.parametrize("metric", [bleu, lambda *texts, **options: compare_systems(texts[:1], texts[1], **options)])
def test_an_unknown_tokenizer(metric):
    with pytest.raises(ArgumentError, match=r"tokenize must be one of none, .*13a.*, got 'moses'"):
        metric(HYPOTHESES, REFERENCES, tokenize="moses")


def three_systems():
    """Draw references of random words, and systems with 10, 20 and 20 % wrong words; many texts are equal."""
    random = np.random.default_rng(3)
    words = np.array(["the", "cat", "dog", "on", "a", "mat", "is"])
    references = [" ".join(random.choice(words, 5)) for _ in range(60)]

    def spoilt(share):
        return [" ".join(w if random.random() > share else "X" for w in text.split()) for text in references]

    return [spoilt(0.1), spoilt(0.2), spoilt(0.2)], references


@pytest.mark.parametrize("test", ["bootstrap", "randomization"])
def test_values_equal_each_score_alone(test):
    systems, references = three_systems()
    found = compare_systems(systems, references, tokenize="none", lowercase=True, test=test)
    for hypotheses, of_system in zip(systems, found, strict=True):
        options = {"tokenize": "none", "lowercase": True}
        assert of_system["bleu"].value == pytest.approx(bleu(hypotheses, references, **options).value)
        assert of_system["chrf"].value == pytest.approx(chrf(hypotheses, references, lowercase=True).value)
        assert of_system["ter"].value == pytest.approx(ter(hypotheses, references).value)
        assert of_system["exact_match"].value == exact_match(hypotheses, references, lowercase=True).value
        assert [of_system[name].p_value is None for name in of_system] == [hypotheses is systems[0]] * 4
    assert "case:lc|eff:no|tok:none" in found[0]["bleu"].signature
    samples = "bs:1000|ar:10000|seed:12345" if test == "randomization" else "bs:1000|seed:12345"
    assert samples in found[0]["chrf"].signature


def test_intervals_and_p_values_by_a_plain_loop():
    systems, references = three_systems()
    found = compare_systems(systems, references)
    equal = np.array([[100.0 * (h == r) for h, r in zip(system, references, strict=True)] for system in systems])
    log_probs = np.array(
        [[(-3.0 - (h != r), 5) for h, r in zip(system, references, strict=True)] for system in systems]
    )
    of_tokens = compare_perplexities(log_probs.tolist())
    random, accuracies, perplexities = np.random.default_rng(12345), [], []
    for drawn in random.choice(60, size=(1000, 60)):
        accuracies.append([of_system[drawn].mean() for of_system in equal])
        perplexities.append([math.exp(-one[drawn, 0].sum() / one[drawn, 1].sum()) for one in log_probs])
    exact = [one["exact_match"] for one in found]
    for samples, estimates in ((np.array(accuracies), exact), (np.array(perplexities), of_tokens)):
        for column, estimate in zip(samples.T, estimates, strict=True):
            ordered = np.sort(column)
            assert estimate.mean == pytest.approx(column.mean())
            assert estimate.margin == pytest.approx((ordered[974] - ordered[25]) / 2)
        for other in (1, 2):
            differences = np.abs(samples[:, other] - samples[:, 0])
            real = abs(estimates[other].value - estimates[0].value)
            extreme = np.sum(differences - differences.mean() > real)
            assert estimates[other].p_value == pytest.approx((extreme + 1) / 1001, abs=0.005)
    assert of_tokens[0].value == pytest.approx(math.exp(-log_probs[0, :, 0].sum() / 300))


@pytest.mark.parametrize("test", ["bootstrap", "randomization"])
def test_a_system_does_not_differ_from_itself(test):
    (hypotheses, *_), references = three_systems()
    _, again = compare_systems([hypotheses, list(hypotheses)], references, test=test)
    assert {estimate.p_value for estimate in again.values()} == {1.0}


def test_perplexities_of_other_tokens_cannot_be_compared():
    with pytest.raises(DataError, match="must be of the same tokens to be compared"):
        compare_perplexities([[(-2.0, 2)], [(-2.0, 3)]])
    assert compare_perplexities([[(-1e5, 2)]])[0].value == math.inf


def one_system(hypotheses, references):
    return compare_systems([hypotheses], references)


@pytest.mark.parametrize("metric", [bleu, chrf, ter, exact_match, one_system])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a"], ["a", "b"], "hypotheses must be as many as references, 2, got 1"),
        ([], [], "hypotheses must hold at least one text"),
        ("a", ["a"], "hypotheses must be a list of strings"),
        (["a"], "a", "references must be a list of strings"),
    ],
)
def test_lists_that_cannot_be_compared(metric, hypotheses, references, message):
    with pytest.raises(DataError, match=re.escape(message)):
        metric(hypotheses, references)


def test_tokenized_text_is_warned_of(caplog):
    texts = ["the cat sat on the mat ."] * 200
    assert bleu(texts, texts, tokenize="none").value == pytest.approx(100)
    assert not caplog.records
    bleu(texts, texts)
    assert "tokenized period" in caplog.text


SOURCES = ["a b c d e f g", "a", "a b c", "a b", "a b c d", ""]
BY_LENGTH = ["g", "a", "x", "b", "x", "x"], ["g", "a", "c", "b", "d", "x"], SOURCES


@pytest.mark.parametrize(
    ("edges", "groups"),
    [
        ((2, 3, 6), [(0, 2, 3, 100), (3, 3, 1, 0), (4, 6, 1, 0), (7, None, 1, 100)]),
        ((1, 4, 5, 6, 7), [(0, 1, 2, 100), (2, 4, 3, 100 / 3), (7, 7, 1, 100)]),
        ((10,), [(0, 10, 6, 200 / 3)]),
    ],
)
def test_groups_by_source_length(edges, groups):
    found = score_by_length(exact_match, *BY_LENGTH, edges=edges)
    assert [(*part[:3], part.score.value) for part in found] == [pytest.approx(group) for group in groups]


def test_a_group_is_scored_as_a_corpus():
    hypotheses = ["the cat sat on a mat", "a dog", "the dog sat on the mat"]
    references = ["the cat sat on the mat", "a dog", "the dog sat on the mat"]
    first, last = score_by_length(bleu, hypotheses, references, ["a b c", "d", "e f g"], edges=(2,))
    assert first.score == bleu(["a dog"], ["a dog"])
    assert last.score == bleu([hypotheses[0], hypotheses[2]], [references[0], references[2]])


@pytest.mark.parametrize("edges", [(), (3, 2), (2, 2)])
def test_edges_must_rise(edges):
    with pytest.raises(ArgumentError, match="edges must be rising lengths"):
        score_by_length(exact_match, *BY_LENGTH, edges=edges)


def test_sources_must_fit():
    with pytest.raises(DataError, match="hypotheses must be as many as sources, 5, got 6"):
        score_by_length(exact_match, *BY_LENGTH[:2], SOURCES[:5])


PLAIN = ["L\u2019homme au chapeau regarde l'herbe, puis s'en va.", "Elle lit «Le Monde» à midi."]
TOKENIZED = [
    "l&apos; homme au chapeau regarde l&apos; herbe , puis s&apos; en va .",
    "elle lit &quot; le monde &quot; à midi .",
]


def moses_bleu(hypotheses, references, language="fr", references_are_tokenized=True):
    return tokenized_bleu(hypotheses, references, language=language, references_are_tokenized=references_are_tokenized)


def test_plain_text_becomes_moses_tokens():
    assert moses_bleu(PLAIN, TOKENIZED).value == pytest.approx(100)
    assert moses_bleu(PLAIN, [text.upper() for text in PLAIN], references_are_tokenized=False).value == pytest.approx(
        100
    )
    assert moses_bleu(PLAIN, TOKENIZED, references_are_tokenized=False).value < 99


def test_moses_bleu_is_that_of_the_tokens():
    hypotheses = [PLAIN[0].replace("l'herbe", "les herbes"), PLAIN[1].replace("Monde", "Figaro")]
    tokens = [TOKENIZED[0].replace("l&apos; herbe", "les herbes"), TOKENIZED[1].replace("monde", "figaro")]
    score = moses_bleu(hypotheses, TOKENIZED)
    assert score.value == pytest.approx(bleu(tokens, TOKENIZED, tokenize="none").value)
    assert 30 < score.value < 99
    assert score.signature.startswith("nrefs:1|case:lc|eff:no|tok:none|smooth:exp|version:")
    assert score.signature.endswith(f"|moses:{sacremoses.__version__}|lang:fr")


def test_the_language_decides_on_apostrophes():
    texts, tokens = ["l'herbe verte de l'homme est haute"], ["l&apos; herbe verte de l&apos; homme est haute"]
    assert moses_bleu(texts, tokens).value == pytest.approx(100)
    assert moses_bleu(texts, tokens, language="en").value < 60


def test_without_sacremoses(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seq2seq\[metrics\]'"):
        tokenized_bleu(PLAIN, TOKENIZED, language="fr")
