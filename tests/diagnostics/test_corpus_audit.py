"""The audit of a corpus: statistics against brute force over all lines, and the verdicts of planted faults."""

import itertools
import math
import random
import statistics
import unicodedata
from collections import Counter

import numpy as np
import pytest

from seq2seq.diagnostics import corpus_audit
from seq2seq.diagnostics.corpus_audit import (
    CHECKS,
    RATIO_FACTOR,
    RATIO_SMOOTHING,
    SHOWN_PARTS,
    Occurrences,
    PairStatistics,
    SideStatistics,
    TokenStatistics,
    audit_texts,
    audit_tokens,
    judged,
    limits_finding,
    pairs_finding,
    quantile,
    repeated,
    shared,
    unknown_finding,
)
from seq2seq.errors import DataError
from seq2seq.text.corpus import CorpusReport, Pair, read_pairs
from seq2seq.text.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def pairs(toy_pairs):
    """Pairs of the toy language with every fault planted among them, some of them twice."""
    sound = [*toy_pairs[:60], *toy_pairs[:5], toy_pairs[0]]
    faulty = [
        ("Oslo", "Oslo"),
        ("the cat", "la kato " * 30),
        ("the cat often sees the dog and the horse " * 5, "la"),
        ("the cafe\u0301", "la kafejo"),
        ("the cat", "la kat\u200bo"),
        ("a\x07bell", "sonorilo"),
        ("ok", "bone sinjoro"),
        ("Oslo", "Oslo"),
        ("the\ttab", "la tabo"),
        ("caf\ufffd", "kafejo"),
    ]
    random.Random(0).shuffle(both := sound + faulty)
    return [Pair(source, target, f"train.en:{number}") for number, (source, target) in enumerate(both, start=1)]


@pytest.fixture(scope="module")
def found(pairs):
    return PairStatistics.of(iter(pairs))


def occurrences(pairs, holds):
    places = [pair.where for pair in pairs if holds(pair)]
    return Occurrences(len(places), places[0] if places else None)


def is_control(character):
    # A tab counts as a space; Unicode has U+FFFD among the symbols.
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") or character == "\ufffd"


def test_lengths(pairs, found):
    assert found.pairs == len(pairs)
    for name, lengths in {
        "source_words": [len(pair.source.split()) for pair in pairs],
        "target_words": [len(pair.target.split()) for pair in pairs],
        "source_characters": [len(pair.source) for pair in pairs],
        "target_characters": [len(pair.target) for pair in pairs],
    }.items():
        counts = found.lengths[name]
        assert sorted(counts.elements()) == sorted(lengths)
        for share in (0.01, 0.3, 0.5, 0.95, 1.0):
            assert quantile(counts, share) == np.quantile(lengths, share, method="inverted_cdf")


@pytest.mark.parametrize(
    ("name", "holds", "count"),
    [
        ("copies", lambda pair: pair.source == pair.target, 2),
        ("normal_form", lambda pair: any(unicodedata.normalize("NFC", text) != text for text in pair[:2]), 1),
        ("control_characters", lambda pair: any(map(is_control, "".join(pair[:2]).replace("\t", " "))), 3),
    ],
)
def test_checks_of_single_pairs(pairs, found, name, holds, count):
    assert found.checked[name] == occurrences(pairs, holds)
    assert found.checked[name].count == count


def test_length_ratios(pairs, found):
    ratios = [(len(pair.target) + RATIO_SMOOTHING) / (len(pair.source) + RATIO_SMOOTHING) for pair in pairs]
    median = statistics.median_low(ratios)
    outliers, found_median = found.ratio_outliers()
    assert found_median == pytest.approx(median, rel=0.01)
    assert outliers == occurrences(
        pairs, lambda pair: abs(math.log(ratios[pairs.index(pair)] / median)) > math.log(RATIO_FACTOR)
    )
    assert outliers.count == 2
    assert PairStatistics().ratio_outliers() == (Occurrences(), 1.0)


def test_length_ratios_are_relative_to_the_corpus():
    corpus = [Pair("walk " * times, "I_WALK I_TURN_LEFT " * 4 * times, f"a:{times}") for times in range(3, 9)]
    outliers, median = PairStatistics.of(corpus).ratio_outliers()
    assert outliers.count == 0
    assert median > RATIO_FACTOR


def random_pairs(number, seed):
    draw = random.Random(seed)
    words = ["".join(word) for word in itertools.product("abc", repeat=2)]
    for place in range(number):
        source, target = (" ".join(draw.choices(words, k=draw.randint(1, 3))) for _ in range(2))
        yield Pair(source, target, f"x:{place}")


@pytest.mark.parametrize("seed", range(3))
def test_repeated_and_shared_texts(seed):
    train, test = list(random_pairs(400, seed)), list(random_pairs(100, seed + 100))
    of_train, of_test = PairStatistics.of(train), PairStatistics.of(test)
    texts, sources = [pair[:2] for pair in train], {pair.source for pair in train}
    again = [number for number, text in enumerate(texts) if text in texts[:number]]
    assert repeated(of_train.pair_hashes).tolist() == again != []
    in_both = [number for number, pair in enumerate(test) if pair[:2] in texts]
    assert shared(of_test.pair_hashes, of_train.pair_hashes).tolist() == in_both != []
    in_sources = [number for number, pair in enumerate(test) if pair.source in sources]
    assert shared(of_test.source_hashes, of_train.source_hashes).tolist() == in_sources
    assert not [*repeated([]), *repeated([4]), *repeated([4, 5]), *shared([], [1])]


UNKNOWN = [("the ☃ cat ☃日本", "la ☃"), ("the cat", "la kato"), ("the dog", "la hundo 日")]


@pytest.fixture(scope="module")
def with_limits(toy_config):
    def make(source=99, target=99, kind="word", **changes):
        limits = {"data__max_source_tokens": source, "data__max_target_tokens": target}
        return toy_config(tokenizer__kind=kind, **limits, **changes)

    return make


@pytest.mark.parametrize("is_joint", [True, False])
@pytest.mark.parametrize("kind", ["unigram", "char"])
def test_unknown_characters(toy_pairs, with_limits, kind, is_joint):
    tokenizer = train_tokenizer(*zip(*toy_pairs, strict=True), kind=kind, vocabulary_size=40, shared=is_joint)
    pairs = [Pair(*texts, f"a:{number}") for number, texts in enumerate([*toy_pairs, *UNKNOWN])]
    found = TokenStatistics.of(pairs, tokenizer, with_limits(kind=kind))
    assert found.source.unknown_parts == {"☃": 2, "日": 1, "本": 1}
    assert found.target.unknown_parts == {"☃": 1, "日": 1}
    assert found.source.unknown == Occurrences(1, "a:200")
    assert found.target.unknown == Occurrences(2, "a:200")
    for side, encode in ((found.source, tokenizer.source.encode), (found.target, tokenizer.target.encode)):
        rows = encode([pair[0 if side is found.source else 1] for pair in pairs])
        assert side.unknown_tokens == sum(row.count(1) for row in rows)
        assert sorted(side.tokens.elements()) == sorted(map(len, rows))


def test_unknown_words(toy_tokenizer, with_limits, monkeypatch):
    pairs = [Pair("the unicorn sees the unicorn", "la kato", "a:1"), Pair("the cat", "la unukornulo", "a:2")]
    found = TokenStatistics.of(pairs, toy_tokenizer, with_limits())
    assert found.source.unknown_parts == {"unicorn": 2}
    assert found.target.unknown_parts == {"unukornulo": 1}
    assert (found.source.unknown, found.target.unknown) == (Occurrences(1, "a:1"), Occurrences(1, "a:2"))
    monkeypatch.setattr(corpus_audit, "_MOST_UNKNOWN", 2)
    found = TokenStatistics.of([Pair("x y z z x", "la kato", "a:1")], toy_tokenizer, with_limits())
    assert found.source.unknown_parts == {"x": 2, "y": 1}


@pytest.mark.parametrize("chunk", [1, 7, 4_096])
def test_pairs_over_the_limits(toy_pairs, toy_tokenizer, with_limits, monkeypatch, chunk):
    monkeypatch.setattr(corpus_audit, "_CHUNK_PAIRS", chunk)
    pairs = [Pair(*texts, f"a:{number}") for number, texts in enumerate(toy_pairs)]
    found = TokenStatistics.of(iter(pairs), toy_tokenizer, with_limits(7, 6))
    over_source = occurrences(pairs, lambda pair: len(pair.source.split()) + 1 > 7)
    over_target = occurrences(pairs, lambda pair: len(pair.target.split()) + 1 > 6)
    assert 0 < over_source.count < over_target.count < 200
    assert (found.source.over, found.target.over) == (over_source, over_target)
    assert found.over == occurrences(
        pairs, lambda pair: len(pair.source.split()) + 1 > 7 or len(pair.target.split()) + 1 > 6
    )
    assert TokenStatistics.of(pairs, toy_tokenizer, with_limits(7, 6, data__truncate="head")).over == over_target


def test_targets_that_decode_otherwise(toy_tokenizer, with_limits):
    targets = ["la kato", "la  kato", " la kato", "la ﬁsh", "la unukornulo"]
    pairs = [Pair("the cat", target, f"a:{number}") for number, target in enumerate(targets, start=1)]
    assert TokenStatistics.of(pairs, toy_tokenizer, with_limits()).rewritten == Occurrences(3, "a:2")


SETTINGS = ("data.", "tokenizer.", "training files", "encoding of the files", "remove", "in NFC")


@pytest.mark.parametrize("name", CHECKS)
def test_verdicts_of_the_table(name):
    check = CHECKS[name]
    numbers = {"median_ratio": 1.0, "max_tokens": 50, "truncate": "head", "tokens": 9, "token_share": 0.5}
    warning = max(1, round(check.warning_share * 1_000))
    cases = {0: "ok", warning: "warning", 1_000: "warning" if math.isinf(check.problem_share) else "problem"}
    if warning > 1:
        cases[warning - 1] = "ok"
    if not math.isinf(check.problem_share):
        cases |= {round(check.problem_share * 1_000): "problem", round(check.problem_share * 1_000) - 1: "warning"}
    for count, verdict in cases.items():
        finding = check.finding("train.x", Occurrences(count, "a:3" if count else None), 1_000, **numbers)
        assert (finding.name, finding.verdict) == ("train.x", verdict)
        assert {key: finding.numbers[key] for key in ("count", "share", "first")} == {
            "count": count, "share": count / 1_000, "first": "a:3" if count else None,
        }  # fmt: skip
        assert (check.advice in finding.text) == (verdict != "ok")
        assert ("first: a:3" in finding.text) == bool(count)
    assert any(setting in check.advice for setting in SETTINGS)


def test_the_first_rule_that_holds_decides():
    rules = (False, "problem", "No."), (True, "warning", "Lower data.x."), (True, "problem", "No.")
    assert judged("a.b", "3 things", {}, *rules) == corpus_audit.Finding(
        "a.b", "warning", "3 things. Lower data.x.", {}
    )
    assert judged("a.b", "3 things", {}).verdict == "ok"


def report(pairs, skipped):
    made = CorpusReport(pairs)
    for number in range(skipped):
        made.skip("blank target", f"train.en:{number + 1}")
    return made


@pytest.mark.parametrize(
    ("pairs", "skipped", "stops", "verdict", "words"),
    [
        (1_200, 0, True, "ok", "1,200 pairs, all of them usable"),
        (200, 2, True, "problem", "data.on_bad_line"),
        (198, 2, False, "warning", "2 blank target (first: train.en:1)"),
        (1_200, 2, False, "ok", "skipped"),
        (0, 0, False, "problem", "data.folder"),
        (0, 2, True, "problem", "data.folder"),
    ],
)
def test_usable_pairs(pairs, skipped, stops, verdict, words):
    finding = pairs_finding("train", report(pairs, skipped), stops)
    assert (finding.name, finding.verdict) == ("train.pairs", verdict)
    assert words in finding.text
    assert finding.numbers["skipped"] == ({"blank target": skipped} if skipped else {})


def side(lengths, over=0, **unknown):
    made = SideStatistics(Counter(lengths), Occurrences(over, "a:7" if over else None))
    made.unknown_parts = Counter(unknown)
    made.unknown_tokens = sum(unknown.values())
    made.unknown = Occurrences(len(unknown), "a:9" if unknown else None)
    return made


@pytest.mark.parametrize(
    ("source_over", "target_over", "pairs", "changes", "verdict", "words"),
    [
        (0, 0, 100, {}, "ok", "data.max_source_tokens 50 or data.max_target_tokens 40"),
        (2, 0, 100, {}, "problem", "data.on_bad_line"),
        (2, 1, 100, {"data__on_bad_line": "skip"}, "warning", "1 over data.max_target_tokens 40 (first: a:7, longest"),
        (1, 0, 101, {"data__on_bad_line": "skip"}, "ok", "skipped"),
        (100, 0, 100, {"data__on_bad_line": "skip"}, "problem", "raise the limits"),
        (5, 2, 100, {"data__truncate": "head"}, "problem", "long: 2 over data.max_target_tokens 40"),
        (5, 0, 100, {"data__truncate": "head"}, "ok", "no pairs are over data.max_target_tokens 40"),
    ],
)
def test_limits(with_limits, source_over, target_over, pairs, changes, verdict, words):
    source = side({60: source_over, 5: pairs - source_over}, source_over)
    target = side({45: target_over, 5: pairs - target_over}, target_over)
    over = target_over + (0 if "data__truncate" in changes else source_over)
    found = TokenStatistics(source, target, Occurrences(over, "a:7"))
    finding = limits_finding(found, with_limits(50, 40, **changes))
    assert finding.verdict == verdict
    assert words in finding.text
    assert (finding.numbers["pairs"], finding.numbers["share"]) == (over, over / pairs)
    assert finding.numbers["max_target_tokens"]["over"] == target_over


def test_unknown_characters_are_shown():
    found = TokenStatistics(side({5: 20}, **{"☃": 3, "\u200e": 1}), side({6: 10}, **{"日": 1}))
    finding = unknown_finding("tokens.test_unknown", found, words=False)
    assert finding.verdict == "warning"
    assert (
        "4 of 100 tokens unknown in 2 texts (first: a:9): ☃ (U+2603) 3 x, ? (U+200E) 1 x; target: 1 of" in finding.text
    )
    assert "tokenizer.byte_fallback" in finding.text
    assert finding.numbers["source"] == {
        "texts": 2, "first": "a:9", "tokens": 4, "share": 0.04, "parts": {"☃": 3, "\u200e": 1}
    }  # fmt: skip


def test_unknown_words_are_shown():
    words = {f"word{number}": 20 - number for number in range(14)}
    finding = unknown_finding("x", TokenStatistics(side({5: 200}, **words), side({6: 10})), words=True)
    assert "word0 20 x, word1 19 x" in finding.text
    assert "word11 9 x and 2 more" in finding.text
    assert "tokenizer.vocabulary_size" in finding.text
    assert "target:" not in finding.text
    assert len(finding.numbers["source"]["parts"]) == SHOWN_PARTS
    assert unknown_finding("x", TokenStatistics(side({4: 9}), side({4: 9})), words=True).verdict == "ok"


@pytest.fixture
def readers(tmp_path):
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


TOPICS = {"pairs", "lengths", "duplicates", "copies", "length_ratio", "normal_form", "control_characters"}


def test_sound_texts(readers, toy_pairs, toy_config, logged):
    corpora = readers(train=toy_pairs[:100], dev=toy_pairs[100:120], test=toy_pairs[120:150])
    found = by_name(audit_texts(corpora, toy_config()))
    assert set(found) == {f"{name}.{topic}" for name in corpora for topic in TOPICS} | {
        f"overlap.{name}_{kind}" for name in ("dev", "test") for kind in ("pairs", "sources")
    }
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert list(found["dev.lengths"].numbers)[:2] == ["source_words", "target_words"]
    assert logged == [f"reading the {name} pairs ..." for name in ("train", "dev", "test")]


def test_planted_faults(readers, toy_pairs, toy_config, tmp_path):
    train = [*toy_pairs[:50], ("", "la kato"), toy_pairs[3], ("the cat", " "), toy_pairs[60]]
    test = [("", "x"), toy_pairs[61], toy_pairs[60], (toy_pairs[5][0], "alia")]
    found = by_name(audit_texts(readers(train=train, test=test), toy_config(data__on_bad_line="skip")))
    assert found["train.pairs"].numbers["skipped"] == {"blank source": 1, "blank target": 1}
    assert found["train.pairs"].numbers["pairs"] == 52
    assert found["train.duplicates"].numbers["count"] == 1
    # Unusable lines count for places.
    assert found["train.duplicates"].numbers["first"] == f"{tmp_path / 'train.en'}:52"
    assert found["overlap.test_pairs"].numbers == {"count": 1, "share": 1 / 3, "first": f"{tmp_path / 'test.en'}:3"}
    assert found["overlap.test_sources"].numbers["count"] == 2
    assert found["overlap.test_pairs"].verdict == "problem"


@pytest.mark.parametrize(
    ("normalization", "verdicts", "words"),
    [("nmt_nfkc", ("ok", "warning"), "scores"), ("identity", ("warning", "warning"), "tokenizer.normalization")],
)
def test_normal_form_by_normalization(readers, toy_pairs, toy_config, normalization, verdicts, words):
    corpora = readers(train=[*toy_pairs[:150], ("the cafe\u0301", "x")], test=[*toy_pairs[150:], ("a cafe\u0301", "y")])
    found = by_name(audit_texts(corpora, toy_config(tokenizer__normalization=normalization)))
    assert (found["train.normal_form"].verdict, found["test.normal_form"].verdict) == verdicts
    assert words in found["test.normal_form"].text


def test_empty_and_damaged_corpora_hide_no_other(readers, toy_pairs, toy_config):
    config = toy_config(data__on_bad_line="skip")
    found = by_name(audit_texts(readers(train=toy_pairs[:9], dev=[("", "")], test=toy_pairs[9:12]), config))
    assert found["dev.pairs"].verdict == "problem"
    assert not {"dev.lengths", "overlap.dev_pairs"} & set(found)
    assert found["overlap.test_pairs"].verdict == "ok"
    assert list(by_name(audit_texts(readers(train=[("", "")]), config))) == ["train.pairs"]

    def damaged(report):
        yield Pair("a", "b", "a:1")
        raise DataError("train.en.gz: damaged")

    found = by_name(audit_texts({"train": damaged, **readers(test=toy_pairs[:3])}, config))
    assert (found["train.pairs"].verdict, found["train.pairs"].text) == ("problem", "train.en.gz: damaged")
    assert "test.lengths" in found
    assert "overlap.test_pairs" not in found


def test_part_of_a_file(readers, toy_pairs, toy_config):
    whole = readers(train=toy_pairs[:9])["train"]
    part = {"train": lambda report: itertools.compress(whole(report), [1, 0, 1, 1, 0, 0, 1, 0, 0])}
    assert by_name(audit_texts(part, toy_config()))["train.pairs"].numbers["pairs"] == 4


def test_tokens(readers, toy_pairs, toy_tokenizer, with_limits):
    corpora = readers(train=toy_pairs[:100], test=[*toy_pairs[100:110], ("the unicorn", "la unukornulo")])
    found = by_name(audit_tokens(corpora, toy_tokenizer, with_limits(6, data__on_bad_line="skip")))
    assert list(found) == [
        "tokens.train_lengths", "tokens.limits", "tokens.train_unknown",
        "tokens.test_lengths", "tokens.test_unknown", "tokens.test_rewritten",
    ]  # fmt: skip
    over = sum(len(source.split()) > 5 for source, _ in toy_pairs[:100])
    assert found["tokens.limits"].numbers["pairs"] == over
    assert found["tokens.train_unknown"].verdict == "ok"
    assert found["tokens.test_unknown"].numbers["target"]["parts"] == {"unukornulo": 1}
    assert found["tokens.test_rewritten"].numbers["count"] == 1
    cut = by_name(audit_tokens(corpora, toy_tokenizer, with_limits(6, data__truncate="head")))["tokens.train_cut"]
    lengths = [len(source.split()) + 1 for source, _ in toy_pairs[:100]]
    left_out = sum(max(0, length - 6) for length in lengths)
    assert (cut.numbers["count"], cut.numbers["tokens"]) == (over, left_out)
    assert cut.numbers["token_share"] == left_out / sum(lengths)
