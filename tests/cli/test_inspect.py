"""`seq2seq inspect`: the page, the numbers, and every mistake."""

import json

import pytest

from seq2seq.cli.main import main

SENTENCE = "the old cat sees the dog"
TARGET = "la kato maljuna vidas la hundo"


@pytest.fixture(scope="module")
def model(make_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.keras"
    make_model(decoding__max_length=5).save(path)
    return str(path)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(f"the dog sees\n\n{SENTENCE}\n")
    texts = ["the dog sees", "a king loves the cat", "the bird often", "the girl hears", "a red horse", "the wild man"]
    labelled = [f"{'two' if number % 2 else 'one'}\t1\t2\t{text}\n" for number, text in enumerate(texts)]
    (tmp_path / "labels.tsv").write_text("".join(labelled))
    (tmp_path / "one.tsv").write_text(labelled[0] + labelled[2])
    (tmp_path / "bad.tsv").write_text("one\t1\n")
    return tmp_path


def test_prints_the_translation_and_where_the_page_is(model, files, capsys):
    assert main(["inspect", model, SENTENCE]) == 0
    translation, path = capsys.readouterr().out.splitlines()
    page = (files / "inspect.html").read_text(encoding="utf-8")
    assert path == "inspect.html"
    assert f"<h1>“{SENTENCE}” in {model}</h1>" in page
    assert f">Translation: {translation}</a></h2>" in page


def test_json_is_one_object_and_nothing_else(model, files, capsys):
    assert main(["inspect", model, SENTENCE, "--target", TARGET, "--json"]) == 0
    out, _ = capsys.readouterr()
    numbers = json.loads(out)
    assert out.count("\n") == 1
    trace = numbers["trace"]
    assert (trace["source"], trace["target"]) == (SENTENCE, TARGET)
    assert len(trace["attention"]) == len(trace["log_probs"]) == 7
    assert {len(row) for row in trace["attention"]} == {7}
    assert len(numbers["half_lives"]["encoder.forward_0"]) == 16
    assert {len(row) for row in trace["layers"]["encoder.forward_0"]["values"]["update"]} == {16}
    assert not list(files.glob("*.html"))


def test_everything_at_once(model, files, capsys):
    arguments = ["--span", "old cat", "--around", "1", "--corpus", "corpus.txt", "--labels", "labels.tsv"]
    assert main(["inspect", model, SENTENCE, *arguments, "--target", TARGET, "--json", "--output", "page.html"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    page = (files / "page.html").read_text(encoding="utf-8")
    for findings in (numbers["span_units"], numbers["label_units"]):
        assert [layer["layer"] for layer in findings] == ["encoder.forward_0", "encoder.backward_0"]
    assert "Units that are on across “old cat” and off outside it" in page
    assert "Which layers know the label at every step?" in page
    # The sentence is the third line of the corpus, and has its own span.
    matches = [match for layer in numbers["span_units"] for match in layer["matches"]]
    assert (3, 1, 3) in {(match["line"], match["start"], match["stop"]) for match in matches}


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (["--corpus", "corpus.txt"], 2, "--corpus must come with --span"),
        (["--around", "1"], 2, "--around must come with --span"),
        (["--span", "cat", "--around", "-1"], 2, "--around must be 0 or more, got -1"),
        (["--span", "bird"], 1, f"The span must be a part of '{SENTENCE}' or of '{TARGET}'"),
        (["--span", "the"], 1, "The span must be in the sentence once"),
        (["--span", "cat", "--corpus", "nowhere"], 1, "nowhere: the file does not exist"),
        (["--labels", "nowhere"], 1, "nowhere: the file does not exist"),
        (["--labels", "bad.tsv"], 1, "bad.tsv:1: must have 4 or 7 tab-separated columns"),
        (["--labels", "one.tsv"], 1, "one.tsv: labels must be two or more"),
        (["--output", "nowhere/page.html"], 1, "nowhere/page.html: the page cannot be written"),
    ],
)
def test_mistakes(model, files, capsys, more, status, words):
    assert main(["inspect", model, SENTENCE, "--target", TARGET, *more]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert not list(files.glob("*.html"))


def test_no_model_and_no_sentence(model, files, capsys):
    assert main(["inspect", "nowhere.keras", SENTENCE]) == 1
    assert "nowhere.keras" in capsys.readouterr().err
    assert main(["inspect", model, " "]) == 1
    assert "source 1: must be a text" in capsys.readouterr().err
