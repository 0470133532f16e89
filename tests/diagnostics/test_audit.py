"""Statistics of a corpus, against brute force over all of its lines."""

import itertools
import math
import random
import statistics
import unicodedata

import numpy as np
import pytest

from seq2seq.diagnostics.corpus_audit import (
    RATIO_FACTOR,
    RATIO_SMOOTHING,
    Occurrences,
    place_of,
    quantile,
    read_pair_statistics,
    read_token_statistics,
    repeated,
    shared,
)
from seq2seq.text.corpus import Pair
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def pairs(toy_pairs):
    """Pairs of the toy language among which every fault has been planted, some of them twice."""
    sound = [*toy_pairs[:60], *toy_pairs[:5], toy_pairs[0]]
    faulty = [
        ("Oslo", "Oslo"),
        ("the cat", "la kato " * 30),
        ("the cat often sees the dog and the horse " * 5, "la"),
        ("the cafe\u0301", "la kafejo"),
        ("the cat", "la kat\u200bo"),
        ("a\x07bell", "sonorilo"),
        ("ok", "bone sinjoro"),
        ("Oslo", "Oslo"),
        ("the\ttab", "la tabo"),
        ("caf\ufffd", "kafejo"),
    ]
    random.Random(0).shuffle(both := sound + faulty)
    return [Pair(source, target, f"train.en:{number}") for number, (source, target) in enumerate(both, start=1)]


@pytest.fixture(scope="module")
def found(pairs):
    return read_pair_statistics(iter(pairs))


def occurrences(pairs, holds):
    places = [pair.where for pair in pairs if holds(pair)]
    return Occurrences(len(places), places[0] if places else None)


def test_lengths(pairs, found):
    assert found.pairs == len(pairs)
    for counts, lengths in [
        (found.source_words, [len(pair.source.split()) for pair in pairs]),
        (found.target_words, [len(pair.target.split()) for pair in pairs]),
        (found.source_characters, [len(pair.source) for pair in pairs]),
        (found.target_characters, [len(pair.target) for pair in pairs]),
    ]:
        assert sorted(counts.elements()) == sorted(lengths)
        for share in (0.01, 0.3, 0.5, 0.95, 1.0):
            assert quantile(counts, share) == np.quantile(lengths, share, method="inverted_cdf")


def test_copies(pairs, found):
    assert found.copies == occurrences(pairs, lambda pair: pair.source == pair.target)
    assert found.copies.count == 2


def test_normal_form(pairs, found):
    assert found.not_normalized == occurrences(
        pairs, lambda pair: any(unicodedata.normalize("NFC", text) != text for text in pair[:2])
    )
    assert found.not_normalized.count == 1


def test_control_characters(pairs, found):
    """Categories of Unicode say the same, but for the tab, which is a space, and for U+FFFD, which is a symbol."""

    def is_control(pair):
        return any(
            unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") or character == "\ufffd"
            for text in pair[:2]
            for character in text.replace("\t", " ")
        )

    assert found.control == occurrences(pairs, is_control)
    assert found.control.count == 3


def test_length_ratios(pairs, found):
    ratios = [(len(pair.target) + RATIO_SMOOTHING) / (len(pair.source) + RATIO_SMOOTHING) for pair in pairs]
    median = statistics.median_low(ratios)
    outliers, found_median = found.ratio_outliers()
    assert found_median == pytest.approx(median, rel=0.01)
    assert outliers == occurrences(
        pairs,
        lambda pair: abs(math.log(ratios[pairs.index(pair)] / median)) > math.log(RATIO_FACTOR),
    )
    assert outliers.count == 2


def test_length_ratios_of_nothing():
    assert read_pair_statistics([]).ratio_outliers() == (Occurrences(), 1.0)


def test_a_corpus_of_another_ratio_has_no_outliers():
    """What is long for its source is judged by the corpus, not by a ratio of 1."""
    corpus = [Pair("walk " * times, "I_WALK I_TURN_LEFT " * 4 * times, f"a:{times}") for times in range(3, 9)]
    statistics = read_pair_statistics(corpus)
    assert statistics.ratio_outliers()[0].count == 0
    assert statistics.ratio_outliers()[1] > RATIO_FACTOR


def test_repeated_pairs(pairs, found):
    texts = [pair[:2] for pair in pairs]
    again = [number for number, text in enumerate(texts) if text in texts[:number]]
    assert repeated(found.pair_hashes) == (len(again), again[0])
    assert len(again) == 7
    assert place_of(iter(pairs), again[0]) == pairs[again[0]].where


def test_repeated_of_few():
    assert repeated([]) == repeated([4]) == repeated([4, 5]) == (0, None)


def test_shared(pairs, found):
    other = read_pair_statistics(
        [Pair("new", "nova", "d:1"), pairs[30], Pair(pairs[7].source, "alia", "d:3"), pairs[2]]
    )
    assert shared(other.pair_hashes, found.pair_hashes) == (2, 1)
    assert shared(other.source_hashes, found.source_hashes) == (3, 1)
    assert shared([], found.pair_hashes) == (0, None)


def random_pairs(number, seed):
    draw = random.Random(seed)
    letters = "abc"
    words = ["".join(word) for word in itertools.product(letters, repeat=2)]
    for place in range(number):
        source, target = (" ".join(draw.choices(words, k=draw.randint(1, 3))) for _ in range(2))
        yield Pair(source, target, f"x:{place}")


@pytest.mark.parametrize("seed", range(3))
def test_hashes_find_what_the_texts_have_in_common(seed):
    train, test = list(random_pairs(400, seed)), list(random_pairs(100, seed + 100))
    of_train, of_test = read_pair_statistics(train), read_pair_statistics(test)
    known, known_sources = {pair[:2] for pair in train}, {pair.source for pair in train}
    assert repeated(of_train.pair_hashes)[0] == 400 - len(known) > 0
    assert shared(of_test.pair_hashes, of_train.pair_hashes)[0] == sum(pair[:2] in known for pair in test) > 0
    in_sources = [pair.source in known_sources for pair in test]
    assert shared(of_test.source_hashes, of_train.source_hashes) == (sum(in_sources), in_sources.index(True))


UNKNOWN = [("the ☃ cat ☃日本", "la ☃"), ("the cat", "la kato"), ("the dog", "la hundo 日")]


def tokenizers(toy_pairs, kind, shared):
    sources, targets = zip(*toy_pairs, strict=True)
    return train_tokenizer(sources, targets, kind=kind, vocabulary_size=40, shared=shared)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_characters_without_a_token(toy_pairs, kind, shared):
    tokenizer = tokenizers(toy_pairs, kind, shared)
    pairs = [Pair(*texts, f"a:{number}") for number, texts in enumerate([*toy_pairs, *UNKNOWN])]
    found = read_token_statistics(pairs, tokenizer, max_source_tokens=99, max_target_tokens=99, words=False)
    assert found.source.unknown_parts == {"☃": 2, "日": 1, "本": 1}
    assert found.target.unknown_parts == {"☃": 1, "日": 1}
    assert found.source.unknown == Occurrences(1, "a:200")
    assert found.target.unknown == Occurrences(2, "a:200")
    for side, encode in ((found.source, tokenizer.source.encode), (found.target, tokenizer.target.encode)):
        rows = encode([pair[0 if side is found.source else 1] for pair in pairs])
        assert side.unknown_tokens == sum(row.count(1) for row in rows)
        assert sorted(side.tokens.elements()) == sorted(map(len, rows))


def test_words_without_a_token(toy_tokenizer: Tokenizer):
    pairs = [Pair("the unicorn sees the unicorn", "la kato", "a:1"), Pair("the cat", "la unukornulo", "a:2")]
    found = read_token_statistics(pairs, toy_tokenizer, max_source_tokens=9, max_target_tokens=9, words=True)
    assert found.source.unknown_parts == {"unicorn": 2}
    assert found.target.unknown_parts == {"unukornulo": 1}
    assert (found.source.unknown, found.target.unknown) == (Occurrences(1, "a:1"), Occurrences(1, "a:2"))


def test_words_without_a_token_are_kept_up_to_a_number(toy_tokenizer, monkeypatch):
    monkeypatch.setattr("seq2seq.diagnostics.corpus_audit._MOST_UNKNOWN", 2)
    pairs = [Pair("x y z z x", "la kato", "a:1")]
    found = read_token_statistics(pairs, toy_tokenizer, max_source_tokens=9, max_target_tokens=9, words=True)
    assert found.source.unknown_parts == {"x": 2, "y": 1}
    assert found.source.unknown_tokens == 1


@pytest.mark.parametrize("chunk", [1, 7, 4_096])
def test_limits(toy_pairs, toy_tokenizer, monkeypatch, chunk):
    monkeypatch.setattr("seq2seq.diagnostics.corpus_audit._CHUNK_PAIRS", chunk)
    pairs = [Pair(*texts, f"a:{number}") for number, texts in enumerate(toy_pairs)]
    found = read_token_statistics(iter(pairs), toy_tokenizer, max_source_tokens=7, max_target_tokens=6, words=True)
    long_source = {pair.where for pair in pairs if len(pair.source.split()) + 1 > 7}
    long_target = {pair.where for pair in pairs if len(pair.target.split()) + 1 > 6}
    assert 0 < len(long_source) < len(long_target) <= len(long_source | long_target) < 200
    first = [next(pair.where for pair in pairs if pair.where in places) for places in (long_source, long_target)]
    assert found.source.over == Occurrences(len(long_source), first[0])
    assert found.target.over == Occurrences(len(long_target), first[1])
    assert found.over.count == len(long_source | long_target)
    assert found.over.first == next(pair.where for pair in pairs if pair.where in long_source | long_target)


def test_targets_that_come_out_otherwise(toy_tokenizer):
    targets = ["la kato", "la  kato", " la kato", "la ﬁsh", "la unukornulo"]
    pairs = [Pair("the cat", target, f"a:{number}") for number, target in enumerate(targets, start=1)]
    found = read_token_statistics(pairs, toy_tokenizer, max_source_tokens=9, max_target_tokens=9, words=True)
    assert found.rewritten == Occurrences(3, "a:2")
