"""What `training.precision` means on machines of different kinds."""

import pathlib

import pytest
import tensorflow as tf

from seq2seq.training.optimizers import choose_precision


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
    ("line", "name", "reason"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_fp16", "bfloat16", "the processor has avx512_bf16"),
        ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile", "bfloat16", "the processor has amx_bf16"),
        ("Features\t: fp asimd bf16 i8mm", "bfloat16", "the processor has bf16"),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", "float32", "the processor has no instructions for bfloat16"),
        ("flags\t\t: fpu not_avx512_bf16", "float32", "the processor has no instructions for bfloat16"),
        ("model name\t: avx512_bf16", "float32", "the processor has no instructions for bfloat16"),
    ],
)
def test_auto_reads_the_processor(on_processor, line, name, reason):
    on_processor("processor\t: 0", line, "bugs\t\t: bf16")
    assert choose_precision("auto") == (name, reason)


def test_auto_without_cpuinfo(on_processor, tmp_path):
    on_processor("flags : bf16")
    (tmp_path / "cpuinfo").unlink()
    assert choose_precision("auto") == ("float32", "nothing tells what the processor can do")


@pytest.mark.parametrize(
    ("details", "name", "reason"),
    [
        ({"compute_capability": (8, 0)}, "bfloat16", "the GPU has compute capability 8.0"),
        ({"compute_capability": (10, 0)}, "bfloat16", "the GPU has compute capability 10.0"),
        ({"compute_capability": (7, 5)}, "float16", "the GPU has compute capability 7.5"),
        ({"compute_capability": (7, 0)}, "float16", "the GPU has compute capability 7.0"),
        ({"compute_capability": (6, 1)}, "float32", "the GPU has compute capability 6.1"),
        ({}, "float32", "nothing tells what the GPU can do"),
    ],
)
def test_auto_reads_the_gpu(on_gpu, details, name, reason):
    on_gpu(**details)
    assert choose_precision("auto") == (name, reason)


@pytest.mark.parametrize(
    ("asked", "policy"), [("float32", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")]
)
def test_what_is_asked_for_is_taken(on_processor, asked, policy):
    on_processor("flags : fpu")
    precision = choose_precision(asked)
    assert precision == (asked, "training.precision says so")
    assert precision.policy == policy
