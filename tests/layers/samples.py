"""Small random inputs, and what the tests of this folder do to layers again and again."""

import numpy as np
import tensorflow as tf

from tests.layers import oracles

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}

RAGGED = np.array(
    [
        [True, True, True, True, True],
        [True, True, True, False, False],
        [True, False, False, False, False],
        [False, False, False, False, False],
    ]
)
"""A full row, a shorter one, one of a single step, and one that is all padding."""

CELLS = tuple(oracles.STEPS)
GATED = tuple(cell for cell in CELLS if cell.startswith("gru"))
"""The cells with an update gate, in one of its two readings."""
ROADS = [
    (cell, update_gate, implementation)
    for cell in CELLS
    for update_gate in ("keep", "write")
    for implementation in ("scan", "raw")
    if (update_gate == "keep" or cell in GATED) and (cell, implementation) != ("gru_reset_before", "scan")
]
"""Every cell, reading of its update gate and way to run it on a processor."""


def normal(seed, *shape, dtype="float32"):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def randomize(layer, seed=0, scale=0.5):
    """Every weight random: what starts as zero would hide an equation that leaves it out."""
    random = np.random.default_rng(seed)
    layer.set_weights([random.normal(scale=scale, size=weight.shape) for weight in layer.get_weights()])
    return layer


def weights_of(layer):
    """Weights by name, float64."""
    return {variable.name: variable.numpy().astype("float64") for variable in layer.weights}


def close(actual, expected, tolerance):
    np.testing.assert_allclose(np.asarray(actual, "float64"), expected, atol=tolerance, rtol=tolerance)


def gradients(function, *values):
    """Value of a scalar function of arrays, and its gradient to each."""
    tensors = [tf.convert_to_tensor(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value.numpy(), [gradient.numpy() for gradient in tape.gradient(value, tensors)]


def finite_differences(function, values, step=1e-5):
    """Gradient of a scalar function of float64 arrays, one element at a time."""
    result = []
    for place, value in enumerate(values):
        gradient = np.zeros_like(value)
        for index in np.ndindex(*value.shape):
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step
                ends.append(float(function(*values[:place], moved, *values[place + 1 :])))
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        result.append(gradient)
    return result


def operations(concrete_function):
    """Types of all operations of a traced function, those in the bodies of its loops and branches too."""
    definition = concrete_function.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return [node.op for node in nodes]
