"""How fast this machine trains a recipe, and what share of its arithmetic that is."""

import contextlib
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seq2seq.config import Config
from seq2seq.config.checks import must_be
from seq2seq.model import Seq2Seq
from seq2seq.text import PAD_ID, Batch, Batches
from seq2seq.training.corpus import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.fine_tuning import read_start
from seq2seq.training.flops import StepFlops, step_flops
from seq2seq.training.loop import Trainer, recurrent_kernels
from seq2seq.training.matmul_rate import Product, fastest_rate, timed_product
from seq2seq.training.memory import peak_memory
from seq2seq.training.part_times import ModelParts, interleaved_seconds, of_new_shapes, part_milliseconds
from seq2seq.training.plain_keras import check_plain_keras
from seq2seq.training.plain_keras_process import PlainKerasProcess
from seq2seq.training.progress import say
from seq2seq.training.step import TrainingStep
from seq2seq.training.workers import choose_workers

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
    batches = create_batches(config, corpus, tokenizer, config.run.path.parent / ".cache", say)
    trainer = Trainer(config, tokenizer, batches, dev=Texts([], []), workers=workers)
    say(trainer.describe())
    step, model = trainer.step, trainer.step.model
    # The lowest rate of a run's warm-up: speed does not depend on it, and the weights stay far from trouble.
    rate = config.training.learning_rate / max(1, config.training.warmup_steps)

    say("one step on each shape of the batches, not timed")
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

    say(f"timing {steps} steps")
    timed = timed_steps(step, updates(batches, config.training.accumulate), rate, steps, time_products)
    memory = peak_memory()

    say("timing the parts" + (", and Keras" if against_keras else ""))
    parts = ModelParts(model, workers)
    steps_of: dict[str, Callable[..., Any]] = {"step": functools.partial(train_on, step, rate)}

    def functions_on(group: Sequence[Batch]) -> dict[str, Callable[[], Any]]:
        return {name: functools.partial(one, group) for name, one in steps_of.items()} | parts.on(group)

    with contextlib.ExitStack() as closing:
        if against_keras:
            sizes = tokenizer.source_vocabulary_size, tokenizer.target_vocabulary_size
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
