"""`seq2seq benchmark`: what it asks for, what it prints, and its exit status."""

import dataclasses
import json
import sys
import types

import pytest

from seq2seq.cli.main import main


@dataclasses.dataclass(frozen=True)
class Keras:
    target_tokens_per_second: float = 3100.0
    step_ms: float = 500.0
    speedup: float = 2.0


@dataclasses.dataclass(frozen=True)
class Found:
    steps: int
    plain_keras: Keras | None
    compute_dtype: str = "bfloat16"
    recurrent_kernel: str = "scan"
    target_tokens_per_second: float = 6200.4
    source_tokens_per_second: float = 5900.0
    step_ms: float = 250.0
    data_wait: float = 0.012
    matmul_gflops: float = 400.0
    matmul_shape: tuple[int, int, int] = (2048, 256, 8000)
    model_gflops: float = 60.0
    model_gflops_per_second: float = 240.0
    utilisation: float = 0.6
    peak_memory_mb: float = 1234.0
    parts: dict = dataclasses.field(default_factory=lambda: {"readout_and_loss": 50.0, "data": 1.0})
    interleaved_step_ms: float = 251.0
    part_gflops: dict = dataclasses.field(default_factory=lambda: {"readout_and_loss": 10.0})


@pytest.fixture
def asked(monkeypatch):
    """The benchmarks that were asked for."""
    seen = []

    def benchmark_training(config, steps, against_keras):
        seen.append((config.run.name, config.training.batch_tokens, steps, against_keras))
        return Found(steps, Keras() if against_keras else None)

    monkeypatch.setattr("seq2seq.cli.benchmark.import_tensorflow", lambda: None)
    monkeypatch.setitem(
        sys.modules, "seq2seq.diagnostics.train_benchmark", types.SimpleNamespace(benchmark_training=benchmark_training)
    )
    return seen


RECIPE = "data/multi30k/recipe.yaml"


def test_table(asked, capsys):
    assert main(["benchmark", "train", RECIPE, "--training.batch_tokens", "512", "--against", "keras"]) == 0
    assert asked == [("multi30k", 512, 50, True)]
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "target tokens a second                       6,200\n"
        "source tokens a second                       5,900\n"
        "a step                                    250.0 ms  median of 50\n"
        "of it waiting for data                        1.2%\n"
        "arithmetic of a step                    60.0 GFLOP  matrix products of valid tokens\n"
        "its rate                             240.0 GFLOP/s  recurrent kernel: scan\n"
        "the machine's rate                   400.0 GFLOP/s  bfloat16, 2048 x 256 x 8000\n"
        "utilisation                                  60.0%\n"
        "most memory                               1,234 MB\n"
        "plain Keras: target tokens a second          3,100\n"
        "plain Keras: a step                       500.0 ms\n"
        "faster than plain Keras                 2.00 times  median over the same batches\n"
        "\n"
        "part, timed alone            ms  GFLOP  utilisation\n"
        "readout and loss           50.0   10.0        50.0%\n"
        "data                        1.0\n"
        "a whole step beside them  251.0\n"
    )


def test_json_is_one_object_and_nothing_else(asked, capsys):
    assert main(["benchmark", "train", RECIPE, "--steps", "7", "--json"]) == 0
    assert asked == [("multi30k", 4096, 7, False)]
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == json.loads(json.dumps(dataclasses.asdict(Found(7, None))))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", RECIPE, "--steps", "0"], "--steps must be at least 1, but is 0 instead."),
        (["train", RECIPE, "--against", "torch"], "Invalid value"),
        (["train", RECIPE, "--training.batch_token", "9"], "Did you mean --training.batch_tokens?"),
        (["trian", RECIPE], 'Unknown command "trian". Did you mean "train"?'),
    ],
)
def test_usage_errors(asked, arguments, words, capsys):
    assert main(["benchmark", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, asked) == ("", [])
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_help_shows_the_settings_of_a_recipe(capsys):
    assert main(["benchmark", "train", "--help"]) == 0
    out = capsys.readouterr().out
    assert "seq2seq benchmark train" in out
    assert all(flag in out for flag in ("--steps", "--against", "--training.batch_tokens"))


@dataclasses.dataclass(frozen=True)
class Speed:
    beam_size: int
    sentences_per_second: float = 1234.56
    tokens_per_second: float = 15000.0
    latency_ms: float = 12.34
    latency_99_ms: float = 20.0
    model_gflops_per_second: float = 100.0
    utilisation: float = 0.25


@dataclasses.dataclass(frozen=True)
class Decoded:
    greedy: Speed
    beam: Speed
    import_seconds: float = 4.0
    sentences: int = 1000
    latency_sentences: int = 100
    source_tokens: int = 15000
    compute_dtype: str = "float32"
    load_seconds: float = 1.5
    first_translation_seconds: float = 2.0
    matmul_gflops: float = 400.0
    matmul_shape: tuple[int, int, int] = (1024, 256, 8000)
    peak_memory_mb: float = 900.0


@pytest.fixture
def decoded(monkeypatch):
    """The benchmarks of decoding that were asked for."""
    seen = []

    def benchmark_decoding(model, sources, *, rounds, latency_sentences, import_seconds, **options):
        assert import_seconds > 0
        seen.append((model, sources, rounds, latency_sentences, options))
        return Decoded(Speed(1), Speed(options["beam_size"]))

    monkeypatch.setattr("seq2seq.cli.benchmark.import_tensorflow", lambda: None)
    monkeypatch.setitem(
        sys.modules,
        "seq2seq.diagnostics.decode_benchmark",
        types.SimpleNamespace(benchmark_decoding=benchmark_decoding),
    )
    return seen


def test_table_of_decoding(decoded, capsys):
    assert main(["benchmark", "decode", "model.keras"]) == 0
    assert decoded == [("model.keras", None, 3, 100, {"beam_size": 5})]
    out, err = capsys.readouterr()
    assert err == ""
    assert out == (
        "sentences                   1,000  15,000 tokens\n"
        "start-up                    7.5 s  import 4.0, model 1.5, first sentence 2.0\n"
        "the machine's rate  400.0 GFLOP/s  float32, 1024 x 256 x 8000\n"
        "most memory                900 MB\n"
        "\n"
        "search  sentences/s  tokens/s  GFLOP/s  utilisation  alone, median     99 %\n"
        "greedy      1,234.6    15,000    100.0        25.0%        12.3 ms  20.0 ms\n"
        "beam 5      1,234.6    15,000    100.0        25.0%        12.3 ms  20.0 ms\n"
    )


def test_json_of_decoding_is_one_object(decoded, capsys, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text("a cat\na dog\n", encoding="utf-8")
    flags = ["--source", str(lines), "--rounds", "1", "--latency-sentences", "2", "--beam-size", "4", "--json"]
    assert main(["benchmark", "decode", "model.keras", *flags]) == 0
    assert decoded == [("model.keras", ["a cat", "a dog"], 1, 2, {"beam_size": 4})]
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == json.loads(json.dumps(dataclasses.asdict(Decoded(Speed(1), Speed(4)))))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, but is 0 instead."),
        (["--latency-sentences", "0"], "--latency-sentences must be at least 1, but is 0 instead."),
        (["--beam-size", "1"], "--beam-size must be at least 2, but is 1 instead."),
    ],
)
def test_usage_errors_of_decoding(decoded, arguments, words, capsys):
    assert main(["benchmark", "decode", "model.keras", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, decoded) == ("", [])
    assert words in err
