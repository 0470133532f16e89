"""The shipped English-French corpus: the files, the two languages, and the claim that English decides the French."""

import random
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "data" / "en-fr"
sys.path.insert(0, str(FOLDER))

from english import english, english_subject_and_verb, english_words  # noqa: E402
from french import AVOIR, ETRE, french, french_subject_and_verb, french_words  # noqa: E402
from grammar import POSSESSIVES, DeadEndError, Derivation, Dice  # noqa: E402
from lexicon import read_lexicon  # noqa: E402
from make import HELD_OUT, INTERVENING, MIN_TRAIN_COUNT, Corpus, Plan  # noqa: E402

LEXICON = read_lexicon()
PAIR_FILES = {"train": 30_000, "dev": 1_000, "test": 1_000}
ASPIRATED = "(?:hamster|haricot|haut|héros|hibou)"
VOWEL = f"(?!{ASPIRATED})[aeiouhâàéèêëîïôûœ]"

# English, French, number of distractors. Tenses; negation; elision, contraction and the aspirated h; determiners and
# partitives; place, agreement and forms of adjectives; relative clauses and their participles.
HAND_WRITTEN = [
    tuple(line.split(" | "))
    for line in """\
the cat, which already ate the fish, was full | le chat, qui a déjà mangé le poisson, était rassasié | 0
the cats, which already ate the fish, were full | les chats, qui ont déjà mangé le poisson, étaient rassasiés | 1
the queen knew the answer | la reine connaissait la réponse | 0
the girls drink the milk | les filles boivent le lait | 0
the sisters went to the hospital | les sœurs sont allées à l'hôpital | 0
the hens died | les poules sont mortes | 0
the thieves will die | les voleurs mourront | 0
the doctors are not happy | les médecins ne sont pas heureux | 0
the owls are next to the trees | les hiboux sont à côté des arbres | 0
the boys go to the market | les garçons vont au marché | 0
my wife buys some meat | mon épouse achète de la viande | 0
this hotel is large | cet hôtel est grand | 0
the women drink some water | les femmes boivent de l'eau | 0
many friends sing | beaucoup d'amis chantent | 0
these horses were loyal | ces chevaux étaient loyaux | 0
the apples were fresh | les pommes étaient fraîches | 0
tomorrow, my aunt will send a letter to the lawyer | demain, ma tante enverra une lettre à l'avocate | 0
the dancers became jealous | les danseuses sont devenues jalouses | 0
the horse does not see the wolf | le cheval ne voit pas le loup | 0
the children did not buy an orange | les enfants n'ont pas acheté d'orange | 0
the soldier will never eat any bread | le soldat ne mangera jamais de pain | 0
the man is near the hotel | l'homme est près de l'hôtel | 0
the hero is near the hamster | le héros est près du hamster | 0
the writer talks to the kings | l'écrivain parle aux rois | 0
the musician plays the guitar | le musicien joue de la guitare | 0
the engineer tries to open the box | l'ingénieur essaie d'ouvrir la boîte | 0
the judge thinks that an actress sleeps | le juge pense qu'une actrice dort | 0
the boy laughed because an actor danced | le garçon a ri parce qu'un acteur a dansé | 0
his clock was heavy | son horloge était lourde | 0
the nurse found some old keys | l'infirmière a trouvé de vieilles clés | 0
an old man bought a new computer | un vieil homme a acheté un nouvel ordinateur | 0
the beautiful bird follows the white geese | le bel oiseau suit les oies blanches | 0
the medieval castles are beautiful | les châteaux médiévaux sont beaux | 0
the brown mice are near the high towers | les souris marron sont près des hautes tours | 0
the poems that the student understood are sad | les poèmes que l'étudiant a compris sont tristes | 1
the letters that the king wrote are long | les lettres que le roi a écrites sont longues | 1
the teacher, whom the spies followed, will arrive | le professeur, que les espions ont suivi, arrivera | 1
the actresses who arrived love the cake | les actrices qui sont arrivées aiment le gâteau | 0
the door of the houses that the workers built is red | \
la porte des maisons que les ouvriers ont construites est rouge | 2
the friend of the girls near the lakes slept | l'ami des filles près des lacs a dormi | 2
the farmers in the field next to the lake patiently fed the cows | \
les fermiers dans le champ à côté du lac ont patiemment nourri les vaches | 2
""".splitlines()
]
FUNCTION_WORDS = {
    *("the", "a", "some", "any", "this", "these", "two", "three", "several", "many"),
    *("not", "never", "because", "but"),
}


class GuidedDice(Dice):
    """Dice that never choose a function word, nor a second clause, that a sentence has not: they find it sooner."""

    def __init__(self, words: set[str]) -> None:
        super().__init__(seed=1)
        excluded = (FUNCTION_WORDS | set(POSSESSIVES)) - words
        excluded |= {"plain", "time", "reported"} if {"because", "but"} & words else {"joined"}
        self._excluded = excluded - {"a"} if "an" in words else excluded

    def weighted(self, weights):
        return super().weighted({item: weight for item, weight in weights.items() if item not in self._excluded})


def derive(text: str, tries: int = 200_000):
    """Find the derivation of an English sentence by drawing from the words in it; None where there is none."""
    words = set(text.replace(",", "").split())
    lexicon, dice = LEXICON.restricted_to(words), GuidedDice(words)
    for _ in range(tries):
        plan = Plan(dice.weighted(INTERVENING), opposite=False, hidden_number=False, plural=dice.chance(0.5))
        try:
            sentence = Derivation(lexicon, dice, plan).sentence()
        except DeadEndError:
            continue
        if english(sentence) == text:
            return sentence
    return None


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[tuple[str, str]]]:
    return {name: list(zip(read_lines(f"{name}.en"), read_lines(f"{name}.fr"), strict=True)) for name in PAIR_FILES}


@pytest.fixture(scope="module")
def agreement() -> list[list[str]]:
    return [line.split("\t") for line in read_lines("agreement.tsv")]


@pytest.fixture(scope="module")
def number() -> list[list[str]]:
    return [line.split("\t") for line in read_lines("number.tsv")]


@pytest.fixture(scope="module")
def everything(pairs, agreement, number) -> list[tuple[str, str]]:
    everything = [pair for name in PAIR_FILES for pair in pairs[name]] + [(row[1], row[2]) for row in agreement]
    return everything + [(row[3], row[6]) for row in number]


def read_lines(name: str) -> list[str]:
    return (FOLDER / name).read_text(encoding="utf-8").splitlines()


def words_of(text: str) -> list[str]:
    return text.replace(",", "").replace("'", "' ").split()


def test_script_makes_the_committed_files(remade):
    made, different = remade(FOLDER / "make.py", FOLDER)
    pair_files = [f"{name}.{side}" for name in PAIR_FILES for side in ("en", "fr")]
    assert made == sorted([*pair_files, "agreement.tsv", "number.tsv"])
    assert different == []


def test_counts_and_size(pairs, agreement, number):
    assert {name: len(items) for name, items in pairs.items()} == PAIR_FILES
    assert Counter(row[0] for row in agreement) == {str(distractors): 200 for distractors in range(5)}
    assert Counter(label for label, *_ in number) == {"singular": 500, "plural": 500}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 5_000_000
    stems = {noun.singular for noun in LEXICON.nouns} | {item.english for item in LEXICON.adjectives}
    stems |= {verb.base for verb in LEXICON.verbs} | {item.english for item in LEXICON.prepositions}
    assert len(stems) >= 300


def test_no_sentence_of_either_side_is_there_twice(everything):
    sources, targets = zip(*everything, strict=True)
    assert len(set(sources)) == len(everything)
    assert len(set(targets)) == len(everything)
    assert not set(HELD_OUT) & set(sources)


def test_each_word_of_the_other_files_is_frequent_in_training(pairs, agreement, number):
    for side in (0, 1):
        counts = Counter(word for pair in pairs["train"] for word in words_of(pair[side]))
        others = [pair[side] for name in ("dev", "test") for pair in pairs[name]] + [row[1 + side] for row in agreement]
        others += [row[3 + 3 * side] for row in number]
        assert {word for text in others for word in words_of(text) if counts[word] < MIN_TRAIN_COUNT} == set()


def test_lengths(everything):
    lengths = [max(len(source.split()), len(target.split())) for source, target in everything]
    assert max(lengths) <= 26
    assert sum(4 <= length <= 20 for length in lengths) > 0.9 * len(lengths)


def test_english_decides_the_french_even_where_few_words_make_many_sentences():
    chosen = random.Random(0)
    for seed in range(12):
        lexicon = replace(
            LEXICON,
            nouns=tuple(chosen.sample(LEXICON.nouns, 8)),
            verbs=tuple(chosen.sample(LEXICON.verbs, 12)),
            adjectives=tuple(chosen.sample(LEXICON.adjectives, 4)),
        )
        corpus, translations = Corpus(lexicon, seed), {}
        dice = Dice(seed)
        for _ in range(3_000):
            try:
                sentence = Derivation(lexicon, dice, corpus.plan()).sentence()
            except DeadEndError:
                continue
            target = french(sentence)
            assert translations.setdefault(english(sentence), target) == target


@pytest.mark.parametrize(("source", "target", "distractors"), HAND_WRITTEN)
def test_hand_written_pairs_are_derived(source, target, distractors):
    sentence = derive(source)
    assert sentence is not None
    assert french(sentence) == target
    assert sentence.distractors() == int(distractors)


def test_wrong_english_is_not_derived():
    assert derive("the cat were full", tries=2_000) is None


@pytest.mark.parametrize(
    "mistake",
    [
        r"\b(?:de|à) les?\b",
        rf"\b(?:le|la|de|ne|que|ce|ma|sa) {VOWEL}",
        rf"(?:[ldn]|qu)'(?:[bcdfgjklmnpqrstvwxz]|{ASPIRATED})",
        rf"\b(?:un|le|ce|mon|son|notre|leur) (?:beau|vieux|nouveau) {VOWEL}",
        r"\b(?:un|le|ce|mon|son|notre|leur|du|au) (?:bel|vieil|nouvel) (?:[bcdfgjklmnpqrstvwxz]|hib|hé|ham|har)",
        r"\bde des\b|\b(\w+) \1\b|  |\.|[A-Z]",
        r"\b(?:les|des|aux|ces|mes|ses|nos|leurs|deux|trois|plusieurs) [^ ,]*(?<![sx])(?=[ ,]|$)",
    ],
)
def test_no_french_sentence_has_the_mistake(everything, mistake):
    assert [target for _, target in everything if re.search(mistake, target)] == []


@pytest.mark.parametrize(
    "mistake", [r"\ba [aeiou]", r"\ban [^aeiou]", r"\b(?:any|some) \w+s not\b|\b(\w+) \1\b|[A-Z.]"]
)
def test_no_english_sentence_has_the_mistake(everything, mistake):
    assert [source for source, _ in everything if re.search(mistake, source)] == []


NUMBER_OF_NOUN = {noun.singular: "singular" for noun in LEXICON.nouns}
NUMBER_OF_NOUN |= {noun.plural: "plural" for noun in LEXICON.nouns if noun.plural}
NUMBER_OF_VERB = {verb.base: "plural" for verb in LEXICON.verbs} | {verb.third: "singular" for verb in LEXICON.verbs}
NUMBER_OF_VERB |= {"is": "singular", "was": "singular", "does": "singular"}
NUMBER_OF_VERB |= {"are": "plural", "were": "plural", "do": "plural"}
SAME_IN_BOTH = {verb.past for verb in LEXICON.verbs} | {"will", "did"}
NUMBER_OF_FRENCH_VERB = {AVOIR[plural]: plural for plural in AVOIR} | {ETRE[plural]: plural for plural in ETRE}
for each in LEXICON.verbs:
    NUMBER_OF_FRENCH_VERB |= {each.present: False, each.present_plural: True}
    NUMBER_OF_FRENCH_VERB |= {each.future + "a": False, each.future + "ont": True}
    if each.past_kind == "imparfait":
        NUMBER_OF_FRENCH_VERB |= {each.past_form + "ait": False, each.past_form + "aient": True}


def bare_words(text: str) -> list[str]:
    """Split a text at its spaces, without commas and elided words before it."""
    return [re.sub(".*'", "", word.strip(",")) for word in text.split()]


def test_number_is_that_of_the_noun(number):
    singular = {noun.singulier for noun in LEXICON.nouns}
    plural = {noun.pluriel for noun in LEXICON.nouns if noun.plural}
    for label, subject, last, source, french_subject, french_last, target in number:
        words, french_words = bare_words(source), bare_words(target)
        assert 0 < int(subject) <= int(last) < len(words) - 1
        assert 0 <= int(french_subject) <= int(french_last) < len(french_words) - 1
        assert NUMBER_OF_NOUN[words[int(subject)]] == label
        assert not [word for word in words[: int(subject)] if word in NUMBER_OF_NOUN]
        assert french_words[int(french_subject)] in (plural if label == "plural" else singular)


def test_number_is_that_of_the_verb_after_the_last_word(number):
    shown = Counter()
    for label, _, last, source, _, french_last, target in number:
        verb = source.split()[int(last) + 1]
        if verb in NUMBER_OF_VERB:
            assert NUMBER_OF_VERB[verb] == label, source
            shown[label] += 1
        else:
            assert verb in SAME_IN_BOTH, source
        french_verb = bare_words(target)[int(french_last) + 1]
        assert NUMBER_OF_FRENCH_VERB[french_verb] == (label == "plural"), target
    assert min(shown["singular"], shown["plural"]) > 150


def test_number_shows_again_on_no_verb_before_the_main_verb(number):
    """A verb that agrees with the subject stands between it and the next noun, after its pronoun."""
    for _, subject, last, source, *_ in number:
        words = bare_words(source)[int(subject) + 1 : int(last) + 1]
        nouns = [place for place, word in enumerate(words) if word in NUMBER_OF_NOUN]
        words = words[: nouns[0]] if nouns else words
        if words and words[0] in ("who", "whom", "which", "that") and not {"will", "did"} & set(words):
            assert not NUMBER_OF_VERB.keys() & set(words), source


def test_number_of_the_nouns_between_does_not_tell_that_of_the_subject(number):
    counts, last_nouns = Counter(), []
    for label, subject, last, source, *_ in number:
        words = bare_words(source)[int(subject) + 1 : int(last) + 1]
        between = [NUMBER_OF_NOUN[word] for word in words if word in NUMBER_OF_NOUN]
        counts[label, len(between)] += 1
        last_nouns += [between[-1] == label] if between else []
    assert counts == {(label, nouns): 100 for label in ("singular", "plural") for nouns in range(5)}
    assert 0.45 < sum(last_nouns) / len(last_nouns) < 0.55


@pytest.mark.parametrize(
    ("source", "in_english", "in_french"),
    [
        ("the cat, which already ate the fish, was full", "cat, was", "chat, était"),
        ("tomorrow, my aunt will send a letter to the lawyer", "aunt will", "tante enverra"),
        ("the children did not buy an orange", "children did", "enfants n'ont"),
        ("the horse does not see the wolf", "horse does", "cheval voit"),
        ("the farmers in the field next to the lake patiently fed the cows", "farmers fed", "fermiers ont"),
        ("the friend of the girls near the lakes slept", "friend slept", "l'ami a"),
    ],
)
def test_subject_and_verb(source, in_english, in_french):
    sentence = derive(source)
    assert [source.split()[number] for number in english_subject_and_verb(sentence)] == in_english.split()
    assert [french(sentence).split()[number] for number in french_subject_and_verb(sentence)] == in_french.split()


def test_agreement_verb_form_is_told_from_the_words(agreement):
    for _, _, target, right, wrong in agreement:
        assert words_of(target).count(right) == 1
        assert wrong not in words_of(target)
    for distractors in range(5):
        rights = [row[3] for row in agreement if row[0] == str(distractors)]
        assert sum(right.endswith("nt") and right != "vient" for right in rights) == 100


def test_agreement_sentence_shows_the_number_on_the_subject_alone(agreement):
    singular_or_plural_verbs = {"is", "are", "was", "were", "does", "do"} | {verb.third for verb in LEXICON.verbs}
    bases = {verb.base for verb in LEXICON.verbs} - {adjective.english for adjective in LEXICON.adjectives}
    for _, source, *_ in agreement:
        words = words_of(source)
        assert not singular_or_plural_verbs & set(words), source
        assert words[0] in {"the", *POSSESSIVES}
        for position, word in enumerate(words):
            if word in bases:
                assert {"will", "to", "did"} & set(words[position - 3 : position]), source


def test_agreement_distractors_have_the_other_number(agreement):
    for distractors, source, _, right, _ in agreement:
        subject, *others = [NUMBER_OF_NOUN[word] for word in words_of(source) if word in NUMBER_OF_NOUN]
        assert subject == ("plural" if right.endswith("nt") else "singular")
        assert subject not in others[: int(distractors)], source


def test_training_has_every_number_of_distractors():
    corpus = Corpus(LEXICON, seed=5)
    counts = Counter(pair.sentence.distractors() for pair in corpus.draw(3_000))
    assert min(counts[distractors] for distractors in range(5)) > 60


def test_each_word_has_its_part_of_speech():
    sentence = derive("the man is near the hotel")
    parts = [
        " ".join(f"{word.text}/{word.part}" for word in words(sentence)) for words in (english_words, french_words)
    ]
    assert parts[0].startswith("the/determiner man/noun is/verb")
    assert parts[1] == "l'/determiner homme/noun est/verb près/preposition de/preposition l'/determiner hôtel/noun"
