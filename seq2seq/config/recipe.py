"""Recipes and flags, merged into a `Config`: the defaults give way to the recipe, and the recipe to the flags.

A recipe is read as YAML nodes and not as YAML values, for two reasons: a node knows its line, and its text means what
the setting's type says, so that the language `no` is not false and `1e-3` is a number.
"""

import ast
import dataclasses
import functools
import itertools
import pathlib
import typing
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

import yaml

from seq2seq.config import sections
from seq2seq.config.base import inner_sections, setting_names, unknown_setting
from seq2seq.config.sections import Config
from seq2seq.errors import ConfigError

Texts = dict[str, str | list[str]]
"""Texts of flags by the full names of settings."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting as flags and help pages need it; `kind` is the type of one value, without null and without list."""

    key: str
    type: Any
    default: Any
    help: str
    kind: Any
    is_optional: bool
    is_list: bool
    has_weights: bool

    @property
    def section(self) -> str:
        """The full name of the section that holds it."""
        return self.key.rpartition(".")[0]

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that a value must be one of, or nothing."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is typing.Literal else ()


@functools.cache
def known_settings() -> dict[str, Setting]:
    """Return every setting of a run by its full name, in the order of the sections."""
    return {setting.key: setting for setting in _settings(Config, "", _helps())}


def _settings(section: type, prefix: str, helps: dict[tuple[str, str], str]) -> Iterator[Setting]:
    hints, inner = typing.get_type_hints(section), inner_sections(section)
    for field in dataclasses.fields(section):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        if field.name in inner:
            yield from _settings(inner[field.name], f"{key}.", helps)
            continue
        arguments, is_list = typing.get_args(hint), typing.get_origin(hint) is tuple
        is_optional, has_weights = NoneType in arguments, dict in [typing.get_origin(kind) for kind in arguments]
        kind = arguments[0] if is_list or is_optional or has_weights else hint
        text = helps[section.__name__, field.name]
        yield Setting(key, hint, field.default, text, kind, is_optional, is_list, has_weights)


def _helps() -> dict[tuple[str, str], str]:
    """Read the text under every setting; pydantic can, but parses the file once for every section."""
    tree: Any = ast.parse(pathlib.Path(sections.__file__).read_text(encoding="utf-8"))
    helps = {}
    for section in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for setting, text in itertools.pairwise(section.body):
            if isinstance(setting, ast.AnnAssign) and isinstance(text, ast.Expr):
                helps[section.name, ast.unparse(setting.target)] = " ".join(ast.literal_eval(text.value).split())
    return helps


def known_sections() -> set[str]:
    """Return the full names of all sections, `model` and `model.encoder` alike."""
    return set(setting_names(Config)) - known_settings().keys()


def merge(recipe: str | pathlib.Path | None, flags: Mapping[str, str | list[str]]) -> Config:
    """Build the run that a recipe and the texts of flags describe together.

    Raises:
        ConfigError: a setting is unknown, has a bad value or contradicts another; the message says in which line.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    if recipe is not None:
        values, places = read_recipe(pathlib.Path(recipe))
        folder = pathlib.Path(recipe).parent
        for key, value in (("data.folder", folder.as_posix()), ("run.name", folder.resolve().name or "run")):
            if key not in places:
                _put(values, key, value)
    for key, text in flags.items():
        setting = known_settings().get(key)
        if setting is None:
            raise unknown_setting(key, setting_names(Config))
        _put(values, key, None if text == "null" and setting.is_optional else text)
        places.pop(key, None)
    try:
        config = Config.from_dict(values)
    except ConfigError as error:
        raise located(error, places) from None
    object.__setattr__(config, "places", places)
    return config


def located(error: ConfigError, places: Mapping[str, str]) -> ConfigError:
    """Put the line of the setting in front of an error."""
    where = places.get(error.key or "")
    return ConfigError(f"{where}: {error}", error.key) if where else error


def read_recipe(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the texts of a recipe, section by section, and the line of every key: `recipe.yaml:12`."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: the recipe cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the recipe must be UTF-8 text, but byte {error.start} is not.") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: the recipe must be YAML, but {problem}.") from None
    places: dict[str, str] = {}
    try:
        values = {} if root is None else _read_node(root, "", path, places)
    except RecursionError:
        raise ConfigError(f"{path}: the recipe must not contain itself.") from None
    if values is None or isinstance(values, dict):
        return values or {}, places
    raise ConfigError(f"{path}:1: a recipe must be sections of settings, got {values!r}.")


def _read_node(node: yaml.Node, key: str, path: pathlib.Path, places: dict[str, str]) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_read_node(item, key, path, places) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    values: dict[str, Any] = {}
    for name, value in node.value:
        inner, where = f"{key}.{name.value}".lstrip("."), f"{path}:{name.start_mark.line + 1}"
        if inner in places:
            raise ConfigError(f"{where}: {inner} is given twice, first at {places[inner]}. Keep one.", inner)
        places[inner] = where
        values[str(name.value)] = _read_node(value, inner, path, places)
    # An empty section keeps its defaults.
    return {name: value for name, value in values.items() if value is not None or not _is_section(key, name)}


def _is_section(key: str, name: str) -> bool:
    return f"{key}.{name}".lstrip(".") in known_sections()


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections_of_key, name = key.split(".")
    for section in sections_of_key:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            return  # No section at all, which validation reports.
    values[name] = value
