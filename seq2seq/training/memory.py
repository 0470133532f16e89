"""How much memory a process has held, and how much it may hold."""

import pathlib
import resource
import sys

import tensorflow as tf

KIBIBYTE = 1024
PROCESS, MACHINE, CONTAINER = "/proc/self/status", "/proc/meminfo", "/sys/fs/cgroup/memory.max"


def peak_memory() -> int:
    """The most bytes that this process has held so far: of the GPU where there is one, else of the machine.

    >>> peak_memory() > 1_000_000
    True
    """
    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    # Linux counts in kibibytes, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIBIBYTE)


def available_memory(process: str = PROCESS, machine: str = MACHINE, container: str = CONTAINER) -> int | None:
    """The most bytes that this process can hold before it is killed, what it holds already included.

    Args:
        process: Where Linux says what this process holds.
        machine: Where Linux says what is free.
        container: Where Linux says what the container may hold.

    Returns:
        The smaller of the two limits; None where the machine does not say, and for a GPU, whose memory TensorFlow
        takes whole.
    """
    if tf.config.list_physical_devices("GPU"):
        return None
    held, free = _kibibytes(process, "VmRSS"), _kibibytes(machine, "MemAvailable")
    if held is None or free is None:
        return None
    limit = pathlib.Path(container)
    allowed = limit.read_text(encoding="utf-8").strip() if limit.is_file() else "max"
    return min(held + free, int(allowed)) if allowed.isdecimal() else held + free


def _kibibytes(path: str, name: str) -> int | None:
    file = pathlib.Path(path)
    if not file.is_file():
        return None
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIBIBYTE
    return None
