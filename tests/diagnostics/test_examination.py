"""The examination of a corpus with planted faults: which findings come, in which order, and where they point."""

import itertools

import pytest

from seq2seq.diagnostics.corpus_audit import examine_texts, examine_tokens
from seq2seq.errors import DataError
from seq2seq.text.corpus import Pair, read_pairs


@pytest.fixture
def readers(tmp_path, toy_pairs):
    """Readers of files that are written from pairs."""

    def make(**corpora):
        def reader(name):
            paths = [tmp_path / f"{name}.{side}" for side in ("en", "eo")]
            return lambda report: read_pairs(*paths, on_bad_line="skip", report=report)

        for name, pairs in corpora.items():
            for side, texts in zip(("en", "eo"), zip(*pairs, strict=True), strict=True):
                (tmp_path / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return {name: reader(name) for name in corpora}

    return make


def by_name(findings):
    return {finding.name: finding for finding in findings}


NAMES = ["pairs", "lengths", "duplicates", "copies", "length_ratio", "normal_form", "control_characters"]


def test_sound_texts(readers, toy_pairs, logged):
    corpora = readers(train=toy_pairs[:100], dev=toy_pairs[100:120], test=toy_pairs[120:150])
    found = by_name(examine_texts(corpora, True, "nmt_nfkc"))
    assert list(found) == [f"{name}.{topic}" for name in ("train", "dev", "test") for topic in NAMES] + [
        "overlap.dev_pairs", "overlap.dev_sources", "overlap.test_pairs", "overlap.test_sources"
    ]  # fmt: skip
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert logged == [f"reading the {name} pairs ..." for name in ("train", "dev", "test")]


def test_planted_faults(readers, toy_pairs, tmp_path):
    train = [*toy_pairs[:50], ("", "la kato"), toy_pairs[3], ("the cat", " "), toy_pairs[60]]
    test = [("", "x"), toy_pairs[61], toy_pairs[60], (toy_pairs[5][0], "alia")]
    found = by_name(examine_texts(readers(train=train, test=test), False, "nmt_nfkc"))
    assert found["train.pairs"].numbers["skipped"] == {"blank source": 1, "blank target": 1}
    assert found["train.pairs"].numbers["pairs"] == 52
    assert found["train.duplicates"].numbers["count"] == 1
    # Places count the lines of the file, bad ones too.
    assert found["train.duplicates"].numbers["first"] == f"{tmp_path / 'train.en'}:52"
    assert found["overlap.test_pairs"].numbers == {"count": 1, "share": 1 / 3, "first": f"{tmp_path / 'test.en'}:3"}
    assert found["overlap.test_sources"].numbers["count"] == 2
    assert found["overlap.test_pairs"].verdict == "problem"


def test_a_corpus_without_a_pair_hides_no_other(readers, toy_pairs):
    found = by_name(examine_texts(readers(train=toy_pairs[:9], dev=[("", "")], test=toy_pairs[9:12]), False, "nfkc"))
    assert found["dev.pairs"].verdict == "problem"
    assert "dev.lengths" not in found
    assert "overlap.dev_pairs" not in found
    assert found["overlap.test_pairs"].verdict == "ok"
    assert list(by_name(examine_texts(readers(train=[("", "")]), False, "nfkc"))) == ["train.pairs"]


def test_a_file_that_cannot_be_read_is_a_problem(readers, toy_pairs):
    def damaged(report):
        yield Pair("a", "b", "a:1")
        raise DataError("train.en.gz: damaged")

    found = by_name(examine_texts({"train": damaged, **readers(test=toy_pairs[:3])}, False, "nfkc"))
    assert (found["train.pairs"].verdict, found["train.pairs"].text) == ("problem", "train.en.gz: damaged")
    assert "test.lengths" in found
    assert "overlap.test_pairs" not in found


def test_tokens(readers, toy_pairs, toy_tokenizer):
    corpora = readers(train=toy_pairs[:100], test=[*toy_pairs[100:110], ("the unicorn", "la unukornulo")])
    found = by_name(
        examine_tokens(corpora, toy_tokenizer, max_source_tokens=6, max_target_tokens=99, words=True, stops=False)
    )
    assert list(found) == [
        "tokens.train_lengths", "tokens.limits", "tokens.train_unknown",
        "tokens.test_lengths", "tokens.test_unknown", "tokens.test_rewritten",
    ]  # fmt: skip
    assert found["tokens.limits"].numbers["pairs"] == sum(len(source.split()) > 5 for source, _ in toy_pairs[:100])
    assert found["tokens.train_unknown"].verdict == "ok"
    assert found["tokens.test_unknown"].numbers["target"]["parts"] == {"unukornulo": 1}
    assert found["tokens.test_rewritten"].numbers["count"] == 1


def test_pairs_that_are_held_out_of_a_file_are_not_counted(readers, toy_pairs):
    whole = readers(train=toy_pairs[:9])["train"]
    part = {"train": lambda report: itertools.compress(whole(report), [1, 0, 1, 1, 0, 0, 1, 0, 0])}
    found = by_name(examine_texts(part, True, "nfkc"))
    assert found["train.pairs"].numbers["pairs"] == 4
