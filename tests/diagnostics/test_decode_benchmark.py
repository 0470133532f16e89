"""A benchmark of decoding: what its numbers are made of, and a whole one on the toy language. No test asks how fast."""

import dataclasses
import json

import numpy as np
import pytest

from seq2seq.config.sections import Config
from seq2seq.diagnostics import decode_benchmark
from seq2seq.diagnostics.decode_benchmark import SearchTimes, benchmark_decoding, search_speed
from seq2seq.diagnostics.flops import forward_flops
from seq2seq.errors import ConfigError
from seq2seq.models.archive import save
from seq2seq.models.results import Hypothesis


def hypothesis_of(tokens):
    return Hypothesis("", 0.0, 0.0, [5] * tokens, ["x"] * tokens, [0.0] * tokens)


def test_numbers_of_a_search(make_model):
    model = make_model()
    times = SearchTimes([0.5, 0.25, 9.0], [hypothesis_of(4), hypothesis_of(6)], [0.001, 0.002, 0.009])
    speed = search_speed(model, 5, [2, 3], times, matmul_gflops=0.5)
    assert (speed.beam_size, speed.sentences_per_second, speed.tokens_per_second) == (5, 4.0, 20.0)
    assert speed.latency_ms == pytest.approx(2.0)
    assert speed.latency_99_ms == pytest.approx(np.percentile([1, 2, 9], 99))
    rate = sum(forward_flops(model, [2, 3], [20, 30])) / 0.5 / 1e9
    assert speed.model_gflops_per_second == pytest.approx(rate)
    assert speed.utilisation == pytest.approx(rate / 0.5)


@pytest.fixture
def model_file(make_model, tmp_path):
    return str(save(make_model(), tmp_path / "model.keras"))


def test_a_whole_benchmark(model_file, toy_pairs, capsys, logged, monkeypatch):
    monkeypatch.setattr(decode_benchmark, "PRODUCT_REPEATS", 1)
    sources = [source for source, _ in toy_pairs[:6]]
    found = benchmark_decoding(
        model_file, [*sources, " "], beam_size=3, rounds=2, latency_sentences=2, import_seconds=1.5, max_length=4
    )
    stored = json.loads(json.dumps(dataclasses.asdict(found)))
    assert {name: stored.pop(name) for name in ("sentences", "latency_sentences", "import_seconds")} == {
        "sentences": 6,
        "latency_sentences": 2,
        "import_seconds": 1.5,
    }
    assert stored["source_tokens"] > 6
    assert [stored[name]["beam_size"] for name in ("greedy", "beam")] == [1, 3]
    for name in ("greedy", "beam"):
        assert min(stored[name].values()) > 0
        assert stored[name]["latency_99_ms"] >= stored[name]["latency_ms"]
        assert stored[name]["utilisation"] == stored[name]["model_gflops_per_second"] / stored["matmul_gflops"]
    assert min(stored[name] for name in ("load_seconds", "first_translation_seconds", "peak_memory_mb")) > 0
    assert capsys.readouterr().out == ""
    assert logged[-2:] == ["beam 3: 6 sentences in batches, 3 times", "beam 3: 2 sentences one by one"]


def with_recipe(model, recipe):
    copy = type(model).from_config(model.get_config() | {"recipe": recipe})
    copy.tokenizer = model.tokenizer
    return copy


@pytest.mark.parametrize(("test", "expected"), [("test", 4), (None, 3)])
def test_default_sentences_are_those_of_the_recipe(make_model, toy_pairs, tmp_path, monkeypatch, test, expected):
    monkeypatch.setattr(decode_benchmark, "PRODUCT_REPEATS", 1)
    for name, pairs in {"train": toy_pairs[:9], "dev": toy_pairs[9:12], "test": toy_pairs[12:16]}.items():
        for side, texts in zip(("en", "eo"), zip(*pairs, strict=True), strict=True):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    data = {"folder": str(tmp_path), "source": "en", "target": "eo", "test": test}
    model = with_recipe(make_model(), Config.from_dict({"data": data}).to_dict())
    path = save(model, tmp_path / "model.keras")
    assert benchmark_decoding(str(path), rounds=1, latency_sentences=1, max_length=2).sentences == expected


def test_without_sentences(model_file, make_model, tmp_path):
    with pytest.raises(ConfigError, match="source must hold a line that is not blank"):
        benchmark_decoding(model_file, [" "])
    with pytest.raises(ConfigError, match="--source must be given for a model without a recipe"):
        benchmark_decoding(str(save(with_recipe(make_model(), {}), tmp_path / "bare.keras")))
