"""Runs that differ in a few settings: one for each combination of the values that these settings are varied over."""

import dataclasses
import itertools
import pathlib
import typing
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from seq2seq.config.base import bare, must_be, read_text
from seq2seq.config.recipe import kind_of, merge, read_recipe
from seq2seq.config.sections import Config, RunConfig
from seq2seq.errors import ConfigError

NAMED_BY_THE_COMPARISON = ("run.name", "run.folder")


@dataclasses.dataclass(frozen=True)
class Axis:
    """Settings that are varied together, and the values that all of them take in turn, as they were written."""

    keys: tuple[str, ...]
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One run of a comparison.

    Attributes:
        name: What it differs in: `cell=lstm, context=last`.
        settings: The same by the axes' names: `{"cell": "lstm", "context": "last"}`.
        config: The run, whole.
    """

    name: str
    settings: dict[str, str]
    config: Config


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs to be compared.

    Attributes:
        name: What the comparison is called.
        folder: Where the folders of its runs are.
        variants: The runs, those of the first axis' first value first.
    """

    name: str
    folder: pathlib.Path
    variants: tuple[Variant, ...]


def plan_comparison(
    recipe: str | pathlib.Path | None,
    vary: Sequence[str],
    flags: Mapping[str, str | list[str] | None],
    name: str | None = None,
) -> Comparison:
    """The runs of a recipe with every combination of the varied settings, all of them checked.

    Args:
        recipe: A YAML file of sections and settings; None takes the defaults.
        vary: An axis each: `KEY=VALUE,VALUE`, or `KEY,KEY=VALUE,VALUE` for settings that always take the same value. A
            list is written with plus signs: `model.context_inputs=state,state+readout`.
        flags: Texts of flags, which hold for all runs.
        name: Name of the comparison; None: `compare-` and the run's own.

    Raises:
        ConfigError: An axis is not written like that, a setting is unknown, varied twice or given by a flag too, a
            value comes twice, or one of the runs has a bad value or a contradiction.

    Examples:
        >>> comparison = plan_comparison(
        ...     None, ["model.encoder.units,model.decoder.units=64,128", "training.ema=0,0.9"],
        ...     {"model.encoder.bidirectional": "false"},
        ... )
        >>> [variant.name for variant in comparison.variants]
        ['units=64, ema=0', 'units=64, ema=0.9', 'units=128, ema=0', 'units=128, ema=0.9']
        >>> comparison.variants[2].config.run.path.as_posix()
        'checkpoints/compare-run/units=128,ema=0'
    """
    axes = [read_axis(text) for text in vary]
    if not axes:
        raise ConfigError(
            "compare needs at least one --vary KEY=VALUE,VALUE, such as --vary model.context=last,attention, but none "
            "is given. Say which setting the runs differ in."
        )
    _check_keys([key for axis in axes for key in axis.keys], flags)
    if name is not None:
        _check_name(name)
    if recipe is not None:
        # Its own mistakes are told as such, not as those of a variant.
        read_recipe(pathlib.Path(recipe))
    names = short_names([axis.keys for axis in axes])
    variants = []
    for values in itertools.product(*(axis.values for axis in axes)):
        settings = dict(zip(names, values, strict=True))
        varied = {key: _text(key, value) for axis, value in zip(axes, values, strict=True) for key in axis.keys}
        variants.append(_variant(recipe, settings, flags, varied, name))
    first = variants[0].config.run
    folder = pathlib.Path(first.folder)
    return Comparison(folder.name, folder, tuple(variants))


def read_axis(text: str) -> Axis:
    """One axis as the command line gives it.

    Examples:
        >>> read_axis("model.encoder.units,model.decoder.units=64,128")
        Axis(keys=('model.encoder.units', 'model.decoder.units'), values=('64', '128'))
    """
    left, _, right = text.partition("=")
    keys = tuple(key.strip() for key in left.split(","))
    values = tuple(value.strip() for value in right.split(","))
    if not all(keys) or not all(values):
        raise must_be("--vary", "KEY=VALUE,VALUE, such as model.context=last,attention", text)
    meanings = [tuple(read_text(_text(key, value), kind_of(key), key) for key in keys) for value in values]
    for place, meaning in enumerate(meanings):
        if meaning in meanings[:place]:
            raise ConfigError(
                f"--vary {text}: every value must be given once, but {values[place]} comes twice instead. Keep one.",
                keys[0],
            )
    return Axis(keys, values)


def short_names(axes: Sequence[Sequence[str]]) -> list[str]:
    """A name for each axis: the last parts of its settings' names, as few as tell the axes apart.

    Examples:
        >>> short_names([["model.encoder.cell", "model.decoder.cell"], ["model.context"]])
        ['cell', 'context']
        >>> short_names([["model.encoder.units"], ["model.decoder.units"]])
        ['encoder.units', 'decoder.units']
    """
    parts, names = 0, [""] * (len(axes) + 1)
    while len(set(names)) < len(names):
        parts += 1
        # A tied setting of the same last name need not be named twice.
        names = ["+".join(dict.fromkeys(".".join(key.split(".")[-parts:]) for key in axis)) for axis in axes]
    return names


def _check_keys(keys: Sequence[str], flags: Mapping[str, Any]) -> None:
    for place, key in enumerate(keys):
        if key in NAMED_BY_THE_COMPARISON:
            raise ConfigError(f"{key} cannot be varied: a comparison names its runs. Choose its name with --name.", key)
        if key in keys[:place]:
            raise ConfigError(f"{key} must be varied once, but is varied twice instead. Keep one.", key)
        if key in flags:
            raise ConfigError(f"{key} must be varied or set, but --{key} is given too. Keep one of the two.", key)


def _check_name(name: str) -> None:
    try:
        RunConfig(name=name)
    except ConfigError:
        raise must_be("--name", "a folder's name, without slashes", name) from None


def _text(key: str, value: str) -> str | list[str]:
    """What a value says of one setting, as a flag would: the words of a list one by one."""
    return value.split("+") if typing.get_origin(bare(kind_of(key))[0]) is tuple else value


def _variant(
    recipe: str | pathlib.Path | None,
    settings: dict[str, str],
    flags: Mapping[str, str | list[str] | None],
    varied: Mapping[str, str | list[str]],
    comparison_name: str | None,
) -> Variant:
    name = ", ".join(f"{axis}={value}" for axis, value in settings.items())
    try:
        config = merge(recipe, {**flags, **varied})
    except ConfigError as error:
        if error.key in flags:
            raise
        raise ConfigError(f"variant {name}: {error}", error.key) from None
    folder = pathlib.Path(config.run.folder) / (comparison_name or f"compare-{config.run.name}")
    run_name = urllib.parse.quote(name.replace(", ", ","), safe="=+,")
    run = config.run.replaced(name=run_name, folder=folder.as_posix())
    return Variant(name, settings, dataclasses.replace(config, run=run))
