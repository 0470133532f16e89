"""One training step, compiled once for all shapes: loss, gradients, clipping, optimizer, moving average."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.models.base import TextModel
from seq2seq.threads import count_cores, set_op_threads
from seq2seq.training.optimizers import LOWEST, LossScale, decayed_variables

MOST_WORKERS = 4
"""More parts have too few rows each to be worth the weights that every one of them reads."""


def choose_workers(asked: int) -> int:
    """What `training.workers` means on this machine; to be asked before TensorFlow begins to run.

    Operations are given their share of the cores. Where TensorFlow runs already and gives them all, batches stay whole
    unless a number is asked for.

    Args:
        asked: Number of parts; 0: one for each core, but no more than `MOST_WORKERS`, and one where there is a GPU,
            which is itself many cores.

    >>> choose_workers(3)
    3
    """
    if not asked and tf.config.list_physical_devices("GPU"):
        return 1
    workers = asked or min(count_cores(), MOST_WORKERS)
    if workers > 1 and not set_op_threads(max(1, count_cores() // workers)):
        return asked or 1
    return workers


def cut_rows(tensors: Sequence[Any], parts: int) -> list[list[Any]]:
    """The rows of each tensor dealt out to parts, as many to each: one that lacks a row has zeros, which are padding.

    Args:
        tensors: `(batch, ...)` each.
        parts: How many.

    Returns:
        For each part its rows of every tensor.

    >>> [[part.numpy().tolist() for part in parts] for parts in cut_rows([tf.constant([[5, 3], [7, 3], [9, 3]])], 2)]
    [[[[5, 3], [9, 3]]], [[[7, 3], [0, 0]]]]
    """
    if parts == 1:
        return [list(tensors)]
    missing = -tf.shape(tensors[0])[0] % parts
    filled = [tf.pad(tensor, [[0, missing], *[[0, 0]] * (tensor.shape.rank - 1)]) for tensor in tensors]
    return [[tensor[first::parts] for tensor in filled] for first in range(parts)]


class StepResult(NamedTuple):
    """Summed loss and number of target tokens of a step, the norm of the gradients before clipping, and the factor that
    the loss was scaled by while they were computed."""

    loss: Any
    tokens: Any
    gradient_norm: Any
    loss_scale: Any = 1.0

    @property
    def is_finite(self) -> bool:
        """Whether the step changed anything: where its loss or gradient is infinite or no number, it does not."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)

    @property
    def has_overflowed(self) -> bool:
        """Whether the scale of the loss, which was halved then, may be all that made the gradient infinite."""
        return math.isfinite(self.loss) and not math.isfinite(self.gradient_norm) and self.loss_scale > LOWEST


class TrainingStep:
    """The state that a step changes, and the step.

    The loss is the mean over the target tokens of the batch, so that padding counts for nothing. The moving average
    lives in the weights of a second model, `averaged`, which is what gets evaluated and saved: nothing is ever swapped,
    and the file is float32 whatever the precision of training.

    A batch too large for the memory can be given in parts. Their gradients are weighted by their target tokens, so that
    the step is that of the whole batch, however it is cut; clipping, optimizer and moving average run once.

    A loss or gradient that is infinite or no number changes neither weights nor optimizer nor moving average.

    Where the model computes in float16 the gradients are those of a scaled loss, `loss_scale`; elsewhere that is None.

    Args:
        model: What is trained.
        averaged: The same model in float32, whose weights follow.
        optimizer: A Keras optimizer; its learning rate is set at every step.
        clip_norm: Largest norm of all gradients together; 0: never clipped.
        ema: Decay of the moving average; 0: `averaged` follows at once, at `synchronise`.
        l2: What the squares of the weights, biases and embeddings left out, count for in the loss that is followed; the
            one that is told is without them.
        workers: In how many parts the rows of a batch are computed, at the same time.
    """

    def __init__(
        self,
        model: TextModel,
        averaged: TextModel,
        optimizer: keras.Optimizer,
        clip_norm: float,
        ema: float,
        l2: float = 0.0,
        workers: int = 1,
    ) -> None:
        self.model = model
        self.averaged = averaged
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.ema = ema
        self.l2 = l2
        self.workers = workers
        self.loss_scale = LossScale() if model.compute_dtype == "float16" else None
        optimizer.build(model.trainable_variables)
        self.synchronise(force=True)
        ids = tf.TensorSpec([None, None], tf.int32)
        number = tf.TensorSpec([], tf.float32)
        signature = [ids, ids, number, number]
        self._run = tf.function(self._step, input_signature=signature, autograph=False)
        self._run_last_part = tf.function(self._step_on_last_part, input_signature=signature, autograph=False)
        part_signature = [ids, ids, tf.TensorSpec([], tf.bool)]
        self._run_part = tf.function(self._step_on_part, input_signature=part_signature, autograph=False)
        self._sums: list[tf.Variable] = []

    def __call__(
        self, source_ids: Any, target_ids: Any, learning_rate: float, parts_before: Sequence[tuple[Any, Any]] = ()
    ) -> StepResult:
        """Updates the weights on one batch of padded ids.

        Args:
            source_ids: `(batch, source_steps)`.
            target_ids: `(batch, target_steps)`.
            learning_rate: Of this step.
            parts_before: Source and target ids of the other parts of the batch, where it is cut into several.
        """
        updates = float(self.optimizer.iterations.numpy())
        # A young average follows faster: it would otherwise be mostly the random start.
        decay = min(self.ema, (1 + updates) / (10 + updates))
        if parts_before and not self._sums:
            shapes = [variable.shape for variable in self.model.trainable_variables]
            # Of the gradients, the loss and the tokens; where nothing is cut there is no memory to spare for them.
            self._sums = [tf.Variable(tf.zeros(shape), trainable=False) for shape in (*shapes, (), ())]
        for number, part in enumerate(parts_before):
            self._run_part(*part, tf.constant(number > 0))
        run = self._run_last_part if parts_before else self._run
        rates = tf.constant(learning_rate, tf.float32), tf.constant(decay, tf.float32)
        return StepResult(*run(source_ids, target_ids, *rates))

    def trace(self) -> tf.Graph:
        """The step's graph, for whoever wants to see what will run."""
        return self._run.get_concrete_function().graph

    def synchronise(self, force: bool = False) -> None:
        """Copies the weights to `averaged` where there is no moving average."""
        if force or self.ema == 0:
            for follower, variable in zip(
                self.averaged.trainable_variables, self.model.trainable_variables, strict=True
            ):
                follower.assign(variable)

    def _step(self, source_ids: Any, target_ids: Any, learning_rate: Any, decay: Any) -> tuple[Any, ...]:
        return self._update(*self._gradients(source_ids, target_ids), learning_rate, decay)

    def _step_on_last_part(self, source_ids: Any, target_ids: Any, learning_rate: Any, decay: Any) -> tuple[Any, ...]:
        gradients, loss, tokens = self._with_sums(*self._gradients(source_ids, target_ids))
        return self._update(gradients, loss, tokens, learning_rate, decay)

    def _step_on_part(self, source_ids: Any, target_ids: Any, is_more: Any) -> None:
        self._add_to_sums(*self._gradients(source_ids, target_ids), is_more)

    def _gradients(self, source_ids: Any, target_ids: Any) -> tuple[list[Any], Any, Any]:
        """The gradients of the loss a token, the summed loss, and the tokens."""
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            parts = [
                self.model.loss_and_tokens({"source_ids": sources, "target_ids": targets}, training=True)
                for sources, targets in cut_rows([source_ids, target_ids], self.workers)
            ]
            loss, tokens = map(tf.add_n, zip(*parts, strict=True))
            mean = loss / tokens
            if self.loss_scale:
                mean *= self.loss_scale.value
        gradients = tape.gradient(mean, [variable.value for variable in variables])
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.loss_scale:
            gradients = [gradient / self.loss_scale.value for gradient in gradients]
        return gradients, loss, tokens

    @tf.function(jit_compile=True, autograph=False)
    def _add_to_sums(self, gradients: list[Any], loss: Any, tokens: Any, is_more: Any) -> None:
        values = [*(tokens * gradient for gradient in gradients), loss, tokens]
        for total, value in zip(self._sums, values, strict=True):
            total.assign(value + tf.where(is_more, total, 0.0))

    @tf.function(jit_compile=True, autograph=False)
    def _with_sums(self, gradients: list[Any], loss: Any, tokens: Any) -> tuple[list[Any], Any, Any]:
        *sums, other_loss, other_tokens = self._sums
        all_tokens = tokens + other_tokens
        gradients = [(total + tokens * gradient) / all_tokens for total, gradient in zip(sums, gradients, strict=True)]
        return gradients, loss + other_loss, all_tokens

    def _update(self, gradients: list[Any], loss: Any, tokens: Any, learning_rate: Any, decay: Any) -> tuple[Any, ...]:
        """Changes everything or, where the loss or the norm of the gradients is not finite, nothing."""
        if self.l2:
            gradients = self._with_l2(gradients)
        # Outside of XLA, which adds up with one core only.
        norm = tf.linalg.global_norm(gradients)
        is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)

        def change() -> Any:
            self._change(gradients, norm, learning_rate, decay)
            return is_finite

        # A branch leaves all as it is without a copy of it; choosing number by number would need one.
        tf.cond(is_finite, change, lambda: is_finite)
        if not self.loss_scale:
            return loss, tokens, norm
        loss_scale = tf.identity(self.loss_scale.value)
        self.loss_scale.adapt(tf.math.is_finite(loss), tf.math.is_finite(norm))
        return loss, tokens, norm, loss_scale

    @tf.function(jit_compile=True, autograph=False)
    def _with_l2(self, gradients: list[Any]) -> list[Any]:
        squared = {id(variable) for variable in decayed_variables(self.model)}
        return [
            gradient + 2 * self.l2 * variable if id(variable) in squared else gradient
            for gradient, variable in zip(gradients, self.model.trainable_variables, strict=True)
        ]

    @tf.function(jit_compile=True, autograph=False)
    def _change(self, gradients: list[Any], norm: Any, learning_rate: Any, decay: Any) -> None:
        """Clipping, optimizer and moving average, fused by XLA."""
        variables = self.model.trainable_variables
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.ema:
            for follower, variable in zip(self.averaged.trainable_variables, variables, strict=True):
                follower.assign_add((1 - decay) * (variable - follower))
