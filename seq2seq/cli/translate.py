"""`seq2seq translate`: lines in, translations out, in the same order."""

from collections.abc import Sequence
from typing import Annotated, Any

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.config.flags import Switch, with_search_flags
from seq2seq.errors import ConfigError
from seq2seq.serving.line_stream import WINDOW_LINES, Format, LineStream, Translations


@with_search_flags
def translate(
    model: str,
    file: str = "-",
    /,
    *,
    output: str | None = None,
    format: Format = "text",  # noqa: A002 - the word of the flag
    input_format: Format | None = None,
    tokens: Switch = False,
    attention: Switch = False,
    ensemble: Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), consume_multiple=True)] = (),
    window: int = WINDOW_LINES,
    max_line_characters: int | None = None,
    search: dict[str, Any],
) -> None:
    """Translate each line of a file, or of standard input, and write one answer per line, in order.

    A blank line stays blank. Of a line that is too long, the beginning is translated. A line that is not UTF-8, holds
    NUL, is no JSON object with a source (with --input-format jsonl), or asks for a prefix or phrase that cannot be
    written gives an empty translation. All but blank lines are named on standard error with file and line; at the end
    all are counted there, and so are translations that stopped at --max-length before they ended.

    Answers are written line by line, each as a whole, and as soon as input pauses.

    Args:
        model: the model.keras of a run.
        file: UTF-8 text, or gzip of it; "-" is standard input.
        output: file for the translations; left out: standard output.
        format: text, a line for each translation; jsonl, an object for each line of input with the source, its other
            keys, its translations and their scores, the number of source tokens that were left out of a source that was
            cut, and the problem of a line that has one.
        input_format: text, a source a line; jsonl, an object a line with "source", and optionally "prefix" (a string),
            "required" and "banned" (lists of strings), and other keys; left out: as --format.
        tokens: in jsonl, also the tokens of the source and of each translation, the log-probability of each token, and
            the position of the source token, from 0, that it attended to most; for a model whose encoder joins source
            tokens, the position in "source_windows", the tokens that are read as one.
        attention: the same, and the attention of each token to each source token, or window, a list for each.
        ensemble: other models whose log-probabilities are averaged with the model's at every step; they must share its
            target vocabulary.
        window: most lines read and searched together, from which batches of similar length are made.
        max_line_characters: of a longer line, the beginning is translated; left out: 10,000.
        search: settings that change the model's search.
    """
    if (tokens or attention) and format == "text":
        name = "--tokens" if tokens else "--attention"
        raise ConfigError(f"{name} must be left out where --format is text, but is given. Add --format jsonl.")
    stream = LineStream(file, output, format, input_format, window, max_line_characters)
    import_tensorflow()
    from seq2seq.models.archive import load
    from seq2seq.models.seq2seq import Seq2Seq
    from seq2seq.threads import use_single_threaded_ops

    use_single_threaded_ops()
    models = [load(path, Seq2Seq) for path in (model, *ensemble)]
    reader = models[0] if tokens or attention else None
    stream.answer(Translations(_combine(models), reader, attention, **search))


def _combine(models: Sequence[Any]) -> Any:
    if len(models) == 1:
        return models[0]
    from seq2seq.models.generation import Ensemble

    try:
        return Ensemble(models)
    except ValueError as error:
        raise ConfigError(f"--ensemble: {error}") from error
