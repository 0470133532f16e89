import random
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus, RaggedArray
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import Tokenizer


def random_corpus(number: int, seed: int = 0, longest: int = 12) -> EncodedCorpus:
    """Rows whose first id says which pair they are, so that no mix-up goes unnoticed."""
    draw = random.Random(seed)
    rows = [
        [[100 + i] + [draw.randrange(4, 50) for _ in range(draw.randrange(longest))] + [3] for i in range(number)]
        for _ in range(2)
    ]
    return EncodedCorpus.from_lists(*rows)


def rounded(width: int, multiple: int) -> int:
    return -(-width // multiple) * multiple


def contents(batch) -> tuple:
    return tuple(part.tobytes() for part in batch), tuple(part.shape for part in batch)


def check_batch(corpus: EncodedCorpus, batch, budget: int, multiple: int = 1) -> None:
    source, target, indices = batch
    assert source.dtype == target.dtype == np.int32
    assert indices.dtype == np.int64
    assert len(source) == len(target) == len(indices) >= 1
    for rows, side in ((source, corpus.source), (target, corpus.target)):
        width = rounded(max(len(side[i]) for i in indices), multiple)
        assert rows.tolist() == [side[i].tolist() + [0] * (width - len(side[i])) for i in indices]
    assert len(indices) == 1 or len(indices) * (source.shape[1] + target.shape[1]) <= budget


@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(1, 80),
    corpus_seed=st.integers(0, 3),
    budget=st.integers(1, 300),
    pool=st.integers(1, 100),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
    multiple=st.sampled_from([1, 1, 4]),
    shuffle=st.booleans(),
)
def test_an_epoch_is_every_pair_once_within_budget(number, corpus_seed, budget, pool, seed, epoch, multiple, shuffle):
    corpus = random_corpus(number, corpus_seed)
    batches = Batches(
        corpus, batch_tokens=budget, bucket_pool=pool, seed=seed, multiple=multiple, shuffle=shuffle, prefetch=0
    )
    found = list(batches.epoch(epoch))
    for batch in found:
        check_batch(corpus, batch, budget, multiple)
    assert sorted(int(i) for batch in found for i in batch.indices) == list(range(number))
    assert batches.number_of_batches(epoch) == len(found)
    assert batches.shapes(epoch).tolist() == [[*batch.source_ids.shape, batch.target_ids.shape[1]] for batch in found]


@settings(max_examples=40, deadline=None)
@given(
    number=st.integers(1, 150), budget=st.integers(1, 1500), multiple=st.sampled_from([1, 3]), seed=st.integers(0, 5)
)
@example(number=150, budget=1500, multiple=1, seed=0)
def test_batches_are_as_large_as_the_budget_allows(number, budget, multiple, seed):
    """A loop that adds pair after pair, in the order that the sort gives, is the definition."""
    corpus = random_corpus(number, seed)
    sides = (corpus.source, corpus.target)
    keys = []
    for i in range(number):
        source, target = len(corpus.source[i]), len(corpus.target[i])
        keys.append((target, source if target % 2 else -source, i))
    expected: list[list[int]] = []
    waiting = [i for _, _, i in sorted(keys)]
    while waiting:
        together: list[int] = []
        for i in waiting:
            width = sum(rounded(max(len(side[k]) for k in [*together, i]), multiple) for side in sides)
            if together and (len(together) + 1) * width > budget:
                break
            together.append(i)
        # From 64 rows on, a multiple of eight.
        count = len(together) // 8 * 8 if len(together) >= 64 else len(together)
        expected.append(waiting[:count])
        waiting = waiting[count:]
    batches = Batches(corpus, batch_tokens=budget, shuffle=False, multiple=multiple)
    assert [batch.indices.tolist() for batch in batches.epoch(0)] == expected


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_skipping_gives_the_tail_of_the_epoch(prefetch, shuffle):
    corpus = random_corpus(90)
    batches = Batches(corpus, batch_tokens=80, bucket_pool=25, seed=5, shuffle=shuffle, prefetch=prefetch)
    whole = [contents(batch) for batch in batches.epoch(3)]
    assert len(whole) > 20
    for skip in range(len(whole) + 1):
        assert [contents(batch) for batch in batches.epoch(3, skip=skip)] == whole[skip:]
    with pytest.raises(ValueError, match=f"skip must be <= {len(whole)}, .* of epoch 3, got {len(whole) + 1}"):
        next(batches.epoch(3, skip=len(whole) + 1))


def test_what_is_skipped_is_not_made(monkeypatch):
    corpus, made = random_corpus(90), []
    original = RaggedArray.padded

    def counting(self, multiple=1):
        made.append(len(self))
        return original(self, multiple)

    monkeypatch.setattr(RaggedArray, "padded", counting)
    batches = Batches(corpus, batch_tokens=80, bucket_pool=25, prefetch=0)
    last = batches.number_of_batches(0) - 1
    assert made == []
    list(batches.epoch(0, skip=last))
    assert len(made) == 2


def test_the_first_batch_comes_before_the_whole_plan(monkeypatch):
    cut, original = [], Batches._cut

    def counting(self, pool):
        cut.append(len(pool))
        return original(self, pool)

    monkeypatch.setattr(Batches, "_cut", counting)
    next(Batches(random_corpus(90), batch_tokens=80, bucket_pool=10, prefetch=0).epoch(0))
    assert cut == [10]


def test_epochs_and_seeds_differ_and_repeat():
    corpus = random_corpus(200)

    def order(seed, epoch):
        batches = Batches(corpus, batch_tokens=100, seed=seed).epoch(epoch)
        return [batch.indices.tolist() for batch in batches]

    assert order(1, 2) == order(1, 2)
    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({str(one) for one in orders}) == 9
    # Not only the order of the batches: pairs that meet in one epoch part in another.
    groups = [{frozenset(batch) for batch in one} for one in orders]
    assert len(groups[0] & groups[1]) < len(groups[0]) / 2


PINNED = [[1, 6], [2, 14, 11], [10, 22, 19], [17, 0, 5], [20], [16, 12], [8, 18, 7], [4, 3, 9], [23, 13], [15, 21]]


def test_the_order_of_an_epoch_never_changes():
    """What a checkpoint says, `epoch 1, batch 2`, must mean the same in every later version."""
    batches = Batches(random_corpus(24), batch_tokens=60, bucket_pool=12, seed=7)
    assert [batch.indices.tolist() for batch in batches.epoch(1)] == PINNED


def test_the_whole_corpus_is_shuffled():
    corpus = random_corpus(2000)
    batches = Batches(corpus, batch_tokens=100, bucket_pool=100)
    first = []
    for batch in batches.epoch(0):
        first += batch.indices.tolist()
        if len(first) >= 100:
            break
    thirds = np.histogram(first, bins=[0, 700, 1400, 2000])[0]
    assert thirds.min() > 15, thirds


def test_sorting_leaves_little_padding():
    def share_of_padding(pool):
        batches = Batches(random_corpus(4000, longest=25), batch_tokens=500, bucket_pool=pool)
        cells = [part for batch in batches.epoch(0) for part in (batch.source_ids, batch.target_ids)]
        return sum((part == 0).sum() for part in cells) / sum(part.size for part in cells)

    assert share_of_padding(5000) < 0.06
    assert share_of_padding(1) == 0
    assert share_of_padding(5000) < share_of_padding(400) < share_of_padding(40) < 0.5


def test_without_shuffling():
    corpus = random_corpus(150)
    batches = Batches(corpus, batch_tokens=120, bucket_pool=10, shuffle=False, seed=3)
    orders = [[batch.indices.tolist() for batch in batches.epoch(epoch)] for epoch in (0, 7)]
    assert orders[0] == orders[1]
    lengths = [len(corpus.target[i]) for batch in orders[0] for i in batch]
    assert lengths == sorted(lengths)


def test_a_pair_over_the_budget_is_a_batch():
    corpus = EncodedCorpus.from_lists([[9] * 50 + [3], [4, 3], [5, 3]], [[8] * 70 + [3], [4, 3], [5, 3]])
    found = [batch.indices.tolist() for batch in Batches(corpus, batch_tokens=10).epoch(0)]
    assert sorted(found, key=len) == [[0], [1, 2]] or sorted(found, key=len) == [[0], [2, 1]]


def test_no_pairs_no_batches():
    for shuffle in (True, False):
        empty = Batches(EncodedCorpus.from_lists([], []), batch_tokens=9, shuffle=shuffle)
        assert list(empty.epoch(0)) == []
        assert (empty.number_of_batches(0), empty.shapes(0).shape) == (0, (0, 3))


def test_prefetching_changes_nothing_and_ends():
    corpus = random_corpus(120)
    plain = [contents(batch) for batch in Batches(corpus, batch_tokens=80, prefetch=0).epoch(2)]
    ahead = Batches(corpus, batch_tokens=80, prefetch=4).epoch(2)
    assert [contents(batch) for batch in ahead] == plain
    begun = Batches(corpus, batch_tokens=80, prefetch=4).epoch(2)
    next(begun)
    begun.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "seq2seq-prefetch"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_tokens": 0}, "batch_tokens must be"),
        ({"bucket_pool": 0}, "bucket_pool must be"),
        ({"multiple": 0}, "multiple must be"),
        ({"seed": -1}, "seed must be"),
        ({"prefetch": -1}, "prefetch must be"),
        ({"sampling": Sampling()}, "tokenizer must be that of the corpus"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Batches(random_corpus(3), **({"batch_tokens": 10} | options))
    batches = Batches(random_corpus(3), batch_tokens=10)
    with pytest.raises(ValueError, match="number must be"):
        batches.epoch(-1)
    with pytest.raises(ValueError, match="skip must be"):
        batches.epoch(0, skip=-2)


def with_texts(tokenizer: Tokenizer, pairs) -> EncodedCorpus:
    texts = list(zip(*pairs, strict=True))
    source, target = map(RaggedArray.from_lists, tokenizer.encode_pairs(*texts))
    return EncodedCorpus(source, target, tuple(map(RaggedArray.from_texts, texts)))


def test_sampling_needs_texts(tokenizers):
    with pytest.raises(ValueError, match="corpus must be one with its texts"):
        Batches(random_corpus(3), batch_tokens=10, sampling=Sampling(), tokenizer=tokenizers["unigram"])
    with pytest.raises(ValueError, match="must have its texts, got none"):
        random_corpus(3).source_texts([0])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sampling_differs_by_epoch(corpus, tokenizers, kind):
    tokenizer = tokenizers[kind]
    encoded = with_texts(tokenizer, corpus)

    def batches(seed=4, **options):
        sampling = Sampling(0.2)
        return Batches(
            encoded, batch_tokens=600, seed=seed, sampling=sampling, tokenizer=tokenizer, bucket_pool=90, **options
        )

    epochs = [list(batches().epoch(number)) for number in range(2)]
    rows = []
    for found in epochs:
        for batch in found:
            assert tokenizer.source.decode(batch.source_ids) == encoded.source_texts(batch.indices)
            assert tokenizer.target.decode(batch.target_ids) == encoded.target_texts(batch.indices)
        assert sorted(i for batch in found for i in batch.indices.tolist()) == list(range(len(corpus)))
        rows.append({i: row.tolist() for b in found for i, row in zip(b.indices, b.source_ids, strict=True)})
    trimmed = [{i: [k for k in row if k] for i, row in one.items()} for one in rows]
    plain = tokenizer.source.encode([source for source, _ in corpus])
    for first, second in ((trimmed[0], trimmed[1]), (trimmed[0], dict(enumerate(plain)))):
        assert sum(first[i] != second[i] for i in range(len(corpus))) > len(corpus) / 4
    assert [contents(b) for b in batches(prefetch=0).epoch(0)] == [contents(b) for b in epochs[0]]
    assert [contents(b) for b in batches().epoch(0, skip=5)] == [contents(b) for b in epochs[0][5:]]
    assert [contents(b) for b in batches(seed=5).epoch(0)] != [contents(b) for b in epochs[0]]
    # The budget counts the plain segmentation, so the plan is that of the plain corpus.
    planned = Batches(encoded, batch_tokens=600, seed=4, bucket_pool=90).epoch(0)
    assert [b.indices.tolist() for b in planned] == [b.indices.tolist() for b in epochs[0]]
