"""A synchronous English-French grammar: one tree, from which `english.py` and `french.py` each read their side.

Every choice is made in the tree, none while a side is read from it, and two trees with the same English have the same
French: English to French is a function. Three rules keep it so where English alone is ambiguous: a relative clause
belongs to the noun right before it, no verb is in the lexicon whose past equals its base ("put"), and no noun
whose plural equals its singular ("sheep").
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from lexicon import Adjective, Adverb, Classes, Lexicon, Noun, Verb
from phrases import Clause, NounPhrase, Predicate, PrepositionalPhrase, Relative, Sentence

Item = TypeVar("Item")

POSSESSIVES = ("my", "our", "his", "her", "their")
POSSESSED = ("relation", "animal", "thing", "furniture", "vehicle", "food", "drink", "text", "home", "idea")


@dataclass(frozen=True)
class Plan:
    """What is asked of one sentence.

    Args:
        intervening: How many nouns stand between the main subject and its verb.
        opposite: Whether all of them have the other number than the subject.
        hidden_number: Whether the subject's noun alone may show its number in English: no determiner and no verb.
        plural: Whether the main subject is plural.
    """

    intervening: int
    opposite: bool
    hidden_number: bool
    plural: bool


class DeadEndError(Exception):
    """No word fits where the derivation has come to: throw the dice again."""


class Dice:
    """Random choices from `random.random()` alone, whose values are the same on every platform and Python."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def one_of(self, items: Sequence[Item]) -> Item:
        if not items:
            raise DeadEndError
        return items[int(self._random.random() * len(items))]

    def weighted(self, weights: Mapping[Item, float]) -> Item:
        if not weights:
            raise DeadEndError
        # Not `sum`, which rounds differently from Python 3.12 on.
        reached = list(accumulate(weights.values()))
        point = self._random.random() * reached[-1] if reached else 0.0
        for item, bound in zip(weights, reached, strict=True):
            if point < bound:
                return item
        raise DeadEndError


@dataclass
class Derivation:
    """Derives one sentence. No noun, verb or adjective is used twice in it."""

    lexicon: Lexicon
    dice: Dice
    plan: Plan
    used: set[str] = field(default_factory=set)
    relatives: int = 0

    def sentence(self) -> Sentence:
        """Derives a sentence to the plan."""
        tenses = {"past": 5, "future": 4} if self.plan.hidden_number else {"present": 36, "past": 36, "future": 28}
        tense = self.dice.weighted(tenses)
        if self.plan.intervening > 1 or self.plan.hidden_number:
            return Sentence(self.clause(tense, self.plan))
        form = self.dice.weighted({"plain": 72, "time": 12, "reported": 8, "joined": 8})
        if form == "reported":
            return Sentence(self.reporting_clause())
        clause = self.clause(tense, self.plan)
        if form == "time" and not _lasts(clause.predicate):
            times = [item for item in self.lexicon.adverbs if item.kind == "time" and tense in item.tenses]
            return Sentence(clause, time=self.dice.one_of(times))
        if form == "joined":
            second = self.clause(tense, self.simple_plan())
            return Sentence(clause, conjunction=self.dice.one_of(("because", "but")), second=second)
        return Sentence(clause)

    def simple_plan(self) -> Plan:
        return Plan(intervening=0, opposite=False, hidden_number=False, plural=self.dice.chance(0.5))

    def reporting_clause(self) -> Clause:
        """A subject says, thinks, knows or believes that something is so.

        Only present and future: after a past, French would need the pluperfect.
        """
        verb = self.dice.one_of([verb for verb in self.lexicon.verbs if verb.link == "que"])
        subject = self.subject(self.noun(self.plan.plural, verb.subjects), self.plan)
        tense = self.dice.weighted({"present": 4, "future": 1})
        reported = self.clause(self.dice.weighted({"present": 1, "past": 1, "future": 1}), self.simple_plan())
        return Clause(subject, Predicate(verb, tense), reported)

    def clause(self, tense: str, plan: Plan) -> Clause:
        """Derives a clause from its verb: the verb says which subjects and complements fit."""
        kinds = {"action": 66, "adjective": 18, "place": 6, "infinitive": 10}
        kind = self.dice.weighted(kinds)
        hides = plan.hidden_number and tense == "past"
        if kind == "adjective":
            verb = self.copula(hides)
            adjective = self.dice.one_of(self.predicate_adjectives(verb))
            noun = self.noun(plan.plural, adjective.classes, verb.subjects)
            subject = self.subject(noun, plan)
            return Clause(subject, self.adjective_predicate(verb, adjective, tense))
        if kind == "place":
            verb = self.copula(hides, only_be=True)
            preposition = self.dice.one_of([item for item in self.lexicon.prepositions if item.use == "both"])
            noun = self.noun(plan.plural, preposition.heads)
            subject = self.subject(noun, plan)
            place = PrepositionalPhrase(preposition, self.noun_phrase(preposition.objects, "preposition"))
            return Clause(subject, Predicate(verb, tense, self.negation(), place=place))
        if kind == "infinitive":
            outer = self.new_verb([verb for verb in self.lexicon.verbs if verb.link.startswith("infinitive")])
            inner = self.new_verb([verb for verb in self.action_verbs() if verb.past_kind != "imparfait"])
            subject = self.subject(self.noun(plan.plural, outer.subjects, inner.subjects), plan)
            negation = self.negation()
            infinitive = self.action(inner, subject.noun, "infinitive", definite=bool(negation))
            return Clause(subject, Predicate(outer, tense, negation, infinitive=infinitive))
        verb = self.new_verb(self.action_verbs())
        subject = self.subject(self.noun(plan.plural, verb.subjects), plan)
        return Clause(subject, self.action(verb, subject.noun, tense))

    def copula(self, hides_number: bool, only_be: bool = False) -> Verb:
        """A verb before an adjective; the English past of "be" shows the number, that of the others hides it."""
        copulas = [verb for verb in self.lexicon.verbs if verb.link == "adjective"]
        if only_be or not (hides_number or self.dice.chance(0.25)):
            copulas = [verb for verb in copulas if verb.base == "be" and not hides_number]
        else:
            copulas = [verb for verb in copulas if verb.base != "be"]
        return self.dice.one_of(copulas)

    def predicate_adjectives(self, verb: Verb) -> list[Adjective]:
        """Adjectives that can follow the verb: what seems can pass, and what becomes comes by degrees."""
        adjectives = [item for item in self.lexicon.adjectives if item.english not in self.used]
        if verb.base != "be":
            adjectives = [item for item in adjectives if "state" in item.traits]
        if verb.base == "become":
            adjectives = [item for item in adjectives if "absolute" not in item.traits]
        return adjectives

    def adjective_predicate(self, verb: Verb, adjective: Adjective, tense: str) -> Predicate:
        self.used.add(adjective.english)
        negation, adverb, degree = self.negation(never="state" in adjective.traits), None, None
        if not negation and "state" in adjective.traits:
            adverb = self.frequency(verb, tense, probability=0.12)
        if not adverb and "absolute" not in adjective.traits and self.dice.chance(0.25):
            degree = self.dice.one_of([item for item in self.lexicon.adverbs if item.kind == "degree"])
        return Predicate(verb, tense, negation, adverb, adjective=adjective, degree=degree)

    def action_verbs(self) -> list[Verb]:
        links = ("", "object", "à", "de", "dans", "avec")
        return [verb for verb in self.lexicon.verbs if verb.link in links]

    def new_verb(self, verbs: Sequence[Verb]) -> Verb:
        verb = self.dice.one_of([verb for verb in verbs if verb.base not in self.used])
        self.used.add(verb.base)
        return verb

    def action(
        self,
        verb: Verb,
        subject: Noun,
        tense: str,
        *,
        definite: bool = False,
        nouns: int | None = None,
        plural: bool | None = None,
    ) -> Predicate:
        """Derives a verb with its adverbs and complements.

        Args:
            definite: Whether the object must be definite, as under a negation ("does not want to see the cat").
            nouns: How many nouns the predicate has; None leaves it to chance.
            plural: The number that these nouns must have; None leaves it to chance.
        """
        negation = "" if tense == "infinitive" else self.negation(never="once" not in verb.traits)
        adverb = None
        if not negation:
            adverb = self.manner(verb) or (self.frequency(verb, tense) if tense != "infinitive" else None)
        if not verb.link:
            wants_place = nouns == 1 or (nouns is None and "place" in verb.traits and self.dice.chance(0.5))
            place = self.place(subject, plural) if wants_place else None
            return Predicate(verb, tense, negation, adverb, place=place)
        to_someone = "recipient" in verb.traits
        inner = self.dice.weighted({0: 78, 1: 22}) if nouns is None else nouns - 1 - to_someone
        if definite or "definite" in verb.traits:
            role = "definite"
        elif verb.link != "object":
            role = "preposition"
        else:
            role = "negated" if negation else "object"
        first, second = (0, inner) if to_someone else (inner, 0)
        object_ = self.noun_phrase(verb.objects, role, inner=first, plural=plural)
        recipient = self.noun_phrase(("person",), "preposition", inner=second, plural=plural) if to_someone else None
        return Predicate(verb, tense, negation, adverb, object_, recipient)

    def negation(self, never: bool = True) -> str:
        return self.dice.weighted({"": 84, "not": 13, "never": 3 * never})

    def manner(self, verb: Verb) -> Adverb | None:
        if not verb.manner or not self.dice.chance(0.12):
            return None
        return self.dice.one_of([adverb for adverb in self.lexicon.adverbs if adverb.english in verb.manner])

    def frequency(self, verb: Verb, tense: str, probability: float = 0.14) -> Adverb | None:
        """An adverb such as "often"; what happens once takes none that counts, what lasts no "finally"."""
        if not self.dice.chance(probability):
            return None
        excluded = {"often", "always", "sometimes", "rarely"} if "once" in verb.traits else set()
        if verb.past_kind == "imparfait":
            excluded.add("finally")
        adverbs = [item for item in self.lexicon.adverbs if item.kind == "frequency" and tense in item.tenses]
        return self.dice.one_of([item for item in adverbs if item.english not in excluded])

    def place(self, subject: Noun, plural: bool | None) -> PrepositionalPhrase:
        """Where it happens; one is at a single, definite place."""
        prepositions = [item for item in self.lexicon.prepositions if item.use != "noun"]
        preposition = self.dice.one_of([item for item in prepositions if subject.is_one_of(item.heads)])
        if preposition.use == "both":
            return PrepositionalPhrase(preposition, self.noun_phrase(preposition.objects, "preposition", plural=plural))
        if plural:
            raise DeadEndError
        return PrepositionalPhrase(preposition, self.noun_phrase(preposition.objects, "definite", plural=False))

    def noun(self, plural: bool, *classes: Classes) -> Noun:
        """A noun not used yet that has the number and belongs to one of each of the classes."""
        fitting = self.lexicon.nouns_of(plural, *classes)
        noun = self.dice.one_of([noun for noun in fitting if noun.singular not in self.used])
        self.used.add(noun.singular)
        return noun

    def subject(self, noun: Noun, plan: Plan) -> NounPhrase:
        """The subject of a main clause: here the plan puts its nouns between subject and verb."""
        plural = (not plan.plural) if plan.opposite else None
        modifier = self.modifier(noun, plan.intervening, plural, outermost=True)
        role = "hidden" if plan.hidden_number else "subject"
        return self.dress(noun, plan.plural, role, modifier)

    def noun_phrase(self, classes: Classes, role: str, *, inner: int = 0, plural: bool | None = None) -> NounPhrase:
        """A noun of the classes with `inner` further nouns in what follows it."""
        own_plural = self.dice.chance(0.42) if plural is None else plural
        noun = self.noun(own_plural, classes)
        return self.dress(noun, own_plural, role, self.modifier(noun, inner, plural))

    def dress(self, noun: Noun, plural: bool, role: str, modifier: PrepositionalPhrase | Relative | None) -> NounPhrase:
        """Gives a noun its adjective and determiner."""
        adjective = None
        if self.dice.chance(0.22):
            fitting = [
                item
                for item in self.lexicon.adjectives
                if item.position != "predicate" and item.english not in self.used and noun.is_one_of(item.classes)
            ]
            if fitting:
                adjective = self.dice.one_of(fitting)
                self.used.add(adjective.english)
        determiner = self.dice.weighted(_determiners(noun, plural, role, modifier))
        if determiner == "possessive":
            determiner = self.dice.one_of(POSSESSIVES)
        return NounPhrase(determiner, adjective, noun, plural, modifier)

    def modifier(
        self, head: Noun, nouns: int, plural: bool | None, outermost: bool = False
    ) -> PrepositionalPhrase | Relative | None:
        """What follows a noun and has exactly `nouns` nouns: a prepositional phrase or a relative clause.

        Only the outermost noun takes a clause between commas.
        """
        if nouns == 0 and not (outermost and self.dice.chance(0.1)):
            return None
        acts = head.is_one_of(("person", "animal"))
        kinds = {"phrase": 40} if nouns > 0 else {}
        if self.relatives < 2:
            kinds |= {"subject relative": 30 if acts else 8}
            kinds |= {"object relative": 22 if acts else 52} if nouns in (1, 2) else {}
        kind = self.dice.weighted(kinds)
        if kind == "phrase":
            prepositions = [item for item in self.lexicon.prepositions if item.use != "verb"]
            preposition = self.dice.one_of([item for item in prepositions if head.is_one_of(item.heads)])
            inside = self.noun_phrase(preposition.objects, "preposition", inner=nouns - 1, plural=plural)
            return PrepositionalPhrase(preposition, inside)
        self.relatives += 1
        comma = outermost and self.dice.chance(0.5)
        if kind == "object relative":
            return self.object_relative(head, nouns, plural, comma)
        return self.subject_relative(head, nouns, plural, comma)

    def relative_tense(self, past: float = 70) -> str:
        others = {"future": 12} if self.plan.hidden_number else {"future": 12, "present": 20}
        return self.dice.weighted({"past": past} | others)

    def subject_relative(self, head: Noun, nouns: int, plural: bool | None, comma: bool) -> Relative:
        """A clause whose subject is the noun before it: "who bought the apples near the houses"."""
        tense = self.relative_tense()
        if nouns == 0 and not self.plan.hidden_number and self.dice.chance(0.4):
            be = self.copula(hides_number=False, only_be=True)
            adjectives = [item for item in self.predicate_adjectives(be) if head.is_one_of(item.classes)]
            return Relative(comma, None, self.adjective_predicate(be, self.dice.one_of(adjectives), tense))
        verb = self.new_verb(
            [verb for verb in self.action_verbs() if head.is_one_of(verb.subjects) and _can_tell(verb, nouns)]
        )
        return Relative(comma, None, self.action(verb, head, tense, nouns=nouns, plural=plural))

    def object_relative(self, head: Noun, nouns: int, plural: bool | None, comma: bool) -> Relative:
        """A clause whose object is the noun before it: "that the friends of the queen bought".

        The fewer objects a verb can have, the likelier it is here, or its participle would hardly ever agree.
        """
        verb = self.dice.weighted(
            {
                verb: 1 / len(self.lexicon.nouns_of(False, verb.objects))
                for verb in self.lexicon.verbs
                if "relative" in verb.traits and head.is_one_of(verb.objects) and verb.base not in self.used
            }
        )
        self.used.add(verb.base)
        own_plural = self.dice.chance(0.5) if plural is None else plural
        noun = self.noun(own_plural, verb.subjects)
        modifier = None
        if nouns == 2:
            prepositions = [item for item in self.lexicon.prepositions if item.use != "verb"]
            preposition = self.dice.one_of([item for item in prepositions if noun.is_one_of(item.heads)])
            inside = self.noun_phrase(preposition.objects, "preposition", plural=plural)
            modifier = PrepositionalPhrase(preposition, inside)
        subject = self.dress(noun, own_plural, "subject", modifier)
        return Relative(comma, subject, Predicate(verb, self.relative_tense(past=85)))


def _lasts(predicate: Predicate) -> bool:
    """Whether the predicate tells of something too lasting for "yesterday" or "today"."""
    if predicate.adjective:
        return "state" not in predicate.adjective.traits
    return predicate.verb.past_kind == "imparfait" and not predicate.place


def _can_tell(verb: Verb, nouns: int) -> bool:
    """Whether the verb can stand in a relative clause with exactly so many nouns; of who has died, no more is told."""
    if "once" in verb.traits:
        return False
    if not verb.link:
        return nouns == 0 or (nouns == 1 and "place" in verb.traits)
    return nouns >= (2 if "recipient" in verb.traits else 1)


def _determiners(
    noun: Noun, plural: bool, role: str, modifier: PrepositionalPhrase | Relative | None
) -> dict[str, float]:
    """The determiners, with weights, that fit a noun in its place.

    Under a negation, French has "de" for "a" and "any"; a relative clause after that would need the subjunctive, so
    such a noun has none.
    """
    is_restricted = isinstance(modifier, Relative) and not modifier.comma
    possessive = 12.0 * (noun.is_one_of(POSSESSED) and not is_restricted)
    definite = {"the": 50.0, "possessive": possessive, "these" if plural else "this": 7}
    if isinstance(modifier, PrepositionalPhrase) and modifier.preposition.english == "of":
        return {"the": 1}
    if role == "hidden":
        return {"the": 50, "possessive": possessive}
    if role == "definite" or (isinstance(modifier, Relative) and modifier.comma):
        return definite
    if not noun.plural:
        some = {"object": "some", "negated": "any"}.get(role)
        return definite | ({some: 45} if some and not modifier else {})
    if role == "negated":
        return definite | ({} if modifier else {"any" if plural else "a": 20})
    if not plural:
        return definite | {"a": 18}
    indefinite = {"two": 6.0, "three": 6.0}
    if role in ("subject", "object"):
        indefinite |= {"several": 5, "many": 5}
    if role == "object" and not modifier:
        indefinite |= {"some": 14}
    return definite | indefinite
