"""Dropout for sequences: of the same units at every step, and of whole words."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="seq2seq")
class SharedDropout(keras.layers.Dropout):
    """Dropout whose mask is shared over time, so that a recurrent network cannot average it away.

    Gal and Ghahramani 2016 (arXiv 1512.05287). It acts in training only, and leaves no random operation in a model
    that runs without training.

    Args:
        rate: Share of the units that are dropped, 0 to below 1.
        seed: Seed of the masks.

    Call arguments:
        inputs: `(batch, steps, units)`.

    Returns:
        The same shape; what is kept is scaled by `1 / (1 - rate)`.

    >>> import numpy as np
    >>> outputs = SharedDropout(0.5, seed=1)(np.ones((1, 3, 8), "float32"), training=True).numpy()
    >>> bool((outputs == outputs[:, :1]).all())
    True
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        kwargs.pop("noise_shape", None)
        super().__init__(rate, noise_shape=(None, 1, None), seed=seed, **kwargs)


@keras.saving.register_keras_serializable(package="seq2seq")
class WordDropout(keras.layers.Layer):
    """Makes some tokens unknown, so that a model leans on no single word.

    Iyyer et al. 2015 (ACL, "Deep unordered composition rivals syntactic methods") drop words of the source, Bowman et
    al. 2016 (arXiv 1511.06349) those that a decoder reads; each place is drawn by itself. It acts in training only, and
    leaves no random operation in a model that runs without training.

    Args:
        rate: Share of the tokens that become unknown, 0 to below 1.
        unknown_id: The id that they become.
        kept_ids: Ids that stay as they are, such as those of padding, start and end.
        seed: Seed of the draws.

    Call arguments:
        token_ids: `(batch, steps)`.

    Returns:
        Ids of the same shape and type.

    Raises:
        ValueError: `rate` is out of range.

    >>> import numpy as np
    >>> WordDropout(0.9, unknown_id=1, kept_ids=(0, 3), seed=1)(np.array([[7, 8, 9, 3, 0]]), training=True).numpy()
    array([[1, 1, 1, 3, 0]])
    """

    def __init__(
        self, rate: float, unknown_id: int, kept_ids: Sequence[int], seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and less than 1, but is {rate!r} instead.")
        self.rate = rate
        self.unknown_id = unknown_id
        self.kept_ids = tuple(kept_ids)
        self.seed = seed
        # Without a stream of its own a layer that drops nothing changes no other layer's random numbers.
        self.seed_generator = keras.random.SeedGenerator(seed) if rate > 0 else None
        self.built = True

    def call(self, token_ids: Any, training: bool | None = None) -> Any:
        if not training or self.seed_generator is None:
            return token_ids
        dropped = keras.random.uniform(ops.shape(token_ids), dtype="float32", seed=self.seed_generator) < self.rate
        for kept in self.kept_ids:
            dropped = ops.logical_and(dropped, ops.not_equal(token_ids, kept))
        return ops.where(dropped, ops.full_like(token_ids, self.unknown_id), token_ids)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "rate": self.rate,
            "unknown_id": self.unknown_id,
            "kept_ids": list(self.kept_ids),
            "seed": self.seed,
        }


def create_embedding(vocabulary_size: int, embedding_size: int, name: str, dtype: str) -> keras.layers.Embedding:
    """A table of embeddings, begun so that the vectors are about as long as 1.

    Where a model computes in another type than that of its weights, the table stays in that of the weights, and whoever
    looks tokens up casts what comes out: Keras casts the whole table first where no layer is around the lookup.

    Args:
        vocabulary_size: Number of tokens.
        embedding_size: Size of the vector of each.
        name: Of the layer.
        dtype: Type of the weights, the `variable_dtype` of the layer that the table belongs to.

    >>> create_embedding(9, 4, "embedding", "float32")(keras.ops.array([[1, 2, 0]])).shape.as_list()
    [1, 3, 4]
    """
    scale = keras.initializers.RandomNormal(stddev=embedding_size**-0.5)
    return keras.layers.Embedding(vocabulary_size, embedding_size, embeddings_initializer=scale, name=name, dtype=dtype)
