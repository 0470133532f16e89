import dataclasses
import gzip
import io
import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seq2seq.errors import ArgumentError, DataError
from seq2seq.text.corpus import CorpusReport, read_pairs
from seq2seq.text.lines import count_lines, read_lines, scan_lines
from seq2seq.text.tokenizer import label_problem

GOOD = [("a cat", "un chat"), ("two dogs", "deux chiens"), ("a naïve 🙂", "une naïve 🙂")]


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzip"])
def write(tmp_path, request):
    """Write bytes to a file, packed or not."""

    def _write(name: str, content: bytes):
        path = tmp_path / (name + request.param)
        path.write_bytes(gzip.compress(content) if request.param else content)
        return path

    return _write


def lines(texts) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def jsonl(items) -> bytes:
    return lines(json.dumps(item) for item in items)


def arguments(write, form, pairs):
    """Write pairs in a format and return the arguments of `read_pairs`."""
    if form == "parallel":
        return (write("a.en", lines(s for s, _ in pairs)), write("a.fr", lines(t for _, t in pairs))), {}
    if form == "tsv":
        return (write("a.tsv", lines(f"{s}\t{t}" for s, t in pairs)),), {"format": "tsv"}
    return (write("a.jsonl", jsonl({"source": s, "target": t} for s, t in pairs)),), {"format": "jsonl"}


@pytest.mark.parametrize("form", ["parallel", "tsv", "jsonl"])
def test_pairs_come_in_the_order_of_the_file_with_their_places(write, form):
    paths, options = arguments(write, form, GOOD)
    report = CorpusReport()
    found = list(read_pairs(*paths, report=report, **options))
    assert [(pair.source, pair.target) for pair in found] == GOOD
    assert [pair.where for pair in found] == [f"{paths[0]}:{number}" for number in (1, 2, 3)]
    assert report == CorpusReport(pairs=3)
    assert report.summary() == "3 pairs, 0 skipped"


# Everything that some function somewhere takes for a line break, and is none here.
TEXTS = st.text(
    st.one_of(
        st.sampled_from(" \x0b\x0c\x1c\x85\u2028\u2029\ufeffaé🙂\"'\\"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=20,
).filter(lambda text: text.strip() and not set("\0\t\n\r") & set(text))


@pytest.mark.parametrize("form", ["parallel", "tsv", "jsonl"])
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_line_holds_comes_out_unchanged(tmp_path_factory, form, pairs):
    folder = tmp_path_factory.mktemp("texts")

    def write(name, content):
        (folder / name).write_bytes(content)
        return folder / name

    # The mark at the very start of a file is not part of its text.
    pairs = [("x" + source, target) if target.startswith("\ufeff") else (source, target) for source, target in pairs]
    pairs = [("x" + source, "x" + target) for source, target in pairs[:1]] + pairs[1:]
    paths, options = arguments(write, form, pairs)
    assert [(pair.source, pair.target) for pair in read_pairs(*paths, **options)] == pairs


def test_line_ends_of_windows_a_missing_last_one_and_a_byte_order_mark(write):
    source = write("a.en", b"\xef\xbb\xbfone\r\ntwo\r\nthree")
    target = write("a.fr", b"un\ndeux\ntrois\n")
    assert [(p.source, p.target) for p in read_pairs(source, target)] == [
        ("one", "un"),
        ("two", "deux"),
        ("three", "trois"),
    ]


def test_an_empty_corpus_has_no_pairs(write):
    assert list(read_pairs(write("a.en", b""), write("a.fr", b""))) == []


def test_columns_and_keys_can_be_chosen(write):
    path = write("a.tsv", lines(["1\tun chat\tx\ta cat", "2\tun chien\tx\ta dog"]))
    chosen = read_pairs(path, format="tsv", source_field="4", target_field=2)
    assert [(p.source, p.target) for p in chosen] == [("a cat", "un chat"), ("a dog", "un chien")]
    path = write("b.tsv", lines(["a cat\tun chat\tby me"]))
    assert [(p.source, p.target) for p in read_pairs(path, format="tsv", columns=3)] == [("a cat", "un chat")]
    path = write("a.jsonl", jsonl([{"fr": "un chat", "id": 7, "en": "a cat"}]))
    chosen = read_pairs(path, format="jsonl", source_field="en", target_field="fr")
    assert [(p.source, p.target) for p in chosen] == [("a cat", "un chat")]


def test_json_texts_may_hold_line_breaks_and_tabs(write):
    path = write("a.jsonl", jsonl([{"source": "one\ntwo\t\r\n", "target": "x"}]))
    assert [pair.source for pair in read_pairs(path, format="jsonl")] == ["one\ntwo\t\r\n"]


BAD_LINES = [
    ("parallel", "blank source", (b"", b"x"), "the source must be text, got a blank one"),
    ("parallel", "blank target", (b"x", b" \t\xe2\x80\x83"), "the target must be text, got a blank one"),
    ("parallel", "not UTF-8", (b"ab\xff", b"x"), r"must be UTF-8, got 0xff at byte 3\. Save the file as UTF-8"),
    ("parallel", "not UTF-8", (b"x", "é".encode("latin-1")), "must be UTF-8, got 0xe9 at byte 1"),
    ("parallel", "NUL character", (b"x", b"ab\0c"), "must be text, got NUL at character 3"),
    ("parallel", "line too long", (b"y" * 41, b"x"), "must have at most 40 characters, got 41"),
    ("parallel", "line too long", (b"x", "🙂".encode() * 999), "must have at most 40 characters, got more"),
    ("tsv", "blank line", b"", "the line must be text, got a blank one"),
    ("tsv", "blank source", b"\ta", "the source must be text, got a blank one"),
    ("tsv", "blank target", b"a\t ", "the target must be text, got a blank one"),
    ("tsv", "too few columns", b"a b", r"must have 2 tab-separated columns, got 1\. Check for a missing tab"),
    ("tsv", "too many columns", b"a\tb\tc", r"must have 2 tab-separated columns, got 3\. .* stray tab"),
    ("jsonl", "blank line", b"  ", "the line must be text, got a blank one"),
    ("jsonl", "not JSON", b'{"source": ', r"must be one JSON object, got no JSON \(.*\)"),
    ("jsonl", "not JSON", b"[" * 40, r"must be one JSON object, got no JSON \(.*\)"),
    ("jsonl", "not a JSON object", b'["a", "b"]', "must be one JSON object, got list"),
    ("jsonl", "missing key", b'{"source":"a","x":1}', "must have the key 'target', got source, x"),
    ("jsonl", "missing key", b"{}", "must have the key 'source', got none"),
    ("jsonl", "not a string", b'{"source":1,"target":""}', "'source' must be a string, got int"),
    ("jsonl", "blank target", b'{"source":"a","target":""}', "the target must be text, got a blank one"),
    ("jsonl", "NUL character", b'{"source":"\\u0000","target":"b"}', "'source' must be text, got the character NUL"),
    ("jsonl", "not UTF-8", b'{"source":"\\ud800","target":"b"}', "'source' must be valid Unicode, got half a surr"),
]


@pytest.mark.parametrize(("form", "reason", "line", "message"), BAD_LINES)
def test_a_bad_line_stops_the_reader_or_is_counted(write, form, reason, line, message):
    good = {
        "parallel": [(b"one", b"un"), (b"two", b"deux")],
        "tsv": [b"one\tun", b"two\tdeux"],
        "jsonl": [b'{"source": "one", "target": "un"}', b'{"source": "two", "target": "deux"}'],
    }[form]
    rows = [good[0], line, good[1]]
    sides = list(zip(*rows, strict=True)) if form == "parallel" else [rows]
    paths = [write(f"a.{side}", b"\n".join(texts)) for side, texts in enumerate(sides)]
    options = {"format": form, "max_line_characters": 40}
    with pytest.raises(DataError, match=message) as caught:
        list(read_pairs(*paths, **options))
    where = str(caught.value).partition(": ")[0]
    assert where in [f"{path}:2" for path in paths]
    report = CorpusReport()
    found = list(read_pairs(*paths, **options, on_bad_line="skip", report=report))
    assert [(pair.source, pair.target) for pair in found] == [("one", "un"), ("two", "deux")]
    assert report == CorpusReport(pairs=2, skipped={reason: 1}, first={reason: where})


def test_json_nested_beyond_all_measure(write):
    path = write("a.jsonl", b"[" * 9_000 + b"\n")
    with pytest.raises(DataError, match="must be one JSON object, got no JSON"):
        list(read_pairs(path, format="jsonl"))


@pytest.mark.parametrize("longer", ["a.en", "a.fr"])
def test_files_of_unequal_length(write, longer):
    contents = {"a.en": b"one\ntwo\n", "a.fr": b"un\ndeux\n"}
    contents[longer] += b"x\ny\nz\n"
    paths = {name: write(name, content) for name, content in contents.items()}
    shorter = paths["a.fr" if longer == "a.en" else "a.en"]
    with pytest.raises(DataError) as caught:
        list(read_pairs(*paths.values()))
    assert str(caught.value).startswith(f"{paths[longer]}:3: must have a partner, but {shorter} ends after line 2.")
    report = CorpusReport()
    assert len(list(read_pairs(*paths.values(), on_bad_line="skip", report=report))) == 2
    assert report.skipped == {"line without partner": 3}
    assert report.first == {"line without partner": f"{paths[longer]}:3"}


def test_one_line_of_a_pair_skips_both_and_counts_once(write):
    report = CorpusReport()
    source, target = write("a.en", b"\n\xff\nthree\n"), write("a.fr", b"\n\ntrois\n")
    found = list(read_pairs(source, target, on_bad_line="skip", report=report))
    assert [(pair.source, pair.target) for pair in found] == [("three", "trois")]
    assert report.skipped == {"blank source": 1, "not UTF-8": 1}
    assert report.number_skipped == 2


def test_a_line_of_the_greatest_length_is_used(write):
    text = "🙂" * 30
    found = list(read_pairs(write("a", lines([text])), write("b", lines(["x" * 30])), max_line_characters=30))
    assert [(pair.source, pair.target) for pair in found] == [(text, "x" * 30)]


@pytest.mark.parametrize("on_bad_line", ["error", "skip"])
def test_missing_and_unreadable_files_are_never_skipped(tmp_path, on_bad_line):
    (tmp_path / "a").write_bytes(b"x\n")
    with pytest.raises(DataError, match=rf"^{tmp_path}/b: the file does not exist. Check the folder and the name"):
        list(read_pairs(tmp_path / "a", tmp_path / "b", on_bad_line=on_bad_line))
    with pytest.raises(DataError, match=rf"^{tmp_path}: the file cannot be read \(Is a directory\)"):
        list(read_pairs(tmp_path / "a", tmp_path, on_bad_line=on_bad_line))
    with pytest.raises(DataError, match=rf"^{tmp_path}/c.gz: the file does not exist"):
        list(read_pairs(tmp_path / "c.gz", format="jsonl", on_bad_line=on_bad_line))


@pytest.mark.parametrize("on_bad_line", ["error", "skip"])
@pytest.mark.parametrize("damage", ["cut", "not gzip", "flipped", "not deflate"])
def test_damaged_gzip_is_never_skipped(tmp_path, on_bad_line, damage):
    packed = gzip.compress(lines(f"{number}\tline {number * 7919}" for number in range(50_000)))
    damaged = {
        "cut": packed[: len(packed) // 2],
        "not gzip": b"1\tplain text\n",
        "flipped": packed[: len(packed) // 2] + b"\xff\x00\xff\x00" + packed[len(packed) // 2 + 4 :],
    }
    damaged["not deflate"] = packed[:10] + b"\xff" * 20
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=rf"^{path}:\d+: the gzip file is damaged or cut off"):
        list(read_pairs(path, format="tsv", on_bad_line=on_bad_line))


@pytest.mark.parametrize(
    ("paths", "options", "argument"),
    [
        ("ab", {"format": "csv"}, "format"),
        ("ab", {"on_bad_line": "ignore"}, "on_bad_line"),
        ("a", {}, "target_path"),
        ("ab", {"format": "tsv"}, "target_path"),
        ("ab", {"source_field": "en"}, "source_field"),
        ("a", {"format": "jsonl", "columns": 2}, "columns"),
        ("a", {"format": "tsv", "source_field": "en"}, "source_field"),
        ("a", {"format": "tsv", "target_field": 0}, "target_field"),
        ("a", {"format": "tsv", "target_field": 3, "columns": 2}, "columns"),
    ],
)
def test_contradicting_arguments_are_refused_at_once(paths, options, argument):
    with pytest.raises(ArgumentError, match=f"^{argument} must be"):
        read_pairs(*paths, **options)


def test_reading_holds_a_line_and_not_the_file(tmp_path):
    texts = [f"line {number} " + "x" * 780 for number in range(7_000)]
    for name in ("a.en", "a.fr"):
        (tmp_path / name).write_bytes(lines(texts))
    assert (tmp_path / "a.en").stat().st_size > 5_000_000
    tracemalloc.start()
    count = sum(1 for _ in read_pairs(tmp_path / "a.en", tmp_path / "a.fr"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 7_000
    assert peak < 3_500_000, "two read buffers of a megabyte each, and a little"


def test_an_endless_line_is_never_held_whole(tmp_path):
    path = tmp_path / "endless.tsv"
    path.write_bytes(b"a\tb\n" + b"x" * 20_000_000 + b"\nc\td\n")
    tracemalloc.start()
    report = CorpusReport()
    found = list(read_pairs(path, format="tsv", on_bad_line="skip", report=report, max_line_characters=100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [pair.source for pair in found] == ["a", "c"]
    assert report.skipped == {"line too long": 1}
    assert peak < 3_000_000


def test_lines_to_translate_keep_their_order_and_their_blanks(write):
    content = b"one\r\n\n  \nfour\n\nlast"
    expected = ["one", "", "  ", "four", "", "last"]
    assert list(read_lines(write("a", content))) == expected
    assert list(read_lines(str(write("a", content)))) == expected
    assert list(read_lines(io.BytesIO(b"\xef\xbb\xbf" + content))) == expected
    assert list(read_lines(io.BytesIO(b""))) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [(b"\xff", "must be UTF-8"), (b"a\0", "must be text, got NUL at character 2"), (b"x" * 9, "at most 8 characters")],
)
def test_lines_that_cannot_be_read_are_named(write, line, message):
    path = write("a", b"x\n" + line)
    with pytest.raises(DataError, match=message) as caught:
        list(read_lines(path, max_line_characters=8))
    assert str(caught.value).startswith(f"{path}:2: ")
    with pytest.raises(DataError, match=message) as caught:
        list(read_lines(io.BytesIO(b"x\n" + line), max_line_characters=8))
    assert str(caught.value).startswith("<stdin>:2: ")
    with pytest.raises(DataError, match=r"^socket:2: "):
        list(read_lines(io.BytesIO(b"x\n" + line), max_line_characters=8, name="socket"))


def test_a_stream_is_read_as_it_comes():
    class Slow(io.BytesIO):
        def readline(self, limit=-1):
            line = super().readline(limit)
            asked.append(line)
            return line

    asked: list[bytes] = []
    found = read_lines(Slow(b"one\ntwo\nthree\n"))
    assert next(found) == "one"
    assert asked == [b"one\n"]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "place"),
    [
        ("tsv", "a b\tA B", "a b\tA", "train.tsv:2"),
        ("jsonl", '{"source": "a b", "target": "A B"}', '{"source": "a b", "target": "A"}', "train.jsonl:2"),
        ("parallel", ("a b", "A B"), ("a b", "A"), "train.target:2"),
    ],
)
def test_validation_names_the_place(tmp_path, kind, good, bad, place):
    paths = [tmp_path / f"train.{kind}"]
    if kind == "parallel":
        paths = [tmp_path / "train.source", tmp_path / "train.target"]
        for path, texts in zip(paths, zip(good, bad, strict=True), strict=True):
            path.write_bytes(lines(texts))
    else:
        paths[0].write_bytes(lines([good, bad]))

    def validate(source, target):
        return label_problem(source, target, True, None)

    with pytest.raises(DataError, match=rf"{place}: the target must have a label for each of 2 words"):
        list(read_pairs(*paths, format=kind, validate=validate))
    assert len(list(read_pairs(*paths, format=kind, validate=validate, on_bad_line="skip"))) == 1


def test_reports_count_and_add_up():
    report = CorpusReport(pairs=1234)
    for place in range(3):
        report.skip("blank source", f"a:{place}")
    report.skip("NUL character", "b:9")
    report.cut("a:5", 7)
    assert report.number_skipped == 4
    assert report.summary().splitlines() == [
        "1,234 pairs, 4 skipped",
        "  1 NUL character (first: b:9)",
        "  3 blank source (first: a:0)",
        "  1 with a source that was cut, 7 tokens left out (first: a:5)",
    ]
    total = CorpusReport.total([CorpusReport(3, {"blank source": 1}, {"blank source": "x:1"}), report, report])
    assert total.skipped == {"blank source": 7, "NUL character": 2}
    assert total.first == {"blank source": "x:1", "NUL character": "b:9"}
    assert (total.pairs, total.cut_sources, total.tokens_left_out, total.first_cut) == (2471, 2, 14, "a:5")
    assert CorpusReport(**json.loads(json.dumps(dataclasses.asdict(total)))) == total


@pytest.mark.parametrize(
    ("content", "lines"), [(b"", 0), (b"\n", 1), (b"a\nb\n", 2), (b"a\nb", 2), (b"x" * 3_000_000 + b"\ny", 2)]
)
def test_lines_are_counted_unseen(tmp_path, content, lines):
    path = tmp_path / "a.en"
    path.write_bytes(content)
    assert count_lines(path) == lines == sum(1 for _ in scan_lines(path, 10))
    (tmp_path / "a.en.gz").write_bytes(gzip.compress(content))
    assert count_lines(tmp_path / "a.en.gz") is None
    with pytest.raises(DataError, match=rf"^{tmp_path}/none: the file does not exist"):
        count_lines(tmp_path / "none")
