"""A benchmark of training: what its numbers are made of, and a whole one on the toy language. No test asks how fast."""

import contextlib
import dataclasses
import itertools
import json
import types

import numpy as np
import pytest

from seq2seq.config.sections import Config
from seq2seq.diagnostics import train_benchmark as benchmark
from seq2seq.diagnostics.flops import Product, step_flops
from seq2seq.diagnostics.train_benchmark import (
    TimedStep,
    benchmark_training,
    large_products,
    part_milliseconds,
    summarised,
    timed_steps,
    token_counts,
    train_on,
    updates,
)
from seq2seq.errors import ConfigError
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.dataset import EncodedCorpus

PARTS = ("encoder", "features", "attention", "readout_and_loss", "gradients", "step")


def batch_of(source, target):
    return Batch(np.array(source, np.int32), np.array(target, np.int32), np.arange(len(source)))


# Of 4, 2 and 3 target tokens, padding not counted.
BATCHES = [
    batch_of([[5, 3, 0], [6, 7, 3]], [[8, 3, 0], [9, 3, 0]]),
    batch_of([[5, 3]], [[8, 3]]),
    batch_of([[5, 6, 7, 3]], [[8, 9, 3, 0, 0]]),
]


def test_padding_is_not_counted():
    assert [token_counts(batch.source_ids).tolist() for batch in BATCHES] == [[2, 3], [2], [4]]
    assert [int(token_counts(batch.target_ids).sum()) for batch in BATCHES] == [4, 2, 3]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def summary(model):
    """Three steps of 0.5, 0.25 and 1 seconds; a machine that multiplies 2 GFLOP a second; Keras at 1.5, 2 and 9 times
    the time of our step."""
    timed = [
        TimedStep(BATCHES[:1], 0.125, 0.375),
        TimedStep(BATCHES[1:2], 0.0, 0.25),
        TimedStep(BATCHES[2:], 0.25, 0.75),
    ]
    seconds = {name: np.array([0.5, 0.25, 1.0]) for name in PARTS}
    seconds["keras"] = np.array([0.75, 0.5, 9.0])
    products = {Product(1000, 1000, 1000): [1.0, 1.0, 8.0], Product(1, 1, 1): [1.0]}
    return summarised(model, timed, products, seconds, memory=250_000_000)


def test_tokens_a_second_are_medians_over_steps_and_their_waits(summary):
    assert summary.target_tokens_per_second == 8  # of 4 / 0.5, 2 / 0.25 and 3 / 1
    assert summary.source_tokens_per_second == 8  # of 5 / 0.5, 2 / 0.25 and 4 / 1
    assert summary.step_ms == 500
    assert summary.data_wait == pytest.approx(0.375 / 1.75)


def test_utilisation_is_the_steps_rate_over_the_machines(model, summary):
    flops = [sum(step_flops(model, *lengths)) for lengths in (([2, 3], [2, 2]), ([2], [2]), ([4], [3]))]
    rate = np.median(np.array(flops) / [0.5, 0.25, 1.0]) / 1e9
    assert summary.model_gflops == pytest.approx(np.median(flops) / 1e9)
    assert summary.model_gflops_per_second == pytest.approx(rate)
    assert (summary.matmul_gflops, summary.matmul_shape) == (2.0, (1000, 1000, 1000))
    assert summary.utilisation == pytest.approx(rate / 2.0)
    assert summary.utilisation == summary.model_gflops_per_second / summary.matmul_gflops


def test_without_keras_there_is_no_comparison(model):
    seconds = {name: np.array([0.5]) for name in PARTS}
    found = summarised(model, [TimedStep(BATCHES, 0.0, 0.5)], {Product(1, 1, 1): [1.0]}, seconds, memory=1)
    assert found.plain_keras is None


def test_a_step_of_several_batches_has_the_tokens_of_all(model):
    seconds = {name: np.array([0.5]) for name in PARTS}
    found = summarised(model, [TimedStep(BATCHES, 0.0, 0.5)], {Product(1, 1, 1): [1.0]}, seconds, memory=1)
    assert (found.target_tokens_per_second, found.source_tokens_per_second) == (18, 22)
    assert found.model_gflops == sum(step_flops(model, [2, 3, 2, 4], [2, 2, 2, 3])) / 1e9


def test_updates_are_grouped_within_an_epoch_and_never_end():
    ids = [[5, 3]] * 5
    batches = Batches(EncodedCorpus.from_lists(ids, ids), batch_tokens=4, prefetch=0)
    with contextlib.closing(updates(batches, 2)) as stream:
        groups = list(itertools.islice(stream, 7))
    assert [len(group) for group in groups] == [2, 2, 1, 2, 2, 1, 2]
    epoch = [index for group in groups[:3] for batch in group for index in batch.indices]
    assert sorted(epoch) == list(range(5))


def test_memory_parts_and_arithmetic_by_part(model, summary):
    assert summary.peak_memory_mb == 250
    seconds = {name: np.array([0.5, 0.25, 1.0]) for name in PARTS}
    assert summary.interleaved_step_ms == 500
    assert summary.parts == part_milliseconds(seconds, np.array([0.125, 0.0, 0.25]))
    lengths = [([2, 3], [2, 2]), ([2], [2]), ([4], [3])]
    encoder = sorted(step_flops(model, *one).encoder for one in lengths)[1]
    assert summary.part_gflops["encoder"] == pytest.approx(encoder / 1e9)
    assert list(summary.part_gflops) == ["encoder", "decoder", "attention", "readout_and_loss"]


def test_the_comparison_with_keras_is_step_by_step(summary):
    assert dataclasses.asdict(summary.plain_keras) == {
        "target_tokens_per_second": 4.0,  # of 4 / 0.75, 2 / 0.5 and 3 / 9
        "step_ms": 750.0,
        "speedup": 2.0,
    }


def test_the_machines_rate_is_measured_on_the_models_own_sizes(model):
    vocabulary = model.target_vocabulary_size
    assert large_products(model, 100) == [Product(100, 16, 48), Product(100, 16, 96), Product(100, 16, vocabulary)]


def test_products_are_timed_between_the_steps():
    order = []

    def step(source_ids, target_ids, rate, parts_before):
        order.append("step")
        return types.SimpleNamespace(loss=0.0)

    stream = ([BATCHES[number % 3]] for number in itertools.count())
    timed = timed_steps(step, stream, 0.1, 6, lambda: order.append("products"))
    assert order == ["products", *["step"] * 4, "products", *["step"] * 2]
    assert [one.batches for one in timed] == [[BATCHES[number % 3]] for number in range(6)]


def test_a_step_takes_its_batches_in_order():
    taken = []

    def step(source_ids, target_ids, rate, parts_before):
        taken.extend([*(source for source, _ in parts_before), source_ids])
        return types.SimpleNamespace(loss=rate * len(parts_before))

    assert train_on(step, 0.25, BATCHES) == 0.5
    assert [ids.tolist() for ids in taken] == [batch.source_ids.tolist() for batch in BATCHES]


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


def test_a_whole_benchmark(config, tmp_path, capsys):
    # More steps than an epoch has batches, so that a second epoch begins.
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
    assert stored["utilisation"] == stored["model_gflops_per_second"] / stored["matmul_gflops"]
    assert 0 <= stored["data_wait"] < 1
    assert list(stored["parts"]) == ["encoder", "decoder", "attention", "readout_and_loss", "optimiser", "data"]
    assert all(isinstance(value, float) for value in stored["parts"].values())
    assert min(stored["plain_keras"].values()) > 0
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [".cache"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "recurrent kernel: scan" in err
    assert "one step on each shape of the batches, not timed\ntiming 4 steps\ntiming the parts, and Keras\n" in err


def test_a_recipe_that_keras_cannot_say_is_refused_before_anything_is_read(toy_config):
    with pytest.raises(ConfigError, match=r"model\.context must be attention"):
        benchmark_training(toy_config(model__context="mean"), steps=1, against_keras=True)


def test_a_model_to_start_from_gives_its_tokenizer(config, toy_tokenizer, monkeypatch):
    class ReachedBatchesError(Exception):
        pass

    def create_batches(config, corpus, tokenizer, folder):
        raise ReachedBatchesError(tokenizer)

    start = types.SimpleNamespace(require_tokenizer=lambda: toy_tokenizer)
    monkeypatch.setattr(benchmark, "read_start", lambda config: start)
    monkeypatch.setattr(benchmark, "create_batches", create_batches)
    with pytest.raises(ReachedBatchesError) as reached:
        benchmark_training(config, steps=1)
    assert reached.value.args == (toy_tokenizer,)
