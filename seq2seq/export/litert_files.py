"""LiteRT, for phones and small machines: two graphs with fixed shapes that translate one sentence at a time."""

import pathlib
import tempfile
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import MissingDependencyError
from seq2seq.export.inference_functions import InferenceFunctions
from seq2seq.export.runner import max_count
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import END_ID


def write_litert(model: Seq2Seq, options: DecodingConfig, folder: pathlib.Path, source_steps: int) -> dict[str, Any]:
    """Write the graphs of `write_onnx` for one source and its beam, and return what the runner must know of them.

    Sources have at most `source_steps` tokens; shorter ones are padded, and take as long. With precision int8, matrices
    of more than 1,024 numbers have 8 bits, and their inputs are rounded to 8 bits when the graph runs.
    """
    try:
        import ai_edge_litert  # noqa: F401 - the export is run once it is written
    except ImportError as error:
        raise MissingDependencyError(
            "Running LiteRT needs ai-edge-litert. Install it with pip install 'seq2seq[litert]'."
        ) from error
    clone = clone_with_implementation(model, "raw")
    functions = InferenceFunctions(clone)
    folder.mkdir(parents=True)
    count = max_count(options.to_dict())
    specs = {"token_ids": tf.TensorSpec([options.beam_size], tf.int32, "token_ids")}
    for name, example in functions.encode(tf.fill([1, source_steps], END_ID)).items():
        rows = options.beam_size if name in functions.state_names else 1
        specs[name] = tf.TensorSpec([rows, *example.shape[1:]], example.dtype, name)
    source = {"source_ids": tf.TensorSpec([1, source_steps], tf.int32, "source_ids")}

    def step(**tensors: Any) -> dict[str, Any]:
        return functions.ranked_step(count, **tensors)

    saved = tf.Module()
    saved.weights = [weight.value for weight in clone.weights]
    with tempfile.TemporaryDirectory() as name:
        # Only by way of a SavedModel do inputs and outputs keep their names.
        signatures = {
            "encoder": tf.function(functions.encode, autograph=False).get_concrete_function(**source),
            "decoder": tf.function(step, autograph=False).get_concrete_function(**specs),
        }
        tf.saved_model.save(saved, name, signatures)
        for signature in signatures:
            converter = tf.lite.TFLiteConverter.from_saved_model(name, signature_keys=[signature])
            if options.precision == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            (folder / f"{signature}.tflite").write_bytes(converter.convert())
    return functions.write_runtime_files(folder) | {"source_steps": source_steps, "count": count}
