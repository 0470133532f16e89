"""Functions of models outside training: each compiled once, and run batch by batch."""

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seq2seq.text.batching import Batch, Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.threads import count_workers, map_parallel

IDS = tf.TensorSpec([None, None], tf.int32)


class InferenceCache:
    """Keep what is compiled or derived from models, without a reference to them: their last reference frees them."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._fingerprint: int | None = None

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made on the first call."""
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]

    def compiled(self, name: str, function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
        """Return the graph of a function, traced on the first call; the graph does not hold the function."""
        return self.get(name, lambda: tf.function(function, signature, autograph=False).get_concrete_function())

    def drop_outdated(self, models: Sequence[keras.Model], is_copy: Callable[[Any], bool]) -> None:
        """Drop the values of all keys that hold copies of weights, if any weight has changed since the last call."""
        fingerprint = int(self.compiled("fingerprint", functools.partial(_fingerprint, models))())
        if fingerprint != self._fingerprint:
            self._values = {key: value for key, value in self._values.items() if not is_copy(key)}
        self._fingerprint = fingerprint


def _fingerprint(models: Sequence[keras.Model]) -> Any:
    """Compute a number that changes with the bits of the weights."""
    weights = [weight for model in models for weight in model.weights if weight.dtype == "float32"]
    sums = [tf.reduce_sum(tf.bitcast(weight.value, tf.int32)) for weight in weights]
    return tf.add_n([total * (2 * place + 1) for place, total in enumerate(sums)])


def run_in_batches(
    function: Callable[[Any, Any], Any],
    source_ids: Sequence[Sequence[int]],
    target_ids: Sequence[Sequence[int]],
    batch_tokens: int,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yield batches of pairs of like length, each with the output of a compiled function as float64."""
    corpus = EncodedCorpus.from_lists(source_ids, target_ids)
    batches = list(Batches(corpus, batch_tokens=batch_tokens, shuffle=False).epoch(0))

    def run(batch: Batch) -> np.ndarray:
        output: np.ndarray = function(tf.constant(batch.source_ids), tf.constant(batch.target_ids)).numpy()
        return output.astype(np.float64)

    yield from zip(batches, map_parallel(run, batches, count_workers()), strict=True)


def batches_of_like_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Return batches of indices of sequences, longest first, of at most `batch_tokens` tokens with padding."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
