"""The cache of an encoded corpus: same ids, bounded memory, and no damage or kill that goes unnoticed."""

import pathlib

import numpy as np
import pytest

from seq2seq.errors import DataError, Seq2SeqError
from seq2seq.files import UNFINISHED
from seq2seq.text import dataset_cache
from seq2seq.text.batching import Batches
from seq2seq.text.corpus import CorpusReport, Pair, read_pairs
from seq2seq.text.dataset import EncodedCorpus, RaggedArray
from seq2seq.text.dataset_cache import encode_corpus, fingerprint_files, open_cache, write_cache
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import SubwordVocabulary, Truncation
from seq2seq.text.tokenizer_training import train_tokenizer


def as_pairs(corpus) -> list[Pair]:
    return [Pair(source, target, f"corpus:{number}") for number, (source, target) in enumerate(corpus, start=1)]


def untouchable():
    raise AssertionError("the corpus was read again")
    yield


def rows_of(corpus: EncodedCorpus) -> tuple[list[list[int]], list[list[int]]]:
    return tuple([side[i].tolist() for i in range(len(corpus))] for side in (corpus.source, corpus.target))


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
    """Encode a corpus and return its folder."""
    encode(as_pairs(corpus), keep_text=True)
    (folder,) = (tmp_path / "cache").iterdir()
    return folder


def test_ids_do_not_depend_on_the_chunks(encode, tokenizer, corpus, monkeypatch):
    expected = tokenizer.encode_pairs(*zip(*corpus, strict=True))
    for number, (chunk_pairs, chunk_characters) in enumerate([(10**6, 10**9), (7, 10**9), (10**6, 100)]):
        monkeypatch.setattr(dataset_cache, "CHUNK_PAIRS", chunk_pairs)
        monkeypatch.setattr(dataset_cache, "CHUNK_CHARACTERS", chunk_characters)
        encoded = encode(as_pairs(corpus), fingerprint=str(number))
        assert rows_of(encoded) == expected
        assert encoded.report == CorpusReport(pairs=len(corpus))


def test_the_first_bad_pair_is_named_whatever_thread_meets_it(encode, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_cache, "CHUNK_PAIRS", 3)
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


def test_the_second_call_maps_the_files_of_the_first(encode, corpus, monkeypatch):
    first = encode(as_pairs(corpus))
    monkeypatch.setattr(SubwordVocabulary, "encode", None)
    second = encode(untouchable(), expected_pairs=lambda: next(untouchable()))
    assert rows_of(first) == rows_of(second)
    for array in (second.source.values, second.target.values, first.source.values):
        assert isinstance(array, np.memmap)
        assert array.dtype == np.uint16
        assert not array.flags.writeable


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the system does not tell")
def test_pages_that_were_read_do_not_stay_in_memory(tmp_path):
    def mapped_megabytes():
        lines = pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("RssFile"))

    rows = RaggedArray(np.ones(5_000_000, np.int32), np.arange(0, 5_000_001, 5))
    write_cache(tmp_path / "c", [[rows, rows]], [np.uint16, np.uint16], CorpusReport(pairs=len(rows)))
    before = mapped_megabytes()
    corpus = open_cache(tmp_path / "c")
    assert (corpus.source.lengths() == 5).all()
    assert corpus.target.take(np.arange(0, len(rows), 7)).values.all()
    # Ids of 10 MB and offsets of 8 MB on each side.
    assert mapped_megabytes() < before + 2


def test_memory_does_not_grow_with_the_corpus(encode, corpus, monkeypatch):
    """Count the pairs that exist at one time: a group each in the threads, waiting, being written, and being read."""
    monkeypatch.setattr(dataset_cache, "CHUNK_PAIRS", 50)
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


def test_a_mapped_corpus_gives_the_batches_of_one_in_memory(encode, tokenizer, corpus):
    in_memory = EncodedCorpus.from_lists(*tokenizer.encode_pairs(*zip(*corpus, strict=True)))
    epochs = [Batches(one, batch_tokens=500).epoch(1) for one in (encode(as_pairs(corpus)), in_memory)]
    for first, second in zip(*epochs, strict=True):
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)


def test_texts_are_kept_as_they_were_read(encode, corpus):
    pairs = as_pairs([("  naïve 🙂\n\u2028", "ﬁ "), *corpus])
    encoded = encode(pairs, keep_text=True)
    assert encoded.source_texts(range(len(pairs))) == [pair.source for pair in pairs]
    assert encoded.target_texts(np.array([2, 0])) == [pairs[2].target, pairs[0].target]
    assert encode(pairs).texts is None


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_ids_of_any_type_come_back_in_many_chunks(tmp_path, kind):
    rows = [[4, 65_535, 3], [9, 3]]
    chunk = RaggedArray.from_lists(rows)
    write_cache(tmp_path / "c", [[chunk, chunk]] * 5, [kind, np.int32], CorpusReport(pairs=10))
    found = open_cache(tmp_path / "c")
    assert rows_of(found) == (rows * 5, rows * 5)
    assert (found.source.values.dtype, found.target.values.dtype) == (kind, np.int32)


def test_every_setting_has_its_own_cache(encode, tokenizers, corpus, tmp_path, monkeypatch):
    pairs = as_pairs(corpus[:5])
    others = [
        {},
        {"fingerprint": "g"},
        {"max_source_tokens": 500},
        {"truncation": Truncation("head", 400)},
        {"truncation": Truncation("head_tail", 400)},
        {"max_target_tokens": 500},
        {"on_bad_line": "skip"},
        {"keep_text": True},
    ]
    for number, options in enumerate(others, start=1):
        encode(pairs, **options)
        assert len(list((tmp_path / "cache").iterdir())) == number
    encode_corpus(pairs, tokenizers["bpe"], cache_folder=tmp_path / "cache", fingerprint="f")
    monkeypatch.setattr("sentencepiece.__version__", "9.9")
    encode(pairs)
    assert len(list((tmp_path / "cache").iterdir())) == 10
    encode(untouchable())


def test_fingerprints_follow_content_order_and_settings(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    one, two = write("one", b"1"), write("two", b"2")
    fingerprint = fingerprint_files([one, two], "tsv", 7)
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


def test_the_report_of_the_reader_is_cached(encode, tmp_path):
    (tmp_path / "a.tsv").write_text("one\tun\n\ntwo\tdeux\nx\nfour\tquatre quatre quatre\n", encoding="utf-8")
    reasons = {"blank line": 2, "too few columns": 4, "too many tokens": 5}
    first = {reason: f"{tmp_path}/a.tsv:{line}" for reason, line in reasons.items()}
    expected = CorpusReport(pairs=2, skipped=dict.fromkeys(reasons, 1), first=first)
    report = CorpusReport()
    pairs = read_pairs(tmp_path / "a.tsv", format="tsv", on_bad_line="skip", report=report)
    options = {"on_bad_line": "skip", "max_target_tokens": 10, "keep_text": True}
    encoded = encode(pairs, report=report, **options)
    assert encoded.report == report == expected
    assert encoded.source_texts([0, 1]) == ["one", "two"]
    assert encode(untouchable(), **options).report == expected


@pytest.mark.parametrize("side", ["source", "target"])
def test_pairs_of_too_many_tokens(encode, tokenizer, corpus, side):
    lengths = list(map(len, getattr(tokenizer, side).encode([pair[side == "target"] for pair in corpus])))
    limit = sorted(lengths)[200]
    first = next(place for place, length in enumerate(lengths) if length > limit)
    message = (
        rf"^corpus:{first + 1}: the {side} must have at most {limit} tokens, got {lengths[first]}\. Raise max_{side}"
    )
    with pytest.raises(DataError, match=message):
        encode(as_pairs(corpus), **{f"max_{side}_tokens": limit})
    encoded = encode(as_pairs(corpus), on_bad_line="skip", keep_text=True, **{f"max_{side}_tokens": limit})
    good = [pair for pair, length in zip(corpus, lengths, strict=True) if length <= limit]
    texts = encoded.source_texts(range(len(good))), encoded.target_texts(range(len(good)))
    assert list(zip(*texts, strict=True)) == good
    assert len(encoded) == len(good)
    assert encoded.report.skipped == {"too many tokens": len(corpus) - len(good)}


def test_a_corpus_without_a_good_pair(encode):
    with pytest.raises(DataError, match="must have a good pair, got none: 0 pairs, 0 skipped"):
        encode([])
    with pytest.raises(DataError, match=r"0 pairs, 1 skipped\n  1 too many tokens \(first: corpus:1\)"):
        encode(as_pairs([("one", "un")]), on_bad_line="skip", max_source_tokens=1)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit, pathlib.Path.unlink], ids=["cut", "flip", "remove"])
@pytest.mark.parametrize("name", ["source.npy", "target-offsets.npy", "source_text.npy", "manifest-*.json"])
def test_a_damaged_cache_is_encoded_again(encode, corpus, cached, name, damage, logged):
    expected = rows_of(encode(untouchable(), keep_text=True))
    damage(next(cached.glob(name)))
    with pytest.raises(DataError):
        open_cache(cached)
    again = encode(as_pairs(corpus), keep_text=True)
    assert (rows_of(again), again.source_texts([7])) == (expected, [corpus[7][0]])
    (notice,) = logged
    assert notice.startswith(f"{cached}: the cached corpus is damaged (")
    encode(untouchable(), keep_text=True)
    assert len(logged) == 1


def test_an_interrupted_encoding_leaves_nothing_behind(encode, corpus, tmp_path):
    def stopping():
        yield from as_pairs(corpus)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(stopping())
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_killed_encoding_leaves_no_cache(tmp_path, fresh_python, corpus):
    code = f"""
import os
from seq2seq.text import dataset_cache
from seq2seq.text.corpus import Pair
from seq2seq.text.tokenizer_training import train_tokenizer
dataset_cache.CHUNK_PAIRS = 10
pairs = [Pair(s, t, "x") for s, t in {corpus!r}]
tokenizer = train_tokenizer([p.source for p in pairs], [], kind="char", vocabulary_size=60)
def killed():
    yield from pairs
    print(tokenizer.fingerprint, flush=True)
    os._exit(0)
dataset_cache.encode_corpus(killed(), tokenizer, cache_folder={str(tmp_path)!r}, fingerprint="f")
"""
    fingerprint = fresh_python(code).strip()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(UNFINISHED)
    tokenizer = train_tokenizer([source for source, _ in corpus], [], kind="char", vocabulary_size=60)
    assert tokenizer.fingerprint == fingerprint
    assert len(encode_corpus(as_pairs(corpus), tokenizer, cache_folder=tmp_path, fingerprint="f")) == len(corpus)


def test_the_first_of_two_simultaneous_encodings_stays(encode, corpus, tmp_path):
    def overtaken():
        yield from as_pairs(corpus)
        encode(as_pairs(corpus))

    assert len(encode(overtaken())) == len(corpus)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_folder_that_cannot_be_made(encode, corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Seq2SeqError, match=r"cannot be written: Not a directory"):
        encode(as_pairs(corpus), cache_folder=tmp_path / "file" / "cache")


def test_long_sources_are_cut_and_counted(encode, tokenizer):
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
    # Truncation of a source saves no pair whose target is too long, and counts only where the pair is used.
    cut = len(whole[0]) + len(whole[2]) - 12
    expected = CorpusReport(3, {"too many tokens": 1}, {"too many tokens": pairs[3].where}, 2, pairs[0].where, cut)
    for found in (first, encode(untouchable(), **options)):
        assert found.source[0].tolist() == [*whole[0][:3], *whole[0][-3:]]
        assert found.source[1].tolist() == whole[1]
        assert (len(found), found.report) == (3, expected)


def test_drawn_segmentations_are_cut_as_the_plain_ones_are(encode, tokenizer, corpus):
    def rows(**more):
        options = {"batch_tokens": 600, "sampling": Sampling(0.2), "tokenizer": tokenizer}
        return {
            place: [token for token in row.tolist() if token]
            for batch in Batches(encoded, **options, **more).epoch(0)
            for place, row in zip(batch.indices.tolist(), batch.source_ids, strict=True)
        }

    encoded = encode(as_pairs(corpus), truncation=Truncation("head", 7), keep_text=True)
    whole, cut = rows(), rows(truncation=Truncation("head", 7))
    assert max(map(len, whole.values())) > 7
    assert cut == {place: Truncation("head", 7).cut(row) for place, row in whole.items()}
