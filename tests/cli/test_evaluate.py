"""Scores of a test set: the JSON object, the lines for people, and what is refused before a model is read."""

import json
import sys
import types

import pytest
import sacrebleu

from seq2seq.cli.main import main
from seq2seq.training import bleu_by_length, evaluate_agreement

SOURCES = ["the cat is full today", "a dog", "the cats aren't full"]
REFERENCES = ["THE CAT IS FULL TODAY", "A CAT", "THE CATS AREN'T FULL"]
TOKENIZED = ["the cat is full today", "a cat", "the cats aren &apos;t full"]


@pytest.fixture
def files(tmp_path, monkeypatch, model):
    def score(translator, sources, references, **options):
        hypotheses = translator.translate(sources, **options)
        return {"bleu": 50.0, "perplexity": 2.5, "sentences": len(references), "signature": {"bleu": "x"}}, hypotheses

    training = types.SimpleNamespace(
        evaluate=score, evaluate_agreement=evaluate_agreement, bleu_by_length=bleu_by_length
    )
    monkeypatch.setitem(sys.modules, "seq2seq.training", training)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.en").write_text("\n".join(SOURCES) + "\n")
    (tmp_path / "test.xx").write_text("\n".join(REFERENCES) + "\n")
    (tmp_path / "tok.xx").write_text("\n".join(TOKENIZED) + "\n")
    (tmp_path / "short.xx").write_text("A\n")
    items = ["0\tthe cat is full\tthe cat is full\tIS\tARE", "2\tthe cats is full\tthe cats are full\tARE\tIS"]
    (tmp_path / "agreement.tsv").write_text("\n".join(items) + "\n")
    return ["evaluate", "model.keras", "--source", "test.en", "--target", "test.xx"]


def test_json_is_one_object_and_nothing_else(files, capsys):
    assert main([*files, "--json"]) == 0
    out, err = capsys.readouterr()
    scores = json.loads(out)
    assert (out.count("\n"), err) == (1, "")
    assert scores["perplexity"] == 2.5
    assert scores["sentences"] == 3


def test_bleu_by_source_length(files, capsys):
    assert main([*files, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["by_length"]
    expected = sacrebleu.corpus_bleu([source.upper() for source in SOURCES], [REFERENCES]).score
    assert [(row["shortest"], row["longest"], row["sentences"]) for row in rows] == [(0, 5, 3)]
    assert rows[0]["bleu"] == pytest.approx(expected)


def test_agreement_by_distractors(files, capsys):
    assert main([*files, "--json", "--agreement", "agreement.tsv"]) == 0
    assert json.loads(capsys.readouterr().out)["agreement"] == {"0": 100.0, "2": 0.0}


def test_bleu_of_papers(files, capsys):
    assert main([*files, "--json", "--lowercase-tokenized", "tok.xx", "--language", "en"]) == 0
    scores = json.loads(capsys.readouterr().out)
    hypotheses = [line.replace("a cat", "a dog") for line in TOKENIZED]
    expected = sacrebleu.corpus_bleu(hypotheses, [TOKENIZED], tokenize="none", force=True).score
    assert scores["lowercase_tokenized_bleu"] == pytest.approx(expected)
    assert "tok:none" in scores["signature"]["lowercase_tokenized_bleu"]


def test_lines_for_people(files, capsys):
    assert main(files) == 0
    assert capsys.readouterr().out.startswith("bleu: 50.00\nperplexity: 2.50\nsentences: 3\nsignature:\n  bleu: x\n")


def test_options_reach_the_search(files, model):
    assert main([*files, "--beam-size", "2", "--agreement", "agreement.tsv"]) == 0
    assert [options for _, options in model.calls] == [{"beam_size": 2}, {"beam_size": 2}]


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (["--target", "short.xx"], 1, "short.xx: must have as many lines as test.en (3), but has 1 instead."),
        (["--lowercase-tokenized", "short.xx", "--language", "en"], 1, "short.xx: must have as many lines as test.en"),
        (["--lowercase-tokenized", "tok.xx"], 2, "--lowercase-tokenized and --language must be given together"),
        (["--source", "nowhere"], 1, "nowhere: the file does not exist."),
        (["--agreement", "nowhere"], 1, "nowhere"),
        (["--agreement", "test.en"], 1, "test.en:1: "),
        (["--beam-size", "0"], 2, "decoding.beam_size must be at least 1, but is 0 instead."),
    ],
)
def test_mistakes(files, capsys, more, status, words):
    # A flag that is given twice is refused, so what is to be wrong takes the place of what is right.
    place = files.index(more[0]) if more[0] in files else len(files)
    assert main([*files[:place], *more, *files[place + 2 :]]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
