"""The rule that moves the weights, and which of them it may draw towards zero."""

import math
import pathlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.config.sections import TrainingConfig
from seq2seq.models.base import TextModel


def create_optimizer(settings: TrainingConfig, model: TextModel) -> keras.Optimizer:
    """The optimizer of a recipe for a model, whose biases and embeddings it never decays.

    Args:
        settings: The recipe's section `training`.
        model: What will be trained.
    """
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(settings.learning_rate)
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    decayed = {id(variable) for variable in decayed_variables(model)}
    optimizer.exclude_from_weight_decay([kept for kept in model.trainable_variables if id(kept) not in decayed])
    return optimizer


def decayed_variables(model: TextModel) -> list[Any]:
    """The trainable weights that weight decay and `training.l2` draw towards zero: all but biases and embeddings.

    A bias multiplies nothing, and the embedding of a rare word would fade between the few steps that meet it. An output
    matrix that is tied to the embeddings is left alone with them.
    """
    return [
        variable
        for variable in model.trainable_variables
        if variable.name != "embeddings" and not variable.name.endswith("bias")
    ]


START, LOWEST = 2.0**15, 1.0
GOOD_STEPS = 2_000
"""Updates in a row after which a larger scale is tried."""


class LossScale:
    """Keeps gradients inside the narrow range of float16, whose smallest number is 6e-8 and whose largest is 65,504.

    The loss is multiplied by `value` and its gradients, in float32, are divided by it. An infinite gradient halves it,
    2,000 updates in a row double it: it stays about as large as the gradients of the run allow (Micikevicius et al.
    2018, arXiv 1710.03740, section 3.2). Always a power of two, so that multiplying and dividing round nothing.

    >>> scale = LossScale()
    >>> scale.adapt(tf.constant(True), is_finite_gradient=tf.constant(False))
    >>> float(scale.value)
    16384.0
    """

    def __init__(self) -> None:
        self.value = tf.Variable(START, trainable=False)
        self._good_steps = tf.Variable(0.0, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """What a state must hold."""
        return [self.value, self._good_steps]

    def adapt(self, is_finite_loss: Any, is_finite_gradient: Any) -> None:
        """Halves the scale after an overflow, doubles it after many updates without one.

        Args:
            is_finite_loss: Whether the loss of the step was a finite number. Where it was not, the scale is not to
                blame, and stays.
            is_finite_gradient: Whether its gradients were.
        """
        overflowed = is_finite_loss & ~is_finite_gradient
        updates = tf.cast(is_finite_loss & is_finite_gradient, tf.float32)
        good_steps = tf.where(overflowed, 0.0, self._good_steps + updates)
        is_time = good_steps >= GOOD_STEPS
        self._good_steps.assign(tf.where(is_time, 0.0, good_steps))
        halved = tf.maximum(self.value / 2, LOWEST)
        self.value.assign(tf.where(overflowed, halved, tf.where(is_time, 2 * self.value, self.value)))


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


def learning_rate(
    step: int,
    *,
    schedule: str,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    final_share: float = 0.02,
    plateau_factor: float = 0.5,
    reductions: int = 0,
) -> float:
    """The learning rate of one step: up in a straight line to `peak`, then on as the schedule says.

        constant             peak
        cosine               from peak down to final_share * peak at total_steps, along half a cosine
        inverse_square_root  peak * sqrt(warmup_steps / step)
        plateau              peak * plateau_factor ** reductions

    Args:
        step: Number of the step, from 0.
        schedule: `constant`, `cosine`, `inverse_square_root` or `plateau`.
        peak: The highest rate.
        warmup_steps: Steps on the way up.
        total_steps: Steps of the whole run; a cosine ends there.
        final_share: What is left of `peak` at the end of a cosine.
        plateau_factor: What a plateau multiplies the rate by.
        reductions: Plateaus so far, see `is_plateau`.

    >>> [round(learning_rate(s, schedule="cosine", peak=1.0, warmup_steps=2, total_steps=10), 2) for s in (0, 1, 6, 10)]
    [0.5, 1.0, 0.51, 0.02]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    if schedule == "plateau":
        return peak * plateau_factor**reductions
    if schedule == "inverse_square_root":
        return peak * math.sqrt(max(warmup_steps, 1) / max(step, 1))
    share = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return peak * (final_share + (1 - final_share) * (1 + math.cos(math.pi * share)) / 2)


def is_plateau(evaluations_without_gain: int, patience: int) -> bool:
    """Whether an evaluation without gain is the one that lowers the rate: every `patience` of them in a row.

    >>> [is_plateau(evaluations, patience=2) for evaluations in range(5)]
    [False, False, True, False, True]
    """
    return evaluations_without_gain > 0 and evaluations_without_gain % patience == 0
