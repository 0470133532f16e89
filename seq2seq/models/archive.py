"""Model files: `model.keras` holds architecture, weights and the tokenizer, and is checked before it is loaded."""

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
MEMBERS = (METADATA, CONFIG, WEIGHTS)

LARGEST_TEXT = 16 * 2**20
"""Most bytes of metadata and of config."""
LEAST_LIMIT, LARGEST_RATIO = 64 * 2**20, 20
"""Most bytes of all members: this many, or this many times those of the file."""
MODEL_CLASSES = {"seq2seq>Seq2Seq", "seq2seq>SequenceClassifier", "seq2seq>SequenceTagger"}
SAFE_MODULES = ("keras", "builtins")

RETRY, REFUSE = "Copy or train it again.", "Do not use it."


def save(model: TextModel, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write a model to one `.keras` file, as a whole or not at all."""
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ModelFileError(f"{path}: a model file must end in .keras. Name it {path.stem}.keras.")
    with atomic(path) as new:
        model.save(new)
    return path


def load(path: str | os.PathLike[str], kind: type[TextModel] = TextModel) -> Any:
    """Load a model that `save`, its own `save` or a training run wrote, with all that inference needs.

    `keras.saving.load_model` loads it too, once `seq2seq` is imported; this function says what is wrong with a file,
    and checks all sizes before it allocates memory. Nothing in a file is unpickled or run.

    Args:
        path: A `.keras` file.
        kind: The class that the model must have.

    Returns:
        The model with its tokenizer: a `Seq2Seq`, `SequenceClassifier` or `SequenceTagger`, as it was saved.

    Raises:
        ModelFileError: The file is missing, damaged, or no model of this package or of that class.

    >>> load("nowhere.keras")
    Traceback (most recent call last):
    seq2seq.errors.ModelFileError: nowhere.keras: no such model file. Give the path of a .keras file of a run.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file. Give the path of a .keras file of a run.")
    if not zipfile.is_zipfile(path):
        raise ModelFileError(f"{path}: not a .keras file, or one that is cut short. {RETRY}")
    check_archive(path)
    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:
        raise ModelFileError(f"{path}: Keras cannot read this model: {error}") from error
    if not isinstance(model, TextModel):
        raise ModelFileError(f"{path}: a Keras model of the class {type(model).__name__}, none of this package's.")
    if not isinstance(model, kind):
        raise ModelFileError(
            f"{path}: the model must be a {kind.__name__}, got a {type(model).__name__}. "
            f"Its task is {model.task}: take a command for that."
        )
    return model


def check_archive(path: pathlib.Path) -> None:
    """Raise `ModelFileError` for a file that is no whole model file, or whose members could do harm."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            config = _read_json(archive, CONFIG)
            _check_config(config)
            _read_json(archive, METADATA)
            _check_weights(archive.read(WEIGHTS), config)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except Exception as error:
        # A wrong byte leads readers of archives to more kinds of errors than they document.
        raise ModelFileError(f"{path}: damaged: {error}. {RETRY}") from error


def _check_members(archive: zipfile.ZipFile, file_size: int) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    missing = [name for name in MEMBERS if name not in names]
    if missing:
        raise ModelFileError(f"not a .keras file: it holds no {', '.join(missing)}.")
    for member in members:
        name = member.filename
        parts = name.rstrip("/").split("/")
        is_plain = pathlib.PurePosixPath(name).parts == tuple(parts) and ".." not in parts
        if not is_plain or "\\" in name or ":" in name or stat.S_ISLNK(member.external_attr >> 16):
            raise ModelFileError(f"unsafe: {name!r} would be written outside its folder. {REFUSE}")
        if name not in MEMBERS and not name.startswith(ASSETS):
            raise ModelFileError(f"not a .keras file: it holds {name!r}, which no model has.")
    if len(set(names)) < len(names):
        raise ModelFileError(f"unsafe: a part of it comes twice. {REFUSE}")
    size, limit = sum(member.file_size for member in members), max(LEAST_LIMIT, LARGEST_RATIO * file_size)
    if size > limit:
        raise ModelFileError(f"unsafe: it would take {size:,} bytes unpacked, more than {limit:,}. {REFUSE}")
    damaged = archive.testzip()
    if damaged is not None:
        raise ModelFileError(f"damaged: the checksum of {damaged} is wrong. {RETRY}")


def _read_json(archive: zipfile.ZipFile, name: str) -> Any:
    size = archive.getinfo(name).file_size
    if size > LARGEST_TEXT:
        raise ModelFileError(f"unsafe: {name} has {size:,} bytes, more than {LARGEST_TEXT:,}. {REFUSE}")
    return json.loads(archive.read(name))


def _check_config(config: Any) -> None:
    if not isinstance(config, dict) or config.get("registered_name") not in MODEL_CLASSES:
        name = config.get("class_name") if isinstance(config, dict) else None
        raise ModelFileError(f"a Keras model of the class {name}, none of this package's.")
    version = config["config"].get("format_version", 1)
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"format_version must be {FORMAT_VERSION}, got {version}. Use the version of this package that wrote the "
            "file."
        )
    for entry in _dictionaries(config):
        registered = entry.get("registered_name")
        is_ours = isinstance(registered, str) and registered.startswith("seq2seq>")
        if "class_name" in entry and not is_ours and str(entry.get("module")).split(".")[0] not in SAFE_MODULES:
            name, module = entry["class_name"], entry.get("module")
            raise ModelFileError(f"unsafe: it wants the class {name} of {module}. {REFUSE}")


def _dictionaries(config: Any) -> Iterator[dict[str, Any]]:
    rest = [config]
    while rest:
        entry = rest.pop()
        if isinstance(entry, dict):
            yield entry
            rest += entry.values()
        elif isinstance(entry, list):
            rest += entry


def _check_weights(content: bytes, config: dict[str, Any]) -> None:
    """Refuse a model larger than its weights before building it takes the memory."""
    with h5py.File(io.BytesIO(content), "r") as file:
        sizes = list(_sizes(file, len(content)))
    for entry in _dictionaries(config):
        number = entry.get("num_layers")
        if isinstance(number, int | float) and number > len(sizes):
            raise ModelFileError(f"damaged: num_layers is {number}, but only {len(sizes)} weights are stored. {RETRY}")
    # Variables of such a scope have a shape and no memory.
    with keras.StatelessScope(initialize_variables=False):
        try:
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        except Exception as error:
            raise ModelFileError(f"Keras cannot read this model: {error}") from error
    needed, stored = sum(math.prod(weight.shape) for weight in model.weights), sum(sizes)
    if needed > stored:
        raise ModelFileError(
            f"damaged: the model has {needed:,} weights, but only {stored:,} numbers are stored. {RETRY}"
        )


def _sizes(group: h5py.Group, limit: int) -> Iterator[int]:
    """Yield the number of elements of each dataset, all of which must be in the file itself."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelFileError(f"unsafe: its weights are a link to somewhere else. {REFUSE}")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            yield from _sizes(entry, limit)
        elif entry.external or entry.is_virtual or entry.nbytes > limit:
            raise ModelFileError(f"unsafe: the weights {entry.name} are not in the file. {REFUSE}")
        else:
            yield int(entry.size or 0)
