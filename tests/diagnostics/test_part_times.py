"""Parts of a step: each reaches all of its weights, and all of them are timed on every step."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.diagnostics import train_benchmark as part_times
from seq2seq.diagnostics.train_benchmark import ModelParts, interleaved_seconds, part_milliseconds
from seq2seq.text.batching import Batch

PARTS = ["encoder", "attention", "features", "readout_and_loss", "gradients"]
IDS = Batch(np.array([[4, 5, 3], [6, 3, 0]], np.int32), np.array([[7, 3], [8, 3]], np.int32), np.arange(2))


@pytest.mark.parametrize(
    ("workers", "changes"),
    [
        (
            1,
            {
                "model__decoder__num_layers": 2,
                "model__decoder__attention_position": "between",
                "model__tie_embeddings": "all",
            },
        ),
        (2, {"model__context": "max", "model__context_inputs": ["state", "input"]}),
    ],
)
def test_every_part_runs_forwards_and_backwards(make_model, monkeypatch, workers, changes):
    model = make_model(model__encoder__cell="rnn", model__decoder__cell="rnn", **changes)
    taken = []

    class Tape(tf.GradientTape):
        def gradient(self, target, sources, output_gradients=None):
            gradients = super().gradient(target, sources, output_gradients=output_gradients)
            taken.append([gradient for gradient in gradients if gradient is not None])
            return gradients

    monkeypatch.setattr(part_times.tf, "GradientTape", Tape)
    parts = ModelParts(model, workers)
    functions = parts.on([IDS, IDS])
    assert list(functions) == PARTS
    assert all(np.isfinite(function()) for function in functions.values())
    attends = "model__context" not in changes
    encoder, output = 1 + len(model.encoder.trainable_variables), 2
    # The decoder's gradients: all of its own but those of the output, and the memory. A tied output is its embedding.
    features = len(model.decoder.trainable_variables) - (1 if attends else 2) + workers
    # One list each: compiled once, for both batches. What a worker reads of another part is its own.
    read = (2 if attends else 1) * workers
    expected = [encoder, read, features, output + workers, len(model.trainable_variables)]
    assert [len(gradients) for gradients in taken] == expected
    # What the result does not need would not run.
    for name, gradients in zip(PARTS, taken, strict=True):
        needed = ancestors(parts._graphs[name].get_concrete_function().graph.outputs)
        tensors = [getattr(gradient, "values", gradient) for gradient in gradients]
        assert all(tensor.op in needed for tensor in tensors)


def ancestors(tensors):
    """All operations that these tensors are made from."""
    found, waiting = set(), [tensor.op for tensor in tensors]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs]
    return found


def test_all_functions_take_a_step_before_the_next():
    seen = []

    def functions_on(batches):
        width = batches[0].source_ids.shape[1]
        return {name: lambda name=name: seen.append((width, name)) for name in ("ours", "theirs")}

    def step_of(width):
        return [Batch(np.ones((2, width), np.int32), np.ones((2, 4), np.int32), np.arange(2))]

    seconds = interleaved_seconds([step_of(5), step_of(6), step_of(5)], functions_on)
    five, six = ([(width, "ours"), (width, "theirs")] for width in (5, 6))
    # Each shape is met once before the first of them counts.
    assert seen == five + six + five + six + five
    assert {name: len(times) for name, times in seconds.items()} == {"ours": 3, "theirs": 3}


def test_differences_are_taken_step_by_step():
    seconds = {name: np.array([1.0, 2.0, 30.0]) for name in [*PARTS, "step"]}
    seconds["features"] = np.array([1.5, 2.25, 40.0])
    seconds["step"] = np.array([1.125, 2.5, 30.25])
    found = part_milliseconds(seconds, waiting=np.array([0.0, 0.5, 0.25]))
    assert found == {
        "encoder": 2000, "decoder": 500, "attention": 2000, "readout_and_loss": 2000, "optimiser": 250, "data": 250,
    }  # fmt: skip
