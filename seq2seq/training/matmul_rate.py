"""How fast this machine multiplies matrices: what a training step's speed is held against."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

WARM_UP_PRODUCTS = 3


class Product(NamedTuple):
    """A product of a `(rows, inner)` with an `(inner, columns)` matrix."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Floating-point operations of the product."""
        return 2 * self.rows * self.inner * self.columns


def timed_product(product: Product, dtype: str, workers: int = 1) -> Callable[[], float]:
    """A product by TensorFlow's own operation, ready to be timed: each call returns its seconds.

    Args:
        product: Its sizes.
        dtype: The numbers that it multiplies: `float32`, `bfloat16`, ...
        workers: How many such products run at the same time; the seconds are those of all, shared out among them.
    """

    @tf.function(autograph=False)
    def multiply(lefts: list[Any], right: Any) -> Any:
        # One number of each result: asking for it waits for the product, also on a GPU, and reads nothing else.
        return tf.add_n([tf.cast(tf.matmul(left, right)[0, 0], tf.float32) for left in lefts])

    lefts = [tf.cast(tf.random.normal([product.rows, product.inner]), dtype) for _ in range(workers)]
    right = tf.cast(tf.random.normal([product.inner, product.columns]), dtype)

    def run() -> float:
        began = time.perf_counter()
        float(multiply(lefts, right))
        return (time.perf_counter() - began) / workers

    for _ in range(WARM_UP_PRODUCTS):
        run()
    return run


def fastest_rate(seconds: Mapping[Product, Sequence[float]]) -> tuple[float, Product]:
    """The machine's rate: that of the product which ran fastest for its size, by the median of its runs.

    Args:
        seconds: Times of each product.

    Returns:
        GFLOP a second, and the product.

    >>> fastest_rate({Product(10, 10, 10): [1e-6, 2e-6, 9e-6], Product(10, 10, 20): [8e-6]})
    (1.0, Product(rows=10, inner=10, columns=10))
    """
    rates = {product: product.flops / float(np.median(times)) / 1e9 for product, times in seconds.items()}
    best = max(rates, key=lambda product: rates[product])
    return rates[best], best
