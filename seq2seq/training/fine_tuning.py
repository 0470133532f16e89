"""Fine-tuning: a run that starts from the weights and the tokenizer of another model instead of from chance."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from seq2seq.config.base import suggestion
from seq2seq.config.sections import LABEL_TASKS, Config
from seq2seq.errors import ConfigError, ModelFileError
from seq2seq.models.archive import load
from seq2seq.models.base import TextModel
from seq2seq.training.step import TrainingStep

NOT_COMPARED = (
    *("embedding_dropout", "dropout", "context_dropout", "readout_dropout", "source_word_dropout"),
    *("target_word_dropout", "label_smoothing", "coverage_loss", "implementation"),
)
"""Settings of `model` that change how it is trained or computed, not what its weights mean."""

ADDED = ("decoder/context/coverage_kernel", "decoder/copying")
"""Weights that a model may have beyond those of the one it starts from: they begin so as to change nothing at first, or
next to nothing in the case of copying."""


def read_start(config: Config) -> TextModel | None:
    """The model of `training.init_from`, or None where the recipe names none.

    Raises:
        ModelFileError: It cannot be read, or has no tokenizer.
        ConfigError: It lies in the folder that the run will replace, has another task, or the recipe wants another
            tokenizer than its.
    """
    if config.training.init_from is None:
        return None
    path = pathlib.Path(config.training.init_from)
    if path.resolve().is_relative_to(config.run.path.resolve()):
        raise ConfigError(
            f"training.init_from must be a model outside the run's own folder, but is {str(path)!r} instead. The run "
            "would replace it: set run.name to another name.",
            "training.init_from",
        )
    start = load(path)
    if start.tokenizer is None:
        raise ModelFileError(f"{path}: a run must start from a model with a tokenizer, but this one has none instead.")
    if (start.task in LABEL_TASKS or config.gives_labels) and start.task != config.task:
        raise ConfigError(
            f"{path}: a run must start from a model of its own task, {config.task}, but this one's is {start.task} "
            "instead. Name another model, or train from the beginning with training.init_from null.",
            "training.init_from",
        )
    before = start.recipe.get("tokenizer", {"shared": start.tokenizer.is_joint})
    if changes := list(_changes(before, config.tokenizer.to_dict(), "tokenizer")):
        raise ConfigError(
            f"{path}: a run that starts from a model must have that model's tokenizer, but {'; '.join(changes)}. "
            "Set it as it was there, or train from the beginning with training.init_from null.",
            "training.init_from",
        )
    return start


def init_from(step: TrainingStep, start: TextModel, config: Config) -> str:
    """Gives the weights of another model to a run that has not begun, by their names.

    Args:
        step: The run's; its model and moving average take the weights, its optimizer starts anew.
        start: From `read_start`.
        config: The run; `training.reinitialize` names what may differ.

    Returns:
        What was done, for the first lines of the run.

    Raises:
        ConfigError: A weight is missing and not of those that coverage and copying add, has another shape or would go
            unused, and is not named in the recipe; or what is named there is in neither model.
    """
    anew = config.training.reinitialize
    own, given = named_weights(step.model), named_weights(start)
    _check_names(anew, own | given)
    added = [name for name in own if name not in given and _is_listed(name, ADDED) and not _is_listed(name, anew)]
    obstacles = [*_obstacles(own, given, [*anew, *added]), *_turned_gates(step.model, start, anew)]
    if obstacles:
        raise ConfigError(
            f"{config.training.init_from}: the weights must be those of this recipe, but {'; '.join(obstacles)}. "
            "Take that model's settings, or name in training.reinitialize the layers that shall start at random.",
            "training.init_from",
        )
    taken = [name for name in own if not _is_listed(name, [*anew, *added])]
    for name in taken:
        own[name].assign(given[name])
    if "decoder/copying/kernel" in added:
        step.model.decoder.copying.begin_generating()
    step.synchronise(force=True)
    lines = [f"starting from {config.training.init_from}: its tokenizer and {len(taken)} of {len(own)} weights"]
    if random := [name for name in own if _is_listed(name, anew)]:
        lines.append(f"starting at random: {', '.join(random)}")
    if added:
        lines.append(f"added, and nearly without effect at first: {', '.join(added)}")
    if unused := [name for name in given if name not in own]:
        lines.append(f"left unused: {', '.join(unused)}")
    before, now = start.recipe.get("model", {}), config.model.to_dict()
    # One way to wire the same weights is not another; nobody shall wonder where the old scores are.
    lines += _changes(before, now, "model", NOT_COMPARED)
    return "\n".join(lines)


def named_weights(model: TextModel) -> dict[str, Any]:
    """Weights by their place in the model: `decoder/recurrent_0/cell/kernel`, `source_embedding/embeddings`, ...

    Keras' own paths will not do: they differ between a model that was built and the same model read from a file.
    """
    named: dict[int, tuple[str, Any]] = {}
    for place, layer in model.parts.items():
        for variable in layer.trainable_variables:
            inside = variable.path.rpartition(f"{layer.name}/")[2]
            named.setdefault(id(variable), (f"{place}/{inside}", variable))
    return dict(named.values())


def _is_listed(name: str, listed: Sequence[str]) -> bool:
    return any(f"{name}/".startswith(f"{entry}/") for entry in listed)


def _check_names(anew: Sequence[str], names: dict[str, Any]) -> None:
    for entry in anew:
        if not any(_is_listed(name, [entry]) for name in names):
            layers = {name.rpartition("/")[0] for name in names}
            raise ConfigError(
                "training.reinitialize must hold layers or weights of this recipe's model or of the one it starts from, "
                f"but {entry!r} is neither. {suggestion(entry, [*layers, *names])}".rstrip(),
                "training.reinitialize",
            )


def _obstacles(own: dict[str, Any], given: dict[str, Any], anew: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys([*own, *given]):
        if _is_listed(name, anew):
            continue
        if name not in given:
            yield f"{name} is missing there"
        elif name not in own:
            yield f"{name} is there and not here"
        elif own[name].shape != given[name].shape:
            yield f"{name} has the shape {_shape(given[name])} there and {_shape(own[name])} here"


def _turned_gates(model: TextModel, start: TextModel, anew: Sequence[str]) -> Iterator[str]:
    """Layers whose weights fit and mean the opposite."""
    for name, layer in model.recurrent_layers.items():
        other = start.recurrent_layers.get(name)
        if other is not None and other.update_gate != layer.update_gate and not _is_listed(_path(name), anew):
            yield f"the update gate of {_path(name)} says {other.update_gate} there and {layer.update_gate} here"


def _path(layer: str) -> str:
    return layer.replace(".", "/")


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.shape)


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str, apart: Sequence[str] = ()) -> Iterator[str]:
    """Settings that are otherwise now; those that only one of the two knows are left out."""
    for name in now:
        if name in apart or name not in before:
            continue
        if isinstance(now[name], dict):
            yield from _changes(before[name], now[name], f"{prefix}.{name}")
        elif before[name] != now[name]:
            yield f"{prefix}.{name} is {before[name]!r} there and {now[name]!r} here"
