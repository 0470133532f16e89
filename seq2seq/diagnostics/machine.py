"""What a machine and a recipe mean for a run: a finding each, with a verdict and what to do about it."""

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

import numpy as np
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics.corpus_audit import Finding
from seq2seq.errors import ConfigError
from seq2seq.layers.recurrent import KernelChoice
from seq2seq.models.losses import CHUNK
from seq2seq.text.batching import Batch
from seq2seq.training.optimizers import Precision
from seq2seq.training.trainer import Trainer

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


UNTIMED, TIMED, FEWEST_TIMED = 2, 12, 3
ENOUGH_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What a few steps have shown.

    Args:
        loss: of the first step, in nats a token.
        first_seconds: of the first step, which compiles.
        seconds: median of the timed steps, the largest batch apart.
        timed: how many these are.
        largest_seconds: of the largest batch.
        largest: its rows, source steps and target steps.
        peak_bytes: the most memory that the process has held so far.
    """

    loss: float
    first_seconds: float
    seconds: float
    timed: int
    largest_seconds: float
    largest: tuple[int, int, int]
    peak_bytes: int


def dry_run(trainer: Trainer, largest: int) -> Rehearsal:
    """Take a few steps on the first batches of a run, and one on the largest batch of its first epoch.

    The learning rate is 0, so that no setting of it can make the loss anything but a number, and the weights stay.

    Args:
        trainer: of a run that has not begun.
        largest: number of that batch.
    """
    with contextlib.closing(trainer.batches.epoch(0, skip=largest)) as rest:
        batch = next(rest)
    shape = (*batch.source_ids.shape, batch.target_ids.shape[1])
    began = time.monotonic()
    loss, first_seconds = _step(trainer, batch)
    _, largest_seconds = _step(trainer, batch)
    seconds: list[float] = []
    with contextlib.closing(trainer.batches.epoch(0)) as epoch:
        for number, batch in enumerate(itertools.islice(epoch, UNTIMED + TIMED)):
            _, taken = _step(trainer, batch)
            if number >= UNTIMED:
                seconds.append(taken)
            if len(seconds) >= FEWEST_TIMED and time.monotonic() - began > ENOUGH_SECONDS:
                break
    # An epoch may have fewer batches than are left untimed.
    seconds = seconds or [taken]
    return Rehearsal(
        loss, first_seconds, statistics.median(seconds), len(seconds), largest_seconds, shape, peak_memory()
    )


def _step(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """Loss in nats a token, and seconds."""
    began = time.monotonic()
    result = trainer.step(batch.source_ids, batch.target_ids, 0.0)
    loss = float(result.loss) / float(result.tokens)
    return loss, time.monotonic() - began


BYTES_OF_FLOAT = 4
MEGABYTE, GIGABYTE = 1e6, 1e9
NEARLY_FULL = 0.8

# Of each weight: itself, its gradient, two moments of the optimizer, the moving average.
COPIES_IN_MEMORY = 5
# Of each weight a state has itself, two moments and the moving average; two states stand while a third is written, and
# as many best models while one more is made `model.keras`.
COPIES_ON_DISK = 3 * 4 + 4
# What a recurrent layer keeps for its gradient at each step, in states: projected inputs, gates and their factors.
KEPT_STATES = 12
# Of the output matrix the loss holds, beside its gradient: as it is multiplied, transposed, a chunk's share of the
# gradient and the sum before it.
OUTPUT_COPIES = 4

LESS_MEMORY = "Lower training.batch_tokens, data.max_target_tokens or tokenizer.vocabulary_size."


def folder_finding(folder: pathlib.Path, refused: ConfigError | None) -> Finding:
    """Whether the run can have its folder.

    Args:
        folder: of the run.
        refused: why a run refuses it, or None.
    """
    numbers = {"folder": str(folder)}
    parent = existing_parent(folder)
    if refused:
        return Finding("run.folder", "problem", str(refused), numbers)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        what = "cannot be written to" if parent.is_dir() else "is a file"
        text = f"{folder}: cannot be made, since {parent} {what}. Set run.folder to another folder."
        return Finding("run.folder", "problem", text, numbers)
    if folder.is_dir() and any(folder.iterdir()):
        text = f"{folder} holds a run: a new one replaces it, --resume goes on with it. Set run.name to keep both."
        return Finding("run.folder", "warning", text, numbers)
    return Finding("run.folder", "ok", f"{folder} is free", numbers)


def existing_parent(path: pathlib.Path) -> pathlib.Path:
    """The path itself, or the nearest folder above it, that exists."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def disk_finding(folder: pathlib.Path, parameters: int, snapshots: int) -> Finding:
    """Whether what a run writes has room: states, best models and snapshots; the encoded pairs stand already.

    Args:
        folder: of the run.
        parameters: numbers in the weights.
        snapshots: models that are kept to be averaged.
    """
    needed = parameters * BYTES_OF_FLOAT * (COPIES_ON_DISK + snapshots)
    free = shutil.disk_usage(existing_parent(folder)).free
    numbers = {"needed_mb": round(needed / MEGABYTE, 1), "free_mb": round(free / MEGABYTE, 1)}
    text = f"the run writes up to {shown_bytes(needed)} into {folder}, where {shown_bytes(free)} are free"
    if needed > free:
        return Finding("machine.disk", "problem", f"{text}. Make room, or set run.folder to another disk.", numbers)
    if needed > NEARLY_FULL * free:
        return Finding("machine.disk", "warning", f"{text}. Make room: another run may take it.", numbers)
    return Finding("machine.disk", "ok", text, numbers)


def precision_finding(asked: str, fastest: Precision) -> Finding:
    """In which numbers the products are computed, and why.

    Args:
        asked: `training.precision`.
        fastest: what `auto` takes on this machine.
    """
    numbers = {"asked": asked, "fastest": fastest.name, "reason": fastest.reason}
    name, against = "machine.precision", f"training.precision is {asked}, but {fastest.reason}: {fastest.name} is"
    if asked in ("auto", fastest.name):
        return Finding(name, "ok", f"{fastest.name}: {fastest.reason}", numbers)
    if asked == "float32":
        return Finding(name, "ok", f"{against} faster, and auto takes it", numbers)
    if (asked, fastest.name) == ("float16", "bfloat16"):
        advice = "at least as fast and has no overflows to skip steps for. Set it to auto."
        return Finding(name, "warning", f"{against} {advice}", numbers)
    return Finding(name, "warning", f"{against} faster. Set it to auto.", numbers)


def kernels_finding(choices: Mapping[str, KernelChoice], implementation: str, step_by_step: bool) -> Finding:
    """Which kernel each recurrent layer runs on, and every reason against cuDNN.

    Args:
        choices: of the layers, by name, from `Seq2Seq.kernel_choices`.
        implementation: `model.implementation`.
        step_by_step: whether the decoder needs more of the last step than its state, so that no kernel fits it.
    """
    numbers = {
        name: {"kernel": choice.implementation, "reasons_against_cudnn": list(choice.reasons_against_cudnn)}
        for name, choice in choices.items()
    }
    lines = []
    for choice in dict.fromkeys(choices.values()):
        layers = ", ".join(name for name, other in choices.items() if other == choice)
        reasons = "; ".join(choice.reasons_against_cudnn)
        lines.append(f"{choice.implementation}: {layers}" + (f" (not cuDNN: {reasons})" if reasons else ""))
    text = "\n".join(lines)
    kernels = {choice.implementation for name, choice in choices.items() if not step_by_step or "encoder" in name}
    if implementation in ("cudnn", "scan") and kernels != {implementation}:
        text += f"\nThe run stops, since model.implementation is {implementation}: set it to auto."
        return Finding("machine.kernels", "problem", text, numbers)
    if "raw" in {choice.implementation for choice in choices.values()}:
        text += (
            "\nStep by step is many times slower; unless it is meant, set model.implementation to auto, take the "
            "cell gru, or leave model.decoder.input_feeding."
        )
        return Finding("machine.kernels", "warning", text, numbers)
    return Finding("machine.kernels", "ok", text, numbers)


def parameters_finding(parameters: int, recurrent: int, source_vocabulary: int, target_vocabulary: int) -> Finding:
    """How large the model is."""
    numbers = {
        "parameters": parameters,
        "recurrent_parameters": recurrent,
        "source_vocabulary": source_vocabulary,
        "target_vocabulary": target_vocabulary,
    }
    text = f"{parameters:,}, {recurrent:,} of them in recurrent layers; {source_vocabulary:,} source and "
    return Finding("machine.parameters", "ok", f"{text}{target_vocabulary:,} target tokens", numbers)


def steps_finding(batches: int, updates: int, epochs: int, warmup_steps: int) -> Finding:
    """How many steps the run takes.

    Args:
        batches: of the whole run.
        updates: of the weights; fewer, where several batches make one.
        epochs: of the run.
        warmup_steps: updates in which the learning rate rises.
    """
    numbers = {"batches": batches, "updates": updates, "epochs": epochs, "warmup_steps": warmup_steps}
    text = f"{batches:,} batches in {epochs} epochs, {updates:,} updates"
    if warmup_steps >= updates:
        text += f". The learning rate still rises at the end: lower training.warmup_steps ({warmup_steps:,})."
        return Finding("training.steps", "warning", text, numbers)
    return Finding("training.steps", "ok", text, numbers)


def loss_finding(rehearsal: Rehearsal, vocabulary: int) -> Finding:
    """Whether the first loss is a number, and near that of a model that knows nothing."""
    text = f"{rehearsal.loss:.2f} nats a token before training; a blind guess has {math.log(vocabulary):.2f}"
    if math.isfinite(rehearsal.loss):
        return Finding("training.loss", "ok", text, {"loss": rehearsal.loss})
    advice = "Set training.precision to float32, and check training.init_from."
    return Finding("training.loss", "problem", f"{text}. It must be a number. {advice}", {"loss": None})


def minutes_finding(rehearsal: Rehearsal, batches: int, minutes_limit: float) -> Finding:
    """How long the run takes.

    Args:
        rehearsal: of its first batches.
        batches: of the whole run.
        minutes_limit: `training.minutes`; 0: none.
    """
    minutes = batches * rehearsal.seconds / 60
    rows, source_steps, target_steps = rehearsal.largest
    numbers = {
        "seconds_a_batch": rehearsal.seconds,
        "timed_batches": rehearsal.timed,
        "first_batch_seconds": rehearsal.first_seconds,
        "largest_batch_seconds": rehearsal.largest_seconds,
        "largest_batch": {"rows": rows, "source_steps": source_steps, "target_steps": target_steps},
        "minutes": minutes,
    }
    text = (
        f"about {minutes:,.1f} minutes for all epochs, evaluations not counted: {rehearsal.seconds:.3f} seconds a "
        f"batch (median of {rehearsal.timed}), {rehearsal.largest_seconds:.3f} for the largest ({rows} x "
        f"{source_steps} and {target_steps} tokens), {rehearsal.first_seconds:.1f} for the first, which compiles"
    )
    if minutes_limit and minutes > minutes_limit:
        text += (
            f". training.minutes ({minutes_limit:g}) stops it before its last epoch, and the learning rate before the "
            "end of its schedule: raise it, or lower training.epochs."
        )
        return Finding("training.minutes", "warning", text, numbers)
    return Finding("training.minutes", "ok", text, numbers)


def memory_finding(needed: int, available: int | None, batch: tuple[int, int, int], measured: bool) -> Finding:
    """Whether the run has room in memory.

    Args:
        needed: bytes at the peak.
        available: bytes that the process can hold; None: not known.
        batch: rows, source steps and target steps of the largest batch.
        measured: whether `needed` is measured, or else estimated from the shapes.
    """
    numbers = {
        "peak_mb": round(needed / MEGABYTE, 1),
        "available_mb": None if available is None else round(available / MEGABYTE, 1),
        "measured": measured,
    }
    how = "measured up to and with" if measured else "estimated from the shapes of"
    rows, source_steps, target_steps = batch
    text = f"{shown_bytes(needed)} at the peak, {how} the largest batch ({rows} x {source_steps} and {target_steps} "
    text += f"tokens){'' if available is None else f', of {shown_bytes(available)}'}"
    if available is not None and needed > available:
        return Finding("machine.memory", "problem", f"{text}. {LESS_MEMORY}", numbers)
    if available is not None and needed > NEARLY_FULL * available:
        return Finding("machine.memory", "warning", f"{text}. {LESS_MEMORY}", numbers)
    return Finding("machine.memory", "ok", text, numbers)


def exhausted_finding(batch: tuple[int, int, int]) -> Finding:
    """That a step found no memory.

    Args:
        batch: rows, source steps and target steps of the largest batch.
    """
    rows, source_steps, target_steps = batch
    text = f"the largest batch ({rows} x {source_steps} and {target_steps} tokens) has no room. {LESS_MEMORY}"
    return Finding("machine.memory", "problem", text, {"peak_mb": None, "available_mb": None, "measured": True})


def estimated_memory(
    config: Config, parameters: int, vocabulary: int, batch: tuple[int, int, int], workers: int = 1
) -> int:
    """Bytes that training adds to a process at the most, from shapes alone, as if all of them were float32.

    Args:
        config: the run.
        parameters: numbers in the weights.
        vocabulary: of the target, or its labels.
        batch: rows, source steps and target steps of the largest batch.
        workers: parts of the batch that are computed at the same time.
    """
    rows, source_steps, target_steps = batch
    model = config.model
    encoder, decoder = model.encoder, model.decoder
    source = 3 * model.embedding_size * source_steps
    if encoder.front_end != "none":
        # What it reads, masked and padded, and what it makes of that.
        source += 2 * model.embedding_size * (source_steps + -(-source_steps // encoder.stride))
    for reduction in encoder.reductions:
        source += KEPT_STATES * encoder.memory_size * -(-source_steps // reduction)
    # Each part has gradients of its own until they are added up.
    weights = (COPIES_IN_MEMORY + workers - 1) * parameters
    if config.gives_labels:
        # Scores, probabilities and their gradient.
        return BYTES_OF_FLOAT * (weights + rows * (source + 3 * target_steps * vocabulary))
    target = 3 * model.embedding_size + KEPT_STATES * decoder.num_layers * decoder.units
    # Scores, weights and their gradient; in a chunk of tokens logits, probabilities and their gradient.
    memory_steps = -(-source_steps // encoder.reduction)
    attention = 3 * memory_steps * (model.attention.num_heads if model.attention.score == "multi_head" else 1)
    if model.copy != "none":
        # What is copied is weighed for every token of the source.
        attention += 3 * source_steps
    numbers = rows * (source + target_steps * (target + attention))
    width = model.readout_size or model.embedding_size
    chunk = min(-(-rows // workers) * target_steps, CHUNK)
    loss = workers * vocabulary * (3 * chunk + OUTPUT_COPIES * width)
    return BYTES_OF_FLOAT * (weights + numbers + loss)


def largest_batch(
    config: Config, parameters: int, vocabulary: int, shapes: np.ndarray, workers: int = 1
) -> tuple[int, tuple[int, int, int], int]:
    """The batch that needs the most memory: its number, its shape, and the bytes that it is estimated to need.

    Args:
        config: the run.
        parameters: numbers in the weights.
        vocabulary: of the target.
        shapes: rows, source steps and target steps of every batch, `(batches, 3)`.
        workers: as in `estimated_memory`.
    """
    needed = [
        estimated_memory(config, parameters, vocabulary, (rows, source_steps, target_steps), workers)
        for rows, source_steps, target_steps in shapes.tolist()
    ]
    number = int(np.argmax(needed))
    rows, source_steps, target_steps = shapes[number].tolist()
    return number, (rows, source_steps, target_steps), needed[number]


def shown_bytes(count: int) -> str:
    """A number of bytes in megabytes or gigabytes.

    >>> shown_bytes(12_345_678), shown_bytes(3_210_000_000)
    ('12 MB', '3.2 GB')
    """
    return f"{count / GIGABYTE:.1f} GB" if count >= GIGABYTE else f"{count / MEGABYTE:.0f} MB"
