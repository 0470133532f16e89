"""Optimizer, learning rate, loss scale and precision of a run."""

import math
import pathlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.config.sections import TrainingConfig
from seq2seq.models.base import TextModel


def create_optimizer(settings: TrainingConfig, model: TextModel) -> keras.Optimizer:
    """Create the optimizer of a recipe, which never decays biases and embeddings."""
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(settings.learning_rate)
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    decayed = {id(variable) for variable in decayed_variables(model)}
    optimizer.exclude_from_weight_decay([kept for kept in model.trainable_variables if id(kept) not in decayed])
    return optimizer


def decayed_variables(model: TextModel) -> list[Any]:
    """Return the weights that weight decay and `training.l2` draw towards zero: all but biases and embeddings.

    The embedding of a rare word would fade between the few steps that use it. An output matrix that is tied to the
    embeddings is not decayed either.
    """
    return [
        variable
        for variable in model.trainable_variables
        if variable.name != "embeddings" and not variable.name.endswith("bias")
    ]


FINAL_SHARE = 0.02
"""Share of the peak learning rate that is left at the end of a cosine."""


def learning_rate(settings: TrainingConfig, step: int, total_steps: int, reductions: int = 0) -> float:
    """Return the learning rate of a step, from 0: a linear warm-up to the peak, then as the schedule says.

        constant             peak
        cosine               from peak to FINAL_SHARE * peak at total_steps, along half a cosine
        inverse_square_root  peak * sqrt(warmup_steps / step)
        plateau              peak * plateau_factor ** reductions

    >>> settings = TrainingConfig(schedule="cosine", learning_rate=1.0, warmup_steps=2)
    >>> [round(learning_rate(settings, step, total_steps=10), 2) for step in (0, 1, 6, 10)]
    [0.5, 1.0, 0.51, 0.02]
    """
    peak, warmup_steps = settings.learning_rate, settings.warmup_steps
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "plateau":
        return peak * settings.plateau_factor**reductions
    if settings.schedule == "inverse_square_root":
        return peak * math.sqrt(max(warmup_steps, 1) / max(step, 1))
    share = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * share)) / 2)


FIRST_LOSS_SCALE, MIN_LOSS_SCALE = 2.0**15, 1.0
UPDATES_PER_DOUBLING = 2_000


class LossScale:
    """Keep gradients within the range of float16, whose smallest number is 6e-8 and whose largest is 65,504.

    The loss is multiplied by `value` and its gradients, in float32, are divided by it. An infinite gradient halves the
    scale, 2,000 updates in a row double it: it stays about as large as the gradients allow (Micikevicius et al. 2018,
    arXiv 1710.03740, section 3.2). It is always a power of two, so that multiplying and dividing round nothing.

    >>> scale = LossScale()
    >>> scale.adapt(tf.constant(True), is_finite_gradient=tf.constant(False))
    >>> float(scale.value)
    16384.0
    """

    def __init__(self) -> None:
        self.value = tf.Variable(FIRST_LOSS_SCALE, trainable=False)
        self._good_steps = tf.Variable(0.0, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """Return the numbers that a checkpoint must hold."""
        return [self.value, self._good_steps]

    def adapt(self, is_finite_loss: Any, is_finite_gradient: Any) -> None:
        """Halve the scale after an overflow, double it after many updates, keep it where the loss is not finite."""
        overflowed = is_finite_loss & ~is_finite_gradient
        updates = tf.cast(is_finite_loss & is_finite_gradient, tf.float32)
        good_steps = tf.where(overflowed, 0.0, self._good_steps + updates)
        is_time = good_steps >= UPDATES_PER_DOUBLING
        self._good_steps.assign(tf.where(is_time, 0.0, good_steps))
        halved = tf.maximum(self.value / 2, MIN_LOSS_SCALE)
        self.value.assign(tf.where(overflowed, halved, tf.where(is_time, 2 * self.value, self.value)))


BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")
"""Names of a processor's bfloat16 instructions in Linux."""


class Precision(NamedTuple):
    """`float32`, `bfloat16` or `float16`, and the reason for it."""

    name: str
    reason: str

    @property
    def policy(self) -> str:
        """Return the Keras dtype policy; variables, losses and attention scores are float32 in any."""
        return self.name if self.name == "float32" else f"mixed_{self.name}"


def choose_precision(asked: str) -> Precision:
    """Return what `training.precision` means on this machine; `auto` is what the machine multiplies fastest.

    >>> choose_precision("bfloat16")
    Precision(name='bfloat16', reason='training.precision says so')
    """
    return fastest_precision() if asked == "auto" else Precision(asked, "training.precision says so")


def fastest_precision() -> Precision:
    """Return what the GPU, or without one the processor, multiplies fastest."""
    if gpus := tf.config.list_physical_devices("GPU"):
        return _precision_of_gpu(tf.config.experimental.get_device_details(gpus[0]).get("compute_capability"))
    processor = pathlib.Path("/proc/cpuinfo")
    if not processor.is_file():
        return Precision("float32", "nothing tells what the processor can do")
    flags = next((line for line in processor.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    known = [flag for flag in BFLOAT16_FLAGS if flag in flags.split()]
    if known:
        return Precision("bfloat16", f"the processor has {known[0]}")
    return Precision("float32", "the processor has no instructions for bfloat16")


def _precision_of_gpu(compute_capability: tuple[int, int] | None) -> Precision:
    if compute_capability is None:
        return Precision("float32", "nothing tells what the GPU can do")
    major, minor = compute_capability
    # The tensor cores of 7.0 multiply float16, those of 8.0 bfloat16 too.
    name = "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
    return Precision(name, f"the GPU has compute capability {major}.{minor}")
