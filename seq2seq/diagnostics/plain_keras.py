"""The model of a recipe as straightforward Keras, the rival that `seq2seq benchmark train --against keras` times."""

import contextlib
import multiprocessing
import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from seq2seq.config.sections import Config
from seq2seq.errors import ConfigError
from seq2seq.text.batching import Batch
from seq2seq.text.ids import PAD_ID, START_ID

LAYERS = {
    "rnn": (keras.layers.SimpleRNN, {}),
    "lstm": (keras.layers.LSTM, {}),
    "gru": (keras.layers.GRU, {"reset_after": True}),
    "gru_reset_before": (keras.layers.GRU, {"reset_after": False}),
}
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "model.encoder.cell": tuple(LAYERS),
    "model.decoder.cell": tuple(LAYERS),
    "model.encoder.front_end": ("none",),
    "model.encoder.subsample": (1,),
    "model.context": ("attention",),
    "model.attention.score": ("dot", "general"),
    "model.attention.coverage": (False,),
    "model.copy": ("none",),
    "model.coverage_loss": (0,),
    "model.decoder.input_feeding": (False,),
    "model.context_inputs": (("state",), ("readout",), ("state", "readout"), ("readout", "state")),
}
"""Values of settings that Keras has layers for."""


def check_plain_keras(config: Config) -> None:
    """Raise a ConfigError for a recipe that Keras has no layers for."""
    for key, values in SUPPORTED.items():
        value = operator.attrgetter(key)(config)
        if value not in values:
            allowed = " or ".join(map(str, values))
            raise ConfigError(
                f"{key} must be {allowed} to compare with Keras, got {value!r}. Leave out --against keras.", key
            )


class _Builder:
    """Build a recipe's model from Keras' own layers, with the same weights; only a tied output has no bias in Keras."""

    def __init__(self, config: Config, dtype: str) -> None:
        self._settings = config.model
        self._policy: dict[str, Any] = {"dtype": dtype}

    def model(self, source_vocabulary_size: int, target_vocabulary_size: int) -> keras.Model:
        """Map `[source_ids, written_ids]`, targets shifted right by a start token, to logits."""
        settings, size = self._settings, self._settings.embedding_size
        source_ids = keras.Input((None,), dtype="int32", name="source_ids")
        written_ids = keras.Input((None,), dtype="int32", name="written_ids")
        mask = ops.not_equal(source_ids, PAD_ID)
        embedding = keras.layers.ReversibleEmbedding(target_vocabulary_size, size, name="embedding", **self._policy)
        source_embedding = embedding
        if settings.tie_embeddings not in ("source_target", "all"):
            source_embedding = keras.layers.Embedding(
                source_vocabulary_size, size, name="source_embedding", **self._policy
            )
        memory = self._encoded(source_embedding(source_ids), mask)
        features = self._decoded(embedding(written_ids), memory, mask)
        if settings.tie_embeddings in ("output", "all"):
            logits = embedding(features, reverse=True)
        else:
            logits = self._dense(target_vocabulary_size, "output")(features)
        return keras.Model([source_ids, written_ids], logits)

    def _encoded(self, embedded: Any, mask: Any) -> Any:
        settings, encoder = self._settings, self._settings.encoder
        memory = self._dropped(embedded, settings.embedding_dropout)
        for index in range(encoder.num_layers):
            inputs = self._dropped(memory, settings.dropout)
            layer = self._recurrent(encoder.cell, encoder.units, f"encoder_{index}")
            if encoder.bidirectional:
                layer = keras.layers.Bidirectional(layer, name=f"both_ways_{index}", **self._policy)
            memory = layer(inputs, mask=mask)
            if encoder.residual and index > 0:
                memory = memory + inputs
        return self._dropped(memory, settings.context_dropout)

    def _decoded(self, embedded: Any, memory: Any, mask: Any) -> Any:
        settings, decoder = self._settings, self._settings.decoder
        summary = keras.layers.GlobalAveragePooling1D(**self._policy)(memory, mask=mask)
        keys = memory
        if settings.attention.score == "general":
            keys = self._dense(decoder.units, "keys", use_bias=False)(memory)

        def attended(query: Any) -> Any:
            return keras.layers.Attention(**self._policy)([query, memory, keys], mask=[None, mask])

        outputs, context = self._dropped(embedded, settings.embedding_dropout), None
        for index in range(decoder.num_layers):
            inputs = outputs
            if index == 1 and decoder.attention_position == "between":
                context = attended(outputs)
                inputs = self._joined(outputs, context)
            states = None
            if "state" in settings.context_inputs:
                parts = range(2 if decoder.cell == "lstm" else 1)
                states = [self._dense(decoder.units, f"bridge_{index}_{part}", "tanh")(summary) for part in parts]
            layer = self._recurrent(decoder.cell, decoder.units, f"decoder_{index}")
            new_outputs = layer(inputs, initial_state=states)
            outputs = new_outputs + outputs if decoder.residual and index > 0 else new_outputs
            outputs = self._dropped(outputs, settings.dropout)
        if "readout" in settings.context_inputs:
            outputs = self._joined(outputs, attended(outputs) if context is None else context)
        features = self._dense(settings.readout_size or settings.embedding_size, "readout", "tanh")(outputs)
        if settings.readout_dropout:
            features = keras.layers.Dropout(settings.readout_dropout, **self._policy)(features)
        return features

    def _recurrent(self, cell: str, units: int, name: str) -> keras.Layer:
        layer, options = LAYERS[cell]
        return layer(units, return_sequences=True, name=name, **options, **self._policy)

    def _dense(self, units: int, name: str, activation: str | None = None, use_bias: bool = True) -> keras.Layer:
        return keras.layers.Dense(units, activation, use_bias, name=name, **self._policy)

    def _dropped(self, sequence: Any, share: float) -> Any:
        return keras.layers.SpatialDropout1D(share, **self._policy)(sequence) if share else sequence

    def _joined(self, *sequences: Any) -> Any:
        return keras.layers.Concatenate(**self._policy)(list(sequences))


class PlainKeras:
    """Straightforward training of that model: dense logits, Keras' loss, Adam, one compiled step.

    Word dropout, weight decay and L2 are left out, since they would cost Keras time. The smoothed loss has its cheapest
    form, `CE + smoothing * (logit of the label - mean logit)`, so that the comparison is with good Keras code.
    """

    def __init__(self, config: Config, source_vocabulary_size: int, target_vocabulary_size: int, dtype: str) -> None:
        check_plain_keras(config)
        settings = config.training
        self.label_smoothing = config.model.label_smoothing
        self.model = _Builder(config, dtype).model(source_vocabulary_size, target_vocabulary_size)
        averaging = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
        self.optimizer = keras.optimizers.Adam(
            global_clipnorm=settings.clip_norm or None,
            gradient_accumulation_steps=settings.accumulate if settings.accumulate > 1 else None,
            **averaging,
        )
        self.optimizer.build(self.model.trainable_variables)
        ids = tf.TensorSpec([None, None], tf.int32)
        self._run = tf.function(self._step, input_signature=[ids, ids, tf.TensorSpec([])], autograph=False)

    def __call__(self, batches: Sequence[Batch], learning_rate: float) -> float:
        """Train on the batches of one step, and return the last one's loss per token."""
        rate = tf.constant(learning_rate, tf.float32)
        losses = [self._run(batch.source_ids, batch.target_ids, rate) for batch in batches]
        return float(losses[-1])

    def loss(self, source_ids: Any, target_ids: Any, training: bool) -> Any:
        """Compute the mean smoothed cross entropy of the target tokens."""
        written_ids = ops.concatenate([ops.full_like(target_ids[:, :1], START_ID), target_ids[:, :-1]], axis=1)
        logits = ops.cast(self.model([source_ids, written_ids], training=training), "float32")
        losses = keras.losses.sparse_categorical_crossentropy(target_ids, logits, from_logits=True)
        if self.label_smoothing:
            at_label = ops.squeeze(ops.take_along_axis(logits, target_ids[..., None], axis=-1), -1)
            losses += self.label_smoothing * (at_label - ops.mean(logits, axis=-1))
        weights = ops.cast(ops.not_equal(target_ids, PAD_ID), "float32")
        return ops.sum(losses * weights) / ops.sum(weights)

    def _step(self, source_ids: Any, target_ids: Any, learning_rate: Any) -> Any:
        variables = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.loss(source_ids, target_ids, training=True)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self.optimizer.learning_rate.assign(learning_rate)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss


@contextlib.contextmanager
def plain_keras_process(*arguments: Any) -> Iterator[Callable[[Sequence[Batch], float], float]]:
    """Run a `PlainKeras` of these arguments in a process of its own, where our threads do not slow it."""
    # A forked process would inherit threads, too.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _start, arguments) as pool:
        yield lambda batches, learning_rate: pool.submit(_take_step, batches, learning_rate).result()


_rivals: list[PlainKeras] = []


def _start(*arguments: Any) -> None:
    _rivals.append(PlainKeras(*arguments))


def _take_step(batches: Sequence[Batch], learning_rate: float) -> float:
    return _rivals[0](batches, learning_rate)
