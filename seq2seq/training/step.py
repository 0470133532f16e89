"""One training step, compiled once for all shapes: loss, gradients, clipping, optimizer, moving average."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from seq2seq.model import Seq2Seq


class StepResult(NamedTuple):
    """Summed loss and number of target tokens of a step, and the norm of the gradients before clipping."""

    loss: Any
    tokens: Any
    gradient_norm: Any


class TrainingStep:
    """The state that a step changes, and the step.

    The loss is the mean over the target tokens of the batch, so that padding counts for nothing. The moving average
    lives in the weights of a second model, `averaged`, which is what gets evaluated and saved: nothing is ever swapped,
    and the file is float32 whatever the precision of training.

    Args:
        model: What is trained.
        averaged: The same model in float32, whose weights follow.
        optimizer: A Keras optimizer; its learning rate is set at every step.
        clip_norm: Largest norm of all gradients together; 0: never clipped.
        ema: Decay of the moving average; 0: `averaged` follows at once, at `synchronise`.
    """

    def __init__(
        self, model: Seq2Seq, averaged: Seq2Seq, optimizer: keras.Optimizer, clip_norm: float, ema: float
    ) -> None:
        self.model = model
        self.averaged = averaged
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.ema = ema
        optimizer.build(model.trainable_variables)
        self.synchronise(force=True)
        ids = tf.TensorSpec([None, None], tf.int32)
        rate = tf.TensorSpec([], tf.float32)
        self._run = tf.function(self._step, input_signature=[ids, ids, rate, rate], autograph=False)

    def __call__(self, source_ids: Any, target_ids: Any, learning_rate: float) -> StepResult:
        """Updates the weights on one batch of padded ids."""
        updates = float(self.optimizer.iterations.numpy())
        # A young average follows faster: it would otherwise be mostly the random start.
        decay = min(self.ema, (1 + updates) / (10 + updates))
        return self._run(source_ids, target_ids, tf.constant(learning_rate, tf.float32), tf.constant(decay, tf.float32))

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

    def _step(self, source_ids: Any, target_ids: Any, learning_rate: Any, decay: Any) -> StepResult:
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            inputs = {"source_ids": source_ids, "target_ids": target_ids}
            loss, tokens = self.model.loss_and_tokens(inputs, training=True)
            mean = loss / tokens
        gradients = tape.gradient(mean, [variable.value for variable in variables])
        norm = self._update([tf.convert_to_tensor(gradient) for gradient in gradients], learning_rate, decay)
        return StepResult(loss, tokens, norm)

    @tf.function(jit_compile=True, autograph=False)
    def _update(self, gradients: list[Any], learning_rate: Any, decay: Any) -> Any:
        """Clipping, optimizer and moving average, fused by XLA, so that each weight is passed over once."""
        variables = self.model.trainable_variables
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm, use_norm=norm)
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.ema:
            for follower, variable in zip(self.averaged.trainable_variables, variables, strict=True):
                follower.assign_add((1 - decay) * (variable - follower))
        return norm
