"""`--section.key value`: every setting of a run as a flag of the command line, with its help.

Flags and help are cyclopts' work. Of the libraries compared (jsonargparse, tyro, pydantic-settings) it names the
nearest right flag for a wrong one, answers in a quarter of a second, leaves the words of all other messages to its
caller, and is well kept.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import cyclopts

from seq2seq.config.recipe import Setting, Texts, known_settings, merge
from seq2seq.config.sections import Config
from seq2seq.errors import ConfigError

DEFAULT_RECIPE = "data/en-fr/recipe.yaml"

Switch = Annotated[bool, cyclopts.Parameter(negative=())]
"""A flag that is given or left out: there is no `--no-` form of it."""


def load_config(recipe: str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a run from a recipe, or None, and flags as on the command line, or raise a ConfigError that says where.

    >>> load_config(None, ["--training.epochs", "3"]).training.epochs
    3
    >>> load_config(None, ["--training.epoch", "3"])
    Traceback (most recent call last):
    seq2seq.errors.ConfigError: Unknown option: --training.epoch. Did you mean --training.epochs?
    """

    def settings(*, flags: Texts) -> Config:
        return merge(recipe, flags)

    app = command_app(name="load_config", help_flags=())
    app.default(with_setting_flags(settings))
    config: Config = call(app, overrides)
    return config


def parse_train_arguments(arguments: Sequence[str]) -> tuple[Config, bool]:
    """Read the command line of training: the whole run, and whether to resume it; `--help` exits."""
    app = command_app(
        name="train.py", usage="Usage: python train.py [RECIPE.yaml] [--resume] [--section.key value ...]"
    )
    app.default(training_command(lambda config, resume: (config, resume)))
    parsed: tuple[Config, bool] | None = call(app, arguments)
    if parsed is None:
        raise SystemExit(0)
    return parsed


def training_command(run: Callable[[Config, bool], Any]) -> Callable[..., Any]:
    """Make the command line of training, which calls `run` with the whole run and whether to resume it."""

    def command(recipe: str = DEFAULT_RECIPE, /, *, resume: Switch = False, flags: Texts) -> Any:
        """Train a model on pairs of texts; the recipe says how, and flags change what the recipe says.

        Args:
            recipe: a YAML file of the settings below; what it leaves out keeps its default.
            resume: go on where the run of this name was stopped.
            flags: settings that change the recipe.
        """
        return run(merge(recipe, flags), resume)

    return with_setting_flags(command)


def command_app(name: str, usage: str | None = None, help_flags: Sequence[str] = ("--help", "-h")) -> cyclopts.App:
    """Create a cyclopts application that leaves errors and values to its caller."""
    return cyclopts.App(
        name=name,
        usage=usage,
        help_flags=help_flags,
        version_flags=(),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )


def call(app: cyclopts.App, arguments: Sequence[str]) -> Any:
    """Call the command that a command line names; None where help was asked for, ConfigError where it is wrong."""
    if "-" in arguments and "--" not in arguments:
        # Lone hyphens mean standard input; at the end cyclopts does not take them for flags.
        rest = [argument for argument in arguments if argument != "-"]
        arguments = [*rest, "--", *["-"] * (len(arguments) - len(rest))]
    try:
        return app(list(arguments))
    except cyclopts.CycloptsError as error:
        raise ConfigError(str(error)) from None


def with_setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for every setting; its parameter `flags` gets the texts of those given, by full names.

    Flags stay text, so that flags and recipes mean the same and give the same message for a mistake.
    """
    groups = {setting.section: cyclopts.Group.create_ordered(setting.section or setting.key) for setting in _all()}

    def flag(setting: Setting) -> Any:
        takes_several = setting.is_list or setting.has_weights
        choices = [f"One of: {', '.join(setting.choices)}."] if setting.choices else []
        parameter = cyclopts.Parameter(
            name=f"--{setting.key}",
            help=" ".join([setting.help, *choices, f"(default: {_shown(setting.default)})"]),
            metavar=_METAVARS.get(setting.kind, "NAME") + "..." * takes_several,
            group=groups[setting.section],
            consume_multiple=takes_several,
            negative=(),
            show_default=False,
        )
        return Annotated[list[str] | None if takes_several else str | None, parameter]

    return _with_flags(command, "flags", {setting.key: flag(setting) for setting in _all()})


def with_search_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for every setting of `decoding`; its parameter `search` gets the values of those given."""

    def flag(setting: Setting) -> Any:
        # A list of words and a switch: `--banned-phrases cat "red dog"`, `--sample`.
        parameter = cyclopts.Parameter(help=setting.help, negative=(), consume_multiple=True, show_default=False)
        return Annotated[setting.type | None, parameter]

    settings = (setting for setting in _all() if setting.section == "decoding")
    return _with_flags(
        command, "search", {setting.key.removeprefix("decoding."): flag(setting) for setting in settings}
    )


def _with_flags(command: Callable[..., Any], parameter: str, flags: dict[str, Any]) -> Callable[..., Any]:
    """Write the signature that cyclopts reads: a keyword parameter for each flag, in place of one dictionary."""
    own = [own for own in inspect.signature(command).parameters.values() if own.name != parameter]
    keys = {key.replace(".", "__"): key for key in flags}

    def run(*arguments: Any, **options: Any) -> Any:
        given = {key: options.pop(name) for name, key in keys.items() if options.get(name) is not None}
        return command(*arguments, **options, **{parameter: given})

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    kind = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, kind, default=None, annotation=flags[key]) for name, key in keys.items()]
    run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    return run


def _all() -> Iterable[Setting]:
    return known_settings().values()


_METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT", bool: "true|false"}


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else "none"
