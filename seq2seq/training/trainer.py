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

from seq2seq.config.sections import METRICS_BY_TASK, Config
from seq2seq.errors import Seq2SeqError
from seq2seq.models.base import TextModel
from seq2seq.progress import ProgressBar, current_label
from seq2seq.text.batching import Batch, Batches
from seq2seq.training.checkpoints import Checkpoints, Snapshots, add_to_history, cut_history, tensorboard
from seq2seq.training.data import Texts
from seq2seq.training.evaluation import evaluate
from seq2seq.training.optimizers import choose_precision, learning_rate
from seq2seq.training.step import StepResult, TrainingStep

LOG = logging.getLogger(__name__)

LOWER_IS_BETTER = ("loss", "perplexity")
UNTIMED_STEPS = 5
"""The first steps of a process compile and reserve memory, so the speed of a run is that of the others."""


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Note a Ctrl-C instead of raising in the middle of a step; a second one raises at once."""
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:
        # Only the main thread may handle signals.
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@dataclasses.dataclass
class TrainerState:
    """Counters of a run, which every checkpoint holds."""

    epoch: int = 0
    batch: int = 0  # batches read of this epoch
    updates: int = 0  # steps that have changed the weights
    seconds: float = 0.0  # of training, evaluations included
    timed_tokens: float = 0.0  # target tokens of the steps in timed_seconds
    timed_seconds: float = 0.0  # of the steps after the first UNTIMED_STEPS of each process
    best: float | None = None
    best_model: str | None = None  # a file in the folder of states
    evaluated: int = 0  # updates at the last evaluation
    evaluations_without_gain: int = 0
    rate_reductions: int = 0  # by the schedule plateau
    averaged: int = 0  # evaluations whose mean weights the best model has; 0: it has those of one
    finished: bool = False
    skipped: int = 0  # steps whose loss or gradient was not finite
    skipped_in_a_row: int = 0
    overflows: int = 0  # steps whose loss scale was too large for float16, which do not count as skipped
    rollbacks: int = 0
    rate_factor: float = 1.0  # lower after each rollback
    workers: int = 1  # parts of each batch: a resumed run keeps them, since other parts would round otherwise

    @property
    def target_tokens_per_second(self) -> float | None:
        """Return target tokens, without padding, over the seconds of their steps; None before any step was timed."""
        return self.timed_tokens / self.timed_seconds if self.timed_seconds else None

    def count_step(self, result: StepResult) -> None:
        """Count a step as an update, an overflow or a skipped step."""
        if result.is_finite:
            self.updates += 1
            self.skipped_in_a_row = 0
        elif result.has_overflowed:
            self.overflows += 1
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1

    def count_evaluation(self, gained: bool, plateau_patience: int) -> bool:
        """Count an evaluation; return whether it lowers the rate, as every `plateau_patience`-th without gain does."""
        self.evaluated = self.updates
        self.evaluations_without_gain = 0 if gained else self.evaluations_without_gain + 1
        lowers = plateau_patience > 0 and not gained and self.evaluations_without_gain % plateau_patience == 0
        self.rate_reductions += lowers
        return lowers

    def rolled_back_to(self, saved: "TrainerState", rate_factor: float) -> "TrainerState":
        """Return a saved state with the time and the trouble since then counted, and a lower learning rate."""
        counted = ("seconds", "timed_tokens", "timed_seconds", "skipped", "overflows")
        return dataclasses.replace(
            saved,
            **{name: getattr(self, name) for name in counted},
            rollbacks=self.rollbacks + 1,
            rate_factor=self.rate_factor * rate_factor,
        )


class Trainer:
    """Train one model: `run` trains to the end, can be interrupted, and goes on after `resume`.

    Args:
        config: the run.
        step: model, optimizer and moving average.
        batches: training batches.
        dev: dev set.
        evaluate: gives the scores of a model on texts.
        clock: gives seconds.
        checkpoints: saves and loads states; None: in the run's folder.
    """

    def __init__(
        self,
        config: Config,
        step: TrainingStep,
        batches: Batches,
        dev: Texts,
        *,
        evaluate: Callable[..., tuple[dict[str, Any], list[str]]] = evaluate,
        clock: Callable[[], float] = time.monotonic,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        settings = config.training
        self.config = config
        self.step = step
        self.batches = batches
        self.dev = dev
        self.folder = config.run.path
        self.history_path = self.folder / "history.jsonl"
        self.state = TrainerState(workers=step.workers)
        self.batches_per_epoch = batches.number_of_batches(0)
        self.updates_per_epoch = math.ceil(self.batches_per_epoch / settings.accumulate)
        self.total_steps = self.updates_per_epoch * settings.epochs
        self.evaluation_interval = max(1, round(settings.evaluate_every * self.updates_per_epoch))
        self.checkpoints = checkpoints or Checkpoints(self.folder)
        self.snapshots = Snapshots(
            self.folder / "snapshots", settings.average_checkpoints, settings.monitor in LOWER_IS_BETTER
        )
        self._evaluate_model = evaluate
        self._clock = clock
        self._updates_saved = 0

    @property
    def model_path(self) -> pathlib.Path:
        """Return the file of the best model so far."""
        return self.checkpoints.model_path

    def describe(self) -> str:
        """Return lines about the model, the precision, the batches, and the kernels of recurrent layers."""
        model, precision = self.step.model, choose_precision(self.config.training.precision)
        lines = [
            f"{model.count_params():,} parameters, {recurrent_parameters(model):,} of them recurrent, "
            f"{self.batches_per_epoch:,} batches an epoch",
            f"computing in {precision.name}: {precision.reason}",
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
        """Return to the last state that the run has saved and that is not damaged.

        Raises:
            ModelFileError: no state can be used.
        """
        self.state = TrainerState(**self.checkpoints.load(self.step))
        self.step.workers = self.state.workers
        self._updates_saved = self.state.updates
        cut_history(self.history_path, self.state.evaluated)

    def run(self) -> TextModel:
        """Train until the last epoch, the time limit, the patience or Ctrl-C ends the run.

        Returns:
            The moving average with its last weights; the best model is in the file `model_path`.

        Raises:
            KeyboardInterrupt: Ctrl-C; the state is saved and `resume` goes on from it.
            Seq2SeqError: loss or gradient is not finite, also after rollbacks; or the disk is full.
        """
        self._started = self._clock() - self.state.seconds
        self._untimed_steps = UNTIMED_STEPS
        if self.state.updates == 0:
            # A full disk is better found now, and a rollback always has a state to go to.
            self._save()
        done, settings = self.state.updates, self.config.training
        with (
            ProgressBar(self.total_steps, "step", "target tokens", done=done) as self._bar,
            interrupts() as interrupted,
            tensorboard(self.folder, settings.tensorboard) as self._write_summary,
        ):
            while not self._train(interrupted):
                self._roll_back()
            if self.state.evaluated != self.state.updates or self.state.best is None:
                self._evaluate()
            if settings.average_checkpoints and not self.state.finished:
                self._try_mean()
            self.state.finished = True
            self._save()
            self.snapshots.remove()
            if interrupted():
                LOG.info(f"stopped after the last step; {_how_to_resume()} scores the model")
                raise KeyboardInterrupt
        return self.step.averaged

    def _train(self, interrupted: Callable[[], bool]) -> bool:
        """Train to the end and return True, or False after too many skipped steps in a row."""
        state, settings = self.state, self.config.training
        with contextlib.closing(self._remaining_groups()) as groups:
            for group in groups:
                result = self._train_on(group)
                if result.has_overflowed:
                    LOG.info(
                        f"step {state.updates} left out, epoch {state.epoch}, batch {state.batch}: loss scale "
                        f"{result.loss_scale:,.0f} is too large for float16, {result.loss_scale / 2:,.0f} from here"
                    )
                elif not result.is_finite:
                    LOG.info(
                        f"step {state.updates} skipped, epoch {state.epoch}, batch {state.batch}: loss "
                        f"{result.loss / result.tokens}, gradient norm {result.gradient_norm}; "
                        f"{state.skipped_in_a_row} in a row, {state.skipped} in all"
                    )
                    if state.skipped_in_a_row >= settings.max_skipped_steps:
                        return False
                elif state.updates % self.evaluation_interval == 0:
                    self._evaluate()
                    self._save()
                elif settings.save_every and state.updates % settings.save_every == 0:
                    self._save()
                if interrupted() and not self._is_over():
                    # After skipped steps the weights may be bad: the state saved before them is good.
                    if not state.skipped_in_a_row:
                        self._save()
                    LOG.info(f"stopped at step {state.updates}; {_how_to_resume()} goes on from there")
                    raise KeyboardInterrupt
        return True

    def _remaining_groups(self) -> Generator[list[Batch], None, None]:
        """Yield the batches of each update to come, already counted; the last of an epoch may have fewer."""
        state, settings = self.state, self.config.training
        while state.epoch < settings.epochs and not state.finished and not self._is_over():
            with contextlib.closing(self.batches.epoch(state.epoch, state.batch)) as epoch:
                while group := list(itertools.islice(epoch, settings.accumulate)):
                    state.batch += len(group)
                    yield group
                    if self._is_over():
                        return
            state.epoch, state.batch = state.epoch + 1, 0

    def _is_over(self) -> bool:
        state, settings = self.state, self.config.training
        out_of_time = bool(settings.minutes) and state.seconds >= 60 * settings.minutes
        out_of_patience = bool(settings.patience) and state.evaluations_without_gain >= settings.patience
        return out_of_time or out_of_patience

    def _train_on(self, group: list[Batch]) -> StepResult:
        state, settings = self.state, self.config.training
        rate = state.rate_factor * learning_rate(settings, state.updates, self.total_steps, state.rate_reductions)
        began = self._clock()
        result = StepResult(*map(float, self.step(group, rate)))
        ended = self._clock()
        state.seconds = ended - self._started
        if self._untimed_steps:
            self._untimed_steps -= 1
        else:
            state.timed_tokens += result.tokens
            state.timed_seconds += ended - began
        state.count_step(result)
        if result.is_finite:
            self._bar.advance(1, result.tokens, f"loss {result.loss / result.tokens:.3f}")
        return result

    def _roll_back(self) -> None:
        """Return to the last good state with a lower learning rate."""
        state, settings = self.state, self.config.training
        trouble = f"The loss or gradient of {state.skipped_in_a_row} steps in a row was no finite number"
        if state.rollbacks >= settings.max_rollbacks:
            raise Seq2SeqError(
                f"{trouble}, the last at step {state.updates} (epoch {state.epoch}, batch {state.batch}), "
                f"after {state.rollbacks} returns to a state before. Start a run with a lower training.learning_rate "
                "or training.clip_norm, or with training.precision float32; the best model so far is kept."
            )
        if state.updates == self._updates_saved:
            # No update has succeeded since that state: the one before it may be better.
            self.checkpoints.drop_newest()
        self.resume()
        self.state = state.rolled_back_to(self.state, settings.rollback_lr_factor)
        self._bar.go_back(self.state.updates)
        LOG.info(
            f"{trouble}: back to the state of step {self.state.updates}, with "
            f"{self.state.rate_factor:.3g} of the learning rate"
        )

    def _save(self) -> None:
        self.checkpoints.save(self.step, dataclasses.asdict(self.state))
        self._updates_saved = self.state.updates

    def _evaluate(self) -> None:
        state, settings = self.state, self.config.training
        self.step.synchronise()
        scores = self._score()
        gained = self._save_if_better(scores)
        plateau_patience = settings.plateau_patience if settings.schedule == "plateau" else 0
        lowers_rate = state.count_evaluation(gained, plateau_patience)
        if settings.average_checkpoints:
            self.snapshots.keep(self.step.averaged, state.updates, scores[settings.monitor])
        state.seconds = self._clock() - self._started
        LOG.info(
            f"epoch {state.updates / self.updates_per_epoch:.1f}  {state.seconds / 60:.1f} min  "
            + _shown(scores, gained)
        )
        if lowers_rate:
            share = settings.plateau_factor**state.rate_reductions
            waited = state.evaluations_without_gain
            LOG.info(f"{waited} evaluations without improvement: {share:.3g} of the learning rate from here")
        counts = {"updates": state.updates, "seconds": round(state.seconds, 1), "skipped": state.skipped}
        add_to_history(self.history_path, counts | scores)
        self._write_summary(state.updates, scores)

    def _try_mean(self) -> None:
        """Make the mean of the weights at the best evaluations the best model, if its score is better."""
        averaged = self.step.averaged
        last = averaged.get_weights()
        count = self.snapshots.assign_mean(averaged)
        if count > 1:
            scores = self._score()
            if gained := self._save_if_better(scores):
                self.state.averaged = count
            LOG.info(f"mean of the weights at the {count} best evaluations  {_shown(scores, gained)}")
        averaged.set_weights(last)

    def _score(self) -> dict[str, float]:
        count = self.config.training.dev_sentences or len(self.dev.sources)
        options = {} if self.config.gives_labels else {"beam_size": 1}
        sources, references = self.dev.sources[:count], self.dev.targets[:count]
        scores, _ = self._evaluate_model(self.step.averaged, sources, references, **options)
        return {name: scores[name] for name in METRICS_BY_TASK[self.config.task]}

    def _save_if_better(self, scores: dict[str, float]) -> bool:
        state, monitor = self.state, self.config.training.monitor
        score, best = scores[monitor], state.best
        # A score that is not a number is better than none, and worse than any other.
        gained = best is None or math.isnan(best) or (score < best if monitor in LOWER_IS_BETTER else score > best)
        if gained:
            state.best, state.best_model = score, self.checkpoints.save_model(self.step.averaged)
        return gained


def _how_to_resume() -> str:
    return "the same command" if current_label() else "--resume"


def _shown(scores: dict[str, float], gained: bool) -> str:
    return "dev: " + "  ".join(f"{name} {value:.2f}" for name, value in scores.items()) + "  (best)" * gained


def recurrent_parameters(model: TextModel) -> int:
    """Count the weights of the recurrent layers, encoder and decoder together."""
    return sum(layer.count_params() for layer in model.recurrent_layers.values())


def recurrent_kernels(model: TextModel) -> str:
    """Return the kernels that the recurrent layers run on: a speed means nothing without them."""
    return " and ".join(dict.fromkeys(choice.implementation for choice in model.kernel_choices().values()))
