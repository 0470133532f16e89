"""A derivation of the English-French grammar: a small tree, from which either language is read.

Labels can be read from it too: the number of the main subject, the nouns that stand before its verb, and with
`english_words` and `french_words` the part of speech of every word.
"""

from __future__ import annotations

from dataclasses import dataclass

from lexicon import Adjective, Adverb, Noun, Preposition, Verb


@dataclass(frozen=True)
class NounPhrase:
    """A noun with what belongs to it, such as "the old friend of the queen"."""

    determiner: str
    adjective: Adjective | None
    noun: Noun
    plural: bool
    modifier: PrepositionalPhrase | Relative | None = None

    def nouns(self) -> list[NounPhrase]:
        """This phrase and those inside it, in their order in the sentence."""
        return [self] + (self.modifier.nouns() if self.modifier else [])


@dataclass(frozen=True)
class PrepositionalPhrase:
    """A preposition and its noun phrase."""

    preposition: Preposition
    object: NounPhrase

    def nouns(self) -> list[NounPhrase]:
        return self.object.nouns()


@dataclass(frozen=True)
class Predicate:
    """All of a clause but its subject. Of the complements, those that the verb takes are filled."""

    verb: Verb
    tense: str
    negation: str = ""
    adverb: Adverb | None = None
    object: NounPhrase | None = None
    recipient: NounPhrase | None = None
    adjective: Adjective | None = None
    degree: Adverb | None = None
    infinitive: Predicate | None = None
    place: PrepositionalPhrase | None = None

    def nouns(self) -> list[NounPhrase]:
        parts = (self.object, self.recipient, self.infinitive, self.place)
        return [phrase for part in parts if part for phrase in part.nouns()]


@dataclass(frozen=True)
class Relative:
    """A relative clause. With a subject of its own, the noun before the clause is its object: "that the girl saw"."""

    comma: bool
    subject: NounPhrase | None
    predicate: Predicate

    def nouns(self) -> list[NounPhrase]:
        return (self.subject.nouns() if self.subject else []) + self.predicate.nouns()


@dataclass(frozen=True)
class Clause:
    """A subject and its predicate; `reported` is the clause after "says that"."""

    subject: NounPhrase
    predicate: Predicate
    reported: Clause | None = None


@dataclass(frozen=True)
class Sentence:
    """A clause, perhaps after an adverb of time, perhaps with a second clause after a conjunction."""

    clause: Clause
    time: Adverb | None = None
    conjunction: str = ""
    second: Clause | None = None

    def intervening(self) -> list[NounPhrase]:
        """The noun phrases between the main subject and its verb."""
        return self.clause.subject.nouns()[1:]

    def distractors(self) -> int:
        """How many nouns between the main subject and its verb have the other number."""
        return sum(phrase.plural != self.clause.subject.plural for phrase in self.intervening())
