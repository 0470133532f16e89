"""Log lines and progress on stderr: plain lines without a terminal, a bar with one."""

import io
import logging
import sys

import pytest

from seq2seq import progress
from seq2seq.progress import ProgressBar, labelled, track

LOG = logging.getLogger("seq2seq.somewhere")


@pytest.fixture
def wait(monkeypatch):
    """Let seconds pass on the clock of the progress bar."""
    waits = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: sum(waits))
    return waits.append


@pytest.fixture
def open_terminal(monkeypatch):
    """Give a function that makes stderr a terminal, for pytest changes stderr between a fixture and its test."""

    def _open_terminal():
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return _open_terminal


def test_lines_without_a_terminal(wait, capsys):
    with ProgressBar(100, "step", "target tokens", done=40) as bar:
        for _ in range(6):
            wait(10)
            bar.advance(1, 500, "loss 1.250")
        LOG.info("dev: bleu 12")
    # Six steps of ten seconds; after the third 57 of the 60 steps are left, after the sixth 54.
    assert capsys.readouterr().err.splitlines() == [
        "step 43/100  loss 1.250  50 target tokens/s  9.5 minutes left",
        "step 46/100  loss 1.250  50 target tokens/s  9.0 minutes left",
        "dev: bleu 12",
    ]


def test_no_time_left_without_a_total(wait, capsys):
    with ProgressBar(None, "line", task="reading", seconds_between_lines=20) as bar:
        for _ in range(4):
            wait(10)
            bar.advance(512)
    assert capsys.readouterr().err.splitlines() == ["reading line 1024  51 lines/s", "reading line 2048  51 lines/s"]


def test_rate_begins_again_after_a_return(wait, capsys):
    with ProgressBar(10, "step") as bar:
        wait(10)
        bar.advance(5)
        bar.go_back(2)
        wait(30)
        bar.advance(3)
    assert capsys.readouterr().err == "step 5/10  0 steps/s  0.8 minutes left\n"


def test_bar_on_a_terminal(open_terminal):
    terminal = open_terminal()
    with ProgressBar(10, "step", "target tokens", done=4, seconds_between_lines=0) as bar:
        bar.advance(1, 500, "loss 1.250")
        LOG.info("dev: bleu 12")
        for _ in range(5):
            bar.advance(1, 500, "loss 0.500")
    text = terminal.getvalue()
    for part in ("4/10", "10/10", "loss 0.500", "target tokens/s", "dev: bleu 12\n"):
        assert part in text
    assert "minutes left" not in text


def test_hidden_shows_log_lines_only(open_terminal):
    terminal = open_terminal()
    with ProgressBar(None, "line", seconds_between_lines=0, hidden=True) as bar:
        bar.advance(5)
        LOG.info("a word")
    assert terminal.getvalue() == "a word\n"


def test_label_before_every_line(wait, capsys):
    with labelled("2/5 cell=lstm"), ProgressBar(10, "step", seconds_between_lines=10) as bar:
        wait(10)
        bar.advance()
        LOG.info("one\ntwo")
    LOG.info("three")
    assert capsys.readouterr().err.splitlines() == [
        "2/5 cell=lstm: step 1/10  0 steps/s  1.5 minutes left",
        "2/5 cell=lstm: one",
        "2/5 cell=lstm: two",
        "three",
    ]


@pytest.mark.parametrize(("label", "last"), [("", True), ("2/5 cell=lstm", False)])
def test_labelled_bar_is_cleared_at_its_end(open_terminal, label, last):
    terminal = open_terminal()
    with labelled(label), ProgressBar(1, "step") as bar:
        bar.advance()
    assert ("1/1" in terminal.getvalue().rpartition("\r")[2]) == last


def test_track(capsys):
    assert list(track("abc", 3, "letter", "reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
