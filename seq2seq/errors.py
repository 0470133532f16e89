"""The exceptions a user of the toolkit can meet.

Every one of them carries a message that says what is wrong, where, and what to do about it, so that the command line
can print it as one line and Python code can catch the whole family as `Seq2SeqError`. Each is also the built-in
exception that a caller who has never heard of this file would expect.
"""

from collections.abc import Collection


class Seq2SeqError(Exception):
    """The family: catch it to catch every mistake that this package reports on purpose."""


class ConfigError(Seq2SeqError, ValueError):
    """A setting of a run is unknown, has a bad value, or contradicts another setting.

    Args:
        message: what is wrong and what to do about it.
        key: the setting, as a flag names it (`training.epochs`), so that a reader of recipes can add the line.
    """

    def __init__(self, message: str, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class DataError(Seq2SeqError, ValueError):
    """A text file is missing or does not hold what it should; the message names the file and the line."""


class TokenizerError(Seq2SeqError, ValueError):
    """A tokenizer cannot be trained or read as asked."""


class ModelFileError(Seq2SeqError, ValueError):
    """A model file or a checkpoint is missing, damaged, or was not written by this package."""


class MissingDependencyError(Seq2SeqError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class ArgumentError(Seq2SeqError, ValueError):
    """An argument has a value that it cannot have.

    The one wording for a bad value, and the argument's name beside it, so that a recipe can name the
    setting and its line.

    Args:
        argument: name of the argument, which is also the name of the setting.
        requirement: completes "must be ...".
        value: what was given.
        advice: what to do about it, as whole sentences.

    >>> raise ArgumentError("beam_size", ">= 1", 0)
    Traceback (most recent call last):
    seq2seq.errors.ArgumentError: beam_size must be >= 1, got 0.
    """

    def __init__(self, argument: str, requirement: str = "", value: object = None, advice: str = "") -> None:
        # Keras raises the error of a layer's call again with a longer message as its only argument.
        message = f"{argument} must be {requirement}, got {value!r}. {advice}".rstrip() if requirement else argument
        super().__init__(message)
        self.argument = argument


def require_choice(argument: str, value: object, choices: Collection[str]) -> None:
    """Raise `ArgumentError` unless the value is one of the choices.

    >>> require_choice("cell", "gruu", ["rnn", "gru"])
    Traceback (most recent call last):
    seq2seq.errors.ArgumentError: cell must be one of rnn, gru, got 'gruu'.
    """
    if value not in choices:
        raise ArgumentError(argument, f"one of {', '.join(choices)}", value)


def require_integer(argument: str, value: object, minimum: int = 1) -> None:
    """Raise `ArgumentError` unless the value is an integer of at least `minimum`."""
    if not isinstance(value, int) or value < minimum:
        raise ArgumentError(argument, f"an integer >= {minimum}", value)
