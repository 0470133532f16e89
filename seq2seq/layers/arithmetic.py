"""Products of rows with matrices that never change, in float32, in bfloat16, or in whole numbers of 8 bits.

TensorFlow proper is used because Keras has no product of whole numbers.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

PRECISIONS = ("float32", "bfloat16", "int8")
LEVELS = 127
"""The largest of the whole numbers that a weight becomes; the least is minus as much."""


Product = Callable[[Any], Any]
"""From coded rows `(rows, features)` to float32 `(rows, units)`."""


class Arithmetic(Protocol):
    """How products are computed: in which numbers they read rows, and what they make of a matrix."""

    def coded(self, rows: Any, bound: float) -> Any:
        """Float32 `(rows, features)` no larger than `bound`, as the products read them."""

    def product(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        """A function of coded rows that gives `rows @ matrix + bias`, float32.

        Args:
            matrix: `(features, units)`.
            bias: `(units,)`.
            bounds: How many of the features have which bound, in order.
        """

    def chooser(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        """From `(columns,)` int32 places to the product with these columns of the matrix and numbers of the bias.

        Args:
            matrix: `(features, units)`.
            bias: `(units,)`.
            bound: Of all features.
        """


class _Float:
    """Products of floating-point numbers."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype

    def coded(self, rows: Any, bound: float) -> Any:
        return tf.cast(rows, self.dtype)

    def product(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        kernel, shift = tf.cast(matrix, self.dtype), tf.cast(bias, self.dtype)
        return lambda rows: tf.cast(tf.nn.bias_add(tf.matmul(rows, kernel), shift), tf.float32)

    def chooser(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        kernel, shift = tf.cast(matrix.T, self.dtype), tf.cast(bias, self.dtype)

        def choose(columns: Any) -> Product:
            few, few_shifts = tf.transpose(tf.gather(kernel, columns)), tf.gather(shift, columns)
            return lambda rows: tf.cast(tf.nn.bias_add(tf.matmul(rows, few), few_shifts), tf.float32)

        return choose


class _Int8:
    """Products of whole numbers of 8 bits, exact in themselves, by oneDNN.

    A number x of bound b is read as u = round((x / b + 1) * 127.5), between 0 and 255, since the processor multiplies
    unsigned by signed numbers. So x W + c = b / 127.5 (u W) + (c - b 1 W), whose last part is known beforehand.
    """

    def coded(self, rows: Any, bound: float) -> Any:
        # Half more, since the cast cuts off what is behind the point. oneDNN's own operation for this takes longer.
        return tf.cast(rows * (127.5 / bound) + 128.0, tf.uint8)

    def product(self, matrix: np.ndarray, bias: np.ndarray, bounds: Sequence[tuple[int, float]]) -> Product:
        factors = np.concatenate([np.full(count, bound) for count, bound in bounds])
        levels, shift, largest = self._levels(matrix * factors[:, None], bias)
        # As a constant of the graph oneDNN lays it out once, and not at every step.
        return lambda rows: self._multiplied(rows, tf.constant(levels), shift, largest)

    def chooser(self, matrix: np.ndarray, bias: np.ndarray, bound: float) -> Callable[[Any], Product]:
        levels, shift, largest = self._levels(matrix * bound, bias)
        by_column = tf.constant(levels.T)

        def choose(columns: Any) -> Product:
            few, few_shifts = tf.transpose(tf.gather(by_column, columns)), tf.gather(shift, columns)
            return lambda rows: self._multiplied(rows, few, few_shifts, largest)

        return choose

    def _levels(self, matrix: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.float32]:
        """The matrix in whole numbers, what is added to their products, and the largest number of the matrix."""
        scale = best_scale(matrix)
        levels = np.clip(np.round(matrix / scale), -LEVELS, LEVELS)
        shift = (bias - scale * levels.sum(axis=0)).astype(np.float32)
        return levels.astype(np.int8), shift, np.float32(LEVELS * scale)

    def _multiplied(self, rows: Any, levels: Any, shift: Any, largest: np.float32) -> Any:
        return tf.raw_ops.QuantizedMatMulWithBiasAndDequantize(
            a=tf.bitcast(rows, tf.quint8),
            b=tf.bitcast(levels, tf.qint8),
            bias=shift,
            min_a=0.0,
            max_a=2.0,
            min_b=-largest,
            max_b=largest,
            # Of a result that is quantized again; this one is not.
            min_freezed_output=0.0,
            max_freezed_output=0.0,
            Toutput=tf.float32,
            input_quant_mode="SCALED",
        )


def arithmetic_of(precision: str) -> Arithmetic:
    """The arithmetic of that name.

    Raises:
        ValueError: There is none.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, but is {precision!r} instead.")
    return _Int8() if precision == "int8" else _Float(precision)


@functools.cache
def has_int8() -> bool:
    """Whether this TensorFlow multiplies whole numbers of 8 bits: it needs oneDNN, and so an x86 processor.

    >>> isinstance(has_int8(), bool)
    True
    """
    arithmetic = _Int8()
    try:
        with tf.device("CPU"):
            result = arithmetic.product(np.eye(1), np.ones(1), [(1, 1.0)])(arithmetic.coded(tf.zeros([1, 1]), 1.0))
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return False
    # With oneDNN switched off TensorFlow does nothing and says nothing.
    return bool(result.shape == (1, 1))


def best_scale(matrix: np.ndarray) -> float:
    """What the number 1 of 8 bits stands for, so that the squared error of the matrix is least.

    A scale that takes the largest weight whole leaves few levels for the many small ones.

    >>> best_scale(np.array([[-127.0, 127.0, 3.0]])).round(2)
    np.float64(1.0)
    """
    whole = max(float(np.abs(matrix).max()), 1e-30) / LEVELS
    scales = whole * np.linspace(0.4, 1.0, 13)

    def error(scale: float) -> float:
        return float(np.square(matrix - scale * np.clip(np.round(matrix / scale), -LEVELS, LEVELS)).sum())

    return min(reversed(scales), key=error)
