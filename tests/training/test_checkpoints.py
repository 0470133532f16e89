"""A state that is saved and loaded lets a run go on bit by bit; a damaged one is told and the one before it is used."""

import errno
import json
import math
import os
import pathlib
import shutil
import types

import keras
import numpy as np
import pytest

import seq2seq
from seq2seq.errors import ModelFileError, Seq2SeqError
from seq2seq.files import is_intact
from seq2seq.training import checkpoints
from seq2seq.training.checkpoints import Checkpoints, Snapshots, add_to_history, cut_history

DROPOUT = dict.fromkeys(
    ("model__embedding_dropout", "model__dropout", "model__context_dropout", "model__readout_dropout"), 0.3
)
SETTINGS = {"ema": 0.9, "model__encoder__num_layers": 2, **DROPOUT}


@pytest.fixture(scope="module")
def saved(make_step, toy_batches, tmp_path_factory):
    """Make a run after two updates, with a state and a model of each."""
    run = tmp_path_factory.mktemp("run")
    step, kept = make_step(**SETTINGS), Checkpoints(run)
    kept.save(step, {"epoch": 0, "best_model": None})
    for epoch, batch in enumerate(toy_batches[:2], start=1):
        step([batch], 0.01)
        kept.save(step, {"epoch": epoch, "best_model": kept.save_model(step.averaged)})
    return step, run


@pytest.fixture
def run(saved, tmp_path):
    """Copy the run, since tests spoil it."""
    return shutil.copytree(saved[1], tmp_path / "run")


@pytest.fixture(scope="module")
def fresh(make_step):
    return make_step(seed=77, **SETTINGS)


@pytest.fixture
def load(logged):
    """Give a function that loads a state, and returns its progress and the log lines."""

    def _load(run: pathlib.Path, step) -> tuple[dict, list[str]]:
        logged.clear()
        return Checkpoints(run).load(step), list(logged)

    return _load


def names(folder):
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def spoil(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_goes_on_bit_by_bit(saved, fresh, toy_batches, tmp_path, load):
    step, run = saved
    # Its random streams stand elsewhere before the state is loaded.
    fresh([toy_batches[2]], 0.5)
    progress, told = load(run, fresh)
    assert (progress["epoch"], told) == (2, [])
    assert int(fresh.optimizer.iterations) == 2
    kept = Checkpoints(tmp_path)
    kept.save(step, progress | {"best_model": None})
    for batch in (toy_batches[2], toy_batches[0], toy_batches[1]):
        result, right = fresh([batch], 0.02), step([batch], 0.02)
        assert [float(number) for number in result] == [float(number) for number in right]
    for variable, right in zip(checkpoints.variables(fresh), checkpoints.variables(step), strict=True):
        np.testing.assert_array_equal(variable, right, err_msg=right.path)
    kept.load(step)


class TestFolder:
    def test_holds_the_last_two_states_and_their_models(self, saved):
        _, run = saved
        assert names(run) == ["model.keras", "state"]
        assert names(run / "state") == ["model", "model", "state", "state"]
        kept = Checkpoints(run)
        assert all(is_intact(path) for path in (*kept.states(), *kept.models()))
        assert kept.model_path.read_bytes() == kept.models()[-1].read_bytes() != kept.models()[0].read_bytes()

    def test_counts_on(self, run, fresh, load):
        kept = Checkpoints(run)
        (_, last), (_, best) = kept.states(), kept.models()
        progress, _ = load(run, fresh)
        for _ in range(2):
            kept.save(fresh, progress)
        assert last not in kept.states()
        assert [path.name[:14] for path in kept.states()] == ["state-00000003", "state-00000004"]
        assert best in kept.models()

    def test_of_a_model_that_no_state_speaks_of_is_cleared(self, run, fresh, load):
        # Killed between the two.
        kept = Checkpoints(run)
        before = kept.model_path.read_bytes()
        orphan = kept.folder / kept.save_model(fresh.averaged)
        assert orphan.exists()
        assert kept.model_path.read_bytes() == before
        load(run, fresh)
        assert not orphan.exists()
        assert len(kept.models()) == 2
        assert kept.model_path.read_bytes() == before

    def test_gets_the_model_that_a_kill_kept_from_it(self, run, fresh, load):
        # Killed after the state was named, before `model.keras` was replaced.
        kept = Checkpoints(run)
        shutil.copy(kept.models()[0], kept.model_path)
        load(run, fresh)
        assert kept.model_path.read_bytes() == kept.models()[1].read_bytes()

    def test_loses_its_newest_state_on_demand_but_never_the_last(self, run):
        kept = Checkpoints(run)
        first, _ = kept.states()
        for _ in range(2):
            kept.drop_newest()
            assert kept.states() == [first]


class TestDamage:
    @pytest.mark.parametrize(
        "spoil_file",
        [lambda path: path.write_bytes(b""), lambda path: path.write_bytes(path.read_bytes()[:-1]), spoil],
        ids=["empty", "cut", "other byte"],
    )
    def test_of_the_newest_state_leads_to_the_one_before(self, run, fresh, spoil_file, load):
        kept = Checkpoints(run)
        first, second = kept.states()
        spoil_file(second)
        progress, (told,) = load(run, fresh)
        assert progress["epoch"] == 1
        assert int(fresh.optimizer.iterations) == 1
        assert f"the one before it ({second.name}: its checksum" in told
        # The model of a score that this state has not seen is gone, and its own is there.
        assert kept.states() == [first]
        assert [path.name for path in kept.models()] == [progress["best_model"]]
        assert kept.model_path.read_bytes() == kept.models()[0].read_bytes()
        seq2seq.load(kept.model_path)

    def test_of_its_model_leads_to_the_one_before_too(self, run, fresh, load):
        kept = Checkpoints(run)
        best = kept.models()[-1]
        spoil(best)
        spoil(kept.model_path)
        progress, (told,) = load(run, fresh)
        assert progress["epoch"] == 1
        assert f"its best model, {best.name}, is missing or damaged" in told

    @pytest.mark.parametrize("which", ["kept", "published"])
    def test_of_one_copy_of_a_model_is_mended_by_the_other(self, run, fresh, which, load):
        kept = Checkpoints(run)
        right = kept.model_path.read_bytes()
        spoil(kept.models()[-1] if which == "kept" else kept.model_path)
        assert load(run, fresh)[0]["epoch"] == 2
        assert kept.models()[-1].read_bytes() == kept.model_path.read_bytes() == right

    def test_leads_back_to_a_state_without_a_model(self, tmp_path, fresh, load):
        kept = Checkpoints(tmp_path)
        kept.save(fresh, {"best_model": None})
        kept.save(fresh, {"best_model": kept.save_model(fresh.averaged)})
        assert kept.model_path.exists()
        spoil(kept.states()[-1])
        assert load(tmp_path, fresh)[0] == {"best_model": None}
        assert not kept.model_path.exists()
        assert kept.models() == []

    def test_of_all_states_is_an_error_and_changes_nothing(self, run, fresh, load):
        kept = Checkpoints(run)
        first, second = kept.states()
        spoil(first)
        spoil(second)
        before = [variable.numpy() for variable in checkpoints.variables(fresh)]
        with pytest.raises(ModelFileError, match=rf"none of the states is whole \({second.name}: .*; {first.name}: "):
            load(run, fresh)
        for variable, value in zip(checkpoints.variables(fresh), before, strict=True):
            np.testing.assert_array_equal(variable, value)

    def test_by_a_kill_while_writing_is_told_and_cleared(self, run, fresh, load):
        half = run / "state" / "unfinished-state-00000003.npz-abc"
        half.mkdir()
        progress, told = load(run, fresh)
        assert progress["epoch"] == 2
        assert len(told) == 1
        assert str(half) in told[0]
        assert not half.exists()


class TestErrors:
    def test_of_no_state(self, fresh, tmp_path, load):
        with pytest.raises(ModelFileError, match="no state to resume from"):
            load(tmp_path, fresh)

    @pytest.mark.parametrize(
        "settings", [{"model__encoder__num_layers": 1}, {"model__encoder__num_layers": 2, "model__embedding_size": 8}]
    )
    def test_of_another_architecture(self, make_step, run, settings, load):
        other = make_step(ema=0.9, **settings, **DROPOUT)
        with pytest.raises(ModelFileError, match=r"must hold \d+ arrays of this recipe's shapes, got \d+ others"):
            load(run, other)

    @pytest.mark.parametrize("refused", [1, 2, 3, 4, 5])
    def test_of_a_full_disk_leaves_a_state(self, run, fresh, monkeypatch, refused, load):
        """A gain: the model is written, then the state, and the model published; the disk is full at any of these."""
        kept, done = Checkpoints(run), []
        fsync = os.fsync

        def refuse(handle):
            done.append(handle)
            if len(done) == refused:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(handle)

        before, _ = load(run, fresh)
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(Seq2SeqError, match=r"cannot be written: No space left on device\. Make room on that disk"):
            kept.save(fresh, {"epoch": 3, "best_model": kept.save_model(fresh.averaged)})
        progress, told = load(run, fresh)
        assert told == []
        # Once the state has its name it counts, though the model that it speaks of was not yet published.
        assert progress["epoch"] == (3 if refused > 3 else 2)
        assert kept.model_path.read_bytes() == (kept.folder / progress["best_model"]).read_bytes()
        assert before["epoch"] == 2


class TestSnapshots:
    """The mean of the best evaluations' weights, against NumPy."""

    SHAPES = ((3, 2), (4,))
    SCORES = types.MappingProxyType({10: 5.0, 20: 3.0, 30: 4.0, 40: 2.0, 50: 4.0, 60: 9.0})

    @pytest.fixture
    def weights(self):
        """Give weights after 10, 20, ... steps."""
        random = np.random.default_rng(1)
        return {
            updates: [np.float32(random.normal(size=shape)) for shape in self.SHAPES] for updates in range(10, 80, 10)
        }

    @staticmethod
    def model_of(numbers):
        return types.SimpleNamespace(trainable_variables=[keras.Variable(value) for value in numbers])

    def keep(self, snapshots, weights, scores):
        for updates, score in scores.items():
            snapshots.keep(self.model_of(weights[updates]), updates, score)

    def mean_of(self, snapshots):
        model = self.model_of([np.full(shape, np.nan, "float32") for shape in self.SHAPES])
        return snapshots.assign_mean(model), [variable.numpy() for variable in model.trainable_variables]

    def assert_is_mean(self, snapshots, weights, best):
        count, found = self.mean_of(snapshots)
        assert count == len(best)
        for place, numbers in enumerate(found):
            right = np.mean([weights[updates][place].astype(np.float64) for updates in best], axis=0)
            np.testing.assert_allclose(numbers, right, rtol=1e-6)

    @pytest.mark.parametrize(
        ("count", "lower_is_better", "best"),
        [(3, True, [20, 30, 40]), (9, True, [10, 20, 30, 40, 50, 60]), (3, False, [10, 30, 60])],
    )
    def test_of_the_best_and_the_first_of_equals(self, tmp_path, weights, count, lower_is_better, best):
        snapshots = Snapshots(tmp_path / "snapshots", count, lower_is_better)
        self.keep(snapshots, weights, self.SCORES)
        assert len(list(snapshots.folder.iterdir())) == len(best)
        self.assert_is_mean(snapshots, weights, best)
        snapshots.remove()
        assert list(tmp_path.iterdir()) == []

    def test_later_ones_than_the_state_are_removed(self, tmp_path, weights):
        self.keep(Snapshots(tmp_path, 3, True), weights, {10: 5.0, 20: 3.0, 30: 2.0, 40: 1.0})
        # The run goes on from its state after 20 steps, and comes by another way.
        resumed = Snapshots(tmp_path, 3, True)
        self.keep(resumed, weights | {30: weights[60]}, {30: 4.0, 50: 6.0})
        self.assert_is_mean(resumed, weights, [20, 60, 50])

    def test_score_that_is_not_a_number(self, tmp_path, weights):
        snapshots = Snapshots(tmp_path, 2, True)
        self.keep(snapshots, weights, {10: 5.0, 20: math.nan, 30: 4.0})
        self.assert_is_mean(snapshots, weights, [10, 30])

    def test_of_nothing(self, tmp_path):
        count, found = self.mean_of(Snapshots(tmp_path / "none", 3, True))
        assert count == 0
        assert all(np.isnan(numbers).all() for numbers in found)

    def test_damaged_file(self, tmp_path, weights):
        snapshots = Snapshots(tmp_path, 3, True)
        self.keep(snapshots, weights, {10: 1.0, 20: 2.0})
        path = next(tmp_path.glob("*_20-*"))
        spoil(path)
        with pytest.raises(ModelFileError, match=rf"{path}: damaged: its checksum .* --resume"):
            self.mean_of(snapshots)


class TestHistory:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "history.jsonl"
        for updates in (6, 12, 18):
            add_to_history(path, {"updates": updates, "loss": 1.0 / updates})
        return path

    @pytest.mark.parametrize(("updates", "left"), [(0, []), (6, [6]), (12, [6, 12]), (17, [6, 12]), (18, [6, 12, 18])])
    def test_cut_after_a_state(self, path, updates, left):
        before = path.read_bytes()
        cut_history(path, updates)
        assert before.startswith(path.read_bytes())
        assert [json.loads(line)["updates"] for line in path.read_text().splitlines()] == left

    @pytest.mark.parametrize("half", ['{"upda', '{"updates": 18, "loss": 0.5}', '{"updates": 3', "\0\0\0"])
    def test_half_a_line_is_cut(self, path, half):
        before = path.read_bytes()
        with path.open("a") as file:
            file.write(half)
        cut_history(path, 18)
        assert path.read_bytes() == before

    def test_cannot_be_written(self, tmp_path):
        cut_history(tmp_path / "history.jsonl", 3)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(Seq2SeqError, match=r"none/history\.jsonl: cannot be written: No such file"):
            add_to_history(tmp_path / "none" / "history.jsonl", {"updates": 1})
