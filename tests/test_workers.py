"""Batches beside each other: the same results in the same order, and on one thread unless the process decodes only."""

import threading

import pytest
import tensorflow as tf

from seq2seq import threads as workers
from seq2seq.errors import Seq2SeqError
from seq2seq.models import generation
from seq2seq.threads import use_single_threaded_ops

SOURCES = ["the cat sees the old dog", "the king loves the girl today", "", "the wild bird finds the man"] * 3


@pytest.fixture
def four_workers(monkeypatch):
    """As in a process that gave each operation one thread, on four cores."""
    for room in ("workers", "generation"):
        monkeypatch.setattr(f"seq2seq.models.{room}.count_workers", lambda: 4)


@pytest.mark.parametrize("options", [{"beam_size": 2}, {"sample": True, "n_best": 2}, {"beam_size": 1}], ids=str)
def test_beside_each_other_they_translate_as_one_after_the_other(trained, four_workers, monkeypatch, options):
    expected = trained.generate(SOURCES, **options)
    seen = set()
    unpack = trained._generator._unpack

    def watched(*arguments):
        seen.add(threading.current_thread())
        return unpack(*arguments)

    monkeypatch.setattr(trained._generator, "_unpack", watched)
    found = trained.generate(SOURCES, batch_tokens=32, **options)
    assert [[one.text for one in few] for few in found] == [[one.text for one in few] for few in expected]
    assert len(seen) > 1


def test_every_worker_has_batches_but_none_that_are_too_small(monkeypatch, four_workers):
    assert generation._shared_out(4096, 160_000) == 4096
    assert generation._shared_out(4096, 16_000) == 1000
    assert generation._shared_out(4096, 1_000) == 512
    assert generation._shared_out(100, 1_000) == 100
    monkeypatch.setattr(generation, "count_workers", lambda: 1)
    assert generation._shared_out(4096, 1_000) == 4096


def test_scores_too(trained, toy_pairs, four_workers):
    sources, targets = zip(*toy_pairs[:20], strict=True)
    together, apart = (trained.score(sources, targets, batch_tokens=size) for size in (4096, 32))
    assert [one.log_prob for one in apart] == pytest.approx([one.log_prob for one in together], abs=1e-3)


def test_an_error_of_one_reaches_the_caller(four_workers):
    def fail(item):
        raise Seq2SeqError(f"no {item}")

    with pytest.raises(Seq2SeqError, match="no 1"):
        list(workers.map_parallel(fail, [1, 2]))


def test_a_process_that_may_train_has_one_worker(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 0)
    assert workers.count_workers() == 1
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 5})
    assert workers.count_workers() == 3
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["GPU:0"])
    assert workers.count_workers() == 1


def test_too_late_is_no_error():
    tf.constant(1.0)
    before = tf.config.threading.get_intra_op_parallelism_threads()
    use_single_threaded_ops()
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
