"""Dropout that drops the same units at every step of a sequence."""

from typing import Any

import keras


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
