"""Lines where there is no terminal, a bar where there is one."""

import io

from seq2seq import progress
from seq2seq.progress import Progress


class Clock:
    """Ten seconds pass with every step."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def pass_seconds(self, seconds):
        self.now += seconds


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_without_a_terminal(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    with Progress(100, done=40, stream=stream, seconds_between_lines=30) as shown:
        for _ in range(6):
            clock.pass_seconds(10)
            shown.advance(tokens=500, loss=1.25)
        shown.say("dev: bleu 12")
    # Six steps of ten seconds; after the third 57 of the 60 steps are left, after the sixth 54.
    assert stream.getvalue().splitlines() == [
        "step 43/100  loss 1.250  50 target tokens/s  9.5 minutes left",
        "step 46/100  loss 1.250  50 target tokens/s  9.0 minutes left",
        "dev: bleu 12",
    ]


def test_a_bar_on_a_terminal():
    stream = Terminal()
    with Progress(10, done=4, stream=stream, seconds_between_lines=0) as shown:
        shown.advance(tokens=500, loss=1.25)
        shown.say("dev: bleu 12")
        for _ in range(5):
            shown.advance(tokens=500, loss=0.5)
    text = stream.getvalue()
    assert "4/10" in text
    assert "10/10" in text
    assert "loss 0.500" in text
    assert "target tokens/s" in text
    assert "dev: bleu 12\n" in text
    assert "minutes left" not in text


def test_a_label_stands_before_every_line(monkeypatch):
    clock, stream = Clock(monkeypatch), io.StringIO()
    with Progress(10, stream=stream, seconds_between_lines=10, label="2/5 cell=lstm") as shown:
        clock.pass_seconds(10)
        shown.advance(tokens=500, loss=1.25)
        shown.say("one\ntwo")
    assert stream.getvalue().splitlines() == [
        "2/5 cell=lstm: step 1/10  loss 1.250  50 target tokens/s  1.5 minutes left",
        "2/5 cell=lstm: one",
        "2/5 cell=lstm: two",
    ]


def test_a_labelled_bar_makes_room_for_the_next():
    def last_shown(label):
        stream = Terminal()
        with Progress(1, stream=stream, label=label) as shown:
            shown.advance(tokens=500, loss=1.25)
        return stream.getvalue().rpartition("\r")[2].strip()

    assert "1/1" in last_shown("")
    assert last_shown("2/5 cell=lstm") == ""


def test_writes_to_stderr(capsys):
    with Progress(2) as shown:
        shown.say("to the error stream")
    assert capsys.readouterr() == ("", "to the error stream\n")
