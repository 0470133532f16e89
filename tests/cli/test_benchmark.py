"""`seq2seq benchmark`: its calls, its tables and JSON, and its exit status."""

import dataclasses
import json
import sys
import types

import pytest

from seq2seq.cli.main import main
from seq2seq.diagnostics.results import DecodingBenchmark, PlainKerasSpeed, SearchSpeed, TrainingBenchmark

TRAINING = TrainingBenchmark(
    steps=50,
    compute_dtype="bfloat16",
    recurrent_kernel="scan",
    target_tokens_per_second=6200.4,
    source_tokens_per_second=5900.0,
    step_ms=250.0,
    data_wait=0.012,
    matmul_gflops=400.0,
    matmul_shape=(2048, 256, 8000),
    model_gflops=60.0,
    model_gflops_per_second=240.0,
    utilisation=0.6,
    peak_memory_mb=1234.0,
    parts={"readout_and_loss": 50.0, "data": 1.0},
    interleaved_step_ms=251.0,
    part_gflops={"readout_and_loss": 10.0},
    plain_keras=PlainKerasSpeed(target_tokens_per_second=3100.0, step_ms=500.0, speedup=2.0),
)
GREEDY = SearchSpeed(
    beam_size=1,
    sentences_per_second=1234.56,
    tokens_per_second=15000.0,
    latency_ms=12.34,
    latency_99_ms=20.0,
    model_gflops_per_second=100.0,
    utilisation=0.25,
)
DECODING = DecodingBenchmark(
    sentences=1000,
    latency_sentences=100,
    source_tokens=15000,
    compute_dtype="float32",
    import_seconds=4.0,
    load_seconds=1.5,
    first_translation_seconds=2.0,
    greedy=GREEDY,
    beam=dataclasses.replace(GREEDY, beam_size=5),
    matmul_gflops=400.0,
    matmul_shape=(1024, 256, 8000),
    peak_memory_mb=900.0,
)
RECIPE = "data/multi30k/recipe.yaml"


@pytest.fixture
def asked(monkeypatch):
    """Replace the benchmarks, and record their arguments."""
    seen = []

    def benchmark_training(config, steps, against_keras):
        seen.append((config.run.name, config.training.batch_tokens, steps, against_keras))
        return dataclasses.replace(TRAINING, plain_keras=TRAINING.plain_keras if against_keras else None)

    def benchmark_decoding(model, sources, *, rounds, latency_sentences, import_seconds, **options):
        assert import_seconds > 0
        seen.append((model, sources, rounds, latency_sentences, options))
        return DECODING

    monkeypatch.setattr("seq2seq.cli.benchmark.import_tensorflow", lambda: None)
    for name, function in {"train": benchmark_training, "decode": benchmark_decoding}.items():
        module = types.SimpleNamespace(**{function.__name__: function})
        monkeypatch.setitem(sys.modules, f"seq2seq.diagnostics.{name}_benchmark", module)
    return seen


def printed(capsys, *arguments):
    assert main(["benchmark", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def as_json(result):
    return json.loads(json.dumps(dataclasses.asdict(result)))


def test_table_of_training(asked, capsys):
    out = printed(capsys, "train", RECIPE, "--training.batch_tokens", "512", "--against", "keras")
    assert asked == [("multi30k", 512, 50, True)]
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "target tokens per second 6,200",
        "source tokens per second 5,900",
        "step 250.0 ms median of 50",
        "share of time waiting for data 1.2%",
        "rate of the machine 400.0 GFLOP/s bfloat16, (2048, 256, 8000)",
        "arithmetic of a step 60.0 GFLOP matrix products of valid tokens",
        "rate of the steps 240.0 GFLOP/s recurrent kernel: scan",
        "utilisation 60.0%",
        "peak memory 1,234 MB",
        "plain Keras: target tokens per second 3,100",
        "plain Keras: step 500.0 ms",
        "faster than plain Keras 2.00 times median over the same batches",
        "",
        "part, timed alone ms GFLOP utilisation",
        "readout and loss 50.0 10.0 50.0%",
        "data 1.0",
        "whole step, in turn with them 251.0",
    ]


def test_table_of_decoding(asked, capsys):
    out = printed(capsys, "decode", "model.keras")
    assert asked == [("model.keras", None, 3, 100, {"beam_size": 5})]
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "sentences 1,000 15,000 tokens",
        "start-up: import 4.0 s",
        "start-up: model 1.5 s",
        "start-up: first sentence 2.0 s",
        "rate of the machine 400.0 GFLOP/s float32, (1024, 256, 8000)",
        "peak memory 900 MB",
        "",
        "search sentences/s tokens/s latency, median 99 % GFLOP/s utilisation",
        "greedy 1,234.6 15,000 12.3 ms 20.0 ms 100.0 25.0%",
        "beam 5 1,234.6 15,000 12.3 ms 20.0 ms 100.0 25.0%",
    ]


def test_json_is_one_object(asked, capsys, tmp_path):
    out = printed(capsys, "train", RECIPE, "--steps", "7", "--json")
    assert json.loads(out) == as_json(dataclasses.replace(TRAINING, plain_keras=None))
    lines = tmp_path / "lines.txt"
    lines.write_text("a cat\na dog\n", encoding="utf-8")
    flags = ["--source", str(lines), "--rounds", "1", "--latency-sentences", "2", "--beam-size", "4", "--json"]
    assert json.loads(printed(capsys, "decode", "model.keras", *flags)) == as_json(DECODING)
    assert asked == [
        ("multi30k", 4096, 7, False),
        ("model.keras", ["a cat", "a dog"], 1, 2, {"beam_size": 4}),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", RECIPE, "--steps", "0"], "--steps must be at least 1, got 0."),
        (["train", RECIPE, "--against", "torch"], "Invalid value"),
        (["train", RECIPE, "--training.batch_token", "9"], "Did you mean --training.batch_tokens?"),
        (["trian", RECIPE], 'Unknown command "trian". Did you mean "train"?'),
        (["decode", "model.keras", "--rounds", "0"], "--rounds must be at least 1, got 0."),
        (["decode", "model.keras", "--latency-sentences", "0"], "--latency-sentences must be at least 1, got 0."),
        (["decode", "model.keras", "--beam-size", "1"], "--beam-size must be at least 2, got 1."),
    ],
)
def test_usage_errors(asked, arguments, words, capsys):
    assert main(["benchmark", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, asked) == ("", [])
    assert err.startswith("error: ")
    assert words in err


def test_help_shows_the_settings_of_a_recipe(capsys):
    assert main(["benchmark", "train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "seq2seq benchmark train" in out
    assert all(flag in out for flag in ("--steps", "--against", "--training.batch_tokens"))
