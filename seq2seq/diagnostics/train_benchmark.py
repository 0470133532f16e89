"""How fast this machine trains a recipe, and what share of its arithmetic that is."""

import contextlib
import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.config.base import must_be
from seq2seq.config.sections import Config
from seq2seq.diagnostics.flops import Product, StepFlops, fastest_rate, step_flops, timed_product
from seq2seq.diagnostics.machine import peak_memory
from seq2seq.diagnostics.plain_keras import PlainKerasProcess, check_plain_keras
from seq2seq.models.losses import token_cross_entropy
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.ids import PAD_ID, START_ID
from seq2seq.training.data import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.fine_tuning import read_start
from seq2seq.training.step import TrainingStep, choose_workers, cut_rows
from seq2seq.training.trainer import Trainer, recurrent_kernels

LOG = logging.getLogger(__name__)


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


STEPS_PER_PRODUCT = 4
"""Timed steps before each run of the matrix products: a machine that is slower for a while is so for both."""


@dataclasses.dataclass(frozen=True)
class PlainKerasSpeed:
    """The same model and batches as straightforward Keras, each step taken by both before the next.

    Args:
        target_tokens_per_second: Median over the steps; no wait for data is in it.
        step_ms: Milliseconds of a step, median.
        speedup: Keras' time over ours on the same step, median.
    """

    target_tokens_per_second: float
    step_ms: float
    speedup: float


@dataclasses.dataclass(frozen=True)
class TrainingBenchmark:
    """What `benchmark_training` measured; medians are over the timed steps.

    Args:
        steps: How many steps were timed.
        compute_dtype: The numbers that the matrix products multiply.
        recurrent_kernel: What the recurrent layers run on.
        target_tokens_per_second: Target tokens of a step, end tokens counted and padding not, over its seconds
            and those of the wait for its batches; median.
        source_tokens_per_second: The same of source tokens.
        step_ms: Milliseconds of a step and of the wait for its batches, median.
        data_wait: Share of all the time that was spent waiting for batches, 0 to 1.
        matmul_gflops: GFLOP a second of the machine in this dtype: of the model's three kinds of large products the
            fastest, by the median of its runs between the timed steps.
        matmul_shape: That product: rows, inner size, columns.
        model_gflops: GFLOP of a step, which is an update of the weights, from `step_flops`; median.
        model_gflops_per_second: GFLOP of a step over its seconds and those of the wait for its batches, median.
        utilisation: `model_gflops_per_second / matmul_gflops`.
        peak_memory_mb: Most memory that the process (on a GPU: the GPU) has held from its start to the last timed step,
            in millions of bytes.
        parts: Milliseconds by part, from `part_milliseconds`; they need not add up to a step.
        interleaved_step_ms: Milliseconds of a step that was timed as the parts and Keras were, turn by turn, which is
            what these compare with; median.
        part_gflops: GFLOP by part, medians.
        plain_keras: The comparison, where it was asked for.
    """

    steps: int
    compute_dtype: str
    recurrent_kernel: str
    target_tokens_per_second: float
    source_tokens_per_second: float
    step_ms: float
    data_wait: float
    matmul_gflops: float
    matmul_shape: Product
    model_gflops: float
    model_gflops_per_second: float
    utilisation: float
    peak_memory_mb: float
    parts: dict[str, float]
    interleaved_step_ms: float
    part_gflops: dict[str, float]
    plain_keras: PlainKerasSpeed | None


class TimedStep(NamedTuple):
    """A step of training: its batches, seconds of waiting for them, and seconds of training on them."""

    batches: list[Batch]
    waiting: float
    computing: float

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.waiting + self.computing


def benchmark_training(config: Config, steps: int, against_keras: bool = False) -> TrainingBenchmark:
    """Trains a new model of a recipe for a few steps on its own batches, and measures it.

    The corpus is read, tokenised and cached as in a run; nothing else is written. A model that the recipe starts from
    gives its tokenizer, and no weights, since speed does not depend on them.

    Args:
        config: The run.
        steps: How many steps to time, from the first of the first epoch on.
        against_keras: Whether to time the same model as straightforward Keras, too.

    Returns:
        What was measured.

    Raises:
        DataError: The files cannot be used.
        ModelFileError: The model to start from cannot be read.
        ConfigError: The recipe cannot be said in Keras' own layers, and was to be compared with them; or its model
            has no decoder, whose parts are what is timed.
    """
    if config.gives_labels:
        raise must_be("task", "translate or summarize to be measured", config.task, "Ask `seq2seq doctor` for minutes.")
    if against_keras:
        check_plain_keras(config)
    workers = choose_workers(config.training.workers)
    corpus = Corpus(config)
    start = read_start(config)
    tokenizer = start.require_tokenizer() if start else create_tokenizer(config, corpus)
    batches = create_batches(config, corpus, tokenizer, config.run.path.parent / ".cache")
    trainer = Trainer(config, tokenizer, batches, dev=Texts([], []), workers=workers)
    LOG.info(trainer.describe())
    step, model = trainer.step, trainer.step.model
    # The lowest rate of a run's warm-up: speed does not depend on it, and the weights stay far from trouble.
    rate = config.training.learning_rate / max(1, config.training.warmup_steps)

    LOG.info("one step on each shape of the batches, not timed")
    with contextlib.closing(updates(batches, config.training.accumulate)) as stream:
        for group in of_new_shapes(itertools.islice(stream, steps)):
            train_on(step, rate, group)

    products = {
        product: timed_product(product, model.compute_dtype, workers)
        for product in large_products(model, config.training.batch_tokens // 2)
    }
    product_times: dict[Product, list[float]] = {product: [] for product in products}

    def time_products() -> None:
        for product, run in products.items():
            product_times[product].append(run())

    LOG.info(f"timing {steps} steps")
    timed = timed_steps(step, updates(batches, config.training.accumulate), rate, steps, time_products)
    memory = peak_memory()

    LOG.info("timing the parts" + (", and Keras" if against_keras else ""))
    parts = ModelParts(model, workers)
    steps_of: dict[str, Callable[..., Any]] = {"step": functools.partial(train_on, step, rate)}

    def functions_on(group: Sequence[Batch]) -> dict[str, Callable[[], Any]]:
        return {name: functools.partial(one, group) for name, one in steps_of.items()} | parts.on(group)

    with contextlib.ExitStack() as closing:
        if against_keras:
            sizes = tokenizer.source.size, tokenizer.target.size
            plain_keras = PlainKerasProcess(config, *sizes, model.dtype_policy.name)
            closing.callback(plain_keras.close)
            steps_of["keras"] = functools.partial(train_on, plain_keras, rate)
        seconds = interleaved_seconds([one.batches for one in timed], functions_on)
    return summarised(model, timed, product_times, seconds, memory)


def large_products(model: Seq2Seq, tokens: int) -> list[Product]:
    """The model's large products over a whole batch: inputs of the first layers, and the output.

    Args:
        model: The model.
        tokens: Tokens of a side of a batch.
    """
    encoder, decoder = model.encoder.forward_layers[0].cell, model.decoder.recurrent_layers[0].cell
    vocabulary, readout_size = model.decoder.output_embeddings.shape
    return [
        Product(tokens, *encoder.kernel.shape),
        Product(tokens, *decoder.kernel.shape),
        Product(tokens, readout_size, vocabulary),
    ]


def updates(batches: Batches, size: int) -> Generator[list[Batch], None, None]:
    """The batches of one update after the other, epoch after epoch without end, grouped as in a run.

    Args:
        batches: The batches of the corpus.
        size: Batches of an update; the last update of an epoch may have fewer.
    """
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
    """Trains as a run does, step after step, and times every wait and every step.

    Args:
        step: The step.
        stream: The batches of each; it is closed afterwards.
        rate: The learning rate.
        count: How many.
        between: What to do before each `STEPS_PER_PRODUCT`-th step, and not to time.
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


def train_on(step: TrainingStep | PlainKerasProcess, rate: float, group: Sequence[Batch]) -> float:
    """One step on all batches of a group, whose loss is there when this returns."""
    *parts, last = [(batch.source_ids, batch.target_ids) for batch in group]
    return float(step(*last, rate, parts).loss)


def token_counts(ids: np.ndarray) -> np.ndarray:
    """Tokens of each row, end token counted and padding not, `(batch,)`."""
    return np.count_nonzero(ids != PAD_ID, axis=1)


def summarised(
    model: Seq2Seq,
    timed: list[TimedStep],
    product_times: dict[Product, list[float]],
    seconds: dict[str, np.ndarray],
    memory: int,
) -> TrainingBenchmark:
    """All numbers of a benchmark, from the times that it took.

    Args:
        model: What was trained.
        timed: The steps of the run.
        product_times: Seconds of each matrix product.
        seconds: Seconds of each part on the batches of each of these steps.
        memory: The most bytes held.
    """
    sources = [np.concatenate([token_counts(batch.source_ids) for batch in one.batches]) for one in timed]
    targets = [np.concatenate([token_counts(batch.target_ids) for batch in one.batches]) for one in timed]
    target_tokens = np.array([rows.sum() for rows in targets])
    gflops = np.array([step_flops(model, *lengths) for lengths in zip(sources, targets, strict=True)]) / 1e9
    taken = np.array([one.seconds for one in timed])
    waiting = np.array([one.waiting for one in timed])
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
        source_tokens_per_second=_median(np.array([rows.sum() for rows in sources]) / taken),
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
