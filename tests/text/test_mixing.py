import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.errors import DataError
from seq2seq.text.batching import Batches
from seq2seq.text.corpus import CorpusReport
from seq2seq.text.dataset import EncodedCorpus, RaggedArray, Share, deal
from seq2seq.text.subword_sampling import Sampling

SHARES = st.lists(
    st.builds(Share, st.integers(1, 12), st.sampled_from([1, 1, 2, 3, 0.5, 0.3, 0.75, 2.5])).filter(lambda s: s.size),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(SHARES, st.integers(0, 3), st.integers(1, 9))
def test_every_pair_comes_as_often_as_its_weight_says(shares, seed, epochs):
    """Counted one by one: after any number of epochs the pairs of a corpus differ by one at most."""
    total = sum(share.pairs for share in shares)
    counts = collections.Counter()
    for epoch in range(epochs):
        dealt = deal(shares, epoch, seed)
        assert dealt.dtype == np.int64
        assert len(set(dealt.tolist())) == len(dealt) == sum(round(share.weight * share.pairs) for share in shares)
        counts.update((dealt % total).tolist())
    start = 0
    for share in shares:
        found = [counts[pair] for pair in range(start, start + share.pairs)]
        assert sum(found) == epochs * round(share.weight * share.pairs)
        assert max(found) - min(found) <= 1
        start += share.pairs
    assert set(counts) <= set(range(total))


def test_packs_are_used_up_before_they_are_shuffled_anew():
    shares = [Share(6, 1), Share(40, 0.5), Share(40, 0.75)]
    halves = [{pair for pair in deal(shares, epoch, 0).tolist() if 6 <= pair < 46} for epoch in range(6)]
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert len(first) == len(second) == 20
        assert first | second == set(range(6, 46))
    assert len({frozenset(half) for half in halves}) == 6
    # The two corpora of 40 pairs have packs of their own, and so has another seed.
    quarters = {pair - 40 for pair in deal(shares, 0, 0).tolist() if pair >= 46}
    assert not halves[0] <= quarters
    assert deal(shares, 0, 1).tolist() != deal(shares, 0, 0).tolist() == deal(shares, 0, 0).tolist()


def rows(number: int, start: int) -> tuple[list[list[int]], list[list[int]]]:
    """Rows that say which pair they are."""
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


def test_batches_of_a_mixture_hold_the_rows_of_its_corpora(sides):
    corpus = mixture(sides, news=2, web=0.4, old=1)
    pairs = [pair for name in ("news", "web", "old") for pair in zip(*sides[name], strict=True)]
    assert len(corpus) == 95
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


def test_corpora_of_weight_one_are_as_one_corpus(sides):
    mixed = mixture(sides, news=1, old=1)
    joined = EncodedCorpus.from_lists(*(sides["news"][side] + sides["old"][side] for side in (0, 1)))
    for epoch in range(2):
        first, second = (drawn(Batches(corpus, batch_tokens=90, bucket_pool=20), epoch) for corpus in (mixed, joined))
        assert first == second


def test_a_pair_that_comes_twice_in_an_epoch_is_cut_in_two_ways(corpus, tokenizers):
    tokenizer = tokenizers["unigram"]
    sources, targets = ([pair[side] for pair in corpus[:60]] for side in (0, 1))
    ids = [
        RaggedArray.from_lists(encode(texts))
        for encode, texts in ((tokenizer.source.encode, sources), (tokenizer.target.encode, targets))
    ]
    encoded = EncodedCorpus(*ids, RaggedArray.from_texts(sources), RaggedArray.from_texts(targets))
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
    with pytest.raises(DataError) as error:
        mixture(sides, news=1, old=0.02)
    assert str(error.value) == (
        "old: the weight of a corpus must leave one of its pairs in an epoch at least, but 0.02 leaves none of 20 "
        "instead. Raise it, or leave the corpus out."
    )


def test_a_mixture_has_texts_where_all_of_its_corpora_have_them(sides):
    plain = EncodedCorpus.from_lists(*sides["news"])
    texts = RaggedArray.from_texts(["a"] * 30)
    with_texts = EncodedCorpus(plain.source, plain.target, texts, texts)
    assert not EncodedCorpus.mixed({"a": plain, "b": with_texts}, {"a": 1, "b": 1}).has_texts
    assert EncodedCorpus.mixed({"a": with_texts, "b": with_texts}, {"a": 1, "b": 1}).has_texts


def test_reports_are_added_up():
    first, second = CorpusReport(3, {"a": 1}, {"a": "x:1"}), CorpusReport(4, {"b": 2, "a": 5}, {"b": "y:2", "a": "y:1"})
    assert CorpusReport.total([first, second]) == CorpusReport(7, {"a": 6, "b": 2}, {"a": "x:1", "b": "y:2"})
    assert first.skipped == {"a": 1}
