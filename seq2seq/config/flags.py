"""`--section.key value`: every setting of a run as a flag of the command line, with its help."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts

from seq2seq.config.base import bare, takes_numbers
from seq2seq.config.recipe import Setting, known_settings, merge
from seq2seq.config.sections import Config, DecodingConfig
from seq2seq.errors import ConfigError

DEFAULT_RECIPE = "data/en-fr/recipe.yaml"

Texts = dict[str, str | list[str] | None]
Switch = Annotated[bool, cyclopts.Parameter(negative=())]
"""A flag that is given or left out: there is no `--no-` form of it."""


def load_config(recipe: str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a run from a recipe and flags.

    Args:
        recipe: a YAML file of sections and settings; None takes the defaults.
        overrides: flags that win over the recipe, as on the command line: `["--training.epochs", "3"]`.

    Returns:
        The whole run. Where neither says otherwise, `data.folder` is the recipe's folder and `run.name` that folder's
        name.

    Raises:
        ConfigError: a setting is unknown, has a bad value or contradicts another; the message says where.

    Examples:
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
    """Read the command line of training, and answer `--help`.

    Args:
        arguments: `[RECIPE.yaml] [--resume] [--section.key value ...]`, without the program's name.

    Returns:
        The whole run, and whether to go on where an earlier run of this name stopped.

    Raises:
        ConfigError: the recipe or a flag is wrong.
        SystemExit: help was printed.
    """
    app = command_app(
        name="train.py", usage="Usage: python train.py [RECIPE.yaml] [--resume] [--section.key value ...]"
    )
    app.default(training_command(lambda config, resume: (config, resume)))
    parsed: tuple[Config, bool] | None = call(app, arguments)
    if parsed is None:
        raise SystemExit(0)
    return parsed


def training_command(run: Callable[[Config, bool], Any]) -> Callable[..., Any]:
    """The command line of training, for cyclopts: it reads a run and hands it on.

    Args:
        run: is called with the whole run, and whether to resume it; what it returns, the command returns.
    """

    def command(
        recipe: str = DEFAULT_RECIPE,
        /,
        *,
        resume: Switch = False,
        flags: Texts,
    ) -> Any:
        """Train a model on pairs of texts; the recipe says how, and flags change what the recipe says.

        Args:
            recipe: a YAML file of the settings below; what it leaves out keeps its default.
            resume: go on where the run of this name was stopped.
        """
        return run(merge(recipe, flags), resume)

    return with_setting_flags(command)


def command_app(name: str, usage: str | None = None, help_flags: Sequence[str] = ("--help", "-h")) -> cyclopts.App:
    """A cyclopts application that leaves errors and values to its caller."""
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
    """Call what a command line names, and give what it returns; None where help was asked for.

    Raises:
        ConfigError: the command line is wrong.
    """
    try:
        return app(_hyphens_last(arguments))
    except cyclopts.CycloptsError as error:
        raise ConfigError(str(error)) from None


def _hyphens_last(arguments: Sequence[str]) -> list[str]:
    """The same with lone hyphens, which stand for standard input, where Cyclopts does not take them for flags."""
    if "-" not in arguments or "--" in arguments:
        return list(arguments)
    rest = [argument for argument in arguments if argument != "-"]
    return [*rest, "--", *["-"] * (len(arguments) - len(rest))]


def with_setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose parameter `flags` is given the texts of all setting flags, by the settings' names.

    Cyclopts reads a function's signature, so this writes one: a keyword parameter a setting, with its help, kept as
    text. What a text means is decided where recipes are read too, so that both give the same words for one mistake.
    """
    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "flags"]
    settings = {setting.key.replace(".", "__"): setting for setting in known_settings().values()}

    def run(*arguments: Any, **options: Any) -> Any:
        texts = {settings[name].key: options.pop(name) for name in settings if options.get(name) is not None}
        return command(*arguments, **options, flags=texts)

    run.__doc__ = command.__doc__
    parameters = [*own, *(_flag(name, setting) for name, setting in settings.items())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


@functools.cache
def _group(section: str) -> cyclopts.Group:
    return cyclopts.Group.create_ordered(section)


def _flag(name: str, setting: Setting) -> inspect.Parameter:
    kind, _ = bare(setting.kind)
    is_tuple = typing.get_origin(kind) is tuple
    is_list = is_tuple or takes_numbers(setting.kind)
    item = typing.get_args(kind)[0] if is_tuple else kind
    parameter = cyclopts.Parameter(
        name=f"--{setting.key}",
        help=" ".join([setting.help, *_choices(item), f"(default: {_shown(setting.default)})"]),
        metavar=_METAVARS.get(item, "NAME") + "..." * is_list,
        group=_group(setting.section or setting.key),
        consume_multiple=is_list,
        negative=(),
        show_default=False,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[list[str] | None if is_list else str | None, parameter],
    )


_METAVARS = {int: "INTEGER", float: "NUMBER", str: "TEXT", bool: "true|false"}


def _choices(item: Any) -> list[str]:
    return [f"One of: {', '.join(typing.get_args(item))}."] if typing.get_origin(item) is Literal else []


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else "none"


def _given(self: Any) -> dict[str, Any]:
    """The options that somebody gave: what the model's own are replaced with."""
    return {name: value for name, value in vars(self).items() if value is not None}


def _field(name: str) -> tuple[str, Any, Any]:
    setting = known_settings()[DecodingConfig.key(name)]
    kind, _ = bare(setting.kind)
    # A list of words and a switch: `--banned-phrases cat "red dog"`, `--sample`.
    parameter = cyclopts.Parameter(help=setting.help, negative=(), consume_multiple=True, show_default=False)
    return name, Annotated[kind | None, parameter], None


if TYPE_CHECKING:

    class SearchOptions:
        """The search of the model, changed."""

        def given(self) -> dict[str, Any]: ...

else:
    SearchOptions = dataclasses.make_dataclass(
        "SearchOptions",
        [_field(field.name) for field in dataclasses.fields(DecodingConfig)],
        # Cyclopts takes what seems to be of the standard library, as generated classes do, for one plain value.
        namespace={"given": _given, "__doc__": "The search of the model, changed.", "__module__": __name__},
        frozen=True,
    )

AS_SAVED = SearchOptions()
