import io
import pickle

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.errors import TokenizerError
from seq2seq.text.ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from seq2seq.text.tokenizer import SubwordVocabulary, Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer


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


def test_special_ids_are_the_same_everywhere(tokenizers):
    assert (PAD_ID, UNKNOWN_ID, START_ID, END_ID) == (0, 1, 2, 3)
    for tokenizer in tokenizers.values():
        assert tokenizer.target.pieces([UNKNOWN_ID, START_ID, PAD_ID, END_ID]) == ["<unk>", "</s>"]


def test_every_row_ends_with_the_end_and_holds_it_once(corpus, tokenizers):
    for tokenizer in tokenizers.values():
        for row in tokenizer.source.encode([source for source, _ in corpus]):
            assert row[-1] == END_ID
            assert len(row) > 1
            assert not {PAD_ID, START_ID, END_ID} & set(row[:-1])


@pytest.mark.parametrize("text", ["", " ", "\t", "\u200b"])
def test_a_text_of_nothing_is_the_end_alone(tokenizers, text):
    for kind in ("unigram", "bpe", "char"):
        assert tokenizers[kind].source.encode([text]) == [[END_ID]]
        assert tokenizers[kind].source.decode([[END_ID]]) == [""]


def test_texts_cannot_write_special_ids(tokenizers):
    for tokenizer in tokenizers.values():
        (row,) = tokenizer.target.encode(["<s> </s> <pad> the </s>"])
        assert not {PAD_ID, START_ID, END_ID} & set(row[:-1])


def test_no_texts(tokenizers):
    assert tokenizers["bpe"].source.encode([]) == []
    assert tokenizers["bpe"].source.decode([]) == []


def test_many_texts_at_once_are_as_one_by_one(corpus, tokenizers):
    texts = [source for source, _ in corpus] * 3
    for tokenizer in tokenizers.values():
        assert tokenizer.source.encode(texts) == [tokenizer.source.encode([text])[0] for text in texts]


def test_ids_are_those_of_sentencepiece_itself(corpus, tokenizers):
    for tokenizer in tokenizers.values():
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.models["joint.model"])
        for source, _ in corpus[:20]:
            assert tokenizer.source.encode([source]) == [[*processor.encode(source), 3]]


def test_decoding_stops_at_the_end_and_passes_over_padding_and_start(tokenizers):
    tokenizer = tokenizers["unigram"]
    (row,) = tokenizer.target.encode(["le chat"])
    (other,) = tokenizer.target.encode(["le chien"])
    assert tokenizer.target.decode([[START_ID, *row, *other]]) == ["le chat"]
    assert tokenizer.target.decode([[PAD_ID, *row, PAD_ID, PAD_ID]]) == ["le chat"]
    assert tokenizer.target.decode([row[:-1]]) == ["le chat"]
    assert tokenizer.target.decode([[], [END_ID], row]) == ["", "", "le chat"]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_decoding_takes_arrays(tokenizers, dtype):
    tokenizer = tokenizers["unigram"]
    rows = tokenizer.target.encode(["le chat", "le chien et le chat"])
    array = np.zeros((2, 40), dtype)
    for place, row in enumerate(rows):
        array[place, : len(row)] = row
    assert tokenizer.target.decode(array) == ["le chat", "le chien et le chat"]


@pytest.mark.parametrize("bad", [-1, 250, 10**9])
@pytest.mark.parametrize("after", [[], [END_ID]])
def test_ids_outside_the_vocabulary_are_named(tokenizers, bad, after):
    message = rf"token_ids\[1\]\[2\] must be from 0 to 249, but is {bad} instead. Decode with the tokenizer"
    with pytest.raises(TokenizerError, match=message):
        tokenizers["unigram"].target.decode([[5], [5, 6, bad, *after]])
    with pytest.raises(TokenizerError, match=r"token_ids\[0\]\[0\]"):
        tokenizers["unigram"].target.pieces([bad])


def test_pieces_of_the_source_can_stand_among_those_of_the_target(tokenizers):
    for kind, tokenizer in tokenizers.items():
        pieces = tokenizer.source.tokenize("字字")
        assert tokenizer.target.join(pieces) == "字字", kind
        assert tokenizer.target.join([*pieces, "</s>", *pieces]) == "字字", kind


def test_pieces_stand_one_for_one_beside_ids(corpus, tokenizers):
    for kind, tokenizer in tokenizers.items():
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.models["joint.model"])
        for source, target in corpus[:20]:
            pieces = tokenizer.source.tokenize(source)
            assert pieces == [processor.id_to_piece(i) for i in tokenizer.source.encode([source])[0]]
            assert pieces[-1] == "</s>"
            (row,) = tokenizer.target.encode([target])
            assert tokenizer.target.pieces([START_ID, *row, PAD_ID, 7]) == [processor.id_to_piece(i) for i in row]
            if kind != "word":
                assert "".join(pieces[:-1]).replace("▁", " ").strip() == source
    assert "☃" in "".join(tokenizers["unigram"].source.tokenize("the ☃"))
    assert tokenizers["unigram"].target.pieces([5, 6])[-1] != "</s>"


@given(st.text(st.sampled_from("abcdefghijklmnoprstuvwy é"), max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_text_of_known_characters_comes_back(tokenizers, text):
    expected = " ".join(text.split())
    for kind in ("unigram", "bpe", "char"):
        tokenizer = tokenizers[kind]
        known = expected if UNKNOWN_ID not in tokenizer.source.encode([text])[0] else None
        if known is not None:
            assert tokenizer.source.decode(tokenizer.source.encode([text])) == [known]


def test_models_hold_all_that_it_knows(tokenizers, corpus):
    joint = tokenizers["unigram"]
    assert list(joint.models) == ["joint.model"]
    split = train_tokenizer([s for s, _ in corpus], [t for _, t in corpus], vocabulary_size=70, shared=False)
    assert list(split.models) == ["source.model", "target.model"]
    for tokenizer in (joint, split):
        for copy in (Tokenizer.from_models(tokenizer.models), pickle.loads(pickle.dumps(tokenizer))):
            assert copy == tokenizer
            assert hash(copy) == hash(tokenizer)
            assert copy.fingerprint == tokenizer.fingerprint
            assert copy.models == tokenizer.models
            assert copy.source.encode(["the cat"]) == tokenizer.source.encode(["the cat"])
            assert copy.target.encode(["le chat"]) == tokenizer.target.encode(["le chat"])


def test_fingerprints_differ_with_the_models(tokenizers):
    fingerprints = {tokenizer.fingerprint for tokenizer in tokenizers.values()}
    assert len(fingerprints) == 4
    first, second = (tokenizers[kind].models["joint.model"] for kind in ("unigram", "bpe"))
    first, second = SubwordVocabulary(first), SubwordVocabulary(second)
    pairs = {
        Tokenizer(first, second),
        Tokenizer(second, first),
        Tokenizer(first, SubwordVocabulary(first.model)),
        Tokenizer(first),
    }
    assert len(pairs) == 4
    assert Tokenizer(first) != "something else"


def test_what_it_says_of_itself(tokenizers):
    model = tokenizers["unigram"].models["joint.model"]
    assert repr(Tokenizer(SubwordVocabulary(model))) == "Tokenizer(joint, 250 pieces)"
    assert (
        repr(Tokenizer(SubwordVocabulary(model), SubwordVocabulary(model)))
        == "Tokenizer(source 250 pieces, target 250 pieces)"
    )


@pytest.mark.parametrize("names", [(), ("source.model",), ("joint.model", "target.model"), ("a.model",)])
def test_models_under_other_names(tokenizers, names):
    model = tokenizers["unigram"].models["joint.model"]
    with pytest.raises(
        TokenizerError, match=r"must be joint\.model, or source.model with target\.model or labels\.model, got"
    ):
        Tokenizer.from_models(dict.fromkeys(names, model))


def test_damaged_models(tokenizers):
    model = tokenizers["unigram"].models["joint.model"]
    with pytest.raises(TokenizerError, match=r"joint\.model must be a SentencePiece model, got an empty"):
        Tokenizer.from_models({"joint.model": b""})
    for damaged in (b"garbage", b"\0" * 100, model[: len(model) // 2], model[100:]):
        with pytest.raises(TokenizerError, match=r"joint.model must be a SentencePiece model, got .* bytes"):
            Tokenizer.from_models({"joint.model": damaged})
    with pytest.raises(TokenizerError, match=r"^target.model must be a SentencePiece model, got 7 bytes"):
        Tokenizer.from_models({"source.model": model, "target.model": b"garbage"})
    with pytest.raises(TokenizerError, match=r"^source.model must be a SentencePiece model, got 7 bytes"):
        Tokenizer.from_models({"source.model": b"garbage", "target.model": model})


def test_models_with_other_special_ids():
    message = r"must number padding, unknown, start and end as \(0, 1, 2, 3\), got \(-1, 0, 1, 2\)"
    with pytest.raises(TokenizerError, match=message):
        SubwordVocabulary(foreign_model())
    assert SubwordVocabulary(foreign_model(pad_id=0, unk_id=1, bos_id=2, eos_id=3)).encode([""]) == [[3]]


def test_texts_of_the_wrong_kind(tokenizers):
    tokenizer = tokenizers["unigram"]
    with pytest.raises(TypeError, match=r"texts must be a list of strings, got one string. Write \['the cat'\]"):
        tokenizer.source.encode("the cat")
    with pytest.raises(TypeError, match=r"texts\[1\] must be a string, got NoneType"):
        tokenizer.target.encode(["the cat", None])
    for call in (tokenizer.source.encode, lambda texts: tokenizer.source.tokenize(texts[0])):
        with pytest.raises(TokenizerError, match=r"texts\[0\] must be valid Unicode, got half a surrogate pair .* 2 "):
            call(["ab\udc00"])
