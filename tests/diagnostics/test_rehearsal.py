"""A few steps before a run: on which batches, and how they are counted."""

import statistics

import numpy as np
import pytest

from seq2seq.diagnostics import machine as rehearsal
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.training.data import Texts
from seq2seq.training.step import StepResult
from seq2seq.training.trainer import Trainer


@pytest.fixture(scope="module")
def trainer(toy_config, toy_tokenizer, toy_pairs, tmp_path_factory):
    sources, targets = zip(*toy_pairs, strict=True)
    corpus = EncodedCorpus.from_lists(toy_tokenizer.source.encode(sources), toy_tokenizer.target.encode(targets))
    config = toy_config(run__folder=str(tmp_path_factory.mktemp("runs")))
    return Trainer(config, toy_tokenizer, Batches(corpus, batch_tokens=150, seed=3), Texts([], []))


@pytest.fixture
def steps(trainer, monkeypatch):
    """The batches that a step is called with; each takes as many seconds as its number, and has twice that loss."""
    taken = []

    def step(source_ids, target_ids, rate):
        taken.append((source_ids, target_ids, rate))
        return StepResult(loss=len(taken) * 20.0, tokens=10.0, gradient_norm=1.0)

    monkeypatch.setattr(trainer, "step", step)
    monkeypatch.setattr(rehearsal.time, "monotonic", lambda: sum(range(len(taken) + 1)))
    monkeypatch.setattr(rehearsal, "ENOUGH_SECONDS", 10_000)
    return taken


def test_takes_the_largest_batch_twice_and_then_those_of_the_run(trainer, steps):
    found = rehearsal.dry_run(trainer, 3)
    largest = list(trainer.batches.epoch(0))[3]
    expected = [largest, largest, *list(trainer.batches.epoch(0))[: rehearsal.UNTIMED + rehearsal.TIMED]]
    assert len(steps) == len(expected)
    for (source_ids, target_ids, rate), batch in zip(steps, expected, strict=True):
        assert np.array_equal(source_ids, batch.source_ids)
        assert np.array_equal(target_ids, batch.target_ids)
        assert rate == 0.0
    first = 3 + rehearsal.UNTIMED
    assert found == rehearsal.Rehearsal(
        loss=2.0,
        first_seconds=1,
        seconds=statistics.median(range(first, first + rehearsal.TIMED)),
        timed=rehearsal.TIMED,
        largest_seconds=2,
        largest=(*largest.source_ids.shape, largest.target_ids.shape[1]),
        peak_bytes=found.peak_bytes,
    )
    assert found.peak_bytes > 10**7


def test_stops_when_it_has_taken_long_enough(trainer, steps, monkeypatch):
    monkeypatch.setattr(rehearsal, "ENOUGH_SECONDS", 0)
    assert rehearsal.dry_run(trainer, 3).timed == rehearsal.FEWEST_TIMED


def test_of_an_epoch_of_few_batches(trainer, steps, monkeypatch):
    monkeypatch.setattr(rehearsal, "UNTIMED", 10_000)
    found = rehearsal.dry_run(trainer, 3)
    assert (found.timed, found.seconds) == (1, 2 + trainer.batches_per_epoch)
