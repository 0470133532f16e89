"""`seq2seq shortlist`: what it asks of the model, and what it writes."""

import sys
import types

import pytest

from seq2seq.cli.main import main


@pytest.fixture
def learned(monkeypatch):
    """Return the pairs that the model learned from, and where it was saved."""
    seen = {}
    model = types.SimpleNamespace(learn_lexicon=lambda sources, targets: seen.update(pairs=(sources, targets)))
    archive = types.SimpleNamespace(
        load=lambda path, kind: model, save=lambda one, path: seen.update(path=path, model=one)
    )
    for module, fake in (("", None), (".seq2seq", types.SimpleNamespace(Seq2Seq=None)), (".archive", archive)):
        monkeypatch.setitem(sys.modules, f"seq2seq.models{module}", fake)
    monkeypatch.setattr("seq2seq.cli.shortlist.import_tensorflow", lambda: None)
    return seen


def files(tmp_path, source, target):
    for name, lines in (("source", source), ("target", target)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]


def test_it_learns_and_saves(learned, tmp_path, capsys):
    assert main(["shortlist", "model.keras", *files(tmp_path, ["a cat", "a dog"], ["un chat", "un chien"])]) == 0
    assert learned["pairs"] == (["a cat", "a dog"], ["un chat", "un chien"])
    assert learned["path"] == "model.keras"
    assert capsys.readouterr() == ("model.keras: has learned from 2 pairs\n", "")


def test_files_of_different_lengths(learned, tmp_path, capsys):
    assert main(["shortlist", "model.keras", *files(tmp_path, ["a cat", "a dog"], ["un chat"])]) == 1
    assert "must have as many lines as" in capsys.readouterr().err
    assert learned == {}
