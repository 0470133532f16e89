"""`seq2seq export`: export a trained model to other runtimes."""

import itertools
import pathlib
from typing import Any, Literal

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.config.flags import Switch, with_search_flags
from seq2seq.errors import ArgumentError, ConfigError, Seq2SeqError


@with_search_flags
def export(
    model: str,
    /,
    *,
    format: Literal["saved_model", "onnx", "litert", "keras"],  # noqa: A002 - the word of the flag
    output: str | None = None,
    sentences: str | None = None,
    most: int = 100,
    ids: Switch = False,
    attention: Switch = False,
    source_steps: int = 64,
    whole_search: Switch = False,
    search: dict[str, Any],
) -> None:
    """Export a model to another runtime, and check with real sentences that it translates as before.

    Args:
        model: the model.keras of a run.
        format: saved_model, for TensorFlow without this package: the whole translator, from strings to strings and
            from ids to ids; onnx, for onnxruntime: encoder and decoder step, and a script that translates with them and
            needs onnxruntime, sentencepiece and NumPy alone; litert, the same for ai-edge-litert, with one shape for
            all sentences, one by one; keras, with --precision int8: a model file of a quarter of the size.
        output: folder or model file to write, which must not exist; left out: next to the model.
        sentences: lines to check it with; may end in .gz; left out: the dev set of the model's recipe.
        most: number of lines to check with, at most.
        ids: of a SavedModel: leave out strings, which need tensorflow-text wherever it is loaded.
        attention: of a SavedModel: translations come with the attention to each source token.
        source_steps: of litert: most tokens of a source, its end included.
        whole_search: of onnx: also write translate.onnx, the search in one graph, from ids to ids and scores.
        search: settings that change the model's search.
    """
    for name, value in (("most", most), ("source_steps", source_steps)):
        if value < 1:
            raise ArgumentError(f"--{name.replace('_', '-')}", "at least 1", value)
    import_tensorflow()
    from seq2seq.export.exporting import export_model
    from seq2seq.models.archive import load
    from seq2seq.models.seq2seq import Seq2Seq

    path = pathlib.Path(model)
    ending = ".int8.keras" if format == "keras" else f".{format}"
    folder = path.with_suffix(ending) if output is None else pathlib.Path(output)
    loaded = load(path, Seq2Seq)
    options: dict[str, Any] = {
        "attention": attention,
        "strings": not ids,
        "source_steps": source_steps,
        "whole_search": whole_search,
    } | search
    parity = export_model(loaded, folder, format, _sentences(loaded, sentences, most), **options)
    print(parity)
    size = sum(file.stat().st_size for file in (folder, *folder.rglob("*")) if file.is_file())
    print(f"{folder}: {format}, {size / 1e6:.1f} MB")


def _sentences(model: Any, file: str | None, most: int) -> list[str]:
    """Return the first lines of a file, or sources of the dev set."""
    from seq2seq.text.lines import read_lines

    if file is not None:
        return list(itertools.islice(read_lines(file), most))
    from seq2seq.config.sections import Config
    from seq2seq.training.data import Corpus

    try:
        return Corpus(Config.from_dict(model.recipe)).dev().sources[:most]
    except Seq2SeqError as error:
        raise ConfigError(
            f"--sentences must be given, since the dev set of the model's recipe cannot be read. {error}"
        ) from error
