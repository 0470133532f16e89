"""One HTML file of texts, tables and figures that opens without a network, from a template in `templates/`."""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2

from seq2seq.errors import DataError
from seq2seq.inspection.figures import javascript, to_html


class Table(NamedTuple):
    """Rows under named columns; columns of numbers, and those in `right_aligned`, end at the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    right_aligned: Sequence[str] = ()

    def sides(self) -> list[str]:
        """Return `left` or `right` for each column."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        return [
            "right" if name in self.right_aligned or is_numeric(column) else "left"
            for name, column in zip(self.columns, columns, strict=True)
        ]


def is_numeric(column: Sequence[object]) -> bool:
    """Tell whether a column has numbers and gaps only."""
    return all(isinstance(value, int | float | None) for value in column)


def write_page(path: str | pathlib.Path, template: str, **values: Any) -> pathlib.Path:
    """Render a template to a file that needs nothing else: style and the library of the figures are in it.

    A template extends `page.html` and fills its blocks `title`, `summary` and `sections`; each section is a call of the
    macro `section` with its anchor, its title and a figure or a table, and goes into the table of contents.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("seq2seq.inspection"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shown": shown, "figure": to_html, "exp": math.exp}
    environment.tests["table"] = lambda value: isinstance(value, Table)
    page = environment.get_template(template).render(**values, javascript=javascript(), contents=[])
    path = pathlib.Path(path)
    try:
        path.write_text(page + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"{path}: the page cannot be written: {error.strerror}.") from error
    return path


def shown(value: object) -> str:
    """Format a cell of a table.

    >>> [shown(value) for value in (None, 1234, 98.764, 0.01234, "a")]
    ['-', '1,234', '98.76', '0.0123', 'a']
    """
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 1 else f"{value:.3g}"
    return str(value)
