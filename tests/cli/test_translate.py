"""Lines in, lines out: order, blank lines, n-best, windows, and what is said about bad input."""

import io
import json
import os
import threading
import time

import pytest

from seq2seq.cli.main import main
from tests.cli.conftest import FakeHypothesis


@pytest.fixture
def pipe(monkeypatch):
    """Return the end of a pipe that leads to standard input."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write, "wb", buffering=0) as end:
        monkeypatch.setattr("sys.stdin", stdin)
        yield end


@pytest.fixture
def typed(pipe):
    def put(content):
        pipe.write(content)
        pipe.close()

    return put


def test_file_to_stdout_keeps_order_and_blank_lines(model, tmp_path, capsys):
    path = tmp_path / "in.txt"
    path.write_text("zwei\n\neins\n", encoding="utf-8")
    assert main(["translate", "model.keras", str(path)]) == 0
    assert capsys.readouterr() == ("ZWEI\n\nEINS\n", f"3 lines: 1 blank ({path}:2)\n")


def test_stdin_to_file(model, typed, tmp_path, capsys):
    typed("grüß\n".encode())
    path = tmp_path / "out.txt"
    assert main(["translate", "model.keras", "--output", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == "GRÜSS\n"
    assert capsys.readouterr() == ("", "")


def test_summarize_is_the_same_verb(model, typed, capsys):
    typed(b"a\n\nb\n")
    assert main(["summarize", "model.keras", "--no-repeat-ngram-size", "3"]) == 0
    assert capsys.readouterr().out == "A\n\nB\n"
    assert model.calls == [(["a", "", "b"], {"no_repeat_ngram_size": 3})]


def test_options_reach_the_search(model, typed):
    typed(b"a\n")
    assert main(["translate", "model.keras", "--beam-size", "7", "--length-penalty", "wu", "--n-best", "2"]) == 0
    assert model.calls == [(["a"], {"beam_size": 7, "length_penalty": "wu", "n_best": 2})]


def test_n_best_gives_every_line_as_many_lines(model, typed, capsys):
    typed(b"ab\n\ncd\n")
    assert main(["translate", "model.keras", "--n-best", "3"]) == 0
    assert capsys.readouterr().out == "AB\nba\n\n" + "\n\n\n" + "CD\ndc\n\n"


def test_json_lines_keep_keys_of_their_own_and_say_what_they_wish(model, typed, capsys):
    lines = [
        {"id": 7, "source": "ab", "meta": {"x": [1, None]}},
        {"source": "cd", "prefix": "C", "required": ["x", "y z"], "banned": ["q"], "translations": "mine"},
    ]
    typed("".join(json.dumps(line) + "\n" for line in lines).encode())
    assert main(["translate", "model.keras", "--format", "jsonl", "--tokens"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert model.constraints == [
        (True, 0, {"prefixes": ["", "C"], "required": [(), ("x", "y z")], "banned": [(), ("q",)]})
    ]
    entry = {
        "text": "AB",
        "score": -0.5,
        "log_prob": -2.0,
        "tokens": ["▁A", "</s>"],
        "token_log_probs": [-1.5, -0.5],
        "alignment": [0, 1],
    }
    assert found == [
        {**lines[0], "source_tokens": ["▁ab", "</s>"], "translations": [entry]},
        {**lines[1], "source_tokens": ["▁cd", "</s>"], "translations": [{**entry, "text": "CD"}]},
    ]


def test_json_lines_tell_the_attention_to_each_token(model, typed, capsys):
    typed(b"ab\n\xff\n")
    arguments = ["translate", "model.keras", "--format", "jsonl", "--input-format", "text"]
    assert main([*arguments, "--attention"]) == 0
    found, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert found["source_tokens"] == ["▁ab", "</s>"]
    assert found["translations"][0]["alignment"] == [0, 1]
    assert found["translations"][0]["attention"] == [[0.75, 0.25], [0.0, 1.0]]
    assert "source_tokens" not in bad


def test_json_lines_name_the_windows_that_are_read_as_one(model, typed, monkeypatch, capsys):
    monkeypatch.setattr(model, "memory_tokens", lambda text: (f"▁{text}</s>",))
    typed(b"ab\n")
    assert main(["translate", "model.keras", "--format", "jsonl", "--input-format", "text", "--tokens"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["source_tokens"], found["source_windows"]) == (["▁ab", "</s>"], ["▁ab</s>"])


def test_several_models_vote(model, typed, capsys):
    typed(b"ab\n")
    assert main(["translate", "model.keras", "-", "--ensemble", "second.keras", "second.keras"]) == 0
    assert capsys.readouterr().out == "3 ab\n"


def test_json_in_text_out(model, typed, capsys):
    typed(b'{"source": "a\\nb"}\n')
    assert main(["translate", "model.keras", "--input-format", "jsonl"]) == 0
    assert capsys.readouterr() == ("A B\n", "")
    assert model.constraints == [(False, 0, {})]


def test_windows_are_translated_and_written_one_after_the_other(model, tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"a\nb\n\xff\nc\nd\n")
    assert main(["translate", "model.keras", str(path), "--window", "2"]) == 0
    assert [texts for texts, _ in model.calls] == [["a", "b"], ["c"], ["d"]]
    assert [first_index for _, first_index, _ in model.constraints] == [0, 2, 3]


def test_whoever_asks_and_waits_is_answered(model, pipe, tmp_path, monkeypatch):
    """A program that writes a line and reads its translation before it writes the next."""
    path, answers = tmp_path / "out.txt", []

    def found(text):
        return [FakeHypothesis(text.upper(), 0.0)]

    monkeypatch.setattr(model, "found", found)

    def ask():
        for number in range(3):
            pipe.write(f"line {number}\n".encode())
            while not path.exists() or path.read_text().count("\n") <= number:
                time.sleep(0.001)
            answers.append(path.read_text().splitlines()[-1])
        pipe.close()

    asking = threading.Thread(target=ask)
    asking.start()
    assert main(["translate", "model.keras", "--output", str(path)]) == 0
    asking.join()
    assert answers == ["LINE 0", "LINE 1", "LINE 2"]


def test_output_is_utf8_wherever_it_goes(model, typed, monkeypatch):
    typed("é\n".encode())
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["translate", "model.keras"]) == 0
    assert stream.buffer.getvalue() == "É\n".encode()


BAD_LINES = b"good\nb\xffd\n\0\n\nlonger than ten\nlast\n"
REPORT = [
    "<stdin>:2: must be UTF-8, got 0xff at byte 2. Save the file as UTF-8.",
    "<stdin>:3: must be text, got NUL at character 1. Check that the file is a text file.",
    "<stdin>:5: must have at most 10 characters, got 15. Check for a missing line break, or raise "
    "max_line_characters. Its beginning is read.",
    "6 lines: 1 NUL character (<stdin>:3); 1 blank (<stdin>:4); 1 line too long (<stdin>:5); 1 not UTF-8 (<stdin>:2)",
]


def test_bad_lines_keep_their_place_and_are_named(model, typed, capsys):
    typed(BAD_LINES)
    assert main(["translate", "model.keras", "--max-line-characters", "10"]) == 0
    out, err = capsys.readouterr()
    assert out == "GOOD\n\n\n\nLONGER THA\nLAST\n"
    assert err.splitlines() == REPORT


def test_every_line_is_progress(model, typed, monkeypatch):
    counts = []
    monkeypatch.setattr("seq2seq.progress.ProgressBar.advance", lambda bar, count: counts.append(count))
    typed(BAD_LINES)
    assert main(["translate", "model.keras", "--window", "4", "--output", "/dev/null"]) == 0
    assert sum(counts) == BAD_LINES.count(b"\n")


def test_bad_lines_as_json(model, typed, capsys):
    typed(BAD_LINES)
    arguments = ["--max-line-characters", "10", "--format", "jsonl", "--input-format", "text", "--n-best", "2"]
    assert main(["translate", "model.keras", *arguments]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["source"], len(one["translations"]), "problem" in one) for one in found] == [
        ("good", 2, False),
        ("", 0, True),
        ("", 0, True),
        ("", 1, False),
        ("longer tha", 2, True),
        ("last", 2, False),
    ]
    assert found[1]["problem"] == "must be UTF-8, got 0xff at byte 2. Save the file as UTF-8."


def test_a_sentence_that_cannot_be_searched_costs_no_other(model, typed, capsys):
    lines = [{"source": "a"}, {"id": 5, "source": "b", "required": ["impossible"]}, {"source": "c"}]
    typed("".join(json.dumps(line) + "\n" for line in lines).encode())
    assert main(["translate", "model.keras", "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [[entry["text"] for entry in one["translations"]] for one in found] == [["A"], [], ["C"]]
    assert found[1]["problem"] == "'impossible' cannot be written."
    assert found[1]["id"] == 5
    assert len(model.calls) == 1
    assert err.splitlines() == [
        "<stdin>:2: 'impossible' cannot be written.",
        "3 lines: 1 refused by the search (<stdin>:2)",
    ]


def test_translations_that_were_cut_are_counted(model, typed, monkeypatch, capsys):
    monkeypatch.setattr(model, "found", lambda text: [FakeHypothesis(text.upper(), 0.0, token_ids=(9, 9))])
    typed(b"a\nb\n")
    assert main(["translate", "model.keras"]) == 0
    out, err = capsys.readouterr()
    assert out == "A\nB\n"
    assert err == "2 lines: 2 stopped at the longest length (first: <stdin>:1)\n"


def test_sources_that_were_cut_are_counted(model, typed, monkeypatch, capsys):
    monkeypatch.setattr(
        model,
        "found",
        lambda text: [FakeHypothesis(text, 0.0, num_truncated_tokens=1200 * (len(text) > 2)), FakeHypothesis("", 0.0)],
    )
    typed(b"ab\nabc\nabcd\n")
    assert main(["translate", "model.keras", "--format", "jsonl", "--input-format", "text"]) == 0
    captured = capsys.readouterr()
    num_truncated_tokens = [json.loads(line).get("source_tokens_left_out") for line in captured.out.splitlines()]
    assert num_truncated_tokens == [None, 1200, 1200]
    assert "3 lines: 2 with a source that was cut (first: <stdin>:2); 2,400 source tokens left out" in captured.err


def test_ctrl_c_says_what_was_done(model, typed, monkeypatch, capsys):
    def found(text):
        if text == "b":
            raise KeyboardInterrupt
        return [FakeHypothesis(text.upper(), 0.0)]

    monkeypatch.setattr(model, "found", found)
    typed(b"\nb\n")
    assert main(["translate", "model.keras", "--window", "1"]) == 130
    assert capsys.readouterr() == ("\n", "1 line: 1 blank (<stdin>:1)\ninterrupted\n")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["other.keras"], 1, "other.keras: no such model file."),
        (["model.keras", "nowhere.txt"], 1, "nowhere.txt: the file does not exist."),
        (["model.keras", "--window", "0"], 2, "--window must be at least 1, got 0."),
        (["model.keras", "--max-line-characters", "0"], 2, "--max-line-characters must be at least 1, got 0"),
        (["model.keras", "--tokens"], 2, "--tokens must be left out where --format is text, but is given."),
        (["model.keras", "--attention"], 2, "--attention must be left out where --format is text, but is given."),
        (["model.keras", "--ensemble", "other.keras"], 1, "other.keras: no such model file."),
        (["model.keras", "--ensemble", "model.keras"], 2, "--ensemble: models must share one target vocabulary."),
        (["model.keras", "--output", "/dev/full"], 1, "/dev/full: the results cannot be written: No space left"),
        (["model.keras", "--beam-size", "0"], 2, "beam_size must be greater than 0, got 0."),
        (["model.keras", "same.txt", "--output", "./same.txt"], 2, "--output must be another file than the input"),
        (["model.keras", "--output", "no/where"], 1, "no/where: the results cannot be written: No such file"),
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
