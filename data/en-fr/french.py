"""Reads the French side of a derivation: agreement while the tree is read, then contraction and elision."""

from __future__ import annotations

from english import COMMA, Word, spread
from lexicon import Adjective, Verb
from phrases import Clause, NounPhrase, Predicate, PrepositionalPhrase, Relative, Sentence

VOWELS = "aeiouhàâéèêëîïôûùœ"
ASPIRATED = ("hamster", "haricot", "haut", "héros", "hibou")
ELIDED = {"le": "l'", "la": "l'", "de": "d'", "ne": "n'", "que": "qu'"}
CONTRACTED = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}

AVOIR = {False: "a", True: "ont"}
ETRE = {False: "est", True: "sont"}

# Masculine, masculine (or feminine) before a vowel, feminine, plural.
DETERMINERS = {
    "the": ("le", "le", "la", "les"),
    "a": ("un", "un", "une", ""),
    "this": ("ce", "cet", "cette", ""),
    "these": ("", "", "", "ces"),
    "my": ("mon", "mon", "ma", "mes"),
    "our": ("notre", "notre", "notre", "nos"),
    "his": ("son", "son", "sa", "ses"),
    "her": ("son", "son", "sa", "ses"),
    "their": ("leur", "leur", "leur", "leurs"),
    "two": ("", "", "", "deux"),
    "three": ("", "", "", "trois"),
    "several": ("", "", "", "plusieurs"),
    "many": ("", "", "", "beaucoup de"),
}
POSSESSIVES_BEFORE_VOWEL = ("my", "his", "her")
CONJUNCTIONS = {"because": "parce que", "but": "mais"}
NEGATIONS = {"not": "pas", "never": "jamais"}


def french(sentence: Sentence) -> str:
    """The French sentence."""
    text = " ".join(word.text for word in french_words(sentence))
    return text.replace("' ", "'").replace(" ,", ",")


def french_words(sentence: Sentence) -> list[Word]:
    """The French words with their parts of speech; "du" and the like count as prepositions."""
    words = [*spread(sentence.time.french, "adverb"), COMMA] if sentence.time else []
    words += _clause(sentence.clause)
    if sentence.second:
        words += spread(CONJUNCTIONS[sentence.conjunction], "conjunction") + _clause(sentence.second)
    return _elide(_contract(words))


def french_subject_and_verb(sentence: Sentence) -> tuple[int, int]:
    """Numbers, from 0, of two words of the sentence split at its spaces: the main subject's noun, and the main verb.

    Of a verb with an auxiliary it is the auxiliary, the word that shows the number.
    """
    words = french_words(sentence)
    time = [*spread(sentence.time.french, "adverb"), COMMA] if sentence.time else []
    after_subject = len(_contract(time + _noun_phrase(sentence.clause.subject)))
    noun = next(place for place in range(len(time), after_subject) if words[place].part == "noun")
    verb = next(place for place in range(after_subject, len(words)) if words[place].part in ("verb", "auxiliary"))
    # An elided word and the next are one.
    is_whole = [word != COMMA and not word.text.endswith("'") for word in words]
    return sum(is_whole[:noun]), sum(is_whole[:verb])


def finite_form(verb: Verb, tense: str, plural: bool) -> str:
    """The one form that agrees with the subject: the verb's own, or that of its auxiliary."""
    if tense == "present":
        return verb.present_plural if plural else verb.present
    if tense == "future":
        return verb.future + ("ont" if plural else "a")
    if verb.past_kind == "imparfait":
        return verb.past_form + ("aient" if plural else "ait")
    return (AVOIR if verb.past_kind == "avoir" else ETRE)[plural]


def starts_with_vowel(word: str) -> bool:
    """Whether words elide before this one: it starts with a vowel or a mute h."""
    return word[0] in VOWELS and not word.startswith(ASPIRATED)


def _contract(words: list[Word]) -> list[Word]:
    """de + le = du and the like, unless the article elides: de + l'."""
    contracted: list[Word] = []
    for word, follower in zip(words, [*words[1:], COMMA], strict=True):
        pair = (contracted[-1].text, word.text) if contracted else ("", "")
        article_stays = word.text == "les" or not starts_with_vowel(follower.text)
        if pair in CONTRACTED and article_stays:
            contracted[-1] = Word(CONTRACTED[pair], "preposition")
        else:
            contracted.append(word)
    return contracted


def _elide(words: list[Word]) -> list[Word]:
    """le + homme = l'homme and the like."""
    return [
        Word(ELIDED[word.text], word.part) if word.text in ELIDED and starts_with_vowel(follower.text) else word
        for word, follower in zip(words, [*words[1:], COMMA], strict=True)
    ]


def _clause(clause: Clause) -> list[Word]:
    words = _noun_phrase(clause.subject) + _predicate(clause.predicate, clause.subject)
    if clause.reported:
        words += [Word("que", "conjunction"), *_clause(clause.reported)]
    return words


def _noun_phrase(phrase: NounPhrase, *, negated: bool = False) -> list[Word]:
    """Determiner, adjective and noun in French order; `negated` is the object of a negated verb."""
    noun = Word(phrase.noun.pluriel if phrase.plural else phrase.noun.singulier, "noun")
    group, adjective = [noun], phrase.adjective
    if adjective and adjective.position == "before":
        before_vowel = starts_with_vowel(noun.text)
        group = [Word(agree_adjective(adjective, phrase, before_vowel=before_vowel), "adjective"), noun]
    elif adjective:
        group = [noun, Word(agree_adjective(adjective, phrase), "adjective")]
    determiner = _determiner(phrase, group, negated=negated)
    words = spread(determiner, "determiner") + group
    if isinstance(phrase.modifier, PrepositionalPhrase):
        words += _prepositional_phrase(phrase.modifier)
    elif phrase.modifier:
        words += _relative(phrase.modifier, phrase)
    return words


def _determiner(phrase: NounPhrase, group: list[Word], *, negated: bool) -> str:
    """The determiner before the words of the group, as separate as "de la" and "beaucoup de" are."""
    name, is_feminine = phrase.determiner, phrase.noun.gender == "f"
    if name == "any" or (name == "a" and negated):
        return "de"
    if name == "some" and phrase.plural:
        return "de" if group[0].part == "adjective" else "des"
    if name == "some":
        return "de la" if is_feminine else "de le"
    masculine, before_vowel, feminine, plural = DETERMINERS[name]
    if phrase.plural:
        return plural
    if starts_with_vowel(group[0].text) and (not is_feminine or name in POSSESSIVES_BEFORE_VOWEL):
        return before_vowel
    return feminine if is_feminine else masculine


def agree_adjective(adjective: Adjective, phrase: NounPhrase, *, before_vowel: bool = False) -> str:
    """The adjective's form for the gender and number of the noun ("vieil" where a vowel follows)."""
    if phrase.noun.gender == "f":
        return adjective.feminine_plural if phrase.plural else adjective.feminine
    if phrase.plural:
        return adjective.masculine_plural
    return adjective.before_vowel if before_vowel else adjective.masculine


def agree_participle(participle: str, phrase: NounPhrase) -> str:
    """The participle's form for the gender and number of the noun."""
    form = participle + ("e" if phrase.noun.gender == "f" else "")
    return form + ("s" if phrase.plural and not form.endswith("s") else "")


def _prepositional_phrase(phrase: PrepositionalPhrase) -> list[Word]:
    return spread(phrase.preposition.french, "preposition") + _noun_phrase(phrase.object)


def _relative(relative: Relative, head: NounPhrase) -> list[Word]:
    if relative.subject:
        clause = _noun_phrase(relative.subject)
        clause += _predicate(relative.predicate, relative.subject, object_before=head)
        words = [Word("que", "pronoun"), *clause]
    else:
        words = [Word("qui", "pronoun"), *_predicate(relative.predicate, head)]
    return [COMMA, *words, COMMA] if relative.comma else words


def _predicate(predicate: Predicate, subject: NounPhrase, *, object_before: NounPhrase | None = None) -> list[Word]:
    """The verb group and its complements; with avoir, the participle agrees with an object before it."""
    verb = predicate.verb
    words = _verb_group(predicate, subject, object_before)
    if predicate.degree:
        words.append(Word(predicate.degree.french, "adverb"))
    if predicate.adjective:
        words.append(Word(agree_adjective(predicate.adjective, subject), "adjective"))
    if predicate.object:
        is_direct = verb.link == "object"
        words += [] if is_direct else [Word(verb.link, "preposition")]
        words += _noun_phrase(predicate.object, negated=is_direct and bool(predicate.negation))
    if predicate.recipient:
        words += [Word("à", "preposition"), *_noun_phrase(predicate.recipient)]
    if predicate.infinitive:
        words += spread(verb.link.removeprefix("infinitive"), "preposition")
        words += _predicate(predicate.infinitive, subject)
    if predicate.place:
        words += _prepositional_phrase(predicate.place)
    return words


def _verb_group(predicate: Predicate, subject: NounPhrase, object_before: NounPhrase | None) -> list[Word]:
    """ne, the finite verb, then pas, the adverb and the participle."""
    verb, tense = predicate.verb, predicate.tense
    after = [Word(NEGATIONS[predicate.negation], "negation")] if predicate.negation else []
    after += [Word(predicate.adverb.french, "adverb")] if predicate.adverb else []
    if tense == "infinitive":
        return [Word(verb.infinitive, "verb"), *after]
    is_compound = tense == "past" and verb.past_kind != "imparfait"
    finite = Word(finite_form(verb, tense, subject.plural), "auxiliary" if is_compound else "verb")
    words = [Word("ne", "negation"), finite] if predicate.negation else [finite]
    if not is_compound:
        return words + after
    agrees_with = subject if verb.past_kind == "être" else object_before
    participle = agree_participle(verb.past_form, agrees_with) if agrees_with else verb.past_form
    participle_word = Word(participle, "verb")
    goes_last = predicate.adverb is not None and predicate.adverb.kind == "manner" and not verb.link
    return [*words, participle_word, *after] if goes_last else [*words, *after, participle_word]
