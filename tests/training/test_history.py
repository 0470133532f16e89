"""The account of a run holds what its state knows of, and nothing else."""

import json

import pytest

from seq2seq.errors import Seq2SeqError
from seq2seq.training.checkpoints import add_to_history, cut_history


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "history.jsonl"
    for updates in (6, 12, 18):
        add_to_history(path, {"updates": updates, "loss": 1.0 / updates})
    return path


@pytest.mark.parametrize(("updates", "left"), [(0, []), (6, [6]), (12, [6, 12]), (17, [6, 12]), (18, [6, 12, 18])])
def test_is_cut_after_a_state(path, updates, left):
    before = path.read_bytes()
    cut_history(path, updates)
    assert before.startswith(path.read_bytes())
    assert [json.loads(line)["updates"] for line in path.read_text().splitlines()] == left


@pytest.mark.parametrize("half", ['{"upda', '{"updates": 18, "loss": 0.5}', '{"updates": 3', "\0\0\0"])
def test_is_cut_where_a_kill_left_half_a_line(path, half):
    before = path.read_bytes()
    with path.open("a") as file:
        file.write(half)
    cut_history(path, 18)
    assert path.read_bytes() == before


def test_that_was_never_begun_stays_so(tmp_path):
    cut_history(tmp_path / "history.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


def test_says_where_it_cannot_be_written(tmp_path):
    with pytest.raises(Seq2SeqError, match=r"none/history\.jsonl: cannot be written: No such file or directory\. Make"):
        add_to_history(tmp_path / "none" / "history.jsonl", {"updates": 1})
