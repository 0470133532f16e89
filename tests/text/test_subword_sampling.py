"""Draws of segmentations: exact distributions, and the same draws wherever and whenever they are made."""

import collections
import io
import itertools
import threading

import numpy as np
import pytest
import sentencepiece

from seq2seq.errors import TokenizerError
from seq2seq.text.ids import END_ID
from seq2seq.text.subword_sampling import Sampler, Sampling, sentence_seeds
from seq2seq.text.tokenizer import SubwordVocabulary, Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer

ODD = ["", " ", "the", "ab<ent>the<ent><ent,2>", "x漢字y 漢 🙂🙂 the", "the  later\tthe ﬁ", "<ent", "▁the▁ <0x41>"]


def processor_of(tokenizer: Tokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer.models["joint.model"])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_draw_depends_on_its_own_seed_alone(corpus, tokenizers, kind):
    tokenizer, texts = tokenizers[kind], [source for source, _ in corpus[:30]]
    sampling, seeds = Sampling(alpha=0.1), list(range(100, 130))
    rows = tokenizer.source.sample(texts, sampling, seeds)
    assert rows == tokenizer.source.sample(texts, sampling, seeds)
    assert rows[::-1] == tokenizer.source.sample(texts[::-1], sampling, seeds[::-1])
    assert rows[7:9] == tokenizer.source.sample(texts[7:9], sampling, seeds[7:9])
    others = tokenizer.source.sample(texts, sampling, range(500, 530))
    assert sum(a != b for a, b in zip(rows, others, strict=True)) > 10
    assert sum(a != b for a, b in zip(rows, tokenizer.source.encode(texts), strict=True)) > 10
    assert tokenizer.source.decode(rows) == texts
    assert all(row[-1] == END_ID for row in rows)


SHARED = """
import hashlib
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer_training import train_tokenizer
lines = {lines!r}
for kind in ("unigram", "bpe"):
    tokenizer = train_tokenizer(lines, [], kind=kind, vocabulary_size=60)
    for sampling in (Sampling(0.2), Sampling(0.3, nbest_size=8)):
        rows = tokenizer.source.sample(lines, sampling, range(7, 7 + len(lines)))
        print(hashlib.sha256(repr(rows).encode()).hexdigest())
"""


def test_draws_are_the_same_in_every_process(corpus, fresh_python):
    """SentencePiece's own are not, whatever its seed: that is why we draw ourselves."""
    code = SHARED.format(lines=[source for source, _ in corpus[:100]])
    assert fresh_python(code, hash_seed=1) == fresh_python(code, hash_seed=2)


def all_segmentations(processor, word):
    """Every way to write a word as pieces of the model, with its log probability."""
    pieces = {processor.id_to_piece(i): i for i in range(4, processor.vocab_size())}
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        places = [0, *(place for place, cut in enumerate(cuts, start=1) if cut), len(word)]
        parts = [word[start:end] for start, end in itertools.pairwise(places)]
        if all(part in pieces for part in parts):
            ids = [pieces[part] for part in parts]
            yield tuple(ids), sum(processor.get_score(i) for i in ids)


@pytest.mark.parametrize(("text", "alpha"), [("later", 0.1), ("later", 0.5), ("the gock", 0.3)])
@pytest.mark.parametrize("nbest_size", [-1, 512])
def test_draws_follow_the_distribution_of_the_model(tokenizers, text, alpha, nbest_size):
    """P(segmentation) is proportional to exp(alpha * its log probability), over all segmentations there are."""
    tokenizer, draws = tokenizers["unigram"], 4000
    segmentations = dict(all_segmentations(processor_of(tokenizer), "▁" + text.replace(" ", "▁")))
    weights = np.exp(alpha * np.array(list(segmentations.values())))
    expected = weights / weights.sum()
    rows = tokenizer.source.sample([text] * draws, Sampling(alpha, nbest_size), range(draws))
    counts = collections.Counter(tuple(row[:-1]) for row in rows)
    assert len(segmentations) > 3
    assert set(counts) <= set(segmentations)
    found = np.array([counts[ids] for ids in segmentations]) / draws
    deviations = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(found - expected) < 5 * deviations + 1e-9).all()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("text", ["the later", "the sodesh"])
def test_draws_agree_with_sentencepiece(tokenizers, kind, text):
    tokenizer, draws, alpha = tokenizers[kind], 4000, 0.25
    theirs = processor_of(tokenizer).encode([text] * draws, enable_sampling=True, alpha=alpha, nbest_size=-1)
    ours = tokenizer.source.sample([text] * draws, Sampling(alpha), range(draws))
    first = collections.Counter(tuple(row) for row in theirs)
    second = collections.Counter(tuple(row[:-1]) for row in ours)
    for ids in first.keys() | second.keys():
        share = (first[ids] + second[ids]) / (2 * draws)
        # Their draws cannot be fixed: six deviations fail by chance once in hundreds of millions.
        assert abs(first[ids] - second[ids]) / draws < 6 * np.sqrt(2 * share * (1 - share) / draws) + 1e-9, ids


@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize(("kind", "alpha"), [("unigram", 1e4), ("bpe", 1e-12)])
def test_without_chance_it_is_sentencepiece(corpus, kind, alpha, byte_fallback):
    """Unknown characters, bytes, symbols of the user, spaces, normalisation: all as they are without draws."""
    sources = [source for source, _ in corpus]
    symbols = ["<ent>", "<ent,2>"]
    tokenizer = (
        train_tokenizer(sources, [], kind=kind, vocabulary_size=340, byte_fallback=byte_fallback, user_symbols=symbols)
        if byte_fallback or kind == "bpe"
        else train_tokenizer(sources, [], vocabulary_size=90, user_symbols=symbols)
    )
    texts = [*ODD, *sources]
    plain = tokenizer.source.encode(texts)
    drawn = tokenizer.source.sample(texts, Sampling(alpha), range(len(texts)))
    processor = processor_of(tokenizer)
    for text, expected, found in zip(texts, plain, drawn, strict=True):
        if kind == "bpe":
            assert found == expected, text
        else:
            # Segmentations of equal probability are equally good.
            scores = [sum(processor.get_score(i) for i in ids) for ids in (found, expected)]
            assert scores[0] == pytest.approx(scores[1], rel=1e-5), text
            assert tokenizer.source.decode([found]) == tokenizer.source.decode([expected]), text


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_symbols_of_the_user_are_never_cut(corpus, kind):
    tokenizer = train_tokenizer(
        [source + " <" for source, _ in corpus], [], kind=kind, vocabulary_size=80, user_symbols=["the", "<t", "<the"]
    )
    for seed in range(50):
        (row,) = tokenizer.source.sample(["<thethe <tla the"], Sampling(0.9), [seed])
        pieces = tokenizer.target.pieces(row)
        assert [piece for piece in pieces if piece in ("the", "<t", "<the")] == ["<the", "the", "<t", "the"]
        assert tokenizer.source.decode([row]) == ["<thethe <tla the"]


def test_pieces_across_words():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["of the house", "of the garden", "in the house of the garden"] * 5),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        split_by_whitespace=False,
        minloglevel=3,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
    )
    tokenizer = Tokenizer(SubwordVocabulary(model.getvalue()))
    processor = processor_of(tokenizer)
    crossing = {i for i in range(processor.vocab_size()) if "▁" in processor.id_to_piece(i).lstrip("▁")}
    rows = tokenizer.source.sample(["of the house"] * 200, Sampling(0.5), range(200))
    assert crossing & set(itertools.chain(*rows))
    assert set(tokenizer.source.decode(rows)) == {"of the house"}


def test_dropout_of_all_merges_spells_characters(tokenizers):
    (row,) = tokenizers["bpe"].source.sample(["the cat"], Sampling(alpha=1.0), [0])
    assert [tokenizers["bpe"].target.pieces([i])[0] for i in row[:-1]] == ["▁", *"the", "▁", *"cat"]


def test_draws_in_threads_do_not_disturb_each_other(corpus, tokenizers):
    tokenizer, texts = tokenizers["unigram"], [source for source, _ in corpus[:100]]
    expected = [tokenizer.source.sample(texts, Sampling(0.2), range(k, k + 100)) for k in range(4)]
    found = {}

    def draw(k):
        found[k] = [tokenizer.source.sample(texts, Sampling(0.2), range(k, k + 100)) for _ in range(5)]

    threads = [threading.Thread(target=draw, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(rows == expected[k] for k in range(4) for rows in found[k])


@pytest.mark.parametrize("kind", ["char", "word"])
def test_kinds_with_a_single_segmentation(tokenizers, kind):
    with pytest.raises(TokenizerError, match="Subword sampling must have a unigram or bpe tokenizer"):
        tokenizers[kind].source.sample(["the cat"], Sampling(), [0])
    with pytest.raises(TokenizerError, match="Switch sampling off, or train another kind"):
        Sampler(processor_of(tokenizers[kind]))


def test_sampling_arguments(tokenizers):
    for alpha in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="alpha must be a number > 0"):
            Sampling(alpha=alpha)
    for nbest_size in (-2, 0, 1):
        with pytest.raises(ValueError, match="nbest_size must be -1 or >= 2"):
            Sampling(nbest_size=nbest_size)
    with pytest.raises(ValueError, match="seeds must be one for each of 2 texts, got 1"):
        tokenizers["unigram"].source.sample(["a", "b"], Sampling(), [1])


def test_sentence_seeds():
    def mix(state):
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    def naive(*parts):
        state = 0
        for part in parts:
            state = mix((state + 0x9E3779B97F4A7C15 + part) % 2**64)
        return state >> 32

    indices = np.array([0, 1, 5, 10**7])
    assert sentence_seeds(3, 4, indices, side=1) == [naive(3, 4, 1, int(i)) for i in indices]
    seen = {
        seed
        for run in range(3)
        for epoch in range(3)
        for side in range(2)
        for seed in sentence_seeds(run, epoch, np.arange(100), side)
    }
    assert len(seen) == 1800
