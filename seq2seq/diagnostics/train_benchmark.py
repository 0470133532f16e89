"""Benchmark of training: the speed of a recipe's steps, of their parts, and the share of the machine's arithmetic."""

import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.config.sections import Config
from seq2seq.diagnostics.flops import Product, StepFlops, fastest_rate, large_products, step_flops, timed_product
from seq2seq.diagnostics.machine import peak_memory
from seq2seq.diagnostics.plain_keras import check_plain_keras, plain_keras_process
from seq2seq.diagnostics.results import PlainKerasSpeed, TrainingBenchmark
from seq2seq.errors import ConfigError
from seq2seq.models.build import check_recipe
from seq2seq.models.losses import token_cross_entropy
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.ids import PAD_ID, START_ID
from seq2seq.training.data import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.fine_tuning import read_start
from seq2seq.training.step import TrainingStep, choose_workers, create_step, cut_rows
from seq2seq.training.trainer import Trainer, recurrent_kernels

LOG = logging.getLogger(__name__)

STEPS_PER_PRODUCT = 4
"""Timed steps between two runs of the matrix products, so that a slow spell of the machine slows both."""


class StepProfiler:
    """The parts of a model's step, each compiled alone, forwards and back to its weights and inputs.

    A part reads random numbers in place of another part's output, on which its time does not depend:

        encoder           embedding and recurrent layers of the source
        attention         the context: prepared once, and read by every target step at once
        features          all of the decoder up to its readout vectors, the context included
        readout_and_loss  from the readout vectors on: output product, softmax, cross entropy
        gradients         the whole model, up to the gradients
    """

    def __init__(self, model: Seq2Seq, workers: int = 1) -> None:
        self._model = model
        self._workers = workers
        decoder, dtype = model.decoder, model.compute_dtype
        ids, mask = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.bool)
        memory = tf.TensorSpec([None, None, model.encoder.memory_units], dtype)
        queries = tf.TensorSpec([None, None, decoder.units], dtype)
        features = tf.TensorSpec([None, None, decoder.readout_size], dtype)
        encoder_weights = [*model.embedding.trainable_variables, *model.encoder.trainable_variables]
        output = [decoder.output_embeddings, decoder.readout.output_bias]
        compiled = functools.partial(_forward_and_back, workers)
        self._graphs = {
            "encoder": compiled(self._encoder, encoder_weights, ids),
            "attention": compiled(self._attention, decoder.context.trainable_variables, memory, queries, mask),
            "features": compiled(self._features, decoder.trainable_variables, memory, ids, mask),
            "readout_and_loss": compiled(self._loss, output, features, ids),
            "gradients": compiled(self._whole, model.trainable_variables, ids, ids),
        }

    def on(self, batches: Sequence[Batch]) -> dict[str, Callable[[], float]]:
        """Make a function for each part that runs it on the batches of one step and waits for its last number."""
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
        # Cut here, outside of what is timed: a step cuts ids alone, which costs next to nothing.
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
        # Finding the tokens to copy takes no time here.
        tokens = tf.repeat(mask, self._model.encoder.reduction, axis=1)
        prepared = decoder.prepare(memory, mask, tf.zeros(tf.shape(tokens), tf.int32), tokens)
        return decoder.decode_teacher_forced(written, prepared, training=True).features

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


def _forward_and_back(
    workers: int, function: Callable[..., Any], variables: Sequence[Any], *signature: tf.TensorSpec
) -> Any:
    """Compile a function and its gradients for the inputs of each worker in turn; the result needs all of them."""
    size = len(signature)

    def run(*inputs: Any) -> Any:
        read = [tensor for tensor in inputs if tensor.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(read)
            outputs = [function(*inputs[worker * size : (worker + 1) * size]) for worker in range(workers)]
        sources = [*(variable.value for variable in variables), *read]
        gradients = tape.gradient(outputs, sources, output_gradients=outputs)
        # TensorFlow would skip whatever the result does not need.
        needed = [*outputs, *(tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None)]
        return tf.add_n([tf.cast(tf.reshape(tensor, [-1])[0], tf.float32) for tensor in needed])

    return tf.function(run, input_signature=signature * workers, autograph=False)


def of_new_shapes(steps: Iterable[Sequence[Batch]]) -> Iterator[Sequence[Batch]]:
    """Yield the steps that have a batch of a shape that no earlier step had.

    >>> batch = Batch(np.ones((2, 3), np.int32), np.ones((2, 4), np.int32), np.arange(2))
    >>> len(list(of_new_shapes([[batch], [batch, batch], [batch._replace(source_ids=batch.target_ids)]])))
    2
    """
    seen: set[tuple[Any, Any]] = set()
    for batches in steps:
        shapes = {(batch.source_ids.shape, batch.target_ids.shape) for batch in batches}
        if not shapes <= seen:
            seen |= shapes
            yield batches


def interleaved_seconds(
    steps: Sequence[Sequence[Batch]], functions_on: Callable[[Sequence[Batch]], Mapping[str, Callable[[], Any]]]
) -> dict[str, np.ndarray]:
    """Time functions on the batches of each step in turn, so that a slow spell slows all of them: `(steps,)` by name.

    Each shape is run once before, untimed, since compiling for a shape happens once in a run.
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
    """Compute medians over the steps in milliseconds; some parts are differences of two, taken step by step.

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
    return {name: 1e3 * _median(times) for name, times in parts.items()}


class TimedStep(NamedTuple):
    """The batches of a training step, the seconds of waiting for them, and the seconds of training on them."""

    batches: list[Batch]
    waiting: float
    computing: float


def benchmark_training(config: Config, steps: int, against_keras: bool = False) -> TrainingBenchmark:
    """Train a new model of a recipe for some steps on its own batches and measure it; write nothing but the cache.

    A model in `training.init_from` gives its tokenizer and no weights, since speed does not depend on them.
    """
    if config.gives_labels:
        raise ConfigError(
            f"task must be translate or summarize to be measured, got {config.task!r}. "
            "Ask `seq2seq doctor` for the minutes of a run.",
            "task",
        )
    if against_keras:
        check_plain_keras(config)
    trainer = _create_trainer(config)
    step, model = trainer.step, trainer.step.model
    # The lowest rate of a run's warm-up: speed does not depend on it, and the weights stay finite.
    rate = config.training.learning_rate / max(1, config.training.warmup_steps)
    stream = functools.partial(updates, trainer.batches, config.training.accumulate)

    LOG.info("one step on each shape of the batches, not timed")
    with contextlib.closing(stream()) as warm_up:
        for group in of_new_shapes(itertools.islice(warm_up, steps)):
            train_on(step, rate, group)

    products = {
        product: timed_product(product, model.compute_dtype, step.workers)
        for product in large_products(model, config.training.batch_tokens // 2)
    }
    product_times: dict[Product, list[float]] = {product: [] for product in products}

    def time_products() -> None:
        for product, run in products.items():
            product_times[product].append(run())

    LOG.info(f"timing {steps} steps")
    timed = timed_steps(step, stream(), rate, steps, time_products)
    memory = peak_memory()

    LOG.info("timing the parts" + (", and Keras" if against_keras else ""))
    profiler = StepProfiler(model, step.workers)
    with contextlib.ExitStack() as stack:
        whole_steps: dict[str, Callable[[Sequence[Batch]], Any]] = {"step": functools.partial(train_on, step, rate)}
        if against_keras:
            tokenizer = model.require_tokenizer()
            sizes = tokenizer.source.size, tokenizer.target.size
            rival = stack.enter_context(plain_keras_process(config, *sizes, model.dtype_policy.name))
            whole_steps["keras"] = lambda group: rival(group, rate)
        seconds = interleaved_seconds(
            [one.batches for one in timed],
            lambda group: (
                {name: functools.partial(run, group) for name, run in whole_steps.items()} | profiler.on(group)
            ),
        )
    return summarized(model, timed, product_times, seconds, memory)


def _create_trainer(config: Config) -> Trainer:
    # Must be set before TensorFlow runs its first operation.
    workers = choose_workers(config.training.workers)
    check_recipe(config)
    corpus = Corpus(config)
    start = read_start(config)
    tokenizer = start.require_tokenizer() if start else create_tokenizer(config, corpus)
    batches = create_batches(config, corpus, tokenizer)
    trainer = Trainer(config, create_step(config, tokenizer, workers), batches, Texts([], []))
    LOG.info(trainer.describe())
    return trainer


def updates(batches: Batches, size: int) -> Generator[list[Batch], None, None]:
    """Yield the batches of each update, `size` of them or the rest of an epoch, epoch after epoch without end."""
    for number in itertools.count():
        with contextlib.closing(batches.epoch(number)) as epoch:
            while group := list(itertools.islice(epoch, size)):
                yield group


def timed_steps(
    step: TrainingStep,
    stream: Generator[list[Batch], None, None],
    rate: float,
    count: int,
    between: Callable[[], None] | None = None,
) -> list[TimedStep]:
    """Train on a stream, which is closed afterwards, and time every wait and every step.

    `between` is called, untimed, before each `STEPS_PER_PRODUCT`-th step.
    """
    timed = []
    with contextlib.closing(stream):
        for number in range(count):
            if between and number % STEPS_PER_PRODUCT == 0:
                between()
            began = time.perf_counter()
            group = next(stream)
            received = time.perf_counter()
            train_on(step, rate, group)
            timed.append(TimedStep(group, received - began, time.perf_counter() - received))
    return timed


def train_on(step: TrainingStep, rate: float, group: Sequence[Batch]) -> float:
    """Take one step on all batches of a group and wait for its loss."""
    return float(step(group, rate).loss)


def summarized(
    model: Seq2Seq,
    timed: list[TimedStep],
    product_times: dict[Product, list[float]],
    seconds: dict[str, np.ndarray],
    memory: int,
) -> TrainingBenchmark:
    """Compute all numbers from the timed steps, seconds of products, seconds of parts by step, and peak bytes."""
    lengths = [
        [
            np.concatenate([np.count_nonzero(ids != PAD_ID, axis=1) for ids in side])
            for side in zip(*((batch.source_ids, batch.target_ids) for batch in one.batches), strict=True)
        ]
        for one in timed
    ]
    source_tokens, target_tokens = (np.array([rows.sum() for rows in side]) for side in zip(*lengths, strict=True))
    gflops = np.array([step_flops(model, *of_step) for of_step in lengths]) / 1e9
    waiting = np.array([one.waiting for one in timed])
    taken = waiting + np.array([one.computing for one in timed])
    rate = _median(gflops.sum(axis=1) / taken)
    matmul_gflops, product = fastest_rate(product_times)
    plain_keras = None
    if "keras" in seconds:
        plain_keras = PlainKerasSpeed(
            target_tokens_per_second=_median(target_tokens / seconds["keras"]),
            step_ms=1e3 * _median(seconds["keras"]),
            speedup=_median(seconds["keras"] / seconds["step"]),
        )
    return TrainingBenchmark(
        steps=len(timed),
        compute_dtype=model.compute_dtype,
        recurrent_kernel=recurrent_kernels(model),
        target_tokens_per_second=_median(target_tokens / taken),
        source_tokens_per_second=_median(source_tokens / taken),
        step_ms=1e3 * _median(taken),
        data_wait=float(waiting.sum() / taken.sum()),
        matmul_gflops=matmul_gflops,
        matmul_shape=product,
        model_gflops=_median(gflops.sum(axis=1)),
        model_gflops_per_second=rate,
        utilisation=rate / matmul_gflops,
        peak_memory_mb=memory / 1e6,
        parts=part_milliseconds(seconds, waiting),
        interleaved_step_ms=1e3 * _median(seconds["step"]),
        part_gflops=dict(zip(StepFlops._fields, np.median(gflops, axis=0).tolist(), strict=True)),
        plain_keras=plain_keras,
    )


def _median(values: np.ndarray) -> float:
    return float(np.median(values))
