"""The training loop: batches through the step, scores on the dev set, the best model kept, a stop at any moment."""

import contextlib
import dataclasses
import itertools
import logging
import math
import pathlib
import signal
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import keras

from seq2seq.config.sections import METRICS_BY_TASK, Config
from seq2seq.errors import Seq2SeqError
from seq2seq.models.base import TextModel
from seq2seq.models.build import build_model
from seq2seq.progress import ProgressBar, current_label
from seq2seq.text.batching import Batch, Batches
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.training.checkpoints import Checkpoints, Snapshots, add_to_history, cut_history, tensorboard
from seq2seq.training.data import Texts
from seq2seq.training.evaluation import evaluate
from seq2seq.training.optimizers import choose_precision, create_optimizer, is_plateau, learning_rate
from seq2seq.training.step import StepResult, TrainingStep

LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
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


@dataclasses.dataclass
class TrainerState:
    """Counts of a run, and what it has found so far.

    Args:
        epoch: The epoch it is in, from 0.
        batch: Batches of that epoch that it has read.
        updates: Steps that have changed the weights.
        seconds: Time of training so far.
        timed_tokens: Target tokens of the steps whose time was taken.
        timed_seconds: That time.
        best: The best score so far.
        best_model: The file of its model, in the state's folder.
        evaluated: Updates at the last evaluation.
        evaluations_without_gain: Evaluations since the best one.
        rate_reductions: Times that the schedule `plateau` has lowered the learning rate.
        averaged: Of how many evaluations' weights the best model is the mean; 0: it is that of one.
        finished: Whether there is nothing left to train.
        skipped: Steps left out because their loss or gradient was no finite number.
        skipped_in_a_row: Those since the last update.
        overflows: Steps left out only because the loss was scaled too much for float16; they are not among the skipped.
        returns: Times that the run went back to a state because too many were skipped in a row.
        rate_factor: What every learning rate is multiplied by, lower after each return.
        workers: In how many parts each batch is computed; another machine that goes on with the run takes as many,
            since other parts would round otherwise and drop other units.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    seconds: float = 0.0
    timed_tokens: float = 0.0
    timed_seconds: float = 0.0
    best: float | None = None
    best_model: str | None = None
    evaluated: int = 0
    evaluations_without_gain: int = 0
    rate_reductions: int = 0
    averaged: int = 0
    finished: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    overflows: int = 0
    returns: int = 0
    rate_factor: float = 1.0
    workers: int = 1

    @property
    def target_tokens_per_second(self) -> float | None:
        """Target tokens, padding not counted, over the seconds of the steps that read them.

        Evaluations, and the first steps after each start or resumption, are left out; None: no step is left.
        """
        return self.timed_tokens / self.timed_seconds if self.timed_seconds else None

    def rolled_back_to(self, to: "TrainerState", factor: float) -> "TrainerState":
        """The standing of a state to which a run returns: time and what went wrong count on.

        Args:
            to: As the state was saved.
            factor: What the learning rate is lowered by.
        """
        return dataclasses.replace(
            to,
            seconds=self.seconds,
            timed_tokens=self.timed_tokens,
            timed_seconds=self.timed_seconds,
            skipped=self.skipped,
            overflows=self.overflows,
            returns=self.returns + 1,
            rate_factor=self.rate_factor * factor,
        )


LOWER_IS_BETTER = ("loss", "perplexity")
UNTIMED_STEPS = 5
"""The first steps of a process compile and reserve memory; what comes after is the speed of a run."""


class Trainer:
    """Trains one model on batches; `run` does it all, and can be interrupted and resumed.

    Args:
        config: The run.
        tokenizer: Its tokenizer.
        batches: Its training pairs.
        dev: Its dev set.
        workers: In how many parts each batch is computed, at the same time.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, batches: Batches, dev: Texts, workers: int = 1) -> None:
        settings = config.training
        keras.utils.set_random_seed(config.run.seed)
        self.precision = choose_precision(settings.precision)
        self.config = config
        self.folder = config.run.path
        self.batches = batches
        self.dev = dev
        self.standing = TrainerState(workers=workers)
        model = build_model(config, tokenizer, dtype=self.precision.policy)
        self.step = TrainingStep(
            model=model,
            averaged=build_model(config, tokenizer),
            optimizer=create_optimizer(settings, model),
            clip_norm=settings.clip_norm,
            ema=settings.ema,
            l2=settings.l2,
            workers=workers,
        )
        self.batches_per_epoch = batches.number_of_batches(0)
        self.updates_per_epoch = math.ceil(self.batches_per_epoch / settings.accumulate)
        self.total_steps = self.updates_per_epoch * settings.epochs
        self.evaluation_interval = max(1, round(settings.evaluate_every * self.updates_per_epoch))
        self.checkpoints = Checkpoints(self.folder)
        self.snapshots = Snapshots(
            self.folder / "snapshots", settings.average_checkpoints, settings.monitor in LOWER_IS_BETTER
        )
        self._updates_saved = 0

    @property
    def model_path(self) -> pathlib.Path:
        """Where the best model so far stands."""
        return self.checkpoints.model_path

    @property
    def history_path(self) -> pathlib.Path:
        """Where the scores of all evaluations stand."""
        return self.folder / "history.jsonl"

    def describe(self) -> str:
        """Model and precision, and every kernel that a recurrent layer runs on, in a line each."""
        model = self.step.model
        lines = [
            f"{model.count_params():,} parameters, {recurrent_parameters(model):,} of them recurrent, "
            f"{self.batches_per_epoch:,} batches an epoch",
            f"computing in {self.precision.name}: {self.precision.reason}",
        ]
        if (parts := self.config.training.accumulate) > 1:
            lines.append(f"{parts} batches make an update, {self.updates_per_epoch:,} updates an epoch")
        if self.step.workers > 1:
            lines.append(f"each batch in {self.step.workers} parts at the same time")
        for choice in dict.fromkeys(model.kernel_choices().values()):
            against = f" ({'; '.join(choice.reasons_against_cudnn)})" if choice.reasons_against_cudnn else ""
            lines.append(f"recurrent kernel: {choice.implementation}{against}")
        return "\n".join(lines)

    def resume(self) -> None:
        """Goes back to the last state that the run has saved, and says what of it was damaged.

        Raises:
            ModelFileError: No state can be used.
        """
        self._load()

    def _load(self) -> None:
        self.standing = TrainerState(**self.checkpoints.load(self.step))
        self.step.workers = self.standing.workers
        self._updates_saved = self.standing.updates
        cut_history(self.history_path, self.standing.evaluated)

    def run(self) -> TextModel:
        """Trains until the last epoch, the time limit, the patience or Ctrl-C ends it.

        Returns:
            The model of the moving average, with its last weights; the best one stands at `model_path`.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the state is saved and `resume` goes on from it.
            Seq2SeqError: Loss or gradient is no longer a number, also after going back to states before; or the disk
                is full.
        """
        self._started = time.monotonic() - self.standing.seconds
        self._untimed_steps = UNTIMED_STEPS
        if self.standing.updates == 0:
            # A disk that is full or closed is better found now, and a return always has a state to go to.
            self._save()
        with (
            ProgressBar(self.total_steps, "step", "target tokens", done=self.standing.updates) as progress,
            interrupts() as interrupted,
            tensorboard(self.folder, self.config.training.tensorboard) as write_summary,
        ):
            while not self._train(progress, write_summary, interrupted):
                self._go_back(progress)
            if self.standing.evaluated != self.standing.updates or self.standing.best is None:
                self._evaluate(progress, write_summary)
            if self.config.training.average_checkpoints and not self.standing.finished:
                self._try_mean(progress)
            self.standing.finished = True
            self._save()
            self.snapshots.remove()
            if interrupted():
                LOG.info(f"stopped after the last step; {self._again} scores the model")
                raise KeyboardInterrupt
        return self.step.averaged

    @property
    def _again(self) -> str:
        return "the same command" if current_label() else "--resume"

    def _train(
        self,
        progress: ProgressBar,
        write_summary: Callable[[int, dict[str, float]], None],
        interrupted: Callable[[], bool],
    ) -> bool:
        """Trains to the end, or until too many steps in a row were skipped; returns whether it is the end."""
        standing, settings = self.standing, self.config.training
        with contextlib.closing(self._remaining_groups()) as groups:
            for group in groups:
                result = self._train_on(group, progress)
                if result.has_overflowed:
                    LOG.info(
                        f"step {standing.updates} left out, epoch {standing.epoch}, batch {standing.batch}: loss scale "
                        f"{result.loss_scale:,.0f} is too large for float16, {result.loss_scale / 2:,.0f} from here"
                    )
                elif not result.is_finite:
                    self._tell_of_skipping(result, progress)
                    if standing.skipped_in_a_row >= settings.max_skipped_steps:
                        return False
                elif standing.updates % self.evaluation_interval == 0:
                    self._evaluate(progress, write_summary)
                    self._save()
                elif settings.save_every and standing.updates % settings.save_every == 0:
                    self._save()
                if interrupted() and not self._is_over():
                    # While steps are skipped nobody knows yet whether the weights are good: the state before is.
                    if not standing.skipped_in_a_row:
                        self._save()
                    LOG.info(f"stopped at step {standing.updates}; {self._again} goes on from there")
                    raise KeyboardInterrupt
        return True

    def _go_back(self, progress: ProgressBar) -> None:
        """Returns to the last good state, with a lower learning rate, because too many steps in a row were skipped."""
        standing, settings = self.standing, self.config.training
        trouble = f"The loss or gradient of {standing.skipped_in_a_row} steps in a row was no finite number"
        if standing.returns >= settings.max_rollbacks:
            raise Seq2SeqError(
                f"{trouble}, the last at step {standing.updates} (epoch {standing.epoch}, batch {standing.batch}), "
                f"after {standing.returns} returns to a state before. Start a run with a lower training.learning_rate "
                "or training.clip_norm, or with training.precision float32; the best model so far is kept."
            )
        if standing.updates == self._updates_saved:
            # Nothing but trouble has come from that state: the one before it may be better.
            self.checkpoints.drop_newest()
        self._load()
        self.standing = standing.rolled_back_to(self.standing, settings.rollback_lr_factor)
        progress.go_back(self.standing.updates)
        LOG.info(
            f"{trouble}: back to the state of step {self.standing.updates}, with "
            f"{self.standing.rate_factor:.3g} of the learning rate"
        )

    def _is_over(self) -> bool:
        standing, settings = self.standing, self.config.training
        out_of_time = bool(settings.minutes) and standing.seconds >= 60 * settings.minutes
        out_of_patience = bool(settings.patience) and standing.evaluations_without_gain >= settings.patience
        return out_of_time or out_of_patience

    def _remaining_groups(self) -> Generator[list[Batch], None, None]:
        """The batches of one update after the other, from where the run stands to its end, counted before they are
        handed out; the last update of an epoch may have fewer."""
        standing, settings = self.standing, self.config.training
        while standing.epoch < settings.epochs and not standing.finished and not self._is_over():
            with contextlib.closing(self.batches.epoch(standing.epoch, standing.batch)) as epoch:
                while group := list(itertools.islice(epoch, settings.accumulate)):
                    standing.batch += len(group)
                    yield group
                    if self._is_over():
                        return
            standing.epoch, standing.batch = standing.epoch + 1, 0

    def _train_on(self, group: list[Batch], progress: ProgressBar) -> StepResult:
        standing, settings = self.standing, self.config.training
        rate = standing.rate_factor * learning_rate(
            standing.updates,
            schedule=settings.schedule,
            peak=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            total_steps=self.total_steps,
            plateau_factor=settings.plateau_factor,
            reductions=standing.rate_reductions,
        )
        *parts, last = [(batch.source_ids, batch.target_ids) for batch in group]
        began = time.monotonic()
        result = StepResult(*map(float, self.step(*last, rate, parts)))
        ended = time.monotonic()
        standing.seconds = ended - self._started
        if self._untimed_steps:
            self._untimed_steps -= 1
        else:
            standing.timed_tokens += result.tokens
            standing.timed_seconds += ended - began
        if result.is_finite:
            standing.updates += 1
            standing.skipped_in_a_row = 0
            progress.advance(1, result.tokens, f"loss {result.loss / result.tokens:.3f}")
        elif result.has_overflowed:
            standing.overflows += 1
        else:
            standing.skipped += 1
            standing.skipped_in_a_row += 1
        return result

    def _tell_of_skipping(self, result: StepResult, progress: ProgressBar) -> None:
        standing = self.standing
        LOG.info(
            f"step {standing.updates} skipped, epoch {standing.epoch}, batch {standing.batch}: loss "
            f"{result.loss / result.tokens}, gradient norm {result.gradient_norm}; {standing.skipped_in_a_row} in a "
            f"row, {standing.skipped} in all"
        )

    def _save(self) -> None:
        self.checkpoints.save(self.step, dataclasses.asdict(self.standing))
        self._updates_saved = self.standing.updates

    def _evaluate(self, progress: ProgressBar, write_summary: Callable[[int, dict[str, float]], None]) -> None:
        standing, settings = self.standing, self.config.training
        self.step.synchronise()
        scores = self._score()
        gained = self._keep_if_better(scores)
        standing.evaluations_without_gain = 0 if gained else standing.evaluations_without_gain + 1
        if settings.average_checkpoints:
            self.snapshots.keep(self.step.averaged, standing.updates, scores[settings.monitor])
        standing.evaluated = standing.updates
        standing.seconds = time.monotonic() - self._started
        LOG.info(
            f"epoch {standing.updates / self.updates_per_epoch:.1f}  {standing.seconds / 60:.1f} min  "
            + _shown(scores, gained)
        )
        waited = standing.evaluations_without_gain
        if settings.schedule == "plateau" and is_plateau(waited, settings.plateau_patience):
            standing.rate_reductions += 1
            share = settings.plateau_factor**standing.rate_reductions
            LOG.info(f"{waited} evaluations without improvement: {share:.3g} of the learning rate from here")
        entry = {
            "updates": standing.updates,
            "seconds": round(standing.seconds, 1),
            "skipped": standing.skipped,
            **scores,
        }
        add_to_history(self.history_path, entry)
        write_summary(standing.updates, scores)

    def _try_mean(self, progress: ProgressBar) -> None:
        """Keeps the mean of the weights at the best evaluations where it is better than the best of them."""
        averaged = self.step.averaged
        last = averaged.get_weights()
        count = self.snapshots.assign_mean(averaged)
        if count > 1:
            scores = self._score()
            if gained := self._keep_if_better(scores):
                self.standing.averaged = count
            LOG.info(f"mean of the weights at the {count} best evaluations  {_shown(scores, gained)}")
        averaged.set_weights(last)

    def _score(self) -> dict[str, float]:
        """Scores of the averaged model on the dev set."""
        count = self.config.training.dev_sentences or len(self.dev.sources)
        options = {} if self.config.gives_labels else {"beam_size": 1}
        scores, _ = evaluate(self.step.averaged, self.dev.sources[:count], self.dev.targets[:count], **options)
        return {name: scores[name] for name in METRICS_BY_TASK[self.config.task]}

    def _keep_if_better(self, scores: dict[str, float]) -> bool:
        score = scores[self.config.training.monitor]
        gained = self._is_better(score)
        if gained:
            self.standing.best = score
            self.standing.best_model = self.checkpoints.save_model(self.step.averaged)
        return gained

    def _is_better(self, score: float) -> bool:
        best = self.standing.best
        # A score that is no number is better than none, and worse than any other.
        if best is None or math.isnan(best):
            return True
        return score < best if self.config.training.monitor in LOWER_IS_BETTER else score > best


def _shown(scores: dict[str, float], gained: bool) -> str:
    return "dev: " + "  ".join(f"{name} {value:.2f}" for name, value in scores.items()) + "  (best)" * gained


def recurrent_parameters(model: TextModel) -> int:
    """Numbers in the weights of the recurrent layers, encoder and decoder together."""
    return sum(layer.count_params() for layer in model.recurrent_layers.values())


def recurrent_kernels(model: TextModel) -> str:
    """What the recurrent layers run on, on this machine: a speed says nothing of a cell without it."""
    kernels = dict.fromkeys(choice.implementation for choice in model.kernel_choices().values())
    return " and ".join(kernels)
