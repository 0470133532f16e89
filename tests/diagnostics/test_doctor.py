"""The doctor on whole recipes of the toy language: a sound one, and planted faults."""

import dataclasses
import json
import math

import pytest
import tensorflow as tf

from seq2seq.diagnostics import doctor
from seq2seq.text.ids import END_ID
from seq2seq.training.data import Corpus, create_batches, create_tokenizer

MACHINE = [f"machine.{name}" for name in ("kernels", "precision", "parameters", "memory", "disk")]


@pytest.fixture
def recipe(tmp_path, toy_config, toy_pairs):
    """Write the toy corpus with some faults, and return its configuration."""

    def make(train=toy_pairs[:120], dev=toy_pairs[120:140], test=toy_pairs[140:], **changes):
        for name, pairs in {"train": train, "dev": dev, "test": test}.items():
            for side, texts in zip(("en", "eo"), zip(*pairs, strict=True), strict=True):
                (tmp_path / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        settings = {
            "data__folder": str(tmp_path), "data__source": "en", "data__target": "eo",
            "run__folder": str(tmp_path / "runs"), "run__name": "toy",
        }  # fmt: skip
        return toy_config(**settings | changes)

    return make


def diagnosed(config, timed=False):
    return {finding.name: finding for finding in doctor.diagnose(config, timed)}


def problems(found):
    return [name for name, finding in found.items() if finding.verdict == "problem"]


def test_a_sound_recipe(recipe, tmp_path, logged):
    config = recipe()
    found = list(doctor.diagnose(config, timed=True))
    assert {finding.verdict for finding in found} == {"ok"}
    names = [finding.name for finding in found]
    assert len(set(names)) == len(names)
    assert names[0] == "run.folder"
    assert names[-8:] == [*MACHINE, "training.steps", "training.loss", "training.minutes"]
    assert json.loads(json.dumps([dataclasses.asdict(finding) for finding in found], allow_nan=False))
    by_name = {finding.name: finding for finding in found}
    assert by_name["machine.memory"].numbers["measured"] is True
    assert by_name["machine.memory"].numbers["peak_mb"] > 100
    vocabulary = by_name["machine.parameters"].numbers["target_vocabulary"]
    assert by_name["training.loss"].numbers["loss"] == pytest.approx(math.log(vocabulary), rel=0.2)
    batches = by_name["training.steps"].numbers["batches"]
    minutes = by_name["training.minutes"].numbers
    assert minutes["minutes"] == pytest.approx(batches * minutes["seconds_per_batch"] / 60)
    assert logged[-1] == "taking a few steps ..."
    # Nothing is left but the cache, and it is the one that the run looks for.
    (cache,) = (tmp_path / "runs").iterdir()
    assert cache.name == ".cache"
    before = sorted(path.name for path in cache.iterdir())
    corpus = Corpus(config)
    create_batches(config, corpus, create_tokenizer(config, corpus))
    assert sorted(path.name for path in cache.iterdir()) == before


def test_without_timing(recipe):
    found = diagnosed(recipe(data__agreement=None))
    assert list(found)[-6:] == [*MACHINE, "training.steps"]
    assert found["machine.memory"].numbers["measured"] is False
    assert found["machine.kernels"].numbers["encoder.forward_0"]["kernel"] in ("scan", "cudnn")
    assert found["machine.parameters"].numbers["recurrent_parameters"] > 0


def test_bad_lines_stop_the_run_and_hide_nothing(recipe, toy_pairs):
    train = [*toy_pairs[:100], ("", "la kato"), ("the cat " * 100, "la kato")]
    found = diagnosed(recipe(train=train, data__max_source_tokens=100))
    assert problems(found) == ["train.pairs", "tokens.limits"]
    assert found["train.pairs"].numbers["skipped"] == {"blank source": 1}
    assert found["tokens.limits"].numbers["pairs"] == 1
    assert "machine.disk" in found


def test_sources_that_are_cut(recipe, toy_pairs):
    long, other = ("the cat " * 100, "la kato"), ("the dog " * 100, "la hundo")
    config = recipe(
        train=[*toy_pairs[:100], long, long], dev=[*toy_pairs[120:139], other], data__truncate="head_tail",
        data__max_source_tokens=50,
    )  # fmt: skip
    found = diagnosed(config)
    assert problems(found) == []
    assert found["tokens.limits"].numbers["pairs"] == 0
    counts = [found[f"tokens.{name}_cut"].numbers["count"] for name in ("train", "dev", "test")]
    assert counts == [2, 1, 0]
    assert found["tokens.train_cut"].numbers["tokens"] == 302


def test_bad_lines_that_are_skipped(recipe, toy_pairs):
    found = diagnosed(recipe(train=[*toy_pairs[:100], ("", "la kato")], data__on_bad_line="skip"))
    assert problems(found) == []
    assert found["train.pairs"].numbers["pairs"] == 100


def test_files_that_are_absent(recipe, tmp_path):
    config = recipe()
    (tmp_path / "dev.eo").unlink()
    found = diagnosed(config)
    assert problems(found) == ["data.files"]
    assert "dev.eo: no such file" in found["data.files"].text


def test_training_files_without_a_pair(recipe):
    found = diagnosed(recipe(train=[("", "")]))
    assert problems(found) == ["train.pairs"]
    assert "test.pairs" in found
    assert "tokens.tokenizer" not in found


def test_agreement_items(recipe, tmp_path):
    config = recipe(data__agreement="agreement.tsv")
    (tmp_path / "agreement.tsv").write_text("1\tthe cat runs\tla kato kuras\tkuras\tkuros\n", encoding="utf-8")
    assert diagnosed(config)["data.agreement"].numbers == {"items": 1}
    (tmp_path / "agreement.tsv").write_text("one\ttwo\n", encoding="utf-8")
    found = diagnosed(config)
    assert problems(found) == ["data.agreement"]


def test_held_out_pairs(recipe, toy_pairs):
    changes = {"data__dev": None, "data__dev_size": 30, "data__on_bad_line": "skip"}
    found = diagnosed(recipe(train=[*toy_pairs[:100], ("", "x")], **changes))
    assert (found["train.pairs"].numbers["pairs"], found["dev.pairs"].numbers["pairs"]) == (70, 30)
    # The bad line is told once.
    assert found["train.pairs"].numbers["skipped"] == {"blank source": 1}
    assert found["dev.pairs"].numbers["skipped"] == {}
    assert found["overlap.dev_pairs"].verdict == "ok"
    found = diagnosed(recipe(train=toy_pairs[:30], **changes))
    assert problems(found) == ["train.pairs", "dev.pairs"]
    assert "data.dev_size must be less than the number of pairs" in found["train.pairs"].text


def test_without_a_test_set(recipe):
    found = diagnosed(recipe(data__test=None))
    assert not [name for name in found if "test" in name]


def test_test_pairs_that_are_in_training(recipe, toy_pairs):
    found = diagnosed(recipe(test=toy_pairs[100:160]))
    assert problems(found) == ["overlap.test_pairs"]
    assert found["overlap.test_pairs"].numbers["count"] == 20


def test_a_vocabulary_that_the_corpus_cannot_give(recipe):
    found = diagnosed(recipe(tokenizer__kind="unigram", tokenizer__vocabulary_size=5_000))
    assert problems(found) == ["tokens.tokenizer"]
    assert "vocabulary_size must be <=" in found["tokens.tokenizer"].text


def test_limits_that_leave_nothing(recipe):
    found = diagnosed(recipe(data__max_target_tokens=1, data__on_bad_line="skip"))
    assert problems(found) == ["tokens.limits", "training.start"]
    assert "must have a good pair" in found["training.start"].text


def test_two_vocabularies(recipe):
    found = diagnosed(recipe(tokenizer__shared=False))
    numbers = found["tokens.tokenizer"].numbers
    assert found["tokens.tokenizer"].text == (
        f"word, {numbers['source']} source and {numbers['target']} target tokens, trained on the training pairs"
    )
    assert found["machine.parameters"].numbers["source_vocabulary"] == numbers["source"]


def test_a_folder_with_other_files(recipe, tmp_path):
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    (tmp_path / "runs" / "toy" / "thesis.tex").write_text("")
    found = diagnosed(recipe())
    assert problems(found) == ["run.folder"]
    assert "must be new or hold a run" in found["run.folder"].text


def test_a_kernel_that_cannot_run(recipe, monkeypatch):
    monkeypatch.setattr("seq2seq.layers.recurrent.gpu_is_available", lambda: False)
    found = diagnosed(recipe(model__implementation="cudnn"), timed=True)
    assert problems(found) == ["machine.kernels"]
    assert found["machine.memory"].numbers["measured"] is False
    assert "training.minutes" not in found


def test_a_decoder_that_runs_step_by_step(recipe):
    found = diagnosed(recipe(model__decoder__input_feeding=True))
    kernels = found["machine.kernels"]
    assert (kernels.verdict, kernels.numbers["decoder.recurrent_0"]["kernel"]) == ("warning", "raw")
    assert kernels.numbers["encoder.forward_0"]["kernel"] != "raw"


@pytest.mark.parametrize("available", [10**15, 10**7])
def test_memory(recipe, monkeypatch, available):
    """Where the estimate says that there is no room, no step is tried."""
    monkeypatch.setattr(doctor.machine, "available_memory", lambda: available)
    calls = []

    def dry_run(trainer, largest):
        calls.append(trainer)
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(doctor.machine, "dry_run", dry_run)
    found = diagnosed(recipe(), timed=True)
    assert problems(found) == ["machine.memory"]
    assert len(calls) == (available == 10**15)
    assert found["machine.memory"].numbers["measured"] is bool(calls)
    assert "training.minutes" not in found


def test_another_model_to_start_from(recipe, make_model, tmp_path, toy_tokenizer):
    from seq2seq.models.archive import save

    path = tmp_path / "start.keras"
    save(make_model(), path)
    found = diagnosed(recipe(training__init_from=str(path)))
    assert problems(found) == []
    assert found["tokens.tokenizer"].text == f"word, {toy_tokenizer.source.size} tokens, that of {path}"
    found = diagnosed(recipe(training__init_from=str(path), model__embedding_size=8))
    assert problems(found) == ["training.start"]
    assert "has the shape" in found["training.start"].text
    found = diagnosed(recipe(training__init_from=str(tmp_path / "absent.keras")))
    assert problems(found) == ["tokens.tokenizer"]
    assert toy_tokenizer.source.encode(["the cat"])[0][-1] == END_ID
