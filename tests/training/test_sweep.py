"""Comparisons: one run after the other, whatever comes of each, and no run twice."""

import json
import pathlib
import signal
import types

import numpy as np
import pytest

from seq2seq.config.sweep import plan_comparison
from seq2seq.errors import ConfigError, DataError, Seq2SeqError
from seq2seq.progress import current_label
from seq2seq.training import sweep as comparison
from seq2seq.training.step import TrainingStep
from seq2seq.training.sweep import compare
from tests.training.conftest import write_corpus

RECIPE = """\
data: {source: en, target: eo}
tokenizer: {kind: word, vocabulary_size: 100}
model: {embedding_size: 8, encoder: {units: 8, bidirectional: false}, decoder: {units: 16}}
training: {precision: float32, batch_tokens: 128, epochs: 1}
decoding: {beam_size: 1}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, toy_pairs):
    folder = tmp_path_factory.mktemp("toy") / "corpus"
    folder.mkdir()
    return write_corpus(folder, RECIPE, train=toy_pairs[:100], dev=toy_pairs[:10], test=toy_pairs[100:110])


@pytest.fixture
def plan(recipe, tmp_path):
    def make(vary="model.context=last,mean,max", **flags):
        return plan_comparison(recipe, [vary], {"run.folder": str(tmp_path), **flags}, "contexts")

    return make


def statuses(results):
    return [row["status"] for row in results["variants"]]


def stored(folder):
    return json.loads((folder / comparison.RESULTS_FILE).read_text(encoding="utf-8"))


class Runs:
    """In the place of training: leaves what a run leaves, and does what it is told to by the number of the call."""

    def __init__(self):
        self.calls = []
        self.outcomes = {}

    def train(self, config, resume):
        self.calls.append((config.model.context, resume, current_label()))
        folder = config.run.path
        (folder / "state").mkdir(parents=True, exist_ok=True)
        comparison.LOG.info("trains")
        (folder / "recipe.yaml").write_text(json.dumps(config.to_dict()))
        if outcome := self.outcomes.get(config.model.context):
            if isinstance(outcome, KeyboardInterrupt):
                (folder / "state" / "state-00000000-0.npz").write_text("")
            raise outcome
        scores = {"test": {"bleu": float(len(self.calls))}}
        (folder / "scores.json").write_text(json.dumps(scores))
        return types.SimpleNamespace(scores=scores)


@pytest.fixture
def runs(monkeypatch):
    runs = Runs()
    # Nothing was trained, and to look through all that the tests before left takes seconds.
    monkeypatch.setattr(comparison.gc, "collect", lambda: None)
    return runs


class TestOrder:
    def test_is_one_run_after_the_other_and_the_results_are_written_after_each(self, plan, runs, capsys):
        planned, seen = plan(), []
        for results in compare(planned, runs.train):
            assert stored(planned.folder) == json.loads(json.dumps(results))
            seen.append(statuses(results))
        assert seen == [["finished"] * done + ["waiting"] * (3 - done) for done in range(4)]
        assert runs.calls == [
            (name, False, f"{number}/3 context={name}") for number, name in enumerate(["last", "mean", "max"], 1)
        ]
        assert results["name"] == "contexts"
        assert results["axes"] == ["context"]
        assert results["variants"][1] == {
            "name": "context=mean",
            "settings": {"context": "mean"},
            "folder": (planned.folder / "context=mean").as_posix(),
            "status": "finished",
            "error": None,
            "scores": {"test": {"bleu": 2.0}},
        }
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines()[1] == "2/3 context=mean: trains"

    def test_finished_runs_are_not_trained_again(self, plan, runs):
        first = list(compare(plan("model.context=last,max"), runs.train))[-1]
        runs.calls.clear()
        (again,) = compare(plan("model.context=last,max"), runs.train)
        assert again == first
        assert runs.calls == []
        seen = [statuses(results) for results in compare(plan("model.context=last,sum,max"), runs.train)]
        assert seen == [["finished", "waiting", "finished"], ["finished"] * 3]
        assert runs.calls == [("sum", False, "2/3 context=sum")]


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "words"), [(Seq2SeqError("no number"), "no number"), (MemoryError("full"), "MemoryError: full")]
    )
    def test_is_reported_and_the_rest_go_on(self, plan, runs, capsys, error, words):
        runs.outcomes = {"mean": error}
        planned = plan()
        results = list(compare(planned, runs.train))[-1]
        assert statuses(results) == ["finished", "failed", "finished"]
        assert results["variants"][1]["error"] == words
        assert results["variants"][1]["scores"] == {}
        assert stored(planned.folder) == results
        err = capsys.readouterr().err
        assert "2/3 context=mean: failed" in err
        assert words in err
        assert ("Traceback" in err) == isinstance(error, MemoryError)

    def test_is_tried_again(self, plan, runs):
        runs.outcomes = {"last": Seq2SeqError("no"), "max": Seq2SeqError("no")}
        list(compare(plan(), runs.train))
        runs.outcomes = {"last": Seq2SeqError("never")}
        runs.calls.clear()
        results = list(compare(plan(), runs.train))[-1]
        assert [name for name, *_ in runs.calls] == ["last", "max"]
        assert statuses(results) == ["failed", "finished", "finished"]
        assert results["variants"][0]["error"] == "never"


class TestInterrupt:
    def test_ends_the_comparison_and_the_same_one_goes_on(self, plan, runs):
        runs.outcomes = {"mean": KeyboardInterrupt()}
        planned = plan()
        with pytest.raises(KeyboardInterrupt):
            list(compare(planned, runs.train))
        assert statuses(stored(planned.folder)) == ["finished", "waiting", "waiting"]
        runs.outcomes = {}
        runs.calls.clear()
        results = list(compare(plan(), runs.train))[-1]
        # What was stopped goes on from its state, and what had none starts.
        assert [(name, resume) for name, resume, _ in runs.calls] == [("mean", True), ("max", False)]
        assert statuses(results) == ["finished"] * 3


class TestRefusal:
    def test_of_another_recipe_says_what_to_do(self, plan, runs):
        list(compare(plan("model.context=last,mean"), runs.train))
        runs.calls.clear()
        planned = plan("model.context=sum,mean", **{"training.epochs": "7"})
        with pytest.raises(ConfigError, match=r"context=mean: a comparison must .*epochs was 1 and is 7\. .* --name"):
            list(compare(planned, runs.train))
        assert runs.calls == []

    def test_of_absent_files_comes_before_the_first_run(self, plan, runs):
        with pytest.raises(DataError, match=r"nowhere\.en: no such file"):
            list(compare(plan("data.train=train,nowhere", **{"model.context": "last"}), runs.train))
        assert runs.calls == []


class TestRealRuns:
    """Two contexts; Ctrl-C in the third step of the second, and the same comparison again."""

    @pytest.fixture(scope="class")
    @staticmethod
    def story(recipe, tmp_path_factory):
        monkeypatch = pytest.MonkeyPatch()
        batches, steps_of, step = {"last": [], "mean": []}, [], TrainingStep.__call__

        def watched(self, group, learning_rate):
            ((source_ids, target_ids, _),) = group
            batches[name_of(self.model)].append((source_ids.copy(), target_ids.copy()))
            steps_of.append(name_of(self.model))
            if not resumed and steps_of.count("mean") == 3 and steps_of[-1] == "mean":
                signal.raise_signal(signal.SIGINT)
            return step(self, group, learning_rate)

        def name_of(model):
            return model.recipe["model"]["context"]

        monkeypatch.setattr(TrainingStep, "__call__", watched)
        folder = tmp_path_factory.mktemp("runs")
        planned = plan_comparison(recipe, ["model.context=last,mean"], {"run.folder": str(folder)}, None)
        resumed = False
        with pytest.raises(KeyboardInterrupt):
            list(compare(planned))

        def files():
            paths = [path for path in (planned.folder / "context=last").rglob("*") if path.is_file()]
            return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

        before = files()
        steps_before = list(steps_of)
        resumed = True
        results = list(compare(planned))[-1]
        monkeypatch.undo()
        return types.SimpleNamespace(
            folder=planned.folder, batches=batches, before=before, after=files(), results=results,
            steps_before=steps_before, steps=steps_of,
        )  # fmt: skip

    def test_leave_a_finished_run_alone(self, story):
        assert {path.name for path in story.before} >= {"model.keras", "scores.json", "recipe.yaml", "joint.model"}
        assert story.after == story.before

    def test_go_on_from_where_they_were_stopped(self, story):
        number = len(story.batches["last"])
        assert number > 10
        assert story.steps_before == ["last"] * number + ["mean"] * 3
        assert story.steps == ["last"] * number + ["mean"] * number
        assert statuses(story.results) == ["finished", "finished"]

    def test_read_the_same_batches_in_the_same_order(self, story):
        for one, other in zip(story.batches["last"], story.batches["mean"], strict=True):
            for ours, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_have_one_tokenizer_and_one_encoded_corpus(self, story):
        one, other = ((story.folder / f"context={name}" / "state" / "joint.model") for name in ("last", "mean"))
        assert one.read_bytes() == other.read_bytes()
        encoded = [path for path in (story.folder / ".cache").iterdir() if path.is_dir()]
        assert len(encoded) == 1

    def test_record_what_the_table_needs(self, story):
        for row in story.results["variants"]:
            scores = row["scores"]
            assert scores == json.loads((pathlib.Path(row["folder"]) / "scores.json").read_text(encoding="utf-8"))
            assert scores["target_tokens_per_second"] > 0
            assert scores["recurrent_parameters"] == 3 * 8 * (8 + 8 + 2) + 3 * 16 * (8 + 16 + 2)
            assert scores["parameters"] > scores["recurrent_parameters"]
            assert scores["recurrent_kernel"] in ("scan", "cudnn")
            groups = scores["test"]["by_length"]
            assert sum(group["sentences"] for group in groups) == scores["test"]["sentences"] == 10
            assert all(set(group) == {"shortest", "longest", "sentences", "bleu"} for group in groups)
