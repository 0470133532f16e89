"""Recipes, flags and sections: what is read, in which order, and what is said about mistakes."""

import dataclasses
import itertools
import json
import pathlib
import re
import subprocess
import sys
import typing

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.config.base import Section, bare, hints
from seq2seq.config.flags import load_config, parse_train_arguments
from seq2seq.config.recipe import known_settings
from seq2seq.config.sections import (
    Config,
    DataConfig,
    DecodingConfig,
    ModelConfig,
    RunConfig,
    TokenizerConfig,
    TrainingConfig,
)
from seq2seq.errors import ConfigError

ROOT = pathlib.Path(__file__).parents[1]
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


def message(error):
    return str(error.value)


class TestAuthority:
    def test_defaults_give_way_to_the_recipe_and_the_recipe_to_flags(self, recipe):
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
        assert config.run.name == "corpus"
        assert config.run.path == pathlib.Path("checkpoints/corpus")

    def test_folder_and_name_that_are_given_win(self, recipe):
        config = load_config(recipe("run:\n  name: other\n"), ["--data.folder", "elsewhere"])
        assert (config.run.name, config.data.folder) == ("other", "elsewhere")

    def test_two_flags_that_need_each_other(self):
        assert load_config(None, ["--data.dev", "null", "--data.dev_size", "9"]).data.dev_size == 9

    def test_a_flag_may_mend_what_the_recipe_leaves_in_contradiction(self, recipe):
        path = recipe("model:\n  decoder:\n    attend: between\n")
        assert load_config(path, ["--model.decoder.num_layers", "2"]).model.decoder.attention_position == "between"


class TestTexts:
    def test_a_text_means_what_its_setting_says(self, recipe):
        path = recipe("data:\n  source: no\n  target: 2024\n  dev:\n  held_out: 3\n")
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

    def test_negative_numbers_are_values_and_not_flags(self):
        assert load_config(None, ["--training.sampling_nbest", "-1"]).training.sampling_nbest == -1

    @pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "training:\n", "---\n"])
    def test_an_empty_recipe_or_section_changes_nothing(self, recipe, text):
        assert load_config(recipe(text)).training == TrainingConfig()


class TestRecipeMistakes:
    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("training:\n  epoch: 3\n", 2, "training.epoch is not a setting. Did you mean training.epochs?"),
            ("trainin:\n  epochs: 3\n", 1, "trainin is not a setting. Did you mean training?"),
            ("epochs: 3\n", 1, "epochs is not a setting. Did you mean training.epochs?"),
            ("model:\n  encoder:\n    unitz: 3\n", 3, "Did you mean model.encoder.units?"),
            ("zzz: 3\n", 1, "zzz is not a setting. `train.py --help` shows all of them."),
            (
                "training:\n  optimizer: adm\n",
                2,
                "must be one of adam, adamw, but is 'adm' instead. Did you mean adam?",
            ),
            ("training:\n\n  epochs: 0\n", 3, "training.epochs must be at least 1, but is 0 instead."),
            ("training:\n  epochs: 2.5\n", 2, "training.epochs must be a whole number, but is '2.5' instead."),
            ("training:\n  epochs: [1, 2]\n", 2, "training.epochs must be one value, but is ['1', '2'] instead."),
            ("training:\n  epochs:\n    a: 1\n", 2, "must be one value or a list of values, but is a section instead."),
            ("training:\n  epochs: null\n", 2, "training.epochs must be one value, but is null instead."),
            ("training:\n  learning_rate: .inf\n", 2, "learning_rate must be a number, but is '.inf' instead."),
            ("training:\n  learning_rate: inf\n", 2, "learning_rate must be a finite number, but is inf instead."),
            ("training:\n  tensorboard: yes\n", 2, "must be true or false, but is 'yes' instead."),
            ("model:\n  feeds: state\n", 2, "model.context_inputs must be a list, but is 'state' instead."),
            (
                "model:\n  feeds: [stat]\n",
                2,
                "one of state, input, readout, but is 'stat' instead. Did you mean state?",
            ),
            ("model:\n  feeds: [input, input]\n", 2, "must be a list without repetition"),
            ("training: 3\n", 1, "training is a section: it must hold settings, but is '3' instead."),
            ("- a\n", 1, "A recipe must hold settings, but is a list instead."),
            ("training:\n  epochs: 3\n  epochs: 4\n", 3, "training.epochs is given twice, first at"),
            ("training:\n  epochs: [\n", 3, "the recipe must be YAML, but"),
            ("data:\n  dev: null\n  held_out: 0\n", 3, "data.dev_size must be at least 1 where data.dev is null"),
            ("data:\n  train: {a: 1, b: 0}\n", 2, "data.train.b must be greater than 0, but is 0.0 instead."),
            ("data:\n  train:\n    a: 1\n    b: nan\n", 2, "data.train.b must be a finite number, but is nan instead."),
            ("data:\n  train: {a: 1, b: inf}\n", 2, "data.train.b must be a finite number, but is inf instead."),
            ("data:\n  train: {a: 1, b: many}\n", 2, "data.train.b must be a number, but is 'many' instead."),
            (
                "data:\n  train: {a: 1, a: 2}\n",
                2,
                "data.train must name each once, but names a twice instead. Keep one.",
            ),
            ("data:\n  train: {a: [1]}\n", 2, "must be a name, or names with a number each, but holds a list or a"),
            ("data:\n  train: {}\n", 2, "data.train must be a name, but is {} instead."),
            ("data:\n  train: null\n", 2, "data.train must be one value, but is null instead."),
        ],
    )
    def test_message_names_the_line_and_the_way_out(self, recipe, text, line, words):
        path = recipe(text)
        with pytest.raises(ConfigError) as error:
            load_config(path)
        assert message(error).startswith(f"{path}:{line}: ")
        assert words in message(error)

    def test_missing_recipe(self, tmp_path):
        with pytest.raises(ConfigError, match=re.escape("nothing.yaml: the recipe cannot be read: No such file")):
            load_config(tmp_path / "nothing.yaml")

    def test_recipe_that_is_not_text(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(b"run:\n  name: \xff\n")
        with pytest.raises(ConfigError, match="must be UTF-8 text, but byte 13 is not"):
            load_config(path)

    def test_recipe_with_control_characters(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_bytes(b"run:\n  name: \x01\n")
        with pytest.raises(ConfigError, match=re.escape("recipe.yaml: the recipe must be YAML, but")):
            load_config(path)

    def test_a_flag_that_is_wrong_is_not_blamed_on_the_recipe(self, recipe):
        path = recipe("training:\n  epochs: 3\n")
        with pytest.raises(ConfigError) as error:
            load_config(path, ["--training.epochs", "0"])
        assert message(error) == "training.epochs must be at least 1, but is 0 instead."


class TestFlagMistakes:
    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["--training.epoch", "3"], "Unknown option: --training.epoch. Did you mean --training.epochs?"),
            (["--training.epochs", "x"], "training.epochs must be a whole number, but is 'x' instead."),
            (["--training.schedule", "cosin"], "but is 'cosin' instead. Did you mean cosine?"),
            (["--training.epochs"], "--training.epochs requires an argument"),
            (["--data.train", "a=1", "b=x"], "data.train.b must be a number, but is 'x' instead."),
            (["--data.train", "a=1", "a"], "data.train must name each once, but names a twice instead."),
            (["--training.epochs", "3", "--training.epochs", "4"], "--training.epochs specified multiple times"),
            (
                ["--model.context_inputs"],
                "model.context_inputs must hold at least one of state, input, readout, but is empty instead.",
            ),
        ],
    )
    def test_message(self, flags, words):
        with pytest.raises(ConfigError) as error:
            load_config(None, flags)
        assert words in message(error)


CONTRADICTIONS = [
    (ModelConfig, {"decoder": {"attention_position": "between"}}, "model.decoder.num_layers must be at least 2"),
    (ModelConfig, {"context_inputs": ["state"]}, "Attention would never be read"),
    (
        ModelConfig,
        {"encoder": {"cell": "lstm", "update_gate": "write"}},
        "model.encoder.update_gate must be keep where model.encoder.cell is lstm, but is 'write' instead.",
    ),
    (
        ModelConfig,
        {"decoder": {"cell": "rnn", "update_gate": "write"}},
        "model.decoder.update_gate must be keep where model.decoder.cell is rnn",
    ),
    (
        ModelConfig,
        {"encoder": {"stride": 2}},
        "model.encoder.stride must be 1 where model.encoder.front_end is none, but is 2 instead. Choose a front end.",
    ),
    (
        ModelConfig,
        {"encoder": {"front_end": "max"}},
        "model.encoder.stride must be at least 2 where model.encoder.front_end is max, but is 1 instead.",
    ),
    (
        ModelConfig,
        {"encoder": {"front_end": "mean", "stride": 2, "kernel_size": 3}},
        "model.encoder.kernel_size must be 0 where model.encoder.front_end is mean, but is 3 instead.",
    ),
    (
        ModelConfig,
        {"encoder": {"front_end": "convolution", "stride": 3, "kernel_size": 2}},
        "model.encoder.kernel_size must be 0 or at least model.encoder.stride (3), but is 2 instead. Tokens would be",
    ),
    (
        ModelConfig,
        {"encoder": {"subsample": 2}},
        "model.encoder.subsample must be 1 where model.encoder.num_layers is 1, but is 2 instead.",
    ),
    (
        ModelConfig,
        {"encoder": {"subsample": 2, "num_layers": 2, "residual": True}},
        "model.encoder.subsample must be 1 where model.encoder.residual is true, but is 2 instead.",
    ),
    (
        ModelConfig,
        {"context_inputs": ["input"], "decoder": {"attention_position": "between", "num_layers": 2}},
        "model.context_inputs must not hold input where model.decoder.attention_position is between",
    ),
    (
        ModelConfig,
        {"context": "mean", "decoder": {"attention_position": "between", "num_layers": 2}},
        "model.decoder.attention_position must be after",
    ),
    (ModelConfig, {"context": "mean", "decoder": {"input_feeding": True}}, "model.decoder.input_feeding must be false"),
    (ModelConfig, {"decoder": {"units": 100}}, "model.decoder.units must be 512, as wide as the encoder's memory"),
    (
        ModelConfig,
        {"decoder": {"units": 130}, "attention": {"score": "multi_head", "num_heads": 4}},
        "model.attention.num_heads must be a divisor of the attention's size (130), but is 4 instead.",
    ),
    (ModelConfig, {"attention": {"score": "location", "units": 7}}, "model.attention.units must be even"),
    (ModelConfig, {"context": "mean", "copy": "reuse"}, "model.copy must be none or separate where model.co"),
    (
        ModelConfig,
        {"force_copy": True},
        "model.force_copy must be false where model.copy is none, but is true",
    ),
    (
        Config,
        {"tokenizer": {"shared": False}, "model": {"copy": "reuse"}},
        "model.copy must be none where tokenizer.shared is false, but is 'reuse' instead. Only a token that both",
    ),
    (
        Config,
        {"model": {"context": "max"}, "training": {"coverage_loss": 1.0}},
        "model.coverage_loss must be 0 where model.context is max, but is 1.0 instead.",
    ),
    (
        ModelConfig,
        {"tie_embeddings": "all", "readout_size": 3},
        "model.readout_size must be 0 or model.embedding_size (256)",
    ),
    (TokenizerConfig, {"target_vocabulary_size": 9}, "tokenizer.target_vocabulary_size must be null"),
    (TokenizerConfig, {"kind": "word", "byte_fallback": True}, "tokenizer.byte_fallback must be false"),
    (TokenizerConfig, {"kind": "char", "sampling_alpha": 0.1}, "training.sampling_alpha must be 0"),
    (TokenizerConfig, {"kind": "bpe", "sampling_alpha": 1.5}, "training.sampling_alpha must be at most 1"),
    (TokenizerConfig, {"sampling_nbest": 1}, "training.sampling_nbest must be -1 or at least 2"),
    (TokenizerConfig, {"sampling_nbest": -2}, "training.sampling_nbest must be -1 or at least 2"),
    (TokenizerConfig, {"user_symbols": ["a b"]}, "tokenizer.user_symbols must be strings without spaces, but is 'a b'"),
    (TokenizerConfig, {"character_coverage": 0.5}, "tokenizer.character_coverage must be between 0.98 and 1"),
    (DataConfig, {"source": "en", "target": "en"}, "data.target must be other than data.source"),
    (DataConfig, {"train": ""}, "data.train must be a name, but is '' instead."),
    (DataConfig, {"train": {"": 1}}, "data.train must be a name, but is {'': 1.0} instead."),
    (DataConfig, {"train": {"a": "1"}}, "data.train.a must be a number, but is '1' instead."),
    (DataConfig, {"train": {1: 1}}, "data.train must be text, but is 1 instead."),
    (DataConfig, {"train": None}, "data.train must be text, but is null instead."),
    (DataConfig, {"format": "tsv"}, "data.source must be a column's number from 1 where data.format is tsv"),
    (DataConfig, {"columns": 3}, "data.columns must be 0 where data.format is parallel, but is 3 instead"),
    (
        DataConfig,
        {"format": "tsv", "source": "1", "target": "4", "columns": 3},
        "data.target must be at most data.columns (3), but is '4' instead",
    ),
    (
        DataConfig,
        {"truncate": "head", "max_source_tokens": 2},
        "data.max_source_tokens must be at least 3 where data.truncate is head, but is 2 instead. The end token is one",
    ),
    (DataConfig, {"dev_size": 5}, "data.dev_size must be 0 where data.dev names files (dev), but is 5 instead."),
    (TrainingConfig, {"weight_decay": 0.1}, "training.weight_decay must be 0 where training.optimizer is adam"),
    (TrainingConfig, {"l2": -1e-5}, "training.l2 must be at least 0, but is -1e-05 instead."),
    (
        TrainingConfig,
        {"plateau_factor": 1},
        "training.plateau_factor must be greater than 0 and less than 1, but is 1.0",
    ),
    (
        TrainingConfig,
        {"schedule": "plateau", "patience": 3, "plateau_patience": 3},
        "training.plateau_patience must be less than training.patience (3), but is 3 instead. Training would stop",
    ),
    (
        TrainingConfig,
        {"average_checkpoints": 1},
        "training.average_checkpoints must be 0 or at least 2, but is 1 instead.",
    ),
    (
        TrainingConfig,
        {"reinitialize": ["decoder/readout"]},
        "training.reinitialize must be empty where training.init_from is null, but is ['decoder/readout'] instead.",
    ),
    (TrainingConfig, {"accumulate": 0}, "training.accumulate must be at least 1, but is 0 instead."),
    (TrainingConfig, {"save_every": -1}, "training.save_every must be at least 0, but is -1 instead."),
    (TrainingConfig, {"max_skipped_steps": 0}, "training.max_skipped_steps must be at least 1, but is 0 instead."),
    (TrainingConfig, {"max_rollbacks": -1}, "training.max_rollbacks must be at least 0, but is -1 instead."),
    (
        TrainingConfig,
        {"rollback_lr_factor": 1},
        "training.rollback_lr_factor must be greater than 0 and less than 1, but is 1.0",
    ),
    (TrainingConfig, {"label_smoothing": 1}, "model.label_smoothing must be at least 0 and less than 1"),
    (TrainingConfig, {"evaluate_every": 0}, "training.evaluate_every must be greater than 0"),
    (DecodingConfig, {"n_best": 6}, "decoding.n_best must be at most decoding.beam_size (5), but is 6 instead."),
    (DecodingConfig, {"max_length_ratio": 0, "max_length_extra": 0}, "decoding.max_length_extra must be at least 1"),
    (
        DecodingConfig,
        {"min_length": 300},
        "decoding.min_length must be at most decoding.max_length (256), but is 300 instead.",
    ),
    (
        DecodingConfig,
        {"repetition_penalty": 0.9},
        "decoding.repetition_penalty must be at least 1, but is 0.9 instead.",
    ),
    (
        DecodingConfig,
        {"beam_groups": 2},
        "decoding.beam_groups must be a divisor of decoding.beam_size (5), but is 2 instead.",
    ),
    (
        DecodingConfig,
        {"top_k": 3},
        "decoding.top_k must be 0 where decoding.sample is false, but is 3 instead. Set decoding.",
    ),
    (DecodingConfig, {"temperature": 0.5}, "decoding.temperature must be 1 where decoding.sample is false, but is 0.5"),
    (DecodingConfig, {"top_p": 0.5}, "decoding.top_p must be 1 where decoding.sample is false, but is 0.5 instead."),
    (DecodingConfig, {"top_p": 1.5, "sample": True}, "decoding.top_p must be greater than 0 and at most 1, but is 1.5"),
    (
        DecodingConfig,
        {"mbr_samples": 9},
        "decoding.mbr_samples must be 0 where decoding.sample is false, but is 9 instead.",
    ),
    (
        DecodingConfig,
        {"sample": True, "mbr_samples": 4, "n_best": 5},
        "decoding.n_best must be at most decoding.mbr_samples (4), but is 5 instead.",
    ),
    (
        DecodingConfig,
        {"sample": True, "beam_groups": 5},
        "decoding.beam_groups must be 1 where decoding.sample is true, but is 5 instead. Use a beam.",
    ),
    (
        DecodingConfig,
        {"sample": True, "required_phrases": ["cat"]},
        "decoding.required_phrases must be empty where decoding.sample is true, but is ['cat'] instead.",
    ),
    (
        DecodingConfig,
        {"sample": True, "coverage_penalty": "wu"},
        "decoding.coverage_penalty must be none where decoding.sample is true, but is 'wu' instead.",
    ),
    (
        DecodingConfig,
        {"banned_phrases": ["cat", " "]},
        "decoding.banned_phrases must be words or phrases, but is ['cat', ' '] instead. Leave out the blank ones.",
    ),
    (RunConfig, {"name": "a/b"}, "run.name must be a folder's name, without slashes, but is 'a/b' instead."),
    (RunConfig, {"name": ".."}, "run.name must be a folder's name"),
    (
        Config,
        {"model": {"tie_embeddings": "all"}, "tokenizer": {"shared": False}},
        "model.tie_embeddings must be none or output where tokenizer.shared is false",
    ),
    (
        Config,
        {"task": "classify"},
        "model.context must be other than attention where task is classify, but is 'attention' instead. Only what is "
        "written step by step reads the source anew at each.",
    ),
    (
        Config,
        {"task": "tag", "model": {"context": "last", "tie_embeddings": "all"}},
        "model.tie_embeddings must be none where task is tag, but is 'all' instead. Labels have no embeddings.",
    ),
    (
        Config,
        {"task": "tag", "model": {"context": "last"}, "tokenizer": {"shared": False}},
        "tokenizer.shared must be true where task is tag, but is false instead. Labels are not cut into pieces.",
    ),
    (
        Config,
        {"task": "tag", "model": {"context": "last"}, "tokenizer": {"sampling_alpha": 0.1}},
        "training.sampling_alpha must be 0 where task is tag, but is 0.1 instead.",
    ),
    (
        Config,
        {"task": "classify", "model": {"context": "last", "copy": "separate"}},
        "model.copy must be none where task is classify, but is 'separate' instead. Labels are not copied.",
    ),
    (
        Config,
        {"task": "tag", "model": {"context": "last", "encoder": {"front_end": "mean", "stride": 2}}},
        "model.encoder.stride must be 1 where task is tag, but is 2 instead. Each word needs a step of its own.",
    ),
    (
        Config,
        {"task": "tag", "model": {"context": "last", "encoder": {"num_layers": 2, "subsample": 2}}},
        "model.encoder.subsample must be 1 where task is tag, but is 2 instead. Each word needs a step of its own.",
    ),
    (
        Config,
        {"task": "tag", "model": {"context": "last"}, "data": {"truncate": "head"}},
        "data.truncate must be none where task is tag, but is 'head' instead. Each word has its label.",
    ),
    (
        Config,
        {"task": "classify", "model": {"context": "last"}, "training": {"monitor": "bleu"}},
        "training.monitor must be one of loss, perplexity, accuracy, macro_f1 where task is classify, but is 'bleu' "
        "instead.",
    ),
    (
        Config,
        {"training": {"monitor": "rouge_l"}},
        "training.monitor must be one of loss, perplexity, bleu, chrf, exact_match where task is translate, but is "
        "'rouge_l' instead.",
    ),
    (
        Config,
        {"task": "summarize", "training": {"monitor": "bleu"}},
        "training.monitor must be one of loss, perplexity, rouge_1, rouge_2, rouge_l, token_f1, exact_match where task "
        "is summarize, but is 'bleu' instead.",
    ),
    (Config, {"task": "label"}, "task must be one of translate, summarize, classify, tag, but is 'label' instead."),
    (Config, {"training": 3}, "training must be a section of settings, but is 3 instead."),
    (Config, {"training": {"epoch": 3}}, "training.epoch is not a setting. Did you mean training.epochs?"),
    (TrainingConfig, {"epochs": True}, "training.epochs must be a whole number, but is true instead."),
    (TrainingConfig, {"epochs": 3.0}, "training.epochs must be a whole number, but is 3.0 instead."),
]


@pytest.mark.parametrize(("section", "settings", "words"), CONTRADICTIONS)
def test_settings_that_contradict_each_other(section, settings, words):
    with pytest.raises(ConfigError) as error:
        section.from_dict(settings)
    assert words in message(error)
    assert error.value.key in known_settings() or words.startswith(error.value.key)


def test_python_gets_the_same_checks():
    with pytest.raises(ConfigError, match=r"training\.epochs must be at least 1"):
        TrainingConfig(epochs=0)
    with pytest.raises(ConfigError, match=r"model\.encoder must be a section of settings"):
        ModelConfig(encoder=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingConfig().epochs = 3


def test_a_dictionary_of_a_run_is_plain():
    assert ModelConfig().to_dict()["context_inputs"] == ["state", "readout"]


def test_replaced_changes_and_checks():
    assert DecodingConfig().replaced(beam_size=3).beam_size == 3
    with pytest.raises(ConfigError, match=r"Did you mean decoding\.beam_size"):
        DecodingConfig().replaced(beam_siz=3)


class TestRoundTrip:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
    def test_shipped_recipes(self, path):
        config = load_config(path)
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    @pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name)
    def test_a_saved_recipe_is_read_as_the_run_that_it_was(self, path, tmp_path):
        config = load_config(path, ["--run.seed", "3"])
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
            tokenizer=TokenizerConfig(user_symbols=tuple(word for word in words if word.split() == [word])),
            training=TrainingConfig(learning_rate=rate),
        )
        path = tmp_path_factory.mktemp("any") / "recipe.yaml"
        path.write_text(yaml.safe_dump(config.to_dict(), allow_unicode=True), encoding="utf-8")
        assert load_config(path) == config


class TestHelp:
    def test_every_setting_has_help(self):
        for setting in known_settings().values():
            assert setting.help.endswith("."), setting.key

    def test_known_settings_are_all_leaves(self):
        def leaves(tree, prefix=""):
            for name, value in tree.items():
                yield from leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]

        assert list(known_settings()) == list(leaves(Config().to_dict()))

    def test_help_shows_every_flag_and_every_choice(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit) as stop:
            parse_train_arguments(["--help"])
        shown = re.sub(r"[\s│]+", "", capsys.readouterr().out)
        assert stop.value.code == 0
        for setting in known_settings().values():
            assert f"--{setting.key}" in shown
            kind, _ = bare(setting.kind)
            item = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
            if typing.get_origin(item) is typing.Literal:
                assert f"Oneof:{','.join(typing.get_args(item))}." in shown

    def test_help_answers_at_once_and_without_tensorflow(self):
        code = "import sys, runpy, time\ntry:\n    runpy.run_path('train.py', run_name='__main__')\n"
        code += "finally:\n    slow = [name for name in ('tensorflow', 'keras') if name in sys.modules]\n"
        code += "    print(time.process_time(), *slow, file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True)
        seconds, *slow = done.stderr.split()
        assert (done.returncode, slow) == (0, [])
        assert "--training.epochs" in done.stdout
        assert float(seconds) < 1


def test_train_arguments(recipe):
    path = recipe("training:\n  epochs: 5\n")
    config, resume = parse_train_arguments([str(path), "--resume", "--run.name", "again"])
    assert (config.training.epochs, config.run.name, resume) == (5, "again", True)
    assert parse_train_arguments([str(path)])[1] is False


def test_default_recipe_is_the_shipped_corpus(monkeypatch):
    monkeypatch.chdir(ROOT)
    config, _ = parse_train_arguments([])
    assert (config.data.folder, config.run.name) == ("data/en-fr", "en-fr")


def test_sections_bear_their_own_names():
    def sections(section, path):
        assert section.section == path
        for name in hints(type(section)):
            if isinstance(getattr(section, name), Section):
                sections(getattr(section, name), f"{path}.{name}".lstrip("."))

    sections(Config(), "")


def test_contradictions_cover_every_section():
    tested = {section.__name__ for section, *_ in CONTRADICTIONS}
    assert tested >= {
        "DataConfig",
        "TokenizerConfig",
        "ModelConfig",
        "TrainingConfig",
        "DecodingConfig",
        "RunConfig",
        "Config",
    }
    assert all(words for *_, words in itertools.chain(CONTRADICTIONS))
