"""Labels in the place of a target text: ids, their places among the pieces, and what is refused."""

import pickle
import random

import pytest

from seq2seq.errors import DataError
from seq2seq.text.corpus import read_pairs
from seq2seq.text.ids import END_ID, PAD_ID, UNKNOWN_ID
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer, label_problem
from seq2seq.text.tokenizer_training import train_tokenizer

WORDS = ["the", "cats", "near", "old", "houses", "sleep", "soundly"]


def make(kind, by_word, size=40):
    lines = [" ".join(WORDS), "the old cats sleep near the houses"]
    model = train_tokenizer(lines, [], kind=kind, vocabulary_size=size).models["joint.model"]
    return Tokenizer(SubwordVocabulary(model, by_word), LabelVocabulary(["A", "B", "C"], by_word))


@pytest.mark.parametrize("kind", ["bpe", "char", "word"])
def test_labels_of_words_lie_on_their_first_pieces(kind):
    """By brute force: pieces are walked through, and a label is due wherever a new word has begun."""
    tokenizer, draw = make(kind, by_word=True), random.Random(1)
    sources = [" ".join(draw.choices([*WORDS, "soup", "ęę", "øø"], k=draw.randint(1, 8))) for _ in range(40)]
    targets = [" ".join(draw.choices("ABC", k=len(source.split()))) for source in sources]
    source_ids, target_ids = tokenizer.encode_pairs(sources, targets)
    for source, target, ids, labels in zip(sources, targets, source_ids, target_ids, strict=True):
        pieces = tokenizer.source.tokenize(source)
        assert len(ids) == len(labels) == len(pieces)
        assert (ids[-1], labels[-1]) == (END_ID, PAD_ID)
        expected, words = [], source.split()
        for word, label in zip(words, target.split(), strict=True):
            length = len(SubwordVocabulary(tokenizer.models["source.model"]).encode([word])[0]) - 1
            expected += ["ABC".index(label) + 4] + [PAD_ID] * (length - 1)
        assert labels[:-1] == expected
        assert tokenizer.target.pieces(labels) == target.split()
        assert "".join(pieces[:-1]).replace("▁", " ").split() == words


def test_one_label_of_a_source():
    tokenizer = make("bpe", by_word=False)
    plain = SubwordVocabulary(tokenizer.models["source.model"])
    source_ids, target_ids = tokenizer.encode_pairs(["the cats", "old  houses"], ["B", " A "])
    assert (source_ids, target_ids) == (plain.encode(["the cats", "old  houses"]), [[5], [4]])
    assert tokenizer.target.decode(target_ids) == ["B", "A"]
    assert tokenizer.encode_with_label_positions([])[0] == []


def test_a_word_that_normalisation_leaves_nothing_of_has_its_label():
    source_ids, target_ids = make("bpe", by_word=True).encode_pairs(["the \u200b\u200d cats"], ["A B C"])
    assert sum(label > 0 for label in target_ids[0]) == 3
    assert UNKNOWN_ID in source_ids[0]


@pytest.mark.parametrize("by_word", [False, True])
def test_is_the_same_from_its_models(by_word):
    tokenizer = make("bpe", by_word)
    for again in (Tokenizer.from_models(tokenizer.models), pickle.loads(pickle.dumps(tokenizer))):
        assert (again.target.labels, again.target.by_word, again == tokenizer) == (("A", "B", "C"), by_word, True)
    assert tokenizer != make("bpe", not by_word)
    assert (tokenizer.is_joint, tokenizer.target.size) == (False, 7)


def test_sampling_draws_pieces_of_a_source_and_not_of_words():
    sampling = Sampling(0.3, -1)
    classify, tag = make("bpe", by_word=False, size=30), make("bpe", by_word=True, size=30)
    drawn = {tuple(classify.source.sample(["the cats sleep soundly"], sampling, [seed])[0]) for seed in range(9)}
    assert len(drawn) > 1
    assert classify.target.sample(["C"], sampling, [1]) == [[6]]
    with pytest.raises(ValueError, match=r"sampling must be None for words"):
        tag.source.sample(["the cats"], sampling, [1])


@pytest.mark.parametrize(
    ("by_word", "target", "message"),
    [
        (True, "A B", r"must have a label for each of 3 words of its source, got 2\."),
        (True, "A D B", r"must be one of the training pairs, got 'D'\."),
        (False, "A B", r"must be one of the training pairs, got 'A B'\."),
    ],
)
def test_what_cannot_be_the_labels(by_word, target, message):
    with pytest.raises(DataError, match=message):
        make("bpe", by_word).encode_pairs(["the old cats"], [target])


def test_an_unknown_label_alone():
    with pytest.raises(DataError, match="got 'D'"):
        make("bpe", by_word=True).target.encode(["A D"])


@pytest.mark.parametrize(
    ("kind", "good", "bad", "place"),
    [
        ("tsv", "a b\tA B", "a b\tA", "train.tsv:2"),
        ("jsonl", '{"source": "a b", "target": "A B"}', '{"source": "a b", "target": "A"}', "train.jsonl:2"),
        ("parallel", ("a b", "A B"), ("a b", "A"), "train.target:2"),
    ],
)
def test_files_are_judged_with_their_place(tmp_path, kind, good, bad, place):
    lines = [good, bad]
    paths = [tmp_path / f"train.{kind}"]
    if kind == "parallel":
        paths = [tmp_path / "train.source", tmp_path / "train.target"]
        for path, texts in zip(paths, zip(*lines, strict=True), strict=True):
            path.write_text("".join(f"{text}\n" for text in texts))
    else:
        paths[0].write_text("".join(f"{line}\n" for line in lines))

    def judge(source, target):
        return label_problem(source, target, True, None)

    with pytest.raises(DataError, match=rf"{place}: the target must have a label for each of 2 words"):
        list(read_pairs(*paths, format=kind, judge=judge))
    assert len(list(read_pairs(*paths, format=kind, judge=judge, on_bad_line="skip"))) == 1
