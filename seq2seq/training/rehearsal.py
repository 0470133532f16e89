"""A few steps of a run before it begins: how long they take, how much memory, and whether the loss is a number."""

import contextlib
import dataclasses
import itertools
import statistics
import time

from seq2seq.text import Batch
from seq2seq.training.loop import Trainer
from seq2seq.training.memory import peak_memory

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


def rehearse(trainer: Trainer, largest: int) -> Rehearsal:
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
