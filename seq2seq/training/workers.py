"""The rows of a batch in parts that are computed at the same time, each on a core of its own.

A recurrent step is many small operations, and cores that share each of them wait for each other longer than they
compute. Parts of a batch need each other only when their gradients are added up.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seq2seq.model import count_cores, give_each_operation_threads

MOST_WORKERS = 4
"""More parts have too few rows each to be worth the weights that every one of them reads."""


def choose_workers(asked: int) -> int:
    """What `training.workers` means on this machine; to be asked before TensorFlow begins to run.

    Operations are given their share of the cores. Where TensorFlow runs already and gives them all, batches stay whole
    unless a number is asked for.

    Args:
        asked: Number of parts; 0: one for each core, but no more than `MOST_WORKERS`, and one where there is a GPU,
            which is itself many cores.

    >>> choose_workers(3)
    3
    """
    if not asked and tf.config.list_physical_devices("GPU"):
        return 1
    workers = asked or min(count_cores(), MOST_WORKERS)
    if workers > 1 and not give_each_operation_threads(max(1, count_cores() // workers)):
        return asked or 1
    return workers


def cut_rows(tensors: Sequence[Any], parts: int) -> list[list[Any]]:
    """The rows of each tensor dealt out to parts, as many to each: one that lacks a row has zeros, which are padding.

    Args:
        tensors: `(batch, ...)` each.
        parts: How many.

    Returns:
        For each part its rows of every tensor.

    >>> [[part.numpy().tolist() for part in parts] for parts in cut_rows([tf.constant([[5, 3], [7, 3], [9, 3]])], 2)]
    [[[[5, 3], [9, 3]]], [[[7, 3], [0, 0]]]]
    """
    if parts == 1:
        return [list(tensors)]
    missing = -tf.shape(tensors[0])[0] % parts
    filled = [tf.pad(tensor, [[0, missing], *[[0, 0]] * (tensor.shape.rank - 1)]) for tensor in tensors]
    return [[tensor[first::parts] for tensor in filled] for first in range(parts)]
