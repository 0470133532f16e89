"""Scores: how well each place of the memory answers a query.

A score layer does once a sentence what does not depend on the query (`keys`), then compares any number of queries with
the keys. Queries stand on an axis of their own, `(batch, queries, units)`: the steps of a target in training, the beams
of a sentence in search. Scores are float32, whatever the layer computes in.
"""

import math
from typing import Any

import keras
from keras import ops

from seq2seq.layers.masking import ExplicitMaskLayer, length


def _float32(*tensors: Any) -> list[Any]:
    return [ops.cast(tensor, "float32") for tensor in tensors]


@keras.saving.register_keras_serializable(package="seq2seq")
class DotScore(ExplicitMaskLayer):
    """q . h_s: no weights, so query and memory must have one size (Luong et al. 2015, arXiv 1508.04025).

    Args:
        scaled: Whether to divide by the root of the size (Vaswani et al. 2017), which keeps large sizes out of the flat
            ends of the softmax.

    Call arguments:
        query: `(batch, queries, units)`.
        keys: What `keys(memory)` gave.

    Returns:
        Scores, `(batch, queries, source_steps)` float32.

    Raises:
        ValueError: Query and memory differ in size.

    >>> import numpy as np
    >>> score = DotScore()
    >>> memory = np.array([[[1.0, 0.0], [0.0, 2.0]]], "float32")
    >>> score(np.ones((1, 1, 2), "float32"), keys=score.keys(memory)).numpy().tolist()
    [[[1.0, 2.0]]]
    """

    def __init__(self, scaled: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scaled = scaled

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        if query_shape[-1] != keys_shape[-1]:
            raise ValueError(
                f"score 'dot' needs a memory as wide as the query, but the memory has {keys_shape[-1]} units and the "
                f"query {query_shape[-1]} instead. Use score 'general', or a decoder of {keys_shape[-1]} units."
            )

    def keys(self, memory: Any) -> Any:
        return memory

    def call(self, query: Any, keys: Any) -> Any:
        query, keys = _float32(query, keys)
        scores = ops.einsum("bqu,bsu->bqs", query, keys)
        return scores / math.sqrt(query.shape[-1]) if self.scaled else scores

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"scaled": self.scaled}


@keras.saving.register_keras_serializable(package="seq2seq")
class GeneralScore(ExplicitMaskLayer):
    """q^T W h_s: a learned bilinear form, for query and memory of any sizes (Luong et al. 2015).

    Call arguments and results are those of `DotScore`.

    >>> import numpy as np
    >>> score = GeneralScore()
    >>> score.build((None, None, 3), (None, None, 2))
    >>> keys = score.keys(np.ones((1, 5, 2), "float32"))
    >>> score(np.ones((1, 4, 3), "float32"), keys=keys).shape.as_list()
    [1, 4, 5]
    """

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(keys_shape[-1], query_shape[-1]))

    def keys(self, memory: Any) -> Any:
        return ops.matmul(memory, ops.cast(self.kernel, memory.dtype))

    def call(self, query: Any, keys: Any) -> Any:
        return ops.einsum("bqu,bsu->bqs", *_float32(query, keys))

    def get_config(self) -> dict[str, Any]:
        # Keras' own refuses a layer that was given its dtype as a policy.
        return super().get_config()


@keras.saving.register_keras_serializable(package="seq2seq")
class AdditiveScore(ExplicitMaskLayer):
    """v^T tanh(W q + U h_s): a small network compares query and memory (Bahdanau et al. 2015, arXiv 1409.0473).

    Args:
        units: Size of the hidden layer; None: as wide as the query.

    Call arguments and results are those of `DotScore`, and:
        addend: What is added inside of the tanh, `(batch, queries, source_steps, units)`; None: nothing.

    >>> import numpy as np
    >>> score = AdditiveScore(units=7)
    >>> score.build((None, None, 3), (None, None, 2))
    >>> keys = score.keys(np.ones((1, 5, 2), "float32"))
    >>> score(np.ones((1, 4, 3), "float32"), keys=keys).shape.as_list()
    [1, 4, 5]
    """

    def __init__(self, units: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

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
        return ops.squeeze(ops.matmul(*_float32(hidden, self.vector)), -1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="seq2seq")
class LocationScore(ExplicitMaskLayer):
    """(W q) . p_s with p_s a sinusoid of the place s: looks at where a word stands, never at what it is.

    Luong et al. 2015 score each place by a row of its own in W, which fixes the longest source; a sinusoid for the row
    (Vaswani et al. 2017) has no longest source.

    Args:
        units: Size of the sinusoids, even.

    Call arguments and results are those of `DotScore`.

    Raises:
        ValueError: `units` is not an even positive number.

    >>> import numpy as np
    >>> score = LocationScore(units=8)
    >>> score.build((None, None, 3), (None, None, 2))
    >>> score(np.ones((1, 4, 3), "float32"), keys=np.ones((1, 5, 2), "float32")).shape.as_list()
    [1, 4, 5]
    """

    def __init__(self, units: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if units < 2 or units % 2:
            raise ValueError(f"units of score 'location' must be an even positive number, but is {units!r} instead.")
        self.units = units

    def build(self, query_shape: tuple[int | None, ...], keys_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(query_shape[-1], self.units))

    def keys(self, memory: Any) -> Any:
        return memory

    def call(self, query: Any, keys: Any) -> Any:
        places = ops.cast(ops.arange(ops.shape(keys)[1]), "float32")
        wave = ops.exp(ops.arange(0, self.units, 2, dtype="float32") * (-math.log(10_000.0) / self.units))
        angles = places[:, None] * wave[None, :]
        sinusoids = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.einsum("bqu,su->bqs", ops.matmul(*_float32(query, self.kernel)), sinusoids)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"units": self.units}


@keras.saving.register_keras_serializable(package="seq2seq")
class LocalWindow(ExplicitMaskLayer):
    """Where the decoder looks, and a Gaussian around it: local-p attention of Luong et al. 2015.

        p = (S - 1) * sigma(v^T tanh(W q));   factor_s = exp(-(s - p)^2 / (2 (window / 2)^2)) for |s - p| <= window

    with S the number of valid places of the row. The paper multiplies by S, which lets p fall behind the last place.

    Args:
        window: Places to each side that can be seen.

    Call arguments:
        query: `(batch, queries, units)`.
        mask: `(batch, source_steps)`, True keeps.

    Returns:
        Factors for the attention weights, `(batch, queries, source_steps)` float32.

    Raises:
        ValueError: `window` is not a positive number.

    >>> import numpy as np
    >>> factors = LocalWindow(window=1)(np.zeros((1, 1, 4), "float32"), mask=np.ones((1, 5), "bool"))
    >>> (factors.numpy() > 0).tolist()
    [[[False, True, True, True, False]]]
    """

    def __init__(self, window: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if window < 1:
            raise ValueError(f"window must be a positive number, but is {window!r} instead.")
        self.window = window

    def build(self, query_shape: tuple[int | None, ...], mask_shape: Any = None) -> None:
        units = query_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(units, units))
        self.vector = self.add_weight(name="vector", shape=(units, 1))

    def call(self, query: Any, mask: Any) -> Any:
        query, kernel, vector = _float32(query, self.kernel, self.vector)
        share = ops.sigmoid(ops.matmul(ops.tanh(ops.matmul(query, kernel)), vector))
        last_place = ops.cast(ops.maximum(length(mask) - 1, 0), "float32")
        centre = share * last_place[:, None, None]
        distance = ops.cast(ops.arange(ops.shape(mask)[1]), "float32")[None, None, :] - centre
        gaussian = ops.exp(-ops.square(distance) / (2 * (self.window / 2) ** 2))
        return ops.where(ops.abs(distance) <= self.window, gaussian, 0.0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"window": self.window}
