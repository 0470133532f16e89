"""Learning rates at steps whose rate is known by hand."""

import math

import pytest

from seq2seq.training.optimizers import learning_rate

SCHEDULES = ["constant", "cosine", "inverse_square_root", "plateau"]


def rates(steps, schedule, **changes):
    settings = {"peak": 0.8, "warmup_steps": 4, "total_steps": 24} | changes
    return [learning_rate(step, schedule=schedule, **settings) for step in steps]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_a_straight_line(schedule):
    assert rates(range(5), schedule) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])


def test_constant():
    assert rates([4, 100, 10_000], "constant") == [0.8, 0.8, 0.8]


def test_cosine():
    # A quarter, half and three quarters of the way, the end, and beyond it.
    half_root = math.sqrt(0.5)
    shares = [(1 + half_root) / 2, 0.5, (1 - half_root) / 2, 0.0, 0.0]
    expected = [0.8 * (0.1 + 0.9 * share) for share in shares]
    assert rates([9, 14, 19, 24, 30], "cosine", final_share=0.1) == pytest.approx(expected)
    assert rates([24], "cosine") == pytest.approx([0.016])


def test_plateau():
    assert rates([4, 10_000], "plateau") == [0.8, 0.8]
    assert rates([4, 10_000], "plateau", plateau_factor=0.1, reductions=2) == pytest.approx([0.008, 0.008])
    # A rate that still rises to its peak is left to rise.
    assert rates([1], "plateau", reductions=1) == rates([1], "constant")


def test_inverse_square_root():
    assert rates([4, 16, 64, 400], "inverse_square_root") == pytest.approx([0.8, 0.4, 0.2, 0.08])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up(schedule):
    first, second = rates([0, 1], schedule, warmup_steps=0)
    assert first == 0.8
    assert 0.7 < second <= 0.8


def test_warm_up_longer_than_the_run():
    assert rates([9, 10, 11], "cosine", warmup_steps=10, total_steps=5) == pytest.approx([0.8, 0.8, 0.016])
