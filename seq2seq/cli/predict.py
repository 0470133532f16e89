"""`seq2seq predict`: the labels of lines, in the same order."""

import functools
import json
from typing import TYPE_CHECKING, Any

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.serving.line_stream import WINDOW_LINES, Format, LineStream

if TYPE_CHECKING:
    from seq2seq.serving.line_stream import Answer


def predict(
    model: str,
    file: str = "-",
    /,
    *,
    output: str | None = None,
    format: Format = "text",  # noqa: A002 - the word of the flag
    input_format: Format | None = None,
    window: int = WINDOW_LINES,
    max_line_characters: int | None = None,
) -> None:
    """Give the label of each line of a file or of standard input, or the labels of its words, as the model was trained.

    Every line of input has its answer, in order. A blank line stays blank, the beginning of a line that is too long is
    labelled, and a line that is not UTF-8, holds NUL, or is no JSON object with a source where those are read, has no
    labels: it is named on standard error, where all are counted at the end.

    Args:
        model: the model.keras of a run whose task is classify or tag.
        file: UTF-8 text, or gzip of it; "-" is standard input.
        output: file for the labels; left out: standard output.
        format: text, the most probable label, or a label for each word, apart by spaces, and behind a tab its
            probability, or theirs; jsonl, an object a line with the source, all keys of its own, its labels and the
            probability of every label there is.
        input_format: text, a source a line; jsonl, an object a line with "source"; left out: as --format.
        window: lines read and labelled together, at most, from which batches of similar length are made.
        max_line_characters: of a longer line the beginning is labelled; left out: 10,000.
    """
    stream = LineStream(file, output, format, input_format, window, max_line_characters)
    import_tensorflow()
    from seq2seq.models.archive import load
    from seq2seq.models.labelers import LabelPredictor
    from seq2seq.serving.line_stream import label_stream
    from seq2seq.threads import use_single_threaded_ops

    use_single_threaded_ops()
    loaded = load(model, LabelPredictor)
    labels = loaded.labels

    def text_line(answer: "Answer") -> list[str]:
        if not any(found.labels for found in answer.hypotheses):
            return [""]
        (found,) = answer.hypotheses
        return [f"{found.text}\t{' '.join(f'{best:.4f}' for best in found.probabilities.max(axis=-1))}"]

    def json_line(answer: "Answer") -> list[str]:
        record: dict[str, Any] = {"source": answer.request.source, **answer.request.record}
        for found in answer.hypotheses:
            every = [dict(zip(labels, row, strict=True)) for row in found.probabilities.round(6).tolist()]
            record |= {"labels": found.labels, "probabilities": every}
        if answer.problem is not None:
            record["problem"] = answer.problem
        return [json.dumps(record, ensure_ascii=False)]

    stream.answer(functools.partial(label_stream, loaded), json_line if format == "jsonl" else text_line)
