"""Pages and figures: one file, everything in it, every text as it was given."""

import re

import numpy as np
import pytest

from seq2seq.errors import ArgumentError, DataError
from seq2seq.inspection.comparison import write_comparison
from seq2seq.inspection.figures import bars, heatmap, heatmaps, javascript, lines
from seq2seq.inspection.html import Table, shown

VALUES = np.array([[0.5, -2.0, 0.25], [1.0, 0.0, -0.125]])


def results(name="a < b"):
    variant = {"name": "<b>=1", "settings": {"<b>": 1}, "status": "failed", "error": "<script>", "scores": {}}
    return {"name": name, "axes": ["<b>"], "variants": [variant]}


@pytest.fixture
def page(tmp_path):
    whole = write_comparison(tmp_path / "page.html", results()).read_text(encoding="utf-8")
    assert whole.count(javascript()) == 1
    return whole.replace(javascript(), "")


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "@import" not in page
    assert "url(" not in page


def test_texts_are_text(page):
    title = "Comparison a &lt; b: &lt;b&gt;"
    assert page.count(f"<title>{title}</title>") == page.count(f"<h1>{title}</h1>") == 1
    assert '<td class="left">failed: &lt;script&gt;</td>' in page


def test_contents_name_every_section(page):
    anchors = re.findall(r'<section id="(.*?)"', page)
    assert anchors == re.findall(r'<li><a href="#(.*?)"', page) == re.findall(r'<h2><a href="#(.*?)"', page)
    assert len(anchors) == 1


def test_where_a_page_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match=r"page.html: the page cannot be written"):
        write_comparison(tmp_path / "nowhere" / "page.html", results())


def test_numbers_end_at_the_right():
    table = Table(["a", "b", "c", "d"], [[1, "x", None, ""], [2.5, "y", 1, ""]], right_aligned=["d"])
    assert table.sides() == ["right", "left", "right", "right"]
    assert Table(["a"], []).sides() == ["right"]
    assert [shown(value) for value in (0.0, 0.5, "▁a")] == ["0.00", "0.5", "▁a"]


def test_a_heat_map_has_its_first_row_on_top():
    figure = heatmap(VALUES, ["the", "cat"], ["0", "1", "2"], row_title="token", column_title="unit", name="state")
    (drawn,) = figure.data
    np.testing.assert_array_equal(drawn.z, VALUES)
    assert figure.layout.yaxis.autorange == "reversed"
    assert (figure.layout.yaxis.title.text, figure.layout.xaxis.title.text) == ("token", "unit")
    assert drawn.hovertemplate == "token %{y}<br>unit %{x}<br>state <b>%{z:.3f}</b><extra></extra>"


def test_names_may_come_twice_and_markup_stays_text():
    axis = heatmap(np.zeros((3, 1)), [",", ",", "</s>"], ["0"]).layout.yaxis
    assert tuple(axis.tickvals) == (0, 1, 2)
    assert tuple(axis.ticktext) == (",", ",", "&lt;/s&gt;")


@pytest.mark.parametrize(
    ("values", "scale", "ends"),
    [(VALUES, "signed", (-2, 2)), (VALUES / 10, "signed", (-1, 1)), (np.abs(VALUES) / 10, "share", (0, 1))],
)
def test_colours_mean_the_same_in_each_figure(values, scale, ends):
    drawn = heatmap(values, ["a", "b"], ["0", "1", "2"], scale=scale).data[0]
    assert (drawn.zmin, drawn.zmax) == ends
    assert (dict(drawn.colorscale)[0.5] == "#ffffff") == (scale == "signed")


def test_many_columns_have_names_on_hover_only():
    few, many = (heatmap(np.zeros((1, n)), ["a"], [str(i) for i in range(n)]).layout.xaxis for n in (110, 111))
    assert (few.showticklabels, many.showticklabels) == (True, False)
    assert len(many.ticktext) == 111


def test_each_matrix_has_a_button_that_shows_it_alone():
    scales = {"state": "signed", "update": "share"}
    figure = heatmaps({"state": VALUES, "update": VALUES**2}, ["a", "b"], ["0", "1", "2"], scales=scales)
    (menu,) = figure.layout.updatemenus
    assert [drawn.visible for drawn in figure.data] == [True, False]
    buttons = {button.label: list(button.args[1]) for button in menu.buttons}
    assert buttons == {"state": [True, False], "update": [False, True]}
    assert figure.data[1].zmin == 0


def test_values_must_have_names():
    with pytest.raises(ArgumentError, match=r"state must be of shape \(2, 2\)"):
        heatmap(VALUES, ["a", "b"], ["0", "1"], name="state")


def test_lines_and_bars():
    series = {"a": (range(2), [1.0, 0.1]), "b": (range(2), [2.0, 0.2])}
    curve = lines(series, x_labels=["x", "x"], y_title="norm", logarithmic=True)
    bar = bars(series, x_labels=["x", "x"], y_range=(0, 1))
    for figure in (curve, bar):
        assert [(drawn.name, tuple(drawn.y)) for drawn in figure.data] == [("a", (1.0, 0.1)), ("b", (2.0, 0.2))]
        assert tuple(figure.layout.xaxis.ticktext) == ("x", "x")
    assert curve.layout.yaxis.type == "log"
    assert curve.data[0].hovertemplate == "%{x}<br>norm <b>%{y:.4~g}</b><extra>a</extra>"
    assert tuple(bar.layout.yaxis.range) == (0, 1)
