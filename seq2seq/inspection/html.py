"""One HTML file of texts, tables and figures that opens without a network."""

import html
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from seq2seq.errors import DataError
from seq2seq.inspection.figures import Figure, javascript, to_html

STYLE = """
body { margin: 0 auto; max-width: 1120px; padding: 24px 32px 80px; background: #ffffff; color: #222222;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 26px; line-height: 1.25; font-weight: 600; margin: 16px 0 24px; }
h2 { font-size: 19px; font-weight: 600; margin: 44px 0 4px; }
p { margin: 4px 0 12px; max-width: 760px; color: #444444; }
table { border-collapse: collapse; font-size: 15px; margin: 8px 0; }
th, td { padding: 4px 20px 4px 0; text-align: left; border-bottom: 1px solid #e6e6e6; }
th { font-weight: 600; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; }
"""


class Table(NamedTuple):
    """Rows under named columns.

    Attributes:
        columns: Name of each column.
        rows: Rows of as many cells; a float has two decimals, or three digits below 1, None is a dash.
        right_aligned: Names of columns that end at the right, besides those of numbers alone.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    right_aligned: Sequence[str] = ()


class Part(NamedTuple):
    """One part of a page.

    Attributes:
        title: What to look for.
        text: A sentence or two that say how to read it.
        content: The figure or table; None where the text says all.
    """

    title: str
    text: str
    content: Figure | Table | None


def write_page(path: str | pathlib.Path, title: str, parts: Sequence[Part]) -> pathlib.Path:
    """Write a page: everything that it needs is in the file, the library that draws the figures once.

    Args:
        path: The file to write; what stood there is replaced.
        title: Title of the page.
        parts: Its parts, from top to bottom.

    Returns:
        The path.

    Raises:
        DataError: If the file cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_page(f"{folder}/a.html", "Cells", [Part("Sizes", "", Table(["cell"], [["gru"]]))])
        ...     ">gru</td>" in page.read_text(encoding="utf-8")
        True
    """
    path = pathlib.Path(path)
    body = "\n".join(_part(part, f"figure-{number}") for number, part in enumerate(parts, 1))
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
<script>{javascript()}</script>
</head>
<body>
<h1>{html.escape(title)}</h1>
{body}
</body>
</html>
"""
    try:
        path.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"{path}: the page cannot be written: {error.strerror}.") from error
    return path


def _part(part: Part, name: str) -> str:
    pieces = [f"<h2>{html.escape(part.title)}</h2>"]
    if part.text:
        pieces.append(f"<p>{html.escape(part.text)}</p>")
    if isinstance(part.content, Table):
        pieces.append(_table(part.content))
    elif part.content is not None:
        pieces.append(to_html(part.content, name))
    return "<section>\n" + "\n".join(pieces) + "\n</section>"


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    right = [
        name in table.right_aligned or all(isinstance(value, int | float | None) for value in column)
        for name, column in zip(table.columns, columns, strict=True)
    ]
    head = _row("th", table.columns, right)
    rows = "\n".join(_row("td", row, right) for row in table.rows)
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(tag: str, values: Sequence[object], right: Sequence[bool]) -> str:
    cells = [
        f"<{tag} class={'right' if is_right else 'left'}>{html.escape(_shown(value))}</{tag}>"
        for value, is_right in zip(values, right, strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 1 else f"{value:.3g}"
    return str(value)
