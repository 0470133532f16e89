"""Training of tokenizers: sizes, errors that name one that works, rare characters, symbols, samples."""

import re

import pytest

from seq2seq.errors import TokenizerError
from seq2seq.text import tokenizer_training
from seq2seq.text.tokenizer_training import Reservoir, tokenizer_from_tokens, train_tokenizer

ALL_KINDS = pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
RARE = [
    "naïve café déjà vu",
    "漢字 と ひらがな",
    "שלום עולם",
    "مرحبا بالعالم",
    "👩‍👩‍👧 🇫🇷 🙂",
    "Ελλάδα Россия",
    "\U0001d518\U0001d52b\U0001d526\U0001d520\U0001d52c\U0001d521\U0001d522 \U00010348",
    "a\u0301 e\u0302 n\u0303",
] * 2


@pytest.fixture(scope="module")
def sides(corpus):
    return [source for source, _ in corpus], [target for _, target in corpus]


def train(lines, size=100, **options):
    return train_tokenizer(lines, [], vocabulary_size=size, **options).source


def round_trip(vocabulary, *texts):
    return vocabulary.decode(vocabulary.encode(list(texts)))


def refused_size(lines, size, **options) -> int:
    """Return the size that the error about another one names."""
    with pytest.raises(TokenizerError, match=f"^vocabulary_size must be .* got {size}") as caught:
        train(lines, size, **options)
    return int(re.search(r"must be [<>]= (\d+)", str(caught.value))[1])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("options", [{}, {"byte_fallback": True}, {"user_symbols": ["<a,b>", '"q"', "ü"]}], ids=str)
def test_errors_name_the_largest_size(corpus, kind, options):
    lines, options = [text for pair in corpus[:40] for text in pair], {"kind": kind} | options
    largest = refused_size(lines, 30_000, **options)
    assert train(lines, largest, **options).size == largest
    assert refused_size(lines, largest + 1, **options) == largest


@ALL_KINDS
@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("user_symbols", [(), ("<a>", "<b>")])
def test_errors_name_the_smallest_size(corpus, kind, size, user_symbols):
    lines, options = [text for pair in corpus[:40] for text in pair], {"kind": kind, "user_symbols": user_symbols}
    smallest = refused_size(lines, size, **options)
    assert train(lines, smallest, **options).size == smallest
    assert refused_size(lines, smallest - 1, **options) == smallest


def test_byte_fallback_needs_room_for_the_bytes(sides):
    smallest = refused_size(sides[0][:40], 200, byte_fallback=True)
    assert smallest > 260
    assert train(sides[0][:40], smallest, byte_fallback=True).size == smallest


def test_the_named_size_is_tried_before_it_is_named(monkeypatch):
    replies = {100: "Vocabulary size too high (100). Set it to a value <= 50.", 50: "Vocabulary size too high <= 40"}
    tried = []

    def attempt(lines, size, options):
        tried.append(size)
        return (None, replies[size]) if size in replies else (b"model", "")

    monkeypatch.setattr(tokenizer_training, "_attempt", attempt)
    assert refused_size(["a"], 100) == 40
    assert tried == [100, 50, 40]
    monkeypatch.setattr(tokenizer_training, "_attempt", lambda *_: (None, "INTERNAL: the reason"))
    with pytest.raises(TokenizerError, match=r"could not train .* vocabulary_size 100: INTERNAL: the reason"):
        train(["a"])


def test_two_vocabularies(sides):
    tokenizer = train_tokenizer(*sides, shared=False, vocabulary_size=80, target_vocabulary_size=90)
    assert (tokenizer.is_joint, tokenizer.source.size, tokenizer.target.size) == (False, 80, 90)
    assert round_trip(tokenizer.source, *sides[0]) == sides[0]
    assert round_trip(tokenizer.target, *sides[1]) == sides[1]
    assert "⁇" in round_trip(tokenizer.source, "élève")[0]
    same = train_tokenizer(*sides, shared=False, vocabulary_size=80)
    assert (same.source.size, same.target.size) == (80, 80)
    for name in ("vocabulary_size", "target_vocabulary_size"):
        sizes = {"vocabulary_size": 60, "target_vocabulary_size": 60} | {name: 30_000}
        with pytest.raises(TokenizerError, match=f"^{name} must be <="):
            train_tokenizer(*sides, shared=False, **sizes)


def test_a_shared_vocabulary(sides, tokenizers):
    for kind, tokenizer in tokenizers.items():
        assert tokenizer.is_joint, kind
        assert round_trip(tokenizer.source, *sides[0], *sides[1]) == [*sides[0], *sides[1]]


def test_sizes(sides, tokenizers):
    texts = [*sides[0], *sides[1]]
    characters = {character for text in texts for character in text.replace(" ", "▁")}
    words = {word for text in texts for word in text.split()}
    expected = {"unigram": 250, "bpe": 200, "char": 4 + len(characters), "word": 4 + len(words)}
    assert {kind: tokenizer.source.size for kind, tokenizer in tokenizers.items()} == expected


@pytest.mark.parametrize(("kind", "text", "piece"), [("char", " ", "▁"), ("word", "the", "▁the")])
def test_a_small_vocabulary_keeps_the_frequent(sides, kind, text, piece):
    vocabulary = train(sides[0], 8, kind=kind)
    assert vocabulary.size == 8
    assert piece in vocabulary.tokenize("the")
    assert 1 not in vocabulary.encode([text])[0]


def test_the_same_in_any_process(corpus, fresh_python):
    code = """
from seq2seq.text.tokenizer_training import train_tokenizer
lines = {lines!r}
for kind in ("unigram", "bpe", "char", "word"):
    print(train_tokenizer(lines, lines, kind=kind, vocabulary_size=70).fingerprint)
"""
    lines = [text for pair in corpus[:100] for text in pair]
    kinds = ("unigram", "bpe", "char", "word")
    here = [train_tokenizer(lines, lines, kind=kind, vocabulary_size=70).fingerprint for kind in kinds]
    assert fresh_python(code.format(lines=lines)).split() == here


def test_training_encoding_and_failing_print_nothing(sides, capfd):
    tokenizer = train_tokenizer(sides[0], ["a\tb", "x" * 5000], vocabulary_size=100)
    round_trip(tokenizer.target, "the 漢字 \t x")
    for size in (5, 90_000):
        refused_size(sides[0], size)
    assert capfd.readouterr() == ("", "")


@ALL_KINDS
def test_rare_unicode_comes_back_as_it_was(kind):
    size = {"unigram": 65, "bpe": 100}.get(kind, 500)
    vocabulary = train(RARE, size, kind=kind, normalization="identity")
    assert round_trip(vocabulary, *RARE) == RARE
    assert not any(1 in row for row in vocabulary.encode(RARE))


def test_byte_fallback(sides):
    unseen = "the 漢字 🙂 ☃ cat"
    assert round_trip(train(sides[0]), unseen) == ["the ⁇ ⁇ ⁇ cat"]
    spelling = train(sides[0], 350, byte_fallback=True)
    assert round_trip(spelling, unseen) == [unseen]
    assert 1 not in spelling.encode([unseen])[0]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [("char", "the☃cat ☃ the", "the⁇cat ⁇ the"), ("word", "snow the snow the", "⁇ the ⁇ the")],
)
def test_an_unknown_piece_reads_as_one_mark(tokenizers, kind, text, expected):
    assert round_trip(tokenizers[kind].source, text) == [expected]


@ALL_KINDS
def test_user_symbols_are_one_piece(sides, kind):
    symbols = ["<ent,1>", '"q"', "ü", "@@"]
    vocabulary = train(sides[0], kind=kind, user_symbols=symbols)
    for symbol in symbols:
        assert (f"▁{symbol}" if kind == "word" else symbol) in vocabulary.tokenize(f"the cat {symbol} the")
        assert kind == "word" or symbol in vocabulary.tokenize(f"the cat{symbol}the")
        assert round_trip(vocabulary, f"{symbol} the") == [f"{symbol} the"]


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("nmt_nfkc", "ABC file 1 cat"),
        ("nfkc", "ABC file 1 cat"),
        ("nmt_nfkc_cf", "abc file 1 cat"),
        ("nfkc_cf", "abc file 1 cat"),
        ("identity", "\uff21\uff22\uff23 ﬁle ① cat"),
    ],
)
def test_normalization(normalization, expected):
    text = "\uff21\uff22\uff23 ﬁle ① cat"
    assert round_trip(train([text, expected], kind="char", normalization=normalization), text) == [expected]


def test_no_line_is_dropped():
    odd = ["a\tbéta", "a\tb", "ç▅", "long " * 3000 + "ñ"]
    for line, character in zip(odd, "é\tçñ", strict=True):
        vocabulary = train(["plain words"] * 3 + [line], kind="char", normalization="identity")
        assert 1 not in vocabulary.encode([f"a{character}a"])[0], character


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "must have at least one line"),
        (["", "   ", "\t"], "must have at least one line"),
        (["c", "a\0b"], "Line 2 of the source must be text, got a NUL"),
        (["c", "a\ud800b"], "Line 2 of the source must be valid Unicode, got half a surr"),
    ],
)
def test_bad_lines(lines, message):
    with pytest.raises(TokenizerError, match=message):
        train(lines)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "unigramm"}, "kind must be one of unigram, bpe, char, word"),
        ({"normalization": "nfd"}, "normalization must be one of"),
        ({"character_coverage": 0.5}, r"character_coverage must be from 0\.98 to 1"),
        ({"kind": "char", "byte_fallback": True}, "byte_fallback must be False where kind is char"),
        ({"target_vocabulary_size": 5}, "target_vocabulary_size must be None where shared is True"),
        ({"user_symbols": [""]}, "user_symbols must be strings without spaces"),
        ({"user_symbols": ["a b"]}, "user_symbols must be strings without spaces"),
        ({"user_symbols": ["</s>"]}, "user_symbols must be other than"),
        ({"user_symbols": ["x", "x"]}, "user_symbols must be without repetition"),
        ({"max_training_lines": 0}, "max_training_lines must be"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        train(["a b c"], 20, **options)
    with pytest.raises(TypeError, match="user_symbols must be a list of strings"):
        train(["a b c"], 20, user_symbols="ab")


def test_lower_coverage_gives_up_rare_characters():
    lines = ["abcd " * 50] * 4 + ["ж"]
    assert 1 not in train(lines, 50, kind="char").encode(["ж"])[0]
    assert 1 in train(lines, 50, kind="char", character_coverage=0.99).encode(["ж"])[0]


def test_a_sample_holds_every_item_equally_often():
    counts = dict.fromkeys(range(20), 0)
    for seed in range(2000):
        sample = Reservoir(5, seed)
        for number in range(20):
            sample.add(number)
        assert len(sample.items) == len(set(sample.items)) == 5
        for number in sample.items:
            counts[number] += 1
    # 2000 draws of 5 in 20: 500 each, give or take 19.4; five deviations.
    assert all(abs(count - 500) < 97 for count in counts.values()), counts


def test_training_on_a_sample(sides):
    sample = Reservoir(60, seed=3)
    for line in sides[0]:
        sample.add(line)
    sampled = train(sides[0], 60, max_training_lines=60, seed=3)
    assert sampled.model == train(sample.items, 60).model
    assert sampled.model != train(sides[0], 60, max_training_lines=60, seed=4).model
    assert train(sides[0], 60, max_training_lines=None).model == train(sides[0], 60).model


@pytest.mark.parametrize(
    ("tokens", "kind", "message"),
    [
        (["ab"], "char", r"source_tokens\[0\] must be one character"),
        (["a b"], "word", r"source_tokens\[0\] must be a word without spaces"),
        (["a", "b", "a"], "word", "source_tokens must hold each token once, got 'a' twice"),
    ],
)
def test_given_tokens(tokens, kind, message):
    with pytest.raises(TokenizerError, match=message):
        tokenizer_from_tokens(tokens, ["x"], kind)
    tokenizer = tokenizer_from_tokens(["the", "cat"], ["la", "kato"], "word")
    assert tokenizer.source.encode(["the cat sat"]) == [[4, 5, 1, 3]]
    assert tokenizer.target.decode([[4, 5]]) == ["la kato"]
