"""Writes the shipped English-French corpus: sentences of a small grammar of our own, the same on every run.

`python data/en-fr/make.py [--output FOLDER]` writes training, dev and test pairs (`train.en`, `train.fr`, ...) and
`agreement.tsv`: in each of its rows, nouns of the other number (0 to 4 "distractors") stand between a subject and
its verb, English shows the number on the subject alone, and French shows it on the verb. Columns:

    distractors, English sentence, French sentence, right verb form, wrong verb form

`number.tsv` is for finding what in a model holds the number of the main subject: 0 to 4 nouns, each of either number,
stand between subject and verb, and no other English verb there agrees with the subject. Columns, with the words
counted from 0 and split at spaces:

    singular or plural,
    the English subject's noun, the word before its verb, English sentence,
    the French subject's noun, the word before its verb, French sentence

No sentence of either language occurs twice in all the files. The words are in `words/`, the trees in `grammar.py`,
the two languages in `english.py` and `french.py`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from english import english, english_subject_and_verb
from french import finite_form, french, french_subject_and_verb
from grammar import DeadEndError, Derivation, Dice, Plan
from lexicon import Lexicon, read_lexicon
from phrases import Relative, Sentence

SEED = 20240229
TRAIN_PAIRS, DEV_PAIRS, TEST_PAIRS = 30_000, 1_000, 1_000
AGREEMENT_DISTRACTORS, AGREEMENT_SENTENCES = range(5), 200
NUMBER_INTERVENING, NUMBER_SENTENCES = range(5), 200
MAX_WORDS = 26
MIN_TRAIN_COUNT = 12
INTERVENING = {0: 52.0, 1: 21.0, 2: 13.0, 3: 8.0, 4: 6.0}

# Kept out of every file, so that whoever types them sees a translation of something never seen.
HELD_OUT = (
    "the cat, which already ate the fish, was full",
    "the cats, which already ate the fish, were full",
)


@dataclass(frozen=True)
class Pair:
    """A derivation with its two sides."""

    sentence: Sentence
    english: str
    french: str

    def words(self) -> list[str]:
        """The words of both sides, each marked with its language."""
        return [f"en {word}" for word in split(self.english)] + [f"fr {word}" for word in split(self.french)]


def split(text: str) -> list[str]:
    """The words of a sentence, an elided one ("l'") apart from the next; no commas."""
    return text.replace(",", "").replace("'", "' ").split()


class Corpus:
    """Draws pairs, none of whose sides was drawn before."""

    def __init__(self, lexicon: Lexicon, seed: int) -> None:
        self._lexicon = lexicon
        self._dice = Dice(seed)
        self._seen = set(HELD_OUT)

    def plan(self) -> Plan:
        """The plan of an ordinary sentence: mostly few nouns before the verb, often of the other number."""
        dice = self._dice
        return Plan(
            intervening=dice.weighted(INTERVENING),
            opposite=dice.chance(0.6),
            hidden_number=False,
            plural=dice.chance(0.5),
        )

    def draw(self, count: int, accept: Callable[[Pair], bool] = bool, plan: Plan | None = None) -> list[Pair]:
        """So many new pairs that `accept` takes, to the plan or each to a plan of its own."""
        pairs: list[Pair] = []
        while len(pairs) < count:
            try:
                sentence = Derivation(self._lexicon, self._dice, plan or self.plan()).sentence()
            except DeadEndError:
                continue
            pair = Pair(sentence, english(sentence), french(sentence))
            length = max(len(pair.english.split()), len(pair.french.split()))
            if length <= MAX_WORDS and not {pair.english, pair.french} & self._seen and accept(pair):
                self._seen |= {pair.english, pair.french}
                pairs.append(pair)
        return pairs


def verb_forms(sentence: Sentence) -> tuple[str, str]:
    """The right and the wrong form of the main French verb."""
    predicate, plural = sentence.clause.predicate, sentence.clause.subject.plural
    right, wrong = (finite_form(predicate.verb, predicate.tense, number) for number in (plural, not plural))
    return right, wrong


def shows_agreement(pair: Pair) -> bool:
    """Whether the verb's form can be told from the French words: the right one is there once, the wrong one never."""
    words = split(pair.french)
    right, wrong = verb_forms(pair.sentence)
    return words.count(right) == 1 and wrong not in words and not pair.sentence.clause.predicate.negation


def repeats_number(sentence: Sentence) -> bool:
    """Whether a relative clause shows the subject's number again before the main verb: "the cats that are old"."""
    relative = sentence.clause.subject.modifier
    if not isinstance(relative, Relative) or relative.subject:
        return False
    tense = relative.predicate.tense
    return tense == "present" or (tense == "past" and relative.predicate.verb.base == "be")


def number_row(pair: Pair) -> str:
    """A line of `number.tsv`."""
    sentence = pair.sentence
    columns = ["plural" if sentence.clause.subject.plural else "singular"]
    for (noun, verb), text in (
        (english_subject_and_verb(sentence), pair.english),
        (french_subject_and_verb(sentence), pair.french),
    ):
        columns += [str(noun), str(verb - 1), text]
    return "\t".join(columns)


def make(output: Path) -> None:
    """Writes all the files into the folder."""
    corpus = Corpus(read_lexicon(), SEED)
    train = corpus.draw(TRAIN_PAIRS)
    counts = Counter(word for pair in train for word in pair.words())

    def is_covered(pair: Pair) -> bool:
        return all(counts[word] >= MIN_TRAIN_COUNT for word in pair.words())

    def is_agreement(pair: Pair) -> bool:
        return is_covered(pair) and shows_agreement(pair)

    def is_number(pair: Pair) -> bool:
        return is_covered(pair) and not repeats_number(pair.sentence)

    output.mkdir(parents=True, exist_ok=True)
    write_pairs(output, "train", train)
    write_pairs(output, "dev", corpus.draw(DEV_PAIRS, is_covered))
    write_pairs(output, "test", corpus.draw(TEST_PAIRS, is_covered))
    rows = []
    for distractors in AGREEMENT_DISTRACTORS:
        pairs = draw_both_numbers(corpus, AGREEMENT_SENTENCES, is_agreement, distractors, opposite=True, hidden=True)
        rows += ["\t".join((str(distractors), pair.english, pair.french, *verb_forms(pair.sentence))) for pair in pairs]
    write_lines(output / "agreement.tsv", rows)
    rows = []
    for intervening in NUMBER_INTERVENING:
        # Were they all of the other number, whatever holds the number of the last noun would tell the subject's too.
        pairs = draw_both_numbers(corpus, NUMBER_SENTENCES, is_number, intervening, opposite=False, hidden=False)
        rows += [number_row(pair) for pair in pairs]
    write_lines(output / "number.tsv", rows)


def draw_both_numbers(
    corpus: Corpus, count: int, accept: Callable[[Pair], bool], intervening: int, *, opposite: bool, hidden: bool
) -> list[Pair]:
    """So many new pairs to a plan, singular and plural subjects by turns."""
    halves = [
        corpus.draw(count // 2, accept, Plan(intervening, opposite=opposite, hidden_number=hidden, plural=plural))
        for plural in (False, True)
    ]
    return [pair for both in zip(*halves, strict=True) for pair in both]


def write_pairs(output: Path, name: str, pairs: list[Pair]) -> None:
    write_lines(output / f"{name}.en", [pair.english for pair in pairs])
    write_lines(output / f"{name}.fr", [pair.french for pair in pairs])


def write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the English-French corpus of the grammar in this folder.")
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parent, help="folder to write to")
    make(parser.parse_args().output)
