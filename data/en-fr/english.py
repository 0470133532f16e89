"""Reads the English side of a derivation: words with their parts of speech, and the sentence."""

from __future__ import annotations

from dataclasses import dataclass

from phrases import Clause, NounPhrase, Predicate, PrepositionalPhrase, Relative, Sentence


@dataclass(frozen=True)
class Word:
    """A word of either side with its part of speech."""

    text: str
    part: str


COMMA = Word(",", "punctuation")
BE = {("present", False): "is", ("present", True): "are", ("past", False): "was", ("past", True): "were"}


def english(sentence: Sentence) -> str:
    """The English sentence."""
    return " ".join(word.text for word in english_words(sentence)).replace(" ,", ",")


def english_words(sentence: Sentence) -> list[Word]:
    """The English words with their parts of speech, "a" become "an" before a vowel."""
    words = [*spread(sentence.time.english, "adverb"), COMMA] if sentence.time else []
    words += _clause(sentence.clause)
    if sentence.second:
        words += [Word(sentence.conjunction, "conjunction"), *_clause(sentence.second)]
    followers = [*words[1:], COMMA]
    return [
        Word("an", word.part) if word.text == "a" and follower.text[0] in "aeiou" else word
        for word, follower in zip(words, followers, strict=True)
    ]


def english_subject_and_verb(sentence: Sentence) -> tuple[int, int]:
    """Numbers, from 0, of two words of the sentence split at its spaces: the main subject's noun, and the main verb.

    Of a verb with an auxiliary it is the auxiliary, the word that can show the number.
    """
    words, subject = english_words(sentence), sentence.clause.subject
    start = len(spread(sentence.time.english, "adverb")) + 1 if sentence.time else 0
    noun = start + (2 if subject.adjective else 1)
    after_subject = start + len(_noun_phrase(subject))
    verb = next(place for place in range(after_subject, len(words)) if words[place].part in ("verb", "auxiliary"))
    return noun - words[:noun].count(COMMA), verb - words[:verb].count(COMMA)


def spread(text: str, part: str) -> list[Word]:
    """One Word for each word of a fixed group such as "in front of"."""
    return [Word(word, part) for word in text.split()]


def _clause(clause: Clause) -> list[Word]:
    words = _noun_phrase(clause.subject) + _predicate(clause.predicate, clause.subject.plural)
    if clause.reported:
        words += [Word("that", "conjunction"), *_clause(clause.reported)]
    return words


def _noun_phrase(phrase: NounPhrase) -> list[Word]:
    words = [Word(phrase.determiner, "determiner")]
    if phrase.adjective:
        words.append(Word(phrase.adjective.english, "adjective"))
    words.append(Word(phrase.noun.plural if phrase.plural else phrase.noun.singular, "noun"))
    if isinstance(phrase.modifier, PrepositionalPhrase):
        words += _prepositional_phrase(phrase.modifier)
    elif phrase.modifier:
        words += _relative(phrase.modifier, phrase)
    return words


def _prepositional_phrase(phrase: PrepositionalPhrase) -> list[Word]:
    return spread(phrase.preposition.english, "preposition") + _noun_phrase(phrase.object)


def _relative(relative: Relative, head: NounPhrase) -> list[Word]:
    is_person = "person" in head.noun.classes
    if relative.subject:
        pronoun = ("whom" if is_person else "which") if relative.comma else "that"
        clause = _noun_phrase(relative.subject) + _predicate(relative.predicate, relative.subject.plural)
    else:
        pronoun = "who" if is_person else "which" if relative.comma else "that"
        clause = _predicate(relative.predicate, head.plural)
    words = [Word(pronoun, "pronoun"), *clause]
    return [COMMA, *words, COMMA] if relative.comma else words


def _predicate(predicate: Predicate, plural: bool) -> list[Word]:
    """The verb group and its complements; an adverb of manner follows a verb that has no object."""
    verb, adverb = predicate.verb, predicate.adverb
    comes_after = adverb is not None and adverb.kind == "manner" and not verb.link
    before = [] if adverb is None or comes_after else [Word(adverb.english, "adverb")]
    words = _verb_group(predicate, plural, before)
    words += [Word(adverb.english, "adverb")] if adverb and comes_after else []
    words += [Word(verb.particle, "particle")] if verb.particle else []
    if predicate.degree:
        words.append(Word(predicate.degree.english, "adverb"))
    if predicate.adjective:
        words.append(Word(predicate.adjective.english, "adjective"))
    if predicate.object:
        words += _noun_phrase(predicate.object)
    if predicate.recipient:
        words += [Word("to", "preposition"), *_noun_phrase(predicate.recipient)]
    if predicate.infinitive:
        words += _predicate(predicate.infinitive, plural)
    if predicate.place:
        words += _prepositional_phrase(predicate.place)
    return words


def _verb_group(predicate: Predicate, plural: bool, adverb: list[Word]) -> list[Word]:
    """The verb with its auxiliary, negation and the adverb at its place among them."""
    verb, tense = predicate.verb, predicate.tense
    is_negated = predicate.negation == "not"
    middle = [Word(predicate.negation, "negation")] if predicate.negation else []
    middle += adverb
    base = Word(verb.base, "verb")
    if tense == "infinitive":
        return [*middle, base]
    if tense == "future":
        return [Word("will", "auxiliary"), *middle, base]
    if verb.base == "be":
        return [Word(BE[tense, plural], "verb"), *middle]
    if is_negated:
        auxiliary = "did" if tense == "past" else "do" if plural else "does"
        return [Word(auxiliary, "auxiliary"), *middle, base]
    present = verb.base if plural else verb.third
    return [*middle, Word(verb.past if tense == "past" else present, "verb")]
