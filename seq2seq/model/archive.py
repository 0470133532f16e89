"""One file out, one file in: `model.keras` holds architecture, weights and the SentencePiece model."""

import os
import pathlib
import zipfile
from typing import Any

import keras

from seq2seq.errors import ModelFileError
from seq2seq.model.archive_checks import check_archive
from seq2seq.model.reader import SourceReader


def save(model: SourceReader, path: str | os.PathLike[str]) -> pathlib.Path:
    """Writes the model to one `.keras` file, under another name first, so that no half file ever bears the name.

    Raises:
        ModelFileError: `path` does not end in `.keras`.
    """
    path = pathlib.Path(path)
    if path.suffix != ".keras":
        raise ModelFileError(f"{path}: a model file must end in .keras. Name it {path.stem}.keras.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.unfinished.keras")
    try:
        model.save(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike[str], kind: type[SourceReader] = SourceReader) -> Any:
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
    if not isinstance(model, SourceReader):
        raise ModelFileError(f"{path}: a Keras model of the class {type(model).__name__}, none of this package's.")
    if not isinstance(model, kind):
        raise ModelFileError(
            f"{path}: the model must be a {kind.__name__}, but is a {type(model).__name__} instead. "
            f"Its task is {model.task}: take a command for that."
        )
    return model
