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
    """All variables, those of random streams among them, in an order that the architecture fixes."""
    return [*step.model.variables, *step.optimizer.variables, *step.averaged.trainable_variables, *_seeds(step)]


def _seeds(step: TrainingStep) -> list[Any]:
    known = {id(variable) for variable in step.model.variables}
    return [
        generator.state
        for layer in step.model._flatten_layers()
        for generator in getattr(layer, "_seed_generators", [])
        if id(generator.state) not in known
    ]


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
        with np.load(path, allow_pickle=False) as stored:
            progress = json.loads(str(stored["progress"]))
            arrays = [stored[f"variable_{index}"] for index in range(len(stored.files) - 1)]
    except (OSError, ValueError, KeyError, EOFError) as error:
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
