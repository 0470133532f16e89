"""The shipped recipes: each is valid, and, where its corpus is at hand, reaches the score that the README gives."""

import os
import pathlib

import pytest

from seq2seq.config.flags import load_config
from tests.benchmarks.first_words import first_words_scores

DATA = pathlib.Path(__file__).parents[2] / "data"
RECIPES = sorted(DATA.glob("*/recipe.yaml"))


def corpus_folder(*names: str) -> pathlib.Path:
    """Return a folder below that of the environment variable SEQ2SEQ_DATA, or skip the test."""
    root = os.environ.get("SEQ2SEQ_DATA")
    if root is None:
        pytest.skip("SEQ2SEQ_DATA names no folder of corpora")
    folder = pathlib.Path(root, *names)
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist")
    return folder


def trained_scores(recipe: str, tmp_path: pathlib.Path, *overrides: str) -> dict:
    from seq2seq.training.run import train

    config = load_config(DATA / recipe / "recipe.yaml", [*overrides, "--run.folder", str(tmp_path)])
    return train(config).scores


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_recipe_is_valid_and_named_by_its_folder(recipe):
    config = load_config(recipe, [])
    assert config.run.name == recipe.parent.name
    assert pathlib.Path(config.data.folder) == recipe.parent


@pytest.mark.slow
def test_en_fr_reaches_its_score(tmp_path):
    scores = trained_scores("en-fr", tmp_path)
    assert scores["test"]["exact_match"] >= 97
    assert min(scores["agreement"].values()) >= 97


@pytest.mark.slow
def test_verb_number_reaches_its_score(tmp_path):
    scores = trained_scores("verb-number", tmp_path)
    assert scores["test"]["accuracy"] >= 99
    assert min(scores["agreement"].values()) >= 98.5


@pytest.mark.slow
def test_part_of_speech_reaches_its_score(tmp_path):
    assert trained_scores("part-of-speech", tmp_path)["test"]["accuracy"] >= 99.5


@pytest.mark.slow
def test_weather_reaches_its_scores(tmp_path):
    scores = trained_scores("weather", tmp_path)["test"]
    assert scores["exact_match"] >= 95
    assert scores["names_recall"] >= 98


@pytest.mark.slow
@pytest.mark.real_data
def test_sentence_compression_beats_the_first_words(tmp_path):
    folder = corpus_folder("sentence-compression")
    scores = trained_scores("sentence-compression", tmp_path, "--data.folder", str(folder))["test"]
    for measure, (_, of_first_words) in first_words_scores(folder).items():
        assert scores[measure] > of_first_words


@pytest.mark.slow
@pytest.mark.real_data
def test_multi30k_reaches_its_score(tmp_path):
    folder = corpus_folder("multi30k")
    assert trained_scores("multi30k", tmp_path, "--data.folder", str(folder))["test"]["bleu"] >= 35


@pytest.mark.slow
@pytest.mark.real_data
def test_scan_reaches_its_score(tmp_path):
    folder = corpus_folder("scan", "simple")
    assert trained_scores("scan", tmp_path, "--data.folder", str(folder))["test"]["exact_match"] >= 99


@pytest.mark.slow
@pytest.mark.real_data
def test_reinflection_reaches_its_score(tmp_path):
    folder = corpus_folder("reinflection-en")
    assert trained_scores("reinflection-en", tmp_path, "--data.folder", str(folder))["test"]["exact_match"] >= 95
