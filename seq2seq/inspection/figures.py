"""Figures that answer a mouse: heat maps, lines and bars. The one file that knows plotly."""

import html
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

Scale = Literal["signed", "share"]

# Distinct for readers who confuse red and green too (Paul Tol, "Colour Schemes", 2021, scheme "bright").
COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777"]
SIGNED = [[0.0, "#2166ac"], [0.25, "#92c5de"], [0.5, "#ffffff"], [0.75, "#f4a582"], [1.0, "#b2182b"]]
POSITIVE = [[0.0, "#ffffff"], [0.5, "#9ebcda"], [1.0, "#4d004b"]]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
GRID = "#e6e6e6"

ROW_PIXELS, SMALL_ROW_PIXELS = 22, 12
MOST_LARGE_LABELS, MOST_LABELS = 40, 110
AROUND_PIXELS = 130
HEIGHT = 380
LEFT = 50
CHARACTER_PIXELS = 8


def heatmap(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    row_title: str = "",
    column_title: str = "",
    scale: Scale = "signed",
    name: str = "value",
) -> Figure:
    """A matrix as colours, with the row, the column and the value of a cell where the mouse is.

    Args:
        values: Matrix, `(rows, columns)`.
        rows: Name of each row, the first on top; names may come twice, as words do in a sentence.
        columns: Name of each column; too many to be read are shown on hover only.
        title: Title above the figure.
        row_title: What the rows are.
        column_title: What the columns are.
        scale: `signed`: blue below 0, white at 0, red above, as far as the largest value goes, and at least to 1;
            `share`: white at 0, dark at 1.
        name: What the values are.

    Returns:
        The figure.

    Raises:
        ValueError: If the names are not as many as rows and columns.

    Examples:
        >>> heatmap(np.zeros((2, 3)), ["a", "b"], ["x", "y", "z"]).data[0].z.shape
        (2, 3)
    """
    return heatmaps(
        {name: values},
        rows,
        columns,
        title=title,
        row_title=row_title,
        column_title=column_title,
        scales={name: scale},
    )


def heatmaps(
    matrices: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    row_title: str = "",
    column_title: str = "",
    scales: Mapping[str, Scale],
) -> Figure:
    """Several matrices of the same rows and columns in the place of one, with a button for each.

    Args:
        matrices: The matrices by the names on their buttons, each `(rows, columns)`; the first is shown first.
        rows: Name of each row, as for `heatmap`.
        columns: Name of each column.
        title: Title above the figure.
        row_title: What the rows are.
        column_title: What the columns are.
        scales: Colours of each matrix by name, as for `heatmap`.

    Returns:
        The figure.

    Raises:
        ValueError: If the names are not as many as rows and columns.

    Examples:
        >>> figure = heatmaps({"state": np.zeros((1, 2)), "update": np.ones((1, 2))}, ["a"], ["0", "1"],
        ...                   scales={"state": "signed", "update": "share"})
        >>> [trace.visible for trace in figure.data]
        [True, False]
    """
    for name, matrix in matrices.items():
        if matrix.shape != (len(rows), len(columns)):
            raise ValueError(
                f"{name} must have a row and a column for each name, {(len(rows), len(columns))}, "
                f"but has shape {matrix.shape} instead."
            )
    names = list(matrices)
    row_word, column_word = row_title or "row", column_title or "column"
    figure = Figure()
    for name, matrix in matrices.items():
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
        figure.update_layout(updatemenus=[_buttons(names)])
    figure.update_xaxes(
        **_ticks(columns), title_text=column_title, showticklabels=len(columns) <= MOST_LABELS, showgrid=False
    )
    figure.update_yaxes(**_ticks(rows), title_text=row_title, autorange="reversed", showgrid=False)
    height = AROUND_PIXELS + len(rows) * (ROW_PIXELS if len(rows) <= MOST_LARGE_LABELS else SMALL_ROW_PIXELS)
    left = LEFT + CHARACTER_PIXELS * max(map(len, rows), default=0)
    return _dressed(figure, title, height, top=70 if len(names) > 1 else 30, left=left)


def lines(
    series: Mapping[str, tuple[Sequence, Sequence]],
    *,
    title: str = "",
    x_title: str = "",
    y_title: str = "",
    x_labels: Sequence[str] | None = None,
    logarithmic: bool = False,
) -> Figure:
    """Lines with a marker at each point.

    Args:
        series: The x and y values of each line, by its name.
        title: Title above the figure.
        x_title: What x is.
        y_title: What y is.
        x_labels: Names in the place of the x values 0, 1, ...; names may come twice.
        logarithmic: Whether equal factors of y are equal distances.

    Returns:
        The figure.

    Examples:
        >>> lines({"gru": ([0, 1, 2], [99.0, 98.0, 95.0])}, x_title="distractors").data[0].name
        'gru'
    """
    figure = Figure()
    for name, (x, y) in series.items():
        figure.add_scatter(
            x=list(x), y=list(y), name=name, mode="lines+markers", hovertemplate=_point_hover(y_title, name)
        )
    if x_labels is not None:
        figure.update_xaxes(**_ticks(x_labels))
    figure.update_xaxes(title_text=x_title)
    figure.update_yaxes(title_text=y_title, **({"type": "log", "exponentformat": "power"} if logarithmic else {}))
    return _dressed(figure, title, HEIGHT)


def bars(
    series: Mapping[str, tuple[Sequence, Sequence]],
    *,
    title: str = "",
    x_title: str = "",
    y_title: str = "",
    x_labels: Sequence[str] | None = None,
    y_range: tuple[float, float] | None = None,
) -> Figure:
    """Bars, those of several series side by side.

    Args:
        series: The x values (numbers or names) and heights of each series, by its name.
        title: Title above the figure.
        x_title: What x is.
        y_title: What the heights are.
        x_labels: Names in the place of the x values 0, 1, ...; names may come twice.
        y_range: Lowest and highest height that there is room for; None: as the heights are.

    Returns:
        The figure.

    Examples:
        >>> bars({"BLEU": (["last", "attention"], [20.0, 38.0])}).data[0].y
        (20.0, 38.0)
    """
    figure = Figure()
    for name, (x, y) in series.items():
        figure.add_bar(x=list(x), y=list(y), name=name, hovertemplate=_point_hover(y_title, name))
    if x_labels is not None:
        figure.update_xaxes(**_ticks(x_labels))
    figure.update_xaxes(title_text=x_title, showgrid=False)
    figure.update_yaxes(title_text=y_title, range=y_range)
    return _dressed(figure, title, HEIGHT)


def to_html(figure: Figure, name: str) -> str:
    """A figure as a piece of HTML, for a page that holds `javascript()` before it.

    Args:
        figure: The figure.
        name: The id of its element, different for each figure of a page.

    Returns:
        The element and its script.
    """
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        default_width="100%",
        config={"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "resetScale2d"]]},
    )


def javascript() -> str:
    """The library that draws the figures, to be put into a page once."""
    return get_plotlyjs()


def _colours(matrix: np.ndarray, scale: Scale) -> dict[str, object]:
    if scale == "share":
        return {"colorscale": POSITIVE, "zmin": 0.0, "zmax": 1.0}
    largest = float(np.max(np.abs(matrix), initial=1.0))
    return {"colorscale": SIGNED, "zmin": -largest, "zmax": largest}


def _buttons(names: Sequence[str]) -> dict[str, object]:
    return {
        "type": "buttons",
        "direction": "right",
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 8},
        "bgcolor": "#ffffff",
        "bordercolor": "#cccccc",
        "showactive": True,
        "buttons": [
            {"label": name, "method": "restyle", "args": ["visible", [other == name for other in names]]}
            for name in names
        ],
    }


def _ticks(labels: Sequence[str]) -> dict[str, object]:
    # Numbers with names, not categories: a category that comes twice is one, and a sentence may have two commas.
    # Plotly reads a name as HTML, in which "</s>" would be nothing.
    return {
        "tickmode": "array",
        "tickvals": list(range(len(labels))),
        "ticktext": [html.escape(label, quote=False) for label in labels],
        "tickfont": {"size": 13 if len(labels) <= MOST_LARGE_LABELS else 9},
    }


def _point_hover(y_title: str, name: str) -> str:
    return f"%{{x}}<br>{y_title or 'value'} <b>%{{y:.4~g}}</b><extra>{name}</extra>"


def _dressed(figure: Figure, title: str, height: int, top: int = 30, left: int = 80) -> Figure:
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left"} if title else None,
        template="none",
        colorway=COLOURS,
        font={"family": FONT, "size": 13, "color": "#222222"},
        height=height + (40 if title else 0),
        margin={"l": left, "r": 20, "t": top + (40 if title else 0), "b": 20},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"family": FONT, "size": 14}},
    )
    figure.update_xaxes(automargin="bottom", gridcolor=GRID, zeroline=False, linecolor=GRID, ticks="")
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, ticks="", title_standoff=12)
    return figure
