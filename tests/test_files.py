"""Atomic files and folders, checksums in names, and cached JSON, also where the disk refuses."""

import errno
import os
import resource
import signal
import time

import pytest

from seq2seq import files
from seq2seq.errors import Seq2SeqError

CONTENT = b"x" * 50_000


@pytest.fixture
def small_disk():
    """Let no file of this process grow beyond 20,000 bytes: a write that goes on is cut off and fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


class TestAtomic:
    def test_replaces_a_file(self, tmp_path):
        path = tmp_path / "scores.json"
        for content in (b"old", b"new"):
            files.write_whole(path, content)
            assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(("replace", "expected"), [(True, "new"), (False, "old")])
    def test_folder_is_replaced_or_stays(self, tmp_path, replace, expected):
        path = tmp_path / "runs" / "run"
        for name in ("old", "new"):
            with files.atomic(path, replace) as folder:
                folder.mkdir()
                (folder / name).write_text(name)
        assert [file.name for file in path.iterdir()] == [expected]
        assert list(path.parent.iterdir()) == [path]

    def test_full_disk_leaves_the_old_file(self, tmp_path, small_disk):
        path = tmp_path / "scores.json"
        path.write_bytes(b"old")
        with pytest.raises(Seq2SeqError, match=rf"{path}: cannot be written: File too large.*--resume"):
            files.write_whole(path, CONTENT)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        path = tmp_path / "scores.json"

        def fsync(handle):
            assert not path.exists()
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(Seq2SeqError, match=r"scores\.json: cannot be written: No space left on device"):
            files.write_whole(path, CONTENT)
        assert list(tmp_path.iterdir()) == []

    def test_error_of_the_writer_comes_out_as_it_is(self, tmp_path):
        def fail():
            with files.atomic(tmp_path / "model") as folder:
                folder.mkdir()
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert list(tmp_path.iterdir()) == []

    def test_leftovers_are_removed_after_an_hour(self, tmp_path):
        leftover = tmp_path / f"{files.UNFINISHED}scores.json-abc"
        leftover.mkdir()
        (leftover / "scores.json").write_bytes(b"half")
        for age, remain in ((0, True), (7200, False)):
            for path in (leftover / "scores.json", leftover):
                os.utime(path, (time.time() - age,) * 2)
            files.write_whole(tmp_path / "scores.json", b"new")
            assert leftover.exists() == remain


class TestChecksum:
    def test_names_the_file_by_its_content(self, tmp_path):
        path = files.write_with_checksum(tmp_path / "state-1", ".npz", lambda path: path.write_bytes(b"abc"))
        # The SHA-256 of "abc" is FIPS 180-2's own example.
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert list(tmp_path.iterdir()) == [path]
        assert path.name == f"state-1-{digest}.npz"
        assert path.read_bytes() == b"abc"

    @pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x + b"\0", lambda x: b"", lambda x: b"y" + x[1:]])
    def test_every_change_is_found(self, tmp_path, change):
        path = files.write_with_checksum(tmp_path / "state-1", ".npz", lambda path: path.write_bytes(CONTENT))
        assert files.is_intact(path)
        path.write_bytes(change(CONTENT))
        assert not files.is_intact(path)
        path.unlink()
        assert not files.is_intact(path)


class TestCachedJson:
    def test_two_processes_at_once(self, tmp_path, monkeypatch):
        start, fsync, found = tmp_path / "cache" / "numbers", os.fsync, []

        def other_process_in_between(handle):
            monkeypatch.setattr(os, "fsync", fsync)
            found.append(files.cached_json(start, lambda: [1, 2]))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", other_process_in_between)
        found.append(files.cached_json(start, lambda: [1, 2]))
        assert found == [[1, 2]] * 2
        assert len(list(start.parent.iterdir())) == 1
        assert files.cached_json(start, lambda: [3]) == [1, 2]

    def test_damaged_is_made_again(self, tmp_path, logged):
        files.cached_json(tmp_path / "numbers", lambda: [1, 2])
        (path,) = tmp_path.iterdir()
        path.write_text("[1, 3]")
        assert files.cached_json(tmp_path / "numbers", lambda: [1, 2]) == [1, 2]
        assert logged == [f"{path}: the file is damaged; it is made again."]
        assert list(tmp_path.iterdir()) == [path]
