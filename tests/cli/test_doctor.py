"""`seq2seq doctor`: what it asks for, what it prints, and its exit status."""

import json
import logging
import sys
import types

import pytest

from seq2seq.cli.doctor import doctor
from seq2seq.cli.main import exit_status
from seq2seq.config.flags import call, command_app
from seq2seq.diagnostics.corpus_audit import Finding

OK = Finding("train.pairs", "ok", "9 pairs", {"pairs": 9})
WARNING = Finding("train.length_ratio", "warning", "long " * 40 + "\nand more", {"count": 1})
PROBLEM = Finding("run.disk", "problem", "full. Make room.", {"free_mb": 0})


def run(*arguments):
    app = command_app("seq2seq")
    app.command(doctor, name="doctor")
    return exit_status(call, app, ["doctor", *arguments])


@pytest.fixture
def asked(monkeypatch):
    """Replace the doctor, and record its arguments."""
    seen = types.SimpleNamespace(calls=[], findings=[OK, WARNING])

    def diagnose(config, timed):
        seen.calls.append((config, timed))
        logging.getLogger("seq2seq").info("reading ...")
        yield from seen.findings

    monkeypatch.setattr("seq2seq.cli.doctor.import_tensorflow", lambda: None)
    monkeypatch.setitem(sys.modules, "seq2seq.diagnostics.doctor", types.SimpleNamespace(diagnose=diagnose))
    monkeypatch.setitem(sys.modules, "seq2seq.training", types.SimpleNamespace())
    return seen


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "corpus" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text("training:\n  epochs: 3\n")
    return str(path)


def test_prints_the_findings_in_groups(asked, recipe, capsys):
    asked.findings = [OK, WARNING, Finding("run.disk", "ok", "1 GB", {})]
    assert run(recipe, "--training.epochs", "4") == 0
    ((config, timed),) = asked.calls
    assert (config.training.epochs, config.run.name, timed) == (4, "corpus", True)
    out, err = capsys.readouterr()
    assert err == "reading ...\n"
    lines = out.splitlines()
    assert lines[:2] == ["train", "  ok      pairs               9 pairs"]
    assert lines[2].startswith("  WARNING length ratio        long long")
    assert [line[:30].strip() for line in lines[3:5]] == ["", ""]
    assert lines[5].strip() == "and more"
    assert lines[6:] == ["", "run", "  ok      disk                1 GB", "", "0 problems, 1 warnings, 2 ok"]
    assert all(len(line) <= 118 for line in lines)


def test_a_problem_is_in_the_status(asked, recipe, capsys):
    asked.findings = [OK, PROBLEM, WARNING]
    assert run(recipe) == 1
    out, err = capsys.readouterr()
    assert "  PROBLEM disk                full. Make room.\n" in out
    assert out.endswith("\n1 problems, 1 warnings, 1 ok\n")
    assert "error: The run must have no problems, got 1: run.disk." in err


@pytest.mark.parametrize(
    ("findings", "verdict", "status"),
    [([OK], "ok", 0), ([OK, WARNING], "warning", 0), ([WARNING, PROBLEM, OK], "problem", 1)],
)
def test_json_is_one_object_and_nothing_else(asked, recipe, capsys, findings, verdict, status):
    asked.findings = findings
    assert run(recipe, "--json", "--no-timing") == status
    assert asked.calls[0][1] is False
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    found = json.loads(out)
    assert list(found) == ["recipe", "run", "verdict", "findings"]
    assert (found["recipe"], found["run"], found["verdict"]) == (recipe, "corpus", verdict)
    assert found["findings"][0] == {
        "name": findings[0].name,
        "verdict": findings[0].verdict,
        "text": findings[0].text,
        "numbers": findings[0].numbers,
    }
    assert len(found["findings"]) == len(findings)


def test_a_wrong_setting_is_told_at_once(asked, recipe, capsys):
    assert run(recipe, "--training.epoch", "3") == 2
    assert asked.calls == []
    assert "Did you mean --training.epochs?" in capsys.readouterr().err


def test_help_says_what_is_a_problem(asked, capsys):
    assert run("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "The status is 1 if there is a problem" in shown
    assert asked.calls == []
