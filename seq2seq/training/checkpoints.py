"""What a run needs to go on: every number that a step changes, where in the data it stands, and its best model.

All of it is held together by one file, the state, which names the file of the best model. Both bear the checksum of
what they hold in their names, so the moment when a state gets its name is the moment when the run has moved on:
whatever a kill leaves half done belongs to no state.
"""

import contextlib
import json
import logging
import math
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
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
from seq2seq.models.archive import save
from seq2seq.models.base import TextModel
from seq2seq.training.step import TrainingStep

LOG = logging.getLogger(__name__)

KEPT = 2
"""States that are kept: the one before takes the place of a newest that is damaged."""


class Checkpoints:
    """The last states of a run, and the best models that they speak of.

    Args:
        folder: The run's folder. The states lie in its `state`, the best model of the newest is its `model.keras`.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder / "state"
        self.model_path = folder / "model.keras"
        self._published: str | None = None

    def states(self) -> list[pathlib.Path]:
        """The files of the states, oldest first."""
        return sorted(self.folder.glob("state-*.npz"))

    def models(self) -> list[pathlib.Path]:
        """The files of the best models that the states may speak of, oldest first."""
        return sorted(self.folder.glob("model-*.keras"))

    def save_model(self, model: TextModel) -> str:
        """Writes a model that the next state may speak of, and returns the name of its file.

        It becomes `model.keras` with that state, not before: a run that is killed between the two goes on from the
        state before, whose best model must still be there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        start = self.folder / f"model-{_next_number(self.models())}"
        return write_with_checksum(start, ".keras", lambda path: save(model, path)).name

    def save(self, step: TrainingStep, progress: dict[str, Any]) -> None:
        """Writes a state, makes its best model `model.keras`, and removes the states before the last two.

        Args:
            step: Weights, optimizer, moving average, random streams and loss scale.
            progress: Where the run stands, as JSON can hold it; its `best_model` is what `save_model` gave, or None.

        Raises:
            Seq2SeqError: The disk is full; the states before are whole.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
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
        # Two states that follow one another speak of two models at most.
        _remove([*self.states()[:-KEPT], *self.models()[:-KEPT]])

    def load(self, step: TrainingStep) -> dict[str, Any]:
        """Puts back the newest state that is whole, with its best model, and returns its `progress`.

        Args:
            step: What takes the numbers.

        Raises:
            ModelFileError: There is no state, none is whole, or it is that of another architecture.
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
        progress = _assign(states[-1], step)
        self._publish(progress["best_model"])
        _remove([path for path in self.states() if path > states[-1]])
        return progress

    def drop_newest(self) -> None:
        """Removes the newest state, if there is one before it."""
        _remove(self.states()[1:][-1:])

    def _damage(self, state: pathlib.Path) -> str:
        """What is wrong with a state, or nothing."""
        if not is_intact(state):
            return "its checksum is not that of what it holds"
        best = _progress(state)["best_model"]
        if best is not None and self._copy_of(best) is None:
            return f"its best model, {best}, is missing or damaged"
        return ""

    def _publish(self, best: str | None) -> None:
        """Makes the files of models those of a state: of its best one and of none that came after."""
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
        """A whole file of a best model: the one that is kept with the states, or `model.keras`."""
        kept = self.folder / best
        paths = (path for path in (kept, self.model_path) if path.is_file())
        return next((path for path in paths if checksum(path) == named_checksum(kept)), None)


def variables(step: TrainingStep) -> list[Any]:
    """All variables, in an order that the architecture fixes; Keras counts those of random streams as a model's own."""
    return [*step.model.variables, *step.optimizer.variables, *step.averaged.trainable_variables]


def _assign(state: pathlib.Path, step: TrainingStep) -> dict[str, Any]:
    current = variables(step)
    with np.load(state, allow_pickle=False) as stored:
        arrays = [stored[f"variable_{index}"] for index in range(sum("variable_" in name for name in stored.files))]
        loss_scale = stored.get("loss_scale")
    shapes = [tuple(variable.shape) for variable in current]
    if [array.shape for array in arrays] != shapes:
        raise ModelFileError(
            f"{state}: the state must hold {len(shapes)} arrays of this recipe's shapes, but holds {len(arrays)} "
            "others instead. Resume with the recipe that the run began with."
        )
    for variable, array in zip(current, arrays, strict=True):
        variable.assign(array)
    # Where precision is auto, a run may go on from another machine's state, which has none.
    if step.loss_scale and loss_scale is not None:
        for variable, number in zip(step.loss_scale.variables, loss_scale, strict=True):
            variable.assign(number)
    return _progress(state)


def _progress(state: pathlib.Path) -> dict[str, Any]:
    with np.load(state, allow_pickle=False) as stored:
        return dict(json.loads(str(stored["progress"])))


def _next_number(files: list[pathlib.Path]) -> str:
    """Counts on from the last of some files, in as many digits as keep their names in order."""
    return f"{int(files[-1].name.split('-')[1]) + 1 if files else 0:08}"


def _remove(files: list[pathlib.Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


class Snapshots:
    """The weights at the best evaluations of a run, on disk, for their mean.

    Near the end of a run the weights wander about a point that the loss likes better than the places they pass; their
    mean is closer to it (Junczys-Dowmunt et al. 2016, arXiv 1605.04809). At most `count` files of the size of the
    model's weights are kept, and one at a time is read.

    Args:
        folder: Where the files are.
        count: How many evaluations are kept.
        lower_is_better: Whether the score that ranks them is a loss.
    """

    def __init__(self, folder: pathlib.Path, count: int, lower_is_better: bool) -> None:
        self.folder = folder
        self.count = count
        self._sign = 1 if lower_is_better else -1

    def keep(self, model: TextModel, updates: int, score: float) -> None:
        """Writes the weights down if no `count` earlier evaluations are at least as good, and their score is a number.

        Args:
            model: The evaluated model.
            updates: Steps of the run so far.
            score: What the dev set says of the model.
        """
        # What a lost life of this run left of a later time than this one's is not of this run.
        for path in self._files():
            if _updates(path) >= updates:
                path.unlink()
        if math.isnan(score):
            return
        ranked = sorted(self._files(), key=self._rank)
        if len(ranked) >= self.count:
            worst = ranked[-1]
            if self._sign * score >= self._rank(worst)[0]:
                return
            worst.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        weights = [variable.numpy() for variable in model.trainable_variables]
        arrays: dict[str, Any] = dict(zip(_names(len(weights)), weights, strict=True))
        write_with_checksum(
            self.folder / str(updates), ".npz", lambda path: np.savez(path, score=np.array(score), **arrays)
        )

    def assign_mean(self, model: TextModel) -> int:
        """Puts the mean of the kept weights into a model of the same shapes; where none are kept, it stays as it is.

        Returns:
            Of how many evaluations it is the mean.

        Raises:
            ModelFileError: A file is damaged.
        """
        files = sorted(self._files(), key=_updates)
        if not files:
            return 0
        variables = model.trainable_variables
        sums = [np.zeros(variable.shape) for variable in variables]
        for path in files:
            for total, weights in zip(sums, _stored(path, _names(len(variables))), strict=True):
                total += weights
        for variable, total in zip(variables, sums, strict=True):
            variable.assign(total / len(files))
        return len(files)

    def remove(self) -> None:
        """Gives the disk back."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[pathlib.Path]:
        return list(self.folder.glob("[0-9]*-*.npz"))

    def _rank(self, path: pathlib.Path) -> tuple[float, int]:
        """Best first; of equals the earlier one, as for the best model of a run."""
        (score,) = _stored(path, ["score"])
        return self._sign * float(score), _updates(path)


def _updates(path: pathlib.Path) -> int:
    return int(path.stem.partition("-")[0])


def _names(count: int) -> list[str]:
    return [f"variable_{index}" for index in range(count)]


def _stored(path: pathlib.Path, names: Iterable[str]) -> Iterator[np.ndarray]:
    """Arrays of a file one by one, so that no more than one is in memory."""
    if not is_intact(path):
        raise ModelFileError(
            f"{path}: damaged: its checksum is not that of what it holds. Remove it, and go on with --resume: the mean "
            "is then that of the others."
        )
    with np.load(path, allow_pickle=False) as stored:
        for name in names:
            yield stored[name]


def add_to_history(path: pathlib.Path, entry: dict[str, Any]) -> None:
    """Adds a line.

    Raises:
        Seq2SeqError: The disk is full.
    """
    with explain_refusals(path), path.open("a", encoding="utf-8") as file:
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
