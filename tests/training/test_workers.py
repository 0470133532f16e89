"""Batches in parts at the same time: how many there are, and that a step is that of the whole batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.training import step as workers
from seq2seq.training.data import Texts
from seq2seq.training.step import choose_workers, cut_rows
from seq2seq.training.trainer import Trainer


@pytest.fixture
def machine(monkeypatch):
    """Sets the number of cores and whether TensorFlow runs; returns the threads that operations are given."""

    def make(cores, runs=False, gpus=()):
        threads = [0]

        def set_threads(count):
            if runs:
                raise RuntimeError("Intra op parallelism cannot be modified after initialization.")
            threads[0] = count

        monkeypatch.setattr(workers, "count_cores", lambda: cores)
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus))
        monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", set_threads)
        return threads

    return make


@pytest.mark.parametrize(
    ("cores", "asked", "parts", "threads"),
    [(1, 0, 1, 0), (2, 0, 2, 1), (3, 0, 3, 1), (4, 0, 4, 1), (18, 0, 4, 4), (18, 2, 2, 9), (2, 5, 5, 1), (2, 1, 1, 0)],
)
def test_the_cores_are_shared_out(machine, cores, asked, parts, threads):
    given = machine(cores)
    assert choose_workers(asked) == choose_workers(asked) == parts
    assert given == [threads]


def test_what_cannot_be_shared_out_any_more_stays_whole(machine):
    given = machine(2, runs=True)
    assert (choose_workers(0), choose_workers(3), given) == (1, 3, [0])


def test_a_gpu_has_whole_batches(machine):
    given = machine(2, gpus=["GPU:0"])
    assert (choose_workers(0), given) == (1, [0])
    assert choose_workers(2) == 2


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_every_row_is_in_one_part(rows):
    ids, mask = np.arange(1, rows + 1)[:, None], np.ones((rows, 2), bool)
    parts = cut_rows([tf.constant(ids), tf.constant(mask)], 2)
    assert {part[0].shape[0] for part in parts} == {part[1].shape[0] for part in parts} == {(rows + 1) // 2}
    found = np.concatenate([part[0].numpy().ravel() for part in parts])
    assert sorted(found[found > 0]) == ids.ravel().tolist()
    assert sum(part[1].numpy().sum() for part in parts) == mask.sum()


def numbers(step):
    return [variable.numpy() for variable in (*step.model.trainable_variables, *step.optimizer.variables)]


@pytest.mark.parametrize(
    "changes",
    [
        {
            "model__decoder__num_layers": 2,
            "model__decoder__attention_position": "between",
            "model__copy": "reuse",
        },
        {"model__context": "max", "model__encoder__cell": "lstm", "model__decoder__cell": "lstm"},
    ],
)
def test_a_step_in_parts_is_that_of_the_whole_batch(make_step, toy_batches, changes):
    # Plain descent: Adam makes much of gradients that are almost zero.
    whole, cut = (
        make_step(optimizer=keras.optimizers.SGD(), workers=count, model__label_smoothing=0.1, **changes)
        for count in (1, 3)
    )
    # Rows that three divides, rows that it does not, and one row, which leaves two parts without any.
    for rows in (15, 16, 1):
        batch = [ids[:rows] for ids in toy_batches[0]]
        expected, found = whole(*batch, 0.5), cut(*batch, 0.5)
        assert float(found.tokens) == float(expected.tokens)
        np.testing.assert_allclose(list(map(float, found)), list(map(float, expected)), rtol=1e-5)
        for value, right in zip(numbers(cut), numbers(whole), strict=True):
            np.testing.assert_allclose(value, right, atol=1e-5)


def test_what_parts_drop_is_always_the_same(make_step, toy_batches):
    def trained():
        step = make_step(workers=2, model__embedding_dropout=0.5, model__source_word_dropout=0.3)
        return [float(step(*batch, 0.1).loss) for batch in toy_batches], numbers(step)

    (losses, values), (again, same) = trained(), trained()
    assert losses == again
    for value, other in zip(values, same, strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_run_that_goes_on_elsewhere_keeps_its_parts(toy_config, toy_tokenizer, tmp_path):
    corpus = EncodedCorpus.from_lists([[5, 6, 7, 3]] * 20, [[5, 6, 7, 3]] * 20)
    config = toy_config(run__folder=str(tmp_path), run__name="run", training__epochs=1, training__dev_sentences=1)
    config.run.path.mkdir()
    here, there = (
        Trainer(config, toy_tokenizer, Batches(corpus, batch_tokens=512), Texts(["cat"], ["kato"]), workers=count)
        for count in (3, 1)
    )
    here.run()
    there.resume()
    assert there.step.workers == 3
    assert "each batch in 3 parts at the same time" in there.describe()
