"""A language of random tables: what comes next depends on the sentence and on everything before."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

PAD, UNKNOWN, START, END = 0, 1, 2, 3
CODES = 61


class TableLanguage:
    """Random logits for every sentence and every history, for TensorFlow and, on its own, for NumPy.

    The history is a code that every token changes, carried as the decoder's state: a state that is taken from
    a wrong row gives wrong logits from then on. The attention weights are rows of a random table, too.
    """

    def __init__(self, sentences: int, vocabulary: int, seed: int, scale: float = 1.5, source_steps: int = 3):
        random = np.random.default_rng(seed)
        self.sentences, self.vocabulary = sentences, vocabulary
        self.logits = random.normal(scale=scale, size=(sentences, CODES, vocabulary)).astype(np.float32)
        self.attention = random.random((sentences, CODES, source_steps)).astype(np.float32)

    @staticmethod
    def next_code(code, token):
        return (code * 7 + token * 5 + 1) % CODES

    def log_probs(self, sentence, tokens):
        """The log-probabilities of the next token after START and these tokens, in float64."""
        logits = self.logits[sentence, self.code(tokens)].astype(np.float64)
        return logits - np.log(np.sum(np.exp(logits)))

    def code(self, tokens):
        code = 0
        for token in (START, *tokens):
            code = self.next_code(code, token)
        return code

    def attention_after(self, sentence, tokens):
        return self.attention[sentence, self.code(tokens)]

    def step(self, dtype=tf.float32):
        """The step function; sentences may leave the search when they are done, as they do with a real decoder."""
        return TableStep(tf.constant(self.logits, dtype), tf.constant(self.attention))

    def step_by_place(self):
        """The same, for all sentences in order, without a look at the sentence in the state."""
        return TableStep(tf.constant(self.logits), tf.constant(self.attention), tf.range(self.sentences))

    def state(self, sentences=None):
        sentences = range(self.sentences) if sentences is None else sentences
        sentences = tf.constant(list(sentences), tf.int32)
        return {"sentence": sentences, "history": (tf.zeros([len(sentences), 1], tf.int32),)}


class TableStep(NamedTuple):
    """A step function that lets sentences leave; `sentences` are those that are left, or None: the state knows."""

    logits: tf.Tensor
    attention: tf.Tensor
    sentences: tf.Tensor | None = None

    def __call__(self, token_ids, state):
        sentence, (code,) = state["sentence"], state["history"]
        code = TableLanguage.next_code(code, token_ids[:, tf.newaxis])
        here = sentence
        if self.sentences is not None:
            here = tf.repeat(self.sentences, tf.size(token_ids) // tf.size(self.sentences))
        places = tf.stack([here, code[:, 0]], axis=-1)
        state = {"sentence": sentence, "history": (code,)}
        return tf.gather_nd(self.logits, places), state, tf.gather_nd(self.attention, places)

    def for_sentences(self, sentences):
        return self if self.sentences is None else self._replace(sentences=tf.gather(self.sentences, sentences))


@pytest.fixture
def make_language():
    return TableLanguage
