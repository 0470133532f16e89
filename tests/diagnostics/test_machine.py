"""What is said of a machine: every message, its verdict and its numbers, for machines of every kind."""

import dataclasses
import math
import pathlib
import shutil

import numpy as np
import pytest

from seq2seq.diagnostics import machine
from seq2seq.diagnostics.machine import Rehearsal
from seq2seq.errors import ConfigError
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.training.optimizers import Precision


def said(finding):
    return finding.name, finding.verdict, finding.text


class TestFolder:
    def test_free(self, tmp_path):
        folder = tmp_path / "runs" / "new"
        assert said(machine.folder_finding(folder, None)) == ("run.folder", "ok", f"{folder} is free")
        folder.mkdir(parents=True)
        assert machine.folder_finding(folder, None).verdict == "ok"

    def test_of_a_run(self, tmp_path):
        (tmp_path / "recipe.yaml").write_text("")
        assert said(machine.folder_finding(tmp_path, None)) == (
            "run.folder",
            "warning",
            f"{tmp_path} holds a run: a new one replaces it, --resume goes on with it. Set run.name to keep both.",
        )

    def test_refused(self, tmp_path):
        finding = machine.folder_finding(tmp_path, ConfigError("holds other files"))
        assert said(finding) == ("run.folder", "problem", "holds other files")

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / "runs" / "new"
        assert said(machine.folder_finding(folder, None)) == (
            "run.folder",
            "problem",
            f"{folder}: cannot be made, since {tmp_path / 'file'} is a file. Set run.folder to another folder.",
        )

    def test_not_writable(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.access", lambda path, mode: False)
        finding = machine.folder_finding(tmp_path / "new", None)
        assert finding.verdict == "problem"
        assert f"cannot be made, since {tmp_path} cannot be written to. Set run.folder to another" in finding.text

    def test_relative_ones_begin_here(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert machine.existing_parent(pathlib.Path("checkpoints/run")) == tmp_path


@pytest.mark.parametrize(
    ("free", "verdict", "end"),
    [
        (10_000, "ok", ""),
        (2_000, "warning", ". Make room: another run may take it."),
        (1_800, "problem", ". Make room, or set run.folder to another disk."),
    ],
)
def test_disk(tmp_path, monkeypatch, free, verdict, end):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free * 10**6))
    # 25 million numbers of four bytes: 100 MB; 16 copies and 3 snapshots of them.
    finding = machine.disk_finding(tmp_path / "run", parameters=25_000_000, snapshots=3)
    shown = f"{free / 1000:.1f} GB"
    text = f"the run writes up to 1.9 GB into {tmp_path / 'run'}, where {shown} are free"
    assert said(finding) == ("machine.disk", verdict, text + end)
    assert finding.numbers == {"needed_mb": 1_900.0, "free_mb": free}


PLAIN, NEW = Precision("float32", "the processor is old"), Precision("bfloat16", "the processor has amx_bf16")
TURING = Precision("float16", "the GPU has compute capability 7.5")


@pytest.mark.parametrize(
    ("asked", "fastest", "verdict", "text"),
    [
        ("auto", NEW, "ok", "bfloat16: the processor has amx_bf16"),
        ("auto", TURING, "ok", "float16: the GPU has compute capability 7.5"),
        ("auto", PLAIN, "ok", "float32: the processor is old"),
        ("bfloat16", NEW, "ok", "bfloat16: the processor has amx_bf16"),
        ("float32", NEW, "ok",
         "training.precision is float32, but the processor has amx_bf16: bfloat16 is faster, and auto takes it"),
        ("bfloat16", PLAIN, "warning",
         "training.precision is bfloat16, but the processor is old: float32 is faster. Set it to auto."),
        ("float16", PLAIN, "warning",
         "training.precision is float16, but the processor is old: float32 is faster. Set it to auto."),
        ("bfloat16", TURING, "warning",
         "training.precision is bfloat16, but the GPU has compute capability 7.5: float16 is faster. Set it to auto."),
        ("float16", NEW, "warning",
         "training.precision is float16, but the processor has amx_bf16: bfloat16 is at least as fast and has no "
         "overflows to skip steps for. Set it to auto."),
    ],
)  # fmt: skip
def test_precision(asked, fastest, verdict, text):
    finding = machine.precision_finding(asked, fastest)
    assert said(finding) == ("machine.precision", verdict, text)
    assert finding.numbers == {"asked": asked, "fastest": fastest.name, "reason": fastest.reason}


NO_GPU = ("TensorFlow sees no GPU",)
SCAN, RAW, CUDNN = KernelChoice("scan", NO_GPU), KernelChoice("raw", ("no kernel", *NO_GPU)), KernelChoice("cudnn", ())
STOPS = "\nThe run stops, since model.implementation is {}: set it to auto."
SLOWLY = (
    "\nStep by step is many times slower; unless it is meant, set model.implementation to auto, take the cell gru, "
    "or leave model.decoder.input_feeding."
)


@pytest.mark.parametrize(
    ("encoder", "decoder", "implementation", "step_by_step", "verdict", "text"),
    [
        (CUDNN, CUDNN, "auto", False, "ok", "cudnn: encoder.0, decoder.0"),
        (CUDNN, CUDNN, "cudnn", False, "ok", "cudnn: encoder.0, decoder.0"),
        (SCAN, SCAN, "auto", False, "ok", "scan: encoder.0, decoder.0 (not cuDNN: TensorFlow sees no GPU)"),
        (SCAN, RAW, "auto", False, "warning",
         "scan: encoder.0 (not cuDNN: TensorFlow sees no GPU)\n"
         f"raw: decoder.0 (not cuDNN: no kernel; TensorFlow sees no GPU){SLOWLY}"),
        (SCAN, SCAN, "cudnn", False, "problem",
         f"scan: encoder.0, decoder.0 (not cuDNN: TensorFlow sees no GPU){STOPS.format('cudnn')}"),
        (RAW, RAW, "scan", False, "problem",
         f"raw: encoder.0, decoder.0 (not cuDNN: no kernel; TensorFlow sees no GPU){STOPS.format('scan')}"),
        (CUDNN, RAW, "cudnn", True, "warning",
         f"cudnn: encoder.0\nraw: decoder.0 (not cuDNN: no kernel; TensorFlow sees no GPU){SLOWLY}"),
    ],
)  # fmt: skip
def test_kernels(encoder, decoder, implementation, step_by_step, verdict, text):
    choices = {"encoder.0": encoder, "decoder.0": decoder}
    finding = machine.kernels_finding(choices, implementation, step_by_step)
    assert said(finding) == ("machine.kernels", verdict, text)
    assert finding.numbers["encoder.0"] == {
        "kernel": encoder.implementation, "reasons_against_cudnn": list(encoder.reasons_against_cudnn)
    }  # fmt: skip
    assert finding.numbers["decoder.0"]["kernel"] == decoder.implementation


def test_parameters():
    finding = machine.parameters_finding(4_000_000, 1_500_000, 8_000, 9_000)
    text = "4,000,000, 1,500,000 of them in recurrent layers; 8,000 source and 9,000 target tokens"
    assert said(finding) == ("machine.parameters", "ok", text)


@pytest.mark.parametrize(
    ("warmup", "verdict", "end"),
    [
        (199, "ok", ""),
        (200, "warning", ". The learning rate still rises at the end: lower training.warmup_steps (200)."),
    ],
)
def test_steps(warmup, verdict, end):
    finding = machine.steps_finding(1_600, 200, 4, warmup)
    assert said(finding) == ("training.steps", verdict, f"1,600 batches in 4 epochs, 200 updates{end}")
    assert finding.numbers == {"batches": 1_600, "updates": 200, "epochs": 4, "warmup_steps": warmup}


def rehearsal(loss=2.5):
    return Rehearsal(loss, 7.25, 0.125, 12, 0.5, (9, 40, 60), 3 * 10**9)


def test_loss():
    text = "2.50 nats a token before training; a blind guess has 2.30"
    assert said(machine.loss_finding(rehearsal(), 10)) == ("training.loss", "ok", text)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_loss_that_is_no_number(loss):
    finding = machine.loss_finding(rehearsal(loss), 10)
    assert said(finding) == (
        "training.loss",
        "problem",
        f"{loss:.2f} nats a token before training; a blind guess has 2.30. It must be a number. Set training.precision "
        "to float32, and check training.init_from.",
    )
    assert finding.numbers == {"loss": None}


@pytest.mark.parametrize(
    ("limit", "verdict", "end"),
    [
        (0, "ok", ""),
        (20.5, "ok", ""),
        (19.5, "warning",
         ". training.minutes (19.5) stops it before its last epoch, and the learning rate before the end of its "
         "schedule: raise it, or lower training.epochs."),
    ],
)  # fmt: skip
def test_minutes(limit, verdict, end):
    finding = machine.minutes_finding(rehearsal(), 9_600, limit)
    text = (
        "about 20.0 minutes for all epochs, evaluations not counted: 0.125 seconds a batch (median of 12), 0.500 for "
        "the largest (9 x 40 and 60 tokens), 7.2 for the first, which compiles"
    )
    assert said(finding) == ("training.minutes", verdict, text + end)
    assert finding.numbers["minutes"] == 20.0
    assert finding.numbers["largest_batch"] == {"rows": 9, "source_steps": 40, "target_steps": 60}


LESS = ". Lower training.batch_tokens, data.max_target_tokens or tokenizer.vocabulary_size."


@pytest.mark.parametrize(
    ("needed", "available", "measured", "verdict", "text"),
    [
        (3_000, 8_000, True, "ok", "3.0 GB at the peak, measured up to and with {}, of 8.0 GB"),
        (3_000, None, True, "ok", "3.0 GB at the peak, measured up to and with {}"),
        (7_000, 8_000, False, "warning", "7.0 GB at the peak, estimated from the shapes of {}, of 8.0 GB" + LESS),
        (9_000, 8_000, False, "problem", "9.0 GB at the peak, estimated from the shapes of {}, of 8.0 GB" + LESS),
    ],
)
def test_memory(needed, available, measured, verdict, text):
    limit = available and available * 10**6
    finding = machine.memory_finding(needed * 10**6, limit, (9, 40, 60), measured)
    assert said(finding) == ("machine.memory", verdict, text.format("the largest batch (9 x 40 and 60 tokens)"))
    assert finding.numbers == {"peak_mb": needed, "available_mb": available, "measured": measured}


def test_memory_that_is_exhausted():
    finding = machine.exhausted_finding((9, 40, 60))
    text = f"the largest batch (9 x 40 and 60 tokens) has no room{LESS}"
    assert said(finding) == ("machine.memory", "problem", text)


def test_estimated_memory(toy_config):
    """Worked out by hand for one small model; more of anything takes more."""
    config = toy_config()
    found = machine.estimated_memory(config, 1_000, vocabulary=100, batch=(2, 5, 7))
    source, target = 5 * (3 * 16 + 12 * 32), 7 * (3 * 16 + 12 * 32 + 3 * 5)
    assert found == 4 * (5 * 1_000 + 2 * (source + target) + 100 * (3 * 2 * 7 + 4 * 16))
    for changed, changes in [
        (toy_config(model__encoder__num_layers=2), {}),
        (toy_config(model__attention__score="multi_head"), {}),
        (toy_config(model__tie_embeddings="none", model__readout_size=32), {}),
        (config, {"parameters": 2_000}),
        (config, {"vocabulary": 101}),
        (config, {"batch": (3, 5, 7)}),
        (config, {"batch": (2, 6, 7)}),
        (config, {"batch": (2, 5, 8)}),
    ]:
        settings = {"parameters": 1_000, "vocabulary": 100, "batch": (2, 5, 7)} | changes
        assert machine.estimated_memory(changed, **settings) > found


def test_parts_computed_at_the_same_time_need_more_memory(toy_config):
    """By hand: of 3 rows a part has 2; each has its own gradients, logits and views of the output matrix."""
    config = toy_config()
    whole, cut = (machine.estimated_memory(config, 1_000, 100, (3, 5, 7), workers=workers) for workers in (1, 2))
    assert cut - whole == 4 * (1_000 + 100 * 3 * 7 * (2 * 2 - 3) + 100 * 4 * 16)


def test_labels_need_no_decoder(toy_config):
    """By hand: the source as for a translation, and at each of 4 places scores of 10 labels, three times."""
    labels = toy_config(task="tag", model__context="last")
    found = machine.estimated_memory(labels, 1_000, vocabulary=10, batch=(2, 5, 4))
    assert found == 4 * (5 * 1_000 + 2 * (5 * (3 * 16 + 12 * 32) + 3 * 4 * 10))


def test_joined_steps_need_less_memory(toy_config):
    """By hand: 5 source steps are 3 windows, and 2 steps of the second layer, which is all that attention reads."""
    front_end = {"model__encoder__front_end": "mean", "model__encoder__stride": 2}
    joined = toy_config(**front_end, model__encoder__num_layers=2, model__encoder__subsample=2)
    found = machine.estimated_memory(joined, 1_000, vocabulary=100, batch=(2, 5, 7))
    source = 3 * 16 * 5 + 2 * 16 * (5 + 3) + 12 * 32 * (3 + 2)
    target = 7 * (3 * 16 + 12 * 32 + 3 * 2)
    assert found == 4 * (5 * 1_000 + 2 * (source + target) + 100 * (3 * 2 * 7 + 4 * 16))
    copying = dataclasses.replace(joined, model=joined.model.replaced(copy="reuse"))
    more = machine.estimated_memory(copying, 1_000, vocabulary=100, batch=(2, 5, 7)) - found
    assert more == 4 * 2 * 7 * 3 * 5


def test_logits_need_no_more_memory_than_a_chunk(toy_config):
    small, large = (machine.estimated_memory(toy_config(), 1_000, 64_000, (rows, 5, 64)) for rows in (8, 64))
    assert large - small == 4 * 56 * (5 * (3 * 16 + 12 * 32) + 64 * (3 * 16 + 12 * 32 + 3 * 5))


def test_the_largest_batch(toy_config):
    """Long targets need more than long sources, since each of their steps has a whole vocabulary."""
    shapes = np.array([(4, 9, 3), (4, 3, 9), (2, 3, 9)])
    config = toy_config()
    number, shape, needed = machine.largest_batch(config, 1_000, 5_000, shapes)
    assert (number, shape) == (1, (4, 3, 9))
    assert needed == machine.estimated_memory(config, 1_000, 5_000, (4, 3, 9))
    assert machine.largest_batch(config, 1_000, 10, np.array([(4, 9, 8), (4, 3, 9)]))[0] == 0
