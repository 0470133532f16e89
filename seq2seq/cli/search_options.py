"""The flags of the search, which the commands that decode share: one for each setting of `Decoding`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from seq2seq.config import Decoding
from seq2seq.config.checks import bare
from seq2seq.config.settings import known_settings


def _given(self: Any) -> dict[str, Any]:
    """The options that somebody gave: what the model's own are replaced with."""
    return {name: value for name, value in vars(self).items() if value is not None}


def _field(name: str) -> tuple[str, Any, Any]:
    setting = known_settings()[Decoding.key(name)]
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
        [_field(field.name) for field in dataclasses.fields(Decoding)],
        # Cyclopts takes what seems to be of the standard library, as generated classes do, for one plain value.
        namespace={"given": _given, "__doc__": "The search of the model, changed.", "__module__": __name__},
        frozen=True,
    )

AS_SAVED = SearchOptions()
