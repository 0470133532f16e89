"""A state that is saved and loaded lets a run go on bit by bit; a damaged one is told and the one before it is used."""

import errno
import os
import pathlib
import shutil

import numpy as np
import pytest

import seq2seq
from seq2seq.errors import ModelFileError, Seq2SeqError
from seq2seq.files import is_intact
from seq2seq.training import checkpoints
from seq2seq.training.checkpoints import Checkpoints

DROPOUT = dict.fromkeys(
    ("model__embedding_dropout", "model__dropout", "model__context_dropout", "model__readout_dropout"), 0.3
)
SETTINGS = {"ema": 0.9, "model__encoder__num_layers": 2, **DROPOUT}


@pytest.fixture(scope="module")
def saved(make_step, toy_batches, tmp_path_factory):
    """A run after two updates: a state and the model of each, and a first state without a model, which is gone."""
    run = tmp_path_factory.mktemp("run")
    step, kept = make_step(**SETTINGS), Checkpoints(run)
    kept.save(step, {"epoch": 0, "best_model": None})
    for epoch, (source_ids, target_ids) in enumerate(toy_batches[:2], start=1):
        step(source_ids, target_ids, 0.01)
        kept.save(step, {"epoch": epoch, "best_model": kept.save_model(step.averaged)})
    return step, run


@pytest.fixture
def run(saved, tmp_path):
    """A copy of the run that may be spoilt."""
    return shutil.copytree(saved[1], tmp_path / "run")


@pytest.fixture(scope="module")
def fresh(make_step):
    return make_step(seed=77, **SETTINGS)


def load(run: pathlib.Path, step) -> tuple[dict, list[str]]:
    told: list[str] = []
    return Checkpoints(run).load(step, told.append), told


def names(folder):
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def spoil(path: pathlib.Path, share: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0xFF
    path.write_bytes(content)


def test_goes_on_bit_by_bit(saved, fresh, toy_batches, tmp_path):
    step, run = saved
    # Its random streams stand elsewhere before the state is loaded.
    fresh(*toy_batches[2], 0.5)
    progress, told = load(run, fresh)
    assert (progress["epoch"], told) == (2, [])
    assert int(fresh.optimizer.iterations) == 2
    kept = Checkpoints(tmp_path)
    kept.save(step, progress | {"best_model": None})
    for source_ids, target_ids in (toy_batches[2], toy_batches[0], toy_batches[1]):
        result, right = fresh(source_ids, target_ids, 0.02), step(source_ids, target_ids, 0.02)
        assert [float(number) for number in result] == [float(number) for number in right]
    for variable, right in zip(checkpoints.variables(fresh), checkpoints.variables(step), strict=True):
        np.testing.assert_array_equal(variable, right, err_msg=right.path)
    kept.load(step, pytest.fail)


class TestFolder:
    def test_holds_the_last_two_states_and_their_models(self, saved):
        _, run = saved
        assert names(run) == ["model.keras", "state"]
        assert names(run / "state") == ["model", "model", "state", "state"]
        kept = Checkpoints(run)
        assert all(is_intact(path) for path in (*kept.states(), *kept.models()))
        assert kept.model_path.read_bytes() == kept.models()[-1].read_bytes() != kept.models()[0].read_bytes()

    def test_counts_on(self, run, fresh):
        kept = Checkpoints(run)
        (_, last), (_, best) = kept.states(), kept.models()
        progress, _ = load(run, fresh)
        for _ in range(2):
            kept.save(fresh, progress)
        assert last not in kept.states()
        assert [path.name[:14] for path in kept.states()] == ["state-00000003", "state-00000004"]
        assert best in kept.models()

    def test_of_a_model_that_no_state_speaks_of_is_cleared(self, run, fresh):
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

    def test_gets_the_model_that_a_kill_kept_from_it(self, run, fresh):
        # Killed after the state was named, before `model.keras` was replaced.
        kept = Checkpoints(run)
        shutil.copy(kept.models()[0], kept.model_path)
        load(run, fresh)
        assert kept.model_path.read_bytes() == kept.models()[1].read_bytes()
        kept.model_path.unlink()
        load(run, fresh)
        assert kept.model_path.read_bytes() == kept.models()[1].read_bytes()

    def test_loses_its_newest_state_on_demand_but_never_the_last(self, run):
        kept = Checkpoints(run)
        first, _ = kept.states()
        for _ in range(2):
            kept.drop_newest()
            assert kept.states() == [first]


class TestDamage:
    SPOILS = pytest.mark.parametrize(
        "spoil_file",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(b"no numbers at all"),
            lambda path: spoil(path, 0.0001),
            lambda path: spoil(path, 0.5),
            lambda path: spoil(path, 0.9999),
        ],
        ids=["empty", "cut", "other", "byte at the beginning", "byte in the middle", "byte at the end"],
    )

    @SPOILS
    def test_of_the_newest_state_leads_to_the_one_before(self, run, fresh, spoil_file):
        kept = Checkpoints(run)
        first, second = kept.states()
        spoil_file(second)
        progress, (told,) = load(run, fresh)
        assert progress["epoch"] == 1
        assert int(fresh.optimizer.iterations) == 1
        assert told == (
            f"{kept.folder}: a state is damaged, the run goes on from the one before it "
            f"({second.name}: its checksum is not that of what it holds)"
        )
        # The model of a score that this state has not seen is gone, and its own is there.
        assert kept.states() == [first]
        assert [path.name for path in kept.models()] == [progress["best_model"]]
        assert kept.model_path.read_bytes() == kept.models()[0].read_bytes()
        seq2seq.load(kept.model_path)

    def test_of_its_model_leads_to_the_one_before_too(self, run, fresh):
        kept = Checkpoints(run)
        best = kept.models()[-1]
        spoil(best)
        spoil(kept.model_path)
        progress, (told,) = load(run, fresh)
        assert progress["epoch"] == 1
        assert f"its best model, {best.name}, is missing or damaged" in told

    @pytest.mark.parametrize("which", ["kept", "published"])
    def test_of_one_copy_of_a_model_is_mended_by_the_other(self, run, fresh, which):
        kept = Checkpoints(run)
        right = kept.model_path.read_bytes()
        spoil(kept.models()[-1] if which == "kept" else kept.model_path)
        assert load(run, fresh)[0]["epoch"] == 2
        assert kept.models()[-1].read_bytes() == kept.model_path.read_bytes() == right

    def test_leads_back_to_a_state_without_a_model(self, tmp_path, fresh):
        kept = Checkpoints(tmp_path)
        kept.save(fresh, {"best_model": None})
        kept.save(fresh, {"best_model": kept.save_model(fresh.averaged)})
        assert kept.model_path.exists()
        spoil(kept.states()[-1])
        assert load(tmp_path, fresh)[0] == {"best_model": None}
        assert not kept.model_path.exists()
        assert kept.models() == []

    def test_of_all_states_is_an_error_and_changes_nothing(self, run, fresh):
        kept = Checkpoints(run)
        first, second = kept.states()
        spoil(first)
        spoil(second)
        before = [variable.numpy() for variable in checkpoints.variables(fresh)]
        with pytest.raises(ModelFileError) as error:
            load(run, fresh)
        reason = "its checksum is not that of what it holds"
        assert str(error.value) == (
            f"{kept.folder}: none of the states is whole ({second.name}: {reason}; {first.name}: {reason}). "
            "Start the run without --resume."
        )
        for variable, value in zip(checkpoints.variables(fresh), before, strict=True):
            np.testing.assert_array_equal(variable, value)

    def test_by_a_kill_while_writing_is_told_and_cleared(self, run, fresh):
        half = run / "state" / "unfinished-state-00000003.npz"
        half.write_bytes(b"half")
        progress, told = load(run, fresh)
        assert progress["epoch"] == 2
        assert told == [f"{half}: was being written when the run was stopped; it is removed"]
        assert not half.exists()


class TestErrors:
    def test_of_no_state(self, fresh, tmp_path):
        with pytest.raises(ModelFileError, match=r"state: no state to resume from\. Start the run without --resume\."):
            load(tmp_path, fresh)

    @pytest.mark.parametrize(
        "settings", [{"model__encoder__num_layers": 1}, {"model__encoder__num_layers": 2, "model__embedding_size": 8}]
    )
    def test_of_another_architecture(self, make_step, run, settings):
        other = make_step(ema=0.9, **settings, **DROPOUT)
        with pytest.raises(ModelFileError, match=r"must hold \d+ arrays of this recipe's shapes, but holds \d+ others"):
            load(run, other)

    @pytest.mark.parametrize("refused", [1, 2, 3, 4, 5])
    def test_of_a_full_disk_leaves_a_state(self, run, fresh, monkeypatch, refused):
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
