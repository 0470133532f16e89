"""The command lines made of settings: all of a run's for training, those of `DecodingConfig` for the search."""

import dataclasses
import pathlib
import re
import subprocess
import sys

import pytest

from seq2seq.config.flags import call, command_app, parse_train_arguments, with_search_flags
from seq2seq.config.recipe import known_settings
from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]


def parse_search(*arguments):
    app = command_app("search")
    app.default(with_search_flags(lambda search: search))
    return call(app, arguments)


def test_search_flags_are_left_out_or_change_the_settings():
    assert parse_search() == {}
    assert {f"decoding.{field.name}" for field in dataclasses.fields(DecodingConfig)} < known_settings().keys()
    changed = {
        "beam_size": 6, "length_penalty": "reward", "length_penalty_alpha": 0.3, "prefix": "le chat",
        "required_phrases": ("un", "deux"), "sample": True, "seed": 4,
    }  # fmt: skip
    arguments = []
    for name, value in changed.items():
        arguments.append(f"--{name.replace('_', '-')}")
        arguments += [] if value is True else map(str, value) if isinstance(value, tuple) else [str(value)]
    assert parse_search(*arguments) == changed


def test_a_wrong_word_of_the_search():
    with pytest.raises(ConfigError, match='Did you mean "average"'):
        parse_search("--length-penalty", "averag")


def test_train_arguments(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("training:\n  epochs: 5\n")
    config, resume = parse_train_arguments([str(path), "--resume", "--run.name", "again"])
    assert (config.training.epochs, config.run.name, resume) == (5, "again", True)
    assert parse_train_arguments([str(path)])[1] is False


def test_the_default_recipe_is_the_shipped_corpus(monkeypatch):
    monkeypatch.chdir(ROOT)
    config, _ = parse_train_arguments([])
    assert (config.data.folder, config.run.name) == ("data/en-fr", "en-fr")


def test_help_shows_every_flag_and_every_choice(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as stop:
        parse_train_arguments(["--help"])
    shown = re.sub(r"[\s│]+", "", capsys.readouterr().out)
    assert stop.value.code == 0
    for setting in known_settings().values():
        assert f"--{setting.key}" in shown
        assert not setting.choices or f"Oneof:{','.join(setting.choices)}." in shown


def test_help_answers_at_once_and_without_tensorflow():
    code = "import sys, runpy, time\ntry:\n    runpy.run_path('train.py', run_name='__main__')\n"
    code += "finally:\n    slow = [name for name in ('tensorflow', 'keras') if name in sys.modules]\n"
    code += "    print(time.process_time(), *slow, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True)
    seconds, *slow = done.stderr.split()
    assert (done.returncode, slow) == (0, [])
    assert "--training.epochs" in done.stdout
    assert float(seconds) < 2
