"""The loop over time steps against the same steps written out."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers.scan import scan
from tests.layers.samples import close, finite_differences, gradients, normal

DECAY = normal(1, 2, 3, dtype="float64")


def step(inputs, state):
    """Update a nested state whose parts act on each other; outputs are wider than any part of it."""
    total, (count, product) = state
    total = tf.tanh(total + tf.matmul(inputs, DECAY) * (count + 1.0))
    return tf.concat([total, product], -1), (total, (count + 1.0, product * 0.5 + total))


def numpy_scan(inputs, total, reverse):
    count, product = 0.0, np.ones_like(total)
    outputs = np.zeros((*inputs.shape[:2], 6))
    for time in range(inputs.shape[1])[:: -1 if reverse else 1]:
        total = np.tanh(total + inputs[:, time] @ DECAY * (count + 1.0))
        outputs[:, time] = np.concatenate([total, product], -1)
        count, product = count + 1.0, product * 0.5 + total
    return outputs, total, count, product


def run(inputs, total, reverse):
    state = (total, (tf.zeros([], tf.float64), tf.ones_like(total)))
    return scan(step, state, inputs, tf.TensorSpec([None, 6], tf.float64), reverse)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("graph", [False, True])
def test_scan_is_the_steps_one_after_another(reverse, graph):
    inputs, total = normal(2, 2, 4, 2, dtype="float64"), normal(3, 2, 3, dtype="float64")
    function = tf.function(run, autograph=False) if graph else run
    outputs, (last, (count, product)) = function(tf.constant(inputs), tf.constant(total), reverse)
    for actual, expected in zip((outputs, last, count, product), numpy_scan(inputs, total, reverse), strict=True):
        close(actual, expected, 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_go_back_through_scan(reverse):
    values = [normal(2, 2, 3, 2, dtype="float64"), normal(3, 2, 3, dtype="float64")]
    weight, last_weight = normal(4, 2, 3, 6, dtype="float64"), normal(5, 2, 3, dtype="float64")

    def loss(inputs, total):
        outputs, state = run(inputs, total, reverse)
        return tf.reduce_sum(outputs * weight) + tf.reduce_sum(state[1][1] * last_weight)

    def numpy_loss(inputs, total):
        outputs, _, _, product = numpy_scan(inputs, total, reverse)
        return np.sum(outputs * weight) + np.sum(product * last_weight)

    _, found = gradients(loss, *values)
    for actual, expected in zip(found, finite_differences(numpy_loss, values), strict=True):
        close(actual, expected, 1e-7)


def test_a_traced_scan_takes_any_number_of_rows_and_steps():
    signature = [tf.TensorSpec([None, None, 2], tf.float64), tf.TensorSpec([None, 3], tf.float64)]
    function = tf.function(lambda inputs, total: run(inputs, total, False)[0], signature, autograph=False)
    for rows, steps in ((1, 1), (3, 5)):
        inputs, total = normal(2, rows, steps, 2, dtype="float64"), normal(3, rows, 3, dtype="float64")
        outputs = function(inputs, total)
        assert outputs.shape == (rows, steps, 6)
        close(outputs, numpy_scan(inputs, total, False)[0], 1e-12)


def test_xla_goes_back_through_a_scan():
    values = [normal(2, 2, 3, 2, dtype="float64"), normal(3, 2, 3, dtype="float64")]

    def loss(inputs, total):
        return tf.reduce_sum(run(inputs, total, False)[0])

    def gradient(inputs, total):
        with tf.GradientTape() as tape:
            tape.watch([inputs, total])
            value = loss(inputs, total)
        return tape.gradient(value, [inputs, total])

    compiled = tf.function(gradient, jit_compile=True, autograph=False)
    for actual, expected in zip(compiled(*map(tf.constant, values)), gradients(loss, *values)[1], strict=True):
        close(actual, expected, 1e-10)
