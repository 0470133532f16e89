"""`seq2seq predict`: lines in, labels out, in the same order."""

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.serving.line_stream import WINDOW_LINES, Format, Labels, LineStream


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
    """Predict the label of each line of a file or of standard input, or of each of its words, as the model was trained.

    Every line of input has one answer, in order. A blank line stays blank, and of a line that is too long the beginning
    is labelled. A line that is not UTF-8, holds NUL, or is no JSON object with a source (with --input-format jsonl) has
    no labels; it is named on standard error, where all such lines are counted at the end.

    Args:
        model: the model.keras of a run whose task is classify or tag.
        file: UTF-8 text, or gzip of it; "-" is standard input.
        output: file for the labels; left out: standard output.
        format: text, the most probable label of the line, or of each word, separated by spaces, and after a tab the
            probabilities of these labels; jsonl, an object for each line of input with the source, its other keys, its
            labels and the probability of every label there is.
        input_format: text, a source a line; jsonl, an object a line with "source"; left out: as --format.
        window: most lines read and labelled together, from which batches of similar length are made.
        max_line_characters: of a longer line, the beginning is labelled; left out: 10,000.
    """
    stream = LineStream(file, output, format, input_format, window, max_line_characters)
    import_tensorflow()
    from seq2seq.models.archive import load
    from seq2seq.models.labelers import LabelPredictor
    from seq2seq.threads import use_single_threaded_ops

    use_single_threaded_ops()
    stream.answer(Labels(load(model, LabelPredictor)))
