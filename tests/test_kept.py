"""What is worked out once and kept, also where two runs begin together."""

import os

from seq2seq.files import kept


def test_runs_that_write_at_the_same_time_do_not_disturb_each_other(tmp_path, monkeypatch):
    path, fsync, found = tmp_path / "cache" / "numbers", os.fsync, []

    def other_run_in_between(handle):
        monkeypatch.setattr(os, "fsync", fsync)
        found.append(kept(path, lambda: [1, 2], print))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", other_run_in_between)
    found.append(kept(path, lambda: [1, 2], print))
    assert found == [[1, 2]] * 2
    assert [path] == list(path.parent.iterdir())
    assert kept(path, lambda: [3], print) == [1, 2]
