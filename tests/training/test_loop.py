"""The loop around the step: when it evaluates, what it keeps, when it stops. Steps and scores are made up."""

import dataclasses
import json
import math
import signal
import threading

import keras
import pytest

from seq2seq.errors import Seq2SeqError
from seq2seq.text import Batches, EncodedCorpus
from seq2seq.training import loop
from seq2seq.training.corpus import Texts
from seq2seq.training.step import StepResult

PAIRS = 12
"""Of four tokens each, two to a batch: six batches an epoch."""


class Script:
    """What the parts around the loop do, and what the loop did with them."""

    def __init__(self):
        self.losses = {}
        self.scores = []
        self.rates, self.saved_models, self.saved_states, self.evaluated, self.lines = [], [], [], [], []
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
        def __init__(self, model, averaged, optimizer, clip_norm, ema):
            self.model, self.averaged = model, averaged
            self.optimizer, self.clip_norm, self.ema = optimizer, clip_norm, ema

        def __call__(self, source_ids, target_ids, rate):
            script.rates.append(rate)
            script.seconds += script.seconds_a_step
            return StepResult(10.0 * script.losses.get(script.steps, 2.0), 10.0, 1.0)

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
        return dict.fromkeys(loop.SCORES, score) | {"signature": {}}, []

    monkeypatch.setattr(loop, "TrainingStep", Step)
    monkeypatch.setattr(loop, "Progress", Progress)
    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setattr(loop, "save", lambda model, path: script.saved_models.append(script.steps))
    monkeypatch.setattr(
        loop, "save_state", lambda folder, step, standing: script.saved_states.append((script.steps, standing))
    )
    monkeypatch.setattr(loop.time, "monotonic", lambda: script.seconds)
    return script


@pytest.fixture
def make_trainer(script, toy_config, toy_tokenizer, tmp_path):
    corpus = EncodedCorpus.from_lists([[5, 6, 7, 3]] * PAIRS, [[5, 6, 7, 3]] * PAIRS)
    (tmp_path / "run").mkdir()

    def make(**training):
        settings = {f"training__{name}": value for name, value in ({"epochs": 3} | training).items()}
        config = toy_config(run__folder=str(tmp_path), **settings)
        batches = Batches(corpus, batch_tokens=16, prefetch=0)
        return loop.Trainer(config, toy_tokenizer, batches, Texts(["the cat"] * 7, ["la kato"] * 7))

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
        assert {step for step, _ in script.saved_states} == set(steps)

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
            {"updates": updates, "seconds": float(updates)} | dict.fromkeys(loop.SCORES, score)
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
        assert all(f"dev/{name}".encode() in content for name in loop.SCORES)


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

    @pytest.mark.parametrize("loss", [math.nan, math.inf])
    def test_a_loss_that_is_no_number_is_told(self, make_trainer, script, loss):
        script.losses = {9: loss}
        message = rf"The loss of step 8 must be a number, but is {loss} instead\. Lower training\.learning_rate"
        with pytest.raises(Seq2SeqError, match=message):
            make_trainer().run()
        # What was saved is the state before.
        assert [step for step, _ in script.saved_states] == [6]


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
        resumed.standing = loop.Standing(**script.saved_states[-1][1])
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
        resumed.standing = loop.Standing(**script.saved_states[-1][1])
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
        assert script.saved_states == []

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
        resumed.standing = loop.Standing(**script.saved_states[-1][1])
        resumed.run()
        assert script.steps == 18
        assert (resumed.standing.timed_tokens, resumed.standing.timed_seconds) == (80.0, 4.0)
        assert resumed.standing.target_tokens_per_second == 20.0

    def test_of_too_few_steps_is_unknown(self):
        assert loop.Standing().target_tokens_per_second is None

    def test_of_a_state_from_before_it_was_measured_starts_at_nothing(self):
        old = {"epoch": 1, "batch": 2, "updates": 8, "seconds": 9.0, "best": None, "evaluated": 6,
               "evaluations_without_gain": 0, "finished": False}  # fmt: skip
        assert loop.Standing(**old).timed_tokens == 0


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
        step = make_trainer(clip_norm=0.5, ema=0.99).step
        assert type(step.optimizer) is keras.optimizers.Adam
        assert (step.clip_norm, step.ema) == (0.5, 0.99)
        step = make_trainer(optimizer="adamw", weight_decay=0.01).step
        assert type(step.optimizer) is keras.optimizers.AdamW
        assert step.optimizer.weight_decay == 0.01

    def test_computes_in_the_precision_of_the_recipe(self, make_trainer):
        step = make_trainer(precision="bfloat16").step
        assert step.model.decoder.compute_dtype == step.model.embedding.compute_dtype == "bfloat16"
        # The file that a run leaves is of whole numbers.
        assert step.averaged.decoder.compute_dtype == step.averaged.embedding.compute_dtype == "float32"


def gru_numbers(features, units):
    return 3 * units * (features + units + 2)


def test_describes_model_and_kernel(make_trainer, script):
    trainer = make_trainer()
    first, second = trainer.describe().splitlines()
    count = keras.Model.count_params(trainer.step.model)
    # Of the toy language's model: both directions of the encoder, and the decoder, whose input is the embedding alone.
    recurrent = 2 * gru_numbers(features=16, units=16) + gru_numbers(features=16, units=32)
    assert first == (f"{count:,} parameters, {recurrent:,} of them recurrent, computing in float32, 6 batches an epoch")
    assert second == "recurrent kernel: scan (TensorFlow sees no GPU)"
