"""The readout: from what the decoder knows at a step to a score for each token of the vocabulary."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="seq2seq")
class Readout(keras.Layer):
    """logits = E tanh(W [s ; C] + b) + c, with an output matrix E of its own or that of the embedding.

    The hidden layer is the attentional vector of Luong et al. 2015. Sharing E with the embedding (Press and Wolf 2017,
    arXiv 1608.05859) saves the largest matrix of the model, and asks for a hidden layer as wide as the embedding.
    `features` and `logits` are apart, so that a loss can take the vocabulary in pieces.

    Args:
        vocabulary_size: Number of tokens.
        units: Size of the hidden layer.
        tied: Whether E is given to `logits` by the caller instead of being a weight of this layer.

    Call arguments:
        inputs: `(batch, steps, features)`.
        output_embeddings: E, `(vocabulary_size, units)`, when tied.

    Returns:
        Logits, `(batch, steps, vocabulary_size)`.

    >>> import numpy as np
    >>> Readout(vocabulary_size=7, units=4)(np.ones((2, 3, 5), "float32")).shape.as_list()
    [2, 3, 7]
    """

    def __init__(self, vocabulary_size: int, units: int, tied: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.units = units
        self.tied = tied

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units))
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.output_bias = self.add_weight(name="output_bias", shape=(self.vocabulary_size,), initializer="zeros")
        if not self.tied:
            self.output_embeddings = self.add_weight(name="output_embeddings", shape=(self.vocabulary_size, self.units))

    def features(self, inputs: Any) -> Any:
        """The hidden layer, `(batch, steps, units)`."""
        kernel, bias = (ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias))
        return ops.tanh(ops.matmul(inputs, kernel) + bias)

    def logits(self, features: Any, output_embeddings: Any = None) -> Any:
        """Scores of all tokens for hidden vectors `(..., units)`."""
        embeddings = self.output_embeddings if output_embeddings is None else output_embeddings
        embeddings, bias = (ops.cast(weight, features.dtype) for weight in (embeddings, self.output_bias))
        return ops.matmul(features, ops.transpose(embeddings)) + bias

    def call(self, inputs: Any, output_embeddings: Any = None) -> Any:
        return self.logits(self.features(inputs), output_embeddings)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            "tied": self.tied,
        }
