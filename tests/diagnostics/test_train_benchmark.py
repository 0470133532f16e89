"""A benchmark of training: what its numbers are made of, and a whole one on the toy language. No test asks how fast."""

import contextlib
import dataclasses
import itertools
import json
import types

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics import train_benchmark
from seq2seq.diagnostics.flops import Product, step_flops
from seq2seq.diagnostics.train_benchmark import (
    StepProfiler,
    TimedStep,
    benchmark_training,
    interleaved_seconds,
    part_milliseconds,
    summarized,
    timed_steps,
    train_on,
    updates,
)
from seq2seq.errors import ConfigError
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.dataset import EncodedCorpus

PARTS = ["encoder", "attention", "features", "readout_and_loss", "gradients"]


def batch_of(source, target):
    return Batch(np.array(source, np.int32), np.array(target, np.int32), np.arange(len(source)))


# With 5, 2 and 4 source tokens, and 4, 2 and 3 target tokens; padding does not count.
BATCHES = [
    batch_of([[5, 3, 0], [6, 7, 3]], [[8, 3, 0], [9, 3, 0]]),
    batch_of([[5, 3]], [[8, 3]]),
    batch_of([[5, 6, 7, 3]], [[8, 9, 3, 0, 0]]),
]
LENGTHS = [([2, 3], [2, 2]), ([2], [2]), ([4], [3])]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def summary(model):
    """Three steps of 0.5, 0.25 and 1 seconds on a machine of 2 GFLOP/s, and Keras at 1.5, 2 and 9 times their time."""
    timed = [
        TimedStep(BATCHES[:1], 0.125, 0.375),
        TimedStep(BATCHES[1:2], 0.0, 0.25),
        TimedStep(BATCHES[2:], 0.25, 0.75),
    ]
    seconds = {name: np.array([0.5, 0.25, 1.0]) for name in [*PARTS, "step"]}
    seconds["keras"] = np.array([0.75, 0.5, 9.0])
    products = {Product(1000, 1000, 1000): [1.0, 1.0, 8.0], Product(1, 1, 1): [1.0]}
    return summarized(model, timed, products, seconds, memory=250_000_000)


def test_medians_over_steps_and_their_waits(summary):
    assert summary.target_tokens_per_second == 8  # of 4 / 0.5, 2 / 0.25 and 3 / 1
    assert summary.source_tokens_per_second == 8  # of 5 / 0.5, 2 / 0.25 and 4 / 1
    assert (summary.steps, summary.step_ms, summary.interleaved_step_ms) == (3, 500, 500)
    assert summary.data_wait == pytest.approx(0.375 / 1.75)
    assert summary.peak_memory_mb == 250


def test_utilisation_is_the_rate_of_steps_over_the_machines(model, summary):
    flops = [step_flops(model, *lengths) for lengths in LENGTHS]
    sums = np.array([sum(one) for one in flops])
    rate = np.median(sums / [0.5, 0.25, 1.0]) / 1e9
    assert summary.model_gflops == pytest.approx(np.median(sums) / 1e9)
    assert summary.model_gflops_per_second == pytest.approx(rate)
    assert (summary.matmul_gflops, summary.matmul_shape) == (2.0, (1000, 1000, 1000))
    assert summary.utilisation == pytest.approx(rate / 2.0)
    assert list(summary.part_gflops) == ["encoder", "decoder", "attention", "readout_and_loss"]
    assert summary.part_gflops["encoder"] == pytest.approx(sorted(one.encoder for one in flops)[1] / 1e9)


def test_keras_is_compared_step_by_step(summary):
    assert dataclasses.asdict(summary.plain_keras) == {
        "target_tokens_per_second": 4.0,  # of 4 / 0.75, 2 / 0.5 and 3 / 9
        "step_ms": 750.0,
        "speedup": 2.0,
    }


def test_a_step_of_several_batches_without_keras(model):
    seconds = {name: np.array([0.5]) for name in [*PARTS, "step"]}
    found = summarized(model, [TimedStep(BATCHES, 0.0, 0.5)], {Product(1, 1, 1): [1.0]}, seconds, memory=1)
    assert (found.target_tokens_per_second, found.source_tokens_per_second) == (18, 22)
    assert found.model_gflops == sum(step_flops(model, [2, 3, 2, 4], [2, 2, 2, 3])) / 1e9
    assert found.plain_keras is None


def test_differences_of_parts_are_taken_step_by_step():
    seconds = {name: np.array([1.0, 2.0, 30.0]) for name in PARTS}
    seconds |= {"features": np.array([1.5, 2.25, 40.0]), "step": np.array([1.125, 2.5, 30.25])}
    assert part_milliseconds(seconds, waiting=np.array([0.0, 0.5, 0.25])) == {
        "encoder": 2000, "decoder": 500, "attention": 2000, "readout_and_loss": 2000, "optimiser": 250, "data": 250,
    }  # fmt: skip


def test_updates_are_grouped_within_an_epoch_and_never_end():
    ids = [[5, 3]] * 5
    batches = Batches(EncodedCorpus.from_lists(ids, ids), batch_tokens=4, prefetch=0)
    with contextlib.closing(updates(batches, 2)) as stream:
        groups = list(itertools.islice(stream, 7))
    assert [len(group) for group in groups] == [2, 2, 1, 2, 2, 1, 2]
    epoch = [index for group in groups[:3] for batch in group for index in batch.indices]
    assert sorted(epoch) == list(range(5))


def test_products_are_timed_between_the_steps():
    order = []

    def step(batches, rate):
        order.append("step")
        return types.SimpleNamespace(loss=0.0)

    stream = ([BATCHES[number % 3]] for number in itertools.count())
    timed = timed_steps(step, stream, 0.1, 6, lambda: order.append("products"))
    assert order == ["products", *["step"] * 4, "products", *["step"] * 2]
    assert [one.batches for one in timed] == [[BATCHES[number % 3]] for number in range(6)]


def test_a_step_takes_its_batches_in_order():
    taken = []

    def step(batches, rate):
        taken.extend(batches)
        return types.SimpleNamespace(loss=rate * len(batches))

    assert train_on(step, 0.25, BATCHES) == 0.25 * len(BATCHES)
    assert taken == BATCHES


def test_functions_are_interleaved():
    seen = []

    def functions_on(batches):
        width = batches[0].source_ids.shape[1]
        return {name: lambda name=name: seen.append((width, name)) for name in ("ours", "theirs")}

    steps = [[batch_of(np.ones((2, width)), np.ones((2, 4)))] for width in (5, 6, 5)]
    seconds = interleaved_seconds(steps, functions_on)
    five, six = ([(width, "ours"), (width, "theirs")] for width in (5, 6))
    # Each shape runs once before the first timed step.
    assert seen == five + six + five + six + five
    assert {name: len(times) for name, times in seconds.items()} == {"ours": 3, "theirs": 3}


def ancestors(tensors):
    """Find all operations that some tensors are made from."""
    found, waiting = set(), [tensor.op for tensor in tensors]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
    return found


BETWEEN = {"model__decoder__num_layers": 2, "model__decoder__attention_position": "between"}


@pytest.mark.parametrize(
    ("workers", "changes"),
    [
        (1, {**BETWEEN, "model__tie_embeddings": "all"}),
        (2, {"model__context": "max", "model__context_inputs": ["state", "input"]}),
    ],
)
def test_every_part_runs_forward_and_back(make_model, monkeypatch, workers, changes):
    model = make_model(model__encoder__cell="rnn", model__decoder__cell="rnn", **changes)
    taken = []

    class Tape(tf.GradientTape):
        def gradient(self, target, sources, output_gradients=None):
            gradients = super().gradient(target, sources, output_gradients=output_gradients)
            taken.append([gradient for gradient in gradients if gradient is not None])
            return gradients

    monkeypatch.setattr(train_benchmark.tf, "GradientTape", Tape)
    profiler = StepProfiler(model, workers)
    batch = batch_of([[4, 5, 3], [6, 3, 0]], [[7, 3], [8, 3]])
    functions = profiler.on([batch, batch])
    assert list(functions) == PARTS
    assert all(np.isfinite(function()) for function in functions.values())
    attends = "model__context" not in changes
    # The decoder's gradients: all of its own but those of the output, and the memory. A tied output is its embedding.
    features = len(model.decoder.trainable_variables) - (1 if attends else 2) + workers
    expected = [
        1 + len(model.encoder.trainable_variables),
        (2 if attends else 1) * workers,
        features,
        2 + workers,
        len(model.trainable_variables),
    ]
    # One list each: compiled once, for both batches.
    assert [len(gradients) for gradients in taken] == expected
    # TensorFlow would not run what the result does not need.
    for name, gradients in zip(PARTS, taken, strict=True):
        needed = ancestors(profiler._graphs[name].get_concrete_function().graph.outputs)
        assert all(getattr(gradient, "values", gradient).op in needed for gradient in gradients)


@pytest.fixture
def config(tmp_path, toy_pairs, toy_config):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, pairs in {"train": toy_pairs[:120], "dev": toy_pairs[120:140]}.items():
        for side, texts in zip(("en", "eo"), zip(*pairs, strict=True), strict=True):
            (folder / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    settings = toy_config(model__encoder__cell="rnn", model__decoder__cell="rnn").to_dict()
    settings["data"] |= {"folder": str(folder), "source": "en", "target": "eo", "test": None}
    settings["run"] |= {"folder": str(tmp_path / "checkpoints"), "name": "toy"}
    return Config.from_dict(settings)


def test_a_whole_benchmark(config, tmp_path, capsys, logged):
    # With more steps than an epoch has batches, a second epoch begins.
    found = benchmark_training(config, steps=4, against_keras=True)
    stored = json.loads(json.dumps(dataclasses.asdict(found)))
    assert {name: type(value) for name, value in stored.items()} == {
        "steps": int,
        "compute_dtype": str,
        "recurrent_kernel": str,
        "target_tokens_per_second": float,
        "source_tokens_per_second": float,
        "step_ms": float,
        "data_wait": float,
        "matmul_gflops": float,
        "matmul_shape": list,
        "model_gflops": float,
        "model_gflops_per_second": float,
        "utilisation": float,
        "peak_memory_mb": float,
        "parts": dict,
        "interleaved_step_ms": float,
        "part_gflops": dict,
        "plain_keras": dict,
    }
    assert stored["steps"] == 4
    assert (stored["compute_dtype"], stored["recurrent_kernel"]) == ("float32", "scan")
    assert 0 <= stored["data_wait"] < 1
    assert list(stored["parts"]) == ["encoder", "decoder", "attention", "readout_and_loss", "optimiser", "data"]
    assert min(stored["plain_keras"].values()) > 0
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".cache"]
    assert capsys.readouterr().out == ""
    assert any("recurrent kernel: scan" in line for line in logged)
    assert logged[-3:] == [
        "one step on each shape of the batches, not timed", "timing 4 steps", "timing the parts, and Keras"
    ]  # fmt: skip


def test_unsupported_recipes_are_refused_before_work(toy_config):
    with pytest.raises(ConfigError, match=r"model\.context must be attention"):
        benchmark_training(toy_config(model__context="mean"), steps=1, against_keras=True)
    with pytest.raises(ConfigError, match=r"task must be translate or summarize"):
        benchmark_training(toy_config(task="tag", model__context="last"), steps=1)


def test_a_model_to_start_from_gives_its_tokenizer(config, toy_tokenizer, monkeypatch):
    class ReachedBatchesError(Exception):
        pass

    def create_batches(config, corpus, tokenizer):
        raise ReachedBatchesError(tokenizer)

    start = types.SimpleNamespace(require_tokenizer=lambda: toy_tokenizer)
    monkeypatch.setattr(train_benchmark, "read_start", lambda config: start)
    monkeypatch.setattr(train_benchmark, "create_batches", create_batches)
    with pytest.raises(ReachedBatchesError) as reached:
        benchmark_training(config, steps=1)
    assert reached.value.args == (toy_tokenizer,)
