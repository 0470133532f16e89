"""A state that is saved and loaded lets a run go on bit by bit, its random streams among it."""

import shutil

import numpy as np
import pytest

from seq2seq.errors import ModelFileError
from seq2seq.training.checkpoints import load_state, save_state

DROPOUT = {"model__dropout": dict.fromkeys(("embedding", "recurrent", "context", "readout"), 0.3)}


@pytest.fixture(scope="module")
def saved(make_step, toy_batches, tmp_path_factory):
    """A step after two updates, with its state on disk."""
    folder = tmp_path_factory.mktemp("run") / "state"
    step = make_step(ema=0.9, model__encoder__num_layers=2, **DROPOUT)
    for source_ids, target_ids in toy_batches[:2]:
        step(source_ids, target_ids, 0.01)
    save_state(folder, step, {"epoch": 3, "best": None})
    return step, folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the state that may be spoilt."""
    return shutil.copytree(saved[1], tmp_path / "state")


@pytest.fixture(scope="module")
def fresh(make_step):
    return make_step(ema=0.9, model__encoder__num_layers=2, **DROPOUT)


def test_goes_on_bit_by_bit(saved, make_step, toy_batches):
    step, folder = saved
    other = make_step(seed=77, ema=0.9, model__encoder__num_layers=2, **DROPOUT)
    # Its random streams stand elsewhere before the state is loaded.
    other(*toy_batches[2], 0.5)
    assert load_state(folder, other) == {"epoch": 3, "best": None}
    assert int(other.optimizer.iterations) == 2
    for source_ids, target_ids in (toy_batches[2], toy_batches[0], toy_batches[1]):
        result, right = other(source_ids, target_ids, 0.02), step(source_ids, target_ids, 0.02)
        assert [float(number) for number in result] == [float(number) for number in right]
    pairs = [
        *zip(other.model.variables, step.model.variables, strict=True),
        *zip(other.averaged.trainable_variables, step.averaged.trainable_variables, strict=True),
        *zip(other.optimizer.variables, step.optimizer.variables, strict=True),
    ]
    for variable, right in pairs:
        np.testing.assert_array_equal(variable, right, err_msg=right.path)


def test_leaves_one_file(saved):
    assert [path.name for path in saved[1].iterdir()] == ["state.npz"]


class TestBadStates:
    def test_missing(self, fresh, tmp_path):
        with pytest.raises(ModelFileError, match=r"state\.npz: no state to resume from\. Start the run without --res"):
            load_state(tmp_path / "state", fresh)

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
    def test_cut_short(self, fresh, folder, share):
        path = folder / "state.npz"
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelFileError, match=r"state\.npz: damaged: .*\. Start the run without --resume"):
            load_state(folder, fresh)

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
    def test_one_byte_wrong(self, fresh, folder, share):
        path = folder / "state.npz"
        content = bytearray(path.read_bytes())
        content[int(share * len(content))] ^= 0xFF
        path.write_bytes(content)
        before = fresh.model.get_weights()
        with pytest.raises(ModelFileError, match=r"state\.npz: damaged: .*\. Start the run without --resume"):
            load_state(folder, fresh)
        for now, then in zip(fresh.model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)

    @pytest.mark.parametrize("content", [b"", b"no numbers at all"])
    def test_something_else(self, fresh, folder, content):
        (folder / "state.npz").write_bytes(content)
        with pytest.raises(ModelFileError, match=r"state\.npz: damaged"):
            load_state(folder, fresh)

    @pytest.mark.parametrize(
        "settings", [{"model__encoder__num_layers": 1}, {"model__encoder__num_layers": 2, "model__embedding_size": 8}]
    )
    def test_of_another_architecture(self, make_step, folder, settings):
        other = make_step(ema=0.9, **settings, **DROPOUT)
        with pytest.raises(ModelFileError, match=r"must hold \d+ arrays of this recipe's shapes, but holds \d+ others"):
            load_state(folder, other)
