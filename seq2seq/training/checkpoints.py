"""What a run needs to go on: every number that a step changes, and where in the data it stands."""

import json
import os
import pathlib
from typing import Any

import numpy as np

from seq2seq.errors import ModelFileError
from seq2seq.training.step import TrainingStep

NUMBERS = "state.npz"


def _variables(step: TrainingStep) -> list[Any]:
    """All variables, in an order that the architecture fixes; Keras counts those of random streams as a model's own."""
    return [*step.model.variables, *step.optimizer.variables, *step.averaged.trainable_variables]


def save_state(folder: pathlib.Path, step: TrainingStep, progress: dict[str, Any]) -> None:
    """Writes the state of a run to `folder`, under another name first, so that what stands there is always whole.

    Args:
        folder: The run's `state` folder.
        step: Its weights, optimizer, moving average and random streams.
        progress: Where the run stands, as JSON can hold it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished-{NUMBERS}"
    arrays: dict[str, Any] = {f"variable_{index}": np.asarray(value) for index, value in enumerate(_variables(step))}
    arrays["progress"] = np.array(json.dumps(progress))
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / NUMBERS)


def load_state(folder: pathlib.Path, step: TrainingStep) -> dict[str, Any]:
    """Puts back what `save_state` wrote, and returns the `progress` it was given.

    Raises:
        ModelFileError: There is no state, it is damaged, or it is that of another architecture.
    """
    path = folder / NUMBERS
    if not path.is_file():
        raise ModelFileError(f"{path}: no state to resume from. Start the run without --resume.")
    variables = _variables(step)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            progress = json.loads(str(stored["progress"]))
            arrays = [stored[f"variable_{index}"] for index in range(len(stored.files) - 1)]
    except Exception as error:
        # A wrong byte leads NumPy, zipfile and json to more kinds of errors than they name.
        raise ModelFileError(f"{path}: damaged: {error}. Start the run without --resume.") from error
    shapes = [tuple(variable.shape) for variable in variables]
    if [array.shape for array in arrays] != shapes:
        raise ModelFileError(
            f"{path}: the state must hold {len(shapes)} arrays of this recipe's shapes, but holds {len(arrays)} others "
            "instead. Resume with the recipe that the run began with."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return dict(progress)
