"""Export a model: check what the format supports, write it, and compare its translations with the model's."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ArgumentError, ConfigError
from seq2seq.export.keras_files import write_keras
from seq2seq.export.litert_files import write_litert
from seq2seq.export.onnx_files import translate_with_onnx, write_onnx
from seq2seq.export.parity import Parity, compare
from seq2seq.export.runner import VERSION, Translator
from seq2seq.export.saved_model import translate_with_saved_model, write_saved_model
from seq2seq.files import atomic
from seq2seq.models.archive import load
from seq2seq.models.seq2seq import Seq2Seq

DESCRIPTION = "export.json"
"""File of every export that describes it."""

PRECISIONS = {
    "saved_model": ("float32", "bfloat16", "int8"),
    "onnx": ("float32", "int8"),
    "litert": ("float32", "int8"),
    "keras": ("int8",),
}
"""Precisions of each format."""

WITH_RUNNER = ("onnx", "litert")

ONLY_IN_PYTHON = {
    "sample": "random numbers are drawn in Python",
    "shortlist": "the words of a shortlist are looked up in Python",
    "prefix": "a prefix is cut into tokens in Python",
    "required_phrases": "phrases are cut into tokens in Python",
    "banned_phrases": "phrases are cut into tokens in Python",
}
"""Settings of the search that no export supports, and why."""


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
    """Write a model in another format, unless its translations of `sentences` then differ from the model's.

    `attention` and `strings` are for a SavedModel, `source_steps` (most tokens of a source) for LiteRT, `whole_search`
    for ONNX; `options` are settings of `DecodingConfig` that differ from the model's own.
    """
    is_file = export_format == "keras"
    if export_format not in PRECISIONS:
        raise ArgumentError("format", f"one of {', '.join(PRECISIONS)}", export_format)
    if folder.exists():
        raise ConfigError(f"{folder} already exists. Remove it, or give another --output.")
    if is_file and folder.suffix != ".keras":
        raise ConfigError(f"{folder}: the name of a model file must end in .keras. Give another --output.")
    if not sentences:
        raise ArgumentError("sentences", "sources to check the export with", list(sentences))
    decoding = model.decoding.replaced(**options)
    _check(export_format, model, decoding, whole_search)
    if export_format == "litert":
        lengths = map(len, model.encode_sources(sentences))
        sentences = [text for text, length in zip(sentences, lengths, strict=True) if length <= source_steps]
    settings: dict[str, Any] = {"version": VERSION, "format": export_format, "decoding": decoding.to_dict()}
    with atomic(folder) as new:
        if export_format == "saved_model":
            write_saved_model(model, decoding, new, attention=attention, strings=strings)
            found = translate_with_saved_model(new, model, sentences)
        elif is_file:
            write_keras(model, new)
            found = [(best.text, best.score) for best, *_ in load(new).generate(sentences)]
        else:
            if export_format == "onnx":
                settings |= write_onnx(model, decoding, new, whole_search)
            else:
                settings |= write_litert(model, decoding, new, source_steps)
            _describe(new, settings)
            found = [(best.text, best.score) for best, *_ in Translator(new).generate(sentences)]
        # An export of fewer bits is compared with the trained weights.
        ours = model.generate(sentences, **options | {"precision": "float32"})
        parity = compare(sentences, ours, found)
        parity.check(decoding.precision)
        if export_format == "onnx" and whole_search:
            compare(sentences, ours, translate_with_onnx(new, model, sentences)).check(decoding.precision)
        if not is_file:
            numbers = {name: getattr(parity, name) for name in ("sentences", "identical", "score_difference")}
            _describe(new, settings | {"parity": numbers})
    return parity


def _describe(folder: pathlib.Path, description: dict[str, Any]) -> None:
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1), "utf-8")


def _check(export_format: str, model: Seq2Seq, options: DecodingConfig, whole_search: bool = False) -> None:
    """Raise a ConfigError with every reason why a format cannot hold a model and its search."""
    model.require_tokenizer()
    precisions = PRECISIONS[export_format]
    reasons = []
    if options.precision not in precisions:
        reasons.append(f"decoding.precision must be {' or '.join(precisions)}, got {options.precision!r}")
    if export_format == "keras":
        saved = model.decoding.to_dict()
        changed = [name for name, value in options.to_dict().items() if value != saved[name]]
        why = "a model file searches as its recipe says"
        reasons += [f"decoding.{name} must be left out, since {why}" for name in changed if name != "precision"]
    else:
        reasons += [
            f"decoding.{name} must be left out, since {why}"
            for name, why in ONLY_IN_PYTHON.items()
            if getattr(options, name) != getattr(DecodingConfig(), name)
        ]
    if export_format == "onnx" and whole_search and options.coverage_penalty != "none":
        reasons.append("decoding.coverage_penalty must be none for --whole-search, since no converter supports it")
    if export_format in WITH_RUNNER:
        if model.decoder.copy != "none":
            reasons.append("model.copy must be none, since no converter supports sums over source positions")
        if model.encoder.subsample > 1:
            reasons.append("model.encoder.subsample must be 1, since no converter supports layers that join steps")
        if model.compute_dtype != "float32":
            reasons.append(f"the model must compute in float32, got {model.compute_dtype}")
    if reasons:
        raise ConfigError(f"{export_format} cannot hold this model and search: {'; '.join(reasons)}.")
