"""Dropout for sequences, of the same units at every step and of whole words, and tables of embeddings."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from seq2seq.errors import ArgumentError
from seq2seq.layers.masking import ExplicitMaskLayer


@keras.saving.register_keras_serializable(package="seq2seq")
class SharedDropout(keras.layers.Dropout):
    """Dropout of the same units at every step of `(batch, steps, units)`, which recurrence cannot average away.

    Gal and Ghahramani 2016 (arXiv 1512.05287).
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        kwargs.pop("noise_shape", None)
        super().__init__(rate, noise_shape=(None, 1, None), seed=seed, **kwargs)


@keras.saving.register_keras_serializable(package="seq2seq")
class WordDropout(ExplicitMaskLayer):
    """Replaces random tokens by the unknown token in training, each place by itself; ids in `kept_ids` always stay.

    Iyyer et al. 2015 (ACL, "Deep unordered composition rivals syntactic methods") drop words of the source, Bowman et
    al. 2016 (arXiv 1511.06349) words that a decoder reads.
    """

    def __init__(
        self, rate: float, unknown_id: int, kept_ids: Sequence[int], seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ArgumentError("rate", ">= 0 and < 1", rate)
        self.rate = rate
        self.unknown_id = unknown_id
        self.kept_ids = tuple(kept_ids)
        self.seed = seed
        # Without a generator of its own, a layer that drops nothing changes no other layer's random numbers.
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


def create_embedding(vocabulary_size: int, embedding_size: int, name: str, dtype: str) -> keras.layers.Embedding:
    """Create a table of embeddings whose initial vectors are about as long as 1.

    `dtype` is the `variable_dtype` of the layer that holds the table, which casts the looked-up vectors: a table of a
    mixed precision would cast all of its rows before each lookup.
    """
    scale = keras.initializers.RandomNormal(stddev=embedding_size**-0.5)
    return keras.layers.Embedding(vocabulary_size, embedding_size, embeddings_initializer=scale, name=name, dtype=dtype)
