"""A toy language of about forty words, for all tests that need text and a model of it."""

import random

import pytest

NOUNS = {
    "cat": "kato", "dog": "hundo", "bird": "birdo", "horse": "ĉevalo", "man": "viro", "girl": "knabino", "king": "reĝo",
}  # fmt: skip
ADJECTIVES = {"big": "granda", "red": "ruĝa", "old": "maljuna", "good": "bona", "wild": "sovaĝa"}
VERBS = {"sees": "vidas", "loves": "amas", "finds": "trovas", "hears": "aŭdas", "follows": "sekvas"}
ADVERBS = {"often": "ofte", "today": "hodiaŭ", "never": "neniam"}


def toy_sentences(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of a sentence and its translation, all different, in which the adjective changes its place."""
    draw = random.Random(seed)

    def noun_phrase() -> tuple[str, str]:
        noun, adjective = draw.choice(list(NOUNS)), draw.choice(list(ADJECTIVES))
        if draw.random() < 0.5:
            return f"the {noun}", f"la {NOUNS[noun]}"
        return f"the {adjective} {noun}", f"la {NOUNS[noun]} {ADJECTIVES[adjective]}"

    pairs: dict[str, str] = {}
    while len(pairs) < number:
        (subject, translated_subject), (thing, translated_thing) = noun_phrase(), noun_phrase()
        verb, adverb = draw.choice(list(VERBS)), draw.choice([None, *ADVERBS])
        source, target = f"{subject} {verb} {thing}", f"{translated_subject} {VERBS[verb]} {translated_thing}"
        if adverb:
            source, target = f"{source} {adverb}", f"{ADVERBS[adverb]} {target}"
        pairs[source] = target
    return list(pairs.items())


@pytest.fixture(scope="session")
def toy_pairs() -> list[tuple[str, str]]:
    return toy_sentences(200)


@pytest.fixture(scope="session")
def toy_tokenizer(toy_pairs):
    from seq2seq.text import train_tokenizer

    sources, targets = zip(*toy_pairs, strict=True)
    return train_tokenizer(sources, targets, kind="word", vocabulary_size=100)


@pytest.fixture(scope="session")
def toy_config():
    """Makes the configuration of a run small enough for tests, with changes by the full names of settings."""
    from seq2seq.config import Config

    def make(**changes) -> Config:
        settings = {
            "model": {"embedding_size": 16, "encoder": {"units": 16}, "decoder": {"units": 32}},
            "tokenizer": {"kind": "word", "vocabulary_size": 100},
            "training": {
                "precision": "float32", "batch_tokens": 512, "learning_rate": 0.02, "warmup_steps": 5, "epochs": 8,
            },
        }  # fmt: skip
        for key, value in changes.items():
            *sections, name = key.split("__")
            place = settings
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return Config.from_dict(settings)

    return make
