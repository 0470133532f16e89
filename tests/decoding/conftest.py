"""A language of random tables: what comes next depends on the sentence and on everything before."""

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
        logits, attention = tf.constant(self.logits, dtype), tf.constant(self.attention)

        def step(token_ids, state):
            sentence, (code,) = state["sentence"], state["history"]
            code = self.next_code(code, token_ids[:, tf.newaxis])
            places = tf.stack([sentence, code[:, 0]], axis=-1)
            return (
                tf.gather_nd(logits, places),
                {"sentence": sentence, "history": (code,)},
                tf.gather_nd(attention, places),
            )

        return step

    def state(self, sentences=None):
        sentences = range(self.sentences) if sentences is None else sentences
        sentences = tf.constant(list(sentences), tf.int32)
        return {"sentence": sentences, "history": (tf.zeros([len(sentences), 1], tf.int32),)}


@pytest.fixture
def make_language():
    return TableLanguage
