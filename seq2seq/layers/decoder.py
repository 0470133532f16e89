"""The decoder: embeds what has been written, reads the context, and scores every next token.

`step` is the only recurrence: search and export call it. Where nothing of a step's result enters the next step but
the recurrent state, all steps of a known target run through each layer in one call, the way cuDNN wants it; that is
an optimisation of `step`, and both go through the same code.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.layers.context import AttentionContext, Context, PreparedContext
from seq2seq.layers.copying import COPY, Copies, Copying, mixture
from seq2seq.layers.dropout import SharedDropout, create_embedding
from seq2seq.layers.masking import ExplicitMaskLayer
from seq2seq.layers.recurrent import Recurrent
from seq2seq.layers.scan import scan


@keras.saving.register_keras_serializable(package="seq2seq")
class OutputProjection(keras.Layer):
    """logits = E tanh(W [s ; C] + b) + c, with an output matrix E of its own or that of the embedding.

    The hidden layer is the attentional vector of Luong et al. 2015. Sharing E with the embedding (Press and Wolf 2017,
    arXiv 1608.05859) saves the largest matrix of the model, and asks for a hidden layer as wide as the embedding.
    `features` and `logits` are apart, so that a loss can take the vocabulary in pieces.

    Args:
        vocabulary_size: Number of tokens.
        units: Size of the hidden layer.
        tied: Whether E is given to `logits` by the caller instead of being a weight of this layer.

    Call arguments:
        inputs: `(batch, steps, features)`.
        output_embeddings: E, `(vocabulary_size, units)`, when tied.

    Returns:
        Logits, `(batch, steps, vocabulary_size)`.

    >>> import numpy as np
    >>> OutputProjection(vocabulary_size=7, units=4)(np.ones((2, 3, 5), "float32")).shape.as_list()
    [2, 3, 7]
    """

    def __init__(self, vocabulary_size: int, units: int, tied: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.tied = tied

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.output_bias = self.add_weight(name="output_bias", shape=(self.vocabulary_size,), initializer="zeros")
        if not self.tied:
            self.output_embeddings = self.add_weight(name="output_embeddings", shape=(self.vocabulary_size, self.units))

    def features(self, inputs: Any) -> Any:
        """The hidden layer, `(batch, steps, units)`."""
        kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        return ops.tanh(ops.matmul(inputs, kernel) + bias)

    def logits(self, features: Any, output_embeddings: Any = None) -> Any:
        """Scores of all tokens for hidden vectors `(..., units)`."""
        embeddings = self.output_embeddings if output_embeddings is None else output_embeddings
        embeddings, bias = (ops.cast(weight, features.dtype) for weight in (embeddings, self.output_bias))
        return ops.matmul(features, ops.transpose(embeddings)) + bias

    def call(self, inputs: Any, output_embeddings: Any = None) -> Any:
        return self.logits(self.features(inputs), output_embeddings)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "tied": self.tied,
        }


FEEDS = ("state", "input", "readout")
ATTEND = ("after", "between")


class DecoderState(NamedTuple):
    """What one step hands to the next: the state of each layer, with input feeding the last readout vector, and with
    coverage the attention that source places have had, `(rows, source_steps)`."""

    layers: tuple[list[Any], ...]
    fed: tuple[Any, ...] = ()
    coverage: tuple[Any, ...] = ()


class DecoderOutput(NamedTuple):
    """Result of one step: logits `(rows, vocabulary_size)`, the next state, attention weights `(rows, source_steps)`,
    or None where the context has none, and where the decoder copies how it did, with one step. Its logits are
    log-probabilities then."""

    logits: Any
    state: DecoderState
    attention_weights: Any
    copies: Copies | None = None


class TeacherForcedOutputs(NamedTuple):
    """All steps of a known target: readout vectors `(batch, target_steps, readout_size)`, how the steps copy, or None,
    and attention weights `(batch, target_steps, source_steps)`, where there are any and they were asked for."""

    features: Any
    copies: Copies | None
    attention_weights: Any = None


@keras.saving.register_keras_serializable(package="seq2seq")
class Decoder(ExplicitMaskLayer):
    """Recurrent decoder over a context.

    Where C enters is any subset of `context_inputs`: `state` (the first state of each layer is tanh(W summary + b), the
    bridge), `input` (joined to the embedding at every step) and `readout` (joined to the output before the logits).
    With attention, the query is the output of the last layer (`attention_position="after"`, Luong et al. 2015) or of the first
    layer, and then the next layer reads [s_t ; c_t] (`attention_position="between"`); both keep all target steps in one kernel
    call. `input` with attention is the order of Bahdanau et al. 2015: the previous state of the last layer asks, and
    c_t enters the same step; that and `input_feeding` (the last readout vector joins the next input, Luong et al.
    2015) run step by step.

    Args:
        vocabulary_size: Number of target tokens.
        embedding_size: Size of a token's embedding.
        units: Size of the state of each layer.
        context: A context layer; None: `AttentionContext("dot")`.
        num_layers: Number of recurrent layers.
        cell: Name of the cell, one of `cells.CELLS`.
        context_inputs: Where C enters: any of `state`, `input`, `readout`.
        attention_position: `after` the last layer or `between` the first layer and the second.
        input_feeding: Whether the last readout vector joins the next input.
        residual: Whether each layer above the first adds its input to its output.
        readout_size: Size of the readout vector; None: `embedding_size`.
        tie_output: Whether the output matrix is the embedding matrix.
        embedding_dropout, dropout, readout_dropout: Shares dropped in training: of the embeddings and of each
            layer's outputs (the same units at every step), and of the readout vector.
        copy: What tokens are copied from the source by: `none`, `reuse` (the weights of the context's attention) or
            `separate` (an attention of its own); see `Copying`. Source and target then share one vocabulary.
        copy_window: Source tokens that a step of the memory stands for, for a decoder that copies.
        implementation, update_gate: As in `Recurrent`.

    Call arguments:
        token_ids: What has been written, `(batch, target_steps)`: the target shifted right by a start token.
        memory: `(batch, source_steps, memory_units)`.
        memory_mask: `(batch, source_steps)`, True keeps. None: all are valid.
        source_ids: Tokens of the source, `(batch, source_steps)`, for a decoder that copies.
        source_mask: Their mask, where a step of the memory stands for several of them; else it is that of the memory.

    Returns:
        Logits of the next token at every step, `(batch, target_steps, vocabulary_size)`; log-probabilities where the
        decoder copies.

    Raises:
        ValueError: Choices that are unknown or contradict each other.

    >>> import numpy as np
    >>> decoder = Decoder(vocabulary_size=9, embedding_size=4, units=8)
    >>> decoder(np.ones((2, 5), "int32"), memory=np.ones((2, 3, 8), "float32")).shape.as_list()
    [2, 5, 9]
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        units: int,
        context: Context | None = None,
        num_layers: int = 1,
        cell: str = "gru",
        context_inputs: tuple[str, ...] = ("state", "readout"),
        attention_position: str = "after",
        input_feeding: bool = False,
        residual: bool = False,
        readout_size: int | None = None,
        tie_output: bool = False,
        embedding_dropout: float = 0.0,
        dropout: float = 0.0,
        readout_dropout: float = 0.0,
        copy: str = "none",
        copy_window: int = 1,
        implementation: str = "auto",
        update_gate: str = "keep",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.units = units
        self.context = AttentionContext("dot", dtype=self.dtype_policy) if context is None else context
        self.num_layers = num_layers
        self.cell = cell
        self.context_inputs = tuple(context_inputs)
        self.attention_position = attention_position
        self.input_feeding = input_feeding
        self.residual = residual
        self.readout_size = readout_size or embedding_size
        self.tie_output = tie_output
        self.embedding_dropout = embedding_dropout
        self.dropout = dropout
        self.readout_dropout = readout_dropout
        self.copy = copy
        self.copy_window = copy_window
        self.implementation = implementation
        self.update_gate = update_gate
        self._check_choices()
        policy = {"dtype": self.dtype_policy}
        self.embedding = create_embedding(vocabulary_size, embedding_size, "embedding", self.variable_dtype)
        self.embedding_dropout_layer = SharedDropout(embedding_dropout, name="embedding_dropout", **policy)
        self.dropout_layers = [SharedDropout(dropout, name=f"dropout_{index}", **policy) for index in range(num_layers)]
        self.readout_dropout_layer = keras.layers.Dropout(readout_dropout, name="readout_dropout", **policy)
        self.recurrent_layers = [
            Recurrent(
                units,
                cell,
                implementation=implementation,
                update_gate=update_gate,
                name=f"recurrent_{index}",
                **policy,
            )
            for index in range(num_layers)
        ]
        self.bridges = self._create_bridges()
        self.readout = self._create_readout()
        self.copying = None if copy == "none" else Copying(copy == "separate", copy_window, name="copying", **policy)

    def _create_bridges(self) -> list[keras.Layer]:
        return [
            keras.layers.Dense(self.units, activation="tanh", name=f"bridge_{index}_{part}", dtype=self.dtype_policy)
            for index, layer in enumerate(self.recurrent_layers)
            for part in range(layer.cell.num_states)
            if "state" in self.context_inputs
        ]

    def _create_readout(self) -> OutputProjection:
        return OutputProjection(
            self.vocabulary_size, self.readout_size, tied=self.tie_output, name="readout", dtype=self.dtype_policy
        )

    def _check_choices(self) -> None:
        if not isinstance(self.num_layers, int) or self.num_layers < 1:
            raise ValueError(f"num_layers must be a positive whole number, but is {self.num_layers!r} instead.")
        unknown = [feed for feed in self.context_inputs if feed not in FEEDS]
        if unknown or not self.context_inputs:
            raise ValueError(
                f"context_inputs must hold some of {', '.join(FEEDS)}, but is {self.context_inputs!r} instead."
            )
        if self.attention_position not in ATTEND:
            raise ValueError(
                f"attention_position must be one of {', '.join(ATTEND)}, but is {self.attention_position!r} instead."
            )
        if self.attention_position == "between" and self.num_layers < 2:
            raise ValueError(
                f"attention_position='between' needs at least two layers, but num_layers is {self.num_layers} instead."
            )
        if self.attention_position == "between" and not self.context.is_attention:
            raise ValueError(
                "attention_position='between' needs an attention context. Use attention_position='after', or attention."
            )
        if self.attention_position == "between" and "input" in self.context_inputs:
            raise ValueError(
                "attention_position='between' and feeds with 'input' both say when attention reads. Choose one."
            )
        if self.context.is_attention and self.context_inputs == ("state",) and self.attention_position == "after":
            raise ValueError(
                "context_inputs must hold 'input' or 'readout' with attention, but is ('state',) instead: c_t is never read."
            )
        if self.copy not in COPY:
            raise ValueError(f"copy must be one of {', '.join(COPY)}, but is {self.copy!r} instead.")
        if self.copy == "none" and self.copy_window != 1:
            raise ValueError(
                f"copy_window must be 1 for a decoder that does not copy, but is {self.copy_window!r} instead."
            )
        if self.copy == "reuse" and not self.context.is_attention:
            raise ValueError("copy='reuse' needs an attention context. Use copy='separate', or attention.")
        if self.tie_output and self.readout_size != self.embedding_size:
            raise ValueError(
                f"readout_size must equal embedding_size ({self.embedding_size}) with tie_output, but is "
                f"{self.readout_size} instead."
            )

    @property
    def attends_before_recurrence(self) -> bool:
        """Whether the previous state asks and c_t enters the same step (Bahdanau's order)."""
        return self.context.is_attention and "input" in self.context_inputs

    @property
    def is_sequential(self) -> bool:
        """Whether a step needs more of the one before than the recurrent state, so that steps cannot run together."""
        return self.attends_before_recurrence or self.input_feeding

    @property
    def uses_context_per_step(self) -> bool:
        """Whether a step knows C: not where only the first state is made from it."""
        return self.attention_position == "between" or self.context_inputs != ("state",)

    def build(
        self,
        token_ids_shape: Any,
        memory_shape: Any,
        memory_mask_shape: Any = None,
        source_ids_shape: Any = None,
        source_mask_shape: Any = None,
    ) -> None:
        memory_units = memory_shape[-1]
        self.embedding.build(token_ids_shape)
        # A context that comes from a file is built already.
        if not self.context.built:
            self.context.build((None, None, memory_units), (None, None, self.units))
        context_units = self.context.context_units(memory_units)
        summary_units = memory_units if self.context.is_attention else context_units
        for bridge in self.bridges:
            bridge.build((None, summary_units))
        for index, layer in enumerate(self.recurrent_layers):
            features = self.units
            if index == 0:
                features = self.embedding_size + context_units * ("input" in self.context_inputs)
                features += self.readout_size * self.input_feeding
            elif index == 1 and self.attention_position == "between":
                features += context_units
            layer.build((None, None, features))
        self.readout.build((None, None, self.units + context_units * ("readout" in self.context_inputs)))
        if self.copying is not None:
            sizes = [self.units, *[context_units] * self.uses_context_per_step, self.embedding_size]
            self.copying.build([(None, None, size) for size in sizes], (None, None, memory_units))

    def prepare(
        self, memory: Any, memory_mask: Any = None, source_ids: Any = None, source_mask: Any = None
    ) -> PreparedContext:
        """What `start` and `step` need of a source, once a sentence.

        Args:
            memory, memory_mask, source_ids, source_mask: As in the call.

        Raises:
            ValueError: The decoder copies, and there are no `source_ids`, or no `source_mask` where it needs one.
        """
        mask = ops.ones(ops.shape(memory)[:2], "bool") if memory_mask is None else memory_mask
        prepared = self.context.prepare(memory, mask)
        if self.copying is None:
            return prepared
        if source_ids is None:
            raise ValueError("source_ids must be given to a decoder that copies, but are None instead.")
        if source_mask is None and self.copy_window > 1:
            raise ValueError(
                "source_mask must be given to a decoder that copies from windows of tokens, but is None instead."
            )
        embedded = self._embedded(source_ids) if self.copy_window > 1 else None
        return prepared._replace(source=self.copying.source(source_ids, embedded, source_mask, memory, mask))

    def start(self, prepared: PreparedContext) -> DecoderState:
        """The state before the first token: from the bridge, or zeros where `context_inputs` has no `state`."""
        batch = ops.shape(prepared.summary)[0]
        made = iter([bridge(prepared.summary) for bridge in self.bridges])
        states = tuple([next(made, zeros) for zeros in layer.initial_state(batch)] for layer in self.recurrent_layers)
        fed = (ops.zeros((batch, self.readout_size), dtype=self.compute_dtype),) if self.input_feeding else ()
        coverage = (ops.zeros(ops.shape(prepared.mask), dtype="float32"),) if self.context.coverage else ()
        return DecoderState(states, fed, coverage)

    def step(self, token_ids: Any, state: DecoderState, context: PreparedContext) -> DecoderOutput:
        """One step of writing.

        Args:
            token_ids: The last token of each row, `(rows,)`.
            state: From `start` or the step before.
            context: From `prepare`; rows may be a whole multiple of its batch, the beams of a sentence next to each
                other.

        Returns:
            Logits of the next token, the next state, the attention weights and, where the decoder copies, how.
        """
        readouts, state = self._advance(self._embedded(token_ids[:, None]), state, context)
        logits = self.scores(readouts, None if context.source is None else context.source.token_ids)[:, 0]
        weights = None if readouts.attention_weights is None else readouts.attention_weights[:, 0]
        copies = None if readouts.copies is None else Copies(*(part[:, 0] for part in readouts.copies))
        return DecoderOutput(logits, state, weights, copies)

    def read(
        self, prepared: PreparedContext, query: Any, coverage: tuple[Any, ...]
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        """C and its weights for queries that follow one another, and the state's coverage after the last."""
        if not coverage:
            return *self.context.read(prepared, query), ()
        context, weights, covered = self.context.read_in_turn(prepared, query, coverage[0])
        return context, weights, (covered,)

    def decode_teacher_forced(
        self, token_ids: Any, prepared: PreparedContext, training: bool | None = None, attention: bool = False
    ) -> TeacherForcedOutputs:
        """All steps of a known target up to the output product, and how they copy.

        Args:
            token_ids: As in the call.
            prepared: From `prepare`.
            training: Whether dropout acts.
            attention: Whether attention weights are wanted, for which the decoder must have attention.
        """
        embedded = self.embedding_dropout_layer(self._embedded(token_ids), training=training)
        state = self.start(prepared)
        # One mask for all steps, also when the steps run one by one.
        ones = ops.ones((ops.shape(embedded)[0], 1, self.units), dtype=self.compute_dtype)
        dropout_masks = [layer(ones, training=training) for layer in self.dropout_layers]
        if self.is_sequential:

            def one_step(embedded: Any, state: DecoderState) -> tuple[list[Any], DecoderState]:
                readouts, state = self._advance(embedded[:, None], state, prepared, dropout_masks)
                parts = [readouts.features, *(readouts.copies or ()), *[readouts.attention_weights] * attention]
                return [part[:, 0] for part in parts], state

            of_weights = tf.TensorSpec([None, None])
            specs = [tf.TensorSpec([None, self.readout_size], self.compute_dtype), *[of_weights] * attention]
            if self.copying is not None:
                specs[1:1] = Copies(tf.TensorSpec([None]), of_weights)
            (features, *parts), _ = scan(one_step, state, embedded, specs)
            copies = None if self.copying is None else Copies(*parts[:2])
            readouts = TeacherForcedOutputs(features, copies, parts[-1] if attention else None)
        else:
            readouts, _ = self._advance(embedded, state, prepared, dropout_masks, training)
        return readouts._replace(features=self.readout_dropout_layer(readouts.features, training=training))

    def scores(self, readouts: TeacherForcedOutputs, source_ids: Any = None) -> Any:
        """Logits of all tokens at all steps, or their log-probabilities where the decoder copies from `source_ids`."""
        logits = self.logits(readouts.features)
        return logits if readouts.copies is None else mixture(logits, readouts.copies, source_ids)

    def logits(self, features: Any) -> Any:
        """Scores that the vocabulary alone gives all tokens, for readout vectors."""
        return self.readout.logits(features, self.output_embeddings if self.tie_output else None)

    @property
    def output_embeddings(self) -> Any:
        """The output matrix, `(vocabulary_size, readout_size)`."""
        return self.embedding.embeddings if self.tie_output else self.readout.output_embeddings

    def call(
        self,
        token_ids: Any,
        memory: Any,
        memory_mask: Any = None,
        source_ids: Any = None,
        source_mask: Any = None,
        training: bool | None = None,
    ) -> Any:
        prepared = self.prepare(memory, memory_mask, source_ids, source_mask)
        return self.scores(self.decode_teacher_forced(token_ids, prepared, training), source_ids)

    def _embedded(self, token_ids: Any) -> Any:
        return ops.cast(self.embedding(token_ids), self.compute_dtype)

    def _advance(
        self,
        embedded: Any,
        state: DecoderState,
        prepared: PreparedContext,
        dropout_masks: list[Any] | None = None,
        training: bool | None = None,
    ) -> tuple[TeacherForcedOutputs, DecoderState]:
        """All steps of `embedded`, `(rows, steps, embedding_size)`, from `state` on: one step or a whole target."""
        context, weights, coverage = None, None, state.coverage
        inputs = [embedded, *(ops.expand_dims(fed, 1) for fed in state.fed)]
        if "input" in self.context_inputs:
            last_state = ops.expand_dims(state.layers[-1][0], 1)
            query = last_state if self.attends_before_recurrence else embedded
            context, weights, coverage = self.read(prepared, query, coverage)
            inputs.append(context)
        outputs = ops.concatenate(inputs, axis=-1) if len(inputs) > 1 else embedded
        new_states = []
        for index, layer in enumerate(self.recurrent_layers):
            layer_inputs = outputs
            if index == 1 and self.attention_position == "between":
                context, weights, coverage = self.read(prepared, outputs, coverage)
                layer_inputs = ops.concatenate([outputs, context], axis=-1)
            new_outputs, new_state = layer(layer_inputs, initial_state=state.layers[index], training=training)
            outputs = new_outputs + outputs if self.residual and index > 0 else new_outputs
            if dropout_masks is not None:
                outputs *= dropout_masks[index]
            new_states.append(new_state)
        if context is None and "readout" in self.context_inputs:
            context, weights, coverage = self.read(prepared, outputs, coverage)
        features = self.readout.features(
            ops.concatenate([outputs, context], axis=-1) if "readout" in self.context_inputs else outputs
        )
        fed = (features[:, -1],) if self.input_feeding else ()
        copies = None
        if self.copying is not None:
            known = [outputs, *[context] * self.uses_context_per_step, embedded]
            copies = self.copying(known, weights, source=prepared.source)
        return TeacherForcedOutputs(features, copies, weights), DecoderState(tuple(new_states), fed, coverage)

    def get_config(self) -> dict[str, Any]:
        names = (
            "vocabulary_size embedding_size units num_layers cell context_inputs attention_position input_feeding residual readout_size "
            "tie_output embedding_dropout dropout readout_dropout copy copy_window implementation update_gate"
        )
        config = {name: getattr(self, name) for name in names.split()}
        return super().get_config() | config | {"context": keras.saving.serialize_keras_object(self.context)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Decoder":
        return cls(**config | {"context": keras.saving.deserialize_keras_object(config["context"])})
