"""Phrases in tokens: whether every spelling of a banned phrase is forbidden, and nothing else."""

import re

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.decoding.processors import BannedPhrases
from seq2seq.models.constraints import LexicalConstraints, PhraseVocabulary
from seq2seq.text.dataset import pad
from seq2seq.text.ids import START_ID
from seq2seq.text.tokenizer_training import train_tokenizer

TEXTS = [
    "der hund, die hunde. der hundehund!",
    "(hund) und der, hund und die katze",
    "katze? kater und hund-katze hunde",
]
PHRASES = ["hund", "der hund", "katze"]


def forbidden_by(vocabulary, phrases, *written):
    """Return the tokens that the automaton forbids after each of some lists of tokens."""
    spelled = [vocabulary._spell(phrase, "banned") for phrase in phrases]
    tables = vocabulary.banned_automata([spelled] * len(written))
    rule = BannedPhrases(
        *(tf.constant(tables[f"banned_{name}"]) for name in ("sources", "ids", "targets", "states")),
        tf.constant(vocabulary.begins_word),
    )
    state = rule.start(tf.constant(len(written)), tf.constant(20))
    read = pad([[START_ID, *tokens] for tokens in written])
    forbidden = [set() for _ in written]
    for step in range(read.shape[1]):
        log_probs = tf.zeros([len(written), len(vocabulary.begins_word)])
        allowed, state = rule(log_probs, tf.constant(read[:, step]), state, step)
        for row, tokens in enumerate(written):
            if len(tokens) == step:
                forbidden[row] = set(np.flatnonzero(np.isinf(allowed[row])).tolist())
    return forbidden


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_every_spelling_is_forbidden_and_nothing_else(kind):
    size = {"bpe": 45, "unigram": 33}.get(kind, 40)
    tokenizer = train_tokenizer(TEXTS * 20, TEXTS * 20, kind=kind, vocabulary_size=size)
    vocabulary = PhraseVocabulary(tokenizer.target)
    random, checked = np.random.default_rng(1), 0
    starts = [tokenizer.target.encode([text])[0][:-1] for text in (*TEXTS, "der hund", "hund", "hunde katze")]
    written = []
    for _ in range(110):
        # The start of a text or any tokens, so that phrases are near.
        tokens = list(starts[random.integers(len(starts))])
        tokens = tokens[: random.integers(len(tokens) + 1)]
        if random.random() < 0.3:
            tokens = random.integers(4, tokenizer.target.size, size=random.integers(0, 6)).tolist()
        written.append(tokens)
    for tokens, forbidden in zip(written, forbidden_by(vocabulary, PHRASES, *written), strict=True):
        before = tokenizer.target.decode([tokens])[0]
        if any(re.search(rf"(?<!\w){phrase}(?!\w)", before) for phrase in PHRASES):
            continue
        for token in range(4, tokenizer.target.size):
            text = tokenizer.target.decode([[*tokens, token]])[0]
            completes = any(re.search(rf"(?<!\w){phrase}(?!\w)", text) for phrase in PHRASES)
            assert (token in forbidden) == completes, (text, tokenizer.target.pieces([token]))
            checked += completes
    assert checked > 5


def test_a_script_without_spaces_has_no_longer_words():
    tokenizer = train_tokenizer(["我爱猫和狗"] * 9, ["我爱猫和狗"] * 9, kind="char", vocabulary_size=20)
    vocabulary = PhraseVocabulary(tokenizer.target)
    love = tokenizer.target.encode(["我爱"])[0][:-1]
    (cat,) = set(tokenizer.target.encode(["爱猫"])[0][:-1]) - set(love)
    assert forbidden_by(vocabulary, ["猫"], love) == [{cat}]


def test_what_is_wished_for_twice_counts_once():
    tokenizer = train_tokenizer(TEXTS, TEXTS, kind="char", vocabulary_size=40)
    constraints = PhraseVocabulary(tokenizer.target).encode(
        LexicalConstraints("", ("hund", "hund"), ("katze", "katze")), limit=6
    )
    assert len(constraints.required) == len(constraints.banned) == 1
