"""The model of a recipe as straightforward Keras: what our training speed is compared with."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.config.base import must_be
from seq2seq.config.sections import Config
from seq2seq.text.ids import PAD_ID, START_ID

LAYERS = {
    "rnn": (keras.layers.SimpleRNN, {}),
    "lstm": (keras.layers.LSTM, {}),
    "gru": (keras.layers.GRU, {"reset_after": True}),
    "gru_reset_before": (keras.layers.GRU, {"reset_after": False}),
}
SCORES = ("dot", "general")


def check_plain_keras(config: Config) -> None:
    """Refuses recipes that Keras has no layers for.

    Raises:
        ConfigError: A setting has a value that only our own layers know.
    """
    model, reason = config.model, "Leave out --against keras."
    for part in (model.encoder, model.decoder):
        if part.cell not in LAYERS:
            raise must_be(part.key("cell"), f"one of {', '.join(LAYERS)} to compare with Keras", part.cell, reason)
    if model.encoder.reduction > 1:
        name = "front_end" if model.encoder.front_end != "none" else "subsample"
        expected = "none" if name == "front_end" else "1"
        value = getattr(model.encoder, name)
        raise must_be(model.encoder.key(name), f"{expected} to compare with Keras", value, reason)
    if model.context != "attention":
        raise must_be(model.key("context"), "attention to compare with Keras", model.context, reason)
    if model.attention.score not in SCORES:
        expected = f"one of {', '.join(SCORES)} to compare with Keras"
        raise must_be(model.attention.key("score"), expected, model.attention.score, reason)
    if model.attention.coverage:
        raise must_be(model.attention.key("coverage"), "false to compare with Keras", True, reason)
    if model.copy != "none":
        raise must_be(model.key("copy"), "none to compare with Keras", model.copy, reason)
    if config.model.coverage_loss:
        key = config.model.key("coverage_loss")
        raise must_be(key, "0 to compare with Keras", config.model.coverage_loss, reason)
    if "input" in model.context_inputs:
        raise must_be(
            model.key("context_inputs"), "without input to compare with Keras", list(model.context_inputs), reason
        )
    if model.decoder.input_feeding:
        raise must_be(model.decoder.key("input_feeding"), "false to compare with Keras", True, reason)


def plain_keras_model(
    config: Config, source_vocabulary_size: int, target_vocabulary_size: int, dtype: str
) -> keras.Model:
    """The recipe's model from Keras' own layers, with the same weights; only a tied output has no bias in Keras.

    Args:
        config: The run; `check_plain_keras` tells which are possible.
        source_vocabulary_size: Number of source tokens.
        target_vocabulary_size: Number of target tokens.
        dtype: Keras dtype policy.

    Returns:
        A functional model from `[source_ids, written_ids]`, both `(batch, steps)`, to logits
        `(batch, target_steps, vocabulary)`; `written_ids` are the targets shifted right by a start token.
    """
    settings, encoder, decoder = config.model, config.model.encoder, config.model.decoder
    policy: dict[str, Any] = {"dtype": dtype}

    def recurrent(cell: str, units: int, name: str) -> keras.Layer:
        layer, options = LAYERS[cell]
        return layer(units, return_sequences=True, name=name, **options, **policy)

    def dense(units: int, name: str, activation: str | None = None, use_bias: bool = True) -> keras.Layer:
        return keras.layers.Dense(units, activation, use_bias, name=name, **policy)

    def dropped(sequence: Any, share: float) -> Any:
        return keras.layers.SpatialDropout1D(share, **policy)(sequence) if share else sequence

    def joined(*sequences: Any) -> Any:
        return keras.layers.Concatenate(**policy)(list(sequences))

    source_ids = keras.Input((None,), dtype="int32", name="source_ids")
    written_ids = keras.Input((None,), dtype="int32", name="written_ids")
    mask = ops.not_equal(source_ids, PAD_ID)
    embedding = keras.layers.ReversibleEmbedding(
        target_vocabulary_size, settings.embedding_size, name="embedding", **policy
    )
    source_embedding = embedding
    if settings.tie_embeddings not in ("source_target", "all"):
        source_embedding = keras.layers.Embedding(
            source_vocabulary_size, settings.embedding_size, name="source_embedding", **policy
        )

    memory = dropped(source_embedding(source_ids), settings.embedding_dropout)
    for index in range(encoder.num_layers):
        inputs = dropped(memory, settings.dropout)
        layer = recurrent(encoder.cell, encoder.units, f"encoder_{index}")
        if encoder.bidirectional:
            layer = keras.layers.Bidirectional(layer, name=f"both_ways_{index}", **policy)
        memory = layer(inputs, mask=mask)
        if encoder.residual and index > 0:
            memory = memory + inputs
    memory = dropped(memory, settings.context_dropout)
    summary = keras.layers.GlobalAveragePooling1D(**policy)(memory, mask=mask)
    keys = memory
    if settings.attention.score == "general":
        keys = dense(decoder.units, "keys", use_bias=False)(memory)

    def attended(query: Any) -> Any:
        return keras.layers.Attention(**policy)([query, memory, keys], mask=[None, mask])

    outputs, context = dropped(embedding(written_ids), settings.embedding_dropout), None
    for index in range(decoder.num_layers):
        inputs = outputs
        if index == 1 and decoder.attention_position == "between":
            context = attended(outputs)
            inputs = joined(outputs, context)
        states = None
        if "state" in settings.context_inputs:
            count = 2 if decoder.cell == "lstm" else 1
            states = [dense(decoder.units, f"bridge_{index}_{part}", "tanh")(summary) for part in range(count)]
        new_outputs = recurrent(decoder.cell, decoder.units, f"decoder_{index}")(inputs, initial_state=states)
        outputs = new_outputs + outputs if decoder.residual and index > 0 else new_outputs
        outputs = dropped(outputs, settings.dropout)
    if "readout" in settings.context_inputs:
        outputs = joined(outputs, attended(outputs) if context is None else context)
    features = dense(settings.readout_size or settings.embedding_size, "readout", "tanh")(outputs)
    if settings.readout_dropout:
        features = keras.layers.Dropout(settings.readout_dropout, **policy)(features)
    if settings.tie_embeddings in ("output", "all"):
        logits = embedding(features, reverse=True)
    else:
        logits = dense(target_vocabulary_size, "output")(features)
    return keras.Model([source_ids, written_ids], logits)


class PlainKerasResult(NamedTuple):
    """What a step gives: the loss a token."""

    loss: Any


class PlainKeras:
    """Straightforward training of that model: dense logits, Keras' loss, Adam, one compiled step.

    What a recipe adds beyond that (word dropout, weight decay, L2) is left out: it would cost Keras time.

    The smoothed loss is written in its cheapest form, `CE + smoothing * (logit of the label - mean logit)`, so that the
    comparison is with good Keras code.

    Args:
        config: The run.
        source_vocabulary_size: Number of source tokens.
        target_vocabulary_size: Number of target tokens.
        dtype: Keras dtype policy.

    Raises:
        ConfigError: The recipe cannot be said in Keras' layers.
    """

    def __init__(self, config: Config, source_vocabulary_size: int, target_vocabulary_size: int, dtype: str) -> None:
        check_plain_keras(config)
        settings = config.training
        self.label_smoothing = config.model.label_smoothing
        self.model = plain_keras_model(config, source_vocabulary_size, target_vocabulary_size, dtype)
        averaging = {"use_ema": True, "ema_momentum": settings.ema} if settings.ema else {}
        self.optimizer = keras.optimizers.Adam(
            global_clipnorm=settings.clip_norm or None,
            gradient_accumulation_steps=settings.accumulate if settings.accumulate > 1 else None,
            **averaging,
        )
        self.optimizer.build(self.model.trainable_variables)
        ids = tf.TensorSpec([None, None], tf.int32)
        self._run = tf.function(self._step, input_signature=[ids, ids, tf.TensorSpec([])], autograph=False)

    def __call__(
        self, source_ids: Any, target_ids: Any, learning_rate: float, parts_before: Sequence[tuple[Any, Any]] = ()
    ) -> PlainKerasResult:
        """Trains on one batch of padded ids, after the other parts of it where it is cut into several.

        Args:
            source_ids: `(batch, source_steps)`.
            target_ids: `(batch, target_steps)`.
            learning_rate: Of this step.
            parts_before: Source and target ids of the other parts.

        Returns:
            The last part's loss a token.
        """
        rate = tf.constant(learning_rate, tf.float32)
        for part in parts_before:
            self._run(*part, rate)
        return PlainKerasResult(self._run(source_ids, target_ids, rate))

    def loss(self, source_ids: Any, target_ids: Any, training: bool) -> Any:
        """Mean smoothed cross entropy of the target tokens."""
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


class PlainKerasProcess:
    """A `PlainKeras` to be called as one, whose steps run elsewhere; `close` ends it.

    Args:
        config: The run.
        source_vocabulary_size: Number of source tokens.
        target_vocabulary_size: Number of target tokens.
        dtype: Keras dtype policy.
    """

    def __init__(self, config: Config, source_vocabulary_size: int, target_vocabulary_size: int, dtype: str) -> None:
        # A copy of this process would have its threads, too.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, config, source_vocabulary_size, target_vocabulary_size, dtype)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __call__(
        self, source_ids: Any, target_ids: Any, learning_rate: float, parts_before: Sequence[tuple[Any, Any]] = ()
    ) -> PlainKerasResult:
        """As a `PlainKeras`.

        Raises:
            EOFError: The process has ended before; what it said stands on standard error.
        """
        self._connection.send((source_ids, target_ids, learning_rate, parts_before))
        return PlainKerasResult(self._connection.recv())

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, *arguments: Any) -> None:
    step = PlainKeras(*arguments)
    while True:
        try:
            batch = connection.recv()
        except EOFError:
            return
        connection.send(float(step(*batch).loss))
