"""Searches in plain Python over lists of tokens, written from the definitions."""

import numpy as np

PAD, UNKNOWN, START, END = 0, 1, 2, 3
SPECIAL = (PAD, START)


def minimum_length(least):
    def rule(tokens, gains):
        if len(tokens) + 1 < least:
            gains[END] = -np.inf

    return rule


def no_repeated_ngram(size):
    def rule(tokens, gains):
        seen = {tokens[i : i + size] for i in range(len(tokens) - size + 1)}
        for token in range(len(gains)):
            if len(tokens) + 1 >= size and (*tokens, token)[-size:] in seen:
                gains[token] = -np.inf

    return rule


def repetition_penalty(penalty):
    def rule(tokens, gains):
        for token in set(tokens):
            gains[token] *= penalty

    return rule


def banned_sequence(*sequence):
    def rule(tokens, gains):
        if tokens[len(tokens) - len(sequence) + 1 :] == sequence[:-1] and len(tokens) >= len(sequence) - 1:
            gains[sequence[-1]] = -np.inf

    return rule


def gains_after(language, sentence, tokens, banned=SPECIAL, rules=(), prefix=()):
    """What each next token adds to the sum that hypotheses are ranked by; minus infinity forbids."""
    log_probs = language.log_probs(sentence, tokens)
    if len(tokens) < len(prefix):
        return np.where(np.arange(len(log_probs)) == prefix[len(tokens)], log_probs, -np.inf)
    gains = log_probs.copy()
    for rule in rules:
        rule(tokens, gains)
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
    """Every hypothesis of a sentence with its sum: those that end, and those cut at the limit."""
    open_hypotheses, closed = [((), 0.0)], []
    for _ in range(limit):
        longer = continued(language, sentence, open_hypotheses, **options)
        closed += [item for item in longer if item[0][-1] == END]
        open_hypotheses = [item for item in longer if item[0][-1] != END]
    return closed + open_hypotheses


def search_plainly(language, sentence, limit, beam_size, groups=1, diversity=0.0, **options):
    """Beam search with frozen finished hypotheses over lists, run to the limit without an early stop."""
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
    """The score of a complete hypothesis."""
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
    """The tokens of each hypothesis of a sentence, and what follows them is padding."""
    ids, lengths = hypotheses.token_ids.numpy()[sentence], hypotheses.lengths.numpy()[sentence]
    for row, length in zip(ids, lengths, strict=True):
        assert (row[length:] == PAD).all()
    return [tuple(row[:length].tolist()) for row, length in zip(ids, lengths, strict=True)]


def assert_found(hypotheses, sentence, expected):
    """The hypotheses of a sentence are these, (score, tokens) in order, and no others."""
    found = tokens_of(hypotheses, sentence)
    assert found[: len(expected)] == [tokens for _, tokens in expected]
    scores = hypotheses.scores[sentence].numpy()
    np.testing.assert_allclose(scores[: len(expected)], [score for score, _ in expected], rtol=1e-4, atol=1e-5)
    assert set(found[len(expected) :]) <= {()}
    assert np.all(scores[len(expected) :] == -np.inf)
