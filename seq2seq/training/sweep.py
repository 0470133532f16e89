"""Several runs that differ in a few settings, one after the other on the same data in the same order."""

import contextlib
import gc
import json
import logging
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.config.sweep import Comparison, Variant
from seq2seq.errors import ConfigError, Seq2SeqError
from seq2seq.files import write_whole
from seq2seq.models.build import check_recipe
from seq2seq.progress import labelled
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.data import Corpus
from seq2seq.training.run import SCORES_FILE, TrainingResult, train
from seq2seq.training.run_folder import recipe_changes
from seq2seq.training.step import choose_workers

LOG = logging.getLogger(__name__)

RESULTS_FILE = "comparison.json"


def compare(
    comparison: Comparison, train: Callable[[Config, bool], TrainingResult] = train
) -> Iterator[dict[str, Any]]:
    """Train the unfinished runs of a comparison, and yield all results before the first and after each.

    The same seed gives all runs one tokenizer and one order of batches, unless they differ in it. A run that was
    stopped goes on from its state; one that fails does not stop the others, and is tried again with the comparison.

    Args:
        comparison: the runs, from `plan_comparison`.
        train: trains one run.

    Returns:
        An iterator of the content of `comparison.json`: `name`, `axes` and `variants`, each with `name`, `settings`,
        `folder`, `status` (`waiting`, `finished` or `failed`), its `error`, and `scores` as in the run's `scores.json`.

    Raises:
        ConfigError: a run that is there had another recipe.
        DataError: the files of a run are absent.
        KeyboardInterrupt: Ctrl-C; the state is saved, and the same comparison goes on from there.
    """
    variants = comparison.variants
    # Must be set before a check runs TensorFlow.
    choose_workers(variants[0].config.training.workers)
    for variant in variants:
        _check(variant)
    rows = [_row(variant) for variant in variants]
    results = {"name": comparison.name, "axes": list(variants[0].settings), "variants": rows}
    yield _written(results, comparison.folder)
    for number, (variant, row) in enumerate(zip(variants, rows, strict=True), start=1):
        if row["status"] != "finished":
            with labelled(f"{number}/{len(variants)} {variant.name}"):
                row |= _outcome(variant.config, train)
            yield _written(results, comparison.folder)


def _check(variant: Variant) -> None:
    config = variant.config
    try:
        check_recipe(config)
    except ConfigError as error:
        raise ConfigError(f"variant {variant.name}: {error}", error.key) from None
    if changes := recipe_changes(config):
        raise ConfigError(
            f"{config.run.path}: a comparison must go on with the recipe it began with, but {'; '.join(changes)}. "
            "Put it back, give the new comparison another --name, or remove that folder to train it again."
        )
    # Absent files are an error now, not when it is this run's turn.
    Corpus(config)


def _row(variant: Variant) -> dict[str, Any]:
    folder = variant.config.run.path
    row: dict[str, Any] = {"name": variant.name, "settings": variant.settings, "folder": folder.as_posix()}
    if not (folder / SCORES_FILE).is_file():
        return row | {"status": "waiting", "error": None, "scores": {}}
    scores = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))
    return row | {"status": "finished", "error": None, "scores": scores}


def _outcome(config: Config, train: Callable[[Config, bool], TrainingResult]) -> dict[str, Any]:
    """Train one run, from its start or its state; everything but Ctrl-C is an outcome."""
    resume = bool(Checkpoints(config.run.path).states())
    try:
        with _without_retracing_warnings():
            return {"status": "finished", "error": None, "scores": train(config, resume).scores}
    except Seq2SeqError as error:
        LOG.error(f"failed: {error}")
        return {"status": "failed", "error": str(error)}
    except Exception as error:
        # A mistake of ours, or the machine's: the place of it must be seen.
        traceback.print_exc(file=sys.stderr)
        LOG.error("failed")
        return {"status": "failed", "error": f"{type(error).__name__}: {error}"}
    finally:
        # Compiled functions hold their step in a circle, and the next model needs the memory of this one.
        gc.collect()


@contextlib.contextmanager
def _without_retracing_warnings() -> Iterator[None]:
    """Silence TensorFlow, which takes the functions of successive models for one that is compiled again and again."""

    def is_news(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    tf.get_logger().addFilter(is_news)
    try:
        yield
    finally:
        tf.get_logger().removeFilter(is_news)


def _written(results: dict[str, Any], folder: pathlib.Path) -> dict[str, Any]:
    write_whole(folder / RESULTS_FILE, (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode())
    return results
