"""Findings on machines of every kind: verdicts, numbers, and the settings that the advice names; and a dry run."""

import math
import pathlib
import shutil
import statistics

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.diagnostics import machine
from seq2seq.diagnostics.machine import BatchShape, DryRun, available_memory, estimated_memory, peak_memory
from seq2seq.errors import ConfigError
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.training.data import Texts
from seq2seq.training.optimizers import Precision
from seq2seq.training.step import StepResult, create_step
from seq2seq.training.trainer import Trainer

MEBIBYTE = 1 << 20
STATUS = pathlib.Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.is_file(), reason="only Linux has a second source")
def test_peak_memory_is_that_of_linux():
    high_water = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    assert peak_memory() == pytest.approx(int(high_water.split()[1]) * 1024, abs=10 * MEBIBYTE)


def test_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", lambda device: {"current": 5, "peak": 7})
    assert peak_memory() == 7
    assert available_memory() is None


@pytest.fixture
def linux(tmp_path):
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
def test_available_memory(linux, limit, expected):
    assert available_memory(*linux(limit)) == expected


def test_available_memory_that_is_unknown(linux, tmp_path):
    status, meminfo, limit = linux()
    assert available_memory(str(tmp_path / "absent"), meminfo, limit) is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\n")
    assert available_memory(status, meminfo, limit) is None
    assert (available_memory() or math.inf) > 100 * MEBIBYTE


def check(finding, name, verdict, *words):
    assert (finding.name, finding.verdict) == (name, verdict)
    assert all(word in finding.text for word in words), finding.text


def test_folder(tmp_path, monkeypatch):
    new, name = tmp_path / "runs" / "new", "run.folder"
    check(machine.folder_finding(new, None), name, "ok", str(new))
    new.mkdir(parents=True)
    check(machine.folder_finding(new, None), name, "ok")
    (new / "recipe.yaml").write_text("")
    check(machine.folder_finding(new, None), name, "warning", "--resume", "run.name")
    check(machine.folder_finding(new, ConfigError("other files")), name, "problem", "other files")
    check(machine.folder_finding(new / "recipe.yaml" / "a", None), name, "problem", "recipe.yaml is no folder", name)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    check(machine.folder_finding(tmp_path / "a", None), name, "problem", "can be written to", name)
    monkeypatch.chdir(tmp_path)
    assert machine.existing_parent(pathlib.Path("checkpoints/run")) == tmp_path


@pytest.mark.parametrize(("free", "verdict"), [(10_000, "ok"), (2_000, "warning"), (1_800, "problem")])
def test_disk(tmp_path, monkeypatch, free, verdict):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free * 10**6))
    # 25 million numbers of four bytes: 100 MB; 16 copies and 3 snapshots of them.
    finding = machine.disk_finding(tmp_path / "run", parameters=25_000_000, snapshots=3)
    check(finding, "machine.disk", verdict, "1.9 GB", f"{free / 1000:.1f} GB", *["run.folder"] * (verdict != "ok"))
    assert finding.numbers == {"needed_mb": 1_900.0, "free_mb": free}


OLD, NEW = Precision("float32", "the processor is old"), Precision("bfloat16", "the processor has amx_bf16")
TURING = Precision("float16", "the GPU has compute capability 7.5")


@pytest.mark.parametrize(
    ("asked", "fastest", "verdict"),
    [
        ("auto", NEW, "ok"), ("auto", TURING, "ok"), ("auto", OLD, "ok"), ("bfloat16", NEW, "ok"),
        ("float32", NEW, "ok"), ("bfloat16", OLD, "warning"), ("float16", OLD, "warning"),
        ("bfloat16", TURING, "warning"), ("float16", NEW, "warning"),
    ],
)  # fmt: skip
def test_precision(asked, fastest, verdict):
    finding = machine.precision_finding(asked, fastest)
    check(finding, "machine.precision", verdict, fastest.name, fastest.reason)
    assert ("Set training.precision to auto" in finding.text) == (verdict == "warning")
    assert finding.numbers == {"asked": asked, "fastest": fastest.name, "reason": fastest.reason}


NO_GPU = ("TensorFlow sees no GPU",)
SCAN, RAW, CUDNN = KernelChoice("scan", NO_GPU), KernelChoice("raw", ("no kernel", *NO_GPU)), KernelChoice("cudnn", ())


@pytest.mark.parametrize(
    ("encoder", "decoder", "implementation", "is_sequential", "verdict", "words"),
    [
        (CUDNN, CUDNN, "auto", False, "ok", "cudnn: encoder.0, decoder.0"),
        (CUDNN, CUDNN, "cudnn", False, "ok", "cudnn: encoder.0, decoder.0"),
        (SCAN, SCAN, "auto", False, "ok", "scan: encoder.0, decoder.0 (not cuDNN: TensorFlow sees no GPU)"),
        (SCAN, RAW, "auto", False, "warning", "\nraw: decoder.0 (not cuDNN: no kernel; TensorFlow sees no GPU)"),
        (SCAN, SCAN, "cudnn", False, "problem", "model.implementation is cudnn"),
        (RAW, RAW, "scan", False, "problem", "model.implementation is scan"),
        (CUDNN, RAW, "cudnn", True, "warning", "set model.implementation to auto"),
    ],
)
def test_kernels(encoder, decoder, implementation, is_sequential, verdict, words):
    choices = {"encoder.0": encoder, "decoder.0": decoder}
    finding = machine.kernels_finding(choices, implementation, is_sequential)
    check(finding, "machine.kernels", verdict, words)
    assert finding.numbers["encoder.0"] == {
        "kernel": encoder.implementation, "reasons_against_cudnn": list(encoder.reasons_against_cudnn)
    }  # fmt: skip


def test_parameters():
    finding = machine.parameters_finding(4_000_000, 1_500_000, 8_000, 9_000)
    check(finding, "machine.parameters", "ok", "4,000,000", "1,500,000", "8,000", "9,000")


@pytest.mark.parametrize(("warmup", "verdict"), [(199, "ok"), (200, "warning")])
def test_steps(warmup, verdict):
    finding = machine.steps_finding(1_600, 200, 4, warmup)
    check(finding, "training.steps", verdict, "1,600", "200", *["training.warmup_steps"] * (verdict != "ok"))
    assert finding.numbers == {"batches": 1_600, "updates": 200, "epochs": 4, "warmup_steps": warmup}


def run_of(loss=2.5):
    return DryRun(loss, 7.25, 0.125, 12, 0.5, BatchShape(9, 40, 60), 3 * 10**9)


@pytest.mark.parametrize("loss", [2.5, math.nan, math.inf])
def test_loss(loss):
    finding = machine.loss_finding(run_of(loss), 10)
    problem = not math.isfinite(loss)
    check(finding, "training.loss", "problem" if problem else "ok", "2.30", *["training.precision"] * problem)
    assert finding.numbers == {"loss": None if problem else loss}


@pytest.mark.parametrize(("limit", "verdict"), [(0, "ok"), (20.5, "ok"), (19.5, "warning")])
def test_minutes(limit, verdict):
    finding = machine.minutes_finding(run_of(), 9_600, limit)
    check(finding, "training.minutes", verdict, "20.0 minutes", "9 x 40 and 60", *["epochs"] * (verdict != "ok"))
    assert finding.numbers["minutes"] == 20.0
    assert finding.numbers["largest_batch"] == {"rows": 9, "source_steps": 40, "target_steps": 60}


@pytest.mark.parametrize(
    ("needed", "available", "measured", "verdict"),
    [(3_000, 8_000, True, "ok"), (3_000, None, True, "ok"), (7_000, 8_000, False, "warning"),
     (9_000, 8_000, False, "problem")],
)  # fmt: skip
def test_memory(needed, available, measured, verdict):
    finding = machine.memory_finding(needed * 10**6, available and available * 10**6, BatchShape(9, 40, 60), measured)
    check(finding, "machine.memory", verdict, f"{needed / 1000:.1f} GB", "measured" if measured else "estimated")
    assert ("training.batch_tokens" in finding.text) == (verdict != "ok")
    assert finding.numbers == {"peak_mb": needed, "available_mb": available, "measured": measured}
    check(machine.exhausted_finding(BatchShape(9, 40, 60)), "machine.memory", "problem", "training.batch_tokens")


class TestEstimatedMemory:
    """Estimates worked out by hand for small models."""

    def test_grows_with_everything(self, toy_config):
        config = toy_config()
        found = estimated_memory(config, 1_000, vocabulary=100, batch=(2, 5, 7))
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
            assert estimated_memory(changed, **settings) > found

    def test_parts_at_the_same_time(self, toy_config):
        # Of 3 rows a part has 2; each has its own gradients, logits and copies of the output matrix.
        whole, cut = (estimated_memory(toy_config(), 1_000, 100, (3, 5, 7), workers=workers) for workers in (1, 2))
        assert cut - whole == 4 * (1_000 + 100 * 3 * 7 * (2 * 2 - 3) + 100 * 4 * 16)

    def test_labels(self, toy_config):
        # The source as for a translation, and three numbers for 10 labels at each of 4 places.
        found = estimated_memory(toy_config(task="tag", model__context="last"), 1_000, vocabulary=10, batch=(2, 5, 4))
        assert found == 4 * (5 * 1_000 + 2 * (5 * (3 * 16 + 12 * 32) + 3 * 4 * 10))

    def test_joined_steps(self, toy_config):
        # 5 source steps are 3 windows, and 2 steps of the second layer, which is all that attention reads.
        front_end = {"model__encoder__front_end": "mean", "model__encoder__stride": 2}
        joined = front_end | {"model__encoder__num_layers": 2, "model__encoder__subsample": 2}
        found = estimated_memory(toy_config(**joined), 1_000, vocabulary=100, batch=(2, 5, 7))
        source = 3 * 16 * 5 + 2 * 16 * (5 + 3) + 12 * 32 * (3 + 2)
        target = 7 * (3 * 16 + 12 * 32 + 3 * 2)
        assert found == 4 * (5 * 1_000 + 2 * (source + target) + 100 * (3 * 2 * 7 + 4 * 16))
        copying = toy_config(**joined, model__copy="reuse")
        assert estimated_memory(copying, 1_000, vocabulary=100, batch=(2, 5, 7)) - found == 4 * 2 * 7 * 3 * 5

    def test_logits_of_a_chunk(self, toy_config):
        small, large = (estimated_memory(toy_config(), 1_000, 64_000, (rows, 5, 64)) for rows in (8, 64))
        assert large - small == 4 * 56 * (5 * (3 * 16 + 12 * 32) + 64 * (3 * 16 + 12 * 32 + 3 * 5))

    def test_largest_batch(self, toy_config):
        # Long targets need more than long sources, since each of their steps has a whole vocabulary.
        shapes, config = np.array([(4, 9, 3), (4, 3, 9), (2, 3, 9)]), toy_config()
        number, shape, needed = machine.largest_batch(config, 1_000, 5_000, shapes)
        assert (number, shape) == (1, (4, 3, 9))
        assert needed == estimated_memory(config, 1_000, 5_000, (4, 3, 9))
        assert machine.largest_batch(config, 1_000, 10, np.array([(4, 9, 8), (4, 3, 9)]))[0] == 0


@pytest.fixture(scope="module")
def trainer(toy_config, toy_tokenizer, toy_pairs, tmp_path_factory):
    sources, targets = zip(*toy_pairs, strict=True)
    corpus = EncodedCorpus.from_lists(toy_tokenizer.source.encode(sources), toy_tokenizer.target.encode(targets))
    config = toy_config(run__folder=str(tmp_path_factory.mktemp("runs")))
    batches = Batches(corpus, batch_tokens=150, seed=3)
    return Trainer(config, create_step(config, toy_tokenizer), batches, Texts([], []))


@pytest.fixture
def steps(trainer, monkeypatch):
    """Record the batches of each step; a step takes as many seconds as its number, and has twice that loss."""
    taken = []

    def step(batches, rate):
        (batch,) = batches
        taken.append((batch.source_ids, batch.target_ids, rate))
        return StepResult(loss=len(taken) * 20.0, tokens=10.0, gradient_norm=1.0)

    monkeypatch.setattr(trainer, "step", step)
    monkeypatch.setattr(machine.time, "monotonic", lambda: sum(range(len(taken) + 1)))
    monkeypatch.setattr(machine, "ENOUGH_SECONDS", 10_000)
    return taken


def test_dry_run(trainer, steps):
    found = machine.dry_run(trainer, 3)
    batches = list(trainer.batches.epoch(0))
    expected = [batches[3], batches[3], *batches[: machine.UNTIMED_STEPS + machine.TIMED_STEPS]]
    for (source_ids, target_ids, rate), batch in zip(steps, expected, strict=True):
        assert np.array_equal(source_ids, batch.source_ids)
        assert np.array_equal(target_ids, batch.target_ids)
        assert rate == 0.0
    first = 3 + machine.UNTIMED_STEPS
    assert found == DryRun(
        loss=2.0,
        first_batch_seconds=1,
        seconds_per_batch=statistics.median(range(first, first + machine.TIMED_STEPS)),
        timed_batches=machine.TIMED_STEPS,
        largest_batch_seconds=2,
        largest_batch=BatchShape(*batches[3].source_ids.shape, batches[3].target_ids.shape[1]),
        peak_bytes=found.peak_bytes,
    )
    assert found.peak_bytes > 10**7


def test_dry_run_of_slow_or_few_batches(trainer, steps, monkeypatch):
    monkeypatch.setattr(machine, "ENOUGH_SECONDS", 0)
    assert machine.dry_run(trainer, 3).timed_batches == machine.FEWEST_TIMED
    steps.clear()
    monkeypatch.setattr(machine, "UNTIMED_STEPS", 10_000)
    found = machine.dry_run(trainer, 3)
    assert (found.timed_batches, found.seconds_per_batch) == (1, 2 + trainer.batches_per_epoch)
