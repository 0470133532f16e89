"""The context C: what the decoder reads of the source.

Every context has two verbs: `prepare(memory, mask)` does the work of a sentence once, `read(prepared, query)` returns C
for each query. Encoder, decoder and search need not know the kind of context. A constant context (`last`, `projected`,
`mean`, `max`, `sum`, `attentive`) gives every query the same C and no weights; `attention` gives each query its own.
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.errors import require_choice
from seq2seq.layers import attention, masking
from seq2seq.layers.masking import ExplicitMaskLayer, masked_softmax
from seq2seq.layers.scan import scan


class PreparedContext(NamedTuple):
    """A sentence prepared for `read`.

    Values are `(batch, 1, units)` in a constant context, `(batch, source_steps, ...)` in attention; the decoder's first
    state is made from the summary `(batch, units)`; `source` is the `CopySource` of a decoder that copies.
    """

    values: Any
    summary: Any
    keys: Any = None
    mask: Any = None
    source: Any = None


class Context(ExplicitMaskLayer):
    """Base of all contexts.

    A query is `(rows, queries, query_units)`; rows may be a whole multiple of the batch (the beams of a sentence are
    neighbours), and the memory is not copied for them.
    """

    is_attention = False
    coverage = False

    def prepare(self, memory: Any, mask: Any) -> PreparedContext:
        """Prepare a memory `(batch, source_steps, memory_units)` with its mask."""
        raise NotImplementedError

    def read(self, prepared: PreparedContext, query: Any) -> tuple[Any, Any]:
        """Return C, `(rows, queries, units)`, and its weights `(rows, queries, source_steps)` or None."""
        raise NotImplementedError

    def context_units(self, memory_units: int) -> int:
        """Return the size of C for a memory of that size."""
        return memory_units

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        self.built = True

    def call(self, memory: Any, query: Any, mask: Any = None) -> Any:
        mask = ops.ones(ops.shape(memory)[:2], "bool") if mask is None else mask
        return self.read(self.prepare(memory, mask), query)


class ConstantContext(Context):
    """Context that is built once a sentence and read unchanged at every step (Cho et al. 2014)."""

    def summarize(self, memory: Any, mask: Any) -> Any:
        """Compute C of each sentence, `(batch, units)`."""
        raise NotImplementedError

    def prepare(self, memory: Any, mask: Any) -> PreparedContext:
        summary = self.summarize(memory, mask)
        return PreparedContext(values=ops.expand_dims(summary, 1), summary=summary)

    def call(self, memory: Any, query: Any, mask: Any = None) -> Any:
        # C alone: a layer of a functional model may not return None.
        context, _ = super().call(memory, query, mask)
        return context

    def read(self, prepared: PreparedContext, query: Any) -> tuple[Any, Any]:
        batch, units = ops.shape(prepared.values)[0], prepared.values.shape[-1]
        rows, queries = ops.shape(query)[:2]
        copies = rows * queries // batch
        return ops.reshape(ops.repeat(prepared.values, copies, axis=1), (rows, queries, units)), None


@keras.saving.register_keras_serializable(package="seq2seq")
class LastContext(ConstantContext):
    """C = h_S, the last valid step, as in the first encoder-decoders (Sutskever et al. 2014).

    Args:
        bidirectional: Whether the second half of the memory was read from right to left: its last step is the first of
            the sentence, and C joins both ends.

    Call arguments:
        memory: `(batch, source_steps, memory_units)`.
        query: `(batch, queries, query_units)`.
        mask: `(batch, source_steps)`, True keeps. None: all are valid.

    Returns:
        C, `(batch, queries, units)`.

    >>> import numpy as np
    >>> memory = np.arange(6, dtype="float32").reshape(1, 3, 2)
    >>> C = LastContext(bidirectional=True)(memory, np.zeros((1, 1, 2), "float32"))
    >>> C.numpy().tolist()
    [[[4.0, 1.0]]]
    """

    def __init__(self, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bidirectional = bidirectional

    def summarize(self, memory: Any, mask: Any) -> Any:
        if not self.bidirectional:
            return masking.masked_last(memory, mask)
        forward, backward = ops.split(memory, 2, axis=-1)
        return ops.concatenate([masking.masked_last(forward, mask), backward[:, 0]], axis=-1)


@keras.saving.register_keras_serializable(package="seq2seq")
class ProjectedContext(LastContext):
    """C = q(h_S) = tanh(V h_S + b): the last step through a learned map (Cho et al. 2014, arXiv 1406.1078).

    Args:
        units: Size of C; None: as wide as the memory.
        bidirectional: As in `LastContext`.

    Call arguments are those of `LastContext`.

    Returns:
        C, `(batch, queries, units)`.

    >>> import numpy as np
    >>> C = ProjectedContext(units=5)(np.ones((1, 3, 2), "float32"), np.zeros((1, 1, 2), "float32"))
    >>> C.shape.as_list()
    [1, 1, 5]
    """

    def __init__(self, units: int | None = None, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(bidirectional, **kwargs)
        self.units = units

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(memory_shape[-1], self.context_units(memory_shape[-1])))
        self.bias = self.add_weight(name="bias", shape=(self.kernel.shape[1],), initializer="zeros")

    def context_units(self, memory_units: int) -> int:
        return self.units or memory_units

    def summarize(self, memory: Any, mask: Any) -> Any:
        last = super().summarize(memory, mask)
        return ops.tanh(ops.matmul(last, ops.cast(self.kernel, last.dtype)) + ops.cast(self.bias, last.dtype))


@keras.saving.register_keras_serializable(package="seq2seq")
class PooledContext(ConstantContext):
    """C = the mean, the maximum or the sum of h_1..h_S over the valid steps.

    Args:
        pooling: `mean`, `max` or `sum`.

    Call arguments are those of `LastContext`.

    Returns:
        C, `(batch, queries, memory_units)`.

    Raises:
        ArgumentError: An unknown `pooling`.

    >>> import numpy as np
    >>> memory = np.array([[[1.0], [3.0], [9.0]]], "float32")
    >>> C = PooledContext("mean")(memory, memory[:, :1], mask=np.array([[True, True, False]]))
    >>> C.numpy().tolist()
    [[[2.0]]]
    """

    POOLINGS: ClassVar = {"mean": masking.masked_mean, "max": masking.masked_max, "sum": masking.masked_sum}

    def __init__(self, pooling: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_choice("pooling", pooling, self.POOLINGS)
        self.pooling = pooling

    def summarize(self, memory: Any, mask: Any) -> Any:
        return self.POOLINGS[self.pooling](memory, mask)


@keras.saving.register_keras_serializable(package="seq2seq")
class AttentiveContext(ConstantContext):
    """C = q(h_1..h_S): a learned query attends to the memory once (Lin et al. 2017, arXiv 1703.03130).

        e_s = v^T tanh(W h_s + b);   C = sum_s softmax(e)_s h_s

    Args:
        units: Size of the hidden layer; None: as wide as the memory.

    Call arguments are those of `LastContext`.

    Returns:
        C, `(batch, queries, memory_units)`.

    >>> import numpy as np
    >>> C = AttentiveContext(units=5)(np.ones((1, 3, 2), "float32"), np.zeros((1, 1, 2), "float32"))
    >>> C.numpy().round(5).tolist()
    [[[1.0, 1.0]]]
    """

    def __init__(self, units: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        units = self.units or memory_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(memory_shape[-1], units))
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.vector = self.add_weight(name="vector", shape=(units, 1))

    def summarize(self, memory: Any, mask: Any) -> Any:
        kernel, bias = (ops.cast(weight, memory.dtype) for weight in (self.kernel, self.bias))
        hidden = ops.cast(ops.tanh(ops.matmul(memory, kernel) + bias), "float32")
        scores = ops.squeeze(ops.matmul(hidden, ops.cast(self.vector, "float32")), -1)
        weights = ops.cast(masked_softmax(scores, mask), memory.dtype)
        return ops.einsum("bs,bsu->bu", weights, memory)


ATTENTION_SCORES = ("dot", "scaled_dot", "general", "additive", "location", "local", "multi_head")


@keras.saving.register_keras_serializable(package="seq2seq")
class AttentionContext(Context):
    """c_t = sum_s alpha_ts h_s: every query reads the memory again (Bahdanau et al. 2015; Luong et al. 2015).

    alpha_t is the softmax of the scores over the valid places. Scores: `dot`, `scaled_dot`, `general`, `additive`,
    `location`, `local` (a `general` score inside a Gaussian window that the query places, local-p) and `multi_head`
    (`num_heads` scaled dot products of projections, joined again; Vaswani et al. 2017; its weights are the mean
    over the heads). The decoder's first state is made from the mean of the memory.

    With `coverage` a score also sees how much attention its place has had, the sum of the earlier weights of the
    sentence (Tu et al. 2016, arXiv 1601.04811; See et al. 2017): w * coverage_s is added, inside of the tanh where the
    score is additive, with a w for each head of `multi_head`. Training starts at w = 0, as if there were no coverage.

    Args:
        score: Name of the score.
        units: Hidden size of `additive`, size of the sinusoids of `location`, size of all heads of `multi_head`
            together. None: as wide as the query for `additive` and `multi_head`, 64 for `location`.
        num_heads: Heads of `multi_head`.
        window: Places to each side that `local` can see.
        coverage: Whether scores see the attention that places have had.

    Call arguments are those of `LastContext`.

    Returns:
        C, `(batch, queries, memory_units)`, and its weights, `(batch, queries, source_steps)` float32.

    Raises:
        ArgumentError: An unknown `score`, a `units` that `num_heads` does not divide, or sizes that the score cannot
            compare.

    >>> import numpy as np
    >>> memory = np.array([[[1.0, 0.0], [0.0, 2.0]]], "float32")
    >>> c, weights = AttentionContext("dot")(memory, np.array([[[50.0, 0.0]]], "float32"))
    >>> c.numpy().round(3).tolist(), weights.numpy().round(3).tolist()
    ([[[1.0, 0.0]]], [[[1.0, 0.0]]])
    """

    is_attention = True

    def __init__(
        self,
        score: str = "dot",
        units: int | None = None,
        num_heads: int = 4,
        window: int = 10,
        coverage: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_choice("score", score, ATTENTION_SCORES)
        self.score = score
        self.units = units
        self.num_heads = num_heads
        self.window = window
        self.coverage = coverage
        self.score_layer = self._create_score()
        self.local_window = (
            attention.LocalWindow(window, dtype=self.dtype_policy, name="window") if score == "local" else None
        )

    def _create_score(self) -> attention.Score:
        options: dict[str, Any] = {"dtype": self.dtype_policy, "name": "score"}
        if self.score in ("dot", "scaled_dot"):
            return attention.DotScore(self.score == "scaled_dot", **options)
        if self.score == "additive":
            return attention.AdditiveScore(self.units, **options)
        if self.score == "location":
            return attention.LocationScore(self.units or 64, **options)
        if self.score == "multi_head":
            return attention.MultiHeadScore(self.units, self.num_heads, **options)
        return attention.GeneralScore(**options)

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        self.score_layer.build(query_shape, memory_shape)
        if self.local_window is not None:
            self.local_window.build(query_shape)
        if self.coverage:
            shape = (self.score_layer.coverage_units(query_shape[-1]),)
            self.coverage_kernel = self.add_weight(name="coverage_kernel", shape=shape, initializer="zeros")

    def prepare(self, memory: Any, mask: Any) -> PreparedContext:
        score = self.score_layer
        return PreparedContext(score.values(memory), masking.masked_mean(memory, mask), score.keys(memory), mask)

    def read(self, prepared: PreparedContext, query: Any, coverage: Any = None) -> tuple[Any, Any]:
        """Return C and its weights for each query.

        `coverage` is the attention that places have had before each query, `(rows, queries, source_steps)`.
        """
        batch, source_steps = ops.shape(prepared.values)[:2]
        rows, queries = ops.shape(query)[:2]
        by_sentence = ops.reshape(query, (batch, rows * queries // batch, query.shape[-1]))
        addend = None
        if self.coverage and coverage is not None:
            coverage = ops.reshape(coverage, (batch, rows * queries // batch, source_steps, 1))
            addend = coverage * ops.cast(self.coverage_kernel, "float32")
        scores = self.score_layer(by_sentence, keys=prepared.keys, addend=addend)
        mask = ops.expand_dims(prepared.mask, tuple(range(1, len(scores.shape) - 1)))
        weights = masked_softmax(scores, mask)
        if self.local_window is not None:
            weights *= self.local_window(by_sentence, mask=prepared.mask)
        context, weights = self.score_layer.combine(weights, prepared.values)
        return (
            ops.reshape(context, (rows, queries, context.shape[-1])),
            ops.reshape(weights, (rows, queries, source_steps)),
        )

    def read_in_turn(self, prepared: PreparedContext, query: Any, coverage: Any) -> tuple[Any, Any, Any]:
        """Read for consecutive queries, each of which sees the attention of the queries before it.

        `coverage` is the attention that places have had before the first query, `(rows, source_steps)`; the third
        result is that after the last.
        """
        if query.shape[1] == 1:
            context, weights = self.read(prepared, query, coverage[:, None])
            return context, weights, coverage + weights[:, 0]

        def step(query: Any, coverage: Any) -> tuple[list[Any], Any]:
            context, weights, coverage = self.read_in_turn(prepared, query[:, None], coverage)
            return [context[:, 0], weights[:, 0]], coverage

        units = self.context_units(prepared.summary.shape[-1])
        specs = [tf.TensorSpec([None, units], prepared.values.dtype), tf.TensorSpec([None, None])]
        (context, weights), coverage = scan(step, coverage, query, specs)
        return context, weights, coverage


CONTEXTS: dict[str, Callable[..., Context]] = {
    "last": LastContext,
    "projected": ProjectedContext,
    **{pooling: functools.partial(PooledContext, pooling) for pooling in PooledContext.POOLINGS},
    "attentive": AttentiveContext,
    "attention": AttentionContext,
}
"""Every context by the name that recipes give it."""


def create_context(context: str, bidirectional: bool = False, **options: Any) -> Context:
    """Create the context of that name, as recipes spell it.

    Args:
        context: `last`, `projected`, `mean`, `max`, `sum`, `attentive` or `attention`.
        bidirectional: Whether the encoder reads both ways; `last` and `projected` then join both ends.
        **options: Arguments of the context's class.

    Returns:
        The context layer.

    Raises:
        ArgumentError: An unknown `context`.

    >>> create_context("max").pooling
    'max'
    """
    require_choice("context", context, CONTEXTS)
    ends = {"bidirectional": bidirectional} if context in ("last", "projected") else {}
    return CONTEXTS[context](**ends, **options)
