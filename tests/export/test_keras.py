"""Model files of 8 bits per weight: rounded as a loop rounds, read as any model file, and much smaller."""

import pathlib

import keras
import numpy as np
import pytest

from seq2seq.cli.main import main
from seq2seq.errors import ConfigError
from seq2seq.export import exporting, keras_files
from seq2seq.models.archive import load, save
from tests.export.make_golden import golden_model

GOLDEN = pathlib.Path(__file__).with_name("golden_1_int8.keras")
"""The model that `make_golden` makes with larger layers."""

SENTENCES = ["the cat sees the dog", "the big king"]


@pytest.fixture(scope="module")
def model(make_model):
    """Make a model with channels large enough for a scale, and weights of all sizes."""
    sizes = {"model__embedding_size": 16, "model__encoder__units": 16, "model__decoder__units": 32}
    model = make_model(model__tie_embeddings="all", decoding__max_length=5, decoding__beam_size=1, **sizes)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) * random.uniform(0, 3) for weight in model.get_weights()])
    model.set_weights([np.where(random.random(weight.shape) < 0.1, 0, weight) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras") / "small.keras"
    keras_files.write_keras(model, path)
    return path


def rounded(matrix, axis):
    """Round each channel to the finest power of two that 127 and a half of hold all its numbers."""
    channels = np.moveaxis(matrix.astype(np.float64), axis, 0)
    results = np.zeros_like(channels)
    for place, channel in enumerate(channels):
        largest, scale = np.abs(channel).max(), 2.0**40
        while largest and largest / scale < 64:
            scale /= 2
        results[place] = np.clip(np.round(channel / scale), -127, 127) * scale
    return np.moveaxis(results, 0, axis)


@pytest.mark.parametrize(("which", "matrices"), [("new", 9), ("golden", 14)])
def test_matrices_are_rounded_by_channel(model, path, which, matrices):
    if which == "golden":
        model, path = golden_model(), GOLDEN
    number_of_matrices = 0
    for before, after in zip(model.weights, load(path).weights, strict=True):
        ours, theirs = before.numpy(), after.numpy()
        is_matrix = ours.ndim == 2 and min(ours.shape) > 2
        right = rounded(ours, int(np.argmax(ours.shape))) if is_matrix else ours
        np.testing.assert_array_equal(theirs, right, err_msg=before.path)
        number_of_matrices += is_matrix
    assert number_of_matrices == matrices


def test_keras_reads_it_and_rounding_is_idempotent(path, tmp_path):
    by_keras = keras.saving.load_model(path)
    keras_files.write_keras(by_keras, tmp_path / "again.keras")
    for one, other in zip(by_keras.get_weights(), load(tmp_path / "again.keras").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_zeros_and_three_dimensions():
    np.testing.assert_array_equal(keras_files.in_8_bits(np.zeros((3, 20), "float32"), 0), np.zeros((3, 20)))
    kernel = np.random.default_rng(2).normal(size=(3, 4, 5)).astype("float32")
    np.testing.assert_array_equal(keras_files.in_8_bits(kernel, -1), rounded(kernel, 2))


def test_a_byte_per_number(make_model, tmp_path):
    model = make_model(model__embedding_size=32, model__encoder__units=64, model__decoder__units=128)
    keras_files.write_keras(model, tmp_path / "small.keras")
    whole = save(model, tmp_path / "whole.keras").stat().st_size
    numbers = sum(weight.size for weight in model.get_weights())
    # All else in them is the same.
    saved = whole - (tmp_path / "small.keras").stat().st_size
    assert saved > 2.6 * numbers


def test_command(path, tmp_path, capsys):
    # No translation of a rounded model changes.
    path = save(load(path), tmp_path / "model.keras")
    (tmp_path / "lines").write_text("\n".join([*SENTENCES, "not read"]), "utf-8")
    arguments = ["--format", "keras", "--precision", "int8", "--sentences", str(tmp_path / "lines"), "--most", "2"]
    assert main(["export", str(path), *arguments]) == 0
    small = tmp_path / "model.int8.keras"
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("parity: 2 of 2 sentences are translated alike")
    assert second == f"{small}: keras, {small.stat().st_size / 1e6:.1f} MB"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lines", "model.int8.keras", "model.keras"]


def test_other_settings_are_refused(make_model, tmp_path):
    message = r"^keras cannot .*decoding\.precision must be int8, got 'float32'; decoding\.beam_size must be left out"
    with pytest.raises(ConfigError, match=message):
        exporting.export_model(make_model(), tmp_path / "out.keras", "keras", SENTENCES, beam_size=3)
    with pytest.raises(ConfigError, match=r"must end in \.keras"):
        exporting.export_model(make_model(), pathlib.Path("out.h5"), "keras", SENTENCES, precision="int8")
