"""LiteRT, for telephones and small machines: the two graphs in one shape each, a sentence at a time."""

import pathlib
import tempfile
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import MissingDependencyError
from seq2seq.export.runner import largest_count
from seq2seq.export.steps import Steps, describe, write_beside
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import END_ID

ENCODER, DECODER = "encoder", "decoder"


def write_litert(model: Seq2Seq, options: DecodingConfig, folder: pathlib.Path, source_steps: int) -> dict[str, Any]:
    """Write the two graphs, as `write_onnx` does, for one source and its beam.

    With `precision` int8, matrices of more than 1,024 numbers are kept in 8 bits, and what they multiply is rounded to
    8 bits when the graph runs.

    Args:
        model: The model.
        options: How the runner searches, and in which precision; the beam is part of the graph.
        folder: Where to.
        source_steps: Tokens of a source at most, its end counted; shorter ones are filled up, and take as long.

    Returns:
        What the runner must know of the graphs.

    Raises:
        MissingDependencyError: There is no ai-edge-litert.
    """
    try:
        import ai_edge_litert  # noqa: F401 - the export is run once it is written
    except ImportError as error:
        raise MissingDependencyError(
            "Running LiteRT needs ai-edge-litert. Install it with pip install 'seq2seq[litert]'."
        ) from error
    twin = clone_with_implementation(model, "raw")
    steps = Steps(twin)
    folder.mkdir(parents=True)
    count = largest_count(options.to_dict())
    specs = {"token_ids": tf.TensorSpec([options.beam_size], tf.int32, "token_ids")}
    for name, example in steps.encode(tf.fill([1, source_steps], END_ID)).items():
        rows = options.beam_size if name in steps.state_names else 1
        specs[name] = tf.TensorSpec([rows, *example.shape[1:]], example.dtype, name)
    source = {"source_ids": tf.TensorSpec([1, source_steps], tf.int32, "source_ids")}
    saved = tf.Module()
    saved.weights = [weight.value for weight in twin.weights]
    with tempfile.TemporaryDirectory() as name:
        # Only by way of a SavedModel do inputs and outputs keep their names.
        signatures = {
            ENCODER: tf.function(steps.encode, autograph=False).get_concrete_function(**source),
            DECODER: tf.function(
                lambda **tensors: steps.ranked_step(count, **tensors), autograph=False
            ).get_concrete_function(**specs),
        }
        tf.saved_model.save(saved, name, signatures)
        for signature in signatures:
            converter = tf.lite.TFLiteConverter.from_saved_model(name, signature_keys=[signature])
            if options.precision == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            (folder / f"{signature}.tflite").write_bytes(converter.convert())
    write_beside(model, folder)
    return describe(model, steps) | {"source_steps": source_steps, "count": count}
