"""Findings on a machine and a recipe together: folder, disk, memory, kernels, precision, and the time of a run."""

import contextlib
import dataclasses
import itertools
import math
import os
import pathlib
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics.corpus_audit import Finding, judged
from seq2seq.errors import ConfigError
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.models.losses import CHUNK
from seq2seq.text.batching import Batch
from seq2seq.training.optimizers import Precision
from seq2seq.training.trainer import Trainer

KIBIBYTE, MEGABYTE, GIGABYTE = 1024, 1e6, 1e9
PROCESS, MACHINE, CONTAINER = "/proc/self/status", "/proc/meminfo", "/sys/fs/cgroup/memory.max"
NEARLY_FULL = 0.8
BYTES_OF_FLOAT = 4

# Each weight has itself, its gradient, two moments of the optimizer, and the moving average in memory.
COPIES_IN_MEMORY = 5
# A state holds each weight, two moments and the moving average; two states remain while a third is written. So many
# best models stay while another one becomes `model.keras`.
COPIES_ON_DISK = 3 * 4 + 4
# A recurrent layer keeps, in numbers of states per step: projected inputs, gates and their factors.
KEPT_STATES = 12
# The loss holds the output matrix as it is multiplied, transposed, and a chunk's share of its gradient and their sum.
OUTPUT_COPIES = 4

UNTIMED_STEPS, TIMED_STEPS, FEWEST_TIMED = 2, 12, 3
ENOUGH_SECONDS = 60.0

FASTER_KERNEL = "set model.implementation to auto, use the cell gru, or turn off model.decoder.input_feeding"
LESS_MEMORY = "Lower training.batch_tokens, data.max_target_tokens or tokenizer.vocabulary_size."


class BatchShape(NamedTuple):
    """Rows, source steps and target steps of a batch."""

    rows: int
    source_steps: int
    target_steps: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.source_steps} and {self.target_steps} tokens"


def peak_memory() -> int:
    """Read the most bytes that this process has held so far: of the GPU if there is one, else of the machine."""
    if tf.config.list_physical_devices("GPU"):
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    # Linux counts in kibibytes, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIBIBYTE)


def available_memory(process: str = PROCESS, machine: str = MACHINE, container: str = CONTAINER) -> int | None:
    """Compute the bytes that this process can hold in all, by the machine's and the container's limits.

    None if the machine does not tell, and for a GPU, whose memory TensorFlow takes as a whole.
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
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((int(line.split()[1]) * KIBIBYTE for line in lines if line.startswith(f"{name}:")), None)


@dataclasses.dataclass(frozen=True)
class DryRun:
    """Measurements of a few steps: the first loss in nats per token, median seconds, and peak memory."""

    loss: float
    first_batch_seconds: float
    seconds_per_batch: float
    timed_batches: int
    largest_batch_seconds: float
    largest_batch: BatchShape
    peak_bytes: int


def dry_run(trainer: Trainer, largest: int) -> DryRun:
    """Take two steps on the batch of a number, the largest, and a few on the first batches of a run.

    The learning rate is 0, so that the weights stay, and no setting of the rate can make the loss infinite.
    """
    with contextlib.closing(trainer.batches.epoch(0, skip=largest)) as rest:
        batch = next(rest)
    rows, source_steps = batch.source_ids.shape
    shape = BatchShape(rows, source_steps, batch.target_ids.shape[1])
    began = time.monotonic()
    loss, first_seconds = _timed_step(trainer, batch)
    _, largest_seconds = _timed_step(trainer, batch)
    seconds: list[float] = []
    with contextlib.closing(trainer.batches.epoch(0)) as epoch:
        for number, batch in enumerate(itertools.islice(epoch, UNTIMED_STEPS + TIMED_STEPS)):
            _, taken = _timed_step(trainer, batch)
            if number >= UNTIMED_STEPS:
                seconds.append(taken)
            if len(seconds) >= FEWEST_TIMED and time.monotonic() - began > ENOUGH_SECONDS:
                break
    # An epoch may have only untimed batches.
    seconds = seconds or [taken]
    return DryRun(loss, first_seconds, statistics.median(seconds), len(seconds), largest_seconds, shape, peak_memory())


def _timed_step(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    began = time.monotonic()
    result = trainer.step([batch], 0.0)
    loss = float(result.loss) / float(result.tokens)
    return loss, time.monotonic() - began


def folder_finding(folder: pathlib.Path, refused: ConfigError | None) -> Finding:
    """Judge whether the run can have its folder; `refused` is the error of the run itself."""
    parent = existing_parent(folder)
    is_writable = parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    is_used = folder.is_dir() and any(folder.iterdir())
    return judged(
        "run.folder",
        f"{folder} holds a run" if is_used else str(folder),
        {"folder": str(folder)},
        (refused is not None, "problem", str(refused)),
        (
            not is_writable,
            "problem",
            f"{parent} is no folder that can be written to. Set run.folder to another folder.",
        ),
        (is_used, "warning", "A new run replaces it, --resume continues it. Set run.name to keep both."),
    )


def existing_parent(path: pathlib.Path) -> pathlib.Path:
    """Find the nearest existing folder of a path, or the path itself."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def disk_finding(folder: pathlib.Path, parameters: int, snapshots: int) -> Finding:
    """Judge the room on disk for states, best models and the snapshots that are averaged."""
    needed = parameters * BYTES_OF_FLOAT * (COPIES_ON_DISK + snapshots)
    free = shutil.disk_usage(existing_parent(folder)).free
    return judged(
        "machine.disk",
        f"the run writes up to {shown_bytes(needed)} into {folder}, where {shown_bytes(free)} are free",
        {"needed_mb": round(needed / MEGABYTE, 1), "free_mb": round(free / MEGABYTE, 1)},
        (needed > free, "problem", "Free some space, or set run.folder to another disk."),
        (needed > NEARLY_FULL * free, "warning", "Free some space: another run may take it, or set run.folder."),
    )


def precision_finding(asked: str, fastest: Precision) -> Finding:
    """Judge `training.precision` against the one that `auto` takes on this machine."""
    is_fastest = asked in ("auto", fastest.name)
    text = f"training.precision is {asked}, but {fastest.reason}: {fastest.name} is faster"
    return judged(
        "machine.precision",
        f"{fastest.name}: {fastest.reason}" if is_fastest else text,
        {"asked": asked, "fastest": fastest.name, "reason": fastest.reason},
        (is_fastest or asked == "float32", "ok", ""),
        (True, "warning", "Set training.precision to auto."),
    )


def kernels_finding(choices: Mapping[str, KernelChoice], implementation: str, is_sequential: bool) -> Finding:
    """Judge the kernel of each recurrent layer; a sequential decoder fits no kernel, whatever `implementation` is."""
    numbers = {
        name: {"kernel": choice.implementation, "reasons_against_cudnn": list(choice.reasons_against_cudnn)}
        for name, choice in choices.items()
    }
    lines = []
    for choice in dict.fromkeys(choices.values()):
        layers = ", ".join(name for name, other in choices.items() if other == choice)
        reasons = "; ".join(choice.reasons_against_cudnn)
        lines.append(f"{choice.implementation}: {layers}" + (f" (not cuDNN: {reasons})" if reasons else ""))
    kernels = {choice.implementation for choice in choices.values()}
    demanded = {choice.implementation for name, choice in choices.items() if not is_sequential or "encoder" in name}
    stops = implementation in ("cudnn", "scan") and demanded != {implementation}
    return judged(
        "machine.kernels",
        "\n".join(lines),
        numbers,
        (stops, "problem", f"The run stops, since model.implementation is {implementation}: set it to auto."),
        ("raw" in kernels, "warning", f"raw is many times slower: {FASTER_KERNEL}, unless it is intended."),
    )


def parameters_finding(parameters: int, recurrent: int, source_vocabulary: int, target_vocabulary: int) -> Finding:
    """Report the size of the model."""
    numbers = {
        "parameters": parameters,
        "recurrent_parameters": recurrent,
        "source_vocabulary": source_vocabulary,
        "target_vocabulary": target_vocabulary,
    }
    text = f"{parameters:,}, {recurrent:,} of them in recurrent layers; {source_vocabulary:,} source and "
    return Finding("machine.parameters", "ok", f"{text}{target_vocabulary:,} target tokens", numbers)


def steps_finding(batches: int, updates: int, epochs: int, warmup_steps: int) -> Finding:
    """Judge the number of updates of the weights against those of the warm-up."""
    return judged(
        "training.steps",
        f"{batches:,} batches in {epochs} epochs, {updates:,} updates",
        {"batches": batches, "updates": updates, "epochs": epochs, "warmup_steps": warmup_steps},
        (warmup_steps >= updates, "warning", "The learning rate rises to the end: lower training.warmup_steps."),
    )


def loss_finding(run: DryRun, vocabulary: int) -> Finding:
    """Judge the first loss, which must be a number and should be near that of a uniform guess."""
    is_finite = math.isfinite(run.loss)
    return judged(
        "training.loss",
        f"{run.loss:.2f} nats per token before training; a uniform guess has {math.log(vocabulary):.2f}",
        {"loss": run.loss if is_finite else None},
        (not is_finite, "problem", "Set training.precision to float32, and check training.init_from."),
    )


def minutes_finding(run: DryRun, batches: int, minutes_limit: float | None) -> Finding:
    """Judge the estimated time of all epochs against `training.minutes`."""
    minutes, numbers = batches * run.seconds_per_batch / 60, dataclasses.asdict(run)
    # JSON has no infinite loss.
    del numbers["loss"]
    limit = minutes_limit or math.inf
    return judged(
        "training.minutes",
        f"about {minutes:,.1f} minutes for all epochs without scores: {run.seconds_per_batch:.3f} seconds per batch "
        f"(median of {run.timed_batches}), {run.largest_batch_seconds:.3f} for the largest ({run.largest_batch}), "
        f"{run.first_batch_seconds:.1f} for the first, which compiles",
        numbers | {"minutes": minutes, "largest_batch": run.largest_batch._asdict()},
        (minutes > limit, "warning", f"It ends after {limit:g}: raise training.minutes, or lower training.epochs."),
    )


def memory_finding(needed: int, available: int | None, batch: BatchShape, measured: bool) -> Finding:
    """Judge the bytes needed at the peak, measured or estimated, against those available (None: unknown)."""
    text = f"{shown_bytes(needed)} at the peak, "
    text += "measured up to and with" if measured else "estimated from the shapes of"
    text += f" the largest batch ({batch}){'' if available is None else f', of {shown_bytes(available)}'}"
    limit = math.inf if available is None else available
    return judged(
        "machine.memory",
        text,
        {
            "peak_mb": round(needed / MEGABYTE, 1),
            "available_mb": None if available is None else round(available / MEGABYTE, 1),
            "measured": measured,
        },
        (needed > limit, "problem", LESS_MEMORY),
        (needed > NEARLY_FULL * limit, "warning", LESS_MEMORY),
    )


def exhausted_finding(batch: BatchShape) -> Finding:
    """Report that the largest batch did not fit into memory."""
    text = f"the largest batch ({batch}) does not fit. {LESS_MEMORY}"
    return Finding("machine.memory", "problem", text, {"peak_mb": None, "available_mb": None, "measured": True})


def estimated_memory(config: Config, parameters: int, vocabulary: int, batch: BatchShape, workers: int = 1) -> int:
    """Estimate the bytes that training adds to a process, from shapes alone, as if all numbers were float32.

    `vocabulary` is that of the target, and `workers` the number of parts of a batch that are computed at once.
    """
    rows, source_steps, target_steps = batch
    model = config.model
    encoder, decoder = model.encoder, model.decoder
    source = 3 * model.embedding_size * source_steps
    if encoder.front_end != "none":
        # The front end's input, masked and padded, and its output.
        source += 2 * model.embedding_size * (source_steps + -(-source_steps // encoder.stride))
    for reduction in encoder.reductions:
        source += KEPT_STATES * encoder.units * (1 + encoder.bidirectional) * -(-source_steps // reduction)
    # Each part has gradients of its own until they are summed.
    weights = (COPIES_IN_MEMORY + workers - 1) * parameters
    if config.gives_labels:
        # Scores, probabilities and their gradient.
        return BYTES_OF_FLOAT * (weights + rows * (source + 3 * target_steps * vocabulary))
    target = 3 * model.embedding_size + KEPT_STATES * decoder.num_layers * decoder.units
    # Attention scores, weights and their gradient; in a chunk of tokens logits, probabilities and their gradient.
    memory_steps = -(-source_steps // encoder.reductions[-1])
    attention = 3 * memory_steps * (model.attention.num_heads if model.attention.score == "multi_head" else 1)
    if model.copy != "none":
        # Copying weighs every token of the source.
        attention += 3 * source_steps
    numbers = rows * (source + target_steps * (target + attention))
    width = model.readout_size or model.embedding_size
    chunk = min(-(-rows // workers) * target_steps, CHUNK)
    loss = workers * vocabulary * (3 * chunk + OUTPUT_COPIES * width)
    return BYTES_OF_FLOAT * (weights + numbers + loss)


def largest_batch(
    config: Config, parameters: int, vocabulary: int, shapes: np.ndarray, workers: int = 1
) -> tuple[int, BatchShape, int]:
    """Find the number, the shape and the estimated bytes of the batch that needs the most memory.

    `shapes` are rows, source steps and target steps, `(batches, 3)`.
    """
    batches = [BatchShape(*shape) for shape in shapes.tolist()]
    needed = [estimated_memory(config, parameters, vocabulary, batch, workers) for batch in batches]
    number = int(np.argmax(needed))
    return number, batches[number], needed[number]


def shown_bytes(count: int) -> str:
    """Format a number of bytes in megabytes or gigabytes.

    >>> shown_bytes(12_345_678), shown_bytes(3_210_000_000)
    ('12 MB', '3.2 GB')
    """
    return f"{count / GIGABYTE:.1f} GB" if count >= GIGABYTE else f"{count / MEGABYTE:.0f} MB"
