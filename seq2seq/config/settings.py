"""All settings of a run in one flat list: name, type, default and help text."""

import dataclasses
import functools
from typing import Any

import docstring_parser

from seq2seq.config.checks import Section, hints, is_section
from seq2seq.config.run import Config


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting, as flags and help pages need it."""

    key: str
    kind: Any
    default: Any
    section: type[Section]
    name: str

    @property
    def help(self) -> str:
        """The words under the setting in its dataclass."""
        return _descriptions(self.section)[self.name]


@functools.cache
def known_settings() -> dict[str, Setting]:
    """Every setting of a run by its full name, in the order of the sections."""
    return {setting.key: setting for setting in _settings(Config())}


def _settings(section: Section) -> list[Setting]:
    found = []
    for name, kind in hints(type(section)).items():
        value = getattr(section, name)
        if is_section(kind):
            found += _settings(value)
        else:
            found.append(Setting(section.key(name), kind, value, type(section), name))
    return found


@functools.cache
def _descriptions(section: type[Section]) -> dict[str, str]:
    documented = docstring_parser.parse_from_object(section)
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in documented.params}
