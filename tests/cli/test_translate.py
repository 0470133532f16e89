"""Lines in, lines out: order, blank lines, n-best, windows, and what is said about bad input."""

import io
import json
import types

import pytest

from seq2seq.cli.main import main
from tests.cli.conftest import FakeHypothesis


@pytest.fixture
def typed(monkeypatch):
    def put(content, terminal=False):
        buffer = io.BytesIO(content)
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=buffer, isatty=lambda: terminal))

    return put


def test_file_to_stdout_keeps_order_and_blank_lines(model, tmp_path, capsys):
    path = tmp_path / "in.txt"
    path.write_text("zwei\n\neins\n", encoding="utf-8")
    assert main(["translate", "model.keras", str(path)]) == 0
    assert capsys.readouterr() == ("ZWEI\n\nEINS\n", "")


def test_stdin_to_file(model, typed, tmp_path, capsys):
    typed("grüß\n".encode())
    path = tmp_path / "out.txt"
    assert main(["translate", "model.keras", "--output", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == "GRÜSS\n"
    assert capsys.readouterr() == ("", "")


def test_no_lines_give_no_lines(model, typed, capsys):
    typed(b"")
    assert main(["translate", "model.keras"]) == 0
    assert capsys.readouterr().out == ""


def test_options_reach_the_search(model, typed):
    typed(b"a\n")
    arguments = ["--beam-size", "7", "--length-penalty", "wu", "--length-penalty-alpha", "0.6", "--max-length", "9"]
    arguments += ["--max-length-ratio", "1.5", "--max-length-extra", "2", "--batch-tokens", "99", "--n-best", "2"]
    assert main(["translate", "model.keras", *arguments]) == 0
    assert model.calls[0][1] == {
        "beam_size": 7,
        "length_penalty": "wu",
        "length_penalty_alpha": 0.6,
        "max_length": 9,
        "max_length_ratio": 1.5,
        "max_length_extra": 2,
        "batch_tokens": 99,
        "n_best": 2,
    }


def test_options_that_are_not_given_stay_the_models(model, typed):
    typed(b"a\n")
    assert main(["translate", "model.keras"]) == 0
    assert model.calls == [(["a"], {})]


def test_n_best_gives_every_line_as_many_lines(model, typed, capsys):
    typed(b"ab\n\ncd\n")
    assert main(["translate", "model.keras", "--n-best", "3"]) == 0
    assert capsys.readouterr().out == "AB\nba\n\n" + "\n\n\n" + "CD\ndc\n\n"


def test_json_lines(model, typed, capsys):
    typed("é\n".encode())
    assert main(["translate", "model.keras", "--n-best", "2", "--format", "jsonl"]) == 0
    out = capsys.readouterr().out
    assert "é" in out
    assert json.loads(out) == {
        "source": "é",
        "translations": [{"text": "É", "score": -0.5}, {"text": "é", "score": -1.5}],
    }


def test_windows_are_translated_and_written_one_after_the_other(model, typed):
    typed(b"a\nb\nc\n")
    assert main(["translate", "model.keras", "--window", "2"]) == 0
    assert [texts for texts, _ in model.calls] == [["a", "b"], ["c"]]


def test_somebody_who_types_is_answered_line_by_line(model, typed):
    typed(b"a\nb\n", terminal=True)
    assert main(["translate", "model.keras"]) == 0
    assert [texts for texts, _ in model.calls] == [["a"], ["b"]]


def test_a_window_is_written_before_the_next_is_read(model, monkeypatch, tmp_path):
    path, seen = tmp_path / "out.txt", []

    class Lines(io.RawIOBase):
        def readline(self, size=-1):
            seen.append(path.read_text())
            return b"x\n" if len(seen) < 3 else b""

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=Lines(), isatty=lambda: True))
    assert main(["translate", "model.keras", "--output", str(path)]) == 0
    assert seen == ["", "X\n", "X\nX\n"]


def test_output_is_utf8_wherever_it_goes(model, typed, monkeypatch):
    typed("é\n".encode())
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["translate", "model.keras"]) == 0
    assert stream.buffer.getvalue() == "É\n".encode()


def test_a_line_break_in_a_translation_does_not_shift_the_lines_after_it(model, typed, monkeypatch, capsys):
    monkeypatch.setattr(model, "found", lambda text: [FakeHypothesis(f"{text}\n!", 0.0)])
    typed(b"a\nb\n")
    assert main(["translate", "model.keras"]) == 0
    assert capsys.readouterr().out == "a !\nb !\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"good\nb\xffd\n", "<stdin>:2: must be UTF-8"), (b"good\n\0\n", "<stdin>:2: must be text")],
)
def test_a_bad_line_is_named(model, typed, capsys, content, words):
    typed(content)
    assert main(["translate", "model.keras", "--window", "1"]) == 1
    out, err = capsys.readouterr()
    assert out == "GOOD\n"
    assert err.startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["other.keras"], 1, "other.keras: no such model file."),
        (["model.keras", "nowhere.txt"], 1, "nowhere.txt: the file does not exist."),
        (["model.keras", "--window", "0"], 2, "--window must be at least 1, but is 0 instead."),
        (["model.keras", "--beam-size", "0"], 2, "decoding.beam_size must be at least 1, but is 0 instead."),
        (["model.keras", "--n-best", "9"], 2, "decoding.n_best must be at most decoding.beam_size (5), but is 9"),
        (["model.keras", "same.txt", "--output", "./same.txt"], 2, "--output must be another file than the input"),
        (["model.keras", "--output", "no/where"], 1, "no/where: the translations cannot be written: No such file"),
        (["model.keras", "--length-penalty", "averag"], 2, 'Did you mean "average"?'),
    ],
)
def test_mistakes(model, typed, capsys, monkeypatch, tmp_path, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    typed(b"a\n")
    assert main(["translate", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
