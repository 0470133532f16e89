"""Labelled sentences: the file, and where their words are among the pieces."""

import re
from pathlib import Path

import pytest

from seq2seq.errors import DataError
from seq2seq.inspection.units import (
    LabelledSentence,
    MarkedText,
    last_pieces,
    read_labelled_sentences,
    steps_between,
)
from seq2seq.text.tokenizer_training import train_tokenizer

NUMBER = Path(__file__).parents[2] / "data" / "en-fr" / "number.tsv"


def test_shipped_file():
    sentences = read_labelled_sentences(NUMBER)
    assert len(sentences) == 1000
    lines = NUMBER.read_text(encoding="utf-8").splitlines()
    for line, (label, source, target) in zip(lines, sentences, strict=True):
        assert line == "\t".join(map(str, (label, *source, *target)))


def test_a_file_without_translations(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"plural\t1\t1\tthe cats sleep\r\nsingular\t1\t5\tthe cat that ate the fish sleeps\n")
    assert read_labelled_sentences(path) == [
        LabelledSentence("plural", MarkedText(1, 1, "the cats sleep")),
        LabelledSentence("singular", MarkedText(1, 5, "the cat that ate the fish sleeps"), None),
    ]


COLUMNS = "label, first word, last word, sentence, and for its translation again first word, last word, sentence"
COUNT = "Count from 0 what stands between spaces."
GOOD = "plural\t1\t1\tthe cats sleep\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": must hold at least one labelled sentence, but is empty instead. Check the path."),
        ("plural\t1\tx\n", f":1: expected 4 or 7 tab-separated columns ({COLUMNS}), got 3. Check the line's tabs."),
        (GOOD + "\n", f":2: expected 4 or 7 tab-separated columns ({COLUMNS}), got 1. Check the line's tabs."),
        (GOOD + " \t1\t1\ta b c\n", ":2: the label must be a word or more, but is ' ' instead. Write one."),
        (
            GOOD + "plural\t1\t1\ta b c\t0\t0\td e\n",
            ":2: every line must have a translation, or none. Add it, or leave it out.",
        ),
        *(
            (
                f"plural\t{first}\t{last}\ta b c\n",
                ":1: the numbers of two words must be 0 <= first <= last < 3 in a text of 3 words, but are "
                f"{first!r} and {last!r} instead. {COUNT}",
            )
            for first, last in [("2", "1"), ("-1", "1"), ("0", "3"), ("0", "x"), ("", "1"), ("0", "1.0"), ("²", "2")]
        ),
        (
            "plural\t1\t1\ta b c\t0\t2\td e\n",
            ":1: the numbers of two words must be 0 <= first <= last < 2 in a text of 2 words, but are '0' and '2' "
            f"instead. {COUNT}",
        ),
    ],
)
def test_messages_name_file_and_line(tmp_path, text, message):
    path = tmp_path / "a.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"^{re.escape(str(path) + message)}$"):
        read_labelled_sentences(path)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(GOOD.encode() + b"plural\t1\t1\t\xff b c\n")
    message = ":2: must be UTF-8, got 0xff at byte 12. Save the file as UTF-8."
    with pytest.raises(DataError, match=f"^{re.escape(str(path) + message)}$"):
        read_labelled_sentences(path)
    with pytest.raises(DataError, match="does not exist"):
        read_labelled_sentences(tmp_path / "b.tsv")


@pytest.fixture(scope="module")
def sentences():
    return [sentence.source for sentence in read_labelled_sentences(NUMBER)[:300]]


@pytest.mark.parametrize(("kind", "size"), [("unigram", 150), ("bpe", 200), ("char", 100), ("word", 300)])
def test_last_pieces_spell_the_words_up_to_them(sentences, kind, size):
    texts = [sentence.text for sentence in sentences]
    tokenizer = train_tokenizer(texts, texts, kind=kind, vocabulary_size=size)
    for sentence in [*sentences[:40], MarkedText(1, 2, "the ☃☃ and, the,cat ☃ ☃ dog")]:
        pieces = tokenizer.source.tokenize(sentence.text)
        words = sentence.text.split()
        ends = last_pieces(pieces)
        assert len(ends) == len(words)
        for number, end in enumerate(ends):
            read = "".join(pieces[: end + 1]).replace("▁", " ").split()
            assert read[: number + 1] == words[: number + 1]
            # More words only where the tokenizer made one unknown piece of several.
            assert len(read) == number + 1 or "▁" in pieces[end][1:]
        assert steps_between(sentence, pieces) == (ends[sentence.first], ends[sentence.last])


def test_last_pieces_of_words_in_one_unknown_piece():
    assert last_pieces(["▁the", "▁x▁yy▁z", "s", "▁is", "</s>"]) == [0, 1, 1, 2, 3]


def test_words_must_be_those_of_the_tokenizer():
    message = (
        "The tokenizer must find the 2 words of 'a \u00b4b', but finds 3 instead: ▁a ▁ ▁b </s>. Leave the sentence "
        "out, or write it without characters that become spaces."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        steps_between(MarkedText(0, 1, "a \u00b4b"), ["▁a", "▁", "▁b", "</s>"])
