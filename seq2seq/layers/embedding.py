"""The vectors of tokens."""

import keras


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
