"""The scale of the loss in float16: a plain loop says when it changes, and float32 what a step must be all the same."""

import math
import random

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.training import checkpoints
from seq2seq.training import optimizers as loss_scale
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.optimizers import START, LossScale


def test_changes_as_a_plain_loop_says(monkeypatch):
    monkeypatch.setattr(loss_scale, "GOOD_STEPS", 3)
    scale, draw = LossScale(), random.Random(0)
    expected, good = 2.0**15, 0
    seen = set()
    for number in range(300):
        # Much overflows at first, until the scale can fall no more, and little later.
        finite_gradient = draw.random() < (0.3 if number < 60 else 0.85)
        finite_loss = draw.random() < 0.9
        if finite_loss and finite_gradient:
            good += 1
            if good == 3:
                expected, good = 2 * expected, 0
        elif finite_loss:
            expected, good = max(expected / 2, 1.0), 0
        scale.adapt(tf.constant(finite_loss), tf.constant(finite_gradient))
        assert float(scale.value) == expected
        seen.add(expected)
    assert min(seen) == 1.0
    assert max(seen) > 2.0**15


@pytest.fixture(scope="module")
def compiled(make_step):
    """A step in float16 whose loss can be multiplied by a number."""
    step = make_step(dtype="mixed_float16", clip_norm=0.0, ema=0.4)
    step.factor = tf.Variable(1.0)
    plain = step.model.loss_and_tokens

    def loss_and_tokens(inputs, training):
        loss, tokens = plain(inputs, training=training)
        return step.factor * loss, tokens

    step.model.loss_and_tokens = loss_and_tokens
    return step, [variable.numpy() for variable in numbers(step)]


def numbers(step):
    return [*checkpoints.variables(step), *step.loss_scale.variables]


@pytest.fixture
def step(compiled):
    """The same as it was at first: compiling it takes longer than all that it does here."""
    step, start = compiled
    for variable, value in zip(numbers(step), start, strict=True):
        variable.assign(value)
    step.factor.assign(1.0)
    return step


def gradients_in_float32(step, batch):
    """By autodiff through the model in which the moving average lives; at the start it has the same weights."""
    variables = step.averaged.trainable_variables
    with tf.GradientTape() as tape:
        inputs = dict(zip(("source_ids", "target_ids"), batch, strict=True))
        loss, tokens = step.averaged.loss_and_tokens(inputs, training=True)
        mean = loss / tokens
    return [np.array(tf.convert_to_tensor(each)) for each in tape.gradient(mean, [v.value for v in variables])]


def error_of_gradients(step, expected):
    """How far a first step's gradients are off, in lengths; Adam's first moment is then a tenth of them."""
    found = np.concatenate([10 * moment.numpy().ravel() for moment in step.optimizer._momentums])
    expected = np.concatenate([gradient.ravel() for gradient in expected])
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(("scale", "survives"), [(START, True), (1.0, False)])
def test_keeps_gradients_that_float16_would_lose(step, toy_batches, scale, survives):
    expected = gradients_in_float32(step, toy_batches[0])
    step.factor.assign(2.0**-20)
    step.loss_scale.value.assign(scale)
    result = step(*toy_batches[0], 0.01)
    assert float(result.loss_scale) == scale
    assert result.is_finite
    error = error_of_gradients(step, [2.0**-20 * gradient for gradient in expected])
    assert (error < 0.01) == survives, error
    assert {variable.dtype for variable in step.model.trainable_variables} == {"float32"}


@pytest.mark.parametrize("in_parts", [False, True])
def test_falls_until_the_gradients_fit_and_changes_nothing_else_till_then(step, toy_batches, in_parts):
    source_ids, target_ids = toy_batches[0]
    parts = [(source_ids[:3], target_ids[:3]), (source_ids[3:], target_ids[3:])] if in_parts else [toy_batches[0]]
    expected = gradients_in_float32(step, toy_batches[0])
    before = [variable.numpy() for variable in checkpoints.variables(step)]
    scale = 2.0**26
    step.loss_scale.value.assign(scale)
    while not (result := step(*parts[-1], 0.01, parts[:-1])).is_finite:
        assert result.has_overflowed
        assert math.isfinite(result.loss)
        assert float(result.loss_scale) == scale
        scale /= 2
        assert float(step.loss_scale.value) == scale
        for variable, value in zip(checkpoints.variables(step), before, strict=True):
            np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert START <= scale < 2.0**26
    assert not result.has_overflowed
    assert float(step.loss_scale.value) == scale
    assert int(step.optimizer.iterations) == 1
    assert error_of_gradients(step, expected) < 0.01


def test_is_not_to_blame_for_a_loss_that_is_no_number(step, toy_batches):
    step.factor.assign(math.nan)
    result = step(*toy_batches[0], 0.01)
    assert not result.is_finite
    assert not result.has_overflowed
    assert float(step.loss_scale.value) == START


def test_at_its_lowest_is_not_to_blame_for_a_gradient_either(step, toy_batches):
    step.factor.assign(1e30)
    step.loss_scale.value.assign(2.0)
    assert step(*toy_batches[0], 0.01).has_overflowed
    for _ in range(2):
        result = step(*toy_batches[0], 0.01)
        assert math.isfinite(result.loss)
        assert not result.is_finite
        assert not result.has_overflowed
        assert float(step.loss_scale.value) == 1.0


def test_goes_on_from_a_state_bit_by_bit(step, toy_batches, tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    step.loss_scale.value.assign(2.0**40)
    assert step(*toy_batches[0], 0.01).has_overflowed
    step.loss_scale.value.assign(2.0**14)
    for batch in toy_batches:
        step(*batch, 0.01)
    assert [float(variable) for variable in step.loss_scale.variables] == [2.0**14, 3.0]
    kept.save(step, {"best_model": None})

    def go_on():
        results = [[float(number) for number in step(*batch, 0.02)] for batch in toy_batches]
        return results, [variable.numpy() for variable in numbers(step)]

    results, right = go_on()
    kept.load(step, pytest.fail)
    again, found = go_on()
    assert again == results
    for variable, value in zip(found, right, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_is_float16s_alone_and_states_go_from_one_precision_to_another(step, make_step, toy_batches, tmp_path):
    other = make_step(dtype="mixed_bfloat16", clip_norm=0.0, ema=0.4)
    assert other.loss_scale is None
    step(*toy_batches[0], 0.01)
    step.loss_scale.value.assign(8.0)
    for number, (one, another) in enumerate([(step, other), (other, step)]):
        kept = Checkpoints(tmp_path / str(number))
        kept.save(one, {"best_model": None})
        kept.load(another, pytest.fail)
        for variable, value in zip(checkpoints.variables(another), checkpoints.variables(one), strict=True):
            np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert float(step.loss_scale.value) == 8.0
