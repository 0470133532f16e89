"""The three verbs one after the other, on a corpus of a few lines, with nothing in anyone's place."""

import contextlib
import io
import json
import pathlib

import pytest

from seq2seq.cli.main import main

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = """
data:
  source: en
  target: fr
  test: dev
tokenizer:
  kind: word
  vocabulary_size: 40
model:
  embedding_size: 16
  encoder: {units: 8}
  decoder: {units: 16}
training:
  epochs: 1
  batch_tokens: 64
  warmup_steps: 2
decoding:
  beam_size: 2
  max_length: 6
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    nouns, verbs = {"cat": "chat", "dog": "chien", "cock": "coq"}, {"eats": "mange", "sleeps": "dort", "sees": "voit"}
    pairs = [(f"the {n} {v}", f"le {nouns[n]} {verbs[v]}") for n in nouns for v in verbs] * 3
    for name, part in {"train": pairs, "dev": pairs[:4]}.items():
        (folder / f"{name}.en").write_text("".join(f"{source}\n" for source, _ in part), encoding="utf-8")
        (folder / f"{name}.fr").write_text("".join(f"{target}\n" for _, target in part), encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(corpus):
    """Folder, standard output and standard error of a run."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(
            ["train", str(corpus / "recipe.yaml"), "--run.folder", str(corpus / "runs"), "--run.name", "first"]
        )
    assert status == 0
    return corpus / "runs/first", out.getvalue(), err.getvalue()


@pytest.fixture
def model(run):
    return str(run[0] / "model.keras")


def test_train_says_where_the_model_is_and_how_it_scores(run):
    folder, out, err = run
    assert (folder / "model.keras").is_file()
    assert out.endswith(f"model: {folder}/model.keras\n")
    assert "source     the cat eats\n" in out
    scores = json.loads((folder / "scores.json").read_text())
    assert f"bleu: {scores['test']['bleu']:.2f}" in out
    assert "epoch" in err


def test_translate_and_evaluate_agree(corpus, model, capsys):
    assert main(["translate", model, str(corpus / "dev.en")]) == 0
    translations = capsys.readouterr().out.splitlines()
    assert len(translations) == 4
    assert (
        main(["evaluate", model, "--source", str(corpus / "dev.en"), "--target", str(corpus / "dev.fr"), "--json"]) == 0
    )
    scores = json.loads(capsys.readouterr().out)
    right = (corpus / "dev.fr").read_text(encoding="utf-8").splitlines()
    equal = sum(found == wanted for found, wanted in zip(translations, right, strict=True))
    assert scores["exact_match"] == pytest.approx(100 * equal / 4)
    assert scores["sentences"] == 4
    assert scores["perplexity"] > 1
    assert set(scores) >= {"bleu", "chrf", "signature", "by_length"}


def test_order_blank_lines_and_windows_change_nothing(corpus, model, tmp_path, capsys):
    sources = ["the dog sleeps", "", "the cat sees", "the cock eats"]
    path = tmp_path / "in.txt"
    path.write_text("".join(f"{source}\n" for source in sources))
    outputs = []
    for arguments in ([], ["--window", "1"]):
        assert main(["translate", model, str(path), *arguments]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].split("\n")[1] == ""
    assert outputs[0].count("\n") == 4
    path.write_text("".join(f"{source}\n" for source in reversed(sources)))
    assert main(["translate", model, str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == outputs[0].splitlines()[::-1]


def test_a_recipe_without_its_data_says_where_to_get_it(corpus, capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("data:", "data:\n  origin: Ask the cat."))
    assert main(["train", str(recipe)]) == 1
    assert capsys.readouterr().err.endswith("Ask the cat.\n")


@pytest.mark.parametrize("name", ["multi30k", "scan", "reinflection-en"])
def test_a_shipped_recipe_without_its_data_says_where_to_get_it(name, capsys):
    assert main(["train", str(ROOT / f"data/{name}/recipe.yaml")]) == 1
    message = capsys.readouterr().err
    assert "Set data.folder to where the files are." in message
    assert "https://github.com/" in message
    assert message.count("\n") == 1
