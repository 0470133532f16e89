"""A model file of a quarter of the size: its matrices have 8 bits per number, and it loads as any model file."""

import io
import pathlib
import zipfile
from typing import Any

import h5py
import numpy as np

from seq2seq.models.archive import WEIGHTS, save
from seq2seq.models.seq2seq import Seq2Seq

LARGEST_LEVEL = 127

MIN_CHANNEL_SIZE = 4
"""Matrices with fewer numbers per channel, such as the two biases of a GRU, stay as they are."""


def write_keras(model: Seq2Seq, path: pathlib.Path) -> None:
    """Write a model file whose matrices take 8 bits per number.

    They stay float32, so that nothing else has to know: the numbers of a channel are multiples of a power of two, of
    which 24 bits tell no more than 8, and compression finds that.
    """
    whole = save(model, path.with_stem("whole"))
    with zipfile.ZipFile(whole) as before, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as after:
        for part in before.infolist():
            content = before.read(part)
            after.writestr(part.filename, _weights_in_8_bits(content) if part.filename == WEIGHTS else content)
    whole.unlink()


def in_8_bits(matrix: np.ndarray, axis: int) -> np.ndarray:
    """Round to multiples, -127 to 127, of a power of two per index of an axis; rounding again changes nothing.

    >>> in_8_bits(np.array([[0.5, 100.3], [-0.1, 7.0]], "float32"), axis=1)
    array([[  0.5      , 100.       ],
           [ -0.1015625,   7.       ]], dtype=float32)
    """
    others = tuple(other for other in range(matrix.ndim) if other != axis % matrix.ndim)
    _, exponents = np.frexp(np.abs(matrix).max(axis=others, keepdims=True))
    levels = np.clip(np.rint(np.ldexp(matrix, 7 - exponents)), -LARGEST_LEVEL, LARGEST_LEVEL)
    return np.ldexp(levels, exponents - 7)


def _weights_in_8_bits(content: bytes) -> bytes:
    written = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as before, h5py.File(written, "w") as after:

        def copy(name: str, entry: h5py.Group | h5py.Dataset) -> None:
            if isinstance(entry, h5py.Group):
                after.create_group(name).attrs.update(entry.attrs)
                return
            # The larger of a kernel's two axes has the channels: more of them round finer.
            axis = max(range(entry.ndim), key=entry.shape.__getitem__, default=0)
            layout: dict[str, Any] = {"data": entry[()]}
            if entry.ndim > 1 and entry.size >= MIN_CHANNEL_SIZE * entry.shape[axis]:
                # The first bytes of all numbers, then the second, ...: this puts the redundant bytes together.
                layout = {"data": in_8_bits(entry[()], axis), "shuffle": True, "chunks": entry.shape}
            after.create_dataset(name, **layout).attrs.update(entry.attrs)

        after.attrs.update(before.attrs)
        before.visititems(copy)
    return written.getvalue()
