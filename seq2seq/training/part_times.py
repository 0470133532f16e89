"""Where the time of a training step goes: its parts, compiled alone and timed on the same batches."""

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.model import Seq2Seq
from seq2seq.model.losses import token_cross_entropy
from seq2seq.text import PAD_ID, START_ID, Batch
from seq2seq.training.workers import cut_rows


class ModelParts:
    """Parts of a model's step, each compiled for itself: forwards, and back to its weights and to what it reads.

    What a part reads of another is random here, in the right shapes: a part's time does not depend on it, and no part
    waits for another.

        encoder           embedding and recurrent layers of the source
        attention         the context: prepared once, and read by every target step at once
        features          all of the decoder up to its readout vectors, the context included
        readout_and_loss  from the readout vectors on: output product, softmax, cross entropy
        gradients         the whole model, up to the gradients

    Args:
        model: The model; its weights stay as they are.
        workers: In how many parts the rows of a batch are computed, at the same time.
    """

    def __init__(self, model: Seq2Seq, workers: int = 1) -> None:
        self._model = model
        self._workers = workers
        decoder = model.decoder
        ids = tf.TensorSpec([None, None], tf.int32)
        dtype = model.compute_dtype
        memory = tf.TensorSpec([None, None, model.encoder.memory_units], dtype)
        queries = tf.TensorSpec([None, None, decoder.units], dtype)
        features = tf.TensorSpec([None, None, decoder.readout_size], dtype)
        embedding = model.embedding.trainable_variables
        output = [decoder.output_embeddings, decoder.readout.output_bias]
        there_and_back = functools.partial(_there_and_back, workers)
        self._graphs = {
            "encoder": there_and_back(self._encoder, [*embedding, *model.encoder.trainable_variables], ids),
            "attention": there_and_back(
                self._attention, decoder.context.trainable_variables, memory, queries, _mask_of(ids)
            ),
            "features": there_and_back(self._features, decoder.trainable_variables, memory, ids, _mask_of(ids)),
            "readout_and_loss": there_and_back(self._loss, output, features, ids),
            "gradients": there_and_back(self._whole, model.trainable_variables, ids, ids),
        }

    def on(self, batches: Sequence[Batch]) -> dict[str, Callable[[], float]]:
        """The parts on the batches of one step, ready to be timed; each call returns when its last number is there."""
        inputs = [self._inputs(batch) for batch in batches]

        def run(name: str) -> float:
            return sum(float(self._graphs[name](*of_batch[name])) for of_batch in inputs)

        return {name: functools.partial(run, name) for name in self._graphs}

    def _inputs(self, batch: Batch) -> dict[str, list[Any]]:
        model, decoder = self._model, self._model.decoder
        source_ids, target_ids = tf.constant(batch.source_ids), tf.constant(batch.target_ids)
        mask = tf.not_equal(source_ids, PAD_ID)

        def random(steps: Any, units: int) -> Any:
            return tf.cast(tf.random.normal([*steps.shape, units]), model.compute_dtype)

        memory_mask = model.encoder.memory_mask(mask)
        memory = random(memory_mask, model.encoder.memory_units)
        memory *= tf.cast(memory_mask, model.compute_dtype)[:, :, None]
        inputs = {
            "encoder": [source_ids],
            "attention": [memory, random(target_ids, decoder.units), memory_mask],
            "features": [memory, target_ids, memory_mask],
            "readout_and_loss": [random(target_ids, decoder.readout_size), target_ids],
            "gradients": [source_ids, target_ids],
        }
        # Cut here, and not in what is timed: a step cuts ids alone, which costs next to nothing.
        return {name: list(itertools.chain(*cut_rows(tensors, self._workers))) for name, tensors in inputs.items()}

    def _encoder(self, source_ids: Any) -> Any:
        memory, _ = self._model.encode(source_ids, training=True)
        return memory

    def _attention(self, memory: Any, queries: Any, mask: Any) -> Any:
        context = self._model.decoder.context
        read, _ = context.read(context.prepare(memory, mask), queries)
        return read

    def _features(self, memory: Any, target_ids: Any, mask: Any) -> Any:
        start = tf.fill([tf.shape(target_ids)[0], 1], START_ID)
        written = tf.concat([start, target_ids[:, :-1]], 1)
        decoder = self._model.decoder
        # Which tokens could be copied takes no time here.
        tokens = tf.repeat(mask, self._model.encoder.reduction, axis=1)
        prepared = decoder.prepare(memory, mask, tf.zeros(tf.shape(tokens), tf.int32), tokens)
        return decoder.read_out(written, prepared, training=True).features

    def _loss(self, features: Any, target_ids: Any) -> Any:
        decoder = self._model.decoder
        return token_cross_entropy(
            features,
            target_ids,
            tf.not_equal(target_ids, PAD_ID),
            tf.convert_to_tensor(decoder.output_embeddings),
            tf.convert_to_tensor(decoder.readout.output_bias),
            self._model.label_smoothing,
        )

    def _whole(self, source_ids: Any, target_ids: Any) -> Any:
        inputs = {"source_ids": source_ids, "target_ids": target_ids}
        loss, tokens = self._model.loss_and_tokens(inputs, training=True)
        return loss / tokens


def _mask_of(ids: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec(ids.shape, tf.bool)


def _there_and_back(
    workers: int, function: Callable[..., Any], variables: Sequence[Any], *signature: tf.TensorSpec
) -> Any:
    """A compiled function that runs another one forwards and backwards, and returns one number that needs all of it.

    It takes the inputs of each worker, one after the other.
    """
    size = len(signature)

    def run(*inputs: Any) -> Any:
        read = [tensor for tensor in inputs if tensor.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(read)
            outputs = [function(*inputs[worker * size : (worker + 1) * size]) for worker in range(workers)]
        sources = [*(variable.value for variable in variables), *read]
        gradients = tape.gradient(outputs, sources, output_gradients=outputs)
        # Nothing that the result does not need would run at all.
        needed = [*outputs, *(tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None)]
        return tf.add_n([tf.cast(tf.reshape(tensor, [-1])[0], tf.float32) for tensor in needed])

    return tf.function(run, input_signature=signature * workers, autograph=False)


def of_new_shapes(steps: Iterable[Sequence[Batch]]) -> Iterator[Sequence[Batch]]:
    """Those steps that have a batch of a shape which none before had.

    What is compiled or prepared for a shape is so once in a run, whose epochs bring the same shapes again and again: a
    time that is to stand for a run must not hold it.

    Args:
        steps: The batches of each step.

    >>> batch = Batch(np.ones((2, 3), np.int32), np.ones((2, 4), np.int32), np.arange(2))
    >>> len(list(of_new_shapes([[batch], [batch, batch], [batch._replace(source_ids=batch.target_ids)]])))
    2
    """
    met: set[tuple[Any, Any]] = set()
    for batches in steps:
        shapes = {(batch.source_ids.shape, batch.target_ids.shape) for batch in batches}
        if not shapes <= met:
            met |= shapes
            yield batches


def interleaved_seconds(
    steps: Sequence[Sequence[Batch]], functions_on: Callable[[Sequence[Batch]], Mapping[str, Callable[[], Any]]]
) -> dict[str, np.ndarray]:
    """Seconds of several functions on the same steps, all of them on the batches of one before any on the next.

    Whatever slows the machine down for a while then slows all of them down. Each shape was met once before, untimed.

    Args:
        steps: The batches of each step.
        functions_on: What to time on the batches of a step, by name.

    Returns:
        Seconds on each step, `(steps,)`, by name.
    """
    seconds: dict[str, list[float]] = {}
    for batches in of_new_shapes(steps):
        for function in functions_on(batches).values():
            function()
    for batches in steps:
        for name, function in functions_on(batches).items():
            began = time.perf_counter()
            function()
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    return {name: np.array(times) for name, times in seconds.items()}


def part_milliseconds(seconds: Mapping[str, np.ndarray], waiting: np.ndarray) -> dict[str, float]:
    """Milliseconds of each part: medians over the steps.

    `decoder` is `features` less `attention`, and `optimiser` the whole step less `gradients`, step by step; `data` is
    the wait for the next batches. The parts need not add up to the step: each is timed alone.

    Args:
        seconds: From `interleaved_seconds`: the parts of `ModelParts`, and `step`.
        waiting: Seconds of waiting for the batches of each step.

    >>> names = ("encoder", "features", "attention", "readout_and_loss", "gradients", "step")
    >>> seconds = {name: np.array([time]) for name, time in zip(names, (0.25, 0.5, 0.125, 0.5, 1.25, 1.5))}
    >>> part_milliseconds(seconds, np.array([0.0]))
    {'encoder': 250.0, 'decoder': 375.0, 'attention': 125.0, 'readout_and_loss': 500.0, 'optimiser': 250.0, 'data': 0.0}
    """
    parts = {
        "encoder": seconds["encoder"],
        "decoder": seconds["features"] - seconds["attention"],
        "attention": seconds["attention"],
        "readout_and_loss": seconds["readout_and_loss"],
        "optimiser": seconds["step"] - seconds["gradients"],
        "data": waiting,
    }
    return {name: 1e3 * float(np.median(times)) for name, times in parts.items()}
