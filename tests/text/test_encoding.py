import dataclasses
import errno
import itertools
import json
import os
import pathlib
import time
import types

import numpy as np
import pytest

from seq2seq import progress
from seq2seq.errors import DataError, Seq2SeqError
from seq2seq.files import UNFINISHED
from seq2seq.text import dataset as cache
from seq2seq.text import dataset as encoding
from seq2seq.text.batching import Batches
from seq2seq.text.corpus import CorpusReport, Pair, read_pairs
from seq2seq.text.dataset import (
    Chunk,
    DamagedCacheError,
    EncodedCorpus,
    RaggedArray,
    encode_corpus,
    fingerprint_files,
    open_cache,
    write_cache,
)
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import Tokenizer, Truncation
from seq2seq.text.tokenizer_training import train_tokenizer


def as_pairs(corpus) -> list[Pair]:
    return [Pair(source, target, f"corpus:{number}") for number, (source, target) in enumerate(corpus, start=1)]


def untouchable():
    raise AssertionError("the corpus was read again")
    yield


def same(first: EncodedCorpus, second: EncodedCorpus) -> bool:
    return all(
        np.array_equal(getattr(first, side).values, getattr(second, side).values)
        and np.array_equal(getattr(first, side).offsets, getattr(second, side).offsets)
        for side in ("source", "target")
    )


@pytest.fixture
def tokenizer(tokenizers):
    return tokenizers["unigram"]


@pytest.fixture
def encode(tokenizer, tmp_path):
    def _encode(pairs, **options):
        return encode_corpus(pairs, tokenizer, **({"cache_folder": tmp_path / "cache", "fingerprint": "f"} | options))

    return _encode


@pytest.fixture
def cached(encode, corpus, tmp_path):
    """The folder of a corpus that has been encoded."""
    encode(as_pairs(corpus), keep_text=True)
    (folder,) = (tmp_path / "cache").iterdir()
    return folder


def test_ids_are_those_of_the_tokenizer_whatever_the_size_of_the_pieces(encode, tokenizer, corpus, monkeypatch):
    for number, (chunk_pairs, chunk_characters) in enumerate([(10**6, 10**9), (7, 10**9), (10**6, 100)]):
        monkeypatch.setattr(encoding, "CHUNK_PAIRS", chunk_pairs)
        monkeypatch.setattr(encoding, "CHUNK_CHARACTERS", chunk_characters)
        encoded = encode(as_pairs(corpus), fingerprint=str(number))
        assert len(encoded) == len(corpus)
        assert [encoded.source[i].tolist() for i in range(len(corpus))] == tokenizer.source.encode(
            [s for s, _ in corpus]
        )
        assert [encoded.target[i].tolist() for i in range(len(corpus))] == tokenizer.target.encode(
            [t for _, t in corpus]
        )
        assert encoded.report == CorpusReport(pairs=len(corpus))


def test_the_first_bad_pair_is_named_whatever_is_read_or_cut_first(encode, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_PAIRS", 3)
    lines = [f"{source}\t{target}\n" for source, target in corpus[:12]]
    lines[7] = f"{'word ' * 200}\tun\n"
    lines[9] = "no tab\n"
    (tmp_path / "a.tsv").write_text("".join(lines), encoding="utf-8")
    for cores in (1, 2, 8):
        monkeypatch.setattr("seq2seq.threads.count_cores", lambda cores=cores: cores)
        with pytest.raises(DataError, match=rf"^{tmp_path}/a.tsv:8: the source must have at most 150 tokens"):
            encode(read_pairs(tmp_path / "a.tsv", format="tsv"), max_source_tokens=150)
        with pytest.raises(DataError, match=rf"^{tmp_path}/a.tsv:10: must have 2 tab-separated columns"):
            encode(read_pairs(tmp_path / "a.tsv", format="tsv"))


def test_long_work_shows_progress(encode, corpus, logged, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK_PAIRS", 100)
    encode(as_pairs(corpus), fingerprint="quick")
    assert logged == []
    clock = itertools.count(50, 40)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    encode(as_pairs(corpus), fingerprint="known", expected_pairs=lambda: 700)
    assert logged[:2] == [
        "encoding pair 100/700  2 pairs/s  4.0 minutes left",
        "encoding pair 200/700  2 pairs/s  3.3 minutes left",
    ]
    encode(untouchable(), fingerprint="known", expected_pairs=lambda: next(untouchable()))
    assert len(logged) == 4


def test_the_second_call_maps_what_the_first_has_written(encode, corpus, monkeypatch):
    first = encode(as_pairs(corpus))
    monkeypatch.setattr(Tokenizer, "encode_source", None)
    monkeypatch.setattr(Tokenizer, "encode_target", None)
    second = encode(untouchable())
    assert same(first, second)
    for corpus_ in (first, second):
        for side in (corpus_.source, corpus_.target):
            assert isinstance(side.values, np.memmap)
            assert isinstance(side.offsets, np.memmap)
            assert side.values.dtype == np.uint16
            assert not side.values.flags.writeable


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the system does not tell")
def test_what_was_read_of_a_mapped_corpus_does_not_stay_in_memory(tmp_path):
    def mapped_megabytes():
        lines = pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("RssFile"))

    rows = RaggedArray(np.ones(5_000_000, np.int32), np.arange(0, 5_000_001, 5))
    report = CorpusReport(pairs=len(rows))
    write_cache(tmp_path / "c", [Chunk(rows, rows)], vocabulary_sizes=(10, 10), keep_text=False, report=report)
    before = mapped_megabytes()
    corpus = open_cache(tmp_path / "c")
    assert (corpus.source.lengths() == 5).all()
    assert corpus.target.take(np.arange(0, len(rows), 7)).values.all()
    # Ids of 10 MB and offsets of 8 MB on each side.
    assert mapped_megabytes() < before + 2


def test_a_mapped_corpus_gives_the_batches_of_one_in_memory(encode, tokenizer, corpus):
    mapped = encode(as_pairs(corpus))
    in_memory = EncodedCorpus.from_lists(
        tokenizer.source.encode([s for s, _ in corpus]), tokenizer.target.encode([t for _, t in corpus])
    )
    for first, second in zip(
        Batches(mapped, batch_tokens=500).epoch(1), Batches(in_memory, batch_tokens=500).epoch(1), strict=True
    ):
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)


def test_texts_are_kept_as_they_were_read(encode, corpus):
    pairs = as_pairs([("  naïve 🙂\n\u2028", "ﬁ "), *corpus])
    encoded = encode(pairs, keep_text=True)
    assert encoded.has_texts
    everything = range(len(pairs))
    assert encoded.source_texts(everything) == [pair.source for pair in pairs]
    assert encoded.target_texts(np.array([2, 0])) == [pairs[2].target, pairs[0].target]
    assert not encode(pairs).has_texts


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_ids_take_two_bytes_where_they_fit_and_four_where_not(tmp_path, size):
    rows = [[size - 1, 3], [4, 65_535, 3]]
    report = CorpusReport(pairs=2)
    write_cache(
        tmp_path / "c",
        [Chunk(RaggedArray.from_lists(rows), RaggedArray.from_lists(rows[::-1]))],
        vocabulary_sizes=(size, 10**6),
        keep_text=False,
        report=report,
    )
    found = open_cache(tmp_path / "c")
    assert found.source.values.dtype == (np.uint16 if size == 65_536 else np.int32)
    assert found.target.values.dtype == np.int32
    assert [found.source[i].tolist() for i in range(2)] == rows
    assert found.target.padded(np.array([1])).tolist() == [rows[0]]


def test_every_setting_has_a_cache_of_its_own(encode, tokenizers, corpus, tmp_path, monkeypatch):
    pairs = as_pairs(corpus[:5])
    encode(pairs)
    others = [
        {"fingerprint": "g"},
        {"max_source_tokens": 500},
        {"truncation": Truncation("head", 400)},
        {"truncation": Truncation("head_tail", 400)},
        {"max_target_tokens": 500},
        {"on_bad_line": "skip"},
        {"keep_text": True},
    ]
    for number, options in enumerate(others, start=2):
        encode(pairs, **options)
        assert len(list((tmp_path / "cache").iterdir())) == number
    encode_corpus(pairs, tokenizers["bpe"], cache_folder=tmp_path / "cache", fingerprint="f")
    assert len(list((tmp_path / "cache").iterdir())) == 9
    monkeypatch.setattr("sentencepiece.__version__", "9.9")
    encode(pairs)
    assert len(list((tmp_path / "cache").iterdir())) == 10
    for options in [{}, *others]:
        encode(pairs, **options)
    encode(untouchable())


def test_fingerprints_follow_the_content_and_nothing_else(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    one, two = write("one", b"1"), write("two", b"2")
    fingerprint = fingerprint_files([one, two], "tsv", 7)
    os.utime(one, (0, 0))
    moved = [write("elsewhere/x", b"1"), str(write("elsewhere/y", b"2"))]
    assert fingerprint == fingerprint_files([one, two], "tsv", 7) == fingerprint_files(moved, "tsv", 7)
    others = [
        fingerprint_files([two, one], "tsv", 7),
        fingerprint_files([one], "tsv", 7),
        fingerprint_files([one, two], "tsv", 8),
        fingerprint_files([one, two], "tsv"),
        fingerprint_files([write("one.gz", b"1"), two], "tsv", 7),
        fingerprint_files([write("one", b"11"), two], "tsv", 7),
    ]
    assert len({fingerprint, *others}) == 7
    with pytest.raises(DataError, match=rf"^{tmp_path}/none: the file does not exist"):
        fingerprint_files([two, tmp_path / "none"])
    with pytest.raises(DataError, match=rf"^{tmp_path}: the file cannot be read \(Is a directory\)"):
        fingerprint_files([tmp_path])


def test_a_changed_file_is_encoded_anew(encode, corpus, tmp_path):
    paths = tmp_path / "a.en", tmp_path / "a.fr"

    def run(pairs):
        for side, path in enumerate(paths):
            path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
        return encode(read_pairs(*paths), fingerprint=fingerprint_files(paths), keep_text=True)

    assert run(corpus).source_texts(range(400)) == [source for source, _ in corpus]
    changed = [*corpus[:-1], ("another source", "another target")]
    assert run(changed).source_texts([399]) == ["another source"]
    assert run(corpus).source_texts([399]) == [corpus[399][0]]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_report_of_the_reader_is_kept_with_the_cache(encode, tmp_path):
    (tmp_path / "a.tsv").write_text("one\tun\n\ntwo\tdeux\nx\nfour\tquatre quatre quatre\n", encoding="utf-8")
    expected = CorpusReport(
        pairs=2,
        skipped={"blank line": 1, "too few columns": 1, "too many tokens": 1},
        first={
            "blank line": f"{tmp_path}/a.tsv:2",
            "too few columns": f"{tmp_path}/a.tsv:4",
            "too many tokens": f"{tmp_path}/a.tsv:5",
        },
    )
    report = CorpusReport()
    pairs = read_pairs(tmp_path / "a.tsv", format="tsv", on_bad_line="skip", report=report)
    options = {"on_bad_line": "skip", "max_target_tokens": 10, "keep_text": True}
    first = encode(pairs, report=report, **options)
    assert first.report == report == expected
    assert first.source_texts([0, 1]) == ["one", "two"]
    assert encode(untouchable(), **options).report == expected


@pytest.mark.parametrize("side", ["source", "target"])
def test_pairs_of_too_many_tokens_are_named_or_skipped(encode, tokenizer, corpus, side):
    lengths = [len(row) for row in getattr(tokenizer, f"encode_{side}")([pair[side == "target"] for pair in corpus])]
    limit = sorted(lengths)[200]
    first = next(place for place, length in enumerate(lengths) if length > limit)
    with pytest.raises(DataError) as caught:
        encode(as_pairs(corpus), **{f"max_{side}_tokens": limit})
    assert str(caught.value) == (
        f"corpus:{first + 1}: the {side} must have at most {limit} tokens, but has {lengths[first]} instead. "
        f"Raise max_{side}_tokens, or set on_bad_line to skip{' or truncate to head' * (side == 'source')}."
    )
    encoded = encode(as_pairs(corpus), on_bad_line="skip", keep_text=True, **{f"max_{side}_tokens": limit})
    kept = [pair for pair, length in zip(corpus, lengths, strict=True) if length <= limit]
    assert (
        list(zip(encoded.source_texts(range(len(kept))), encoded.target_texts(range(len(kept))), strict=True)) == kept
    )
    assert len(encoded) == len(kept)
    assert encoded.report.skipped == {"too many tokens": len(corpus) - len(kept)}


def test_a_corpus_without_a_usable_pair(encode):
    with pytest.raises(
        DataError, match="must hold a pair that can be used, but holds none instead: 0 pairs, 0 skipped"
    ):
        encode([])
    with pytest.raises(DataError, match=r"0 pairs, 1 skipped\n  1 too many tokens \(first: corpus:1\)"):
        encode(as_pairs([("one", "un")]), on_bad_line="skip", max_source_tokens=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_line": "ignore"}, "on_bad_line must be error or skip, but is 'ignore'"),
        ({"max_source_tokens": 0}, "max_source_tokens must be at least 1 or None, but is 0"),
        ({"max_target_tokens": -3}, "max_target_tokens must be at least 1 or None, but is -3"),
    ],
)
def test_arguments_out_of_range(encode, options, message):
    with pytest.raises(ValueError, match=message):
        encode([], **options)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


BINARY = [
    f"{part}.{kind}" for part in ("source", "target", "source_text", "target_text") for kind in ("values", "offsets")
]


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, remove], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", [*BINARY, "corpus.json"])
def test_a_damaged_cache_is_recognised_and_made_anew(encode, corpus, cached, name, damage, logged):
    before = encode(untouchable(), keep_text=True)
    expected = before.source_texts(range(400)), [before.target[i].tolist() for i in range(400)]
    damage(cached / name)
    with pytest.raises(DamagedCacheError):
        open_cache(cached)
    again = encode(as_pairs(corpus), keep_text=True)
    assert (again.source_texts(range(400)), [again.target[i].tolist() for i in range(400)]) == expected
    (notice,) = logged
    assert notice.startswith(f"{cached}: the cached corpus is damaged ({name} ")
    assert notice.endswith("; it is encoded again.")
    encode(untouchable(), keep_text=True)
    assert len(logged) == 1


def test_a_description_that_was_changed_by_hand_is_damage(encode, cached):
    description = json.loads((cached / "corpus.json").read_text())
    description["content"]["report"]["pairs"] = 1
    (cached / "corpus.json").write_text(json.dumps(description))
    with pytest.raises(DamagedCacheError, match=r"corpus\.json was changed"):
        open_cache(cached)


def test_what_stops_the_encoding_leaves_nothing_behind(encode, corpus, tmp_path):
    def stopping():
        yield from as_pairs(corpus)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(stopping())
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(encode(as_pairs(corpus))) == len(corpus)


def test_a_killed_encoding_is_begun_anew_and_its_remains_are_removed(tmp_path, fresh_python, corpus):
    code = f"""
import os, pathlib
from seq2seq.text.corpus import Pair
from seq2seq.text.dataset import encode_corpus
from seq2seq.text import dataset as encoding
from seq2seq.text.tokenizer_training import train_tokenizer
encoding.CHUNK_PAIRS = 10
pairs = [Pair(s, t, "x") for s, t in {corpus!r}]
tokenizer = train_tokenizer([p.source for p in pairs], [], kind="char", vocabulary_size=60)
def killed():
    yield from pairs
    print(tokenizer.fingerprint, flush=True)
    os._exit(0)
encode_corpus(killed(), tokenizer, cache_folder={str(tmp_path)!r}, fingerprint="f")
"""
    fingerprint = fresh_python(code).strip()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(UNFINISHED)
    tokenizer = train_tokenizer([source for source, _ in corpus], [], kind="char", vocabulary_size=60)
    assert tokenizer.fingerprint == fingerprint
    for path in partial.rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)
    # Its folder was touched within the hour: for all that can be known, somebody is still writing.
    encode_corpus(as_pairs(corpus), tokenizer, cache_folder=tmp_path, fingerprint="f")
    assert partial.exists()
    os.utime(partial, (time.time() - 7200,) * 2)
    (finished,) = (path for path in tmp_path.iterdir() if path != partial)
    remove(finished / "corpus.json")
    encoded = encode_corpus(as_pairs(corpus), tokenizer, cache_folder=tmp_path, fingerprint="f")
    assert len(encoded) == len(corpus)
    assert list(tmp_path.iterdir()) == [finished]


def test_of_two_that_encode_at_once_the_first_to_finish_wins(encode, corpus, tmp_path):
    def overtaken():
        yield from as_pairs(corpus)
        encode(as_pairs(corpus))

    assert len(encode(overtaken())) == len(corpus)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_full_disk(encode, corpus, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache._ChecksummedFile, "write", full)
        with pytest.raises(Seq2SeqError, match=r"cannot be written: No space left on device"):
            encode(as_pairs(corpus))
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(encode(as_pairs(corpus))) == len(corpus)


def test_a_folder_that_cannot_be_made(encode, corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Seq2SeqError, match=r"cannot be written: Not a directory"):
        encode(as_pairs(corpus), cache_folder=tmp_path / "file" / "cache")


def test_an_error_of_the_reader_comes_out_as_it_is(encode, tmp_path):
    (tmp_path / "a.tsv").write_text("one\tun\n\n")
    with pytest.raises(DataError, match=rf"^{tmp_path}/a.tsv:2: the line must be text"):
        encode(read_pairs(tmp_path / "a.tsv", format="tsv"))


def test_memory_does_not_grow_with_the_corpus(encode, corpus, monkeypatch):
    """The most pairs that exist at one time: a group each in the threads, waiting, being written, and being read."""
    monkeypatch.setattr(encoding, "CHUNK_PAIRS", 50)
    monkeypatch.setattr("seq2seq.threads.count_cores", lambda: 2)
    alive = peak = 0

    class Counted(str):
        def __new__(cls, text):
            nonlocal alive, peak
            alive += 1
            peak = max(peak, alive)
            return super().__new__(cls, text)

        def __del__(self):
            nonlocal alive
            alive -= 1

    encoded = encode(Pair(Counted(source), target, "x") for _ in range(10) for source, target in corpus)
    assert len(encoded) == 4000
    assert peak <= 5 * 50


def test_a_report_is_plain_data():
    report = CorpusReport(3, {"a": 1}, {"a": "x:1"})
    assert CorpusReport(**json.loads(json.dumps(dataclasses.asdict(report)))) == report


def test_long_sources_are_cut_and_counted_with_the_cache(encode, tokenizer):
    texts = ["one two three four five six", "one", "six five four three two one", "two three four five six"]
    pairs = as_pairs([(text, "un") for text in texts[:3]] + [(texts[3], "un deux trois quatre cinq")])
    whole, whole_targets = tokenizer.source.encode(texts), tokenizer.target.encode(["un", "un deux trois quatre cinq"])
    options = {
        "truncation": Truncation("head_tail", 6),
        "max_source_tokens": 6,
        "max_target_tokens": len(whole_targets[1]) - 1,
        "on_bad_line": "skip",
    }
    first = encode(pairs, **options)
    for found in (first, encode(untouchable(), **options)):
        assert found.source[0].tolist() == [*whole[0][:3], *whole[0][-3:]]
        assert found.source[1].tolist() == whole[1]
        # A source that is cut saves no pair whose target is too long, and counts only where its pair is used.
        assert (len(found), found.report.skipped) == (3, {"too many tokens": 1})
        num_truncated_tokens = len(whole[0]) + len(whole[2]) - 12
        assert (found.report.cut_sources, found.report.tokens_left_out) == (2, num_truncated_tokens)
        assert found.report.first_cut == pairs[0].where
        assert found.report.summary().splitlines() == [
            "3 pairs, 1 skipped",
            f"  1 too many tokens (first: {pairs[3].where})",
            f"  2 with a source that was cut, {num_truncated_tokens} tokens left out (first: {pairs[0].where})",
        ]
    total = CorpusReport.total([first.report, CorpusReport(pairs=1), first.report])
    assert (total.cut_sources, total.tokens_left_out, total.first_cut) == (4, 2 * num_truncated_tokens, pairs[0].where)


def test_drawn_segmentations_are_cut_as_the_plain_ones_are(encode, tokenizer, corpus):
    encoded = encode(as_pairs(corpus), truncation=Truncation("head", 7), keep_text=True)
    options = {"batch_tokens": 600, "sampling": Sampling(0.2), "tokenizer": tokenizer}
    whole, cut = (
        {place: row for batch in Batches(encoded, **options, **more).epoch(0) for place, row in by_place(batch)}
        for more in ({}, {"truncation": Truncation("head", 7)})
    )
    assert max(map(len, whole.values())) > 7
    assert cut == {place: Truncation("head", 7).cut(row) for place, row in whole.items()}


def by_place(batch):
    rows = [[token for token in row.tolist() if token] for row in batch.source_ids]
    return list(zip(batch.indices.tolist(), rows, strict=True))
