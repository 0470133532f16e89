"""Scores of a test set: the JSON object, the table for people, and what is refused before a model is read."""

import json
import math
import sys
import types

import pytest
import sacrebleu

import seq2seq.training.evaluation  # noqa: F401 - before a fake takes the place of the models that it imports
from seq2seq.cli.main import main
from seq2seq.metrics.summaries import summary_scores

SOURCES = ["the cat is full today", "a dog", "the cats aren't full"]
REFERENCES = ["THE CAT IS FULL TODAY", "A CAT", "THE CATS AREN'T FULL"]
TRANSLATIONS = [source.upper() for source in SOURCES]
TOKENIZED = ["the cat is full today", "a cat", "the cats aren &apos;t full"]


@pytest.fixture
def files(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test.en").write_text("\n".join(SOURCES) + "\n")
    (tmp_path / "test.xx").write_text("\n".join(REFERENCES) + "\n")
    (tmp_path / "tok.xx").write_text("\n".join(TOKENIZED) + "\n")
    (tmp_path / "short.xx").write_text("A\n")
    (tmp_path / "other.xx").write_text("\n".join(["X", *REFERENCES[1:]]) + "\n")
    items = ["0\tthe cat is full\tthe cat is full\tIS\tARE", "2\tthe cats is full\tthe cats are full\tARE\tIS"]
    (tmp_path / "agreement.tsv").write_text("\n".join(items) + "\n")
    return ["evaluate", "model.keras", "--source", "test.en", "--target", "test.xx"]


def test_json_is_one_object_and_nothing_else(files, capsys):
    assert main([*files, "--json"]) == 0
    out, err = capsys.readouterr()
    scores = json.loads(out)
    assert (out.count("\n"), err) == (1, "")
    costs = sum(len(word) for reference in REFERENCES for word in reference.split()) + len(REFERENCES)
    tokens = sum(len(reference.split()) + 1 for reference in REFERENCES)
    assert scores["loss"] == pytest.approx(costs / tokens)
    assert scores["perplexity"] == pytest.approx(math.exp(costs / tokens))
    for name, metric in (("bleu", sacrebleu.BLEU()), ("chrf", sacrebleu.CHRF()), ("ter", sacrebleu.TER())):
        expected = metric.corpus_score(TRANSLATIONS, [REFERENCES], n_bootstrap=1000)
        assert scores[name] == pytest.approx(expected.score)
        # sacreBLEU keeps the numbers of its intervals to itself, but for print.
        confidence = scores["confidence"][name]
        assert f"(μ = {confidence['mean']:.2f} ± {confidence['margin']:.2f})" in expected.format()
    assert scores["exact_match"] == pytest.approx(200 / 3)
    assert scores["sentences"] == 3
    assert scores.keys() == {
        "system", "loss", "perplexity", "bleu", "chrf", "ter", "exact_match", "sentences", "signature", "confidence",
        "by_length",
    }  # fmt: skip


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


def test_against_translations_of_another_system(files, capsys):
    assert main([*files, "--json", "--against", "other.xx", "--lowercase-tokenized", "tok.xx", "--language", "en"]) == 0
    scores = json.loads(capsys.readouterr().out)
    other = scores["against"]
    assert (other["system"], "perplexity" in other, "loss" in other) == ("other.xx", False, False)
    assert other["bleu"] == pytest.approx(sacrebleu.corpus_bleu(["X", *REFERENCES[1:]], [REFERENCES]).score)
    assert other["p_value"].keys() == {"bleu", "chrf", "ter", "exact_match"} == other["confidence"].keys()
    assert "lowercase_tokenized_bleu" in other
    assert [row["sentences"] for row in other["by_length"]] == [3]


def test_against_another_model(files, capsys, model, monkeypatch):
    other = type(model)()
    other.found = lambda text: model.found(text)[::-1]
    monkeypatch.setattr(sys.modules["seq2seq.models.archive"], "load", {"model.keras": model, "b.keras": other}.get)
    assert main([*files, "--json", "--against", "b.keras", "--beam-size", "2", "--significance", "randomization"]) == 0
    scores = json.loads(capsys.readouterr().out)
    backwards = sacrebleu.corpus_bleu([source[::-1] for source in SOURCES], [REFERENCES]).score
    assert scores["against"]["bleu"] == pytest.approx(backwards)
    assert scores["against"]["perplexity"] == scores["perplexity"]
    assert scores["against"]["p_value"]["perplexity"] == 1.0
    assert "ar:10000" in scores["signature"]["bleu"]
    assert [options for _, options in model.calls + other.calls] == [{"beam_size": 2}] * 2
    # Perplexities of other tokens are shown, but not compared.
    other.score = lambda _, targets: [types.SimpleNamespace(log_prob=-2.0, pieces=[*target]) for target in targets]
    assert main([*files, "--json", "--against", "b.keras"]) == 0
    found = json.loads(capsys.readouterr().out)["against"]
    assert "perplexity" in found["confidence"]
    assert found["p_value"]["perplexity"] is None


def test_a_corpus_in_tokens(files, capsys, tmp_path):
    texts = ["the cat , is full .", "a dog , a cat .", "don 't"]
    (tmp_path / "test.xx").write_text("\n".join(texts) + "\n")
    assert main([*files, "--json", "--tokenize", "none", "--lowercase"]) == 0
    scores = json.loads(capsys.readouterr().out)
    expected = sacrebleu.corpus_bleu(SOURCES, [texts], tokenize="none", lowercase=True, force=True).score
    assert scores["bleu"] == pytest.approx(expected)
    assert scores["by_length"][0]["bleu"] == pytest.approx(expected)
    assert "case:lc|eff:no|tok:none" in scores["signature"]["bleu"]
    assert "case:lc" in scores["signature"]["chrf"]


def test_summaries(files, capsys, model, monkeypatch):
    monkeypatch.setattr(model, "task", "summarize", raising=False)
    assert main([*files, "--json", "--against", "other.xx"]) == 0
    scores = json.loads(capsys.readouterr().out)
    expected = summary_scores(TRANSLATIONS, REFERENCES, SOURCES)
    names = ["rouge_1", "rouge_2", "rouge_l", "token_f1", "exact_match", "novel_1", "novel_2", "length_ratio"]
    assert {name: scores[name] for name in names} == {name: pytest.approx(expected[name].value) for name in names}
    assert list(scores["confidence"]) == ["perplexity", *list(scores["against"]["confidence"])]
    assert set(names) <= set(scores["against"]["p_value"])
    assert not {"bleu", "chrf", "ter"} & scores.keys()
    of_length = {"shortest": 0, "longest": 25, "sentences": 3, "rouge_l": expected["rouge_l"].value}
    assert scores["by_length"] == [pytest.approx(of_length)]


def test_a_table_of_summaries_for_people(files, capsys, model, monkeypatch):
    monkeypatch.setattr(model, "task", "summarize", raising=False)
    assert main(files) == 0
    table, lengths, _ = capsys.readouterr().out.split("\n\n")
    shown = [line.split()[0] for line in table.splitlines()[1:]]
    assert (shown[:4], shown[-1]) == (["rouge_1", "rouge_2", "rouge_l", "token_f1"], "perplexity")
    assert lengths.splitlines()[0].endswith("rouge_l")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tokenize", "none"], "--tokenize must be left out for a model that summarizes"),
        (["--lowercase"], "--lowercase must be left out for a model that summarizes"),
        (["--lowercase-tokenized", "tok.xx", "--language", "en"], "--lowercase-tokenized must be left out for a model"),
        (["--agreement", "agreement.tsv"], "--agreement must be left out for a model that summarizes"),
        (["--against", "second.keras"], "--against must be a model that was trained to summarize too"),
    ],
)
def test_flags_that_summaries_lack(files, capsys, model, monkeypatch, more, words):
    monkeypatch.setattr(model, "task", "summarize", raising=False)
    assert main([*files, *more]) == 2
    assert words in capsys.readouterr().err


def test_translations_are_kept(files, capsys, tmp_path):
    assert main([*files, "--output", "kept.xx"]) == 0
    assert (tmp_path / "kept.xx").read_text().splitlines() == TRANSLATIONS
    capsys.readouterr()
    assert main([*files, "--against", "kept.xx", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["against"]["bleu"] == scores["bleu"]
    assert set(scores["against"]["p_value"].values()) == {1.0}


def test_a_table_for_people(files, capsys):
    assert main([*files, "--against", "other.xx", "--agreement", "agreement.tsv"]) == 0
    table, lengths, rest = capsys.readouterr().out.split("\n\n")
    lines = table.splitlines()
    assert lines[0].split() == ["model.keras", "other.xx", "p"]
    assert lines[4].startswith("exact_match  66.67 (")
    assert [line.split()[0] for line in lines[1:]] == ["bleu", "chrf", "ter", "exact_match", "perplexity", "p:"]
    assert lines[5].split()[-2:] == ["-", "-"]
    assert lengths.splitlines()[1].split()[:2] == ["0-5", "3"]
    assert rest.startswith("sentences: 3\n")
    assert "  chrf: nrefs:1|bs:1000|seed:12345|" in rest
    assert "agreement:\n  0: 100.00\n  2: 0.00\n" in rest


def test_options_reach_the_search(files, model):
    assert main([*files, "--beam-size", "2", "--agreement", "agreement.tsv"]) == 0
    assert [options for _, options in model.calls] == [{"beam_size": 2}, {"beam_size": 2}]


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        (["--target", "short.xx"], 1, "short.xx: must have as many lines as test.en"),
        (["--lowercase-tokenized", "short.xx", "--language", "en"], 1, "short.xx: must have as many lines as test.en"),
        (["--against", "short.xx"], 1, "short.xx: must have as many lines as test.en"),
        (["--against", "nowhere.keras"], 1, "nowhere.keras: no such model file."),
        (["--against", "./model.keras"], 2, "--against must be another system than the model"),
        (["--output", "test.en"], 2, "--output must be another file"),
        (["--tokenize", "moses"], 2, "--tokenize"),
        (["--lowercase-tokenized", "tok.xx"], 2, "--lowercase-tokenized and --language must be"),
        (["--source", "nowhere"], 1, "nowhere: "),
        (["--agreement", "nowhere"], 1, "nowhere"),
        (["--agreement", "test.en"], 1, "test.en:1: "),
        (["--n-best", "2"], 2, "--n-best must be left out"),
        (["--beam-size", "0"], 2, "beam_size must be greater than 0, got 0."),
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
