"""Scores of attention: how well each place of the memory answers a query.

A score prepares each sentence once (`keys`, `values`) and then compares any number of queries with the keys. Queries
have an axis of their own, `(batch, queries, units)`: the steps of a target in training, the beams of a sentence in
search. Scores are `(batch, queries, source_steps)`, with an axis for heads after the batch where there are several, and
always float32.
"""

import math
from typing import Any

import keras
from keras import ops

from seq2seq.errors import ArgumentError, require_integer
from seq2seq.layers.masking import ExplicitMaskLayer, length


def _float32(*tensors: Any) -> list[Any]:
    return [ops.cast(tensor, "float32") for tensor in tensors]


class Score(ExplicitMaskLayer):
    """Base of all scores."""

    def __init__(self, **kwargs: Any) -> None:
        # Keras would round the coverage to the type that the model computes in.
        super().__init__(autocast=False, **kwargs)

    def coverage_units(self, query_units: int) -> int:
        """Return the number of weights for the attention that a place has had."""
        return 1

    def keys(self, memory: Any) -> Any:
        """Prepare a memory `(batch, source_steps, memory_units)` for comparison."""
        return memory

    def values(self, memory: Any) -> Any:
        """Prepare a memory for the weighted sum."""
        return memory

    def score(self, query: Any, keys: Any) -> Any:
        """Compare queries with keys."""
        raise NotImplementedError

    def call(self, query: Any, keys: Any, addend: Any = None) -> Any:
        """Compare queries with keys, and add coverage terms `(batch, queries, source_steps, coverage_units)`."""
        scores = self.score(query, keys)
        return scores if addend is None else scores + addend[..., 0]

    def combine(self, weights: Any, values: Any) -> tuple[Any, Any]:
        """Return the weighted sums of the values, `(batch, queries, units)`, and the weights without heads."""
        return ops.matmul(ops.cast(weights, values.dtype), values), weights


@keras.saving.register_keras_serializable(package="seq2seq")
class DotScore(Score):
    """q . h_s (Luong et al. 2015, arXiv 1508.04025), divided by the root of the size if `scaled` (Vaswani et al. 2017).

    The division keeps large sizes out of the flat ends of the softmax.
    """

    def __init__(self, scaled: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaled = scaled

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        sizes = query_shape[-1], keys_shape[-1]
        if sizes[0] != sizes[1]:
            requirement = "no dot product for a query of {} and a memory of {} units".format(*sizes)
            advice = f"Use 'general', or a decoder of {sizes[1]} units."
            raise ArgumentError("score", requirement, "scaled_dot" if self.scaled else "dot", advice)

    def score(self, query: Any, keys: Any) -> Any:
        query, keys = _float32(query, keys)
        scores = ops.einsum("bqu,bsu->bqs", query, keys)
        return scores / math.sqrt(query.shape[-1]) if self.scaled else scores


@keras.saving.register_keras_serializable(package="seq2seq")
class GeneralScore(Score):
    """q^T W h_s: a learned bilinear form, for query and memory of any sizes (Luong et al. 2015)."""

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(keys_shape[-1], query_shape[-1]))

    def keys(self, memory: Any) -> Any:
        return ops.matmul(memory, ops.cast(self.kernel, memory.dtype))

    def score(self, query: Any, keys: Any) -> Any:
        return ops.einsum("bqu,bsu->bqs", *_float32(query, keys))


@keras.saving.register_keras_serializable(package="seq2seq")
class AdditiveScore(Score):
    """v^T tanh(W q + U h_s), a small network (Bahdanau et al. 2015, arXiv 1409.0473).

    The hidden layer is as wide as the query by default; coverage is added inside of the tanh.
    """

    def __init__(self, units: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def coverage_units(self, query_units: int) -> int:
        return self.units or query_units

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        units = self.units or query_shape[-1]
        self.query_kernel = self.add_weight(name="query_kernel", shape=(query_shape[-1], units))
        self.memory_kernel = self.add_weight(name="memory_kernel", shape=(keys_shape[-1], units))
        self.vector = self.add_weight(name="vector", shape=(units, 1))

    def keys(self, memory: Any) -> Any:
        return ops.matmul(memory, ops.cast(self.memory_kernel, memory.dtype))

    def call(self, query: Any, keys: Any, addend: Any = None) -> Any:
        query = ops.matmul(query, ops.cast(self.query_kernel, query.dtype))
        hidden = ops.expand_dims(query, 2) + ops.expand_dims(keys, 1)
        hidden = ops.tanh(hidden if addend is None else hidden + ops.cast(addend, hidden.dtype))
        return ops.squeeze(ops.matmul(*_float32(hidden, ops.cast(self.vector, hidden.dtype))), -1)


@keras.saving.register_keras_serializable(package="seq2seq")
class LocationScore(Score):
    """(W q) . p_s with p_s a sinusoid of `units` numbers for place s: sees where a word is, never which word it is.

    Luong et al. 2015 score each place by a row of W, which fixes the longest source; a sinusoid in place of the row
    (Vaswani et al. 2017) has no longest source.
    """

    def __init__(self, units: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 2 or units % 2:
            raise ArgumentError("units", "an even positive integer for score 'location'", units)
        self.units = units

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(query_shape[-1], self.units))

    def score(self, query: Any, keys: Any) -> Any:
        places = ops.cast(ops.arange(ops.shape(keys)[1]), "float32")
        wave = ops.exp(ops.arange(0, self.units, 2, dtype="float32") * (-math.log(10_000.0) / self.units))
        angles = places[:, None] * wave[None, :]
        sinusoids = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        projected = ops.matmul(*_float32(query, ops.cast(self.kernel, query.dtype)))
        return ops.einsum("bqu,su->bqs", projected, sinusoids)


@keras.saving.register_keras_serializable(package="seq2seq")
class MultiHeadScore(Score):
    """`num_heads` scaled dot products of projections, joined again (Vaswani et al. 2017).

    All heads together have `units`, by default as many as the query; its weights are the mean over the heads.
    """

    def __init__(self, units: int | None = None, num_heads: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_integer("num_heads", num_heads)
        self.units = units
        self.num_heads = num_heads

    def coverage_units(self, query_units: int) -> int:
        return self.num_heads

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        units: Any = self.units or query_shape[-1]
        if units % self.num_heads:
            raise ArgumentError("units", f"a multiple of num_heads ({self.num_heads})", units)
        head = units // self.num_heads
        self.query_kernel = self.add_weight(name="query_kernel", shape=(query_shape[-1], self.num_heads, head))
        self.key_kernel = self.add_weight(name="key_kernel", shape=(keys_shape[-1], self.num_heads, head))
        self.value_kernel = self.add_weight(name="value_kernel", shape=(keys_shape[-1], self.num_heads, head))
        self.output_kernel = self.add_weight(name="output_kernel", shape=(units, keys_shape[-1]))

    def keys(self, memory: Any) -> Any:
        return ops.einsum("bsm,mhu->bshu", memory, ops.cast(self.key_kernel, memory.dtype))

    def values(self, memory: Any) -> Any:
        return ops.einsum("bsm,mhu->bshu", memory, ops.cast(self.value_kernel, memory.dtype))

    def call(self, query: Any, keys: Any, addend: Any = None) -> Any:
        heads = ops.einsum("bqd,dhu->bqhu", query, ops.cast(self.query_kernel, query.dtype))
        scores = ops.einsum("bqhu,bshu->bhqs", *_float32(heads, keys))
        scores /= heads.shape[-1] ** 0.5
        return scores if addend is None else scores + ops.transpose(addend, (0, 3, 1, 2))

    def combine(self, weights: Any, values: Any) -> tuple[Any, Any]:
        output_kernel = ops.cast(self.output_kernel, values.dtype)
        joined = ops.einsum("bhqs,bshu->bqhu", ops.cast(weights, values.dtype), values)
        batch, queries = ops.shape(joined)[:2]
        joined = ops.reshape(joined, (batch, queries, output_kernel.shape[0]))
        return ops.matmul(joined, output_kernel), ops.mean(weights, axis=1)


@keras.saving.register_keras_serializable(package="seq2seq")
class LocalWindow(ExplicitMaskLayer):
    """Gaussian factors for attention weights around a place that the query predicts (local-p, Luong et al. 2015).

        p = (S - 1) * sigma(v^T tanh(W q));   factor_s = exp(-(s - p)^2 / (2 (window / 2)^2)) for |s - p| <= window

    with S the number of valid places of the row. The paper multiplies by S, which lets p fall behind the last place.
    """

    def __init__(self, window: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_integer("window", window)
        self.window = window

    def build(self, query_shape: tuple[int | None, ...], mask_shape: Any = None) -> None:
        units = query_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(units, units))
        self.vector = self.add_weight(name="vector", shape=(units, 1))

    def call(self, query: Any, mask: Any) -> Any:
        """Return factors `(batch, queries, source_steps)`, float32."""
        query, kernel, vector = _float32(query, self.kernel, self.vector)
        share = ops.sigmoid(ops.matmul(ops.tanh(ops.matmul(query, kernel)), vector))
        last_place = ops.cast(ops.maximum(length(mask) - 1, 0), "float32")
        centre = share * last_place[:, None, None]
        distance = ops.cast(ops.arange(ops.shape(mask)[1]), "float32")[None, None, :] - centre
        gaussian = ops.exp(-ops.square(distance) / (2 * (self.window / 2) ** 2))
        return ops.where(ops.abs(distance) <= self.window, gaussian, 0.0)
