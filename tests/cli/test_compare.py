"""`seq2seq compare`: what it hands to training, what it prints, and its exit status."""

import json
import sys
import types

import pytest

from seq2seq.cli.main import main


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "corpus").mkdir()
    path = tmp_path / "corpus" / "recipe.yaml"
    path.write_text("run:\n  folder: " + str(tmp_path / "runs") + "\n")
    return str(path)


@pytest.fixture
def comparisons(monkeypatch):
    """Record the comparisons that were asked for; the score of a run is its number, and `failing` runs fail."""
    seen = types.SimpleNamespace(planned=[], failing=set(), pages=[])

    def compare(comparison):
        seen.planned.append(comparison)
        comparison.folder.mkdir(parents=True)
        rows = [
            {"name": variant.name, "settings": variant.settings, "folder": "x", "status": "waiting", "error": None,
             "scores": {}}
            for variant in comparison.variants
        ]  # fmt: skip
        results = {"name": comparison.name, "axes": list(comparison.variants[0].settings), "variants": rows}
        yield results
        for number, row in enumerate(rows):
            # Between two runs the page of what there is can be looked at.
            seen.pages.append((comparison.folder / "comparison.html").read_text(encoding="utf-8"))
            if row["name"] in seen.failing:
                row |= {"status": "failed", "error": "no memory"}
            else:
                row |= {"status": "finished", "scores": {"parameters": 1_000 + number}}
            yield results

    monkeypatch.setattr("seq2seq.cli.compare.import_tensorflow", lambda: None)
    monkeypatch.setitem(sys.modules, "seq2seq.training.sweep", types.SimpleNamespace(compare=compare))
    return seen


VARY = ["--vary", "model.context=last,mean", "--vary", "model.context_inputs=state,state+readout"]
NAMES = [
    "context=last, context_inputs=state",
    "context=last, context_inputs=state+readout",
    "context=mean, context_inputs=state",
    "context=mean, context_inputs=state+readout",
]


def test_prints_the_table_and_says_where_the_page_is(recipe, comparisons, tmp_path, capsys):
    assert main(["compare", recipe, *VARY, "--training.epochs", "7", "--name", "both"]) == 0
    (comparison,) = comparisons.planned
    assert comparison.folder == tmp_path / "runs" / "both"
    assert [variant.name for variant in comparison.variants] == NAMES
    assert {variant.config.training.epochs for variant in comparison.variants} == {7}
    out, err = capsys.readouterr()
    assert err == ""
    assert "| mean | state | 1,002 |" in out
    assert out.endswith(f"\npage: {comparison.folder / 'comparison.html'}\n")


def test_keeps_the_page_up_to_date(recipe, comparisons):
    assert main(["compare", recipe, *VARY]) == 0
    assert [page.count(">waiting<") for page in comparisons.pages] == [4, 3, 2, 1]
    page = (comparisons.planned[0].folder / "comparison.html").read_text(encoding="utf-8")
    assert (page.count(">waiting<"), page.count(">finished<")) == (0, 4)


def test_json_is_one_object_and_nothing_else(recipe, comparisons, capsys):
    assert main(["compare", recipe, *VARY, "--json"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    results = json.loads(out)
    assert results["name"] == "compare-corpus"
    assert [row["name"] for row in results["variants"]] == NAMES
    assert [row["scores"]["parameters"] for row in results["variants"]] == [1000, 1001, 1002, 1003]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_run_that_fails_is_in_the_table_and_in_the_status(recipe, comparisons, capsys, more):
    comparisons.failing = {NAMES[1], NAMES[2]}
    assert main(["compare", recipe, *VARY, *more]) == 1
    out, err = capsys.readouterr()
    assert out.count("no memory") == 2
    assert err == (
        f"error: 2 of 4 variants failed: {NAMES[1]}; {NAMES[2]}. "
        "The reasons stand above; the same command tries them again.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "compare needs --vary KEY=VALUE,VALUE"),
        (["--vary", "model.contxt=last,mean"], "model.contxt is not a setting. Did you mean model.context?"),
        (["--vary", "model.context=last,mean", "--model.context", "sum"],
         "model.context must be varied or set, got --model.context too."),
        (["--vary", "model.context=last", "mean"], "mean"),
        (["--vary", "run.seed=0,1", "--name", "a/b"], "--name must be a folder's name"),
        (["--vary", "run.seed=0,1", "--resume"], "Unknown option: --resume"),
    ],
)  # fmt: skip
def test_usage_errors(recipe, comparisons, capsys, arguments, words):
    assert main(["compare", recipe, *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, comparisons.planned) == ("", [])
    assert words in err
    assert err.count("\n") == 1
