"""What a process holds and may hold, as Linux says it."""

import pathlib

import pytest
import tensorflow as tf

from seq2seq.diagnostics.machine import available_memory, peak_memory

MEBIBYTE = 1 << 20
STATUS = pathlib.Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.is_file(), reason="only Linux tells it in another place too")
def test_the_peak_is_that_of_linux():
    high_water = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory() == pytest.approx(int(high_water.split()[1]) * 1024, abs=10 * MEBIBYTE)


def test_of_a_gpu_it_is_the_gpus(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda device: {"current": 5, "peak": 7})
    assert peak_memory() == 7
    assert available_memory() is None


@pytest.fixture
def machine(tmp_path):
    """Files as Linux has them: 1 GB held, 3 GB free, and a container's limit."""

    def make(limit=None):
        (tmp_path / "status").write_text("Name: python\nVmHWM: 9 kB\nVmRSS:   1000000 kB\n")
        (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    3000000 kB\n")
        if limit is not None:
            (tmp_path / "memory.max").write_text(f"{limit}\n")
        return [str(tmp_path / name) for name in ("status", "meminfo", "memory.max")]

    return make


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 4_096_000_000), ("max", 4_096_000_000), (2_000_000_000, 2_000_000_000), (10**13, 4_096_000_000)],
)
def test_available(machine, limit, expected):
    assert available_memory(*machine(limit)) == expected


def test_available_where_the_machine_does_not_say(machine, tmp_path):
    status, meminfo, limit = machine()
    assert available_memory(str(tmp_path / "absent"), meminfo, limit) is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\n")
    assert available_memory(status, meminfo, limit) is None


def test_available_on_this_machine():
    available = available_memory()
    assert available is None or available > 100 * MEBIBYTE
