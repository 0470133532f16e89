"""Pages: one file, everything in it, every text as it was given."""

import re

import numpy as np
import pytest

from seq2seq.errors import DataError
from seq2seq.inspection.figures import bars, heatmap, javascript
from seq2seq.inspection.html import Part, Table, write_page

TABLE = Table(
    ["unit", "when", "percent", "before"],
    [[1_234, "<b>", 98.764, "the cat"], [5, "a & b", 0.01234, "it"], [7, "", None, ""]],
    right_aligned=["before"],
)


@pytest.fixture
def page(tmp_path):
    parts = [
        Part("Look for <red>", "Both & neither.", heatmap(np.zeros((1, 1)), ["</s>"], ["0"])),
        Part("Numbers", "", TABLE),
        Part("More", "", bars({"p": ([0], [1.0])})),
        Part("Nothing to draw", "There is none.", None),
    ]
    return write_page(tmp_path / "page.html", "a < b", parts).read_text(encoding="utf-8")


def test_the_library_is_in_the_file_once(page):
    assert page.count(javascript()) == 1


def test_nothing_is_loaded_from_elsewhere(page):
    own = page.replace(javascript(), "")
    assert not re.findall(r'(?:src|href)="(?!data:)', own)
    assert "@import" not in own
    assert "url(" not in own


def test_texts_are_text(page):
    assert page.count("<title>a &lt; b</title>") == page.count("<h1>a &lt; b</h1>") == 1
    assert "<h2>Look for &lt;red&gt;</h2>\n<p>Both &amp; neither.</p>" in page
    assert "<h2>Nothing to draw</h2>\n<p>There is none.</p>\n</section>" in page


def test_cells_of_a_table(page):
    rows = re.findall(r"<tr>(.*?)</tr>", page.replace(javascript(), ""))
    cells = [re.findall(r"class=(\w+)>(.*?)</t", row) for row in rows]
    sides = ["right", "left", "right", "right"]
    assert [[side for side, _ in row] for row in cells] == [sides] * 4
    assert [[text for _, text in row] for row in cells] == [
        ["unit", "when", "percent", "before"],
        ["1,234", "&lt;b&gt;", "98.76", "the cat"],
        ["5", "a &amp; b", "0.0123", "it"],
        ["7", "", "-", ""],
    ]


def test_a_table_without_rows_keeps_its_head(tmp_path):
    page = write_page(tmp_path / "page.html", "t", [Part("Empty", "", Table(["a", "b"], []))])
    assert page.read_text(encoding="utf-8").count("</th>") == 2 + javascript().count("</th>")


def test_figures_have_names_of_their_own(page):
    names = re.findall(r'<div id="(.*?)"', page.replace(javascript(), ""))
    assert len(names) == len(set(names)) == 2


def test_a_page_is_replaced(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("x" * 10_000_000)
    write_page(path, "t", [])
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_where_a_page_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match=r"page.html: the page cannot be written: No such file or directory."):
        write_page(tmp_path / "nowhere" / "page.html", "t", [])
