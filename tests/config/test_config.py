"""Recipes and sections: what is read, in which order, and what is said about mistakes."""

import dataclasses
import json
import pathlib
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config.flags import load_config
from seq2seq.config.recipe import known_settings
from seq2seq.config.sections import Config, DataConfig, DecodingConfig, TokenizerConfig, TrainingConfig
from seq2seq.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("data/*/recipe.yaml"))


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        path = folder / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


class TestAuthority:
    def test_flags_win_over_the_recipe_and_the_recipe_over_defaults(self, recipe):
        path = recipe("training:\n  epochs: 5\n  learning_rate: 1e-3\n")
        config = load_config(path, ["--training.epochs", "7"])
        assert (config.training.epochs, config.training.learning_rate) == (7, 0.001)
        assert config.training.batch_tokens == TrainingConfig().batch_tokens

    def test_without_a_recipe_all_is_default(self):
        assert load_config(None) == Config()

    def test_folder_and_name_come_from_the_recipe(self, recipe):
        path = recipe("")
        config = load_config(path)
        assert config.data.folder == path.parent.as_posix()
        assert config.run.path == pathlib.Path("checkpoints/corpus")

    def test_given_folder_and_name_win(self, recipe):
        config = load_config(recipe("run:\n  name: other\n"), ["--data.folder", "elsewhere"])
        assert (config.run.name, config.data.folder) == ("other", "elsewhere")

    def test_flags_that_need_each_other(self, recipe):
        assert load_config(None, ["--data.dev", "null", "--data.dev_size", "9"]).data.dev_size == 9
        path = recipe("training:\n  weight_decay: 0.1\n")
        assert load_config(path, ["--training.optimizer", "adamw"]).training.weight_decay == 0.1


class TestTexts:
    def test_the_type_of_the_setting_decides(self, recipe):
        path = recipe("data:\n  source: no\n  target: 2024\n  dev:\n  dev_size: 3\n")
        data = load_config(path).data
        assert (data.source, data.target, data.dev, data.dev_size) == ("no", "2024", None, 3)

    def test_lists(self, recipe):
        path = recipe('tokenizer:\n  user_symbols: ["<a>", "<b>"]\n')
        config = load_config(path, ["--model.context_inputs", "input", "readout"])
        assert config.tokenizer.user_symbols == ("<a>", "<b>")
        assert config.model.context_inputs == ("input", "readout")

    @pytest.mark.parametrize(
        ("text", "train"),
        [
            ("news", "news"),
            ("[news]", "news"),
            ("[news, web]", {"news": 1.0, "web": 1.0}),
            ("{news: 2, web: 5e-1}", {"news": 2.0, "web": 0.5}),
            ("{2024: 1, a=b: 3}", {"2024": 1.0, "a=b": 3.0}),
            ("k=v", "k=v"),
        ],
    )
    def test_names_with_weights(self, recipe, text, train):
        config = load_config(recipe(f"data:\n  train: {text}\n"))
        assert config.data.train == train
        assert config.data.corpora == (train if isinstance(train, dict) else {train: 1.0})
        again = yaml.safe_dump(config.to_dict(), sort_keys=False)
        assert load_config(recipe(again)) == config == Config.from_dict(yaml.safe_load(again))
        flags = [f"{name}={weight}" for name, weight in train.items()] if isinstance(train, dict) else ["x"]
        expected = train if isinstance(train, dict) else "x"
        assert load_config(recipe("data:\n  train: other\n"), ["--data.train", *flags]).data.train == expected

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True)])
    def test_booleans(self, text, value):
        assert load_config(None, ["--model.encoder.residual", text]).model.encoder.residual is value

    @pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "training:\n", "---\n"])
    def test_an_empty_recipe_or_section_changes_nothing(self, recipe, text):
        assert load_config(recipe(text)).training == TrainingConfig()


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("training:\n  epoch: 3\n", 2, "training.epoch is not a setting. Did you mean training.epochs?"),
            ("trainin:\n  epochs: 3\n", 1, "trainin is not a setting. Did you mean training?"),
            ("model:\n  encoder:\n    unitz: 3\n", 3, "Did you mean model.encoder.units?"),
            ("zzz: 3\n", 1, "zzz is not a setting. `train.py --help` shows all of them."),
            ("training:\n  optimizer: adm\n", 2, "must be 'adam' or 'adamw', got 'adm'. Did you mean adam?"),
            ("training:\n\n  epochs: 0\n", 3, "training.epochs must be greater than 0, got '0'."),
            ("training:\n  epochs: 2.5\n", 2, "training.epochs must be a valid integer, got '2.5'."),
            ("training:\n  epochs: [1, 2]\n", 2, "training.epochs must be a valid integer"),
            ("training:\n  epochs: null\n", 2, "training.epochs must be a valid integer, got None."),
            ("training:\n  learning_rate: inf\n", 2, "learning_rate must be a finite number"),
            ("training:\n  tensorboard: maybe\n", 2, "training.tensorboard must be a valid boolean, got 'maybe'."),
            ("model:\n  context_inputs: state\n", 2, "model.context_inputs must be a list, got 'state'."),
            ("model:\n  context_inputs: [stat]\n", 2, "got 'stat'. Did you mean state?"),
            ("model:\n  context_inputs: [input, input]\n", 2, "context_inputs must hold each value once"),
            ("training: 3\n", 1, "training must be a section of settings, got '3'."),
            ("- a\n", 1, "a recipe must be sections of settings"),
            ("training:\n  epochs: 3\n  epochs: 4\n", 3, "training.epochs is given twice, first at"),
            ("training:\n  epochs: [\n", 3, "the recipe must be YAML, but"),
            ("data:\n  train: {a: 1, b: 0}\n", 2, "data.train.b must be greater than 0, got '0'."),
            ("data:\n  train:\n    a: 1\n    b: nan\n", 2, "data.train.b must be a finite number"),
            ("data:\n  train: {a: 1, b: many}\n", 2, "data.train.b must be a valid number, got 'many'."),
            ("data:\n  train: [a=1, a=2]\n", 2, "data.train must name each file once"),
            ("data:\n  train: {}\n", 2, "data.train must be a name, or names with a weight each"),
            ("data:\n  train: null\n", 2, "data.train must be a valid string"),
        ],
    )
    def test_the_line_and_the_way_out_are_named(self, recipe, text, line, words):
        path = recipe(text)
        with pytest.raises(ConfigError) as error:
            load_config(path)
        assert str(error.value).startswith(f"{path}:{line}: ")
        assert words in str(error.value)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "the recipe cannot be read: No such file"),
            (b"run:\n  name: \xff\n", "must be UTF-8 text, but byte 13 is not"),
            (b"run:\n  name: \x01\n", "recipe.yaml: the recipe must be YAML, but"),
            (b"data: &a\n  train: *a\n", "must not contain itself"),
        ],
    )
    def test_files_that_are_no_recipe(self, tmp_path, content, words):
        path = tmp_path / "recipe.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=re.escape(words)):
            load_config(path)

    def test_a_wrong_flag_is_not_blamed_on_the_recipe(self, recipe):
        path = recipe("training:\n  epochs: 3\n")
        with pytest.raises(ConfigError, match=r"^training\.epochs must be greater than 0"):
            load_config(path, ["--training.epochs", "0"])

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            ("--training.epoch 3", "Unknown option: --training.epoch. Did you mean --training.epochs?"),
            ("--training.schedule cosin", "Did you mean cosine?"),
            ("--training.epochs", "--training.epochs requires an argument"),
            ("--training.epochs 3 --training.epochs 4", "--training.epochs specified multiple times"),
        ],
    )
    def test_flags(self, flags, words):
        with pytest.raises(ConfigError) as error:
            load_config(None, flags.split())
        assert words in str(error.value)


LABELS = {"task": "tag", "training": {"monitor": "accuracy"}}


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"data": {"source": ""}}, "data.source"),
        ({"data": {"source": "en", "target": "en"}}, "data.target"),
        ({"data": {"columns": 3}}, "data.columns"),
        ({"data": {"format": "tsv", "source": "en"}}, "data.source"),
        ({"data": {"format": "tsv", "source": "1", "target": "0"}}, "data.target"),
        ({"data": {"format": "tsv", "source": "1", "target": "3", "columns": 2}}, "data.target"),
        ({"data": {"truncate": "head", "max_source_tokens": 2}}, "data.max_source_tokens"),
        ({"data": {"dev": None}}, "data.dev_size"),
        ({"data": {"dev_size": 3}}, "data.dev_size"),
        ({"tokenizer": {"character_coverage": 0.9}}, "tokenizer.character_coverage"),
        ({"training": {"weight_decay": 0.1}}, "training.weight_decay"),
        ({"training": {"schedule": "plateau", "patience": 2}}, "training.plateau_patience"),
        ({"training": {"average_checkpoints": 1}}, "training.average_checkpoints"),
        ({"training": {"reinitialize": ["decoder"]}}, "training.reinitialize"),
        ({"training": {"monitor": "rouge_l"}}, "training.monitor"),
        ({"training": {"sampling_alpha": 0.1}, "tokenizer": {"kind": "word"}}, "training.sampling_alpha"),
        ({"training": {"sampling_alpha": 1.1}, "tokenizer": {"kind": "bpe"}}, "training.sampling_alpha"),
        ({"decoding": {"banned_phrases": ["a", " "]}}, "decoding.banned_phrases"),
        ({"model": {"tie_embeddings": "all"}, "tokenizer": {"shared": False}}, "model.tie_embeddings"),
        ({"run": {"name": "a/b"}}, "run.name"),
        ({"run": {"name": ".."}}, "run.name"),
        (LABELS | {"model": {"tie_embeddings": "output"}}, "model.tie_embeddings"),
        (LABELS | {"model": {"copy": "separate"}}, "model.copy"),
        (LABELS | {"tokenizer": {"shared": False}}, "tokenizer.shared"),
        (LABELS | {"data": {"truncate": "head"}}, "data.truncate"),
        (LABELS | {"training": {"monitor": "accuracy", "sampling_alpha": 0.1}}, "training.sampling_alpha"),
    ],
)
def test_contradictions(values, key):
    with pytest.raises(ConfigError, match=f"^{re.escape(key)} must ") as error:
        Config.from_dict(values)
    assert error.value.key == key


def test_sections_are_frozen_and_replaced_with_checks():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().epochs = 3
    assert DecodingConfig().replaced(beam_size=3).beam_size == 3
    with pytest.raises(ConfigError, match="Did you mean beam_size"):
        DecodingConfig().replaced(beam_siz=3)
    with pytest.raises(ConfigError, match="beam_size must be"):
        DecodingConfig().replaced(beam_size=0)


@pytest.mark.parametrize("values", [None, 3, ["beam_size"], {3: 4}, {"beam_size": {}}, {"prefix": 5}])
def test_what_is_no_section(values):
    with pytest.raises(ConfigError):
        DecodingConfig.from_dict(values)


class TestRoundTrip:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
    def test_shipped_recipes(self, path, tmp_path):
        config = load_config(path, ["--run.seed", "3"])
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
        saved = tmp_path / "recipe.yaml"
        saved.write_text(yaml.safe_dump(config.to_dict(), allow_unicode=True))
        assert load_config(saved) == config

    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(
        rate=st.floats(1e-12, 1e3),
        words=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1), unique=True),
        origin=st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    )
    def test_any_values(self, rate, words, origin, tmp_path_factory):
        config = Config(
            data=DataConfig(origin=origin),
            tokenizer=TokenizerConfig(user_symbols=tuple(words)),
            training=TrainingConfig(learning_rate=rate),
        )
        path = tmp_path_factory.mktemp("any") / "recipe.yaml"
        path.write_text(yaml.safe_dump(config.to_dict(), allow_unicode=True), encoding="utf-8")
        assert load_config(path) == config


def test_known_settings_are_all_leaves():
    def leaves(tree, prefix=""):
        for name, value in tree.items():
            yield from leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]

    assert list(known_settings()) == list(leaves(Config().to_dict()))
    assert all(setting.help.endswith(".") for setting in known_settings().values())
