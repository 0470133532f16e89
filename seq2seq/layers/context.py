"""The context C: what the decoder reads of the source.

Every context has two verbs. `prepare(memory, mask)` does once a sentence what can be done once; `read(prepared, query)`
gives C for each query. The encoder, the decoder and the search need not know which kind it is. A context that is
built once (`last`, `projected`, `mean`, `max`, `sum`, `attentive`) gives every query the same C and no weights;
`attention` gives each query its own.
"""

from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.layers.attention import (
    AdditiveScore,
    DotScore,
    GeneralScore,
    LocalWindow,
    LocationScore,
)
from seq2seq.layers.masking import (
    ExplicitMaskLayer,
    masked_last,
    masked_max,
    masked_mean,
    masked_softmax,
    masked_sum,
)
from seq2seq.layers.scan import scan

SCORES = ("dot", "scaled_dot", "general", "additive", "location", "local", "multi_head")


class PreparedContext(NamedTuple):
    """What `read` needs of a sentence, and `summary`, what the decoder's first state is made from.

    `values` is `(batch, 1, units)` for a context that is built once, `(batch, source_steps, units)` for attention.
    `source` is what a decoder that copies needs besides.
    """

    values: Any
    summary: Any
    keys: Any = None
    mask: Any = None
    source: Any = None


class Context(ExplicitMaskLayer):
    """What every context shares.

    Call arguments:
        memory: `(batch, source_steps, memory_units)`.
        query: `(rows, queries, query_units)`; rows may be a whole multiple of the batch (the beams of one sentence
            stand next to each other), and the memory is not copied for them.
        mask: `(batch, source_steps)`, True keeps. None: all are valid.

    Returns:
        C, `(rows, queries, units)`; `AttentionContext` also returns its weights, `(rows, queries, source_steps)`.
    """

    is_attention = False
    coverage = False

    def prepare(self, memory: Any, mask: Any) -> PreparedContext:
        raise NotImplementedError

    def read(self, prepared: PreparedContext, query: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def context_units(self, memory_units: int) -> int:
        """Size of C for a memory of that size."""
        return memory_units

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        self.built = True

    def call(self, memory: Any, query: Any, mask: Any = None) -> Any:
        mask = ops.ones(ops.shape(memory)[:2], "bool") if mask is None else mask
        return self.read(self.prepare(memory, mask), query)


class ConstantContext(Context):
    """A context that is built once a sentence and read unchanged at every step (Cho et al. 2014)."""

    def summarize(self, memory: Any, mask: Any) -> Any:
        """C of each sentence, `(batch, units)`."""
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
    """C = h_S, the last valid step: all that the first encoder-decoders had (Sutskever et al. 2014).

    Args:
        bidirectional: Whether the second half of the memory was read from right to left; its last step is then the
            first of the sentence, and C joins both ends.

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
            return masked_last(memory, mask)
        forward, backward = ops.split(memory, 2, axis=-1)
        return ops.concatenate([masked_last(forward, mask), backward[:, 0]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"bidirectional": self.bidirectional}


@keras.saving.register_keras_serializable(package="seq2seq")
class ProjectedContext(LastContext):
    """C = q(h_S) = tanh(V h_S + b): the last step through a learned map (Cho et al. 2014, arXiv 1406.1078).

    Args:
        units: Size of C; None: as wide as the memory.
        bidirectional: As in `LastContext`.

    >>> import numpy as np
    >>> C = ProjectedContext(units=5)(np.ones((1, 3, 2), "float32"), np.zeros((1, 1, 2), "float32"))
    >>> C.shape.as_list()
    [1, 1, 5]
    """

    def __init__(self, units: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(memory_shape[-1], self.context_units(memory_shape[-1])))
        self.bias = self.add_weight(name="bias", shape=(self.kernel.shape[1],), initializer="zeros")

    def context_units(self, memory_units: int) -> int:
        return self.units or memory_units

    def summarize(self, memory: Any, mask: Any) -> Any:
        last = super().summarize(memory, mask)
        return ops.tanh(ops.matmul(last, ops.cast(self.kernel, last.dtype)) + ops.cast(self.bias, last.dtype))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="seq2seq")
class PooledContext(ConstantContext):
    """C = the mean, the maximum or the sum of h_1..h_S over the valid steps.

    Args:
        pooling: `mean`, `max` or `sum`.

    Raises:
        ValueError: Another `pooling`.

    >>> import numpy as np
    >>> memory = np.array([[[1.0], [3.0], [9.0]]], "float32")
    >>> C = PooledContext("mean")(memory, memory[:, :1], mask=np.array([[True, True, False]]))
    >>> C.numpy().tolist()
    [[[2.0]]]
    """

    POOLINGS: ClassVar = {"mean": masked_mean, "max": masked_max, "sum": masked_sum}

    def __init__(self, pooling: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pooling not in self.POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(self.POOLINGS)}, but is {pooling!r} instead.")
        self.pooling = pooling

    def summarize(self, memory: Any, mask: Any) -> Any:
        return self.POOLINGS[self.pooling](memory, mask)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pooling": self.pooling}


@keras.saving.register_keras_serializable(package="seq2seq")
class AttentiveContext(ConstantContext):
    """C = q(h_1..h_S): a learned query attends to the memory once (Lin et al. 2017, arXiv 1703.03130).

        e_s = v^T tanh(W h_s + b);   C = sum_s softmax(e)_s h_s

    Args:
        units: Size of the hidden layer; None: as wide as the memory.

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

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="seq2seq")
class AttentionContext(Context):
    """c_t = sum_s alpha_ts h_s: every query reads the memory anew (Bahdanau et al. 2015; Luong et al. 2015).

    alpha_t is the softmax of the scores over the valid places. Scores: `dot`, `scaled_dot`, `general`, `additive`,
    `location`, `local` (a `general` score inside a Gaussian window that the query places, local-p) and `multi_head`
    (`num_heads` scaled dot products of projections, joined again; Vaswani et al. 2017; its weights are the mean
    over the heads). The decoder's first state is made from the mean of the memory.

    With `coverage` a score also knows how much attention its place has had, the sum of the earlier weights of the
    sentence (Tu et al. 2016, arXiv 1601.04811; See et al. 2017): w * coverage_s is added, inside of the tanh where the
    score is additive, with a w for each head of `multi_head`. It begins at w = 0, as if there were none.

    Args:
        score: Name of the score.
        units: Hidden size of `additive`, of the sinusoids of `location`, and of all heads of `multi_head` together.
            None: as wide as the query for `additive` and `multi_head`, 64 for `location`.
        num_heads: Heads of `multi_head`.
        window: Places to each side that `local` can see.
        coverage: Whether scores know the attention that places have had.

    Raises:
        ValueError: An unknown score, a `units` that `num_heads` does not divide, or sizes that the score cannot
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
        if score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(SCORES)}, but is {score!r} instead.")
        self.score = score
        self.units = units
        self.num_heads = num_heads
        self.window = window
        self.coverage = coverage
        self.score_layer: keras.Layer = self._create_score()
        self.local_window = LocalWindow(window, dtype=self.dtype_policy, name="window") if score == "local" else None

    def _create_score(self) -> keras.Layer | None:
        options = {"dtype": self.dtype_policy, "name": "score"}
        if self.score in ("dot", "scaled_dot"):
            return DotScore(scaled=self.score == "scaled_dot", **options)
        if self.score in ("general", "local"):
            return GeneralScore(**options)
        if self.score == "additive":
            return AdditiveScore(self.units, **options)
        if self.score == "location":
            return LocationScore(self.units or 64, **options)
        return None

    def build(self, memory_shape: Any, query_shape: Any = None, mask_shape: Any = None) -> None:
        if self.score_layer is not None:
            self.score_layer.build(query_shape, memory_shape)
        if self.local_window is not None:
            self.local_window.build(query_shape)
        if self.score == "multi_head":
            units = self.units or query_shape[-1]
            if units % self.num_heads:
                raise ValueError(
                    f"units of score 'multi_head' must be a multiple of num_heads ({self.num_heads}), but is "
                    f"{units} instead."
                )
            head = units // self.num_heads
            self.query_kernel = self.add_weight(name="query_kernel", shape=(query_shape[-1], self.num_heads, head))
            self.key_kernel = self.add_weight(name="key_kernel", shape=(memory_shape[-1], self.num_heads, head))
            self.value_kernel = self.add_weight(name="value_kernel", shape=(memory_shape[-1], self.num_heads, head))
            self.output_kernel = self.add_weight(name="output_kernel", shape=(units, memory_shape[-1]))
        if self.coverage:
            sizes = {"additive": self.units or query_shape[-1], "multi_head": self.num_heads}
            shape = (sizes.get(self.score, 1),)
            self.coverage_kernel = self.add_weight(name="coverage_kernel", shape=shape, initializer="zeros")

    def prepare(self, memory: Any, mask: Any) -> PreparedContext:
        summary = masked_mean(memory, mask)
        if self.score_layer is not None:
            return PreparedContext(memory, summary, self.score_layer.keys(memory), mask)
        key_kernel, value_kernel = (ops.cast(weight, memory.dtype) for weight in (self.key_kernel, self.value_kernel))
        keys = ops.einsum("bsm,mhu->bshu", memory, key_kernel)
        values = ops.einsum("bsm,mhu->bshu", memory, value_kernel)
        return PreparedContext(values, summary, keys, mask)

    def read(self, prepared: PreparedContext, query: Any, coverage: Any = None) -> tuple[Any, Any]:
        """C and its weights for each query.

        Args:
            prepared: From `prepare`.
            query: `(rows, queries, query_units)`.
            coverage: The attention that places have had before each query, `(rows, queries, source_steps)`; None: none.
        """
        batch, source_steps = ops.shape(prepared.values)[:2]
        rows, queries = ops.shape(query)[:2]
        by_sentence = ops.reshape(query, (batch, rows * queries // batch, query.shape[-1]))
        addend = None
        if self.coverage and coverage is not None:
            coverage = ops.reshape(coverage, (batch, rows * queries // batch, source_steps, 1))
            addend = coverage * ops.cast(self.coverage_kernel, "float32")
        if self.score == "multi_head":
            context, weights = self._read_heads(prepared, by_sentence, addend)
        else:
            scores = self._scores(by_sentence, prepared.keys, addend)
            weights = masked_softmax(scores, prepared.mask[:, None, :])
            if self.local_window is not None:
                weights *= self.local_window(by_sentence, mask=prepared.mask)
            context = ops.matmul(ops.cast(weights, prepared.values.dtype), prepared.values)
        return (
            ops.reshape(context, (rows, queries, context.shape[-1])),
            ops.reshape(weights, (rows, queries, source_steps)),
        )

    def read_in_turn(self, prepared: PreparedContext, query: Any, coverage: Any) -> tuple[Any, Any, Any]:
        """`read` for queries that follow one another, each of which knows the attention of those before.

        Args:
            prepared, query: As for `read`.
            coverage: The attention that places have had before the first, `(rows, source_steps)`.

        Returns:
            C, its weights, and the attention that places have had in the end.
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

    def _scores(self, query: Any, keys: Any, addend: Any) -> Any:
        if addend is None:
            return self.score_layer(query, keys=keys)
        if self.score == "additive":
            return self.score_layer(query, keys=keys, addend=addend)
        return self.score_layer(query, keys=keys) + addend[..., 0]

    def _read_heads(self, prepared: PreparedContext, query: Any, addend: Any) -> tuple[Any, Any]:
        query_kernel, output_kernel = (ops.cast(w, query.dtype) for w in (self.query_kernel, self.output_kernel))
        heads = ops.einsum("bqd,dhu->bqhu", query, query_kernel)
        scores = ops.einsum("bqhu,bshu->bhqs", ops.cast(heads, "float32"), ops.cast(prepared.keys, "float32"))
        scores /= heads.shape[-1] ** 0.5
        if addend is not None:
            scores += ops.transpose(addend, (0, 3, 1, 2))
        weights = masked_softmax(scores, prepared.mask[:, None, None, :])
        joined = ops.einsum("bhqs,bshu->bqhu", ops.cast(weights, query.dtype), prepared.values)
        batch, queries = ops.shape(joined)[:2]
        joined = ops.reshape(joined, (batch, queries, output_kernel.shape[0]))
        return ops.matmul(joined, output_kernel), ops.mean(weights, axis=1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "score": self.score,
            "units": self.units,
            "num_heads": self.num_heads,
            "window": self.window,
            "coverage": self.coverage,
        }


CONTEXTS = ("last", "projected", "mean", "max", "sum", "attentive", "attention")


def create_context(context: str, bidirectional: bool = False, **options: Any) -> Context:
    """The context of that name, as recipes spell it.

    Args:
        context: One of `CONTEXTS`.
        bidirectional: Whether the encoder reads both ways; `last` and `projected` then join both ends.
        **options: What the context's class takes.

    Raises:
        ValueError: There is no context of that name.

    >>> create_context("max").pooling
    'max'
    """
    if context not in CONTEXTS:
        raise ValueError(f"context must be one of {', '.join(CONTEXTS)}, but is {context!r} instead.")
    if context in PooledContext.POOLINGS:
        return PooledContext(context, **options)
    if context == "last":
        return LastContext(bidirectional, **options)
    if context == "projected":
        return ProjectedContext(bidirectional=bidirectional, **options)
    return AttentiveContext(**options) if context == "attentive" else AttentionContext(**options)
