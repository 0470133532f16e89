"""ONNX: the encoder and the step of the decoder as two graphs, the tokenizer, and a script that translates."""

import logging
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import MissingDependencyError
from seq2seq.export.runner import onnx_session
from seq2seq.export.search_graph import SearchGraph, translate_in_batches
from seq2seq.export.steps import Steps, describe, write_beside
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad

OPSET = 18
"""The version of ONNX' operations; onnxruntime has had it since 1.14."""

ENCODER, DECODER, WHOLE_SEARCH = "encoder.onnx", "decoder.onnx", "translate.onnx"


def write_onnx(
    model: Seq2Seq, options: DecodingConfig, folder: pathlib.Path, whole_search: bool = False
) -> dict[str, Any]:
    """Write the two graphs, for batches and sentences of any size, and what stands around them.

    `encoder.onnx`: from `source_ids`, `(batch, source_steps)` int32, to what `Steps.encode` gives. `decoder.onnx`: from
    that, `token_ids`, `(rows,)` int32, and `count`, () int32, to `logits`, the states as `next_state_0`, ...,
    `attention_weights` where there are any, and the `count` best tokens of each row, `best_ids` and `best_log_probs`.
    With `precision` int8, matrices are kept in 8 bits, a scale for each column, and what they multiply is rounded to 8
    bits when the graph runs.

    `translate.onnx` is the search itself: from `source_ids` to `token_ids`, `(batch, n_best, target_steps)`, `lengths`,
    `scores`, `log_probs` and `token_log_probs`.

    Args:
        model: The model.
        options: How the runner searches, and in which precision.
        folder: Where to.
        whole_search: Whether `translate.onnx` is written, too.

    Returns:
        What the runner must know of the graphs.

    Raises:
        MissingDependencyError: There is no tf2onnx or no onnxruntime.
    """
    convert = _converter(options.precision == "int8")
    # Step by step: what a kernel does with whole sequences no converter understands.
    twin = clone_with_implementation(model, "raw")
    steps = Steps(twin)
    folder.mkdir(parents=True)
    tensors = {name: spec for name, spec in steps.step_specs.items() if name != "token_ids"}

    def encode(source_ids: Any) -> dict[str, Any]:
        return _named(steps.encode(source_ids))

    def step(token_ids: Any, count: Any, *values: Any) -> dict[str, Any]:
        return _named(steps.ranked_step(count, token_ids, **dict(zip(tensors, values, strict=True))))

    convert(encode, [steps.encode_spec], folder / ENCODER)
    specs = [steps.step_specs["token_ids"], tf.TensorSpec([], tf.int32, "count"), *tensors.values()]
    convert(step, specs, folder / DECODER)
    if whole_search:
        # A loop in another cannot keep what is written, and what is packed has operations of its own.
        search = SearchGraph(twin, options.replaced(precision="float32"), attention=False, sentences_leave=False)
        convert(lambda source_ids: _named(search.translate_ids(source_ids)), [steps.encode_spec], folder / WHOLE_SEARCH)
    write_beside(model, folder)
    return describe(model, steps)


def translate_with_onnx(folder: pathlib.Path, model: Seq2Seq, sources: Sequence[str]) -> list[tuple[str, float]]:
    """The best translation of each source and its score, by `translate.onnx` as it lies on the disk."""
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
    # It tells of each of its many passes.
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)

    def convert(function: Callable[..., Any], specs: list[tf.TensorSpec], path: pathlib.Path) -> None:
        graph = tf.function(function, specs, autograph=False)
        handlers: dict[str, Any] = {"SelectV2": (_as_where, [])}
        tf2onnx.convert.from_function(graph, specs, opset=OPSET, custom_op_handlers=handlers, output_path=str(path))
        if has_8_bits:
            options = {"EnableSubgraph": True, "MatMulConstBOnly": True}
            quantize_dynamic(path, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)

    return convert


def _as_where(_context: Any, node: Any, _name: str, _arguments: Any) -> Any:
    """Chooses; the converter's own way multiplies by 0 and 1 and adds, which makes no number of an infinite one."""
    node.type = "Where"
    return node


def _named(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: tf.identity(tensor, name) for name, tensor in tensors.items()}
