"""The decoder: embeds the previous tokens, reads the context, and scores every next token.

`step` is the only recurrence: search and export call it. Where a step needs no more than the previous recurrent state,
all steps of a known target run through each layer in one call, as cuDNN needs it; both ways share their code.
"""

import inspect
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, require_choice, require_integer
from seq2seq.layers.context import AttentionContext, Context, PreparedContext
from seq2seq.layers.copying import COPY, Copies, Copying, mixture
from seq2seq.layers.dropout import SharedDropout, create_embedding
from seq2seq.layers.masking import ExplicitMaskLayer
from seq2seq.layers.recurrent import Recurrent
from seq2seq.layers.scan import scan

CONTEXT_INPUTS = ("state", "input", "readout")
ATTENTION_POSITIONS = ("after", "between")


@keras.saving.register_keras_serializable(package="seq2seq")
class OutputProjection(ExplicitMaskLayer):
    """logits = E tanh(W [s ; C] + b) + c, with an output matrix E of its own or that of the embedding.

    The hidden layer is the attentional vector of Luong et al. 2015. A tied E, that of the embedding (Press and Wolf
    2017, arXiv 1608.05859), saves the largest matrix of the model and needs a hidden layer as wide as the embedding.
    `features` and `logits` are separate, so that a loss can process the vocabulary in pieces.

    Args:
        vocabulary_size: Number of tokens.
        units: Size of the hidden layer.
        tied: Whether the caller passes E to `logits`; otherwise it is a weight of this layer.

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
        """Compute the hidden layer, `(batch, steps, units)`."""
        kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        return ops.tanh(ops.matmul(inputs, kernel) + bias)

    def logits(self, features: Any, output_embeddings: Any = None) -> Any:
        """Compute the logits of all tokens for hidden vectors `(..., units)`."""
        embeddings = self.output_embeddings if output_embeddings is None else output_embeddings
        embeddings, bias = (ops.cast(weight, features.dtype) for weight in (embeddings, self.output_bias))
        return ops.matmul(features, ops.transpose(embeddings)) + bias

    def call(self, inputs: Any, output_embeddings: Any = None) -> Any:
        return self.logits(self.features(inputs), output_embeddings)


class DecoderState(NamedTuple):
    """State that one step passes to the next.

    `fed` is the last readout vector, for input feeding, and `coverage` the attention that source places have had,
    `(rows, source_steps)`.
    """

    layers: tuple[list[Any], ...]
    fed: tuple[Any, ...] = ()
    coverage: tuple[Any, ...] = ()


class DecoderOutput(NamedTuple):
    """Result of one step, with logits `(rows, vocabulary_size)` and attention weights `(rows, source_steps)` or None.

    The logits of a decoder that copies are log-probabilities.
    """

    logits: Any
    state: DecoderState
    attention_weights: Any
    copies: Copies | None = None


class TeacherForcedOutputs(NamedTuple):
    """Readout vectors `(batch, target_steps, readout_size)` of a known target, with copies and attention weights."""

    features: Any
    copies: Copies | None
    attention_weights: Any = None


@keras.saving.register_keras_serializable(package="seq2seq")
class Decoder(ExplicitMaskLayer):
    """Recurrent decoder over a context.

    C enters at any subset of `context_inputs`: `state` (the first state of each layer is tanh(W summary + b), the
    bridge), `input` (joined to the embedding at every step) and `readout` (joined to the output before the logits).
    With attention, the query is the output of the last layer (`attention_position="after"`, Luong et al. 2015) or of
    the first layer, and then the next layer reads [s_t ; c_t] (`attention_position="between"`); both keep all target
    steps in one kernel call. `input` with attention is the order of Bahdanau et al. 2015: the previous state of the
    last layer is the query, and c_t enters the same step; that and `input_feeding` (the last readout vector joins the
    next input, Luong et al. 2015) run step by step.

    Args:
        vocabulary_size: Number of target tokens.
        embedding_size: Size of a token's embedding.
        units: Size of the state of each layer.
        context: A context layer; None: `AttentionContext("dot")`.
        num_layers: Number of recurrent layers.
        cell: Name of the cell: `rnn`, `lstm`, `gru`, `gru_reset_before` or `gru_simplified`.
        context_inputs: Where C enters: any of `state`, `input`, `readout`.
        attention_position: `after` the last layer or `between` the first layer and the second.
        input_feeding: Whether the last readout vector joins the next input.
        residual: Whether each layer above the first adds its input to its output.
        readout_size: Size of the readout vector; None: `embedding_size`.
        tie_output: Whether the output matrix is the embedding matrix.
        embedding_dropout, dropout, readout_dropout: Shares dropped in training: of the embeddings and of each
            layer's outputs (the same units at every step), and of the readout vector.
        copy: Attention that copies tokens from the source: `none`, `reuse` (that of the context) or `separate` (one of
            its own). Source and target then share one vocabulary (See et al. 2017, arXiv 1704.04368).
        copy_window: Source tokens that a step of the memory stands for, for a decoder that copies.
        implementation, update_gate: As in `Recurrent`.

    Call arguments:
        token_ids: Previous tokens, `(batch, target_steps)`: the target shifted right by a start token.
        memory: `(batch, source_steps, memory_units)`.
        memory_mask: `(batch, source_steps)`, True keeps. None: all are valid.
        source_ids: Tokens of the source, `(batch, source_steps)`, for a decoder that copies.
        source_mask: Their mask, where a step of the memory stands for several of them; else it is that of the memory.

    Returns:
        Logits of the next token at every step, `(batch, target_steps, vocabulary_size)`; log-probabilities where the
        decoder copies.

    Raises:
        ArgumentError: Arguments that are unknown or contradict each other.

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
        self._check_arguments()
        self._create_layers()

    def _check_arguments(self) -> None:
        require_integer("num_layers", self.num_layers)
        require_choice("attention_position", self.attention_position, ATTENTION_POSITIONS)
        require_choice("copy", self.copy, COPY)
        inputs, is_attention, is_between = (
            self.context_inputs,
            self.context.is_attention,
            self.attention_position == "between",
        )
        rules = (
            (not inputs, "context_inputs", f"some of {', '.join(CONTEXT_INPUTS)}"),
            (set(inputs) - set(CONTEXT_INPUTS), "context_inputs", f"some of {', '.join(CONTEXT_INPUTS)}"),
            (is_between and self.num_layers < 2, "attention_position", "'after' with a single layer"),
            (is_between and not is_attention, "attention_position", "'after' without attention"),
            (is_between and "input" in inputs, "context_inputs", "without 'input' where attention is 'between' layers"),
            (
                is_attention and inputs == ("state",) and not is_between,
                "context_inputs",
                "with 'input' or 'readout' for attention, which is never read otherwise",
            ),
            (self.copy == "none" and self.copy_window != 1, "copy_window", "1 for a decoder that does not copy"),
            (self.copy == "reuse" and not is_attention, "copy", "'none' or 'separate' without attention"),
            (
                self.tie_output and self.readout_size != self.embedding_size,
                "readout_size",
                f"embedding_size ({self.embedding_size}) with a tied output",
            ),
        )
        for is_broken, argument, requirement in rules:
            if is_broken:
                raise ArgumentError(argument, requirement, getattr(self, argument))

    def _create_layers(self) -> None:
        policy: dict[str, Any] = {"dtype": self.dtype_policy}
        layers = range(self.num_layers)
        self.embedding = create_embedding(self.vocabulary_size, self.embedding_size, "embedding", self.variable_dtype)
        self.embedding_dropout_layer = SharedDropout(self.embedding_dropout, name="embedding_dropout", **policy)
        self.dropout_layers = [SharedDropout(self.dropout, name=f"dropout_{index}", **policy) for index in layers]
        self.readout_dropout_layer = keras.layers.Dropout(self.readout_dropout, name="readout_dropout", **policy)
        choices = (self.units, self.cell, False, self.implementation, self.update_gate)
        self.recurrent_layers = [Recurrent(*choices, name=f"recurrent_{index}", **policy) for index in layers]
        self.bridges = self._create_bridges()
        self.readout = self._create_readout()
        self.copying = None
        if self.copy != "none":
            self.copying = Copying(self.copy == "separate", self.copy_window, name="copying", **policy)

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

    @property
    def attends_before_recurrence(self) -> bool:
        """Return whether the query is the previous state, and c_t enters the same step (Bahdanau's order)."""
        return self.context.is_attention and "input" in self.context_inputs

    @property
    def is_sequential(self) -> bool:
        """Return whether a step needs more of the previous step than its state, so that steps cannot run together."""
        return self.attends_before_recurrence or self.input_feeding

    @property
    def uses_context_per_step(self) -> bool:
        """Return whether C enters each step, and not only the first state."""
        return self.attention_position == "between" or self.context_inputs != ("state",)

    def build(self, token_ids_shape: Any, memory_shape: Any, **_other_shapes: Any) -> None:
        memory_units = memory_shape[-1]
        self.embedding.build(token_ids_shape)
        # A context that comes from a file is already built.
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
        """Prepare a source for `start` and `step`, once a sentence; arguments as in the call."""
        mask = ops.ones(ops.shape(memory)[:2], "bool") if memory_mask is None else memory_mask
        prepared = self.context.prepare(memory, mask)
        if self.copying is None:
            return prepared
        if source_ids is None:
            raise ArgumentError("source_ids", "given to a decoder that copies", None)
        if source_mask is None and self.copy_window > 1:
            raise ArgumentError("source_mask", "given to a decoder that copies from windows of tokens", None)
        embedded = self._embedded(source_ids) if self.copy_window > 1 else None
        return prepared._replace(source=self.copying.source(source_ids, embedded, source_mask, memory, mask))

    def start(self, prepared: PreparedContext) -> DecoderState:
        """Create the state before the first token: from the bridge, or zeros without `state` in `context_inputs`."""
        batch = ops.shape(prepared.summary)[0]
        bridged = iter([bridge(prepared.summary) for bridge in self.bridges])
        states = tuple(
            [next(bridged, zeros) for zeros in layer.initial_state(batch)] for layer in self.recurrent_layers
        )
        fed = (ops.zeros((batch, self.readout_size), dtype=self.compute_dtype),) if self.input_feeding else ()
        coverage = (ops.zeros(ops.shape(prepared.mask), dtype="float32"),) if self.context.coverage else ()
        return DecoderState(states, fed, coverage)

    def step(self, token_ids: Any, state: DecoderState, context: PreparedContext) -> DecoderOutput:
        """Take one step from the last token of each row, `(rows,)`.

        `context` comes from `prepare`; rows may be a whole multiple of its batch (the beams of a sentence are
        neighbours).
        """
        outputs, state = self._advance(self._embedded(token_ids[:, None]), state, context)
        logits = self.scores(outputs, None if context.source is None else context.source.token_ids)[:, 0]
        weights = None if outputs.attention_weights is None else outputs.attention_weights[:, 0]
        copies = None if outputs.copies is None else Copies(*(part[:, 0] for part in outputs.copies))
        return DecoderOutput(logits, state, weights, copies)

    def read(
        self, prepared: PreparedContext, query: Any, coverage: tuple[Any, ...]
    ) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return C and its weights for consecutive queries, and the coverage after the last."""
        if not coverage:
            return *self.context.read(prepared, query), ()
        context, weights, covered = self.context.read_in_turn(prepared, query, coverage[0])
        return context, weights, (covered,)

    def decode_teacher_forced(
        self, token_ids: Any, prepared: PreparedContext, training: bool | None = None, attention: bool = False
    ) -> TeacherForcedOutputs:
        """Run all steps of a known target up to the output product; `attention` requests weights of the attention."""
        embedded = self.embedding_dropout_layer(self._embedded(token_ids), training=training)
        state = self.start(prepared)
        # One mask for all steps, also when the steps run one by one.
        ones = ops.ones((ops.shape(embedded)[0], 1, self.units), dtype=self.compute_dtype)
        dropout_masks = [layer(ones, training=training) for layer in self.dropout_layers]
        if self.is_sequential:
            outputs = self._advance_in_turn(embedded, state, prepared, dropout_masks, attention)
        else:
            outputs, _ = self._advance(embedded, state, prepared, dropout_masks, training)
        return outputs._replace(features=self.readout_dropout_layer(outputs.features, training=training))

    def scores(self, outputs: TeacherForcedOutputs, source_ids: Any = None) -> Any:
        """Compute logits of all tokens, or log-probabilities for a decoder that copies from `source_ids`."""
        logits = self.logits(outputs.features)
        return logits if outputs.copies is None else mixture(logits, outputs.copies, source_ids)

    def logits(self, features: Any) -> Any:
        """Compute the vocabulary's logits for readout vectors."""
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

    def _advance_in_turn(
        self, embedded: Any, state: DecoderState, prepared: PreparedContext, dropout_masks: list[Any], attention: bool
    ) -> TeacherForcedOutputs:
        """Run `_advance` step by step."""

        def one_step(embedded: Any, state: DecoderState) -> tuple[list[Any], DecoderState]:
            outputs, state = self._advance(embedded[:, None], state, prepared, dropout_masks)
            parts = [outputs.features, *(outputs.copies or ()), *[outputs.attention_weights] * attention]
            return [part[:, 0] for part in parts], state

        of_weights = tf.TensorSpec([None, None])
        specs = [tf.TensorSpec([None, self.readout_size], self.compute_dtype), *[of_weights] * attention]
        if self.copying is not None:
            specs[1:1] = Copies(tf.TensorSpec([None]), of_weights)
        (features, *parts), _ = scan(one_step, state, embedded, specs)
        copies = None if self.copying is None else Copies(*parts[:2])
        return TeacherForcedOutputs(features, copies, parts[-1] if attention else None)

    def _advance(
        self,
        embedded: Any,
        state: DecoderState,
        prepared: PreparedContext,
        dropout_masks: list[Any] | None = None,
        training: bool | None = None,
    ) -> tuple[TeacherForcedOutputs, DecoderState]:
        """Run all steps of `embedded`, `(rows, steps, embedding_size)`, from `state` on: one step or a whole target."""
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
        arguments = [name for name in inspect.signature(Decoder.__init__).parameters if name not in ("self", "kwargs")]
        config = {name: getattr(self, name) for name in arguments}
        return super().get_config() | config | {"context": keras.saving.serialize_keras_object(self.context)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Decoder":
        return cls(**config | {"context": keras.saving.deserialize_keras_object(config["context"])})
