"""Golden files: what each format version wrote can be read, and the names in the format stay."""

import io
import json
import pathlib
import zipfile

import h5py
import pytest
import tensorflow as tf

from seq2seq.errors import ModelFileError
from seq2seq.export.runner import Translator
from seq2seq.models.archive import load, save
from seq2seq.text.dataset import pad
from tests.export.make_golden import SENTENCES
from tests.models.mutations import reconfigured

VERSIONS = [1]

PATHS = {
    *(f"decoder/bridges/dense{place}/vars/{part}" for place in ("", "_1") for part in "01"),
    "decoder/embedding/vars/0",
    *(f"decoder/readout/vars/{part}" for part in "0123"),
    *(f"decoder/recurrent_layers/recurrent{place}/cell/vars/{part}" for place in ("", "_1") for part in "012"),
    "embedding/vars/0",
    *(f"encoder/{way}_layers/recurrent/cell/vars/{part}" for way in ("forward", "backward") for part in "012"),
}
"""Where weights lie in a model file. Keras names them after attributes and classes, so a new name for one of these, or
a new one before it in the alphabet, would make older files unreadable: then read them with their old names."""


@pytest.fixture(scope="module", params=VERSIONS)
def golden(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(pathlib.Path(__file__).with_name(f"golden_{request.param}.zip")) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "expected.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model(golden):
    return load(golden / "model.keras")


def check(found, expected):
    for hypotheses, right in zip(found, expected, strict=True):
        assert [ids for ids, _ in hypotheses] == [ids for ids, _ in right]
        assert [score for _, score in hypotheses] == pytest.approx([score for _, score in right], abs=1e-4)


def test_model_file(model, expected):
    check([[(one.token_ids, one.score) for one in few] for few in model.generate(SENTENCES)], expected)


@pytest.mark.parametrize("export_format", ["onnx", "litert"])
def test_graphs_and_runner(golden, expected, export_format):
    found = Translator(golden / export_format, threads=1).generate(SENTENCES)
    check([[(one.token_ids, one.score) for one in few] for few in found], expected)


def test_saved_model(golden, model, expected):
    translate = tf.saved_model.load(str(golden / "saved_model")).signatures["translate_ids"]
    filled = [place for place, text in enumerate(SENTENCES) if text]
    ids = pad(model.tokenizer.source.encode([SENTENCES[place] for place in filled]))
    found = {name: tensor.numpy().tolist() for name, tensor in translate(source_ids=tf.constant(ids)).items()}
    rows = zip(found["token_ids"], found["lengths"], found["scores"], strict=True)
    cut = [[(ids[:length], score) for ids, length, score in zip(*row, strict=True)] for row in rows]
    check(cut, [expected[place] for place in filled])


def test_weight_paths(model, golden, tmp_path):
    def paths(file):
        with zipfile.ZipFile(file) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            found = []
            weights.visititems(lambda name, entry: found.append(name) if isinstance(entry, h5py.Dataset) else None)
            return set(found)

    assert paths(save(model, tmp_path / "model.keras")) == paths(golden / "model.keras") == PATHS


def test_later_version(golden, tmp_path):
    later = reconfigured(
        (golden / "model.keras").read_bytes(),
        lambda config: config | {"config": config["config"] | {"format_version": 99}},
    )
    path = tmp_path / "model.keras"
    path.write_bytes(later)
    with pytest.raises(ModelFileError, match="format_version must be 2, got 99"):
        load(path)
