"""The mean of the weights at a run's best evaluations, which is often better than each of them."""

import math
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from seq2seq.errors import ModelFileError
from seq2seq.model import SourceReader
from seq2seq.training.files import is_as_written, write_with_checksum


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

    def keep(self, model: SourceReader, updates: int, score: float) -> None:
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

    def assign_mean(self, model: SourceReader) -> int:
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
    if not is_as_written(path):
        raise ModelFileError(
            f"{path}: damaged: its checksum is not that of what it holds. Remove it, and go on with --resume: the mean "
            "is then that of the others."
        )
    with np.load(path, allow_pickle=False) as stored:
        for name in names:
            yield stored[name]
