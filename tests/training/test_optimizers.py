"""Weight decay, learning rates known by hand, the loss scale of float16, and precision on different machines."""

import math
import pathlib
import random

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.config.sections import TrainingConfig
from seq2seq.text.batching import Batch
from seq2seq.training import checkpoints, optimizers
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.fine_tuning import named_weights
from seq2seq.training.optimizers import (
    FIRST_LOSS_SCALE,
    LossScale,
    choose_precision,
    create_optimizer,
    decayed_variables,
    learning_rate,
)


class TestDecay:
    BIASES = frozenset({
        "encoder/forward_0/cell/bias", "encoder/backward_0/cell/bias", "decoder/recurrent_0/cell/bias",
        "decoder/bridge_0_0/bias", "decoder/readout/bias", "decoder/readout/output_bias",
    })  # fmt: skip
    TABLE = "decoder/embedding/embeddings"

    @pytest.mark.parametrize(
        ("tie_embeddings", "tables"), [("all", {TABLE}), ("none", {TABLE, "source_embedding/embeddings"})]
    )
    def test_not_of_biases_and_embeddings(self, make_model, tie_embeddings, tables):
        model = make_model(model__tie_embeddings=tie_embeddings)
        decayed = {id(variable) for variable in decayed_variables(model)}
        spared = {name for name, variable in named_weights(model).items() if id(variable) not in decayed}
        assert spared == self.BIASES | tables

    def test_adamw_decays_by_its_rate(self, make_model):
        model = make_model()
        optimizer = create_optimizer(TrainingConfig(optimizer="adamw", learning_rate=0.25, weight_decay=0.1), model)
        optimizer.build(model.trainable_variables)
        before = {variable.path: variable.numpy() for variable in model.trainable_variables}
        # Where all gradients are zero, nothing but the decay moves a weight.
        optimizer.apply([np.zeros(variable.shape, "float32") for variable in model.trainable_variables])
        decayed = {variable.path for variable in decayed_variables(model)}
        for variable in model.trainable_variables:
            right = before[variable.path] * (1 - 0.25 * 0.1 if variable.path in decayed else 1)
            np.testing.assert_allclose(variable, right, rtol=1e-6, err_msg=variable.path)
        assert any(np.abs(before[path]).max() > 0.1 for path in decayed)


class TestLearningRate:
    SCHEDULES = pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_square_root", "plateau"])

    @staticmethod
    def rates(steps, schedule, total_steps=24, reductions=0, **changes):
        settings = TrainingConfig(schedule=schedule, **({"learning_rate": 0.8, "warmup_steps": 4} | changes))
        return [learning_rate(settings, step, total_steps, reductions) for step in steps]

    @SCHEDULES
    def test_linear_warm_up(self, schedule):
        assert self.rates(range(5), schedule) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])

    def test_constant(self):
        assert self.rates([4, 100, 10_000], "constant") == [0.8, 0.8, 0.8]

    def test_cosine(self):
        # A quarter, half and three quarters of the way, the end, and beyond it.
        half_root = math.sqrt(0.5)
        shares = [(1 + half_root) / 2, 0.5, (1 - half_root) / 2, 0.0, 0.0]
        expected = [0.8 * (0.02 + 0.98 * share) for share in shares]
        assert self.rates([9, 14, 19, 24, 30], "cosine") == pytest.approx(expected)
        assert self.rates([9, 10, 11], "cosine", 5, warmup_steps=10) == pytest.approx([0.8, 0.8, 0.016])

    def test_plateau(self):
        assert self.rates([4, 10_000], "plateau") == [0.8, 0.8]
        lowered = self.rates([4, 10_000], "plateau", plateau_factor=0.1, reductions=2)
        assert lowered == pytest.approx([0.008, 0.008])
        # The warm-up is not lowered.
        assert self.rates([1], "plateau", reductions=1) == self.rates([1], "constant")

    def test_inverse_square_root(self):
        assert self.rates([4, 16, 64, 400], "inverse_square_root") == pytest.approx([0.8, 0.4, 0.2, 0.08])


class TestLossScale:
    def test_as_in_a_plain_loop(self, monkeypatch):
        monkeypatch.setattr(optimizers, "UPDATES_PER_DOUBLING", 3)
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

    @pytest.fixture(scope="class")
    @staticmethod
    def compiled(make_step):
        """Make a step in float16 whose loss can be multiplied by a number."""
        step = make_step(dtype="mixed_float16", clip_norm=0.0, ema=0.4)
        step.factor = tf.Variable(1.0)
        plain = step.model.loss_and_tokens

        def loss_and_tokens(inputs, training):
            loss, tokens = plain(inputs, training=training)
            return step.factor * loss, tokens

        step.model.loss_and_tokens = loss_and_tokens
        return step, [variable.numpy() for variable in numbers(step)]

    @pytest.fixture
    def step(self, compiled):
        """Reset the step, since compiling it takes longer than all that it does here."""
        step, start = compiled
        for variable, value in zip(numbers(step), start, strict=True):
            variable.assign(value)
        step.factor.assign(1.0)
        return step

    @pytest.mark.parametrize(("scale", "survives"), [(FIRST_LOSS_SCALE, True), (1.0, False)])
    def test_keeps_gradients_that_float16_would_lose(self, step, toy_batches, scale, survives):
        expected = gradients_in_float32(step, toy_batches[0])
        step.factor.assign(2.0**-20)
        step.loss_scale.value.assign(scale)
        result = step(toy_batches[:1], 0.01)
        assert float(result.loss_scale) == scale
        assert result.is_finite
        error = error_of_gradients(step, [2.0**-20 * gradient for gradient in expected])
        assert (error < 0.01) == survives, error
        assert {variable.dtype for variable in step.model.trainable_variables} == {"float32"}

    @pytest.mark.parametrize("cuts", [[slice(None)], [slice(0, 3), slice(3, 16)]])
    def test_falls_until_the_gradients_fit_and_changes_nothing_else(self, step, toy_batches, cuts):
        parts = [Batch(*(part[rows] for part in toy_batches[0])) for rows in cuts]
        expected = gradients_in_float32(step, toy_batches[0])
        before = [variable.numpy() for variable in checkpoints.variables(step)]
        scale = 2.0**26
        step.loss_scale.value.assign(scale)
        while not (result := step(parts, 0.01)).is_finite:
            assert result.has_overflowed
            assert math.isfinite(result.loss)
            assert float(result.loss_scale) == scale
            scale /= 2
            assert float(step.loss_scale.value) == scale
            for variable, value in zip(checkpoints.variables(step), before, strict=True):
                np.testing.assert_array_equal(variable, value, err_msg=variable.path)
        assert FIRST_LOSS_SCALE <= scale < 2.0**26
        assert not result.has_overflowed
        assert float(step.loss_scale.value) == scale
        assert int(step.optimizer.iterations) == 1
        assert error_of_gradients(step, expected) < 0.01

    def test_at_its_lowest_is_not_the_cause(self, step, toy_batches):
        step.factor.assign(1e30)
        step.loss_scale.value.assign(2.0)
        assert step(toy_batches[:1], 0.01).has_overflowed
        result = step(toy_batches[:1], 0.01)
        assert math.isfinite(result.loss)
        assert not result.is_finite
        assert not result.has_overflowed
        assert float(step.loss_scale.value) == 1.0

    def test_resumed_bit_by_bit(self, step, toy_batches, tmp_path):
        kept = Checkpoints(tmp_path)
        step.loss_scale.value.assign(2.0**40)
        assert step(toy_batches[:1], 0.01).has_overflowed
        step.loss_scale.value.assign(2.0**14)
        for batch in toy_batches:
            step([batch], 0.01)
        assert [float(variable) for variable in step.loss_scale.variables] == [2.0**14, 3.0]
        kept.save(step, {"best_model": None})

        def go_on():
            results = [[float(number) for number in step([batch], 0.02)] for batch in toy_batches]
            return results, [variable.numpy() for variable in numbers(step)]

        results, right = go_on()
        kept.load(step)
        again, found = go_on()
        assert again == results
        for variable, value in zip(found, right, strict=True):
            np.testing.assert_array_equal(variable, value)

    def test_states_of_one_precision_load_in_another(self, step, make_step, toy_batches, tmp_path):
        other = make_step(dtype="mixed_bfloat16", clip_norm=0.0, ema=0.4)
        assert other.loss_scale is None
        step(toy_batches[:1], 0.01)
        step.loss_scale.value.assign(8.0)
        for number, (one, another) in enumerate([(step, other), (other, step)]):
            kept = Checkpoints(tmp_path / str(number))
            kept.save(one, {"best_model": None})
            kept.load(another)
            for variable, value in zip(checkpoints.variables(another), checkpoints.variables(one), strict=True):
                np.testing.assert_array_equal(variable, value, err_msg=variable.path)
        assert float(step.loss_scale.value) == 8.0


def numbers(step):
    return [*checkpoints.variables(step), *step.loss_scale.variables]


def gradients_in_float32(step, batch):
    """Differentiate through the model of the moving average, which has the same weights at the start."""
    variables = step.averaged.trainable_variables
    with tf.GradientTape() as tape:
        inputs = {"source_ids": batch.source_ids, "target_ids": batch.target_ids}
        loss, tokens = step.averaged.loss_and_tokens(inputs, training=True)
        mean = loss / tokens
    return [np.array(tf.convert_to_tensor(each)) for each in tape.gradient(mean, [v.value for v in variables])]


def error_of_gradients(step, expected):
    """Return the relative error of a first step's gradients, of which Adam's first moment is a tenth."""
    found = np.concatenate([10 * moment.numpy().ravel() for moment in step.optimizer._momentums])
    expected = np.concatenate([gradient.ravel() for gradient in expected])
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


class TestPrecision:
    @pytest.fixture
    def on_processor(self, monkeypatch, tmp_path):
        """Give a function that sets the lines of /proc/cpuinfo of a machine without a GPU."""

        def set_up(*lines):
            file = tmp_path / "cpuinfo"
            if lines:
                file.write_text("\n".join(lines))
            monkeypatch.setattr(pathlib, "Path", lambda path: {"/proc/cpuinfo": file}[path])
            monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])

        return set_up

    @pytest.mark.parametrize(
        ("line", "name", "reason"),
        [
            ("flags\t\t: fpu avx512f avx512_bf16 avx512_fp16", "bfloat16", "has avx512_bf16"),
            ("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile", "bfloat16", "has amx_bf16"),
            ("Features\t: fp asimd bf16 i8mm", "bfloat16", "has bf16"),
            ("flags\t\t: fpu not_avx512_bf16", "float32", "no instructions"),
            ("model name\t: avx512_bf16", "float32", "no instructions"),
            (None, "float32", "nothing tells"),
        ],
    )
    def test_auto_reads_the_processor(self, on_processor, line, name, reason):
        on_processor(*(["processor\t: 0", line, "bugs\t\t: bf16"] if line else []))
        precision = choose_precision("auto")
        assert precision.name == name
        assert reason in precision.reason

    @pytest.mark.parametrize(
        ("capability", "name"), [((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32"), (None, "float32")]
    )
    def test_auto_reads_the_gpu(self, monkeypatch, capability, name):
        details = {"compute_capability": capability} if capability else {}
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
        assert choose_precision("auto").name == name

    @pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
    def test_what_is_asked_for_is_taken(self, on_processor, asked):
        on_processor("flags : fpu")
        precision = choose_precision(asked)
        assert precision == (asked, "training.precision says so")
        assert precision.policy == (asked if asked == "float32" else f"mixed_{asked}")
