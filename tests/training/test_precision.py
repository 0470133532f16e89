"""What `training.precision` means on machines of different kinds."""

import pathlib

import pytest
import tensorflow as tf

from seq2seq.training import precision


@pytest.fixture
def on_processor(monkeypatch, tmp_path):
    """A machine without a GPU whose /proc/cpuinfo holds these lines."""

    def set_up(*lines):
        file = tmp_path / "cpuinfo"
        file.write_text("\n".join(lines))
        monkeypatch.setattr(pathlib, "Path", lambda path: {"/proc/cpuinfo": file}[path])
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])

    return set_up


@pytest.fixture
def on_gpu(monkeypatch):
    def set_up(**details):
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)

    return set_up


@pytest.mark.parametrize(
    ("line", "policy"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", "mixed_bfloat16"),
        ("flags\t\t: fpu amx_bf16", "mixed_bfloat16"),
        ("Features\t: fp asimd bf16 i8mm", "mixed_bfloat16"),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", "float32"),
        ("flags\t\t: fpu not_avx512_bf16", "float32"),
        ("model name\t: avx512_bf16", "float32"),
    ],
)
def test_auto_reads_the_processor(on_processor, line, policy):
    on_processor("processor\t: 0", line, "bugs\t\t: bf16")
    assert precision.dtype_policy("auto") == policy


def test_auto_without_cpuinfo(on_processor, tmp_path):
    on_processor("flags : bf16")
    (tmp_path / "cpuinfo").unlink()
    assert precision.dtype_policy("auto") == "float32"


@pytest.mark.parametrize(
    ("details", "policy"),
    [
        ({"compute_capability": (8, 0)}, "mixed_bfloat16"),
        ({"compute_capability": (9, 0)}, "mixed_bfloat16"),
        ({"compute_capability": (7, 5)}, "float32"),
        ({}, "float32"),
    ],
)
def test_auto_reads_the_gpu(on_gpu, details, policy):
    on_gpu(**details)
    assert precision.dtype_policy("auto") == policy


def test_what_is_asked_for_is_taken(on_processor):
    on_processor("flags : bf16")
    assert precision.dtype_policy("float32") == "float32"
    on_processor("flags : fpu")
    assert precision.dtype_policy("bfloat16") == "mixed_bfloat16"
