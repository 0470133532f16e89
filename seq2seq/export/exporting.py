"""An export from beginning to end: refused, or written under another name, compared with its model, and kept."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from seq2seq.errors import ConfigError
from seq2seq.export.formats import FORMATS, VERSION, check_export
from seq2seq.export.keras_files import write_keras
from seq2seq.export.litert_files import write_litert
from seq2seq.export.onnx_files import translate_with_onnx, write_onnx
from seq2seq.export.parity import Parity, compare
from seq2seq.export.saved_model import translate_with_saved_model, write_saved_model
from seq2seq.export.steps import translate_with_runner
from seq2seq.files import atomic
from seq2seq.models.archive import load
from seq2seq.models.seq2seq import Seq2Seq

DESCRIPTION = "export.json"
"""File of every export that says what it is."""


def export_model(
    model: Seq2Seq,
    folder: pathlib.Path,
    export_format: str,
    sentences: Sequence[str],
    *,
    attention: bool = False,
    strings: bool = True,
    source_steps: int = 64,
    whole_search: bool = False,
    **options: Any,
) -> Parity:
    """Write a model in another format, if it then does what the model does.

    Args:
        model: The model.
        folder: Where to, a file for a model file; must not be there.
        export_format: One of `FORMATS`.
        sentences: Real sources, on which the export and the model are compared.
        attention: Whether translations come with their attention weights.
        strings: Of a SavedModel: whether it takes and gives strings, too.
        source_steps: Of LiteRT: tokens of a source at most, its end counted. Longer sentences are not compared.
        whole_search: Of ONNX: whether the search is written as one graph, too.
        **options: Settings of `DecodingConfig` that differ from the model's own.

    Returns:
        What the comparison found.

    Raises:
        ConfigError: A setting that the format cannot hold, with every reason; `folder` is there; no sentences.
        MissingDependencyError: A package that writes or runs the format is not installed.
        Seq2SeqError: The export does not do what the model does; nothing is written.
    """
    if export_format not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, but is {export_format!r} instead.")
    if folder.exists():
        raise ConfigError(f"{folder}: is there already. Remove it, or give another --output.")
    is_file = export_format == "keras"
    if is_file and folder.suffix != ".keras":
        raise ConfigError(f"{folder}: a model file must end in .keras. Give another --output.")
    if not sentences:
        raise ConfigError("sentences must be some sources to check the export on, but are none instead.")
    decoding = model.decoding.replaced(**options)
    check_export(export_format, model, decoding, whole_search)
    if export_format == "litert":
        lengths = map(len, model.encode_sources(sentences))
        sentences = [text for text, length in zip(sentences, lengths, strict=True) if length <= source_steps]
    with atomic(folder) as written:
        description: dict[str, Any] = {"version": VERSION, "format": export_format, "decoding": decoding.to_dict()}
        if export_format == "saved_model":
            write_saved_model(model, decoding, written, attention=attention, strings=strings)
            found = translate_with_saved_model(written, model, sentences)
        elif is_file:
            write_keras(model, written)
            found = [(best.text, best.score) for best, *_ in load(written).generate(sentences)]
        else:
            if export_format == "onnx":
                description |= write_onnx(model, decoding, written, whole_search)
            else:
                description |= write_litert(model, decoding, written, source_steps)
            _describe(written, description)
            found = translate_with_runner(written, sentences)
        # In float32: an export in fewer bits is held against what was trained.
        ours = model.generate(sentences, **dataclasses.asdict(decoding) | {"precision": "float32"})
        parity = compare(sentences, ours, found)
        parity.check(decoding.precision)
        if export_format == "onnx" and whole_search:
            compare(sentences, ours, translate_with_onnx(written, model, sentences)).check(decoding.precision)
        numbers = {name: getattr(parity, name) for name in ("sentences", "identical", "score_difference")}
        if not is_file:
            _describe(written, description | {"parity": numbers})
    return parity


def _describe(folder: pathlib.Path, description: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1), "utf-8")
