"""One file out, one file in: `model.keras` holds architecture, weights and the SentencePiece model."""

import io
import json
import math
import os
import pathlib
import stat
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras

from seq2seq.errors import ModelFileError
from seq2seq.files import atomic
from seq2seq.models.base import FORMAT_VERSION, TextModel

METADATA, CONFIG, WEIGHTS, ASSETS = "metadata.json", "config.json", "model.weights.h5", "assets/"
PARTS = (METADATA, CONFIG, WEIGHTS)

LARGEST_TEXT = 16 * 2**20
"""Bytes that metadata and config may have."""
LEAST_LIMIT, LARGEST_RATIO = 64 * 2**20, 20
"""What all parts may have together: so many bytes, or so many times those of the file."""
MODEL_CLASSES = {"seq2seq>Seq2Seq", "seq2seq>SequenceClassifier", "seq2seq>SequenceTagger"}
SAFE_MODULES = ("keras", "builtins")


def check_archive(path: pathlib.Path) -> None:
    """Refuse a file that is no whole model file, or whose parts could do harm.

    Raises:
        ModelFileError: With what is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_parts(path, archive)
            config = _read_json(path, archive, CONFIG)
            _check_config(path, config)
            _read_json(path, archive, METADATA)
            _check_weights(path, archive, config)
    except ModelFileError:
        raise
    except Exception as error:
        # A wrong byte leads readers of archives to more kinds of errors than they name.
        raise ModelFileError(f"{path}: damaged: {error}. Copy or train it again.") from error


def _check_parts(path: pathlib.Path, archive: zipfile.ZipFile) -> None:
    parts = archive.infolist()
    names = [part.filename for part in parts]
    missing = [part for part in PARTS if part not in names]
    if missing:
        raise ModelFileError(f"{path}: not a .keras file: it holds no {', '.join(missing)}.")
    for part in parts:
        name = part.filename
        is_plain = pathlib.PurePosixPath(name).parts == tuple(name.rstrip("/").split("/")) and ".." not in name.split(
            "/"
        )
        if not is_plain or "\\" in name or ":" in name or stat.S_ISLNK(part.external_attr >> 16):
            raise ModelFileError(f"{path}: unsafe: {name!r} would be written outside its folder. Do not use it.")
        if name not in PARTS and not name.startswith(ASSETS):
            raise ModelFileError(f"{path}: not a .keras file: it holds {name!r}, which no model has.")
    if len(set(names)) < len(names):
        raise ModelFileError(f"{path}: unsafe: a part of it comes twice. Do not use it.")
    size, limit = sum(part.file_size for part in parts), max(LEAST_LIMIT, LARGEST_RATIO * path.stat().st_size)
    if size > limit:
        raise ModelFileError(
            f"{path}: unsafe: it would take {size:,} bytes unpacked, more than {limit:,}. Do not use it."
        )
    damaged = archive.testzip()
    if damaged is not None:
        raise ModelFileError(f"{path}: damaged: the checksum of {damaged} is wrong. Copy or train it again.")


def _read_json(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> Any:
    size = archive.getinfo(name).file_size
    if size > LARGEST_TEXT:
        raise ModelFileError(f"{path}: unsafe: {name} has {size:,} bytes, more than {LARGEST_TEXT:,}. Do not use it.")
    return json.loads(archive.read(name))


def _check_config(path: pathlib.Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("registered_name") not in MODEL_CLASSES:
        name = config.get("class_name") if isinstance(config, dict) else None
        raise ModelFileError(f"{path}: a Keras model of the class {name}, none of this package's.")
    version = config["config"].get("format_version", 1)
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: of format version {version}, but this package reads up to {FORMAT_VERSION}. Use the version of "
            "it that wrote the file."
        )
    for name, module, registered in _classes(config):
        is_ours = isinstance(registered, str) and registered.startswith("seq2seq>")
        if not is_ours and str(module).split(".")[0] not in SAFE_MODULES:
            raise ModelFileError(f"{path}: unsafe: it wants the class {name} of {module}. Do not use it.")


def _classes(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Class, module and registered name of every object that a config describes."""
    for entry in _dictionaries(config):
        if "class_name" in entry:
            yield entry["class_name"], entry.get("module"), entry.get("registered_name")


def _numbers(config: Any) -> Iterator[tuple[str, int | float]]:
    for entry in _dictionaries(config):
        yield from ((name, value) for name, value in entry.items() if isinstance(value, int | float))


def _dictionaries(config: Any) -> Iterator[dict[str, Any]]:
    rest = [config]
    while rest:
        entry = rest.pop()
        if isinstance(entry, dict):
            yield entry
            rest += entry.values()
        elif isinstance(entry, list):
            rest += entry


def _check_weights(path: pathlib.Path, archive: zipfile.ZipFile, config: dict[str, Any]) -> None:
    """Refuse a model larger than its weights, which building it would find out when the memory is gone."""
    content = archive.read(WEIGHTS)
    with h5py.File(io.BytesIO(content), "r") as file:
        sizes = list(_sizes(path, file, len(content)))
    for name, number in _numbers(config):
        if name == "num_layers" and number > len(sizes):
            raise ModelFileError(
                f"{path}: damaged: {name} is {number}, but only {len(sizes)} weights are stored. Copy or train it "
                "again."
            )
    # Variables of such a scope have a shape and no memory.
    with keras.StatelessScope(initialize_variables=False):
        try:
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        except Exception as error:
            raise ModelFileError(f"{path}: Keras cannot read this model: {error}") from error
    needed, stored = sum(math.prod(weight.shape) for weight in model.weights), sum(sizes)
    if needed > stored:
        raise ModelFileError(
            f"{path}: damaged: the model has {needed:,} weights, but only {stored:,} numbers are stored. Copy or train "
            "it again."
        )


def _sizes(path: pathlib.Path, group: h5py.Group, limit: int) -> Iterator[int]:
    """How many numbers each dataset has; all of them lie in the file itself, as they are."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelFileError(f"{path}: unsafe: its weights are a link to somewhere else. Do not use it.")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            yield from _sizes(path, entry, limit)
        elif entry.external or entry.is_virtual or entry.nbytes > limit:
            raise ModelFileError(f"{path}: unsafe: the weights {entry.name} are not in the file. Do not use it.")
        else:
            yield int(entry.size or 0)


def save(model: TextModel, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the model to one `.keras` file, under another name first, so that no half file ever bears the name.

    Raises:
        ModelFileError: `path` does not end in `.keras`.
    """
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ModelFileError(f"{path}: a model file must end in .keras. Name it {path.stem}.keras.")
    with atomic(path) as new:
        model.save(new)
    return path


def load(path: str | os.PathLike[str], kind: type[TextModel] = TextModel) -> Any:
    """Reads a model that `save`, its own `save` or a training run wrote: all that inference needs is in the file.

    `keras.saving.load_model` reads it too, once `seq2seq` is imported; this one says what is wrong with a file, and
    looks at all sizes before it takes memory. Nothing in a file is unpickled or run.

    Args:
        path: A `.keras` file.
        kind: The class that is wanted, for those who can do with one only.

    Returns:
        The model, with its tokenizer: a `Seq2Seq`, `SequenceClassifier` or `SequenceTagger`, whatever was saved.

    Raises:
        ModelFileError: The file is missing, damaged, or no model of this toolkit or of that class.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file. Give the path of a .keras file that a run has written.")
    if not zipfile.is_zipfile(path):
        raise ModelFileError(f"{path}: not a .keras file, or one that is cut short. Copy or train it again.")
    check_archive(path)
    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:
        raise ModelFileError(f"{path}: Keras cannot read this model: {error}") from error
    if not isinstance(model, TextModel):
        raise ModelFileError(f"{path}: a Keras model of the class {type(model).__name__}, none of this package's.")
    if not isinstance(model, kind):
        raise ModelFileError(
            f"{path}: the model must be a {kind.__name__}, but is a {type(model).__name__} instead. "
            f"Its task is {model.task}: take a command for that."
        )
    return model
