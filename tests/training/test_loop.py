"""The loop around the step: when it evaluates, what it keeps, when it stops. Steps and scores are made up."""

import dataclasses
import json
import math
import signal
import threading
from typing import ClassVar

import keras
import numpy as np
import pytest

from seq2seq.config.sections import METRICS_BY_TASK
from seq2seq.errors import Seq2SeqError
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.training import trainer as loop
from seq2seq.training.data import Texts
from seq2seq.training.optimizers import learning_rate
from seq2seq.training.step import StepResult

PAIRS = 12
"""Of four tokens each, two to a batch: six batches an epoch."""


class Script:
    """What the parts around the loop do, and what the loop did with them."""

    def __init__(self):
        self.losses, self.norms, self.loss_scales, self.states = {}, {}, {}, []
        self.scores = []
        self.rates, self.sources, self.saved_models, self.saved_states = [], [], [], []
        self.evaluated, self.lines = [], []
        self.seconds = 0.0
        self.seconds_a_step = 1.0
        self.on_step = {}

    @property
    def steps(self):
        return len(self.rates)


@pytest.fixture
def script(monkeypatch):
    script = Script()

    class Step:
        def __init__(self, model, averaged, optimizer, clip_norm, ema, l2, workers):
            self.model, self.averaged, self.workers = model, averaged, workers
            self.optimizer, self.clip_norm, self.ema, self.l2 = optimizer, clip_norm, ema, l2

        def __call__(self, source_ids, target_ids, rate, parts_before):
            script.rates.append(rate)
            script.sources.append([source_ids, *(source for source, _ in parts_before)])
            script.seconds += script.seconds_a_step
            loss, norm = script.losses.get(script.steps, 2.0), script.norms.get(script.steps, 1.0)
            return StepResult(10.0 * loss, 10.0, norm, script.loss_scales.get(script.steps, 1.0))

        def synchronise(self):
            script.synchronised = script.steps

    class Progress(loop.Progress):
        def advance(self, tokens, loss):
            super().advance(tokens, loss)
            script.on_step.get(script.steps, lambda: None)()

        def say(self, line):
            script.lines.append(line)

    def evaluate(model, sources, references, **decoding):
        assert script.synchronised == script.steps
        script.evaluated.append((script.steps, len(sources), decoding))
        score = script.scores[len(script.evaluated) - 1] if script.scores else 1.0
        return dict.fromkeys(METRICS_BY_TASK["translate"], score) | {"signature": {}}, []

    class Checkpoints:
        def __init__(self, folder):
            self.model_path = folder / "model.keras"

        def save_model(self, model):
            script.saved_models.append(script.steps)
            return f"model-{script.steps}"

        def save(self, step, progress):
            script.saved_states.append((script.steps, progress))
            script.states = [*script.states[-1:], progress]

        def load(self, step, tell):
            return script.states[-1]

        def drop_newest(self):
            script.states = script.states[:1]

    monkeypatch.setattr(loop, "TrainingStep", Step)
    monkeypatch.setattr(loop, "Checkpoints", Checkpoints)
    monkeypatch.setattr(loop, "Progress", Progress)
    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setattr(loop.time, "monotonic", lambda: script.seconds)
    return script


@pytest.fixture
def make_trainer(script, toy_config, toy_tokenizer, tmp_path):
    corpus = EncodedCorpus.from_lists([[5, 6, 7, 3]] * PAIRS, [[5, 6, 7, 3]] * PAIRS)
    (tmp_path / "run").mkdir()

    def make(workers=1, **training):
        settings = {f"training__{name}": value for name, value in ({"epochs": 3} | training).items()}
        config = toy_config(run__folder=str(tmp_path), **settings)
        batches = Batches(corpus, batch_tokens=16, prefetch=0)
        return loop.Trainer(config, toy_tokenizer, batches, Texts(["the cat"] * 7, ["la kato"] * 7), workers=workers)

    return make


class TestEvaluation:
    @pytest.mark.parametrize(
        ("every", "steps"),
        [(1.0, [6, 12, 18]), (0.5, [3, 6, 9, 12, 15, 18]), (2.0, [12, 18]), (5.0, [18]), (0.7, [4, 8, 12, 16, 18])],
    )
    def test_comes_when_asked_and_at_the_end(self, make_trainer, script, every, steps):
        make_trainer(evaluate_every=every).run()
        assert script.steps == 18
        assert [step for step, *_ in script.evaluated] == steps
        assert {step for step, _ in script.saved_states} == {0, *steps}

    def test_is_greedy_and_of_so_many_sentences(self, make_trainer, script):
        make_trainer(epochs=1, dev_sentences=5).run()
        make_trainer(epochs=1, dev_sentences=0).run()
        make_trainer(epochs=1, dev_sentences=500).run()
        assert [count for _, count, _ in script.evaluated] == [5, 7, 7]
        assert all(decoding == {"beam_size": 1} for *_, decoding in script.evaluated)

    def test_is_written_down(self, make_trainer, script, tmp_path):
        script.scores = [3.0, 2.0, 2.5]
        make_trainer().run()
        lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [
            {"updates": updates, "seconds": float(updates), "skipped": 0}
            | dict.fromkeys(METRICS_BY_TASK["translate"], score)
            for updates, score in zip((6, 12, 18), script.scores, strict=True)
        ]
        assert script.lines[0].startswith("epoch 1.0  0.1 min  dev: loss 3.00  perplexity 3.00  bleu 3.00")
        assert [line.endswith("  (best)") for line in script.lines] == [True, True, False]

    def test_is_written_for_tensorboard_where_wanted(self, make_trainer, script, tmp_path):
        make_trainer(epochs=1).run()
        assert not (tmp_path / "run" / "tensorboard").exists()
        make_trainer(epochs=1, tensorboard=True).run()
        (events,) = (tmp_path / "run" / "tensorboard").iterdir()
        content = events.read_bytes()
        assert all(f"dev/{name}".encode() in content for name in METRICS_BY_TASK["translate"])


class TestBest:
    # Evaluations after 6, 12, 18, 24 and 30 steps; an equal score is no gain.
    SCORES = (5.0, 3.0, 3.0, 7.0, 4.0)

    @pytest.mark.parametrize("monitor", ["loss", "perplexity"])
    def test_is_the_lowest(self, make_trainer, script, monitor):
        script.scores = self.SCORES
        trainer = make_trainer(epochs=5, monitor=monitor)
        trainer.run()
        assert script.saved_models == [6, 12]
        assert trainer.standing.best == 3.0

    @pytest.mark.parametrize("monitor", ["bleu", "chrf", "exact_match"])
    def test_is_the_highest(self, make_trainer, script, monitor):
        script.scores = self.SCORES
        trainer = make_trainer(epochs=5, monitor=monitor)
        trainer.run()
        assert script.saved_models == [6, 24]
        assert trainer.standing.best == 7.0

    def test_patience_ends_the_run(self, make_trainer, script):
        script.scores = (5.0, 3.0, 4.0, 2.9, 3.0, 3.0, 1.0)
        trainer = make_trainer(epochs=9, monitor="loss", patience=2)
        trainer.run()
        assert [step for step, *_ in script.evaluated] == [6, 12, 18, 24, 30, 36]
        assert script.saved_models == [6, 12, 24]
        assert trainer.standing.finished
        assert script.saved_states[-1][1]["finished"]


class TestLimits:
    def test_minutes_end_the_run_with_an_evaluation(self, make_trainer, script):
        script.seconds_a_step = 20.0
        trainer = make_trainer(epochs=9, minutes=2.5)
        trainer.run()
        assert script.steps == 8
        assert [step for step, *_ in script.evaluated] == [6, 8]
        assert trainer.standing.finished

    def test_rate_follows_the_schedule(self, make_trainer, script):
        make_trainer(schedule="cosine", learning_rate=0.5, warmup_steps=4).run()
        assert script.rates[:5] == [0.125, 0.25, 0.375, 0.5, 0.5]
        assert script.rates[11] == pytest.approx(0.5 * (0.02 + 0.98 * 0.5))
        assert script.rates[4:] == sorted(script.rates[4:], reverse=True)

    def test_rate_of_accumulated_batches_follows_the_schedule_by_updates(self, make_trainer, script):
        make_trainer(schedule="cosine", learning_rate=0.5, warmup_steps=0, accumulate=4, epochs=2).run()
        # Six batches an epoch, the last update with the two that are left.
        assert [len(group) for group in script.sources] == [4, 2, 4, 2]
        expected = [learning_rate(s, schedule="cosine", peak=0.5, warmup_steps=0, total_steps=4) for s in range(4)]
        assert script.rates == expected
        assert [step for step, *_ in script.evaluated] == [2, 4]


class TestSaving:
    @pytest.mark.parametrize(("every", "steps"), [(0, [0, 6, 12]), (4, [0, 4, 6, 8, 12]), (100, [0, 6, 12])])
    def test_comes_between_evaluations_too(self, make_trainer, script, every, steps):
        make_trainer(epochs=2, save_every=every).run()
        # The last one says that the run is finished.
        assert [step for step, _ in script.saved_states] == [*steps, 12]
        assert [standing["finished"] for _, standing in script.saved_states] == [False] * len(steps) + [True]

    def test_speaks_of_the_best_model(self, make_trainer, script):
        script.scores = (5.0, 3.0, 4.0)
        make_trainer().run()
        found = [(step, standing["best"], standing["best_model"]) for step, standing in script.saved_states[:4]]
        assert found == [(0, None, None), (6, 5.0, "model-6"), (12, 3.0, "model-12"), (18, 3.0, "model-12")]

    def test_of_a_last_evaluation_leaves_no_step_to_do(self, make_trainer, script):
        """Killed after the evaluation that ends the patience, before the run says that it is finished."""
        script.scores = (5.0, 6.0, 1.0)
        make_trainer(epochs=9, patience=1).run()
        assert script.steps == 12
        (_, standing), _ = script.saved_states[-2:]
        assert not standing["finished"]
        resumed = make_trainer(epochs=9, patience=1)
        resumed.standing = loop.TrainerState(**standing)
        resumed.run()
        assert script.steps == 12
        assert len(script.evaluated) == 2


class TestSkipping:
    @pytest.mark.parametrize("number", [math.nan, math.inf])
    @pytest.mark.parametrize("what", ["losses", "norms"])
    def test_is_counted_and_told(self, make_trainer, script, tmp_path, what, number):
        setattr(script, what, {3: number, 4: number, 9: number})
        trainer = make_trainer(epochs=2, max_skipped_steps=3, schedule="inverse_square_root", warmup_steps=0)
        trainer.run()
        assert (script.steps, trainer.standing.updates, trainer.standing.skipped) == (12, 9, 3)
        loss, norm = {"losses": (number, 1.0), "norms": (2.0, number)}[what]
        told = [line for line in script.lines if "skipped" in line]
        assert told == [
            f"step 2 skipped, epoch 0, batch 3: loss {loss}, gradient norm {norm}; 1 in a row, 1 in all",
            f"step 2 skipped, epoch 0, batch 4: loss {loss}, gradient norm {norm}; 2 in a row, 2 in all",
            f"step 6 skipped, epoch 1, batch 3: loss {loss}, gradient norm {norm}; 1 in a row, 3 in all",
        ]
        # The schedule stands still meanwhile, and what is due after the sixth update comes once.
        assert script.rates[2] == script.rates[3] == script.rates[4]
        assert [step for step, *_ in script.evaluated] == [8, 12]
        lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
        assert [json.loads(line)["skipped"] for line in lines] == [2, 3]

    def test_of_every_step_leaves_a_model_all_the_same(self, make_trainer, script):
        script.losses = dict.fromkeys(range(1, 7), math.nan)
        trainer = make_trainer(epochs=1, max_skipped_steps=10)
        trainer.run()
        assert (trainer.standing.updates, script.saved_models) == (0, [6])

    def test_of_several_in_a_row_goes_back_with_a_lower_rate(self, make_trainer, script):
        script.losses = dict.fromkeys((9, 10, 11), math.nan)
        trainer = make_trainer(
            max_skipped_steps=3, rollback_lr_factor=0.25, schedule="constant", warmup_steps=0, learning_rate=0.5
        )
        trainer.run()
        # Eight updates, three skips, and from the state of the sixth to the eighteenth.
        assert script.rates == [0.5] * 11 + [0.125] * 12
        for before, again in zip(script.sources[6:11], script.sources[11:16], strict=True):
            assert before[0].tolist() == again[0].tolist()
        standing = trainer.standing
        assert (standing.updates, standing.skipped, standing.returns) == (18, 3, 1)
        assert standing.seconds == 23.0
        assert [step for step, *_ in script.evaluated] == [6, 17, 23]
        assert script.lines[4] == (
            "The loss or gradient of 3 steps in a row was no finite number: back to the state of step 6, with 0.25 of "
            "the learning rate"
        )

    def test_right_after_a_state_goes_back_to_the_one_before(self, make_trainer, script):
        # The sixth update made weights that give nothing else, and they were saved.
        script.losses = dict.fromkeys((7, 8), math.nan)
        make_trainer(max_skipped_steps=2, save_every=3).run()
        assert script.lines[3].endswith("back to the state of step 3, with 0.5 of the learning rate")
        assert script.steps == 8 + 15

    def test_for_the_loss_scale_of_float16_is_no_trouble(self, make_trainer, script):
        script.norms = dict.fromkeys(range(1, 14), math.inf)
        script.loss_scales = {number: 2.0 ** (15 - number) for number in range(1, 12)}
        trainer = make_trainer(max_skipped_steps=3, precision="float16")
        trainer.run()
        # Eleven while the scale falls to 16, two that it cannot be blamed for, and never three of these in a row.
        standing = trainer.standing
        assert (standing.updates, standing.overflows, standing.skipped, standing.returns) == (5, 11, 2, 0)
        assert script.lines[:2] == [
            "step 0 left out, epoch 0, batch 1: loss scale 16,384 is too large for float16, 8,192 from here",
            "step 0 left out, epoch 0, batch 2: loss scale 8,192 is too large for float16, 4,096 from here",
        ]
        said = [line.partition(",")[0] for line in script.lines[:13]]
        assert said == ["step 0 left out"] * 11 + ["step 0 skipped"] * 2
        # It does not hide trouble that was there before it, either.
        script.loss_scales, script.norms = {2: 4.0}, {1: math.nan, 2: math.nan, 3: math.nan}
        script.rates.clear()
        trainer = make_trainer(max_skipped_steps=2)
        trainer.run()
        assert (trainer.standing.skipped, trainer.standing.overflows, trainer.standing.returns) == (2, 1, 1)

    def test_without_end_ends_the_run(self, make_trainer, script):
        script.losses = dict.fromkeys(range(9, 100), math.nan)
        with pytest.raises(Seq2SeqError) as error:
            make_trainer(max_skipped_steps=3, max_rollbacks=2).run()
        # From the sixth on there is no update any more: that state is given up for the first of all.
        assert script.steps == 8 + 3 + 3 + 3
        assert str(error.value) == (
            "The loss or gradient of 3 steps in a row was no finite number, the last at step 0 (epoch 0, batch 3), "
            "after 2 returns to a state before. Start a run with a lower training.learning_rate or training.clip_norm, "
            "or with training.precision float32; the best model so far is kept."
        )
        # No state of the time in which steps were skipped was written.
        assert [step for step, _ in script.saved_states] == [0, 6]

    def test_ends_the_run_at_once_where_it_may_not_go_back(self, make_trainer, script):
        script.losses = dict.fromkeys(range(9, 100), math.nan)
        with pytest.raises(Seq2SeqError, match=r"the last at step 8 \(epoch 1, batch 5\), after 0 returns"):
            make_trainer(max_skipped_steps=3, max_rollbacks=0).run()

    def test_keeps_an_interrupt_from_saving(self, make_trainer, script):
        script.losses = {8: math.nan}
        trainer = make_trainer()
        step = trainer.step

        def press(*arguments):
            if script.steps == 7:
                signal.raise_signal(signal.SIGINT)
            return type(step).__call__(step, *arguments)

        trainer.step = press
        trainer.step.synchronise, trainer.step.averaged = step.synchronise, step.averaged
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert [step for step, _ in script.saved_states] == [0, 6]

    def test_best_score_that_is_no_number_gives_way(self, make_trainer, script):
        script.scores = (math.nan, math.nan, 3.0, math.nan, 4.0)
        trainer = make_trainer(epochs=5)
        trainer.run()
        assert trainer.standing.best == 3.0
        assert script.saved_models == [6, 12, 18]


class TestPlateau:
    # After every sixth step.
    SCORES = (5.0, 6.0, 6.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0)
    SETTINGS: ClassVar = {
        "epochs": 9,
        "schedule": "plateau",
        "plateau_factor": 0.5,
        "learning_rate": 0.8,
        "warmup_steps": 0,
    }

    def test_lowers_the_rate_each_time_that_the_score_has_not_improved_for_long_enough(self, make_trainer, script):
        script.scores = self.SCORES
        make_trainer(**self.SETTINGS).run()
        assert script.rates[::6] == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1])
        assert script.rates[5::6] == pytest.approx(script.rates[::6])
        said = [line for line in script.lines if "without" in line]
        assert said == [
            "2 evaluations without improvement: 0.5 of the learning rate from here",
            "2 evaluations without improvement: 0.25 of the learning rate from here",
            "4 evaluations without improvement: 0.125 of the learning rate from here",
        ]

    def test_is_of_the_rate_that_the_resumed_run_goes_on_with(self, make_trainer, script):
        script.scores = self.SCORES
        script.on_step = {20: lambda: signal.raise_signal(signal.SIGINT)}
        with pytest.raises(KeyboardInterrupt):
            make_trainer(**self.SETTINGS).run()
        resumed = make_trainer(**self.SETTINGS)
        resumed.standing = loop.TrainerState(**script.saved_states[-1][1])
        resumed.run()
        assert script.rates[::6] == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1])

    def test_is_not_looked_for_by_other_schedules(self, make_trainer, script):
        script.scores = self.SCORES
        make_trainer(**self.SETTINGS | {"schedule": "constant"}).run()
        assert set(script.rates) == {0.8}


class TestMean:
    @pytest.fixture
    def moving(self, script, monkeypatch):
        """A trainer's model holds the number of its step in every weight when it is evaluated or saved."""
        seen = []

        def watch(trainer):
            evaluate, save_model = loop.evaluate, trainer.checkpoints.save_model
            averaged = trainer.step.averaged

            def synchronise():
                script.synchronised = script.steps
                averaged.set_weights([np.full(weight.shape, script.steps) for weight in averaged.get_weights()])

            def evaluate_and_look(model, *texts, **decoding):
                (weight,) = {weight.flat[0] for weight in model.get_weights()}
                seen.append(weight)
                return evaluate(model, *texts, **decoding)

            def save_and_look(model):
                save_model(model)
                return f"model-{model.get_weights()[0].flat[0]:g}"

            trainer.step.synchronise, trainer.checkpoints.save_model = synchronise, save_and_look
            monkeypatch.setattr(loop, "evaluate", evaluate_and_look)
            return trainer

        return watch, seen

    # Evaluations after 6, 12, 18 and 24 steps, and then that of the mean.
    @pytest.mark.parametrize(("score", "kept"), [(1.5, True), (2.0, False), (9.0, False)])
    def test_of_the_best_is_kept_where_it_is_better_than_the_best(
        self, make_trainer, script, moving, tmp_path, score, kept
    ):
        watch, seen = moving
        script.scores = (5.0, 2.0, 3.0, 4.0, score)
        trainer = watch(make_trainer(epochs=4, average_checkpoints=2, monitor="loss"))
        model = trainer.run()
        assert seen == [6, 12, 18, 24, (12 + 18) / 2]
        standing = trainer.standing
        assert (standing.best, standing.best_model) == ((score, "model-15") if kept else (2.0, "model-12"))
        assert standing.averaged == 2 * kept
        assert script.saved_states[-1][1]["best_model"] == standing.best_model
        assert script.lines[-1].startswith(f"mean of the weights at the 2 best evaluations  dev: loss {score:.2f}  ")
        assert script.lines[-1].endswith("  (best)") == kept
        # The state and what is handed back are those of the last step.
        assert {weight.flat[0] for weight in model.get_weights()} == {24}
        assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 4
        assert not (tmp_path / "run" / "snapshots").exists()
        trainer.run()
        assert len(seen) == 5

    def test_of_one_evaluation_is_not_looked_at(self, make_trainer, script, moving):
        watch, seen = moving
        trainer = watch(make_trainer(epochs=1, average_checkpoints=3))
        trainer.run()
        assert seen == [6]
        assert trainer.standing.averaged == 0

    def test_is_not_made_where_nobody_asks(self, make_trainer, script, monkeypatch):
        monkeypatch.setattr(loop.Snapshots, "keep", lambda *arguments: pytest.fail("kept"))
        make_trainer().run()
        assert len(script.evaluated) == 3


class TestInterrupt:
    def press(self):
        signal.raise_signal(signal.SIGINT)

    def test_saves_and_ends(self, make_trainer, script):
        before = signal.getsignal(signal.SIGINT)
        script.on_step = {8: self.press}
        trainer = make_trainer()
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert signal.getsignal(signal.SIGINT) is before
        assert script.steps == 8
        step, standing = script.saved_states[-1]
        assert (step, standing["epoch"], standing["batch"], standing["updates"]) == (8, 1, 2, 8)
        assert not standing["finished"]
        assert script.lines[-1] == "stopped at step 8; --resume goes on from there"

    # In the middle of an epoch, where an evaluation is due, and at the very last step.
    @pytest.mark.parametrize("stop", [8, 12, 18])
    def test_goes_on_as_if_nothing_had_been(self, make_trainer, script, stop):
        script.scores = (5.0, 3.0, 4.0)
        script.on_step = {stop: self.press}
        stopped = make_trainer(schedule="cosine", warmup_steps=2)
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        script.on_step = {}
        resumed = make_trainer(schedule="cosine", warmup_steps=2)
        resumed.standing = loop.TrainerState(**script.saved_states[-1][1])
        resumed.run()
        assert script.steps == 18
        assert [step for step, *_ in script.evaluated] == [6, 12, 18]
        assert script.saved_models == [6, 12]
        rates, script.rates, script.evaluated = script.rates, [], []
        whole = make_trainer(schedule="cosine", warmup_steps=2)
        whole.run()
        assert script.rates == rates
        clock = {"seconds": 0.0, "timed_seconds": 0.0, "timed_tokens": 0.0}
        assert dataclasses.asdict(resumed.standing) | clock == dataclasses.asdict(whole.standing) | clock

    def test_of_a_run_out_of_patience_leaves_nothing_to_do(self, make_trainer, script):
        script.scores = (3.0, 4.0, 5.0)
        script.on_step = {12: self.press}
        trainer = make_trainer(patience=1)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert script.saved_states[-1][1]["finished"]
        assert script.lines[-1] == "stopped after the last step; --resume scores the model"
        resumed = make_trainer(patience=1)
        resumed.standing = loop.TrainerState(**script.saved_states[-1][1])
        resumed.run()
        assert script.steps == 12
        assert len(script.evaluated) == 2

    def test_twice_ends_at_once(self, make_trainer, script):
        def press_twice():
            self.press()
            self.press()
            pytest.fail("the second Ctrl-C did not raise")

        script.on_step = {3: press_twice}
        with pytest.raises(KeyboardInterrupt):
            make_trainer().run()
        assert [step for step, _ in script.saved_states] == [0]

    def test_outside_the_main_thread_is_not_ours(self, make_trainer, script):
        trainer = make_trainer(epochs=1)
        thread = threading.Thread(target=trainer.run)
        thread.start()
        thread.join()
        assert trainer.standing.finished


class TestSpeed:
    def test_is_of_the_steps_after_the_first_of_each_start(self, make_trainer, script):
        # The first five steps of each start take a minute each, and the evaluations (6, 12 and 18) an hour.
        script.seconds_a_step = 60.0

        def steady():
            script.seconds_a_step = 0.5

        def evaluated():
            script.seconds += 3600.0

        def stop():
            signal.raise_signal(signal.SIGINT)
            script.seconds_a_step = 60.0

        script.on_step = {5: steady, 6: evaluated, 9: stop, 14: steady}
        stopped = make_trainer()
        with pytest.raises(KeyboardInterrupt):
            stopped.run()
        # Four steps of ten tokens in half a second each.
        assert (stopped.standing.timed_tokens, stopped.standing.timed_seconds) == (40.0, 2.0)
        resumed = make_trainer()
        resumed.standing = loop.TrainerState(**script.saved_states[-1][1])
        resumed.run()
        assert script.steps == 18
        assert (resumed.standing.timed_tokens, resumed.standing.timed_seconds) == (80.0, 4.0)
        assert resumed.standing.target_tokens_per_second == 20.0

    def test_of_too_few_steps_is_unknown(self):
        assert loop.TrainerState().target_tokens_per_second is None

    def test_of_a_state_from_before_it_was_measured_starts_at_nothing(self):
        old = {"epoch": 1, "batch": 2, "updates": 8, "seconds": 9.0, "best": None, "evaluated": 6,
               "evaluations_without_gain": 0, "finished": False}  # fmt: skip
        assert loop.TrainerState(**old).timed_tokens == 0


class TestLabel:
    def test_stands_before_all_that_is_said(self, make_trainer, script, monkeypatch):
        labels = []

        class Progress(loop.Progress):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                labels.append(options["label"])

        monkeypatch.setattr(loop, "Progress", Progress)
        script.scores = (3.0, 4.0)
        trainer = make_trainer(patience=1)
        trainer.label = "2/5 cell=lstm"
        script.on_step = {3: lambda: signal.raise_signal(signal.SIGINT), 12: lambda: signal.raise_signal(signal.SIGINT)}
        for last in ("stopped at step 3; the same command goes on from there",
                     "stopped after the last step; the same command scores the model"):  # fmt: skip
            with pytest.raises(KeyboardInterrupt):
                trainer.run()
            assert script.lines[-1] == last
        assert labels == ["2/5 cell=lstm"] * 2


class TestOptimizer:
    def test_is_the_one_of_the_recipe(self, make_trainer):
        step = make_trainer(clip_norm=0.5, ema=0.99, l2=1e-5).step
        assert type(step.optimizer) is keras.optimizers.Adam
        assert (step.clip_norm, step.ema, step.l2) == (0.5, 0.99, 1e-5)
        step = make_trainer(optimizer="adamw", weight_decay=0.01).step
        assert type(step.optimizer) is keras.optimizers.AdamW
        assert step.optimizer.weight_decay == 0.01

    @pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
    def test_computes_in_the_precision_of_the_recipe(self, make_trainer, precision):
        step = make_trainer(precision=precision).step
        assert step.model.decoder.compute_dtype == step.model.encoder.compute_dtype == precision
        # The file that a run leaves is of whole numbers.
        assert step.averaged.decoder.compute_dtype == step.averaged.encoder.compute_dtype == "float32"


def gru_numbers(features, units):
    return 3 * units * (features + units + 2)


def test_describes_model_and_kernel(make_trainer, script):
    trainer = make_trainer()
    first, second, third = trainer.describe().splitlines()
    count = keras.Model.count_params(trainer.step.model)
    # Of the toy language's model: both directions of the encoder, and the decoder, whose input is the embedding alone.
    recurrent = 2 * gru_numbers(features=16, units=16) + gru_numbers(features=16, units=32)
    assert first == f"{count:,} parameters, {recurrent:,} of them recurrent, 6 batches an epoch"
    assert second == "computing in float32: training.precision says so"
    assert third == "recurrent kernel: scan (TensorFlow sees no GPU)"
    assert make_trainer(workers=3).describe().splitlines()[2] == "each batch in 3 parts at the same time"
