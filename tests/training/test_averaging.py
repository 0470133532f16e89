"""The mean of the best evaluations' weights, against NumPy."""

import math
import re
import types

import keras
import numpy as np
import pytest

from seq2seq.errors import ModelFileError
from seq2seq.training.checkpoints import Snapshots

SHAPES = [(3, 2), (4,)]


def model_of(numbers):
    return types.SimpleNamespace(trainable_variables=[keras.Variable(value) for value in numbers])


@pytest.fixture
def weights():
    """Weights after 10, 20, ... steps."""
    random = np.random.default_rng(1)
    return {updates: [random.normal(size=shape).astype("float32") for shape in SHAPES] for updates in range(10, 80, 10)}


def keep(snapshots, weights, scores):
    for updates, score in scores.items():
        snapshots.keep(model_of(weights[updates]), updates, score)


def mean_of(snapshots):
    model = model_of([np.full(shape, np.nan, "float32") for shape in SHAPES])
    return snapshots.assign_mean(model), [variable.numpy() for variable in model.trainable_variables]


def assert_is_mean(snapshots, weights, best):
    count, found = mean_of(snapshots)
    assert count == len(best)
    for place, numbers in enumerate(found):
        right = np.mean([weights[updates][place].astype(np.float64) for updates in best], axis=0)
        np.testing.assert_allclose(numbers, right, rtol=1e-6)


SCORES = {10: 5.0, 20: 3.0, 30: 4.0, 40: 2.0, 50: 4.0, 60: 9.0}


@pytest.mark.parametrize(
    ("count", "lower_is_better", "best"),
    [
        (2, True, [20, 40]),
        (3, True, [20, 30, 40]),
        (9, True, list(SCORES)),
        (2, False, [10, 60]),
        (3, False, [10, 30, 60]),
    ],
)
def test_is_that_of_the_best_and_the_first_of_equals(tmp_path, weights, count, lower_is_better, best):
    snapshots = Snapshots(tmp_path / "snapshots", count, lower_is_better)
    keep(snapshots, weights, SCORES)
    assert len(list(snapshots.folder.iterdir())) == len(best)
    assert_is_mean(snapshots, weights, best)


def test_what_a_lost_life_of_the_run_left_is_forgotten(tmp_path, weights):
    keep(Snapshots(tmp_path, 3, True), weights, {10: 5.0, 20: 3.0, 30: 2.0, 40: 1.0})
    # The run goes on from its state after 20 steps, and comes by another way.
    resumed = Snapshots(tmp_path, 3, True)
    keep(resumed, weights | {30: weights[60]}, {30: 4.0, 50: 6.0})
    assert_is_mean(resumed, weights, [20, 60, 50])


def test_a_score_that_is_no_number_ranks_nowhere(tmp_path, weights):
    snapshots = Snapshots(tmp_path, 2, True)
    keep(snapshots, weights, {10: 5.0, 20: math.nan, 30: 4.0})
    assert_is_mean(snapshots, weights, [10, 30])


def test_is_of_nothing_where_nothing_was_kept(tmp_path):
    count, found = mean_of(Snapshots(tmp_path / "none", 3, True))
    assert count == 0
    assert all(np.isnan(numbers).all() for numbers in found)


def test_names_a_damaged_file(tmp_path, weights):
    snapshots = Snapshots(tmp_path, 3, True)
    keep(snapshots, weights, {10: 1.0, 20: 2.0})
    path = next(tmp_path.glob("20-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    message = f"{path}: damaged: its checksum is not that of what it holds. Remove it, and go on with --resume"
    with pytest.raises(ModelFileError, match=re.escape(message)):
        mean_of(snapshots)


def test_gives_the_disk_back(tmp_path, weights):
    snapshots = Snapshots(tmp_path / "snapshots", 3, True)
    keep(snapshots, weights, SCORES)
    snapshots.remove()
    snapshots.remove()
    assert list(tmp_path.iterdir()) == []
