"""Scores of pairs: a line each, an object each, one object for all, and what has no score."""

import functools
import json
import math

import pytest

from seq2seq.cli import score as score_verb
from seq2seq.cli.main import main
from seq2seq.serving.line_stream import answer_requests

SOURCES = b"the cat\nb\xffd\n\nthe dog\n"
TARGETS = b"la kato\nmala\nla\nlonger than ten\n"


@pytest.fixture
def files(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(SOURCES)
    (tmp_path / "b").write_bytes(TARGETS)
    (tmp_path / "short").write_bytes(b"la kato\n")
    return ["score", "model.keras", "--source", "a", "--target", "b"]


def test_a_line_for_each_pair(files, capsys):
    assert main(files) == 0
    out, err = capsys.readouterr()
    assert out == "-7.000000\n\n-3.000000\n-14.000000\n"
    assert err.splitlines() == [
        "a:2: must be UTF-8, got 0xff at byte 2. Save the file as UTF-8.",
        "4 lines: 1 not UTF-8 (a:2)",
        f"4 pairs, 9 tokens: perplexity {math.exp(24 / 9):.2f}",
    ]


def test_an_object_for_each_pair(files, capsys, tmp_path):
    assert main([*files, "--format", "jsonl", "--output", "out"]) == 0
    assert capsys.readouterr().out == ""
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert found[0] == {
        "source": "the cat",
        "target": "la kato",
        "log_prob": -7.0,
        "perplexity": pytest.approx(math.exp(7 / 3)),
        "tokens": ["▁la", "▁kato", "</s>"],
        "token_log_probs": [-2.0, -4.0, -1.0],
    }
    assert found[1] == {
        "source": "",
        "target": "mala",
        "problem": "must be UTF-8, got 0xff at byte 2. Save the file as UTF-8.",
    }


def test_one_object_for_all(files, capsys):
    assert main([*files, "--json"]) == 0
    out, err = capsys.readouterr()
    expected = {"sentences": 4, "tokens": 9, "log_prob": -24.0, "perplexity": pytest.approx(math.exp(24 / 9))}
    assert json.loads(out) == expected
    assert out.count("\n") == 1
    assert err.splitlines()[-1] == "4 lines: 1 not UTF-8 (a:2)"


def test_nothing_to_score(files, tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).write_bytes(b"")
    assert main([*files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"sentences": 0, "tokens": 0, "log_prob": 0.0, "perplexity": None}


def test_windows_change_nothing(files, monkeypatch, capsys):
    assert main(files) == 0
    whole = capsys.readouterr()
    monkeypatch.setattr(score_verb, "answer_requests", functools.partial(answer_requests, window=1))
    assert main(files) == 0
    assert capsys.readouterr() == whole


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (["--target", "short"], 1, "a:2: must have a partner, but short ends after line 1."),
        (["--source", "short"], 1, "b:2: must have a partner, but short ends after line 1."),
        (["--source", "nowhere"], 1, "nowhere: the file does not exist."),
        (["--output", "b"], 2, "--output must be another file than the input, got b."),
        (["--output", "no/where"], 1, "no/where: the results cannot be written: No such file"),
        (["--json", "--format", "jsonl"], 2, "--json must come without --output and --format, but comes with one."),
    ],
)
def test_mistakes(files, capsys, more, status, words):
    place = files.index(more[0]) if more[0] in files else len(files)
    assert main([*files[:place], *more, *files[place + 2 :]]) == status
    assert words in capsys.readouterr().err
