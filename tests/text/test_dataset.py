"""Ragged rows against lists, and mixtures of corpora against counting."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.errors import DataError
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import (
    ConcatenatedArrays,
    EncodedCorpus,
    MixtureComponent,
    RaggedArray,
    pad,
    sample_mixture,
)
from seq2seq.text.subword_sampling import Sampling

ROWS = st.lists(st.lists(st.integers(1, 60_000), max_size=9), min_size=1, max_size=9)
COMPONENTS = st.lists(
    st.builds(MixtureComponent, st.integers(1, 12), st.sampled_from([1, 1, 2, 3, 0.5, 0.3, 0.75, 2.5])).filter(
        lambda component: component.size
    ),
    min_size=1,
    max_size=3,
)


def naive_pad(rows, multiple):
    width = max(map(len, rows), default=0)
    while width % multiple:
        width += 1
    return [list(row) + [0] * (width - len(row)) for row in rows]


@given(ROWS, st.data(), st.integers(1, 8), st.sampled_from([np.int32, np.uint16]))
def test_rows_in_any_order(rows, data, multiple, dtype):
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=12))
    ragged = RaggedArray.from_lists(rows)
    ragged = RaggedArray(ragged.values.astype(dtype), ragged.offsets)
    for found, expected in ((ragged.take(np.array(places)), [rows[place] for place in places]), (ragged, rows)):
        rectangle = found.padded(multiple)
        assert rectangle.dtype == np.int32
        assert rectangle.tolist() == naive_pad(expected, multiple)
    assert pad(rows, multiple).tolist() == naive_pad(rows, multiple)
    assert ragged.lengths().tolist() == [len(row) for row in rows]
    assert [ragged[place].tolist() for place in range(len(ragged))] == rows


@given(st.lists(ROWS, min_size=1, max_size=4), st.data())
def test_concatenated_parts(parts, data):
    rows = [row for part in parts for row in part]
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    joined = ConcatenatedArrays([RaggedArray.from_lists(part) for part in parts])
    taken = joined.take(np.array(places, np.int64))
    assert [taken[place].tolist() for place in range(len(taken))] == [rows[place] for place in places]
    assert joined.lengths().tolist() == [len(row) for row in rows]


def test_edges_of_arrays():
    assert pad([]).shape == (0, 0)
    assert len(RaggedArray.from_lists([])) == 0
    with pytest.raises(ValueError, match="multiple must be an integer >= 1, got 0"):
        pad([[1]], 0)
    with pytest.raises(ValueError, match="target must be as many rows as source, 1, got 2"):
        EncodedCorpus.from_lists([[3]], [[3], [3]])


@settings(deadline=None)
@given(COMPONENTS, st.integers(0, 3), st.integers(1, 9))
def test_every_pair_comes_as_often_as_its_weight_says(components, seed, epochs):
    """Count one by one: after any number of epochs the pairs of a corpus differ by one at most."""
    total = sum(component.pairs for component in components)
    counts = collections.Counter()
    for epoch in range(epochs):
        chosen = sample_mixture(components, epoch, seed)
        assert chosen.dtype == np.int64
        assert len(set(chosen.tolist())) == len(chosen) == sum(round(one.weight * one.pairs) for one in components)
        counts.update((chosen % total).tolist())
    start = 0
    for component in components:
        found = [counts[pair] for pair in range(start, start + component.pairs)]
        assert sum(found) == epochs * round(component.weight * component.pairs)
        assert max(found) - min(found) <= 1
        start += component.pairs
    assert set(counts) <= set(range(total))


def test_packs_are_used_up_before_they_are_shuffled_again():
    components = [MixtureComponent(6, 1), MixtureComponent(40, 0.5), MixtureComponent(40, 0.75)]
    epochs = [sample_mixture(components, epoch, 0).tolist() for epoch in range(6)]
    halves = [{pair for pair in epoch if 6 <= pair < 46} for epoch in epochs]
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert len(first) == len(second) == 20
        assert first | second == set(range(6, 46))
    assert len({frozenset(half) for half in halves}) == 6
    # The two corpora of 40 pairs have packs of their own, and so has another seed.
    assert not halves[0] <= {pair - 40 for pair in epochs[0] if pair >= 46}
    assert sample_mixture(components, 0, 1).tolist() != epochs[0]


def rows(number: int, start: int) -> tuple[list[list[int]], list[list[int]]]:
    """Make rows whose first id is the number of the pair."""
    draw = np.random.default_rng(start)
    return tuple(
        [[start + pair, *draw.integers(4, 50, draw.integers(0, 9)).tolist(), 3] for pair in range(number)]
        for _ in range(2)
    )


@pytest.fixture
def sides():
    return {"news": rows(30, 100), "web": rows(45, 200), "old": rows(20, 300)}


def mixture(sides, **weights) -> EncodedCorpus:
    return EncodedCorpus.mixed({name: EncodedCorpus.from_lists(*sides[name]) for name in weights}, weights)


def drawn(batches, epoch, skip=0):
    found = []
    for batch in batches.epoch(epoch, skip):
        trimmed = [[[i for i in row if i] for row in side.tolist()] for side in (batch.source_ids, batch.target_ids)]
        found.append((list(zip(*trimmed, strict=True)), batch.indices.tolist()))
    return found


def test_batches_of_a_mixture(sides):
    corpus = mixture(sides, news=2, web=0.4, old=1)
    pairs = [pair for name in ("news", "web", "old") for pair in zip(*sides[name], strict=True)]
    batches = Batches(corpus, batch_tokens=100, bucket_pool=40, seed=3)
    counts = collections.Counter()
    for epoch in range(5):
        found = drawn(batches, epoch)
        assert len(found) == batches.number_of_batches(epoch) == len(batches.shapes(epoch))
        for read, indices in found:
            assert read == [pairs[index] for index in indices]
            counts.update(indices)
        for skip in range(0, len(found) + 1, 3):
            assert drawn(batches, epoch, skip) == found[skip:]
    assert [counts[pair] for pair in range(95)] == [10] * 30 + [2] * 45 + [5] * 20
    alone = Batches(corpus, batch_tokens=100, shuffle=False)
    assert sorted(i for _, indices in drawn(alone, 0) for i in indices) == list(range(95))


def test_corpora_of_weight_one_are_one_corpus(sides):
    mixed = mixture(sides, news=1, old=1)
    joined = EncodedCorpus.from_lists(*(sides["news"][side] + sides["old"][side] for side in (0, 1)))
    for epoch in range(2):
        first, second = (drawn(Batches(corpus, batch_tokens=90, bucket_pool=20), epoch) for corpus in (mixed, joined))
        assert first == second


def test_a_pair_that_comes_twice_in_an_epoch_has_two_segmentations(corpus, tokenizers):
    tokenizer = tokenizers["unigram"]
    sources, targets = ([pair[side] for pair in corpus[:60]] for side in (0, 1))
    ids = map(RaggedArray.from_lists, tokenizer.encode_pairs(sources, targets))
    encoded = EncodedCorpus(*ids, (RaggedArray.from_texts(sources), RaggedArray.from_texts(targets)))
    cuts = {}
    for weight in (1, 2):
        mixed = EncodedCorpus.mixed({"one": encoded}, {"one": weight})
        assert mixed.target_texts([3, 0]) == [targets[3], targets[0]]
        batches = Batches(mixed, batch_tokens=600, sampling=Sampling(0.1), tokenizer=tokenizer)
        found = collections.defaultdict(list)
        for read, indices in drawn(batches, 0):
            for (source, _), index in zip(read, indices, strict=True):
                assert tokenizer.source.decode([source]) == [sources[index]]
                found[index].append(source)
        cuts[weight] = found
    assert all(len(both) == 2 and cuts[1][index][0] in both for index, both in cuts[2].items())
    assert sum(first != second for first, second in cuts[2].values()) > 30


def test_a_weight_that_leaves_nothing(sides):
    with pytest.raises(
        DataError, match=r"old: the weight of a corpus must leave .* got 0\.02, which leaves none of 20"
    ):
        mixture(sides, news=1, old=0.02)


def test_a_mixture_has_texts_where_all_of_its_corpora_have_them(sides):
    plain = EncodedCorpus.from_lists(*sides["news"])
    texts = RaggedArray.from_texts(["a"] * 30)
    with_texts = EncodedCorpus(plain.source, plain.target, (texts, texts))
    assert EncodedCorpus.mixed({"a": plain, "b": with_texts}, {"a": 1, "b": 1}).texts is None
    both = EncodedCorpus.mixed({"a": with_texts, "b": with_texts}, {"a": 1, "b": 1})
    assert both.source_texts([0, 59]) == ["a", "a"]
