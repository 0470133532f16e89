"""A language of random tables, and searches in plain Python over lists of tokens, written from the definitions."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.decoding.beam import BeamConfig, beam_search
from seq2seq.decoding.interface import SearchConfig
from seq2seq.decoding.sampling import greedy_search

PAD, UNKNOWN, START, END = 0, 1, 2, 3
IDS = {"start_id": START, "end_id": END}
SPECIAL = (PAD, START)
CODES = 61


class TableLanguage:
    """Random logits for every sentence and every history, for TensorFlow and, independently, for NumPy.

    The history is a code that every token changes, carried as the decoder's state: a state from a wrong row gives
    wrong logits from then on. The attention weights are rows of a random table, too.
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
        """Return the log-probabilities of the next token after START and these tokens, in float64."""
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
        """Return the step function, which can be restricted to some sentences, as a real decoder can."""
        return TableStep(tf.constant(self.logits, dtype), tf.constant(self.attention))

    def step_by_place(self):
        """Return a step function for all sentences in order that ignores the sentences in the state."""
        return TableStep(tf.constant(self.logits), tf.constant(self.attention), tf.range(self.sentences))

    def state(self, sentences=None):
        sentences = range(self.sentences) if sentences is None else sentences
        sentences = sentences if tf.is_tensor(sentences) else tf.constant(list(sentences), tf.int32)
        return {"sentence": sentences, "history": (tf.zeros([tf.size(sentences), 1], tf.int32),)}


class TableStep(NamedTuple):
    """A step function that can be restricted to some sentences; None: the state has them."""

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


def beam(language, max_steps, sentences=None, step=None, **options):
    """Run beam search, with the language's own step function if no other is given."""
    config = BeamConfig(max_steps=max_steps, **IDS, **options)
    return beam_search(step or language.step(), language.state(sentences), config)


def greedy(language, max_steps, step=None, **options):
    config = SearchConfig(max_steps=max_steps, **IDS | options)
    return greedy_search(step or language.step(), language.state(), config)


def minimum_length(least):
    def process(tokens, gains):
        if len(tokens) + 1 < least:
            gains[END] = -np.inf

    return process


def no_repeated_ngram(size):
    def process(tokens, gains):
        seen = {tokens[i : i + size] for i in range(len(tokens) - size + 1)}
        for token in range(len(gains)):
            if len(tokens) + 1 >= size and (*tokens, token)[-size:] in seen:
                gains[token] = -np.inf

    return process


def repetition_penalty(penalty):
    def process(tokens, gains):
        for token in set(tokens):
            gains[token] *= penalty

    return process


def banned_sequence(*sequence):
    def process(tokens, gains):
        if tokens[len(tokens) - len(sequence) + 1 :] == sequence[:-1] and len(tokens) >= len(sequence) - 1:
            gains[sequence[-1]] = -np.inf

    return process


def gains_after(language, sentence, tokens, banned=SPECIAL, processors=(), prefix=()):
    """Return what each next token adds to the sum by which hypotheses compete; minus infinity forbids it."""
    log_probs = language.log_probs(sentence, tokens)
    if len(tokens) < len(prefix):
        return np.where(np.arange(len(log_probs)) == prefix[len(tokens)], log_probs, -np.inf)
    gains = log_probs.copy()
    for process in processors:
        process(tokens, gains)
    gains[list(banned)] = -np.inf
    if np.all(gains == -np.inf):
        gains[END] = log_probs[END]
    return gains


def continued(language, sentence, hypotheses, **options):
    longer = []
    for tokens, total in hypotheses:
        gains = gains_after(language, sentence, tokens, **options)
        longer += [((*tokens, t), total + gains[t]) for t in range(language.vocabulary) if gains[t] > -np.inf]
    return longer


def enumerate_all(language, sentence, limit, **options):
    """List every hypothesis of a sentence with its sum: those that end, and those cut at the limit."""
    open_hypotheses, closed = [((), 0.0)], []
    for _ in range(limit):
        longer = continued(language, sentence, open_hypotheses, **options)
        closed += [item for item in longer if item[0][-1] == END]
        open_hypotheses = [item for item in longer if item[0][-1] != END]
    return closed + open_hypotheses


def search_plainly(language, sentence, limit, beam_size, groups=1, diversity=0.0, **options):
    """Run beam search with frozen finished hypotheses over lists, to the limit without an early stop."""
    size = beam_size // groups
    frozen, places = [[] for _ in range(groups)], [[((), 0.0)] for _ in range(groups)]
    for _ in range(limit):
        taken = []
        for group in range(groups):
            longer = continued(language, sentence, places[group], **options)
            longer.sort(key=lambda item: -(item[1] - diversity * taken.count(item[0][-1])))
            best = longer[: size - len(frozen[group])]
            taken += [tokens[-1] for tokens, _ in best]
            frozen[group] += [item for item in best if item[0][-1] == END]
            places[group] = [item for item in best if item[0][-1] != END]
    return [item for group in range(groups) for item in frozen[group] + places[group]]


def score_of(language, sentence, tokens, total, length=("none", 0.0), coverage=("none", 0.0), source_steps=3):
    """Score a complete hypothesis."""
    kind, alpha = length
    steps = max(len(tokens), 1)
    score = {
        "none": total,
        "average": total / steps**alpha,
        "wu": total / ((5 + steps) / 6) ** alpha,
        "reward": total + alpha * len(tokens),
    }[kind]
    kind, beta = coverage
    if kind == "none":
        return score
    received = sum(language.attention_after(sentence, tokens[:i]) for i in range(len(tokens)))[:source_steps]
    penalty = np.log(np.minimum(received, 1)).sum() if kind == "wu" else -np.maximum(received - 1, 0).sum()
    return score + beta * penalty


def ranked(language, sentence, hypotheses, n_best, **penalties):
    scored = [(score_of(language, sentence, tokens, total, **penalties), tokens) for tokens, total in hypotheses]
    return sorted(scored, reverse=True)[:n_best]


def tokens_of(hypotheses, sentence):
    """List the tokens of each hypothesis of a sentence, which padding follows."""
    ids, lengths = hypotheses.token_ids.numpy()[sentence], hypotheses.lengths.numpy()[sentence]
    for row, length in zip(ids, lengths, strict=True):
        assert (row[length:] == PAD).all()
    return [tuple(row[:length].tolist()) for row, length in zip(ids, lengths, strict=True)]


def assert_found(hypotheses, sentence, expected):
    """Check that a sentence has these hypotheses, (score, tokens) in order, and no others."""
    found = tokens_of(hypotheses, sentence)
    assert found[: len(expected)] == [tokens for _, tokens in expected]
    scores = hypotheses.scores[sentence].numpy()
    np.testing.assert_allclose(scores[: len(expected)], [score for score, _ in expected], rtol=1e-4, atol=1e-5)
    assert set(found[len(expected) :]) <= {()}
    assert np.all(scores[len(expected) :] == -np.inf)
