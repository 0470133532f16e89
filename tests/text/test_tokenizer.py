"""Vocabularies of subwords and labels, the tokenizer that joins them, and truncation."""

import io
import pickle
import random

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.errors import DataError, TokenizerError
from seq2seq.text.ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer, Truncation
from seq2seq.text.tokenizer_training import train_tokenizer

WORDS = ["the", "cats", "near", "old", "houses", "sleep", "soundly"]


def foreign_model(**options) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some words here"] * 3),
        model_writer=model,
        model_type="char",
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=3,
        **options,
    )
    return model.getvalue()


def labelling(kind, by_word, size=40) -> Tokenizer:
    lines = [" ".join(WORDS), "the old cats sleep near the houses"]
    model = train_tokenizer(lines, [], kind=kind, vocabulary_size=size).source.model
    return Tokenizer(SubwordVocabulary(model, by_word), LabelVocabulary(["A", "B", "C"], by_word))


def test_every_row_ends_with_the_end_and_contains_it_once(corpus, tokenizers):
    assert (PAD_ID, UNKNOWN_ID, START_ID, END_ID) == (0, 1, 2, 3)
    for tokenizer in tokenizers.values():
        assert tokenizer.target.pieces([UNKNOWN_ID, START_ID, PAD_ID, END_ID]) == ["<unk>", "</s>"]
        for row in tokenizer.source.encode([*(source for source, _ in corpus), "<s> </s> <pad> the </s>"]):
            assert row[-1] == END_ID
            assert len(row) > 1
            assert not {PAD_ID, START_ID, END_ID} & set(row[:-1])


@pytest.mark.parametrize("text", ["", " ", "\t", "\u200b"])
def test_an_empty_text_is_the_end_alone(tokenizers, text):
    for kind in ("unigram", "bpe", "char"):
        assert tokenizers[kind].source.encode([text]) == [[END_ID]]
        assert tokenizers[kind].source.decode([[END_ID]]) == [""]
        assert tokenizers[kind].source.encode([]) == tokenizers[kind].source.decode([]) == []


def test_ids_and_pieces_are_those_of_sentencepiece(corpus, tokenizers):
    texts = [source for source, _ in corpus[:20]]
    for kind, tokenizer in tokenizers.items():
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.models["joint.model"])
        rows = tokenizer.source.encode(texts)
        assert rows == [tokenizer.source.encode([text])[0] for text in texts]
        assert rows == [[*processor.encode(text), END_ID] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            pieces = tokenizer.source.tokenize(text)
            assert pieces == [processor.id_to_piece(i) for i in row]
            assert tokenizer.target.pieces([START_ID, *row, PAD_ID, 7]) == pieces
            if kind != "word":
                assert "".join(pieces[:-1]).replace("▁", " ").strip() == text
    assert "☃" in "".join(tokenizers["unigram"].source.tokenize("the ☃"))


@pytest.mark.parametrize("dtype", [list, np.int32, np.int64, np.uint16])
def test_decoding_stops_at_the_end_without_padding_and_start(tokenizers, dtype):
    tokenizer = tokenizers["unigram"]
    row, other = tokenizer.target.encode(["le chat", "le chien"])
    rows = [[START_ID, *row, *other], [PAD_ID, *row, PAD_ID, PAD_ID], row[:-1], [], [END_ID], row]
    if dtype is not list:
        rows = [np.array(ids, dtype) for ids in rows]
    assert tokenizer.target.decode(rows) == ["le chat", "le chat", "le chat", "", "", "le chat"]


@pytest.mark.parametrize("bad", [-1, 250, 10**9])
@pytest.mark.parametrize("after", [[], [END_ID]])
def test_ids_outside_the_vocabulary_are_named(tokenizers, bad, after):
    with pytest.raises(TokenizerError, match=rf"token_ids\[1\]\[2\] must be from 0 to 249, got {bad}"):
        tokenizers["unigram"].target.decode([[5], [5, 6, bad, *after]])
    with pytest.raises(TokenizerError, match=r"token_ids\[0\]\[0\]"):
        tokenizers["unigram"].target.pieces([bad])
    with pytest.raises(TokenizerError, match=r"token_ids\[0\]\[0\]"):
        LabelVocabulary(["A"], True).decode([[bad]])


def test_pieces_of_the_source_can_be_joined_by_the_target(tokenizers):
    for kind, tokenizer in tokenizers.items():
        pieces = tokenizer.source.tokenize("字字")
        assert tokenizer.target.join(pieces) == "字字", kind
        assert tokenizer.target.join([*pieces, "</s>", *pieces]) == "字字", kind


@given(st.text(st.sampled_from("abcdefghijklmnoprstuvwy é"), max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_of_known_characters_comes_back(tokenizers, text):
    for kind in ("unigram", "bpe", "char"):
        vocabulary = tokenizers[kind].source
        if UNKNOWN_ID not in vocabulary.encode([text])[0]:
            assert vocabulary.decode(vocabulary.encode([text])) == [" ".join(text.split())]


def test_a_tokenizer_comes_back_from_its_models(tokenizers, corpus):
    split = train_tokenizer(*zip(*corpus, strict=True), vocabulary_size=70, shared=False)
    names = {
        ("joint.model",): tokenizers["unigram"],
        ("source.model", "target.model"): split,
        ("source.model", "labels.model"): labelling("bpe", by_word=True),
    }
    for models, tokenizer in names.items():
        assert tuple(tokenizer.models) == models
        assert tokenizer.is_joint == (models == ("joint.model",))
        for copy in (Tokenizer.from_models(tokenizer.models), pickle.loads(pickle.dumps(tokenizer))):
            assert copy == tokenizer
            assert hash(copy) == hash(tokenizer)
            assert copy.models == tokenizer.models
            assert copy.is_joint == tokenizer.is_joint
            assert copy.source.encode(["the cat"]) == tokenizer.source.encode(["the cat"])
            assert copy.target.pieces([5, 6]) == tokenizer.target.pieces([5, 6])


def test_fingerprints_differ_with_the_models(tokenizers):
    assert len({tokenizer.fingerprint for tokenizer in tokenizers.values()}) == 4
    first, second = tokenizers["unigram"].source, tokenizers["bpe"].source
    same = SubwordVocabulary(first.model)
    assert len({Tokenizer(first, second), Tokenizer(second, first), Tokenizer(first, same), Tokenizer(first)}) == 4
    assert labelling("bpe", by_word=False) != labelling("bpe", by_word=True)
    assert Tokenizer(first) != "something else"
    assert repr(Tokenizer(first)) == "Tokenizer(joint, 250 pieces)"
    assert repr(Tokenizer(first, same)) == "Tokenizer(source 250 pieces, target 250 pieces)"
    assert repr(labelling("bpe", by_word=True)) == "Tokenizer(source 40 pieces, target 3 labels)"


@pytest.mark.parametrize("names", [(), ("source.model",), ("joint.model", "target.model"), ("a.model",)])
def test_models_under_other_names(tokenizers, names):
    with pytest.raises(TokenizerError, match=r"must be joint\.model, or source.model with target\.model or labels\.mo"):
        Tokenizer.from_models(dict.fromkeys(names, tokenizers["unigram"].source.model))


def test_damaged_models(tokenizers):
    model = tokenizers["unigram"].source.model
    for damaged in (b"", b"garbage", b"\0" * 100, model[: len(model) // 2], model[100:]):
        with pytest.raises(TokenizerError, match=r"^joint\.model must be a SentencePiece model"):
            Tokenizer.from_models({"joint.model": damaged})
    with pytest.raises(TokenizerError, match=r"^target\.model must be"):
        Tokenizer.from_models({"source.model": model, "target.model": b"garbage"})


def test_models_with_other_special_ids():
    with pytest.raises(TokenizerError, match=r"must number .* as \(0, 1, 2, 3\), got \(-1, 0, 1, 2\)"):
        SubwordVocabulary(foreign_model())
    assert SubwordVocabulary(foreign_model(pad_id=0, unk_id=1, bos_id=2, eos_id=3)).encode([""]) == [[3]]


def test_texts_of_the_wrong_kind(tokenizers):
    vocabulary = tokenizers["unigram"].source
    with pytest.raises(TypeError, match=r"texts must be a list of strings, got one string. Write \['the cat'\]"):
        vocabulary.encode("the cat")
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got NoneType"):
        vocabulary.encode(["the cat", None])
    for call in (vocabulary.encode, lambda texts: vocabulary.tokenize(texts[0])):
        with pytest.raises(TokenizerError, match=r"texts\[0\] must be valid Unicode, got half a surrogate pair .* 2"):
            call(["ab\udc00"])


@pytest.mark.parametrize("kind", ["bpe", "char", "word"])
def test_labels_of_words_are_at_their_first_pieces(kind):
    """Walk through the pieces: a label is due wherever a new word begins."""
    tokenizer, draw = labelling(kind, by_word=True), random.Random(1)
    plain = SubwordVocabulary(tokenizer.source.model)
    sources = [" ".join(draw.choices([*WORDS, "soup", "ęę", "øø"], k=draw.randint(1, 8))) for _ in range(40)]
    targets = [" ".join(draw.choices("ABC", k=len(source.split()))) for source in sources]
    source_ids, target_ids = tokenizer.encode_pairs(sources, targets)
    assert tokenizer.target.decode(target_ids) == targets
    for source, target, ids, labels in zip(sources, targets, source_ids, target_ids, strict=True):
        pieces = tokenizer.source.tokenize(source)
        assert len(ids) == len(labels) == len(pieces)
        assert (ids[-1], labels[-1]) == (END_ID, PAD_ID)
        expected, words = [], source.split()
        for word, label in zip(words, target.split(), strict=True):
            expected += ["ABC".index(label) + 4] + [PAD_ID] * (len(plain.encode([word])[0]) - 2)
        assert labels[:-1] == expected
        assert "".join(pieces[:-1]).replace("▁", " ").split() == words


def test_one_label_of_a_source():
    tokenizer = labelling("bpe", by_word=False)
    sources = ["the cats", "old  houses"]
    source_ids, target_ids = tokenizer.encode_pairs(sources, ["B", " A "])
    assert (source_ids, target_ids) == (SubwordVocabulary(tokenizer.source.model).encode(sources), [[5], [4]])
    assert tokenizer.target.decode(target_ids) == ["B", "A"]
    assert tokenizer.encode_with_label_positions([]) == ([], [])


def test_a_word_without_pieces_has_its_label():
    source_ids, target_ids = labelling("bpe", by_word=True).encode_pairs(["the \u200b\u200d cats"], ["A B C"])
    assert sum(label > 0 for label in target_ids[0]) == 3
    assert UNKNOWN_ID in source_ids[0]


def test_sampling_draws_pieces_of_a_source_and_not_of_words():
    sampling = Sampling(0.3)
    classify, tag = labelling("bpe", by_word=False, size=30), labelling("bpe", by_word=True, size=30)
    drawn = {tuple(classify.source.sample(["the cats sleep soundly"], sampling, [seed])[0]) for seed in range(9)}
    assert len(drawn) > 1
    assert classify.target.sample(["C"], sampling, [1]) == [[6]]
    with pytest.raises(ValueError, match="sampling must be None for words"):
        tag.source.sample(["the cats"], sampling, [1])
    with pytest.raises(ValueError, match=r"source\.by_word must be True, as of the target, got False"):
        Tokenizer(classify.source, tag.target)


@pytest.mark.parametrize(
    ("by_word", "target", "message"),
    [
        (True, "A B", r"must have a label for each of 3 words of its source, got 2"),
        (True, "A D B", r"must be one of the training pairs, got 'D'"),
        (False, "A B", r"must be one of the training pairs, got 'A B'"),
    ],
)
def test_bad_labels(by_word, target, message):
    with pytest.raises(DataError, match=message):
        labelling("bpe", by_word).encode_pairs(["the old cats"], [target])
    with pytest.raises(DataError, match="got 'D'"):
        labelling("bpe", by_word).target.encode(["D"])


@pytest.mark.parametrize("policy", ["none", "head", "head_tail"])
@pytest.mark.parametrize("limit", [3, 4, 9])
def test_truncation(policy, limit):
    for length in range(1, 14):
        tokens = [*range(100, 100 + length - 1), END_ID]
        left = Truncation(policy, limit).cut(tokens)
        if policy == "none" or length <= limit:
            assert left == tokens
            continue
        assert len(left) == limit
        assert left[-1] == END_ID
        # Half of the rest, or all of it, is from the beginning.
        from_beginning = limit - 1 if policy == "head" else -(-(limit - 1) // 2)
        from_end = range(length - 1 - (limit - 1 - from_beginning), length - 1)
        assert [token - 100 for token in left[:-1]] == [*range(from_beginning), *from_end]


def test_the_note_counts_sources_and_tokens(toy_tokenizer):
    sources = ["the cat", "the big cat sees the dog", "the old king hears the girl today"]
    assert Truncation("head", 5).note(toy_tokenizer, sources) == (
        "2 of 3 sources cut to 5 tokens (head), 5 tokens (27.8 %) left out"
    )
    assert Truncation("head_tail", 8).note(toy_tokenizer, sources) == ""
    assert Truncation("none", 5).note(toy_tokenizer, sources) == ""
