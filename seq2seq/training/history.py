"""The account of a run's evaluations: a line of JSON each in `history.jsonl`, and TensorBoard's files where wanted."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from seq2seq.training.files import refusals_explained, write_whole


def add_to_history(path: pathlib.Path, entry: dict[str, Any]) -> None:
    """Adds a line.

    Raises:
        Seq2SeqError: The disk is full.
    """
    with refusals_explained(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def cut_history(path: pathlib.Path, updates: int) -> None:
    """Removes the lines after a state: what was evaluated there will be evaluated again.

    Args:
        path: The history.
        updates: The last evaluation that the state knows of.
    """
    if not path.is_file():
        return
    # A kill may have left the last line half written, and without its end.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["updates"] <= updates]
    if kept != lines:
        write_whole(path, "".join(kept).encode())


@contextlib.contextmanager
def tensorboard(folder: pathlib.Path, wanted: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Gives what writes the scores of an evaluation for TensorBoard, or does nothing where that is not wanted."""
    if not wanted:
        yield lambda *_: None
        return
    writer = tf.summary.create_file_writer(str(folder / "tensorboard"))

    def write(updates: int, scores: dict[str, float]) -> None:
        with writer.as_default(updates):
            for name, value in scores.items():
                tf.summary.scalar(f"dev/{name}", value)

    try:
        yield write
    finally:
        writer.close()
