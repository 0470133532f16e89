"""What may be written in a setting, checked where the setting is made.

Every section of a run is a frozen dataclass that derives from `Section`: whoever builds one, from a recipe, from flags
or in Python, gets the same checks and the same words. A type says the kind and the range (`Positive`, `Fraction`, a
`Literal`); what concerns several settings at once is a section's own `check`.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from seq2seq.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a number may take, and the words for them."""

    words: str
    holds: Callable[[float], bool]


Positive = Annotated[int, Range("at least 1", lambda value: value >= 1)]
NonNegative = Annotated[int, Range("at least 0", lambda value: value >= 0)]
PositiveFloat = Annotated[float, Range("greater than 0", lambda value: value > 0)]
NonNegativeFloat = Annotated[float, Range("at least 0", lambda value: value >= 0)]
Fraction = Annotated[float, Range("at least 0 and less than 1", lambda value: 0 <= value < 1)]
Share = Annotated[float, Range("greater than 0 and less than 1", lambda value: 0 < value < 1)]
Probability = Annotated[float, Range("greater than 0 and at most 1", lambda value: 0 < value <= 1)]
AtLeastOne = Annotated[float, Range("at least 1", lambda value: value >= 1)]
Coverage = Annotated[float, Range("between 0.98 and 1", lambda value: 0.98 <= value <= 1)]


class Section:
    """One section of a run: a frozen dataclass that checks itself when it is made."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, kind in hints(type(self)).items():
            value = checked(getattr(self, name), kind, self.key(name))
            object.__setattr__(self, name, value)
        self.check()

    def check(self) -> None:
        """Hold what concerns several settings of this section; the default is that nothing does."""

    @classmethod
    def key(cls, name: str) -> str:
        """The full name of a setting, as it is written in a flag: `training.epochs`."""
        return f"{cls.section}.{name}" if cls.section else name

    def to_dict(self) -> dict[str, Any]:
        """The section as plain dictionaries, lists and values, ready for YAML or JSON."""
        plain: dict[str, Any] = {}
        for name in hints(type(self)):
            value = getattr(self, name)
            if isinstance(value, Section):
                value = value.to_dict()
            plain[name] = list(value) if isinstance(value, tuple) else value
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The section that `to_dict` wrote; settings left out take their defaults.

        Raises:
            ConfigError: a setting is unknown, has a bad value or contradicts another.
        """
        values: dict[str, Any] = {}
        for name, value in plain.items():
            kind = hints(cls).get(name)
            if kind is None:
                raise unknown_setting(cls.key(name), [cls.key(known) for known in hints(cls)])
            if is_section(kind):
                if not isinstance(value, Mapping):
                    raise must_be(cls.key(name), "a section of settings", value)
                value = kind.from_dict(value)
            values[name] = value
        return cls(**values)

    def replaced(self, **changes: Any) -> Self:
        """The same section with some settings changed, and checked again.

        Raises:
            ConfigError: a setting is unknown, has a bad value or contradicts another.
        """
        return self.from_dict({**self.to_dict(), **changes})


def is_section(kind: Any) -> bool:
    """Whether a setting's type is a section of its own."""
    return isinstance(kind, type) and issubclass(kind, Section)


def hints(section: type) -> dict[str, Any]:
    """The type of every setting of a section, in the order in which they are written."""
    if section not in _HINTS:
        evaluated = typing.get_type_hints(section, include_extras=True)
        _HINTS[section] = {field.name: evaluated[field.name] for field in dataclasses.fields(section)}
    return _HINTS[section]


# Python evaluates them from text, which takes milliseconds that whoever translates single sentences would notice.
_HINTS: dict[type, dict[str, Any]] = {}


def checked(value: Any, kind: Any, key: str) -> Any:
    """The value as its type wants it (an int becomes a float, a list a tuple), or a `ConfigError`.

    Examples:
        >>> checked(1, float, "training.learning_rate")
        1.0
        >>> checked("adma", Literal["adam", "adamw"], "training.optimizer")
        Traceback (most recent call last):
        seq2seq.errors.ConfigError: training.optimizer must be one of adam, adamw, but is 'adma' instead.
        Did you mean adam?
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        value = checked(value, arguments[0], key)
        for limit in arguments[1:]:
            if not limit.holds(value):
                raise must_be(key, limit.words, value)
        return value
    if origin in (types.UnionType, typing.Union):
        inner = next(argument for argument in arguments if argument is not type(None))
        if isinstance(value, Mapping):
            inner = next((argument for argument in arguments if typing.get_origin(argument) is dict), inner)
        return None if value is None and type(None) in arguments else checked(value, inner, key)
    if origin is Literal:
        if value not in arguments:
            raise must_be(key, f"one of {', '.join(arguments)}", value, suggestion(value, arguments))
        return value
    if origin is tuple:
        return _checked_tuple(value, arguments[0], key)
    if origin is dict:
        return _checked_numbers(value, arguments[1], key)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise must_be(key, WORDS.get(kind, "a section of settings"), value)
    if kind is float and not math.isfinite(value):
        raise must_be(key, "a finite number", value)
    return value


def _checked_tuple(value: Any, kind: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise must_be(key, "a list", value)
    items = tuple(checked(item, kind, key) for item in value)
    if len(set(items)) < len(items):
        raise must_be(key, "a list without repetition", list(items))
    return items


def _checked_numbers(value: Mapping[Any, Any], kind: Any, key: str) -> dict[str, Any]:
    try:
        return {checked(name, str, key): checked(number, kind, f"{key}.{name}") for name, number in value.items()}
    except ConfigError as error:
        # A recipe knows in which line the setting is, and not its names.
        raise ConfigError(str(error), key) from None


def read_text(text: str | list[str] | None, kind: Any, key: str) -> Any:
    """What somebody wrote in a recipe or a flag, as the setting's type means it; ranges are `checked`'s business.

    Examples:
        >>> read_text("no", str, "data.target"), read_text("1e-3", float, "training.learning_rate")
        ('no', 0.001)
        >>> read_text(["news", "web=0.5"], str | dict[str, float], "data.train")
        {'news': 1.0, 'web': 0.5}
        >>> read_text("yes", bool, "model.encoder.bidirectional")
        Traceback (most recent call last):
        seq2seq.errors.ConfigError: model.encoder.bidirectional must be true or false, but is 'yes' instead.
    """
    if takes_numbers(kind) and isinstance(text, list):
        return _read_numbers(text, key)
    kind, optional = bare(kind)
    if text is None and optional:
        return None
    if typing.get_origin(kind) is tuple:
        return tuple(text) if isinstance(text, list) else text
    if not isinstance(text, str):
        raise must_be(key, "one value", text)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise must_be(key, WORDS[bool], text)
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise must_be(key, WORDS[kind], text) from None
    return text


def _read_numbers(items: list[str], key: str) -> str | dict[str, float]:
    if len(items) == 1 and "=" not in items[0]:
        return items[0]
    numbers: dict[str, float] = {}
    for item in items:
        name, _, number = item.rpartition("=") if "=" in item else (item, "", "1")
        if name in numbers:
            raise ConfigError(f"{key} must name each once, but names {name} twice instead. Keep one.", key)
        try:
            numbers[name] = float(number)
        except ValueError:
            raise ConfigError(f"{key}.{name} must be {WORDS[float]}, but is {number!r} instead.", key) from None
    return numbers


def takes_numbers(kind: Any) -> bool:
    """Whether a setting may be several names with a number each."""
    return any(typing.get_origin(argument) is dict for argument in typing.get_args(kind))


def bare(kind: Any) -> tuple[Any, bool]:
    """A setting's type without its range, and whether it may be null."""
    if typing.get_origin(kind) is Annotated:
        return bare(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = next(argument for argument in typing.get_args(kind) if argument is not type(None))
        return bare(inner)[0], type(None) in typing.get_args(kind)
    return kind, False


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def must_be(key: str, expected: str, value: object, advice: str = "") -> ConfigError:
    """The one wording for a bad value: what the setting must be, what it is, and what to do."""
    shown = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else repr(value)
    return ConfigError(f"{key} must be {expected}, but is {shown} instead. {advice}".rstrip(), key)


def unknown_setting(key: str, known: Iterable[str]) -> ConfigError:
    """The error for a setting that does not exist, with the nearest one that does."""
    near = suggestion(key, known)
    return ConfigError(f"{key} is not a setting. {near or '`train.py --help` shows all of them.'}", key)


def suggestion(name: object, known: Iterable[str]) -> str:
    """The nearest right name as a question, or nothing where none is near.

    Examples:
        >>> suggestion("learning_rat", ["learning_rate", "epochs"])
        'Did you mean learning_rate?'
        >>> suggestion("zzz", ["learning_rate", "epochs"])
        ''
    """
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"Did you mean {near[0]}?" if near else ""
