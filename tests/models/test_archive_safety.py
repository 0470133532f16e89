"""Files that come from anywhere: whatever they hold, loading them gives a model or one kind of error."""

import io
import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import zipfile

import h5py
import keras
import pytest

from seq2seq.errors import ModelFileError
from seq2seq.layers import Decoder, Encoder
from seq2seq.models.archive import load, save
from seq2seq.models.seq2seq import Seq2Seq
from tests.models.mutations import OBJECTS, mutate, reconfigured, repacked

SECONDS = 60
"""A load that takes the processor longer hangs; the clock says nothing on a machine that does other things, too."""
MEGABYTES = 600
"""More than this is not taken, whatever a file says."""


@pytest.fixture(scope="module")
def content(toy_tokenizer, tmp_path_factory):
    model = Seq2Seq(
        Encoder(units=4),
        Decoder(vocabulary_size=toy_tokenizer.target.size, embedding_size=6, units=8),
        tokenizer=toy_tokenizer,
    )
    return save(model, tmp_path_factory.mktemp("model") / "model.keras").read_bytes()


@pytest.fixture
def refused(tmp_path):
    """Assert that a file is refused with a message, and that loading it leaves nothing behind."""

    def check(content, message):
        path = tmp_path / "model.keras"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=message):
            load(path)
        assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]

    return check


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "assets/../../evil", "assets\\..\\evil", "C:/evil", "assets//x"]
)
def test_parts_outside_the_folder(content, refused, name):
    hostile = repacked(content, lambda old, part: (name if old.startswith("assets") else old, part))
    refused(hostile, r"unsafe: '.*(evil|x)' would be written outside its folder\. Do not use it\.")


def test_links(content, refused):
    written = io.BytesIO(content)
    with zipfile.ZipFile(written, "a") as archive:
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    refused(written.getvalue(), r"unsafe: 'assets/link' would be written outside its folder")


def test_unknown_parts_and_parts_twice(content, refused):
    written = io.BytesIO(content)
    with zipfile.ZipFile(written, "a") as archive:
        archive.writestr("evil.py", "")
    refused(written.getvalue(), r"not a \.keras file: it holds 'evil\.py', which no model has\.")
    with zipfile.ZipFile(written := io.BytesIO(content), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", "{}")
    refused(written.getvalue(), r"unsafe: a part of it comes twice\. Do not use it\.")


def test_sizes_that_do_not_fit_the_file(content, refused):
    bomb = io.BytesIO(content)
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/bomb.model", bytes(100_000_000))
    refused(
        bomb.getvalue(), r"unsafe: it would take 100,\d+,\d+ bytes unpacked, more than \d+,\d+,\d+\. Do not use it\."
    )
    declared = bytearray(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        place = archive.start_dir
    struct.pack_into("<I", declared, place + 24, 2**31)
    refused(bytes(declared), "unsafe: it would take 2,147,")
    long = repacked(content, lambda name, part: (name, part + b" " * 17_000_000 if name == "config.json" else part))
    refused(long, r"unsafe: config\.json has 17,\d+,\d+ bytes, more than 16,777,216\. Do not use it\.")


def test_models_larger_than_their_weights(content, refused):
    def deepen(config):
        config["config"]["encoder"]["config"]["num_layers"] = 2**31
        return config

    message = r"damaged: num_layers is 2147483648, but only \d+ weights are stored\. Copy or train it again\."
    refused(reconfigured(content, deepen), message)
    for part, name in (("decoder", "vocabulary_size"), ("decoder", "units"), ("encoder", "units")):

        def enlarge(config, part=part, name=name):
            config["config"][part]["config"][name] = 2**40
            return config

        message = (
            r"damaged: the model has [\d,]{10,} weights, but only \d,\d+ numbers are stored\. Copy or train it again\."
        )
        refused(reconfigured(content, enlarge), message if name != "units" else "damaged: ")


def spoilt_weights(content, change):
    def change_part(name, part):
        if name != "model.weights.h5":
            return name, part
        file = io.BytesIO(part)
        with h5py.File(file, "r+") as weights:
            change(weights)
        return name, file.getvalue()

    return repacked(content, change_part)


def test_weights_that_are_elsewhere(content, refused):
    def link(weights):
        weights["layers/more"] = h5py.ExternalLink("/etc/passwd", "/")

    def huge(weights):
        weights.create_dataset("layers/huge", (2**40,), "float32", chunks=(1024,))

    refused(spoilt_weights(content, link), r"unsafe: its weights are a link to somewhere else\. Do not use it\.")
    refused(spoilt_weights(content, huge), r"unsafe: the weights /layers/huge are not in the file\. Do not use it\.")


@pytest.mark.parametrize("entry", OBJECTS, ids=lambda entry: entry["class_name"])
@pytest.mark.parametrize("key", ["encoder", "dtype", "recipe"])
def test_no_code_is_run(content, refused, monkeypatch, entry, key):
    def forbid(*arguments, **options):
        raise AssertionError("code of the file was run")

    monkeypatch.setattr(os, "system", forbid)
    monkeypatch.setattr("pickle.loads", forbid)
    monkeypatch.setattr("marshal.loads", forbid)

    def put(config):
        config["config"][key] = entry
        return config

    hostile = reconfigured(content, put)
    if key == "recipe" and entry["class_name"] != "system":
        pytest.skip("a recipe may hold anything: it is kept as text")
    refused(hostile, "unsafe: it wants the class|Keras cannot read|damaged")


def test_other_keras_models_are_refused_before_they_are_built(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    monkeypatch.setattr(keras.saving, "load_model", None)
    with pytest.raises(ModelFileError, match=r"a Keras model of the class Sequential, none of this package's\."):
        load(path)


class HangError(BaseException):
    """Passes through whatever turns errors into those of files."""


def hang(*_):
    raise HangError(f"a load takes the processor more than {SECONDS} seconds")


def load_mutated(content: bytes, path: pathlib.Path, seeds) -> tuple[int, int]:
    """How many of the mutated files are models still, and how many are refused; anything else is an error."""
    still, refused = 0, 0
    signal.signal(signal.SIGPROF, hang)
    for seed in seeds:
        path.write_bytes(mutate(content, seed))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            load(path)
            still += 1
        except ModelFileError as error:
            refused += str(error).startswith(f"{path}: ")
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return still, refused


@pytest.mark.filterwarnings("ignore")
def test_a_few_mutated_files(content, tmp_path):
    still, refused = load_mutated(content, tmp_path / "model.keras", range(40))
    assert still + refused == 40
    assert refused > still
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.slow
def test_ten_thousand_mutated_files(content, tmp_path):
    """In a process of its own, which a crash would end, with little memory more than it starts with."""
    (tmp_path / "whole.keras").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(tmp_path / "whole.keras"), "10000"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2]), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found = json.loads(done.stdout)
    print(found)
    assert found["still"] + found["refused"] == 10_000
    assert found["megabytes"] < MEGABYTES
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mutated.keras", "whole.keras"]


def main(whole: str, count: str) -> None:
    path = pathlib.Path(whole)
    load(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content, mutated, still, refused = path.read_bytes(), path.with_name("mutated.keras"), 0, 0
    for start in range(0, int(count), 500):
        more = load_mutated(content, mutated, range(start, min(start + 500, int(count))))
        still, refused = still + more[0], refused + more[1]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found = json.dumps({"still": still, "refused": refused, "megabytes": round(grown)})
        print(found, file=sys.stderr, flush=True)
    print(found)


if __name__ == "__main__":
    main(*sys.argv[1:])
