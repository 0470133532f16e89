"""`seq2seq predict`: a line of labels for every line, and their probabilities."""

import json

import numpy as np
import pytest

from seq2seq.cli.main import main
from seq2seq.config.sections import Config
from seq2seq.models.archive import save
from seq2seq.models.build import build_model
from seq2seq.text.tokenizer import LabelVocabulary, SubwordVocabulary, Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    pieces = train_tokenizer(["a cat near dogs"], [], kind="char", vocabulary_size=30).models["joint.model"]
    paths = {}
    for task in ("classify", "tag"):
        plain = {"task": task, "model": {"embedding_size": 4, "context": "mean", "encoder": {"units": 3}}}
        model = build_model(
            Config.from_dict(plain),
            Tokenizer(SubwordVocabulary(pieces, task == "tag"), LabelVocabulary(["one", "two"], task == "tag")),
        )
        draw = np.random.default_rng(1)
        model.set_weights([draw.normal(size=weight.shape) for weight in model.get_weights()])
        paths[task] = (str(save(model, tmp_path_factory.mktemp(task) / "model.keras")), model)
    return paths


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_every_line_has_its_answer(paths, task, tmp_path, capsys):
    path, model = paths[task]
    file = tmp_path / "in.txt"
    file.write_bytes(b"a cat\n\nnear a dog\n\xff\n")
    assert main(["predict", path, str(file), "--window", "2"]) == 0
    out, err = capsys.readouterr()
    cat, dog = model.predict_labels(["a cat", "near a dog"])

    def shown(found):
        return f"{found.text}\t{' '.join(f'{row.max():.4f}' for row in found.probabilities)}"

    assert out == f"{shown(cat)}\n\n{shown(dog)}\n\n"
    assert f"{file}:4: must be UTF-8" in err
    assert err.endswith(f"4 lines: 1 blank ({file}:2); 1 not UTF-8 ({file}:4)\n")


def test_json_lines(paths, tmp_path, capsys):
    path, model = paths["tag"]
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"source": "a cat", "id": 7}\n{"text": "a"}\n')
    assert main(["predict", path, str(file), "--format", "jsonl", "--output", str(output)]) == 0
    first, second = map(json.loads, output.read_text().splitlines())
    (found,) = model.predict_labels(["a cat"])
    assert (first["id"], first["labels"]) == (7, found.labels)
    assert first["probabilities"][1] == pytest.approx(
        dict(zip(["one", "two"], found.probabilities[1], strict=True)), abs=1e-6
    )
    assert '"source" must be a string' in second["problem"]
    assert "labels" not in second


def test_evaluate_and_score(paths, tmp_path, capsys):
    path, model = paths["tag"]
    source, target = tmp_path / "a.words", tmp_path / "a.tags"
    source.write_text("a cat\nnear dogs a\n")
    target.write_text("one two\ntwo two one\n")
    flags = ["--source", str(source), "--target", str(target)]
    assert main(["evaluate", path, *flags, "--json", "--output", str(tmp_path / "given")]) == 0
    found = json.loads(capsys.readouterr().out)
    given = model.answers(["a cat", "near dogs a"])
    assert (tmp_path / "given").read_text().splitlines() == given
    right = sum(a == b for a, b in zip(" ".join(given).split(), ["one", "two", "two", "two", "one"], strict=True))
    assert found["accuracy"] == pytest.approx(20 * right)
    assert found["confidence"]["macro_f1"]["margin"] >= 0
    assert sum(map(sum, (row.values() for row in found["confusion"].values()))) == 5
    assert main(["evaluate", path, *flags, "--against", str(tmp_path / "given")]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["score", path, *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lowercase"], "--lowercase must be left out for a model that gives labels."),
        (["--beam-size", "3"], "--beam-size must be left out for a model that gives labels."),
        (["--significance", "randomization"], "--significance must be left out for a model that gives labels"),
    ],
)
def test_what_labels_have_not(paths, arguments, message, tmp_path, capsys):
    (tmp_path / "a").write_text("one\n")
    flags = ["--source", str(tmp_path / "a"), "--target", str(tmp_path / "a")]
    assert main(["evaluate", paths["classify"][0], *flags, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_another_shape(paths, capsys):
    assert main(["translate", paths["tag"][0]]) == 1
    assert "must be a Seq2Seq, got a SequenceTagger. Its task is tag" in capsys.readouterr().err


def test_window(paths, capsys):
    assert main(["predict", paths["tag"][0], "--window", "0"]) == 2
    assert "--window must be at least 1, got 0." in capsys.readouterr().err
