"""The formats of exports, and the settings that each of them supports."""

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError
from seq2seq.models.seq2seq import Seq2Seq

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


def check_export(export_format: str, model: Seq2Seq, options: DecodingConfig, whole_search: bool = False) -> None:
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
