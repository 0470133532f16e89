"""The loop around the step: when it evaluates, what it keeps, when it stops. Steps and scores are scripted."""

import dataclasses
import json
import math
import signal
import threading
import types

import keras
import numpy as np
import pytest

from seq2seq.config.sections import METRICS_BY_TASK
from seq2seq.errors import Seq2SeqError
from seq2seq.models.build import build_model
from seq2seq.progress import labelled
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.training.data import Texts
from seq2seq.training.optimizers import learning_rate
from seq2seq.training.step import StepResult, create_step
from seq2seq.training.trainer import Trainer, TrainerState

PAIRS = 12
"""Of four tokens each, two to a batch: six batches an epoch."""


class Script:
    """Step, clock, evaluation and checkpoints of a trainer, and a record of what the trainer did with them."""

    def __init__(self, model, folder):
        self.model = self.averaged = model
        self.model_path, self.workers = folder / "model.keras", 1
        self.losses, self.norms, self.loss_scales, self.scores = {}, {}, {}, []
        self.rates, self.sources, self.saved_models, self.saved_states, self.evaluated = [], [], [], [], []
        self.states = []
        self.seconds, self.seconds_a_step = 0.0, 1.0
        self.on_step = {}
        self.weights_follow_steps = False

    @property
    def steps(self):
        return len(self.rates)

    def __call__(self, batches, rate):
        self.rates.append(rate)
        self.sources.append([batch.source_ids for batch in batches])
        self.seconds += self.seconds_a_step
        self.on_step.get(self.steps, lambda: None)()
        loss, norm = self.losses.get(self.steps, 2.0), self.norms.get(self.steps, 1.0)
        return StepResult(10.0 * loss, 10.0, norm, self.loss_scales.get(self.steps, 1.0))

    def clock(self):
        return self.seconds

    def synchronise(self):
        self.synchronised = self.steps
        if self.weights_follow_steps:
            self.model.set_weights([np.full(weight.shape, self.steps) for weight in self.model.get_weights()])

    def evaluate(self, model, sources, references, **decoding):
        assert self.synchronised == self.steps
        self.evaluated.append((self.steps, len(sources), decoding, self.weight()))
        score = self.scores[len(self.evaluated) - 1] if self.scores else 1.0
        return dict.fromkeys(METRICS_BY_TASK["translate"], score) | {"signature": {}}, []

    def weight(self):
        return float(self.model.get_weights()[0].flat[0])

    def save_model(self, model):
        self.saved_models.append(self.steps)
        return f"model-{self.weight() if self.weights_follow_steps else self.steps:g}"

    def save(self, step, progress):
        self.saved_states.append((self.steps, progress))
        self.states = [*self.states[-1:], progress]

    def load(self, step):
        return self.states[-1]

    def drop_newest(self):
        self.states = self.states[:1]

    @property
    def evaluated_at(self):
        return [step for step, *_ in self.evaluated]


@pytest.fixture(scope="module")
def model(toy_config, toy_tokenizer):
    return build_model(toy_config(), toy_tokenizer)


@pytest.fixture
def script(model, tmp_path):
    return Script(model, tmp_path)


@pytest.fixture
def make_trainer(script, toy_config, tmp_path):
    corpus = EncodedCorpus.from_lists([[5, 6, 7, 3]] * PAIRS, [[5, 6, 7, 3]] * PAIRS)
    (tmp_path / "run").mkdir()

    def make(**training):
        settings = {f"training__{name}": value for name, value in ({"epochs": 3} | training).items()}
        return Trainer(
            toy_config(run__folder=str(tmp_path), **settings),
            script,
            Batches(corpus, batch_tokens=16, prefetch=0),
            Texts(["the cat"] * 7, ["la kato"] * 7),
            evaluate=script.evaluate,
            clock=script.clock,
            checkpoints=script,
        )

    return make


@pytest.fixture
def resume(make_trainer, script):
    """Make a trainer that goes on from the last saved state."""

    def make(**training):
        trainer = make_trainer(**training)
        trainer.resume()
        return trainer

    return make


def press():
    signal.raise_signal(signal.SIGINT)


def history(tmp_path):
    return [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]


class TestEvaluation:
    @pytest.mark.parametrize(
        ("every", "steps"),
        [(1.0, [6, 12, 18]), (0.5, [3, 6, 9, 12, 15, 18]), (2.0, [12, 18]), (5.0, [18]), (0.7, [4, 8, 12, 16, 18])],
    )
    def test_when_asked_and_at_the_end(self, make_trainer, script, every, steps):
        make_trainer(evaluate_every=every).run()
        assert script.steps == 18
        assert script.evaluated_at == steps
        assert {step for step, _ in script.saved_states} == {0, *steps}

    def test_greedy_on_dev_sentences(self, make_trainer, script):
        for count in (5, 0, 500):
            make_trainer(epochs=1, dev_sentences=count).run()
        assert [count for _, count, *_ in script.evaluated] == [5, 7, 7]
        assert all(decoding == {"beam_size": 1} for _, _, decoding, _ in script.evaluated)

    def test_history(self, make_trainer, script, tmp_path, logged):
        script.scores = [3.0, 2.0, 2.5]
        make_trainer().run()
        assert history(tmp_path) == [
            {"updates": updates, "seconds": float(updates), "skipped": 0}
            | dict.fromkeys(METRICS_BY_TASK["translate"], score)
            for updates, score in zip((6, 12, 18), script.scores, strict=True)
        ]
        assert "bleu 3.00" in logged[0]
        assert [line.endswith("  (best)") for line in logged] == [True, True, False]

    def test_tensorboard(self, make_trainer, script, tmp_path):
        make_trainer(epochs=1).run()
        assert not (tmp_path / "run" / "tensorboard").exists()
        make_trainer(epochs=1, tensorboard=True).run()
        (events,) = (tmp_path / "run" / "tensorboard").iterdir()
        content = events.read_bytes()
        assert all(f"dev/{name}".encode() in content for name in METRICS_BY_TASK["translate"])


class TestBest:
    # Evaluations after 6, 12, 18, 24 and 30 steps; an equal score is no gain.
    @pytest.mark.parametrize(
        ("monitor", "scores", "saved", "best"),
        [
            ("loss", (5.0, 3.0, 3.0, 7.0, 4.0), [6, 12], 3.0),
            ("bleu", (5.0, 3.0, 3.0, 7.0, 4.0), [6, 24], 7.0),
            ("loss", (math.nan, math.nan, 3.0, math.nan, 4.0), [6, 12, 18], 3.0),
        ],
    )
    def test_lowest_or_highest(self, make_trainer, script, monitor, scores, saved, best):
        script.scores = scores
        trainer = make_trainer(epochs=5, monitor=monitor)
        trainer.run()
        assert (script.saved_models, trainer.state.best) == (saved, best)

    def test_patience_ends_the_run(self, make_trainer, script):
        script.scores = (5.0, 3.0, 4.0, 2.9, 3.0, 3.0, 1.0)
        trainer = make_trainer(epochs=9, monitor="loss", patience=2)
        trainer.run()
        assert script.evaluated_at == [6, 12, 18, 24, 30, 36]
        assert script.saved_models == [6, 12, 24]
        assert trainer.state.finished
        assert script.states[-1]["finished"]


class TestLimits:
    def test_minutes_end_the_run_with_an_evaluation(self, make_trainer, script):
        script.seconds_a_step = 20.0
        trainer = make_trainer(epochs=9, minutes=2.5)
        trainer.run()
        assert (script.steps, script.evaluated_at, trainer.state.finished) == (8, [6, 8], True)

    def test_rate_follows_the_schedule(self, make_trainer, script):
        make_trainer(schedule="cosine", learning_rate=0.5, warmup_steps=4).run()
        assert script.rates[:5] == [0.125, 0.25, 0.375, 0.5, 0.5]
        assert script.rates[11] == pytest.approx(0.5 * (0.02 + 0.98 * 0.5))
        assert script.rates[4:] == sorted(script.rates[4:], reverse=True)

    def test_accumulated_batches_count_as_one_update(self, make_trainer, script):
        trainer = make_trainer(schedule="cosine", learning_rate=0.5, warmup_steps=0, accumulate=4, epochs=2)
        trainer.run()
        # Six batches an epoch, the last update with the two that are left.
        assert [len(group) for group in script.sources] == [4, 2, 4, 2]
        assert script.rates == [learning_rate(trainer.config.training, step, total_steps=4) for step in range(4)]
        assert script.evaluated_at == [2, 4]


class TestSaving:
    @pytest.mark.parametrize(("every", "steps"), [(0, [0, 6, 12]), (4, [0, 4, 6, 8, 12]), (100, [0, 6, 12])])
    def test_between_evaluations_too(self, make_trainer, script, every, steps):
        make_trainer(epochs=2, save_every=every).run()
        # The last one says that the run is finished.
        assert [step for step, _ in script.saved_states] == [*steps, 12]
        assert [state["finished"] for _, state in script.saved_states] == [False] * len(steps) + [True]

    def test_state_of_the_last_evaluation_leaves_no_step_to_do(self, make_trainer, script):
        """Killed after the evaluation that ends the patience, before the run says that it is finished."""
        script.scores = (5.0, 6.0, 1.0)
        make_trainer(epochs=9, patience=1).run()
        assert script.steps == 12
        (_, state), _ = script.saved_states[-2:]
        assert not state["finished"]
        resumed = make_trainer(epochs=9, patience=1)
        resumed.state = TrainerState(**state)
        resumed.run()
        assert (script.steps, len(script.evaluated)) == (12, 2)


class TestSkipping:
    @pytest.mark.parametrize("number", [math.nan, math.inf])
    @pytest.mark.parametrize("what", ["losses", "norms"])
    def test_counted_and_logged(self, make_trainer, script, tmp_path, logged, what, number):
        setattr(script, what, {3: number, 4: number, 9: number})
        trainer = make_trainer(epochs=2, max_skipped_steps=3, schedule="inverse_square_root", warmup_steps=0)
        trainer.run()
        assert (script.steps, trainer.state.updates, trainer.state.skipped) == (12, 9, 3)
        loss, norm = {"losses": (number, 1.0), "norms": (2.0, number)}[what]
        skipped = [line for line in logged if "skipped" in line]
        assert len(skipped) == 3
        assert all(part in skipped[1] for part in ("step 2", "batch 4", f"loss {loss}", f"norm {norm}", "2 in a row"))
        # The schedule stands still meanwhile, and what is due after the sixth update comes once.
        assert script.rates[2] == script.rates[3] == script.rates[4]
        assert script.evaluated_at == [8, 12]
        assert [entry["skipped"] for entry in history(tmp_path)] == [2, 3]

    def test_of_every_step_leaves_a_model_all_the_same(self, make_trainer, script):
        script.losses = dict.fromkeys(range(1, 7), math.nan)
        trainer = make_trainer(epochs=1, max_skipped_steps=10)
        trainer.run()
        assert (trainer.state.updates, script.saved_models) == (0, [6])

    def test_of_several_in_a_row_rolls_back_with_a_lower_rate(self, make_trainer, script, logged):
        script.losses = dict.fromkeys((9, 10, 11), math.nan)
        trainer = make_trainer(
            max_skipped_steps=3, rollback_lr_factor=0.25, schedule="constant", warmup_steps=0, learning_rate=0.5
        )
        trainer.run()
        # Eight updates, three skips, and from the state of the sixth to the eighteenth.
        assert script.rates == [0.5] * 11 + [0.125] * 12
        for before, again in zip(script.sources[6:11], script.sources[11:16], strict=True):
            assert before[0].tolist() == again[0].tolist()
        state = trainer.state
        assert (state.updates, state.skipped, state.rollbacks, state.seconds) == (18, 3, 1, 23.0)
        assert script.evaluated_at == [6, 17, 23]
        assert "back to the state of step 6, with 0.25 of the learning rate" in logged[4]

    def test_right_after_a_state_rolls_back_to_the_one_before(self, make_trainer, script, logged):
        # The sixth update made weights that give nothing else, and they were saved.
        script.losses = dict.fromkeys((7, 8), math.nan)
        make_trainer(max_skipped_steps=2, save_every=3).run()
        assert logged[3].endswith("back to the state of step 3, with 0.5 of the learning rate")
        assert script.steps == 8 + 15

    def test_overflow_of_float16_does_not_count(self, make_trainer, script, logged):
        script.norms = dict.fromkeys(range(1, 14), math.inf)
        script.loss_scales = {number: 2.0 ** (15 - number) for number in range(1, 12)}
        trainer = make_trainer(max_skipped_steps=3)
        trainer.run()
        # Eleven while the scale falls to 16, two that it is not the cause of, and never three of these in a row.
        state = trainer.state
        assert (state.updates, state.overflows, state.skipped, state.rollbacks) == (5, 11, 2, 0)
        assert "loss scale 16,384" in logged[0]
        assert [line.partition(",")[0] for line in logged[:13]] == ["step 0 left out"] * 11 + ["step 0 skipped"] * 2

    def test_overflow_does_not_hide_trouble_before_it(self, make_trainer, script):
        script.loss_scales, script.norms = {2: 4.0}, {1: math.nan, 2: math.nan, 3: math.nan}
        trainer = make_trainer(max_skipped_steps=2)
        trainer.run()
        assert (trainer.state.skipped, trainer.state.overflows, trainer.state.rollbacks) == (2, 1, 1)

    # From the sixth on there is no update any more: that state is given up for the first of all.
    @pytest.mark.parametrize(
        ("rollbacks", "steps", "message"),
        [(2, 17, r"at step 0 \(epoch 0, batch 3\), after 2 .*learning_rate"), (0, 11, "at step 8 .* after 0")],
    )
    def test_without_end_ends_the_run(self, make_trainer, script, rollbacks, steps, message):
        script.losses = dict.fromkeys(range(9, 100), math.nan)
        with pytest.raises(Seq2SeqError, match=message):
            make_trainer(max_skipped_steps=3, max_rollbacks=rollbacks).run()
        assert script.steps == steps
        # No state of the time in which steps were skipped was written.
        assert [step for step, _ in script.saved_states] == [0, 6]

    def test_interrupt_after_a_skipped_step_does_not_save(self, make_trainer, script):
        script.losses = {8: math.nan}
        script.on_step = {8: press}
        with pytest.raises(KeyboardInterrupt):
            make_trainer().run()
        assert [step for step, _ in script.saved_states] == [0, 6]


class TestPlateau:
    # After every sixth step.
    SCORES = (5.0, 6.0, 6.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0)
    RATES = (0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1)
    SETTINGS = types.MappingProxyType(
        {"epochs": 9, "schedule": "plateau", "plateau_factor": 0.5, "learning_rate": 0.8, "warmup_steps": 0}
    )

    def test_lowers_the_rate(self, make_trainer, script, logged):
        script.scores = self.SCORES
        make_trainer(**self.SETTINGS).run()
        assert script.rates[::6] == pytest.approx(self.RATES)
        assert script.rates[5::6] == pytest.approx(script.rates[::6])
        found = [line.split(" of the learning rate")[0] for line in logged if "without improvement" in line]
        assert [line.split()[-1] for line in found] == ["0.5", "0.25", "0.125"]

    def test_of_a_resumed_run(self, make_trainer, resume, script):
        script.scores = self.SCORES
        script.on_step = {20: press}
        with pytest.raises(KeyboardInterrupt):
            make_trainer(**self.SETTINGS).run()
        resume(**self.SETTINGS).run()
        assert script.rates[::6] == pytest.approx(self.RATES)


class TestMean:
    @pytest.fixture(autouse=True)
    def moving(self, script):
        """Let the model hold the number of the step in every weight when it is evaluated."""
        script.weights_follow_steps = True

    # Evaluations after 6, 12, 18 and 24 steps, and then that of the mean.
    @pytest.mark.parametrize(("score", "kept"), [(1.5, True), (2.0, False), (9.0, False)])
    def test_of_the_best_is_kept_where_it_is_better(self, make_trainer, script, tmp_path, logged, score, kept):
        script.scores = (5.0, 2.0, 3.0, 4.0, score)
        trainer = make_trainer(epochs=4, average_checkpoints=2, monitor="loss")
        model = trainer.run()
        assert [weight for *_, weight in script.evaluated] == [6, 12, 18, 24, (12 + 18) / 2]
        state = trainer.state
        assert (state.best, state.best_model) == ((score, "model-15") if kept else (2.0, "model-12"))
        assert state.averaged == 2 * kept
        assert script.states[-1]["best_model"] == state.best_model
        assert "2 best evaluations" in logged[-1]
        assert logged[-1].endswith("  (best)") == kept
        # The weights of the last step are in the state, and in the model that `run` returns.
        assert {weight.flat[0] for weight in model.get_weights()} == {24}
        assert len(history(tmp_path)) == 4
        assert not (tmp_path / "run" / "snapshots").exists()
        trainer.run()
        assert len(script.evaluated) == 5

    @pytest.mark.parametrize("settings", [{"epochs": 1, "average_checkpoints": 3}, {"epochs": 1}])
    def test_of_one_evaluation_is_not_scored(self, make_trainer, script, settings):
        trainer = make_trainer(**settings)
        trainer.run()
        assert (script.evaluated_at, trainer.state.averaged) == ([6], 0)


class TestInterrupt:
    def test_saves_and_ends(self, make_trainer, script, logged):
        before = signal.getsignal(signal.SIGINT)
        script.on_step = {8: press}
        with pytest.raises(KeyboardInterrupt):
            make_trainer().run()
        assert signal.getsignal(signal.SIGINT) is before
        assert script.steps == 8
        step, state = script.saved_states[-1]
        assert (step, state["epoch"], state["batch"], state["updates"]) == (8, 1, 2, 8)
        assert not state["finished"]
        assert "--resume" in logged[-1]
        script.on_step = {11: press}
        with labelled("2/5 cell=lstm"), pytest.raises(KeyboardInterrupt):
            make_trainer().run()
        assert "the same command" in logged[-1]

    # In the middle of an epoch, where an evaluation is due, and at the very last step.
    @pytest.mark.parametrize("stop", [8, 12, 18])
    def test_resumed_as_if_nothing_had_been(self, make_trainer, resume, script, stop):
        script.scores = (5.0, 3.0, 4.0)
        script.on_step = {stop: press}
        settings = {"schedule": "cosine", "warmup_steps": 2}
        with pytest.raises(KeyboardInterrupt):
            make_trainer(**settings).run()
        script.on_step = {}
        resumed = resume(**settings)
        resumed.run()
        assert (script.steps, script.evaluated_at, script.saved_models) == (18, [6, 12, 18], [6, 12])
        rates, script.rates, script.evaluated = script.rates, [], []
        whole = make_trainer(**settings)
        whole.run()
        assert script.rates == rates
        clock = {"seconds": 0.0, "timed_seconds": 0.0, "timed_tokens": 0.0}
        assert dataclasses.asdict(resumed.state) | clock == dataclasses.asdict(whole.state) | clock

    def test_out_of_patience_leaves_nothing_to_do(self, make_trainer, resume, script, logged):
        script.scores = (3.0, 4.0, 5.0)
        script.on_step = {12: press}
        with pytest.raises(KeyboardInterrupt):
            make_trainer(patience=1).run()
        assert script.states[-1]["finished"]
        assert "--resume scores" in logged[-1]
        resume(patience=1).run()
        assert (script.steps, len(script.evaluated)) == (12, 2)

    def test_twice_ends_at_once(self, make_trainer, script):
        def press_twice():
            press()
            press()
            pytest.fail("the second Ctrl-C did not raise")

        script.on_step = {3: press_twice}
        with pytest.raises(KeyboardInterrupt):
            make_trainer().run()
        assert [step for step, _ in script.saved_states] == [0]

    def test_outside_the_main_thread(self, make_trainer):
        trainer = make_trainer(epochs=1)
        thread = threading.Thread(target=trainer.run)
        thread.start()
        thread.join()
        assert trainer.state.finished


def test_speed_of_the_steps_after_the_first_of_each_start(make_trainer, resume, script):
    # The first five steps of each start take a minute each, and an evaluation an hour.
    script.seconds_a_step = 60.0

    def evaluated():
        script.seconds += 3600.0
        script.seconds_a_step = 0.5

    def stop():
        press()
        script.seconds_a_step = 60.0

    script.on_step = {5: evaluated, 9: stop, 14: evaluated}
    stopped = make_trainer()
    assert stopped.state.target_tokens_per_second is None
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    # Four steps of ten tokens in half a second each.
    assert (stopped.state.timed_tokens, stopped.state.timed_seconds) == (40.0, 2.0)
    resumed = resume()
    resumed.run()
    assert (resumed.state.timed_tokens, resumed.state.timed_seconds) == (80.0, 4.0)
    assert resumed.state.target_tokens_per_second == 20.0


class TestCreateStep:
    @pytest.fixture
    def step(self, toy_config, toy_tokenizer):
        def make(workers=1, **training):
            settings = {f"training__{name}": value for name, value in training.items()}
            return create_step(toy_config(**settings), toy_tokenizer, workers)

        return make

    def test_settings_of_the_recipe(self, step):
        adam = step(clip_norm=0.5, ema=0.99, l2=1e-5, workers=3)
        assert type(adam.optimizer) is keras.optimizers.Adam
        assert (adam.clip_norm, adam.ema, adam.l2, adam.workers) == (0.5, 0.99, 1e-5, 3)
        adamw = step(optimizer="adamw", weight_decay=0.01)
        assert type(adamw.optimizer) is keras.optimizers.AdamW
        assert adamw.optimizer.weight_decay == 0.01

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_precision_of_the_recipe(self, step, precision):
        created = step(precision=precision)
        assert created.model.decoder.compute_dtype == created.model.encoder.compute_dtype == precision
        # The model that a run leaves is float32.
        assert created.averaged.decoder.compute_dtype == created.averaged.encoder.compute_dtype == "float32"


def test_describe(make_trainer, script):
    def gru(features, units):
        return 3 * units * (features + units + 2)

    first, second, third = make_trainer().describe().splitlines()
    count = keras.Model.count_params(script.model)
    # Both directions of the encoder, and the decoder, whose input is the embedding alone.
    recurrent = 2 * gru(features=16, units=16) + gru(features=16, units=32)
    assert first == f"{count:,} parameters, {recurrent:,} of them recurrent, 6 batches an epoch"
    assert "float32" in second
    assert "scan" in third
    script.workers = 3
    _, _, updates, parts, *_ = make_trainer(accumulate=2).describe().splitlines()
    assert "3 updates an epoch" in updates
    assert "3 parts" in parts
