"""Files that are whole or not there, also where the disk refuses."""

import errno
import os
import resource
import signal

import pytest

from seq2seq import files
from seq2seq.errors import Seq2SeqError

CONTENT = b"x" * 50_000


@pytest.fixture
def small_disk():
    """No file of this process can grow beyond 20,000 bytes: a write that goes on is cut off and fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


class TestWriteWhole:
    def test_replaces_what_stands_there(self, tmp_path):
        path = tmp_path / "scores.json"
        for content in (b"old", b"new"):
            files.write_whole(path, content)
            assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]

    def test_leaves_what_stands_there_where_the_disk_is_full(self, tmp_path, small_disk):
        path = tmp_path / "scores.json"
        path.write_bytes(b"old")
        message = (
            rf"{path}: cannot be written: File too large\. Make room on that disk, or see that it may be written to, "
            r"and go on with --resume: what the run saved before is whole\."
        )
        with pytest.raises(Seq2SeqError, match=message):
            files.write_whole(path, CONTENT)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_is_not_named_before_it_is_on_the_disk(self, tmp_path, monkeypatch):
        path = tmp_path / "scores.json"

        def fsync(handle):
            assert not path.exists()
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(Seq2SeqError, match=r"scores\.json: cannot be written: No space left on device\. Make room"):
            files.write_whole(path, CONTENT)
        assert list(tmp_path.iterdir()) == []


class TestWriteWithChecksum:
    def test_names_the_file_by_its_content(self, tmp_path):
        path = files.write_with_checksum(tmp_path / "state-1", ".npz", lambda path: path.write_bytes(b"abc"))
        # The SHA-256 of "abc" is FIPS 180-2's own example.
        digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert list(tmp_path.iterdir()) == [path]
        assert path.name == f"state-1-{digest}.npz"
        assert path.read_bytes() == b"abc"

    @pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x + b"\0", lambda x: b"", lambda x: b"y" + x[1:]])
    def test_tells_every_change(self, tmp_path, change):
        path = files.write_with_checksum(tmp_path / "state-1", ".npz", lambda path: path.write_bytes(CONTENT))
        assert files.is_as_written(path)
        path.write_bytes(change(CONTENT))
        assert not files.is_as_written(path)
        path.unlink()
        assert not files.is_as_written(path)

    def test_leaves_nothing_where_the_disk_is_full(self, tmp_path, small_disk):
        with pytest.raises(Seq2SeqError, match=r"unfinished-state-1\.npz: cannot be written: File too large\. Make ro"):
            files.write_with_checksum(tmp_path / "state-1", ".npz", lambda path: path.write_bytes(CONTENT))
        assert list(tmp_path.iterdir()) == []
