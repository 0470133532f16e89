"""Writes two corpora of labels, read from the same grammar as the pairs beside this file, the same on every run.

`python data/en-fr/make_labels.py [--output FOLDER]` writes into two folders beside this one:

`verb-number`: the English words before the main verb, and whether that verb is to be singular or plural (`train.tsv`,
`dev.tsv`, `test.tsv`: words, label). `distractors.tsv` is an agreement test of this: 0 to 4 nouns of the other number
stand between the subject and its verb, and nothing but the subject's noun shows the number. Columns:

    distractors, words, right label, right label, wrong label

`part-of-speech`: English sentences, commas apart (`train.words`, ...), and the part of speech of each of their words
(`train.tags`, ...).
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from english import english_subject_and_verb, english_words
from lexicon import read_lexicon
from make import AGREEMENT_DISTRACTORS, MIN_TRAIN_COUNT, Corpus, Pair, draw_both_numbers, write_lines

SEED = 20240302
TRAIN_LINES, DEV_LINES, TEST_LINES = 16_000, 500, 1_000
DISTRACTOR_LINES = 400
TRAIN_TAGGED, TEST_TAGGED = 4_000, 500
NUMBERS = ("singular", "plural")


def before_verb(pair: Pair) -> str:
    """The English words before the main verb."""
    _, verb = english_subject_and_verb(pair.sentence)
    return " ".join(pair.english.split()[:verb])


def number(pair: Pair) -> str:
    return NUMBERS[pair.sentence.clause.subject.plural]


def make_verb_number(output: Path) -> None:
    corpus = Corpus(read_lexicon(), SEED)
    seen: set[str] = set()

    def is_new(pair: Pair) -> bool:
        """Whether the words before the verb are not there yet: several sentences can begin alike."""
        words = before_verb(pair)
        if words in seen:
            return False
        seen.add(words)
        return True

    rows = []
    for distractors in AGREEMENT_DISTRACTORS:
        for pair in draw_both_numbers(corpus, DISTRACTOR_LINES, is_new, distractors, opposite=True, hidden=True):
            right = number(pair)
            wrong = NUMBERS[right == NUMBERS[0]]
            rows.append("\t".join((str(distractors), before_verb(pair), right, right, wrong)))
    output.mkdir(parents=True, exist_ok=True)
    write_lines(output / "distractors.tsv", rows)
    for name, count in (("test", TEST_LINES), ("dev", DEV_LINES), ("train", TRAIN_LINES)):
        pairs = corpus.draw(count, is_new)
        write_lines(output / f"{name}.tsv", [f"{before_verb(pair)}\t{number(pair)}" for pair in pairs])


def make_part_of_speech(output: Path) -> None:
    corpus = Corpus(read_lexicon(), SEED + 1)
    train = corpus.draw(TRAIN_TAGGED)
    counts = Counter(word.text for pair in train for word in english_words(pair.sentence))

    def is_covered(pair: Pair) -> bool:
        return all(counts[word.text] >= MIN_TRAIN_COUNT for word in english_words(pair.sentence))

    output.mkdir(parents=True, exist_ok=True)
    write_tagged(output, "train", train)
    write_tagged(output, "dev", corpus.draw(TEST_TAGGED, is_covered))
    write_tagged(output, "test", corpus.draw(TEST_TAGGED, is_covered))


def write_tagged(output: Path, name: str, pairs: list[Pair]) -> None:
    words = [english_words(pair.sentence) for pair in pairs]
    write_lines(output / f"{name}.words", [" ".join(word.text for word in of_one) for of_one in words])
    write_lines(output / f"{name}.tags", [" ".join(word.part for word in of_one) for of_one in words])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the corpora of labels of the grammar in this folder.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[1], help="folder to write to")
    folder = parser.parse_args().output
    make_verb_number(folder / "verb-number")
    make_part_of_speech(folder / "part-of-speech")
