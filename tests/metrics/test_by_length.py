"""Scores in groups of source length."""

import pytest

from seq2seq.errors import DataError
from seq2seq.metrics.translation import bleu, exact_match, score_by_length

SOURCES = ["a b c d e f g", "a", "a b c", "a b", "a b c d", ""]
REFERENCES = ["g", "a", "c", "b", "d", "x"]
HYPOTHESES = ["g", "a", "x", "b", "x", "x"]


def test_every_sentence_is_in_the_group_of_its_length():
    bins = score_by_length(exact_match, HYPOTHESES, REFERENCES, SOURCES, edges=(2, 3, 6))
    assert [tuple(part[:3]) for part in bins] == [(0, 2, 3), (3, 3, 1), (4, 6, 1), (7, None, 1)]
    assert [part.score.value for part in bins] == [100.0, 0.0, 0.0, 100.0]


def test_groups_without_sentences_are_left_out():
    bins = score_by_length(exact_match, HYPOTHESES, REFERENCES, SOURCES, edges=(1, 4, 5, 6, 7))
    assert [tuple(part[:3]) for part in bins] == [(0, 1, 2), (2, 4, 3), (7, 7, 1)]
    (everything,) = score_by_length(exact_match, HYPOTHESES, REFERENCES, SOURCES, edges=(10,))
    assert everything[:3] == (0, 10, 6)


def test_a_group_is_scored_as_a_corpus_of_its_own():
    hypotheses = ["the cat sat on a mat", "a dog", "the dog sat on the mat"]
    references = ["the cat sat on the mat", "a dog", "the dog sat on the mat"]
    first, last = score_by_length(bleu, hypotheses, references, ["a b c", "d", "e f g"], edges=(2,))
    assert first.score == bleu(["a dog"], ["a dog"])
    assert last.score == bleu([hypotheses[0], hypotheses[2]], [references[0], references[2]])


@pytest.mark.parametrize("edges", [(), (3, 2), (2, 2)])
def test_edges_must_rise(edges):
    with pytest.raises(ValueError, match="edges must be rising lengths, but are"):
        score_by_length(exact_match, HYPOTHESES, REFERENCES, SOURCES, edges=edges)


def test_unequal_counts():
    with pytest.raises(DataError, match="hypotheses must be as many as sources, 5, but are 6 instead"):
        score_by_length(exact_match, HYPOTHESES, REFERENCES, SOURCES[:5])
    with pytest.raises(DataError, match="hypotheses must be as many as references, 5, but are 6 instead"):
        score_by_length(exact_match, HYPOTHESES, REFERENCES[:5], SOURCES)
