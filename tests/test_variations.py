"""The runs of a comparison: which there are, what they are called, and what is said about mistakes."""

import itertools
import subprocess
import sys

import pytest

from seq2seq.config.flags import load_config
from seq2seq.config.sweep import Axis, plan_comparison, read_axis, short_names
from seq2seq.errors import ConfigError

RECIPE = """\
model:
  encoder:
    units: 64
  decoder:
    units: 128
training:
  epochs: 3
"""


@pytest.fixture
def recipe(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


class TestVariants:
    def test_are_every_combination_of_the_values(self, recipe):
        contexts, rates, seeds = ["last", "mean", "attention"], ["0.1", "1e-3"], ["0", "7"]
        comparison = plan_comparison(
            recipe,
            ["model.context=last,mean,attention", "training.learning_rate=0.1,1e-3", "run.seed=0,7"],
            {"training.epochs": "5"},
        )
        found = [
            (config.model.context, config.training.learning_rate, config.run.seed)
            for config in (variant.config for variant in comparison.variants)
        ]
        assert found == list(itertools.product(contexts, [0.1, 0.001], [0, 7]))
        names = [tuple(variant.settings.values()) for variant in comparison.variants]
        assert names == list(itertools.product(contexts, rates, seeds))
        assert all(list(variant.settings) == ["context", "learning_rate", "seed"] for variant in comparison.variants)
        assert {variant.config.training.epochs for variant in comparison.variants} == {5}
        assert {variant.config.model.encoder.units for variant in comparison.variants} == {64}

    def test_differ_from_the_recipe_in_nothing_else(self, recipe):
        (variant, _) = plan_comparison(recipe, ["model.context=last,mean"], {}).variants
        right = load_config(recipe, ["--model.context", "last"])
        assert variant.config.replaced(run=right.run.to_dict()) == right

    def test_take_one_value_for_tied_settings(self, recipe):
        comparison = plan_comparison(recipe, ["model.encoder.cell, model.decoder.cell=rnn, lstm"], {})
        cells = [
            (variant.config.model.encoder.cell, variant.config.model.decoder.cell) for variant in comparison.variants
        ]
        assert cells == [("rnn", "rnn"), ("lstm", "lstm")]
        assert [variant.name for variant in comparison.variants] == ["cell=rnn", "cell=lstm"]

    def test_may_differ_in_lists_in_nothing_given_and_in_truths(self, recipe):
        comparison = plan_comparison(
            recipe, ["model.context_inputs=state+input+readout,state", "data.test=null,other", "data.dev=a,b"],
            {"model.context": "last", "model.encoder.bidirectional": "false"},
        )  # fmt: skip
        first, *_, last = (variant.config for variant in comparison.variants)
        assert (first.model.context_inputs, first.data.test) == (("state", "input", "readout"), None)
        assert (last.model.context_inputs, last.data.test) == (("state",), "other")
        truths = plan_comparison(
            recipe,
            ["model.encoder.bidirectional=true,false"],
            {"model.context": "last"},
        )
        assert [variant.config.model.encoder.bidirectional for variant in truths.variants] == [True, False]

    def test_may_need_what_differs_to_be_right(self, recipe):
        # With the recipe's own 64 units of the encoder, dot attention would not fit this decoder.
        flags = {"model.decoder.units": "32"}
        (variant,) = plan_comparison(recipe, ["model.encoder.units=16"], flags).variants
        assert variant.config.model.encoder.units == 16


class TestNames:
    def test_of_folders(self, recipe):
        comparison = plan_comparison(
            recipe, ["model.context=last,mean", "model.context_inputs=state,state+readout"], {}
        )
        assert (comparison.name, comparison.folder.as_posix()) == ("compare-corpus", "checkpoints/compare-corpus")
        assert [variant.config.run.path.as_posix() for variant in comparison.variants] == [
            "checkpoints/compare-corpus/context=last,context_inputs=state",
            "checkpoints/compare-corpus/context=last,context_inputs=state+readout",
            "checkpoints/compare-corpus/context=mean,context_inputs=state",
            "checkpoints/compare-corpus/context=mean,context_inputs=state+readout",
        ]

    def test_that_are_given(self, recipe):
        vary = ["model.context=last,mean"]
        comparison = plan_comparison(recipe, vary, {"run.folder": "/tmp/runs", "run.name": "short"}, "contexts")
        assert (comparison.name, comparison.folder.as_posix()) == ("contexts", "/tmp/runs/contexts")
        assert comparison.variants[0].config.run.path.as_posix() == "/tmp/runs/contexts/context=last"
        assert plan_comparison(recipe, vary, {"run.name": "short"}).name == "compare-short"

    def test_of_folders_hold_whatever_a_value_is(self, recipe):
        values = ["../up", "a b", "a%20b", "été", "a:b*", "k=v"]
        comparison = plan_comparison(recipe, [f"data.train={','.join(values)}"], {})
        folders = [variant.config.run.name for variant in comparison.variants]
        assert len(set(folders)) == len(values)
        assert not any(set(folder) & set("/\\:* ") for folder in folders)
        assert [variant.config.data.train for variant in comparison.variants] == values

    @pytest.mark.parametrize(
        ("axes", "names"),
        [
            ([["model.context"]], ["context"]),
            ([["model.encoder.cell", "model.decoder.cell"], ["model.context"]], ["cell", "context"]),
            ([["model.encoder.units"], ["model.decoder.units"]], ["encoder.units", "decoder.units"]),
            ([["model.encoder.units"], ["model.decoder.units", "model.attention.units"]],
             ["encoder.units", "decoder.units+attention.units"]),
            ([["model.embedding_dropout", "model.readout_dropout"]], ["embedding+readout"]),
        ],
    )  # fmt: skip
    def test_of_axes_are_short_and_different(self, axes, names):
        assert short_names(axes) == names


def test_an_axis_may_hold_equals_signs():
    assert read_axis("data.train=a=b,c") == Axis(("data.train",), ("a=b", "c"))


class TestMistakes:
    @pytest.mark.parametrize(
        ("vary", "flags", "words"),
        [
            ([], {}, "compare needs at least one --vary KEY=VALUE,VALUE, such as --vary model.context=last,attention, "
             "but none is given. Say which setting the runs differ in."),
            (["model.context"], {}, "--vary must be KEY=VALUE,VALUE, such as model.context=last,attention, but is "
             "'model.context' instead."),
            (["model.context="], {}, "--vary must be KEY=VALUE,VALUE, such as model.context=last,attention, but is "
             "'model.context=' instead."),
            (["=last"], {}, "but is '=last' instead."),
            (["model.context=last,,mean"], {}, "but is 'model.context=last,,mean' instead."),
            (["model.contxt=last,mean"], {}, "model.contxt is not a setting. Did you mean model.context?"),
            (["model.encoder=rnn,lstm"], {}, "model.encoder is not a setting. Did you mean model.encoder."),
            (["model.context=last,men"], {}, "variant context=men: model.context must be one of last, projected, mean, "
             "max, sum, attentive, attention, but is 'men' instead. Did you mean mean?"),
            (["training.epochs=1,many"], {}, "training.epochs must be a whole number, but is 'many' instead."),
            (["training.epochs=1,0"], {}, "variant epochs=0: training.epochs must be at least 1, but is 0 instead."),
            (["model.context=last,mean,last"], {}, "--vary model.context=last,mean,last: every value must be given "
             "once, but last comes twice instead. Keep one."),
            (["training.ema=0.5,.5"], {}, "every value must be given once, but .5 comes twice instead. Keep one."),
            (["run.seed=0,1", "training.epochs,run.seed=1,2"], {},
             "run.seed must be varied once, but is varied twice instead. Keep one."),
            (["run.seed,run.seed=0,1"], {}, "run.seed must be varied once, but is varied twice instead. Keep one."),
            (["run.seed=0,1"], {"run.seed": "3"},
             "run.seed must be varied or set, but --run.seed is given too. Keep one of the two."),
            (["run.name=a,b"], {},
             "run.name cannot be varied: a comparison names its runs. Choose its name with --name."),
            (["run.folder=a,b"], {},
             "run.folder cannot be varied: a comparison names its runs. Choose its name with --name."),
            # What contradicts a setting that holds for all runs is told of the first run that it is wrong for.
            (["model.decoder.attention_position=after,between"], {"model.context": "last"},
             "variant attention_position=between: model.decoder.num_layers must be at least 2 where model.decoder.attention_position is "
             "between, but is 1 instead."),
            (["model.context=attention,last"], {"model.decoder.attention_position": "between", "model.decoder.num_layers": "2"},
             "model.decoder.attention_position must be after where model.context is last, but is 'between' instead. "
             "Only attention is read between layers."),
        ],
    )  # fmt: skip
    def test_are_told(self, recipe, vary, flags, words):
        with pytest.raises(ConfigError) as error:
            plan_comparison(recipe, vary, flags)
        assert words in str(error.value)

    def test_in_a_flag_are_told_of_the_flag(self, recipe):
        with pytest.raises(ConfigError) as error:
            plan_comparison(recipe, ["model.context=last,mean"], {"training.epochs": "0"})
        assert str(error.value) == "training.epochs must be at least 1, but is 0 instead."

    @pytest.mark.parametrize("name", ["", "..", "a/b"])
    def test_in_the_name(self, recipe, name):
        with pytest.raises(ConfigError) as error:
            plan_comparison(recipe, ["run.seed=0,1"], {}, name)
        assert str(error.value) == f"--name must be a folder's name, without slashes, but is {name!r} instead."

    def test_in_the_recipe_are_told_of_the_recipe(self, recipe):
        recipe.write_text("training:\n  epoch: 3\n")
        with pytest.raises(ConfigError) as error:
            plan_comparison(recipe, ["run.seed=0,1"], {})
        assert str(error.value).startswith(f"{recipe}:2: training.epoch is not a setting.")

    def test_with_the_recipe_name_the_variant_and_the_line(self, recipe):
        recipe.write_text("model:\n  decoder:\n    num_layers: 2\n    attend: between\n")
        with pytest.raises(ConfigError) as error:
            plan_comparison(recipe, ["model.context=attention,last"], {})
        assert str(error.value).startswith(
            f"variant context=last: {recipe}:4: model.decoder.attention_position must be after"
        )


def test_plans_without_tensorflow():
    code = "import sys\nfrom seq2seq.config import plan_comparison\nplan_comparison(None, ['run.seed=0,1'], {})\n"
    done = subprocess.run([sys.executable, "-c", code + "print('tensorflow' in sys.modules)"], capture_output=True)
    assert done.stdout.strip() == b"False"
