"""Recipes and flags, merged into a `Config`: the defaults give way to the recipe, and the recipe to the flags.

A recipe is read as YAML nodes and not as YAML values, for two reasons: a node knows its line, and its text means what
the setting's type says, so that the language `no` is not false and `1e-3` is a number.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import docstring_parser
import yaml

from seq2seq.config.base import Section, bare, hints, read_text, takes_numbers, unknown_setting
from seq2seq.config.sections import Config
from seq2seq.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting as flags and help pages need it; its help is the words under it in its dataclass."""

    key: str
    kind: Any
    default: Any
    help: str

    @property
    def section(self) -> str:
        """The full name of the section that it stands in."""
        return self.key.rpartition(".")[0]


@functools.cache
def known_settings() -> dict[str, Setting]:
    """Every setting of a run by its full name, in the order of the sections."""
    return {setting.key: setting for setting in _settings(Config())}


def known_sections() -> set[str]:
    """The full names of all sections, `model` and `model.encoder` alike."""
    return {setting.section for setting in known_settings().values()}


def _settings(section: Section) -> list[Setting]:
    entries = docstring_parser.parse_from_object(type(section)).params
    helps = {entry.arg_name: " ".join((entry.description or "").split()) for entry in entries}
    found = []
    for name, kind in hints(type(section)).items():
        value = getattr(section, name)
        if isinstance(value, Section):
            found += _settings(value)
        else:
            found.append(Setting(section.key(name), kind, value, helps[name]))
    return found


@dataclasses.dataclass(frozen=True)
class Given:
    """A setting as somebody wrote it: its value, and where that was (`recipe.yaml:12`, or nothing for a flag)."""

    value: Any
    where: str = ""


def merge(recipe: str | pathlib.Path | None, flags: Mapping[str, str | list[str] | None]) -> Config:
    """The run that a recipe and the texts of flags describe together.

    Raises:
        ConfigError: a setting is unknown, has a bad value or contradicts another; the message says in which line.
    """
    given = {} if recipe is None else read_recipe(pathlib.Path(recipe))
    for key, text in flags.items():
        kind = kind_of(key)
        given[key] = Given(read_text(None if text == "null" and bare(kind)[1] else text, kind, key))
    if recipe is not None:
        folder = pathlib.Path(recipe).parent
        given.setdefault("data.folder", Given(folder.as_posix()))
        given.setdefault("run.name", Given(folder.resolve().name or "run"))
    try:
        return Config.from_dict(nested({key: setting.value for key, setting in given.items()}))
    except ConfigError as error:
        where = given[error.key].where if error.key in given else ""
        raise located(error, where) from None


def read_recipe(path: pathlib.Path) -> dict[str, Given]:
    """Every setting that a recipe gives, by its full name, with its line."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: the recipe cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the recipe must be UTF-8 text, but byte {error.start} is not.") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: the recipe must be YAML, but {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: the recipe must be YAML, but {error}.") from None
    given: dict[str, Given] = {}
    for key, where, node in leaves(root, path, ""):
        if key in given:
            raise ConfigError(f"{where}: {key} is given twice, first at {given[key].where}. Keep one.", key)
        try:
            given[key] = Given(read_text(node_text(node, key), kind_of(key), key), where)
        except ConfigError as error:
            raise located(error, where) from None
    return given


def leaves(node: yaml.Node | None, path: pathlib.Path, prefix: str) -> Iterator[tuple[str, str, yaml.Node]]:
    """The settings under a node of a recipe, which are what is not itself a section: full name, place and value."""
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        return
    where = f"{path}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        what = f"{prefix} is a section: it" if prefix else "A recipe"
        raise ConfigError(f"{where}: {what} must hold settings, but is {shown(node)} instead.", prefix or None)
    for name, value in node.value:
        key = f"{prefix}.{name.value}" if prefix else str(name.value)
        where = f"{path}:{name.start_mark.line + 1}"
        if key in known_sections():
            yield from leaves(value, path, key)
        elif key in known_settings():
            yield key, where, value
        else:
            raise located(unknown_setting(key, [*known_settings(), *known_sections()]), where)


def node_text(node: yaml.Node, key: str) -> str | list[str] | None:
    """What a recipe says of one setting, as text, so that the setting's type may say what it means.

    Names with a number each are written as a flag writes them, `name=number`.
    """
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [str(item.value) for item in node.value]
    if isinstance(node, yaml.MappingNode) and takes_numbers(kind_of(key)):
        if all(isinstance(number, yaml.ScalarNode) for _, number in node.value):
            return [f"{name.value}={number.value}" for name, number in node.value]
        raise ConfigError(
            f"{key} must be a name, or names with a number each, but holds a list or a section instead.", key
        )
    raise ConfigError(f"{key} must be one value or a list of values, but is {shown(node)} instead.", key)


def shown(node: yaml.Node) -> str:
    """A node of a recipe in a few words."""
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "a section"


def kind_of(key: str) -> Any:
    """The type of a setting, or a `ConfigError` that names the nearest setting there is."""
    settings = known_settings()
    if key not in settings:
        raise unknown_setting(key, settings)
    return settings[key].kind


def located(error: ConfigError, where: str) -> ConfigError:
    """The same error with the place in front."""
    return ConfigError(f"{where}: {error}", error.key) if where else error


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """A dictionary of full names as sections within sections."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    return tree
