"""Runs that differ in a few settings: one for each combination of the values that these settings are varied over."""

import dataclasses
import itertools
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from seq2seq.config.base import bad_setting, unknown_setting
from seq2seq.config.recipe import known_settings, merge
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
    """One run of a comparison, named by its differences: `cell=lstm, context=last`."""

    name: str
    settings: dict[str, str]
    config: Config


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs to be compared, in the order of the values of the first axis, and the folder of their folders."""

    name: str
    folder: pathlib.Path
    variants: tuple[Variant, ...]


def plan_comparison(
    recipe: str | pathlib.Path | None,
    vary: Sequence[str],
    flags: Mapping[str, str | list[str]],
    name: str | None = None,
) -> Comparison:
    """Plan the runs of a recipe with every combination of the varied settings, and check each of them.

    Each text of `vary` is `KEY=VALUE,VALUE`, or `KEY,KEY=VALUE,VALUE` for settings that take the same value; the
    words of a list are joined by plus signs. `flags` hold for all runs; the default name is `compare-` and the run's.

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
        raise ConfigError("compare needs --vary KEY=VALUE,VALUE, such as --vary model.context=last,attention.")
    _check_keys([key for axis in axes for key in axis.keys], flags)
    if name is not None:
        _check_name(name)
    names = short_names([axis.keys for axis in axes])
    variants: list[Variant] = []
    for values in itertools.product(*(axis.values for axis in axes)):
        varied = {key: _text(key, value) for axis, value in zip(axes, values, strict=True) for key in axis.keys}
        variant = _variant(recipe, dict(zip(names, values, strict=True)), flags, varied, name)
        for other in variants:
            if _without_name(other.config) == _without_name(variant.config):
                raise ConfigError(f"--vary must give different runs, got {other.name} and {variant.name}. Keep one.")
        variants.append(variant)
    folder = pathlib.Path(variants[0].config.run.folder)
    return Comparison(folder.name, folder, tuple(variants))


def _without_name(config: Config) -> Config:
    return dataclasses.replace(config, run=dataclasses.replace(config.run, name="run"))


def read_axis(text: str) -> Axis:
    """Read one axis of the command line.

    >>> read_axis("model.encoder.units,model.decoder.units=64,128")
    Axis(keys=('model.encoder.units', 'model.decoder.units'), values=('64', '128'))
    """
    left, _, right = text.partition("=")
    keys, values = (tuple(part.strip() for part in side.split(",")) for side in (left, right))
    if not all(keys) or not all(values):
        raise bad_setting("--vary", "KEY=VALUE,VALUE, such as model.context=last,attention", text)
    return Axis(keys, values)


def short_names(axes: Sequence[Sequence[str]]) -> list[str]:
    """Name each axis by the last parts of its settings' names, as few as tell the axes apart.

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
        if key not in known_settings():
            raise unknown_setting(key, known_settings())
        if key in NAMED_BY_THE_COMPARISON:
            raise ConfigError(f"{key} cannot be varied: a comparison names its runs. Choose its name with --name.", key)
        if key in keys[:place]:
            raise ConfigError(f"{key} must be varied once, got two axes. Keep one.", key)
        if key in flags:
            raise ConfigError(f"{key} must be varied or set, got --{key} too. Keep one of the two.", key)


def _check_name(name: str) -> None:
    try:
        RunConfig().replaced(name=name)
    except ConfigError as error:
        raise ConfigError(f"--{error}") from None


def _text(key: str, value: str) -> str | list[str]:
    """Split a value as a flag would, into the words of a list."""
    setting = known_settings()[key]
    return value.split("+") if setting.is_list else value


def _variant(
    recipe: str | pathlib.Path | None,
    settings: dict[str, str],
    flags: Mapping[str, str | list[str]],
    varied: Mapping[str, str | list[str]],
    comparison_name: str | None,
) -> Variant:
    name = ", ".join(f"{axis}={value}" for axis, value in settings.items())
    try:
        run = merge(recipe, {**flags, **varied}).run
    except ConfigError as error:
        if str(error) == _mistake(recipe, flags):
            raise
        raise ConfigError(f"variant {name}: {error}", error.key) from None
    folder = pathlib.Path(run.folder) / (comparison_name or f"compare-{run.name}")
    own = {"run.name": urllib.parse.quote(name.replace(", ", ","), safe="=+,"), "run.folder": folder.as_posix()}
    return Variant(name, settings, merge(recipe, {**flags, **varied, **own}))


def _mistake(recipe: str | pathlib.Path | None, flags: Mapping[str, str | list[str]]) -> str:
    """Find the mistake of the recipe and the flags themselves, which is no variant's."""
    try:
        merge(recipe, flags)
    except ConfigError as error:
        return str(error)
    return ""
