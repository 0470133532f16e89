"""The runs of a comparison: which there are, what they are called, and what is said about mistakes."""

import itertools
import subprocess
import sys

import pytest

from seq2seq.config.flags import load_config
from seq2seq.config.sweep import Axis, plan_comparison, read_axis, short_names
from seq2seq.errors import ConfigError

RECIPE = "model:\n  encoder:\n    units: 64\n  decoder:\n    units: 128\ntraining:\n  epochs: 3\n"


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
        configs = [variant.config for variant in comparison.variants]
        found = [(config.model.context, config.training.learning_rate, config.run.seed) for config in configs]
        assert found == list(itertools.product(contexts, [0.1, 0.001], [0, 7]))
        names = [tuple(variant.settings.values()) for variant in comparison.variants]
        assert names == list(itertools.product(contexts, rates, seeds))
        assert all(list(variant.settings) == ["context", "learning_rate", "seed"] for variant in comparison.variants)
        assert {config.training.epochs for config in configs} == {5}
        assert {config.model.encoder.units for config in configs} == {64}

    def test_differ_from_the_recipe_in_nothing_else(self, recipe):
        (variant, _) = plan_comparison(recipe, ["model.context=last,mean"], {}).variants
        right = load_config(recipe, ["--model.context", "last"])
        assert variant.config.replaced(run=right.run.to_dict()) == right

    def test_take_one_value_for_tied_settings(self, recipe):
        comparison = plan_comparison(recipe, ["model.encoder.cell, model.decoder.cell=rnn, lstm"], {})
        models = [variant.config.model for variant in comparison.variants]
        assert [(model.encoder.cell, model.decoder.cell) for model in models] == [("rnn", "rnn"), ("lstm", "lstm")]
        assert [variant.name for variant in comparison.variants] == ["cell=rnn", "cell=lstm"]

    def test_may_differ_in_lists_nulls_and_booleans(self, recipe):
        vary = ["model.context_inputs=state+input,state", "data.test=null,other", "model.encoder.residual=true,false"]
        first, *_, last = (variant.config for variant in plan_comparison(recipe, vary, {}).variants)
        assert (first.model.context_inputs, first.data.test) == (("state", "input"), None)
        assert (last.model.context_inputs, last.data.test) == (("state",), "other")
        assert (first.model.encoder.residual, last.model.encoder.residual) == (True, False)

    def test_may_mend_the_recipe(self, recipe):
        flags = {"training.weight_decay": "0.1"}
        (variant,) = plan_comparison(recipe, ["training.optimizer=adamw"], flags).variants
        assert variant.config.training.optimizer == "adamw"


class TestNames:
    def test_of_folders(self, recipe):
        vary = ["model.context=last,mean", "model.context_inputs=state,state+readout"]
        comparison = plan_comparison(recipe, vary, {})
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
            (
                [["model.encoder.units"], ["model.decoder.units", "model.attention.units"]],
                ["encoder.units", "decoder.units+attention.units"],
            ),
        ],
    )
    def test_of_axes_are_short_and_different(self, axes, names):
        assert short_names(axes) == names


def test_an_axis_may_hold_equals_signs():
    assert read_axis("data.train=a=b,c") == Axis(("data.train",), ("a=b", "c"))


class TestMistakes:
    @pytest.mark.parametrize(
        ("vary", "flags", "words"),
        [
            ([], {}, "compare needs --vary KEY=VALUE,VALUE"),
            (["model.context"], {}, "--vary must be KEY=VALUE,VALUE, such as model.context=last,attention, got"),
            (["=last"], {}, "--vary must be KEY=VALUE,VALUE"),
            (["model.context=last,,mean"], {}, "--vary must be KEY=VALUE,VALUE"),
            (["model.contxt=last,mean"], {}, "model.contxt is not a setting. Did you mean model.context?"),
            (["model.encoder=rnn,lstm"], {}, "model.encoder is not a setting. Did you mean model.encoder."),
            (["model.context=last,men"], {}, "variant context=men: model.context must be"),
            (["training.epochs=1,many"], {}, "variant epochs=many: training.epochs must be"),
            (["training.epochs=1,0"], {}, "variant epochs=0: training.epochs must be"),
            (["training.ema=0.5,.5"], {}, "--vary must give different runs, got ema=0.5 and ema=.5. Keep one."),
            (["run.seed=0,1", "training.epochs,run.seed=1,2"], {}, "run.seed must be varied once"),
            (["run.seed=0,1"], {"run.seed": "3"}, "run.seed must be varied or set, got --run.seed too."),
            (["run.name=a,b"], {}, "run.name cannot be varied"),
            (["run.folder=a,b"], {}, "run.folder cannot be varied"),
        ],
    )
    def test_are_named(self, recipe, vary, flags, words):
        with pytest.raises(ConfigError) as error:
            plan_comparison(recipe, vary, flags)
        assert words in str(error.value)

    def test_of_flags_and_recipe_are_no_variants(self, recipe):
        with pytest.raises(ConfigError, match=r"^training\.epochs must be"):
            plan_comparison(recipe, ["model.context=last,mean"], {"training.epochs": "0"})
        recipe.write_text("training:\n  epoch: 3\n")
        with pytest.raises(ConfigError, match=r"recipe\.yaml:2: training\.epoch is not a setting\.") as error:
            plan_comparison(recipe, ["run.seed=0,1"], {})
        assert "variant" not in str(error.value)

    @pytest.mark.parametrize("name", ["", "..", "a/b"])
    def test_in_the_name(self, recipe, name):
        with pytest.raises(ConfigError, match=r"^--name must be a folder's name, without slashes"):
            plan_comparison(recipe, ["run.seed=0,1"], {}, name)

    def test_name_the_variant_and_the_line(self, recipe):
        recipe.write_text("training:\n  weight_decay: 0.1\n  optimizer: adamw\n")
        with pytest.raises(ConfigError, match=r"^variant optimizer=adam: .*recipe\.yaml:2: training\.weight_decay"):
            plan_comparison(recipe, ["training.optimizer=adamw,adam"], {})


def test_plans_without_tensorflow():
    code = "import sys\nfrom seq2seq.config.sweep import plan_comparison\nplan_comparison(None, ['run.seed=0,1'], {})\n"
    done = subprocess.run([sys.executable, "-c", code + "print('tensorflow' in sys.modules)"], capture_output=True)
    assert done.stdout.strip() == b"False"
