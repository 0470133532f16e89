"""Figures that answer a mouse: heat maps, lines and bars. The one file that knows plotly."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from seq2seq.errors import ArgumentError

Scale = Literal["signed", "share"]
"""`signed`: blue below 0, white at 0, red above, to the largest value and at least to 1; `share`: white 0, dark 1."""
Series = Mapping[str, tuple[Sequence, Sequence]]
"""The x and y values of each line, or of each colour of bars, by its name."""

# Distinct for readers who confuse red and green too (Paul Tol, "Colour Schemes", 2021, scheme "bright").
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777"]
SIGNED = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#ffffff"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
POSITIVE = [[0.0, "#ffffff"], [0.5, "#9ebcda"], [1.0, "#4d004b"]]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
GRID = "#e6e6e6"
BUTTONS = {"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
BUTTONS |= {"pad": {"b": 8}, "bgcolor": "#ffffff", "bordercolor": "#cccccc", "showactive": True}

ROW_PIXELS, SMALL_ROW_PIXELS = 22, 12
MAX_LARGE_LABELS, MAX_LABELS = 40, 110
AROUND_PIXELS = 130
HEIGHT = 380
LEFT = 50
CHARACTER_PIXELS = 8


def heatmap(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_title: str = "",
    column_title: str = "",
    scale: Scale = "signed",
    name: str = "value",
) -> Figure:
    """Draw a matrix as colours, with the row, the column and the value of a cell where the mouse is."""
    return heatmaps({name: values}, rows, columns, row_title=row_title, column_title=column_title, scales={name: scale})


def heatmaps(
    matrices: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    row_title: str = "",
    column_title: str = "",
    scales: Mapping[str, Scale],
) -> Figure:
    """Draw several matrices of the same rows and columns in one place, with a button for each; the first is shown.

    Names may come twice, as words do in a sentence; too many names of columns to be read are shown on hover only.
    """
    names = list(matrices)
    row_word, column_word = row_title or "row", column_title or "column"
    figure = Figure()
    for name, matrix in matrices.items():
        if matrix.shape != (len(rows), len(columns)):
            raise ArgumentError(name, f"of shape {(len(rows), len(columns))}, a name for each", matrix.shape)
        figure.add_heatmap(
            # The page carries an array as its bytes: four a value hold more than the three decimals that are shown.
            z=np.asarray(matrix, "float32"),
            name=name,
            visible=name == names[0],
            hovertemplate=f"{row_word} %{{y}}<br>{column_word} %{{x}}<br>{name} <b>%{{z:.3f}}</b><extra></extra>",
            colorbar={"thickness": 12, "outlinewidth": 0},
            **_colours(matrix, scales[name]),
        )
    if len(names) > 1:
        figure.update_layout(updatemenus=[BUTTONS | {"buttons": _buttons(names)}])
    figure.update_xaxes(
        **_ticks(columns), title_text=column_title, showticklabels=len(columns) <= MAX_LABELS, showgrid=False
    )
    figure.update_yaxes(**_ticks(rows), title_text=row_title, autorange="reversed", showgrid=False)
    height = AROUND_PIXELS + len(rows) * (ROW_PIXELS if len(rows) <= MAX_LARGE_LABELS else SMALL_ROW_PIXELS)
    left = LEFT + CHARACTER_PIXELS * max(map(len, rows), default=0)
    return _dressed(figure, height, top=70 if len(names) > 1 else 30, left=left)


def lines(
    series: Series,
    *,
    x_title: str = "",
    y_title: str = "",
    x_labels: Sequence[str] | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Draw lines with a marker at each point; `x_labels` are names for the x values 0, 1, ..."""
    figure = Figure()
    for name, (x, y) in series.items():
        figure.add_scatter(x=list(x), y=list(y), name=name, mode="lines+markers", hovertemplate=_hover(y_title, name))
    if logarithmic:
        figure.update_yaxes(type="log", exponentformat="power")
    return _with_axes(figure, x_title, y_title, x_labels)


def bars(
    series: Series,
    *,
    y_title: str = "",
    x_labels: Sequence[str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Figure:
    """Draw bars, those of several series next to each other; x values are numbers or names."""
    figure = Figure()
    for name, (x, y) in series.items():
        figure.add_bar(x=list(x), y=list(y), name=name, hovertemplate=_hover(y_title, name))
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(range=y_range)
    return _with_axes(figure, "", y_title, x_labels)


def to_html(figure: Figure, name: str) -> str:
    """Render a figure as an element of the id `name` and its script, for a page that holds `javascript()`."""
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_width="100%",
        config={"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "resetScale2d"]]},
    )


def javascript() -> str:
    """Return the library that draws the figures, which a page needs once."""
    return get_plotlyjs()


def _colours(matrix: np.ndarray, scale: Scale) -> dict[str, Any]:
    if scale == "share":
        return {"colorscale": POSITIVE, "zmin": 0.0, "zmax": 1.0}
    largest = float(np.max(np.abs(matrix), initial=1.0))
    return {"colorscale": SIGNED, "zmin": -largest, "zmax": largest}


def _buttons(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"label": name, "method": "restyle", "args": ["visible", [other == name for other in names]]} for name in names
    ]


def _ticks(labels: Sequence[str]) -> dict[str, Any]:
    # Numbers with names, not categories: a category that comes twice is one, and a sentence may have two commas.
    # Plotly reads a name as HTML, in which "</s>" would be nothing.
    return {
        "tickmode": "array",
        "tickvals": list(range(len(labels))),
        "ticktext": [html.escape(label, quote=False) for label in labels],
        "tickfont": {"size": 13 if len(labels) <= MAX_LARGE_LABELS else 9},
    }


def _hover(y_title: str, name: str) -> str:
    return f"%{{x}}<br>{y_title or 'value'} <b>%{{y:.4~g}}</b><extra>{name}</extra>"


def _with_axes(figure: Figure, x_title: str, y_title: str, x_labels: Sequence[str] | None) -> Figure:
    figure.update_xaxes(title_text=x_title, **({} if x_labels is None else _ticks(x_labels)))
    figure.update_yaxes(title_text=y_title)
    return _dressed(figure, HEIGHT)


def _dressed(figure: Figure, height: int, top: int = 30, left: int = 80) -> Figure:
    figure.update_layout(
        template="none",
        colorway=COLOURS,
        font={"family": FONT, "size": 13, "color": "#222222"},
        height=height,
        margin={"l": left, "r": 20, "t": top, "b": 20},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"family": FONT, "size": 14}},
    )
    figure.update_xaxes(automargin="bottom", gridcolor=GRID, zeroline=False, linecolor=GRID, ticks="")
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, ticks="", title_standoff=12)
    return figure
