"""The words of the English-French grammar, as tables that a reader can check: one row a word, no form left to a rule
that has exceptions.

The tables lie in `words/`, tab-separated, `-` for nothing. A noun's classes say what it is; a verb lists the
classes of its subjects and objects, an adjective those of its nouns. The name of a noun is itself a class, so that
a row can also name single nouns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

WORDS_FOLDER = Path(__file__).resolve().parent / "words"

Classes = tuple[str, ...]


@dataclass(frozen=True)
class Noun:
    """A noun; without a plural it is a mass noun ("bread") and always singular."""

    singular: str
    plural: str
    singulier: str
    pluriel: str
    gender: str
    classes: Classes

    def is_one_of(self, classes: Classes) -> bool:
        return "any" in classes or self.singular in classes or any(name in classes for name in self.classes)


@dataclass(frozen=True)
class Adjective:
    """An adjective; `position` is where French puts it: before or after the noun, or only after "être"."""

    english: str
    masculine: str
    before_vowel: str
    feminine: str
    masculine_plural: str
    feminine_plural: str
    position: str
    classes: Classes
    traits: Classes


@dataclass(frozen=True)
class Verb:
    """A verb in one sense.

    `link` is what the verb takes in French: nothing, a direct `object`, a preposition and its object, `que` and a
    clause, an `adjective`, or an `infinitive`, perhaps with a preposition; `particle` is what English puts before it.
    `past_kind` is how French tells the English past: with `avoir` or `être` and the participle in `past_form`, or, for
    states, with the `imparfait` on the stem in `past_form`. `future` is the stem of the future.
    """

    base: str
    third: str
    past: str
    particle: str
    infinitive: str
    present: str
    present_plural: str
    past_kind: str
    past_form: str
    future: str
    subjects: Classes
    link: str
    objects: Classes
    manner: Classes
    traits: Classes


@dataclass(frozen=True)
class Adverb:
    """An adverb (or a group of words that serves as one); `kind` is frequency, manner, degree or time."""

    english: str
    french: str
    kind: str
    tenses: Classes


@dataclass(frozen=True)
class Preposition:
    """A preposition between two classes of nouns; `use` is after a noun, after a verb, or both."""

    english: str
    french: str
    heads: Classes
    objects: Classes
    use: str


@dataclass(frozen=True)
class Lexicon:
    """All the words that a grammar may use."""

    nouns: tuple[Noun, ...]
    adjectives: tuple[Adjective, ...]
    verbs: tuple[Verb, ...]
    adverbs: tuple[Adverb, ...]
    prepositions: tuple[Preposition, ...]
    _nouns_of: dict[tuple, list[Noun]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def nouns_of(self, plural: bool, *classes: Classes) -> list[Noun]:
        """The nouns that have the number and belong to one of each of the classes; looked up once and kept."""
        key = (plural, *classes)
        if key not in self._nouns_of:
            self._nouns_of[key] = [
                noun
                for noun in self.nouns
                if (noun.plural or not plural) and all(noun.is_one_of(names) for names in classes)
            ]
        return self._nouns_of[key]

    def restricted_to(self, words: set[str]) -> Lexicon:
        """Keeps what can be said with the given English words: a small lexicon in which a sentence is quickly found."""
        be_forms = {"is", "are", "was", "were"}
        return replace(
            self,
            nouns=tuple(noun for noun in self.nouns if {noun.singular, noun.plural} & words),
            adjectives=tuple(adjective for adjective in self.adjectives if adjective.english in words),
            verbs=tuple(
                verb
                for verb in self.verbs
                if ({verb.base, verb.third, verb.past} | (be_forms if verb.base == "be" else set())) & words
            ),
            adverbs=tuple(adverb for adverb in self.adverbs if set(adverb.english.split()) <= words),
            prepositions=tuple(item for item in self.prepositions if set(item.english.split()) <= words),
        )


def read_lexicon(folder: Path = WORDS_FOLDER) -> Lexicon:
    """Reads the tables and checks that each class a row names belongs to some noun."""
    lexicon = Lexicon(
        nouns=_read_table(folder / "nouns.tsv", Noun),
        adjectives=_read_table(folder / "adjectives.tsv", Adjective),
        verbs=_read_table(folder / "verbs.tsv", Verb),
        adverbs=_read_table(folder / "adverbs.tsv", Adverb),
        prepositions=_read_table(folder / "prepositions.tsv", Preposition),
    )
    known = {"any"} | {noun.singular for noun in lexicon.nouns}
    known |= {name for noun in lexicon.nouns for name in noun.classes}
    used = {name for adjective in lexicon.adjectives for name in adjective.classes}
    used |= {name for verb in lexicon.verbs for name in verb.subjects + verb.objects}
    used |= {name for item in lexicon.prepositions for name in item.heads + item.objects}
    if not used <= known:
        raise ValueError(f"every class must belong to a noun of nouns.tsv, but {sorted(used - known)} do not.")
    return lexicon


def _read_table(path: Path, kind: type) -> tuple:
    """Reads one table into its dataclass: the header gives the fields, a field of classes is split at its spaces."""
    header, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    if header != [field.name for field in fields(kind)]:
        raise ValueError(f"{path}:1: the columns must be those of {kind.__name__}, but are {header} instead.")
    are_classes = [field.type == "Classes" for field in fields(kind)]
    items = []
    for row in rows:
        values = ["" if cell == "-" else cell for cell in row]
        items.append(
            kind(*(tuple(value.split()) if many else value for value, many in zip(values, are_classes, strict=True)))
        )
    return tuple(items)
