"""One section of a run: dictionaries in and out, and one wording for every mistake in a setting."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from seq2seq.errors import ArgumentError, ConfigError

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)

Value = TypeVar("Value")


def _without_repetition(values: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must hold each value once")
    return values


def with_weights(names: object) -> object:
    """Turn a list, as of a flag, into weights by name: `["news=2", "web"]` into `{"news": "2", "web": "1"}`."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return names
    if len(names) == 1 and "=" not in names[0]:
        return names[0]
    weights = {}
    for item in names:
        name, _, weight = item.rpartition("=") if "=" in item else (item, "", "1")
        weights[name] = weight
    if len(weights) < len(names):
        raise ValueError("must name each file once")
    return weights


Rate = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]
Unique = AfterValidator(_without_repetition)
Words = Annotated[tuple[str, ...], Unique]


class Section:
    """Base of the frozen dataclasses that hold the settings of a run."""

    def to_dict(self) -> dict[str, Any]:
        """Return the section as plain dictionaries, lists and values, ready for YAML or JSON."""
        plain: dict[str, Any] = TypeAdapter(type(self)).dump_python(self, mode="json")
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the section that `to_dict` describes, with defaults for what is missing, or raise a ConfigError."""
        try:
            return TypeAdapter(cls).validate_python(dict(values) if isinstance(values, Mapping) else values)
        except ValidationError as error:
            raise _config_error(cls, error) from None

    def replaced(self, **changes: Any) -> Self:
        """Return the section with some settings changed and checked, or raise a ConfigError."""
        return self.from_dict(self.to_dict() | changes)


def inner_sections(section: type) -> dict[str, type[Section]]:
    """Return the sections inside a section by their names."""
    kinds = {field.name: field.type for field in dataclasses.fields(section)}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def setting_names(section: type, prefix: str = "") -> list[str]:
    """Return the full names of all settings and sections inside a section: `model`, `model.encoder.units`, ..."""
    names = []
    for field in dataclasses.fields(section):
        inner = inner_sections(section).get(field.name)
        names += [prefix + field.name, *(setting_names(inner, f"{prefix}{field.name}.") if inner else [])]
    return names


def _config_error(section: type, error: ValidationError) -> ConfigError:
    details = error.errors(include_url=False)
    # Of the alternatives of a union, the one that got furthest says most.
    alternatives = [one for one in details if one["loc"][:2] == details[0]["loc"][:2]]
    detail = max(alternatives, key=lambda one: len(one["loc"]))
    place, value, cause = [str(part) for part in detail["loc"]], detail["input"], detail.get("ctx", {}).get("error")
    if isinstance(cause, ArgumentError):
        return ConfigError(".".join([*place, str(cause)]), ".".join([*place, cause.argument]))
    if detail["type"] == "unexpected_keyword_argument":
        return unknown_setting(".".join(place), setting_names(section))
    names = [".".join(place[:length]) for length in range(len(place), 0, -1)]
    key = next((name for name in names if name in setting_names(section)), ".".join(place) or "settings")
    inner = place[key.count(".") + 1 :]
    requirement = _REQUIREMENTS.get(detail["type"]) or re.sub(", (unable|got) .*", "", detail["msg"])
    requirement = str(cause) if cause else re.sub(r"^\w+ should", "must", requirement)
    choices = re.findall("'([^']*)'", detail["msg"]) if detail["type"] == "literal_error" else []
    # The weight of one of several files is named by the file.
    subject = f"{key}.{inner[-1]}" if len(inner) > 1 else key
    return ConfigError(f"{subject} {requirement}, got {value!r}. {suggestion(value, choices)}".rstrip(), key)


_REQUIREMENTS = {"dataclass_type": "must be a section of settings", "tuple_type": "must be a list"}


def bad_setting(key: str, requirement: str, value: object, advice: str = "") -> ConfigError:
    """Return the error for a setting whose value cannot be used."""
    return ConfigError(str(ArgumentError(key, requirement, value, advice)), key)


def unknown_setting(key: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a setting that does not exist, with the nearest one that does."""
    advice = suggestion(key, known) or "`train.py --help` shows all of them."
    return ConfigError(f"{key} is not a setting. {advice}", key)


def suggestion(name: object, known: Iterable[str]) -> str:
    """Return the nearest known name as a question, or nothing where none is near.

    >>> suggestion("learning_rat", ["learning_rate", "epochs"])
    'Did you mean learning_rate?'
    """
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else ""
