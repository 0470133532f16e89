"""`seq2seq translate`: lines in, lines out, in the same order."""

import contextlib
import io
import itertools
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import cyclopts

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.search_options import AS_SAVED, SearchOptions
from seq2seq.errors import ConfigError, DataError

if TYPE_CHECKING:
    from seq2seq.model import Hypothesis

WINDOW_LINES = 512


def translate(
    model: str,
    file: str = "-",
    /,
    *,
    output: str | None = None,
    format: Literal["text", "jsonl"] = "text",  # noqa: A002 - the word of the flag
    n_best: int | None = None,
    window: int | None = None,
    search: Annotated[SearchOptions, cyclopts.Parameter(name="*")] = AS_SAVED,
) -> None:
    """Translate each line of a file, or of standard input; a blank line stays blank.

    Args:
        model: the model.keras of a run.
        file: UTF-8 text, or gzip of it; "-" is standard input.
        output: file for the translations; left out: standard output.
        format: text, a line each; jsonl, an object a line with the source, its translations and their scores.
        n_best: translations of each line, best first; as text each has a line of its own.
        window: lines read, translated and written at once; left out: 1 where somebody types, else 512.
        search: how to search.
    """
    size = _window_lines(window, file)
    if output is not None and file != "-" and pathlib.Path(output).resolve() == pathlib.Path(file).resolve():
        raise ConfigError(f"--output must be another file than the input, but is {output} too. Name another.")
    import_tensorflow()
    from seq2seq.model import load
    from seq2seq.text import read_lines

    translator = load(model)
    options = search.given() | ({} if n_best is None else {"n_best": n_best})
    count = translator.decoding.replaced(**options).n_best
    lines = read_lines(sys.stdin.buffer if file == "-" else file)
    with _opened(output) as stream:
        while sources := list(itertools.islice(lines, size)):
            for source, hypotheses in zip(sources, translator.generate(sources, **options), strict=True):
                for line in _lines(source, hypotheses, count, format):
                    print(line, file=stream)
            stream.flush()


def _window_lines(window: int | None, file: str) -> int:
    if window is None:
        return 1 if file == "-" and sys.stdin.isatty() else WINDOW_LINES
    if window < 1:
        raise ConfigError(f"--window must be at least 1, but is {window} instead.")
    return window


def _lines(source: str, hypotheses: Sequence["Hypothesis"], count: int, format: str) -> Iterator[str]:  # noqa: A002
    if format == "jsonl":
        found = [{"text": hypothesis.text, "score": hypothesis.score} for hypothesis in hypotheses]
        yield json.dumps({"source": source, "translations": found}, ensure_ascii=False)
        return
    # A source has the same number of lines whatever the search found, so that line numbers say what belongs to what.
    texts = [hypothesis.text.replace("\n", " ") for hypothesis in hypotheses]
    yield from texts + [""] * (count - len(texts))


@contextlib.contextmanager
def _opened(output: str | None) -> Iterator[TextIO]:
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        return
    try:
        with open(output, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{output}: the translations cannot be written: {error.strerror}.") from error
