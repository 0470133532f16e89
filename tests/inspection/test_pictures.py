"""Figures: what they hold, how they name it, and what they refuse."""

import numpy as np
import pytest

from seq2seq.inspection.figures import bars, heatmap, heatmaps, javascript, lines, to_html

VALUES = np.array([[0.5, -2.0, 0.25], [1.0, 0.0, -0.125]])


def test_a_heat_map_holds_values_with_the_first_row_on_top():
    figure = heatmap(VALUES, ["the", "cat"], ["0", "1", "2"], row_title="token", column_title="unit", name="state")
    (trace,) = figure.data
    np.testing.assert_array_equal(trace.z, VALUES)
    assert figure.layout.yaxis.autorange == "reversed"
    assert (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) == ("token", "unit")
    assert trace.hovertemplate == "token %{y}<br>unit %{x}<br>state <b>%{z:.3f}</b><extra></extra>"


def test_names_that_come_twice_stay_two_rows_and_markup_stays_text():
    axis = heatmap(np.zeros((3, 1)), [",", ",", "</s>"], ["0"]).layout.yaxis
    assert tuple(axis.tickvals) == (0, 1, 2)
    assert tuple(axis.ticktext) == (",", ",", "&lt;/s&gt;")


@pytest.mark.parametrize(
    ("values", "scale", "ends"),
    [
        (VALUES, "signed", (-2.0, 2.0)),
        (VALUES / 10, "signed", (-1.0, 1.0)),
        (np.abs(VALUES) / 10, "share", (0.0, 1.0)),
    ],
)
def test_colours_have_ends_that_mean_the_same_in_each_figure(values, scale, ends):
    trace = heatmap(values, ["a", "b"], ["0", "1", "2"], scale=scale).data[0]
    assert (trace.zmin, trace.zmax) == ends
    middle = dict(trace.colorscale)[0.5]
    assert (middle == "#ffffff") == (scale == "signed")


def test_too_many_columns_have_no_names_but_on_hover():
    few, many = (heatmap(np.zeros((1, n)), ["a"], [str(i) for i in range(n)]).layout.xaxis for n in (110, 111))
    assert (few.showticklabels, many.showticklabels) == (True, False)
    assert len(many.ticktext) == 111


def test_a_long_sentence_has_small_rows():
    heights = [heatmap(np.zeros((n, 1)), ["a"] * n, ["0"]).layout.height for n in (39, 40, 41, 100)]
    assert heights[1] - heights[0] == 22
    assert heights[2] < heights[1]
    assert heights[3] - heights[2] == 59 * 12


def test_each_matrix_has_a_button_that_shows_it_alone():
    figure = heatmaps(
        {"state": VALUES, "update": VALUES**2},
        ["a", "b"],
        ["0", "1", "2"],
        scales={"state": "signed", "update": "share"},
    )
    (menu,) = figure.layout.updatemenus
    assert [trace.visible for trace in figure.data] == [True, False]
    assert [button.label for button in menu.buttons] == ["state", "update"]
    assert [list(button.args[1]) for button in menu.buttons] == [[True, False], [False, True]]
    assert figure.data[1].zmin == 0


def test_values_must_have_names():
    message = r"state must have a row and a column for each name, \(2, 2\), but has shape \(2, 3\) instead."
    with pytest.raises(ValueError, match=message):
        heatmap(VALUES, ["a", "b"], ["0", "1"], name="state")


def test_lines_on_a_scale_of_factors():
    figure = lines(
        {"a": (range(2), [1.0, 0.1]), "b": (range(2), [2.0, 0.2])},
        x_labels=["x", "x"],
        y_title="norm",
        logarithmic=True,
    )
    assert [(trace.name, tuple(trace.x), tuple(trace.y)) for trace in figure.data] == [
        ("a", (0, 1), (1.0, 0.1)),
        ("b", (0, 1), (2.0, 0.2)),
    ]
    assert figure.layout.yaxis.type == "log"
    assert tuple(figure.layout.xaxis.ticktext) == ("x", "x")
    assert figure.data[0].hovertemplate == "%{x}<br>norm <b>%{y:.4~g}</b><extra>a</extra>"


def test_bars_with_the_room_that_was_asked_for():
    figure = bars({"p": (range(2), [0.5, 0.25])}, x_labels=["a", "b"], y_range=(0, 1), title="Sure?")
    assert tuple(figure.data[0].y) == (0.5, 0.25)
    assert tuple(figure.layout.yaxis.range) == (0, 1)
    assert figure.layout.title.text == "Sure?"


def test_html_of_a_figure_has_its_name_and_not_the_library():
    piece = to_html(bars({"p": ([0], [1.0])}), "figure-7")
    assert 'id="figure-7"' in piece
    assert len(piece) < 20_000 < 1_000_000 < len(javascript())
