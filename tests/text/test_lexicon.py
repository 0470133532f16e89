"""Lexicons: IBM Model 1 against a plain loop, and what a shortlist holds."""

import itertools
from collections import defaultdict

import numpy as np
import pytest

from seq2seq.errors import DataError
from seq2seq.text.ids import END_ID, PAD_ID
from seq2seq.text.lexicon import ITERATIONS, MOST_TRANSLATIONS, Lexicon, learn_lexicon


def learned_plainly(sources, targets):
    """Probabilities of translation, `[source token][target token]`."""
    probabilities = defaultdict(lambda: defaultdict(lambda: 1.0))
    for _ in range(ITERATIONS):
        counts = defaultdict(lambda: defaultdict(float))
        for source, target in zip(sources, targets, strict=True):
            for word in target:
                total = sum(probabilities[other][word] for other in set(source))
                for other in set(source):
                    counts[other][word] += probabilities[other][word] / total
        for other, row in counts.items():
            for word, count in row.items():
                probabilities[other][word] = count / sum(row.values())
    return probabilities


@pytest.fixture
def pairs():
    random = np.random.default_rng(1)
    sources = [[*random.integers(4, 20, random.integers(1, 7)).tolist(), END_ID] for _ in range(40)]
    targets = [[*random.integers(4, 30, random.integers(1, 7)).tolist(), END_ID] for _ in range(40)]
    return sources, targets


def test_the_likeliest_come_first(pairs):
    lexicon, plain = learn_lexicon(*pairs, 20, 30, is_joint=False), learned_plainly(*pairs)
    assert lexicon.translations.shape == (20, MOST_TRANSLATIONS)
    for token in range(20):
        found = [word for word in lexicon.translations[token].tolist() if word != PAD_ID]
        assert set(found) == set(plain[token])
        probabilities = [plain[token][word] for word in found]
        assert all(first >= second - 1e-9 for first, second in itertools.pairwise(probabilities))


def test_a_shortlist(pairs):
    lexicon = learn_lexicon(*pairs, 20, 30, is_joint=False)
    few = Lexicon(lexicon.translations, np.array([END_ID, 29], np.int32), is_joint=False)
    first, second = lexicon.translations[5, :2], lexicon.translations[END_ID, :2]
    assert few.shortlist([5, END_ID], 2).tolist() == sorted({END_ID, 29, *first.tolist(), *second.tolist()})
    joint = Lexicon(few.translations, few.frequent, is_joint=True)
    assert set(joint.shortlist([18, END_ID], 1)) - set(few.shortlist([18, END_ID], 1)) <= {18}
    assert 18 in joint.shortlist([18, END_ID], 1)


def test_it_comes_back_from_a_file(pairs):
    lexicon = learn_lexicon(*pairs, 20, 30, is_joint=True)
    back = Lexicon.from_bytes(lexicon.to_bytes())
    np.testing.assert_array_equal(back.translations, lexicon.translations)
    np.testing.assert_array_equal(back.frequent, lexicon.frequent)
    assert back.is_joint is True


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="source and target must have pairs to learn from"):
        learn_lexicon([], [], 9, 9, is_joint=False)
