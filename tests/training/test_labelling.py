"""Runs that end in labels: learning, scores, exact resume, and mistakes with file and line."""

import json
import pathlib
import re

import numpy as np
import pytest

import seq2seq
from seq2seq.config.flags import load_config
from seq2seq.diagnostics.doctor import diagnose, labels_finding
from seq2seq.errors import ConfigError, DataError
from seq2seq.training.run import train
from tests.training.test_run import state_of, watch_steps

PARTS = {"cat": "N", "cats": "N", "dog": "N", "dogs": "N", "the": "D", "near": "P", "saw": "V"}
RECIPE = """\
task: {task}
data: {{format: tsv, source: 1, target: 2, agreement: agreement.tsv}}
tokenizer: {{kind: bpe, vocabulary_size: 34}}
model: {{embedding_size: 12, context: mean, encoder: {{units: 8, bidirectional: false}}, embedding_dropout: 0.1}}
training: {{epochs: 15, batch_tokens: 128, learning_rate: 0.05, warmup_steps: 5, precision: float32, monitor: accuracy}}
"""


def line(draw, task):
    nouns = draw.choice(["cat", "cats", "dog", "dogs"], 1 + draw.integers(3))
    words = " ".join(f"the {noun} near" for noun in nouns).removesuffix(" near")
    if task == "tag":
        return f"{words}\t{' '.join(PARTS[word] for word in words.split())}"
    return f"{words}\t{'two words' if len(nouns) > 1 else 'one'}"


@pytest.fixture
def make(tmp_path):
    def make(task, *flags, **files):
        draw = np.random.default_rng(0)
        for name, count in (("train", 60), ("dev", 10), ("test", 20)):
            lines = [line(draw, task) for _ in range(count)]
            (tmp_path / f"{name}.tsv").write_text("".join(f"{text}\n" for text in files.get(name, lines)))
        (tmp_path / "agreement.tsv").write_text("0\tthe cat\tone\tone\ttwo\n1\tthe cat near the dogs\ttwo\ttwo\tone\n")
        (tmp_path / "recipe.yaml").write_text(RECIPE.format(task=task))
        others = [] if task == "classify" else ["--data.agreement", "null"]
        return load_config(tmp_path / "recipe.yaml", ["--run.folder", str(tmp_path / "runs"), *others, *flags])

    return make


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_learns_and_goes_on_bit_by_bit(make, task, monkeypatch):
    config = make(task)
    losses = watch_steps(monkeypatch)
    whole = train(config)
    expected = state_of(whole.folder)
    assert whole.scores["test"]["accuracy"] == whole.scores["test"]["macro_f1"] == 100
    assert whole.scores["test"]["by_length"][0]["accuracy"] == 100
    assert sum(map(sum, (row.values() for row in whole.scores["test"]["confusion"].values()))) >= 20
    if task == "classify":
        assert whole.scores["agreement"] == {"0": 100.0, "1": 100.0}
        assert whole.samples[0][1] in ("one", "two words")
    assert seq2seq.load(whole.model_path).task == task
    history = json.loads((whole.folder / "history.jsonl").read_text().splitlines()[-1])
    assert {"loss", "perplexity", "accuracy", "macro_f1"} < history.keys()
    watch_steps(monkeypatch, stop=len(losses) // 2)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    resumed = train(config, resume=True)
    for name, numbers in state_of(resumed.folder).items():
        np.testing.assert_array_equal(numbers, expected[name])


@pytest.mark.parametrize(
    ("task", "files", "message"),
    [
        ("classify", {"test": ["the cat\tone", "the dog\tthree"]}, r"test\.tsv:2: the label must be one of"),
        ("tag", {"train": ["the cat\tD N", "the dog\tD N", "the cat\tD"]}, r"train\.tsv:3: .* for each of 2 words"),
        ("tag", {"dev": ["the cat\tD X"]}, r"dev\.tsv:1: the label must be .*, got 'X'"),
        ("classify", dict.fromkeys(("train", "dev", "test"), ["the cat\tone"] * 3), "labels must be at least two"),
    ],
)
def test_files_that_cannot_be_used(make, task, files, message):
    with pytest.raises(DataError, match=message):
        train(make(task, **files))


def test_held_out_pairs_may_have_a_label_of_their_own(make):
    rows = [f"the {noun} near the dogs\tlabel {number}" for number, noun in enumerate(["cat", "dog", "cats", "dogs"])]
    config = make("classify", "--data.dev", "null", "--data.dev_size", "2", "--data.test", "null",
                  "--data.agreement", "null", "--training.epochs", "1", train=rows)  # fmt: skip
    assert set(train(config).model.labels) == {f"label {number}" for number in range(4)}


def test_doctor_knows_labels(make):
    findings = {finding.name: finding for finding in diagnose(make("tag"), timed=True)}
    # So small a language has all its sentences in training.
    problems = [name for name, finding in findings.items() if finding.verdict == "problem" and "overlap" not in name]
    assert problems == []
    assert re.match(r"3 labels: [DNP] \d+, [DNP] \d+, [DNP] \d+$", findings["data.labels"].text)
    assert "34 source tokens and 3 labels" in findings["tokens.tokenizer"].text
    assert "a uniform guess has 1.10" in findings["training.loss"].text
    rare = labels_finding({"N": 90, "X": 3, "Y": 1})
    assert rare.verdict == "warning"
    assert "data.target" in rare.text
    bad = {finding.name: finding.verdict for finding in diagnose(make("tag", test=["the cat\tD X"]), timed=False)}
    assert bad["test.pairs"] == "problem"


def test_starts_from_a_model_of_its_own_task(make, tmp_path):
    path = train(make("classify", "--training.epochs", "1")).model_path
    kept = pathlib.Path(path).rename(tmp_path / "kept.keras")
    again = make("classify", "--training.init_from", str(kept), "--training.epochs", "1")
    assert train(again).scores["updates"] > 0
    with pytest.raises(ConfigError, match=r"must start from a model of its own task, tag, got one of classify"):
        train(make("tag", "--training.init_from", str(kept)))
