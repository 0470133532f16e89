import re

import pytest

from seq2seq.errors import TokenizerError
from seq2seq.text import tokenizer_training
from seq2seq.text.tokenizer import SubwordVocabulary
from seq2seq.text.tokenizer_training import Reservoir, train_tokenizer

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


def named_number(error: Exception) -> int:
    found = re.search(r"must be [<>]= (\d+)", str(error))
    assert found, str(error)
    return int(found[1])


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("options", [{}, {"byte_fallback": True}, {"user_symbols": ["<a,b>", '"q"', "ü"]}], ids=str)
def test_errors_name_the_largest_size(corpus, kind, options):
    lines = [text for pair in corpus[:40] for text in pair]
    with pytest.raises(TokenizerError, match=r"vocabulary_size must be <= .* got 30000") as caught:
        train_tokenizer(lines, [], kind=kind, vocabulary_size=30_000, **options)
    largest = named_number(caught.value)
    assert train_tokenizer(lines, [], kind=kind, vocabulary_size=largest, **options).source.size == largest
    with pytest.raises(TokenizerError, match=f"<= {largest} "):
        train_tokenizer(lines, [], kind=kind, vocabulary_size=largest + 1, **options)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("size", [1, 3, 4])
@pytest.mark.parametrize("user_symbols", [(), ("<a>", "<b>")])
def test_errors_name_the_smallest_size(corpus, kind, size, user_symbols):
    lines = [text for pair in corpus[:40] for text in pair]
    with pytest.raises(TokenizerError, match=f"vocabulary_size must be >= .* got {size}") as caught:
        train_tokenizer(lines, [], kind=kind, vocabulary_size=size, user_symbols=user_symbols)
    least = named_number(caught.value)
    tokenizer = train_tokenizer(lines, [], kind=kind, vocabulary_size=least, user_symbols=user_symbols)
    assert tokenizer.source.size == least
    with pytest.raises(TokenizerError, match=f">= {least} "):
        train_tokenizer(lines, [], kind=kind, vocabulary_size=least - 1, user_symbols=user_symbols)


def test_byte_fallback_needs_room_for_the_bytes(corpus):
    lines = [source for source, _ in corpus[:40]]
    with pytest.raises(TokenizerError, match=">=") as caught:
        train_tokenizer(lines, [], vocabulary_size=200, byte_fallback=True)
    least = named_number(caught.value)
    assert least > 260
    assert train_tokenizer(lines, [], vocabulary_size=least, byte_fallback=True).source.size == least


def test_the_named_size_is_tried_before_it_is_named(monkeypatch):
    replies = {
        100: "Vocabulary size too high (100). Please set it to a value <= 50.",
        50: "Vocabulary size too high <= 40",
    }
    tried = []

    def attempt(lines, size, settings):
        tried.append(size)
        return (None, replies[size]) if size in replies else (b"model", "")

    monkeypatch.setattr(tokenizer_training, "_attempt", attempt)
    with pytest.raises(TokenizerError, match="must be <= 40 for this corpus"):
        train_tokenizer(["a"], [], vocabulary_size=100)
    assert tried == [100, 50, 40]


def test_other_errors_of_sentencepiece(monkeypatch):
    monkeypatch.setattr(tokenizer_training, "_attempt", lambda *_: (None, "INTERNAL: the reason"))
    with pytest.raises(
        TokenizerError, match="could not train a tokenizer with vocabulary_size 100: INTERNAL: the reason"
    ):
        train_tokenizer(["a"], [], vocabulary_size=100)


@pytest.mark.parametrize("side", ["source", "target"])
def test_errors_name_the_side(corpus, side):
    sizes = {"vocabulary_size": 60, "target_vocabulary_size": 60}
    name = "vocabulary_size" if side == "source" else "target_vocabulary_size"
    sizes[name] = 30_000
    with pytest.raises(TokenizerError, match=f"^{name} must be <="):
        train_tokenizer([s for s, _ in corpus], [t for _, t in corpus], shared=False, **sizes)


def test_two_vocabularies(corpus):
    sources, targets = [s for s, _ in corpus], [t for _, t in corpus]
    tokenizer = train_tokenizer(sources, targets, shared=False, vocabulary_size=80, target_vocabulary_size=90)
    assert not tokenizer.is_joint
    assert (tokenizer.source.size, tokenizer.target.size) == (80, 90)
    assert tokenizer.source.decode(tokenizer.source.encode(sources)) == sources
    assert tokenizer.target.decode(tokenizer.target.encode(targets)) == targets
    assert "⁇" in tokenizer.source.decode(tokenizer.source.encode(["élève"]))[0]
    same = train_tokenizer(sources, targets, shared=False, vocabulary_size=80)
    assert (same.source.size, same.target.size) == (80, 80)


def test_a_shared_vocabulary(corpus, tokenizers):
    for kind, tokenizer in tokenizers.items():
        assert tokenizer.is_joint, kind
        for source, target in corpus[:50]:
            assert tokenizer.source.decode(tokenizer.source.encode([source])) == [source]
            assert tokenizer.target.decode(tokenizer.target.encode([target])) == [target]


def test_sizes(corpus, tokenizers):
    sizes = {kind: tokenizer.source.size for kind, tokenizer in tokenizers.items()}
    texts = [text for pair in corpus for text in pair]
    characters = {character for text in texts for character in text.replace(" ", "▁")}
    words = {word for text in texts for word in text.split()}
    assert sizes == {"unigram": 250, "bpe": 200, "char": 4 + len(characters), "word": 4 + len(words)}


@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_small_vocabulary_keeps_the_frequent(corpus, kind):
    tokenizer = train_tokenizer([s for s, _ in corpus], [], kind=kind, vocabulary_size=8)
    assert tokenizer.source.size == 8
    assert {"char": "▁", "word": "▁the"}[kind] in tokenizer.source.tokenize("the")
    assert 1 not in tokenizer.source.encode(["the" if kind == "word" else " "])[0]


def test_the_same_in_any_process(corpus, fresh_python):
    code = """
from seq2seq.text.tokenizer_training import train_tokenizer
lines = {lines!r}
for kind in ("unigram", "bpe", "char", "word"):
    print(train_tokenizer(lines, lines, kind=kind, vocabulary_size=70).fingerprint)
"""
    lines = [text for pair in corpus[:100] for text in pair]
    here = [
        train_tokenizer(lines, lines, kind=kind, vocabulary_size=70).fingerprint
        for kind in ("unigram", "bpe", "char", "word")
    ]
    assert fresh_python(code.format(lines=lines)).split() == here


def test_training_encoding_and_failing_print_nothing(corpus, capfd):
    lines = [text for pair in corpus for text in pair]
    tokenizer = train_tokenizer(lines, ["a\tb", "x" * 5000], vocabulary_size=100, byte_fallback=False)
    tokenizer.target.decode(tokenizer.target.encode(["the 漢字 \t x"]))
    for size in (5, 90_000):
        with pytest.raises(TokenizerError):
            train_tokenizer(lines, [], vocabulary_size=size)
    with pytest.raises(TokenizerError):
        SubwordVocabulary(b"garbage")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_rare_unicode_comes_back_as_it_was(kind):
    size = {"unigram": 65, "bpe": 100}.get(kind, 500)
    tokenizer = train_tokenizer(RARE, [], kind=kind, vocabulary_size=size, normalization="identity")
    assert tokenizer.source.decode(tokenizer.source.encode(RARE)) == RARE
    assert not any(1 in row for row in tokenizer.source.encode(RARE))


def test_byte_fallback(corpus):
    lines = [source for source, _ in corpus]
    unseen = "the 漢字 🙂 ☃ cat"
    plain = train_tokenizer(lines, [], vocabulary_size=100)
    assert plain.source.decode(plain.source.encode([unseen])) == ["the ⁇ ⁇ ⁇ cat"]
    spelling = train_tokenizer(lines, [], vocabulary_size=350, byte_fallback=True)
    assert spelling.source.decode(spelling.source.encode([unseen])) == [unseen]
    assert 1 not in spelling.source.encode([unseen])[0]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [("char", "the☃cat ☃ the", "the⁇cat ⁇ the"), ("word", "snow the snow the", "⁇ the ⁇ the")],
)
def test_an_unknown_piece_reads_as_one_mark(tokenizers, kind, text, expected):
    tokenizer = tokenizers[kind]
    assert tokenizer.source.decode(tokenizer.source.encode([text])) == [expected]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_user_symbols_are_one_piece(corpus, kind):
    symbols = ["<ent,1>", '"q"', "ü", "@@"]
    tokenizer = train_tokenizer([s for s, _ in corpus], [], kind=kind, vocabulary_size=100, user_symbols=symbols)
    for symbol in symbols:
        pieces = tokenizer.source.tokenize(f"the cat {symbol} the")
        assert f"▁{symbol}" in pieces if kind == "word" else symbol in pieces
        assert kind == "word" or symbol in tokenizer.source.tokenize(f"the cat{symbol}the")
        assert tokenizer.source.decode(tokenizer.source.encode([f"{symbol} the"])) == [f"{symbol} the"]


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
def test_normalization_is_what_was_asked_for(normalization, expected):
    text = "\uff21\uff22\uff23 ﬁle ① cat"
    tokenizer = train_tokenizer([text, expected], [], kind="char", vocabulary_size=100, normalization=normalization)
    assert tokenizer.source.decode(tokenizer.source.encode([text])) == [expected]


def test_no_line_is_dropped():
    ordinary = ["plain words"] * 3
    odd = ["a\tbéta", "a\tb", "ç▅", "long " * 3000 + "ñ"]
    for line, character in zip(odd, "é\tçñ", strict=True):
        tokenizer = train_tokenizer(ordinary, [line], kind="char", vocabulary_size=100, normalization="identity")
        assert 1 not in tokenizer.source.encode([f"a{character}a"])[0], character


@pytest.mark.parametrize("lines", [[], ["", "   ", "\t"]])
def test_nothing_to_train_on(lines):
    with pytest.raises(TokenizerError, match="must have at least one line"):
        train_tokenizer(lines, lines, vocabulary_size=100)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\0b", "Line 2 of the target must be text, got a NUL"),
        ("a\ud800b", "Line 2 of the target must be valid Unicode, got half a surr"),
    ],
)
def test_lines_that_are_not_text_are_refused(line, message):
    with pytest.raises(TokenizerError, match=message):
        train_tokenizer(["a b"], ["c", line], vocabulary_size=100)


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
        train_tokenizer(["a b c"], ["d"], **({"vocabulary_size": 20} | options))
    with pytest.raises(TypeError, match="user_symbols must be a list of strings"):
        train_tokenizer(["a b c"], ["d"], vocabulary_size=20, user_symbols="ab")


def test_lower_coverage_gives_up_rare_characters():
    lines = ["abcd " * 50] * 4 + ["ж"]
    assert 1 not in train_tokenizer(lines, [], kind="char", vocabulary_size=50).source.encode(["ж"])[0]
    covering = train_tokenizer(lines, [], kind="char", vocabulary_size=50, character_coverage=0.99)
    assert 1 in covering.source.encode(["ж"])[0]


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


def test_training_on_a_sample(corpus):
    lines = [source for source, _ in corpus]
    sample = Reservoir(60, seed=3)
    for line in lines:
        sample.add(line)
    sampled = train_tokenizer(lines, [], vocabulary_size=60, max_training_lines=60, seed=3)
    assert sampled == train_tokenizer(sample.items, [], vocabulary_size=60)
    assert sampled != train_tokenizer(lines, [], vocabulary_size=60, max_training_lines=60, seed=4)
    assert train_tokenizer(lines, [], vocabulary_size=60, max_training_lines=None) == train_tokenizer(
        lines, [], vocabulary_size=60
    )


def test_an_error_of_the_lines_comes_out_as_it_is():
    def lines():
        yield "a"
        raise KeyError("from the reader")

    with pytest.raises(KeyError, match="from the reader"):
        train_tokenizer(lines(), [], vocabulary_size=20)
