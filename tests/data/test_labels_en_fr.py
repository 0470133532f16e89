"""The corpora of labels that the English-French grammar gives: as the script makes them, and with the right labels."""

import pathlib
from collections import Counter

import pytest

from tests.data.test_en_fr import FOLDER, LEXICON, NUMBER_OF_NOUN, bare_words

DATA = pathlib.Path(__file__).parents[2] / "data"


def rows_of(path):
    return [line.split("\t") for line in (DATA / path).read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_script_makes_the_committed_files(remade):
    made, different = remade(FOLDER / "make_labels.py", DATA)
    assert (len(made), different) == (10, [])


def test_number_is_that_of_the_first_noun():
    splits = {name: rows_of(f"verb-number/{name}.tsv") for name in ("train", "dev", "test")}
    for rows in splits.values():
        for words, label in rows:
            assert next(NUMBER_OF_NOUN[word] for word in bare_words(words) if word in NUMBER_OF_NOUN) == label, words
    texts = [words for rows in splits.values() for words, _ in rows]
    texts += [row[1] for row in rows_of("verb-number/distractors.tsv")]
    assert len(set(texts)) == len(texts)


def test_distractors_are_of_the_other_number():
    rows = rows_of("verb-number/distractors.tsv")
    assert Counter((row[0], row[2]) for row in rows) == {
        (str(n), x): 200 for n in range(5) for x in ("singular", "plural")
    }
    for distractors, words, label, right, wrong in rows:
        first, *others = [NUMBER_OF_NOUN[word] for word in bare_words(words) if word in NUMBER_OF_NOUN]
        assert (first, right) == (label, label)
        assert others == [wrong] * int(distractors)


def test_each_word_has_its_part_of_speech():
    nouns = set(NUMBER_OF_NOUN) - {verb.base for verb in LEXICON.verbs} - {item.english for item in LEXICON.adjectives}
    for name in ("train", "dev", "test"):
        sentences, tags = (
            (DATA / f"part-of-speech/{name}.{side}").read_text().splitlines() for side in ("words", "tags")
        )
        for sentence, of_sentence in zip(sentences, tags, strict=True):
            for word, tag in zip(sentence.split(), of_sentence.split(), strict=True):
                assert (tag == "punctuation") == (word == ",")
                assert word not in nouns or tag in ("noun", "verb"), (word, tag)
