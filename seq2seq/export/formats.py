"""What each format can hold, said before any work is done."""

import dataclasses
from typing import TYPE_CHECKING

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from seq2seq.models.seq2seq import Seq2Seq

FORMATS = ("saved_model", "onnx", "litert", "keras")

VERSION = 1
"""Of the files that exports consist of; a runner refuses a later one."""

ONLY_IN_PYTHON = {
    "sample": "random numbers are drawn in Python",
    "shortlist": "the words of a shortlist are looked up in Python",
    "prefix": "a prefix is cut into tokens in Python",
    "required_phrases": "phrases are cut into tokens in Python",
    "banned_phrases": "phrases are cut into tokens in Python",
}
"""Settings of the search that no export has, and why."""

WITH_RUNNER = ("onnx", "litert")

PRECISIONS = {
    "saved_model": ("float32", "bfloat16", "int8"),
    "onnx": ("float32", "int8"),
    "litert": ("float32", "int8"),
    "keras": ("int8",),
}


def check_export(export_format: str, model: "Seq2Seq", options: DecodingConfig, whole_search: bool = False) -> None:
    """Refuse what a format cannot hold, with every reason at once.

    Args:
        export_format: One of `FORMATS`.
        model: What is to be exported.
        options: How it is to search.
        whole_search: Of ONNX: whether the search is to be one graph, too.

    Raises:
        ConfigError: There are reasons.
        ModelFileError: The model has no tokenizer.
    """
    model.require_tokenizer()
    reasons = []
    if options.precision not in PRECISIONS[export_format]:
        known = " or ".join(PRECISIONS[export_format])
        reasons.append(f"decoding.precision must be {known}, but is {options.precision!r}")
    reasons += _reasons_of_search(export_format, model, options)
    if export_format == "onnx" and whole_search and options.coverage_penalty != "none":
        reasons.append("decoding.coverage_penalty must be none for --whole-search, since no converter follows it")
    if export_format in WITH_RUNNER:
        if model.decoder.copy != "none":
            reasons.append("model.copy must be none, since the sums over places of the source have no like there")
        if model.encoder.subsample > 1:
            reasons.append("model.encoder.subsample must be 1, since no converter follows layers that join steps")
        if model.compute_dtype != "float32":
            reasons.append(f"the model must compute in float32, but computes in {model.compute_dtype}")
    if reasons:
        raise ConfigError(f"{export_format} cannot hold this: {'; '.join(reasons)}.")


def _reasons_of_search(export_format: str, model: "Seq2Seq", options: DecodingConfig) -> list[str]:
    if export_format == "keras":
        return [
            f"decoding.{name} must be left out, since a model file searches as its recipe says"
            for name, value in dataclasses.asdict(options).items()
            if name != "precision" and value != getattr(model.decoding, name)
        ]
    return [
        f"decoding.{name} must be left out, since {why}"
        for name, why in ONLY_IN_PYTHON.items()
        if getattr(options, name) != getattr(DecodingConfig(), name)
    ]
