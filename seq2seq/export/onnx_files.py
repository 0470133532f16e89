"""ONNX: the encoder and the step of the decoder as two graphs, the tokenizer, and a script that translates."""

import logging
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import MissingDependencyError
from seq2seq.export.inference_functions import InferenceFunctions
from seq2seq.export.parity import translate_in_batches
from seq2seq.export.runner import onnx_session
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad

OPSET = 18
"""Version of ONNX' operations, which onnxruntime has had since 1.14."""

ENCODER, DECODER, WHOLE_SEARCH = "encoder.onnx", "decoder.onnx", "translate.onnx"


def write_onnx(
    model: Seq2Seq, options: DecodingConfig, folder: pathlib.Path, whole_search: bool = False
) -> dict[str, Any]:
    """Write graphs for batches and sentences of any size, and the runner, and return what it must know of the graphs.

    `encoder.onnx` is `InferenceFunctions.encode`; `decoder.onnx` is `ranked_step`, with `count`, () int32, the number
    of best tokens per row; `translate.onnx` is the whole search, from `source_ids` to `Hypotheses`. With precision
    int8, matrices have 8 bits and a scale per column, and their inputs are rounded to 8 bits when the graph runs.
    """
    convert = _converter(options.precision == "int8")
    # No converter understands kernels for whole sequences.
    functions = InferenceFunctions(clone_with_implementation(model, "raw"))
    folder.mkdir(parents=True)
    token_ids, *specs = functions.step_specs.values()

    def step(token_ids: Any, count: Any, *values: Any) -> dict[str, Any]:
        tensors = dict(zip([spec.name for spec in specs], values, strict=True))
        return functions.ranked_step(count, token_ids, **tensors)

    convert(functions.encode, [functions.source_spec], folder / ENCODER)
    convert(step, [token_ids, tf.TensorSpec([], tf.int32, "count"), *specs], folder / DECODER)
    if whole_search:
        # Nested loops cannot keep the record, and packed weights have custom operations.
        search = functions.compile_translation(options.replaced(precision="float32"), compacts=False)
        convert(lambda source_ids: search(source_ids), [functions.source_spec], folder / WHOLE_SEARCH)
    return functions.write_runtime_files(folder)


def translate_with_onnx(folder: pathlib.Path, model: Seq2Seq, sources: Sequence[str]) -> list[tuple[str, float]]:
    """Return the best translation of each source and its score, by `translate.onnx` on disk."""
    session = onnx_session(folder / WHOLE_SEARCH, threads=0)

    def translate(batch: list[str]) -> Iterable[tuple[str, float]]:
        ids, scores = session.run(["token_ids", "scores"], {"source_ids": pad(model.encode_sources(batch))})
        return zip(model.require_tokenizer().target.decode(ids[:, 0]), scores[:, 0].tolist(), strict=True)

    return translate_in_batches(sources, translate)


def _converter(has_8_bits: bool) -> Callable[[Callable[..., Any], list[tf.TensorSpec], pathlib.Path], None]:
    try:
        import tf2onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingDependencyError(
            f"Writing ONNX needs tf2onnx and onnxruntime, but {error.name} is not installed. Install both with pip "
            "install 'seq2seq[onnx]'."
        ) from error
    # It reports each of its many passes.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)

    def convert(function: Callable[..., Any], specs: list[tf.TensorSpec], path: pathlib.Path) -> None:
        def named(*values: Any) -> dict[str, Any]:
            return {name: tf.identity(tensor, name) for name, tensor in function(*values).items()}

        graph = tf.function(named, specs, autograph=False)
        handlers: dict[str, Any] = {"SelectV2": (_as_where, [])}
        tf2onnx.convert.from_function(graph, specs, opset=OPSET, custom_op_handlers=handlers, output_path=str(path))
        if has_8_bits:
            options = {"EnableSubgraph": True, "MatMulConstBOnly": True}
            quantize_dynamic(path, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)

    return convert


def _as_where(_context: Any, node: Any, _name: str, _arguments: Any) -> Any:
    """Convert to `Where`: the converter multiplies by 0 and 1 and adds, which makes NaN of infinity."""
    node.type = "Where"
    return node
