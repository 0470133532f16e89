"""Where the lines of an answer go, and what of them is there after a kill."""

import contextlib
import io
import pathlib
import sys
from collections.abc import Iterator
from typing import TextIO

from seq2seq.errors import ConfigError, DataError


def refuse_same_file(output: str | None, *inputs: str) -> None:
    """Refuses an output that would overwrite what is being read.

    Raises:
        ConfigError: It is one of the inputs.
    """
    if output is not None and pathlib.Path(output).resolve() in [pathlib.Path(file).resolve() for file in inputs]:
        raise ConfigError(f"--output must be another file than the input, but is {output} too. Name another.")


@contextlib.contextmanager
def opened_output(output: str | None) -> Iterator[TextIO]:
    """A file, or standard output, as UTF-8; what is written to it in one call is passed on in one.

    Raises:
        DataError: It cannot be written.
    """
    try:
        if output is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", newline="\n", line_buffering=True)
            yield sys.stdout
            return
        with open(output, "w", encoding="utf-8", newline="\n", buffering=1) as stream:
            yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "<stdout>" if output is None else output
        raise DataError(f"{name}: the results cannot be written: {error.strerror}.") from error
