"""In which numbers the matrix products of training run."""

import pathlib

import tensorflow as tf

BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def dtype_policy(precision: str) -> str:
    """The Keras dtype policy of a `training.precision`.

    `auto` takes bfloat16 where the machine has instructions for it; elsewhere it would be slower than float32.
    Variables, losses, attention scores and normalisers stay float32 in any case.

    Args:
        precision: `auto`, `float32` or `bfloat16`.

    >>> dtype_policy("bfloat16")
    'mixed_bfloat16'
    """
    if precision == "auto":
        precision = "bfloat16" if multiplies_bfloat16() else "float32"
    return "mixed_bfloat16" if precision == "bfloat16" else precision


def multiplies_bfloat16() -> bool:
    """Whether the GPU, or without one the processor, multiplies bfloat16 faster than float32."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return tuple(capability) >= (8, 0)
    processor = pathlib.Path("/proc/cpuinfo")
    if not processor.is_file():
        return False
    flags = next((line for line in processor.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return any(flag in flags.split() for flag in BFLOAT16_FLAGS)
