"""Checkpoints of a run: every number that a step changes, the place in the data, and the best model.

A state is one file, which names the file of its best model. Both have their own checksum in their name, so a run has
moved on at the moment when a state gets its name: what a kill leaves half done belongs to no state.
"""

import contextlib
import json
import logging
import math
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.errors import ModelFileError
from seq2seq.files import (
    checksum,
    explain_refusals,
    is_intact,
    named_checksum,
    remove_unfinished,
    write_whole,
    write_with_checksum,
)
from seq2seq.models.base import TextModel
from seq2seq.training.step import TrainingStep

LOG = logging.getLogger(__name__)

STATES_KEPT = 2
"""The last but one replaces a newest state that is damaged."""


class Checkpoints:
    """The last states of a run with their best models; the best model of the newest is also `model.keras`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "state"
        self.model_path = folder / "model.keras"
        self._published: str | None = None

    def states(self) -> list[pathlib.Path]:
        """Return the files of the states, oldest first."""
        return sorted(self.folder.glob("state-*.npz"))

    def models(self) -> list[pathlib.Path]:
        """Return the files of the best models, oldest first."""
        return sorted(self.folder.glob("model-*.keras"))

    def save_model(self, model: TextModel) -> str:
        """Write a model for the next state, and return the name of its file.

        It becomes `model.keras` with that state, not before: a run that is killed between the two goes on from the
        state before, whose best model must still be there.
        """
        start = self.folder / f"model-{_next_number(self.models())}"
        return write_with_checksum(start, ".keras", model.save).name

    def save(self, step: TrainingStep, progress: dict[str, Any]) -> None:
        """Write a state, make its best model `model.keras`, and remove all but the last states.

        Args:
            step: weights, optimizer, moving average, random streams and loss scale.
            progress: counters of the run; `best_model` is a name from `save_model` or None.
        """
        arrays: dict[str, Any] = {f"variable_{index}": np.asarray(value) for index, value in enumerate(variables(step))}
        if step.loss_scale:
            arrays["loss_scale"] = np.array(step.loss_scale.variables)
        arrays["progress"] = np.array(json.dumps(progress))
        start = self.folder / f"state-{_next_number(self.states())}"
        write_with_checksum(start, ".npz", lambda path: np.savez(path, **arrays))
        best = progress["best_model"]
        if best != self._published:
            write_whole(self.model_path, (self.folder / best).read_bytes())
            self._published = best
        # Successive states have as many best models at most.
        _remove([*self.states()[:-STATES_KEPT], *self.models()[:-STATES_KEPT]])

    def load(self, step: TrainingStep) -> dict[str, Any]:
        """Restore the newest undamaged state with its best model, and return its `progress`.

        Raises:
            ModelFileError: there is no state, none is whole, or it is that of another architecture.
        """
        for path in remove_unfinished(self.folder):
            LOG.info(f"{path}: was being written when the run was stopped; it is removed")
        states = self.states()
        if not states:
            raise ModelFileError(f"{self.folder}: no state to resume from. Start the run without --resume.")
        damaged: list[str] = []
        while states and (reason := self._damage(states[-1])):
            damaged.append(f"{states.pop().name}: {reason}")
            if states:
                LOG.info(f"{self.folder}: a state is damaged, the run goes on from the one before it ({damaged[-1]})")
        if not states:
            raise ModelFileError(
                f"{self.folder}: none of the states is whole ({'; '.join(damaged)}). Start the run without --resume."
            )
        progress = _restore(states[-1], step)
        self._publish(progress["best_model"])
        _remove([path for path in self.states() if path > states[-1]])
        return progress

    def drop_newest(self) -> None:
        """Remove the newest state, if there is one before it."""
        _remove(self.states()[1:][-1:])

    def _damage(self, state: pathlib.Path) -> str:
        if not is_intact(state):
            return "its checksum is not that of what it holds"
        best = _progress(state)["best_model"]
        if best is not None and self._copy_of(best) is None:
            return f"its best model, {best}, is missing or damaged"
        return ""

    def _publish(self, best: str | None) -> None:
        """Restore the best model of a state, and remove the models of later ones."""
        if best is None:
            _remove([*self.models(), self.model_path])
        else:
            kept, copy = self.folder / best, self._copy_of(best)
            _remove([path for path in self.models() if path > kept])
            for path in (kept, self.model_path):
                if copy is not None and not (path.is_file() and checksum(path) == named_checksum(kept)):
                    write_whole(path, copy.read_bytes())
        self._published = best

    def _copy_of(self, best: str) -> pathlib.Path | None:
        """Return an undamaged file of a best model: in the folder of states, or `model.keras`."""
        kept = self.folder / best
        paths = (path for path in (kept, self.model_path) if path.is_file())
        return next((path for path in paths if checksum(path) == named_checksum(kept)), None)


def variables(step: TrainingStep) -> list[Any]:
    """Return all variables in an order that the architecture fixes; those of the model include its random streams."""
    return [*step.model.variables, *step.optimizer.variables, *step.averaged.trainable_variables]


def _restore(state: pathlib.Path, step: TrainingStep) -> dict[str, Any]:
    current = variables(step)
    with np.load(state, allow_pickle=False) as stored:
        arrays = [stored[f"variable_{index}"] for index in range(sum("variable_" in name for name in stored.files))]
        loss_scale = stored.get("loss_scale")
    shapes = [tuple(variable.shape) for variable in current]
    if [array.shape for array in arrays] != shapes:
        raise ModelFileError(
            f"{state}: the state must hold {len(shapes)} arrays of this recipe's shapes, got {len(arrays)} others. "
            "Resume with the recipe that the run began with."
        )
    for variable, array in zip(current, arrays, strict=True):
        variable.assign(array)
    # With precision auto, a run may resume from the state of another machine, which has none.
    if step.loss_scale and loss_scale is not None:
        for variable, number in zip(step.loss_scale.variables, loss_scale, strict=True):
            variable.assign(number)
    return _progress(state)


def _progress(state: pathlib.Path) -> dict[str, Any]:
    with np.load(state, allow_pickle=False) as stored:
        return dict(json.loads(str(stored["progress"])))


def _next_number(files: list[pathlib.Path]) -> str:
    # As many digits as keep the names in order.
    return f"{int(files[-1].name.split('-')[1]) + 1 if files else 0:08}"


def _remove(files: list[pathlib.Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


class Snapshots:
    """The weights at the best evaluations of a run, on disk, for their mean.

    Near its end a run wanders around a point of lower loss than the points that it passes; the mean of their weights is
    closer to it (Junczys-Dowmunt et al. 2016, arXiv 1605.04809).

    Args:
        folder: folder of the files, each of the size of the model's weights; one at a time is read.
        count: evaluations to keep.
        lower_is_better: whether the score that ranks them is a loss.
    """

    def __init__(self, folder: pathlib.Path, count: int, lower_is_better: bool) -> None:
        self.folder = folder
        self.count = count
        self._sign = 1 if lower_is_better else -1

    def keep(self, model: TextModel, updates: int, score: float) -> None:
        """Write the weights, unless `count` earlier evaluations are at least as good or the score is not a number."""
        # A killed process may have left later ones than the state that the run was resumed from.
        _remove([path for path in self._ranked() if _rank(path)[1] >= updates])
        if math.isnan(score):
            return
        ranked, rank = self._ranked(), self._sign * score
        if len(ranked) >= self.count:
            if rank >= _rank(ranked[-1])[0]:
                return
            ranked[-1].unlink()
        weights = [variable.numpy() for variable in model.trainable_variables]
        write_with_checksum(self.folder / f"{rank!r}_{updates}", ".npz", lambda path: np.savez(path, *weights))

    def assign_mean(self, model: TextModel) -> int:
        """Assign the mean of the kept weights to a model, if there are any, and return their number.

        Raises:
            ModelFileError: a file is damaged.
        """
        files = sorted(self._ranked(), key=lambda path: _rank(path)[1])
        variables = model.trainable_variables
        sums = [np.zeros(variable.shape) for variable in variables]
        for path in files:
            if not is_intact(path):
                raise ModelFileError(
                    f"{path}: damaged: its checksum is not that of what it holds. Remove it, and go on with --resume: "
                    "the mean is then that of the others."
                )
            with np.load(path, allow_pickle=False) as stored:
                # One array at a time is in memory.
                for total, name in zip(sums, stored.files, strict=True):
                    total += stored[name]
        if files:
            for variable, total in zip(variables, sums, strict=True):
                variable.assign(total / len(files))
        return len(files)

    def remove(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ranked(self) -> list[pathlib.Path]:
        """List the files, the best first, and of equals the earlier one, as for the best model of a run."""
        return sorted(self.folder.glob("*_*-*.npz"), key=_rank)


def _rank(path: pathlib.Path) -> tuple[float, int]:
    """Read the rank of an evaluation, the lower the better, and its number of updates from the name of its file."""
    rank, _, updates = path.name.rpartition("-")[0].partition("_")
    return float(rank), int(updates)


def add_to_history(path: pathlib.Path, entry: dict[str, Any]) -> None:
    """Append a line of JSON."""
    with explain_refusals(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def cut_history(path: pathlib.Path, updates: int) -> None:
    """Remove the lines of evaluations after `updates` updates, which will be evaluated again."""
    if not path.is_file():
        return
    # A kill may have left the last line half written, and without its end.
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["updates"] <= updates]
    if kept != lines:
        write_whole(path, "".join(kept).encode())


@contextlib.contextmanager
def tensorboard(folder: pathlib.Path, enabled: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Yield a function that writes the scores of an evaluation for TensorBoard, or does nothing."""
    if not enabled:
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
