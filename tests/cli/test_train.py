"""`seq2seq train` and `train.py` read one command line and do one thing."""

import pathlib
import runpy
import sys
import types

import pytest

from seq2seq.cli.main import main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def runs(monkeypatch):
    seen = []

    result = types.SimpleNamespace(
        samples=[("a cat", "un chat", "un chat gris")], scores={"test": {"bleu": 12.345}}, model_path="x/model.keras"
    )

    def prepare_data(config, resume):
        seen.append((config.training.epochs, config.run.name, resume))
        return "data"

    def prepare_trainer(config, data, workers, resume):
        assert (data, workers, resume) == ("data", 2, True)
        return types.SimpleNamespace(run=lambda: None)

    def train(config, resume):
        prepare_data(config, resume)
        return result

    run = types.SimpleNamespace(
        prepare_data=prepare_data, prepare_trainer=prepare_trainer, score_run=lambda *_: result, train=train
    )
    step = types.SimpleNamespace(choose_workers=lambda asked: asked + 2)
    monkeypatch.setattr("seq2seq.cli.train.import_tensorflow", lambda: None)
    monkeypatch.setitem(sys.modules, "seq2seq.training.run", run)
    monkeypatch.setitem(sys.modules, "seq2seq.training.step", step)
    return seen


def as_verb(arguments):
    return main(["train", *arguments])


def as_script(arguments):
    sys.argv[1:] = arguments
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    return stop.value.code


@pytest.mark.parametrize("command", [as_verb, as_script])
class TestBothWays:
    @pytest.fixture(autouse=True)
    def keep_arguments(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["train.py"])

    def test_runs_and_reports(self, command, runs, capsys):
        recipe = str(ROOT / "data/scan/recipe.yaml")
        assert command([recipe, "--training.epochs", "2", "--resume"]) == 0
        assert runs == [(2, "scan", True)]
        out, err = capsys.readouterr()
        assert out == (
            "source     a cat\noutput     un chat\nreference  un chat gris\n\n"
            "test:\n  bleu: 12.35\nmodel: x/model.keras\n"
        )
        assert err == ""

    def test_usage_errors(self, command, runs, capsys):
        assert command([str(ROOT / "data/scan/recipe.yaml"), "--training.epochs", "0"]) == 2
        assert runs == []
        assert capsys.readouterr() == ("", "error: training.epochs must be greater than 0, got '0'.\n")
