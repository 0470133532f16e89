"""One training step, compiled once for all shapes: loss, gradients, clipping, optimizer, moving average."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.models.base import TextModel
from seq2seq.models.build import build_model
from seq2seq.text.batching import Batch
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.threads import count_cores, set_op_threads
from seq2seq.training.optimizers import MIN_LOSS_SCALE, LossScale, choose_precision, create_optimizer, decayed_variables

MAX_AUTOMATIC_WORKERS = 4
"""With more parts, each has too few rows to be worth reading all weights."""


def choose_workers(asked: int) -> int:
    """Return the number of parts of a batch, and give operations their share of the cores; call before TensorFlow runs.

    Args:
        asked: `training.workers`; 0: one part a core, up to `MAX_AUTOMATIC_WORKERS`, and one on a GPU. Where TensorFlow
            runs already and its operations use all cores, that is one part too.

    >>> choose_workers(3)
    3
    """
    if not asked and tf.config.list_physical_devices("GPU"):
        return 1
    cores = count_cores()
    workers = asked or min(cores, MAX_AUTOMATIC_WORKERS)
    return workers if set_op_threads(max(1, cores // workers)) else asked or 1


def cut_rows(tensors: Sequence[Any], parts: int) -> list[list[Any]]:
    """Deal out the rows of each `(batch, ...)` tensor to equal parts, filled up with rows of zeros, which are padding.

    >>> [[part.numpy().tolist() for part in parts] for parts in cut_rows([tf.constant([[5, 3], [7, 3], [9, 3]])], 2)]
    [[[[5, 3], [9, 3]]], [[[7, 3], [0, 0]]]]
    """
    if parts == 1:
        return [list(tensors)]
    missing = -tf.shape(tensors[0])[0] % parts
    filled = [tf.pad(tensor, [[0, missing], *[[0, 0]] * (tensor.shape.rank - 1)]) for tensor in tensors]
    return [[tensor[first::parts] for tensor in filled] for first in range(parts)]


class StepResult(NamedTuple):
    """Summed loss and number of target tokens of a step, gradient norm before clipping, and loss scale of the step."""

    loss: Any
    tokens: Any
    gradient_norm: Any
    loss_scale: Any = 1.0

    @property
    def is_finite(self) -> bool:
        """Return whether the step changed the weights: it does not where loss or gradient is no finite number."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)

    @property
    def has_overflowed(self) -> bool:
        """Return whether the loss scale, which was then halved, may be the only cause of the infinite gradient."""
        return math.isfinite(self.loss) and not math.isfinite(self.gradient_norm) and self.loss_scale > MIN_LOSS_SCALE


class TrainingStep:
    """Model, optimizer and moving average, and the step that updates them.

    The loss is the mean over the target tokens of all batches of a step: the gradients of several batches are weighted
    by their target tokens, so a step is the same however its rows are cut into batches. Clipping, optimizer and moving
    average run once a step. A loss or gradient that is not finite changes nothing.

    The moving average lives in the weights of a second model, `averaged`, which is evaluated and saved: nothing is ever
    swapped, and the file is float32 whatever the precision of training. In float16 the loss is scaled by `loss_scale`.

    Args:
        model: the model to train.
        averaged: the same model in float32.
        optimizer: a Keras optimizer; its learning rate is set at every step.
        clip_norm: largest norm of all gradients together; 0: no clipping.
        ema: decay of the moving average; 0: `averaged` gets the weights at `synchronise`.
        l2: weight of the squared weights, without biases and embeddings, in the loss whose gradient is followed.
        workers: parts of each batch that are computed at the same time.
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
        ids, number = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.float32)
        self._accumulate = tf.function(
            self._add_batch, input_signature=[ids, ids, tf.TensorSpec([], tf.bool)], autograph=False
        )
        self._finish = {
            has_sums: tf.function(
                functools.partial(self._step, has_sums), input_signature=[ids, ids, number, number], autograph=False
            )
            for has_sums in (False, True)
        }
        self._sums: list[tf.Variable] = []

    def __call__(self, batches: Sequence[Batch], learning_rate: float) -> StepResult:
        """Update the weights once on all batches together."""
        updates = float(self.optimizer.iterations.numpy())
        # A young average follows faster: it would otherwise be mostly the random start.
        decay = min(self.ema, (1 + updates) / (10 + updates))
        *others, last = batches
        if others and not self._sums:
            shapes = [variable.shape for variable in self.model.trainable_variables]
            # Of gradients, loss and tokens. Where steps have one batch there is no memory to spare for them.
            self._sums = [tf.Variable(tf.zeros(shape), trainable=False) for shape in (*shapes, (), ())]
        for number, batch in enumerate(others):
            self._accumulate(batch.source_ids, batch.target_ids, tf.constant(number > 0))
        rates = tf.constant(learning_rate, tf.float32), tf.constant(decay, tf.float32)
        return StepResult(*self._finish[bool(others)](last.source_ids, last.target_ids, *rates))

    def trace(self) -> tf.Graph:
        """Return the graph of a step on one batch."""
        return self._finish[False].get_concrete_function().graph

    def synchronise(self, force: bool = False) -> None:
        """Copy the weights to `averaged` where there is no moving average."""
        if force or self.ema == 0:
            for follower, variable in zip(
                self.averaged.trainable_variables, self.model.trainable_variables, strict=True
            ):
                follower.assign(variable)

    def _step(self, has_sums: bool, source_ids: Any, target_ids: Any, learning_rate: Any, decay: Any) -> Any:
        gradients, loss, tokens = self._gradients(source_ids, target_ids)
        if has_sums:
            gradients, loss, tokens = self._with_sums(gradients, loss, tokens)
        return self._update(gradients, loss, tokens, learning_rate, decay)

    def _add_batch(self, source_ids: Any, target_ids: Any, is_more: Any) -> None:
        self._add_to_sums(*self._gradients(source_ids, target_ids), is_more)

    def _gradients(self, source_ids: Any, target_ids: Any) -> tuple[list[Any], Any, Any]:
        """Return the gradients of the loss a token, the summed loss, and the number of tokens."""
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
        """Change everything or, where loss or gradient norm is not finite, nothing."""
        if self.l2:
            gradients = self._with_l2(gradients)
        # Outside of XLA, which adds up with one core only.
        norm = tf.linalg.global_norm(gradients)
        is_finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)

        def change() -> Any:
            self._change(gradients, norm, learning_rate, decay)
            return is_finite

        # A branch that is not taken needs no copy of the weights; choosing number by number would.
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
        """Clip, update the weights and the moving average, fused by XLA."""
        variables = self.model.trainable_variables
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.ema:
            for follower, variable in zip(self.averaged.trainable_variables, variables, strict=True):
                follower.assign_add((1 - decay) * (variable - follower))


def create_step(config: Config, tokenizer: Tokenizer, workers: int = 1) -> TrainingStep:
    """Build the model of a run, its moving average and its optimizer."""
    settings = config.training
    keras.utils.set_random_seed(config.run.seed)
    model = build_model(config, tokenizer, dtype=choose_precision(settings.precision).policy)
    return TrainingStep(
        model=model,
        averaged=build_model(config, tokenizer),
        optimizer=create_optimizer(settings, model),
        clip_norm=settings.clip_norm,
        ema=settings.ema,
        l2=settings.l2,
        workers=workers,
    )
