"""All settings of a run in one flat list: name, type, default and help text."""

import dataclasses
import functools
from typing import Any

import docstring_parser

from seq2seq.config.checks import Section, hints
from seq2seq.config.run import Config


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
