"""Whole runs: from a recipe beside its corpus to a folder with a model that has learnt it."""

import gzip
import json
import pathlib
import signal

import numpy as np
import pytest
import yaml

import seq2seq
from seq2seq.config.flags import parse_train_arguments
from seq2seq.errors import ConfigError, DataError, TokenizerError
from seq2seq.training import run_folder
from seq2seq.training import trainer as loop
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.data import Corpus
from seq2seq.training.run import train
from seq2seq.training.step import TrainingStep
from tests.training.conftest import write_corpus

RECIPE = """\
data: {source: en, target: eo, agreement: agreement.tsv}
tokenizer: {kind: word, vocabulary_size: 100}
model: {embedding_size: 16, tie_embeddings: all, encoder: {units: 16}, decoder: {units: 32}}
training: {precision: float32, batch_tokens: 512, learning_rate: 0.02, warmup_steps: 10}
decoding: {beam_size: 2}
"""
# Two sentences of the corpus with their own verb, and one whose translation is said to have another.
AGREEMENT = """\
0\tthe good king follows the horse never\tneniam la reĝo bona sekvas la ĉevalo\tsekvas\tamas
2\tthe good king follows the horse never\tneniam la reĝo bona sekvas la ĉevalo\tsekvas\tamas
2\tthe good king follows the horse never\tneniam la reĝo bona amas la ĉevalo\tamas\tsekvas
"""
LONG = ("--training.epochs=30", "--training.evaluate-every=15")
DROPOUT = ("--model.embedding_dropout=0.2", "--model.source_word_dropout=0.2", "--model.target_word_dropout=0.1")
SHORT = ("--training.epochs=2", "--training.ema=0.9", "--data.test=null", "--data.agreement=null", *DROPOUT)


def run(recipe, *flags):
    config, resume = parse_train_arguments([str(recipe), "--run.folder", str(recipe.parents[1] / "runs"), *flags])
    return train(config, resume)


def watch_steps(monkeypatch, stop=None):
    """Return a list that the losses of all steps go into; press Ctrl-C during step `stop`."""
    losses = []

    step = TrainingStep.__call__

    def watched(self, batches, rate):
        result = step(self, batches, rate)
        losses.append(float(result.loss))
        if len(losses) == stop:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(TrainingStep, "__call__", watched)
    return losses


def state_of(folder):
    """All numbers of the last state of a run."""
    with np.load(Checkpoints(folder).states()[-1]) as stored:
        return {name: stored[name] for name in stored.files if name != "progress"}


def history_of(folder):
    lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, toy_pairs):
    folder = tmp_path_factory.mktemp("toy") / "corpus"
    folder.mkdir()
    (folder / "agreement.tsv").write_text(AGREEMENT, encoding="utf-8")
    return write_corpus(folder, RECIPE, train=toy_pairs, dev=toy_pairs[:10], test=toy_pairs[10:50])


@pytest.fixture(scope="module")
def finished(recipe):
    return run(recipe, *LONG)


class TestRun:
    def test_learns_the_corpus(self, finished, toy_pairs):
        sources, targets = zip(*toy_pairs, strict=True)
        translations = finished.model.translate(sources)
        assert sum(found == right for found, right in zip(translations, targets, strict=True)) >= 195
        assert finished.scores["test"]["exact_match"] >= 95
        assert finished.scores["test"]["sentences"] == 40
        assert len(finished.samples) == 5
        for source, translation, reference in finished.samples:
            assert (source, reference) in toy_pairs[10:50]
            assert translation == translations[sources.index(source)]

    def test_leaves_its_folder(self, finished, recipe):
        assert finished.folder == recipe.parents[1] / "runs" / "corpus"
        assert finished.model_path == finished.folder / "model.keras"
        names = {path.name for path in finished.folder.iterdir()}
        assert names == {"model.keras", "recipe.yaml", "history.jsonl", "scores.json", "state"}
        names = sorted(path.name[:14] for path in (finished.folder / "state").iterdir())
        # Of the evaluation at the end, and of that end.
        states = ["state-00000002", "state-00000003"]
        assert names == ["data.json", "joint.model", "model-00000000", "model-00000001", *states]

    def test_writes_its_scores(self, finished):
        scores = json.loads((finished.folder / "scores.json").read_text(encoding="utf-8"))
        assert scores == finished.scores
        history = history_of(finished.folder)
        assert [entry["updates"] for entry in history] == [scores["updates"] // 2, scores["updates"]]
        assert scores["best_dev"] == min(entry["loss"] for entry in history)
        assert scores["monitor"] == "loss"
        assert scores["parameters"] == finished.model.count_params()
        assert scores["training_minutes"] > 0
        assert scores["agreement"] == {"0": 100.0, "2": 50.0}

    def test_saves_the_whole_recipe_with_the_run_and_the_model(self, finished):
        saved = yaml.safe_load((finished.folder / "recipe.yaml").read_text(encoding="utf-8"))
        assert saved["training"]["epochs"] == 30
        assert saved["training"]["optimizer"] == "adam"
        assert saved["data"]["source"] == "en"
        loaded = seq2seq.load(finished.model_path)
        assert loaded.recipe == finished.model.recipe == saved
        assert loaded.decoding.beam_size == 2

    def test_that_is_finished_is_only_scored_when_resumed(self, finished, recipe, monkeypatch):
        monkeypatch.setattr(TrainingStep, "__call__", lambda *arguments: pytest.fail("a step was made"))
        again = run(recipe, *LONG, "--resume")
        assert again.scores == finished.scores

    def test_of_another_recipe_is_not_resumed(self, finished, recipe):
        with pytest.raises(ConfigError, match=r"training\.epochs was 30 and is 31; training\.evaluate_every was"):
            run(recipe, "--training.epochs", "31", "--resume")


def test_goes_on_after_ctrl_c_bit_by_bit(recipe, monkeypatch):
    whole = run(recipe, *SHORT, "--run.name", "whole")
    watch_steps(monkeypatch, stop=3)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, *SHORT, "--run.name", "stopped")
    losses = watch_steps(monkeypatch)
    resumed = run(recipe, *SHORT, "--run.name", "stopped", "--resume")
    assert len(losses) == whole.scores["updates"] - 3 >= 8
    right = state_of(whole.folder)
    for name, numbers in state_of(resumed.folder).items():
        np.testing.assert_array_equal(numbers, right[name], err_msg=name)
    assert history_of(resumed.folder) == history_of(whole.folder)
    assert resumed.scores["updates"] == whole.scores["updates"]


class TestFolder:
    def test_of_a_run_before_is_replaced_and_said_so(self, recipe, capsys, monkeypatch):
        folder = recipe.parents[1] / "runs" / "twice"
        (folder / "state").mkdir(parents=True)
        for name in ("recipe.yaml", "old"):
            (folder / name).write_text("")
        monkeypatch.setattr(loop.Trainer, "run", lambda self: pytest.fail("trained"))
        with pytest.raises(pytest.fail.Exception):
            run(recipe, *SHORT, "--run.name", "twice")
        out, err = capsys.readouterr()
        assert f"{folder}: replacing the run that stands there\n" in err
        assert "200 pairs, 0 skipped\n" in err
        assert out == ""
        assert not (folder / "old").exists()

    def test_of_a_run_before_outlives_a_kill_while_the_new_one_is_made(self, recipe, toy_tokenizer, monkeypatch):
        config, _ = parse_train_arguments([str(recipe), "--run.folder", str(recipe.parents[1] / "runs")])
        config = config.replaced(run=config.run.replaced(name="killed").to_dict())
        corpus, folder = Corpus(config), config.run.path
        run_folder.create_folder(config, corpus, toy_tokenizer)
        (folder / "old").write_text("")

        def killed(*arguments):
            raise KeyboardInterrupt

        # Killed before the old folder makes way, it stays. Killed before the new one takes its place, neither is there.
        for move, left in (("rename", ["old", "recipe.yaml", "state"]), ("replace", [])):
            with monkeypatch.context() as patch:
                patch.setattr(pathlib.Path, move, killed)
                with pytest.raises(KeyboardInterrupt):
                    run_folder.create_folder(config, corpus, toy_tokenizer)
            assert sorted(path.name for path in folder.glob("*")) == left
        run_folder.check_folder(config, resume=False)
        run_folder.create_folder(config, corpus, toy_tokenizer)
        assert sorted(path.name for path in folder.iterdir()) == ["recipe.yaml", "state"]
        assert not list(folder.parent.glob("*killed-*"))

    def test_that_is_no_run_is_left_alone(self, recipe):
        folder = recipe.parents[1] / "runs" / "pictures"
        folder.mkdir(parents=True)
        (folder / "holiday.jpg").write_text("")
        with pytest.raises(ConfigError, match="pictures: the folder of a run must be new or hold a run"):
            run(recipe, "--run.name", "pictures")
        assert (folder / "holiday.jpg").exists()

    @pytest.mark.parametrize(
        ("flags", "error"),
        [
            (("--tokenizer.kind", "bpe", "--tokenizer.vocabulary-size", "5000"), TokenizerError),
            (("--data.train", "other"), DataError),
            (("--data.agreement", "other.tsv"), DataError),
            (("--data.max-target-tokens", "3"), DataError),
            (("--data.test", "blank"), DataError),
        ],
        ids=lambda value: value[0].removeprefix("--") if isinstance(value, tuple) else "",
    )
    def test_of_a_run_before_outlives_a_mistake(self, finished, recipe, flags, error):
        write_corpus(recipe.parent, blank=[("the cat", "la kato"), ("", "")])
        with pytest.raises(error):
            run(recipe, *flags)
        assert finished.model_path.exists()
        assert len(Checkpoints(finished.folder).states()) == 2


class TestResume:
    def test_of_nothing(self, recipe):
        folder = recipe.parents[1] / "runs" / "none"
        with pytest.raises(ConfigError, match="no run to resume"):
            run(recipe, "--run.name", "none", "--resume")
        assert not folder.exists()

    @pytest.mark.parametrize("name", ["train.en", "dev.eo", "test.eo", "agreement.tsv"])
    def test_on_other_data_is_refused(self, finished, recipe, name):
        path = recipe.parent / name
        before = path.read_bytes()
        try:
            path.write_bytes(before.replace(b"a", b"u", 1))
            with pytest.raises(DataError, match=rf"{path}: a run must be resumed with the data it began with"):
                run(recipe, *LONG, "--resume")
        finally:
            path.write_bytes(before)

    def test_on_the_same_data_packed_otherwise_is_refused(self, finished, recipe):
        path = recipe.parent / "test.en"
        packed = path.with_name("test.en.gz")
        packed.write_bytes(gzip.compress(path.read_bytes()))
        hidden = path.rename(path.with_name("hidden"))
        try:
            with pytest.raises(DataError, match=rf"^{path}, {packed}: a run must be resumed with the data it began"):
                run(recipe, *LONG, "--resume")
        finally:
            hidden.rename(path)
            packed.unlink()
