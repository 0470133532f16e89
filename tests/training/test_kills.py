"""Runs that are killed, at every moment that leaves something on the disk and at random ones, and resumed.

Every number must be that of the run that was never killed.
"""

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from seq2seq import files
from seq2seq.text.batching import Batches
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.training import checkpoints
from seq2seq.training import trainer as loop
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.data import Texts
from seq2seq.training.step import create_step
from tests.conftest import toy_sentences
from tests.training.conftest import write_corpus

ROOT = pathlib.Path(__file__).parents[2]
CLOCK = ("seconds", "timed_seconds", "timed_tokens", "training_minutes", "target_tokens_per_second")


def without_clock(entry: dict) -> dict:
    return {name: value for name, value in entry.items() if name not in CLOCK}


def left_by(folder: pathlib.Path) -> dict:
    """Collect what must not depend on kills: numbers, counters, history, best model, and its scores."""
    state = Checkpoints(folder).states()[-1]
    with np.load(state) as stored:
        progress = without_clock(json.loads(str(stored["progress"])))
        digests = {name: hashlib.sha256(stored[name]).hexdigest() for name in stored.files if name != "progress"}
    # Its name holds a checksum of the file, and so of the time in it.
    assert (folder / "state" / progress.pop("best_model")).read_bytes() == (folder / "model.keras").read_bytes()
    with zipfile.ZipFile(folder / "model.keras") as archive:
        weights = hashlib.sha256(archive.read("model.weights.h5")).hexdigest()
    history = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()
    scores = folder / "scores.json"
    return digests | {
        "progress": progress,
        "best model": weights,
        "history": [without_clock(json.loads(line)) for line in history],
        "scores": without_clock(json.loads(scores.read_text(encoding="utf-8"))) if scores.exists() else None,
    }


class Killed(BaseException):
    """Nothing catches it, and what has been written stays as it is."""


class Killer:
    """Counts the moments of a run that a kill could fall between, and kills at one of them."""

    def __init__(self, monkeypatch):
        self.moments: list[str] = []
        self.kill_at: int | None = None
        self.is_dead = False
        replace, fsync, savez, rmtree = pathlib.Path.replace, os.fsync, np.savez, shutil.rmtree
        advance, add_to_history = loop.ProgressBar.advance, loop.add_to_history

        def half(write):
            """Leave half of a file, as a kill in the middle of writing does."""

            def before_dying(path, *arguments, **options):
                write(path, *arguments, **options)
                path.write_bytes(path.read_bytes()[:-20])

            return before_dying

        def clean_up(*arguments, **options):
            if not self.is_dead:
                rmtree(*arguments, **options)

        def moment(name, function, before_dying=lambda *arguments, **options: None):
            def noted(*arguments, **options):
                self.moments.append(name)
                if len(self.moments) == self.kill_at:
                    before_dying(*arguments, **options)
                    self.is_dead = True
                    raise Killed(name)
                return function(*arguments, **options)

            return noted

        # The dead leave their temporary files.
        monkeypatch.setattr(files.shutil, "rmtree", clean_up)
        monkeypatch.setattr(pathlib.Path, "replace", moment("replace", replace))
        monkeypatch.setattr(os, "fsync", moment("fsync", fsync))
        monkeypatch.setattr(checkpoints.np, "savez", moment("savez", savez, half(savez)))
        monkeypatch.setattr(loop, "add_to_history", moment("history", add_to_history, half(add_to_history)))
        monkeypatch.setattr(loop.ProgressBar, "advance", moment("step", advance))


class TestEveryMoment:
    @pytest.fixture(scope="class")
    @staticmethod
    def trainer(toy_config, toy_tokenizer, toy_pairs, tmp_path_factory):
        """Make one trainer for all runs, which resume from the state they find: compiling takes longer than they do."""
        sources, targets = zip(*toy_pairs[:60], strict=True)
        corpus = EncodedCorpus.from_lists(toy_tokenizer.source.encode(sources), toy_tokenizer.target.encode(targets))
        training = {"epochs": 2, "ema": 0.9, "accumulate": 2, "save_every": 3, "batch_tokens": 128}
        config = toy_config(
            run__folder=str(tmp_path_factory.mktemp("runs")),
            model__embedding_dropout=0.3,
            **{f"training__{name}": value for name, value in training.items()},
        )
        dev = Texts(list(sources[:4]), list(targets[:4]))
        batches = Batches(corpus, batch_tokens=128, prefetch=0)
        trainer = loop.Trainer(config, create_step(config, toy_tokenizer), batches, dev)
        trainer._save()
        shutil.copytree(trainer.folder, trainer.folder.with_name("start"))
        return trainer

    @staticmethod
    def begin(trainer):
        shutil.rmtree(trainer.folder)
        shutil.copytree(trainer.folder.with_name("start"), trainer.folder)
        trainer.resume()

    @pytest.fixture
    def whole(self, trainer, monkeypatch):
        """Return a killer, and the moments and the result of a run that it did not kill."""
        killer = Killer(monkeypatch)
        self.begin(trainer)
        killer.moments.clear()
        trainer.run()
        moments, right = list(killer.moments), left_by(trainer.folder)
        assert set(moments) == {"replace", "fsync", "savez", "history", "step"}
        assert len(right["history"]) == 2
        assert right["progress"]["updates"] == moments.count("step") > 6
        self.begin(trainer)
        return killer, moments, right

    def live(self, trainer, killer, moments):
        """One life of so many moments; returns whether the run ended before it did."""
        killer.kill_at, killer.is_dead = None, False
        trainer.state = loop.TrainerState()
        trainer.resume()
        killer.moments.clear()
        killer.kill_at = moments
        try:
            trainer.run()
        except Killed:
            return False
        finally:
            killer.kill_at, killer.is_dead = None, False
        return True

    def test_of_one_run_after_another_leaves_the_same(self, trainer, whole):
        """Kill a run at its first moment, at the second after that, at the third after that, and so on to the end."""
        killer, moments, right = whole
        killed_at = set()
        for first in (1, 3, 5, 7, 9, moments.index("history") + 1):
            self.begin(trainer)
            life = first
            while not self.live(trainer, killer, life):
                killed_at.add((trainer.state.updates, killer.moments[-1]))
                life += 1
            assert left_by(trainer.folder) == right, f"first life of {first} moments"
        assert {name for _, name in killed_at} == set(moments)
        assert len(killed_at) >= 10

    @pytest.mark.slow
    def test_alone_leaves_the_same(self, trainer, whole):
        killer, moments, right = whole
        for number, name in enumerate(moments, start=1):
            self.begin(trainer)
            assert not self.live(trainer, killer, number)
            assert self.live(trainer, killer, 10_000)
            assert left_by(trainer.folder) == right, f"killed at moment {number}: {name}"

    def test_the_newest_state_broken_later_leaves_the_same(self, trainer):
        self.begin(trainer)
        trainer.run()
        right = left_by(trainer.folder)
        newest = trainer.checkpoints.states()[-1]
        newest.write_bytes(newest.read_bytes()[:-1])
        trainer.resume()
        assert not trainer.state.finished
        trainer.run()
        assert left_by(trainer.folder) == right
        assert dataclasses.asdict(trainer.state)["finished"]


RECIPE = """\
data: {source: en, target: eo, test: null}
tokenizer: {kind: word, vocabulary_size: 100}
model: {embedding_size: 16, encoder: {units: 16}, decoder: {units: 32}, embedding_dropout: 0.2}
training: {precision: float32, batch_tokens: 512, epochs: 2, ema: 0.9, save_every: 4, dev_sentences: 5}
"""
# Runs a recipe, and dies in the middle of a step.
DYING = """\
import os, signal, sys
from seq2seq.training import trainer as loop
from seq2seq.training.run import train
from seq2seq.config.flags import parse_train_arguments
done = []
def advance(bar, count, *status):
    done.extend(status[1:])
    if len(done) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
loop.ProgressBar.advance = advance
train(*parse_train_arguments(sys.argv[2:]))
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}


def train_in_a_process(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_process_that_dies_goes_on_in_another(tmp_path):
    pairs = toy_sentences(200)
    recipe = write_corpus(tmp_path, RECIPE, train=pairs, dev=pairs[:10])
    arguments = [str(recipe), "--run.folder", str(tmp_path / "runs"), "--run.name"]
    whole = train_in_a_process(*arguments, "whole")
    # A step after the second epoch has begun, and two after a state.
    dying = subprocess.run([sys.executable, "-c", DYING, "10", *arguments, "killed"], env=ENVIRONMENT, check=False)
    assert dying.returncode == -signal.SIGKILL
    assert Checkpoints(tmp_path / "runs" / "killed").states()
    resumed = train_in_a_process(*arguments, "killed", "--resume")
    for process in (whole, resumed):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert left_by(tmp_path / "runs" / "killed") == left_by(tmp_path / "runs" / "whole")


def computed(process: subprocess.Popen) -> float:
    """Seconds of a processor that a process has used so far, which other work on the machine does not change."""
    fields = pathlib.Path("/proc", str(process.pid), "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def live(folder: pathlib.Path, arguments: list[str], limit: float = math.inf) -> bool:
    """One life of a run, of so many seconds of a processor; returns whether the run ended before it did."""
    # Before the first state stands there is nothing to resume.
    resume = ["--resume"] if Checkpoints(folder).states() else []
    process = train_in_a_process(*arguments, "--run.folder", str(folder.parent), "--run.name", folder.name, *resume)
    while process.poll() is None and computed(process) < limit:
        time.sleep(0.01)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode == 0


def saved_updates(folder: pathlib.Path) -> int:
    """How many updates the newest whole state of a run has seen."""
    states = Checkpoints(folder).states()
    if not states:
        return 0
    with np.load(states[-1]) as stored:
        return json.loads(str(stored["progress"]))["updates"]


@pytest.mark.slow
@pytest.mark.real_data
def test_twenty_kills_at_random_moments_on_multi30k(tmp_path):
    """Kill four small runs of the recipe five times each, anywhere from the first import to the scores."""
    root = os.environ.get("SEQ2SEQ_DATA")
    if root is None or not pathlib.Path(root, "multi30k").is_dir():
        pytest.skip("SEQ2SEQ_DATA names no folder with multi30k")
    for name, count in {"train": 600, "dev": 20, "test_2016_flickr": 10}.items():
        for side in ("en", "de"):
            lines = pathlib.Path(root, "multi30k", f"{name}.{side}").read_bytes().splitlines(keepends=True)
            (tmp_path / f"{name}.{side}").write_bytes(b"".join(lines[:count]))
    arguments = [
        *(str(ROOT / "data" / "multi30k" / "recipe.yaml"), "--data.folder", str(tmp_path)),
        *("--tokenizer.vocabulary-size", "500", "--training.sampling-alpha", "0.2", "--model.embedding-size", "32"),
        *("--model.encoder.units", "32", "--model.decoder.units", "64", "--training.batch-tokens", "1024"),
        *("--training.warmup-steps", "20", "--training.epochs", "3", "--training.evaluate-every", "0.5"),
        *("--training.save-every", "3", "--training.average-checkpoints", "2"),
    ]
    whole = tmp_path / "whole" / "run"
    before = os.times()
    assert live(whole, arguments)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    right, draw = left_by(whole), random.Random(0)
    for number in range(4):
        folder = tmp_path / f"killed-{number}" / "run"
        kills = 0
        while kills < 5:
            # Every life starts, compiles and scores, which takes two thirds of the whole.
            left = 1 - saved_updates(folder) / right["progress"]["updates"]
            limit = draw.uniform(0, seconds * (2 + left) / 3)
            if not live(folder, arguments, limit):
                kills += 1
                print(f"run {number}, kill {kills} after {limit:.1f} of {seconds:.1f} seconds", flush=True)
        assert live(folder, arguments)
        assert left_by(folder) == right, f"run {number}"
