"""The training loop: batches through the step, scores on the dev set, the best model kept, a stop at any moment."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from seq2seq.config import Config
from seq2seq.errors import Seq2SeqError
from seq2seq.model import Seq2Seq, build_model, save
from seq2seq.text import Batch, Batches, Tokenizer
from seq2seq.training.checkpoints import load_state, save_state
from seq2seq.training.corpus import Texts
from seq2seq.training.evaluation import evaluate
from seq2seq.training.precision import dtype_policy
from seq2seq.training.progress import Progress
from seq2seq.training.schedules import learning_rate
from seq2seq.training.step import TrainingStep

LOWER_IS_BETTER = ("loss", "perplexity")
SCORES = ("loss", "perplexity", "bleu", "chrf", "exact_match")
UNTIMED_STEPS = 5
"""The first steps of a process compile and reserve memory; what comes after is the speed of a run."""


@dataclasses.dataclass
class Standing:
    """Where a run stands; together with the weights, all that a resumed run needs to know."""

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    seconds: float = 0.0
    timed_tokens: float = 0.0
    timed_seconds: float = 0.0
    best: float | None = None
    evaluated: int = 0
    evaluations_without_gain: int = 0
    finished: bool = False

    @property
    def target_tokens_per_second(self) -> float | None:
        """Target tokens, padding not counted, over the seconds of the steps that read them.

        Evaluations, and the first `UNTIMED_STEPS` after each start or resumption, are left out; None: no step is left.
        """
        return self.timed_tokens / self.timed_seconds if self.timed_seconds else None


class Trainer:
    """Trains one model on batches; `run` does it all, and can be interrupted and resumed.

    Args:
        config: The run.
        tokenizer: Its tokenizer.
        batches: Its training pairs.
        dev: Its dev set.
        label: What stands before every line that it writes, where the run is one of several.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, batches: Batches, dev: Texts, label: str = "") -> None:
        settings = config.training
        keras.utils.set_random_seed(config.run.seed)
        policy = dtype_policy(settings.precision)
        self.config = config
        self.folder = config.run.path
        self.batches = batches
        self.dev = dev
        self.label = label
        self.standing = Standing()
        optimizers = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
        decay = {"weight_decay": settings.weight_decay} if settings.optimizer == "adamw" else {}
        self.step = TrainingStep(
            model=build_model(config, tokenizer, dtype=policy),
            averaged=build_model(config, tokenizer),
            optimizer=optimizers[settings.optimizer](settings.learning_rate, **decay),
            clip_norm=settings.clip_norm,
            ema=settings.ema,
        )
        self.batches_per_epoch = batches.number_of_batches(0)
        self.total_steps = self.batches_per_epoch * settings.epochs
        self.evaluation_interval = max(1, round(settings.evaluate_every * self.batches_per_epoch))

    @property
    def model_path(self) -> pathlib.Path:
        """Where the best model so far stands."""
        return self.folder / "model.keras"

    def describe(self) -> str:
        """Model and precision, and every kernel that a recurrent layer runs on, in a line each."""
        model = self.step.model
        lines = [
            f"{model.count_params():,} parameters, {recurrent_parameters(model):,} of them recurrent, "
            f"computing in {model.dtype_policy.compute_dtype}, {self.batches_per_epoch:,} batches an epoch"
        ]
        for choice in dict.fromkeys(layer.kernel_choice() for layer in model.recurrent_layers.values()):
            against = f" ({'; '.join(choice.reasons_against_cudnn)})" if choice.reasons_against_cudnn else ""
            lines.append(f"recurrent kernel: {choice.implementation}{against}")
        return "\n".join(lines)

    def resume(self) -> None:
        """Goes back to the last state that the run has saved."""
        self.standing = Standing(**load_state(self.folder / "state", self.step))

    def run(self) -> Seq2Seq:
        """Trains until the last epoch, the time limit, the patience or Ctrl-C ends it.

        Returns:
            The model of the moving average, with its last weights; the best one stands at `model_path`.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the state is saved and `resume` goes on from it.
            Seq2SeqError: The loss is no longer a number.
        """
        standing, settings = self.standing, self.config.training
        self._started = time.monotonic() - standing.seconds
        self._untimed_steps = UNTIMED_STEPS
        again = "the same command" if self.label else "--resume"
        with (
            Progress(self.total_steps, standing.updates, label=self.label) as progress,
            _interrupts() as interrupted,
            _tensorboard(self.folder, settings.tensorboard) as write_summary,
            contextlib.closing(self._remaining_batches()) as batches,
        ):
            for batch in batches:
                self._train_on(batch, progress)
                if standing.updates % self.evaluation_interval == 0:
                    self._evaluate(progress, write_summary)
                    self._save()
                if self._is_over():
                    break
                if interrupted():
                    self._save()
                    progress.say(f"stopped at step {standing.updates}; {again} goes on from there")
                    raise KeyboardInterrupt
            if standing.evaluated != standing.updates:
                self._evaluate(progress, write_summary)
            standing.finished = True
            self._save()
            if interrupted():
                progress.say(f"stopped after the last step; {again} scores the model")
                raise KeyboardInterrupt
        return self.step.averaged

    def _is_over(self) -> bool:
        standing, settings = self.standing, self.config.training
        out_of_time = bool(settings.minutes) and standing.seconds >= 60 * settings.minutes
        out_of_patience = bool(settings.patience) and standing.evaluations_without_gain >= settings.patience
        return out_of_time or out_of_patience

    def _remaining_batches(self) -> Generator[Batch, None, None]:
        """Batches from where the run stands to its last epoch, counted before they are handed out."""
        standing = self.standing
        while standing.epoch < self.config.training.epochs and not standing.finished:
            with contextlib.closing(self.batches.epoch(standing.epoch, standing.batch)) as epoch:
                for batch in epoch:
                    standing.batch += 1
                    yield batch
            standing.epoch, standing.batch = standing.epoch + 1, 0

    def _train_on(self, batch: Batch, progress: Progress) -> None:
        standing, settings = self.standing, self.config.training
        rate = learning_rate(
            standing.updates,
            schedule=settings.schedule,
            peak=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            total_steps=self.total_steps,
        )
        began = time.monotonic()
        result = self.step(batch.source_ids, batch.target_ids, rate)
        tokens = float(result.tokens)
        loss = float(result.loss) / tokens
        ended = time.monotonic()
        if not np.isfinite(loss):
            raise Seq2SeqError(
                f"The loss of step {standing.updates} must be a number, but is {loss} instead. Lower "
                "training.learning_rate, or set training.precision to float32; the last state can be resumed."
            )
        if self._untimed_steps:
            self._untimed_steps -= 1
        else:
            standing.timed_tokens += tokens
            standing.timed_seconds += ended - began
        standing.updates += 1
        standing.seconds = ended - self._started
        progress.advance(tokens, loss)

    def _save(self) -> None:
        save_state(self.folder / "state", self.step, dataclasses.asdict(self.standing))

    def _evaluate(self, progress: Progress, write_summary: Callable[[int, dict[str, float]], None]) -> None:
        standing, settings = self.standing, self.config.training
        self.step.synchronise()
        count = settings.dev_sentences or len(self.dev.sources)
        all_scores, _ = evaluate(self.step.averaged, self.dev.sources[:count], self.dev.targets[:count], beam_size=1)
        scores = {name: all_scores[name] for name in SCORES}
        gained = self._is_better(scores[settings.monitor])
        if gained:
            standing.best, standing.evaluations_without_gain = scores[settings.monitor], 0
            save(self.step.averaged, self.model_path)
        else:
            standing.evaluations_without_gain += 1
        standing.evaluated = standing.updates
        standing.seconds = time.monotonic() - self._started
        progress.say(
            f"epoch {standing.updates / self.batches_per_epoch:.1f}  {standing.seconds / 60:.1f} min  dev: "
            + "  ".join(f"{name} {value:.2f}" for name, value in scores.items())
            + ("  (best)" if gained else "")
        )
        entry = {"updates": standing.updates, "seconds": round(standing.seconds, 1), **scores}
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        write_summary(standing.updates, scores)

    def _is_better(self, score: float) -> bool:
        best = self.standing.best
        if best is None:
            return True
        return score < best if self.config.training.monitor in LOWER_IS_BETTER else score > best


def recurrent_parameters(model: Seq2Seq) -> int:
    """Numbers in the weights of the recurrent layers, encoder and decoder together."""
    return sum(layer.count_params() for layer in model.recurrent_layers.values())


def recurrent_kernels(model: Seq2Seq) -> str:
    """What the recurrent layers run on, on this machine: a speed says nothing of a cell without it."""
    kernels = dict.fromkeys(layer.kernel_choice().implementation for layer in model.recurrent_layers.values())
    return " and ".join(kernels)


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Notes a Ctrl-C instead of raising in the middle of a step; a second one raises at once."""
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:
        # Only the main thread may handle signals; elsewhere Ctrl-C is not ours to handle.
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _tensorboard(folder: pathlib.Path, wanted: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    if not wanted:
        yield lambda *_: None
        return
    writer = tf.summary.create_file_writer(str(folder / "tensorboard"))

    def write(updates: int, scores: dict[str, float]) -> None:
        with writer.as_default(updates):
            for name, value in scores.items():
                tf.summary.scalar(f"dev/{name}", value)

    try:
        yield write
    finally:
        writer.close()
