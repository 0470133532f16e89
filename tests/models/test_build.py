"""Settings that layers, search or tokenizer cannot combine: the error names key and line before any work."""

import re

import pytest

from seq2seq.config.flags import load_config
from seq2seq.errors import ConfigError
from seq2seq.models.build import check_recipe

TAG = ["--task", "tag", "--training.monitor", "accuracy"]
CONVOLUTION = ["--model.encoder.front_end", "convolution", "--model.encoder.stride", "3"]


def refused(recipe, flags):
    with pytest.raises(ConfigError) as error:
        check_recipe(load_config(recipe, flags))
    return error.value


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--model.encoder.stride", "2"], "model.encoder.stride"),
        (["--model.encoder.front_end", "max"], "model.encoder.stride"),
        ([*CONVOLUTION, "--model.encoder.kernel_size", "2"], "model.encoder.kernel_size"),
        (["--model.encoder.subsample", "2"], "model.encoder.subsample"),
        (["--model.encoder.cell", "lstm", "--model.encoder.update_gate", "write"], "model.encoder.update_gate"),
        (["--model.decoder.cell", "rnn", "--model.decoder.update_gate", "write"], "model.decoder.update_gate"),
        (["--model.decoder.attention_position", "between"], "model.decoder."),
        (["--model.context", "last", "--model.decoder.attention_position", "between"], "model.decoder."),
        (["--model.context_inputs"], "model.context_inputs"),
        (["--model.context_inputs", "state"], "model.context_inputs"),
        (["--model.decoder.units", "300"], "model."),
        (["--model.attention.score", "location", "--model.attention.units", "3"], "model.attention.units"),
        (["--model.attention.score", "multi_head", "--model.attention.num_heads", "3"], "model."),
        (["--model.tie_embeddings", "output", "--model.readout_size", "3"], "model."),
        (["--model.copy", "reuse", "--model.context", "last"], "model.copy"),
        (["--model.copy", "reuse", "--tokenizer.shared", "false"], "tokenizer.shared"),
        (["--model.force_copy", "true"], "model.force_copy"),
        (["--model.coverage_loss", "1", "--model.context", "mean"], "model.coverage_loss"),
        ([*TAG, "--model.encoder.front_end", "mean", "--model.encoder.stride", "2"], "model.encoder"),
        (["--task", "classify", "--training.monitor", "accuracy"], "model.context"),
        (["--decoding.n_best", "9"], "decoding.n_best"),
        (["--decoding.top_k", "9"], "decoding.top_k"),
        (["--training.sampling_alpha", "0.1", "--training.sampling_nbest", "1"], "training.sampling_nbest"),
        (["--tokenizer.kind", "word", "--tokenizer.byte_fallback", "true"], "tokenizer.byte_fallback"),
        (["--tokenizer.target_vocabulary_size", "9"], "tokenizer.target_vocabulary_size"),
        (["--tokenizer.user_symbols", "a b"], "tokenizer.user_symbols"),
    ],
)
def test_settings_that_exclude_each_other(flags, key):
    error = refused(None, flags)
    assert error.key.startswith(key)
    assert str(error).startswith(error.key)


def test_the_line_of_the_recipe_is_named(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model:\n  encoder:\n    units: 8\n    stride: 2\n")
    assert re.match(rf"{re.escape(str(recipe))}:4: model\.encoder\.stride must be", str(refused(recipe, [])))
    assert str(refused(recipe, ["--model.encoder.stride", "3"])).startswith("model.encoder.stride must be")


@pytest.mark.parametrize("flags", [[], [*TAG, "--model.context", "last"], ["--model.copy", "reuse"]])
def test_good_recipes_pass(flags):
    check_recipe(load_config(None, flags))
