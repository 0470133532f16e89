"""In which numbers the matrix products of training run."""

import pathlib
from typing import NamedTuple

import tensorflow as tf

BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""What processors call their instructions for bfloat16, as Linux lists them."""


class Precision(NamedTuple):
    """`float32`, `bfloat16` or `float16`, and why it is taken."""

    name: str
    reason: str

    @property
    def policy(self) -> str:
        """The Keras dtype policy: variables, losses, attention scores and normalisers stay float32 in any."""
        return self.name if self.name == "float32" else f"mixed_{self.name}"


def choose_precision(asked: str) -> Precision:
    """What a `training.precision` means on this machine.

    `auto` takes what the machine multiplies fastest: anything else would be slower than float32, or, where bfloat16 is
    as fast, has the range of float16.

    Args:
        asked: `auto`, `float32`, `bfloat16` or `float16`.

    >>> choose_precision("bfloat16")
    Precision(name='bfloat16', reason='training.precision says so')
    """
    return fastest_precision() if asked == "auto" else Precision(asked, "training.precision says so")


def fastest_precision() -> Precision:
    """What the GPU, or without one the processor, multiplies fastest."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return _of_gpu(tf.config.experimental.get_device_details(gpus[0]).get("compute_capability"))
    processor = pathlib.Path("/proc/cpuinfo")
    if not processor.is_file():
        return Precision("float32", "nothing tells what the processor can do")
    flags = next((line for line in processor.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    known = [flag for flag in BFLOAT16_FLAGS if flag in flags.split()]
    if known:
        return Precision("bfloat16", f"the processor has {known[0]}")
    return Precision("float32", "the processor has no instructions for bfloat16")


def _of_gpu(compute_capability: tuple[int, int] | None) -> Precision:
    """The tensor cores of 7.0 multiply float16, those of 8.0 bfloat16 too."""
    if compute_capability is None:
        return Precision("float32", "nothing tells what the GPU can do")
    major, minor = compute_capability
    name = "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
    return Precision(name, f"the GPU has compute capability {major}.{minor}")
