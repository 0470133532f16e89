"""Comparisons as tables and as a page."""

import json
import re

import pytest

from seq2seq.inspection.comparison import markdown, write_comparison

NAMES = ["cell=rnn", "cell=lstm", "cell=gru"]


def scores(number, agreement=True):
    found = {
        "training_minutes": 1.5 * number,
        "target_tokens_per_second": 12_345.6 * number,
        "parameters": 1_000_000 * number,
        "recurrent_parameters": 4_000 * number,
        "recurrent_kernel": "scan",
        "test": {
            "bleu": 10.126 * number,
            "chrf": 20.0 * number,
            "exact_match": 0.5 * number,
            "by_length": [
                {"shortest": 0, "longest": 5, "sentences": 30, "bleu": 11.0 * number},
                {"shortest": 6, "longest": 10, "sentences": 20, "bleu": 12.0 * number},
                {"shortest": 51, "longest": None, "sentences": 1, "bleu": 13.0 * number},
            ],
        },
    }
    return found | ({"agreement": {"10": 7.0 * number, "0": 9.0 * number, "2": 8.0 * number}} if agreement else {})


def row(name, status="finished", error=None, **found):
    settings = dict(part.split("=") for part in name.split(", "))
    return {"name": name, "settings": settings, "folder": "x", "status": status, "error": error, "scores": found}


@pytest.fixture
def results():
    rows = [row(name, **scores(number)) for number, name in enumerate(NAMES, 1)]
    return {"name": "cells", "axes": ["cell"], "variants": rows}


def figures(page):
    """Read the data of each figure of a page, in order."""
    found = re.findall(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*(\[.*?\]),\s*\{\"", page, flags=re.DOTALL)
    return [json.loads(data) for data in found]


class TestMarkdown:
    def test_of_finished_runs(self, results):
        assert markdown(results) == (
            "| cell | parameters | recurrent parameters | target tokens/s | kernel | minutes | BLEU | chrF "
            "| exact match | status |\n"
            "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- |\n"
            "| rnn | 1,000,000 | 4,000 | 12,346 | scan | 1.50 | 10.13 | 20.00 | 0.50 | finished |\n"
            "| lstm | 2,000,000 | 8,000 | 24,691 | scan | 3.00 | 20.25 | 40.00 | 1.00 | finished |\n"
            "| gru | 3,000,000 | 12,000 | 37,037 | scan | 4.50 | 30.38 | 60.00 | 1.50 | finished |\n"
            "\n"
            "| distractors | 0 | 2 | 10 |\n"
            "| --- | ---: | ---: | ---: |\n"
            "| cell=rnn | 9.00 | 8.00 | 7.00 |\n"
            "| cell=lstm | 18.00 | 16.00 | 14.00 |\n"
            "| cell=gru | 27.00 | 24.00 | 21.00 |\n"
            "\n"
            "| words | 0-5 | 6-10 | over 50 |\n"
            "| --- | ---: | ---: | ---: |\n"
            "| cell=rnn | 11.00 | 12.00 | 13.00 |\n"
            "| cell=lstm | 22.00 | 24.00 | 26.00 |\n"
            "| cell=gru | 33.00 | 36.00 | 39.00 |\n"
            "| sentences | 30 | 20 | 1 |\n"
        )

    def test_of_two_axes_has_a_column_for_each(self):
        rows = [row("cell=rnn, context=last", **scores(1))]
        table = markdown({"name": "x", "axes": ["cell", "context"], "variants": rows})
        assert table.startswith("| cell | context | parameters |")
        assert "| rnn | last | 1,000,000 |" in table

    def test_of_runs_that_wait_or_failed(self, results):
        results["variants"][0] = row(NAMES[0], "failed", "MemoryError: a | b\nc")
        results["variants"][2] = row(NAMES[2], "waiting")
        table = markdown(results)
        assert "| rnn | - | - | - | - | - | - | - | - | failed: MemoryError: a \\| b c |\n" in table
        assert "| gru | - | - | - | - | - | - | - | - | waiting |\n" in table
        assert table.count("cell=lstm") == 2
        assert "cell=rnn" not in table

    def test_of_runs_without_a_test_set_or_agreement_is_one_table(self, results):
        for number, entry in enumerate(results["variants"], 1):
            entry["scores"] = {name: value for name, value in scores(number, False).items() if name != "test"}
        results["variants"][0]["scores"]["target_tokens_per_second"] = None
        table = markdown(results)
        assert table.count("---:") == 7
        assert "| rnn | 1,000,000 | 4,000 | - | scan | 1.50 | - | - | - | finished |\n" in table

    def test_of_summaries_has_their_scores(self, results):
        for entry in results["variants"]:
            test = {"rouge_1": 50.5, "rouge_2": 20.25, "rouge_l": 40.0, "token_f1": 45.0, "exact_match": 1.0}
            groups = [{"shortest": 26, "longest": 50, "sentences": 9, "rouge_l": 41.0}]
            entry["scores"] = scores(1, False) | {"test": test | {"by_length": groups}}
        table = markdown(results)
        assert "| minutes | ROUGE-1 | ROUGE-2 | ROUGE-L | token F1 | exact match | status |\n" in table
        assert "| 50.50 | 20.25 | 40.00 | 45.00 | 1.00 | finished |\n" in table
        assert "| cell=gru | 41.00 |\n" in table

    def test_of_runs_with_different_test_sets_leaves_gaps(self, results):
        results["variants"][1]["scores"]["test"]["by_length"].pop(0)
        del results["variants"][1]["scores"]["agreement"]["2"]
        table = markdown(results)
        assert "| cell=lstm | - | 24.00 | 26.00 |\n" in table
        assert "| cell=lstm | 18.00 | - | 14.00 |\n" in table


class TestPage:
    def test_has_every_variant_in_every_figure(self, results, tmp_path):
        page = write_comparison(tmp_path / "comparison.html", results).read_text(encoding="utf-8")
        assert "Best BLEU: cell=gru (30.38);" in page
        bars, agreement, by_length = figures(page)
        for number, (bar, line, curve) in enumerate(zip(bars, agreement, by_length, strict=True), 1):
            assert bar["name"] == line["name"] == curve["name"] == NAMES[number - 1]
            assert bar["x"] == ["BLEU", "chrF", "exact match"]
            assert bar["y"] == [10.126 * number, 20.0 * number, 0.5 * number]
            assert (line["x"], line["y"]) == ([0, 1, 2], [9.0 * number, 8.0 * number, 7.0 * number])
            assert (curve["x"], curve["y"]) == ([0, 1, 2], [11.0 * number, 12.0 * number, 13.0 * number])
        for label in ("0-5", "6-10", "over 50"):
            assert f'"{label}"' in page

    def test_before_the_first_run_has_its_table_only(self, results, tmp_path):
        results["variants"] = [row(name, "waiting") for name in NAMES]
        page = write_comparison(tmp_path / "comparison.html", results).read_text(encoding="utf-8")
        assert figures(page) == []
        assert page.count('<td class="left">waiting</td>') == 3
