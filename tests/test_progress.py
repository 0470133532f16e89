"""Work whose end nobody knows, and work beside something else that fills the terminal."""

import io

from seq2seq import progress
from seq2seq.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_total_no_time_is_left(monkeypatch):
    now = iter(range(100, 200, 10))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    with ProgressBar(None, "line", "lines", stream=stream, seconds_between_lines=20) as bar:
        for _ in range(4):
            bar.show(512, 512)
    assert stream.getvalue().splitlines() == ["line 1024  51 lines/s", "line 2048  51 lines/s"]


def test_hidden_says_only_what_is_said():
    stream = Terminal()
    with ProgressBar(None, "line", "lines", stream=stream, seconds_between_lines=0, hidden=True) as bar:
        bar.show(5, 5)
        bar.say("a word")
    assert stream.getvalue() == "a word\n"
