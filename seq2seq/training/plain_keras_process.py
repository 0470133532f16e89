"""Plain Keras in a process of its own: there TensorFlow's operations have all cores each, as they have by default."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from seq2seq.config import Config
from seq2seq.training.plain_keras import PlainKeras, PlainKerasResult


class PlainKerasProcess:
    """A `PlainKeras` to be called as one, whose steps run elsewhere; `close` ends it.

    Args:
        config: The run.
        source_vocabulary_size: Number of source tokens.
        target_vocabulary_size: Number of target tokens.
        dtype: Keras dtype policy.
    """

    def __init__(self, config: Config, source_vocabulary_size: int, target_vocabulary_size: int, dtype: str) -> None:
        # A copy of this process would have its threads, too.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, config, source_vocabulary_size, target_vocabulary_size, dtype)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    def __call__(
        self, source_ids: Any, target_ids: Any, learning_rate: float, parts_before: Sequence[tuple[Any, Any]] = ()
    ) -> PlainKerasResult:
        """As a `PlainKeras`.

        Raises:
            EOFError: The process has ended before; what it said stands on standard error.
        """
        self._connection.send((source_ids, target_ids, learning_rate, parts_before))
        return PlainKerasResult(self._connection.recv())

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, *arguments: Any) -> None:
    step = PlainKeras(*arguments)
    while True:
        try:
            batch = connection.recv()
        except EOFError:
            return
        connection.send(float(step(*batch).loss))
