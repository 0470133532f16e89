"""Fine-tuning: a run that starts from the weights and the tokenizer of another model."""

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
"""Weights that a model may have beyond those of the one it starts from, since they have nearly no effect at first."""


def read_start(config: Config) -> TextModel | None:
    """Load the model of `training.init_from`, if the recipe names one, and check that it fits the run.

    Raises:
        ModelFileError: it cannot be read, or has no tokenizer.
        ConfigError: it is in the folder that the run will replace, or has another task or tokenizer.
    """
    if config.training.init_from is None:
        return None
    path = pathlib.Path(config.training.init_from)
    if path.resolve().is_relative_to(config.run.path.resolve()):
        raise ConfigError(
            f"training.init_from must be a model outside the run's own folder, got {str(path)!r}. The run would "
            "replace it: set run.name to another name.",
            "training.init_from",
        )
    start = load(path)
    if start.tokenizer is None:
        raise ModelFileError(f"{path}: a run must start from a model with a tokenizer, got one without.")
    if (start.task in LABEL_TASKS or config.gives_labels) and start.task != config.task:
        raise _misfit(config, f"of its own task, {config.task}, got one of {start.task}", "Name another model,")
    before = start.recipe.get("tokenizer", {"shared": start.tokenizer.is_joint})
    if changes := list(_changes(before, config.tokenizer.to_dict(), "tokenizer")):
        raise _misfit(config, f"with its own tokenizer, but {'; '.join(changes)}", "Set it as it was there,")
    return start


def _misfit(config: Config, requirement: str, advice: str) -> ConfigError:
    return ConfigError(
        f"{config.training.init_from}: a run must start from a model {requirement}. "
        f"{advice} or train from the beginning with training.init_from null.",
        "training.init_from",
    )


def init_from(step: TrainingStep, start: TextModel, config: Config) -> str:
    """Copy the weights of another model, by their names, to a run that has not begun, and return lines about it.

    Raises:
        ConfigError: weights differ otherwise than by `ADDED` and `training.reinitialize`, or nothing has a name there.
    """
    random = config.training.reinitialize
    own, given = named_weights(step.model), named_weights(start)
    _check_names(random, own | given)
    added = [name for name in own if name not in given and _is_listed(name, ADDED) and not _is_listed(name, random)]
    obstacles = [*_obstacles(own, given, [*random, *added]), *_turned_gates(step.model, start, random)]
    if obstacles:
        raise ConfigError(
            f"{config.training.init_from}: the weights must be those of this recipe, but {'; '.join(obstacles)}. "
            "Take that model's settings, or name in training.reinitialize the layers to start at random.",
            "training.init_from",
        )
    taken = [name for name in own if not _is_listed(name, [*random, *added])]
    for name in taken:
        own[name].assign(given[name])
    if "decoder/copying/kernel" in added:
        step.model.decoder.copying.begin_generating()
    step.synchronise(force=True)
    lines = [f"starting from {config.training.init_from}: its tokenizer and {len(taken)} of {len(own)} weights"]
    for names, what in (
        ([name for name in own if _is_listed(name, random)], "starting at random"),
        (added, "added, and nearly without effect at first"),
        ([name for name in given if name not in own], "left unused"),
    ):
        if names:
            lines.append(f"{what}: {', '.join(names)}")
    # The same weights wired in another way fit too, but the scores will differ.
    lines += _changes(start.recipe.get("model", {}), config.model.to_dict(), "model", NOT_COMPARED)
    return "\n".join(lines)


def named_weights(model: TextModel) -> dict[str, Any]:
    """Return weights by their place in the model: `decoder/recurrent_0/cell/kernel`, `source_embedding/embeddings`, ...

    Keras' own paths differ between a model that was built and the same model read from a file.
    """
    named: dict[int, tuple[str, Any]] = {}
    for place, layer in model.parts.items():
        for variable in layer.trainable_variables:
            inside = variable.path.rpartition(f"{layer.name}/")[2]
            named.setdefault(id(variable), (f"{place}/{inside}", variable))
    return dict(named.values())


def _is_listed(name: str, listed: Sequence[str]) -> bool:
    return any(f"{name}/".startswith(f"{entry}/") for entry in listed)


def _check_names(random: Sequence[str], names: dict[str, Any]) -> None:
    for entry in random:
        if not any(_is_listed(name, [entry]) for name in names):
            layers = {name.rpartition("/")[0] for name in names}
            raise ConfigError(
                "training.reinitialize must hold layers or weights of this recipe's model or of the one it starts "
                f"from, got {entry!r}. {suggestion(entry, [*layers, *names])}".rstrip(),
                "training.reinitialize",
            )


def _obstacles(own: dict[str, Any], given: dict[str, Any], random: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys([*own, *given]):
        if _is_listed(name, random):
            continue
        if name not in given:
            yield f"{name} is missing there"
        elif name not in own:
            yield f"{name} is there and not here"
        elif own[name].shape != given[name].shape:
            yield f"{name} has the shape {tuple(given[name].shape)} there and {tuple(own[name].shape)} here"


def _turned_gates(model: TextModel, start: TextModel, random: Sequence[str]) -> Iterator[str]:
    """Find layers whose weights fit and mean the opposite."""
    for name, layer in model.recurrent_layers.items():
        other, path = start.recurrent_layers.get(name), name.replace(".", "/")
        if other is not None and other.update_gate != layer.update_gate and not _is_listed(path, random):
            yield f"the update gate of {path} says {other.update_gate} there and {layer.update_gate} here"


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str, ignored: Sequence[str] = ()) -> Iterator[str]:
    """Compare settings that both have."""
    for name in now:
        if name in ignored or name not in before:
            continue
        if isinstance(now[name], dict):
            yield from _changes(before[name], now[name], f"{prefix}.{name}")
        elif before[name] != now[name]:
            yield f"{prefix}.{name} is {before[name]!r} there and {now[name]!r} here"
