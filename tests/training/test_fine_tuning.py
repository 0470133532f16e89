"""Runs that start from another model: whose weights they have, and every way in which it may not fit."""

import re

import numpy as np
import pytest

from seq2seq.config.flags import parse_train_arguments
from seq2seq.errors import ConfigError, ModelFileError
from seq2seq.layers import Decoder, Encoder
from seq2seq.models.archive import load, save
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.training import trainer as loop
from seq2seq.training.evaluation import corpus_loss
from seq2seq.training.fine_tuning import init_from, named_weights, read_start
from seq2seq.training.run import train
from tests.training.conftest import write_corpus


def weights_of(model):
    return {name: variable.numpy() for name, variable in named_weights(model).items()}


@pytest.fixture(scope="module")
def start(make_model):
    """Make a model of random weights and biases, so that nothing can be right by chance."""
    model = make_model(seed=5, decoding__beam_size=2)
    random = np.random.default_rng(5)
    model.set_weights([random.normal(scale=0.3, size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def start_path(start, tmp_path_factory):
    return save(start, tmp_path_factory.mktemp("start") / "model.keras")


@pytest.fixture
def begin(toy_config, make_step, start_path, tmp_path):
    """Begin a run that starts from the file, and return its step and its log lines."""

    def make(**changes):
        changes = {"training__init_from": str(start_path), "run__folder": str(tmp_path)} | changes
        config = toy_config(**changes)
        step = make_step(seed=2, ema=0.9, **changes)
        return step, init_from(step, read_start(config), config)

    return make


class TestNames:
    def test_are_one_a_weight_and_the_same_however_a_model_was_made(self, make_model, tmp_path):
        model = make_model(
            model__attention__score="additive", model__tie_embeddings="output", model__encoder__num_layers=2
        )
        built = named_weights(model)
        assert {id(variable) for variable in built.values()} == {id(variable) for variable in model.trainable_variables}
        assert set(built) == {
            *(f"encoder/{way}_{index}/cell/{name}" for way in ("forward", "backward") for index in (0, 1)
              for name in ("kernel", "recurrent_kernel", "bias")),
            *(f"decoder/context/score/{name}" for name in ("query_kernel", "memory_kernel", "vector")),
            "decoder/embedding/embeddings", "source_embedding/embeddings",
            *(f"decoder/recurrent_0/cell/{name}" for name in ("kernel", "recurrent_kernel", "bias")),
            "decoder/bridge_0_0/kernel", "decoder/bridge_0_0/bias",
            *(f"decoder/readout/{name}" for name in ("kernel", "bias", "output_bias")),
        }  # fmt: skip
        read = load(save(model, tmp_path / "model.keras"))
        by_hand = Seq2Seq(
            Encoder.from_config(model.encoder.get_config() | {"name": "reader"}),
            Decoder.from_config(model.decoder.get_config() | {"name": "writer"}),
            source_vocabulary_size=model.source_vocabulary_size,
        )
        for other in (read, by_hand, clone_with_implementation(read, "raw")):
            shapes = {name: variable.shape for name, variable in named_weights(other).items()}
            assert shapes == {name: variable.shape for name, variable in built.items()}
        for name, variable in named_weights(read).items():
            np.testing.assert_array_equal(variable, built[name])


class TestWeights:
    def test_are_those_of_the_other_model_in_the_moving_average_too(self, begin, start, start_path):
        step, said = begin()
        right = weights_of(start)
        for model in (step.model, step.averaged):
            found = weights_of(model)
            assert found.keys() == right.keys()
            for name, numbers in found.items():
                np.testing.assert_array_equal(numbers, right[name], err_msg=name)
        assert said == f"starting from {start_path}: its tokenizer and {len(right)} of {len(right)} weights"

    def test_coverage_and_copying_can_be_added(self, begin, start, toy_pairs):
        sources, targets = zip(*toy_pairs[:8], strict=True)
        ids = {
            "source_ids": pad(start.tokenizer.source.encode(sources)),
            "target_ids": pad(start.tokenizer.target.encode(targets)),
        }
        before, _ = start.loss_and_tokens(ids)
        covering, said = begin(model__attention__coverage=True)
        assert said.splitlines()[1].endswith("at first: decoder/context/coverage_kernel")
        np.testing.assert_allclose(covering.model.loss_and_tokens(ids)[0], before, rtol=1e-6)
        copying, said = begin(model__copy="separate")
        names = ", ".join(f"decoder/copying/{name}" for name in ("kernel", "bias", "score/kernel"))
        assert said.splitlines()[1].endswith(f"at first: {names}")
        for model in (copying.model, copying.averaged):
            loss, tokens = model.loss_and_tokens(ids)
            # log sigmoid(5) = -0.0067 a token, less what copies give back.
            assert -0.05 < float(loss - before) / float(tokens) < 0.007

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"model__embedding_size": 20}, "decoder/embedding/embeddings has the shape (46, 16)"),
            ({"model__encoder__num_layers": 2}, "encoder/forward_1/cell/kernel is missing there"),
            ({"model__context_inputs": ["readout"]}, "decoder/bridge_0_0/kernel is there and not here"),
            ({"model__decoder__update_gate": "write"}, "the update gate of decoder/recurrent_0"),
        ],
    )
    def test_that_do_not_fit_are_named(self, begin, changes, words):
        with pytest.raises(ConfigError, match=rf"{re.escape(words)}.*training\.reinitialize"):
            begin(**changes)

    def test_named_in_the_recipe_start_at_random_or_are_left(self, begin, make_step, start):
        changes = {"model__encoder__num_layers": 2, "model__context_inputs": ["readout"]}
        anew = ["encoder/forward_1", "encoder/backward_1", "decoder/bridge_0_0", "decoder/readout/output_bias"]
        step, said = begin(training__reinitialize=anew, **changes)
        at_random, right = weights_of(make_step(seed=2, **changes).model), weights_of(start)
        new = {
            *(f"encoder/{way}_1/cell/{name}" for way in ("forward", "backward")
              for name in ("kernel", "recurrent_kernel", "bias")),
            "decoder/readout/output_bias",
        }  # fmt: skip
        found = weights_of(step.averaged)
        for name, numbers in found.items():
            np.testing.assert_array_equal(numbers, (at_random if name in new else right)[name], err_msg=name)
        first, random, unused, *changed = said.splitlines()
        assert first.endswith(f"{len(found) - 7} of {len(found)} weights")
        assert set(random.removeprefix("starting at random: ").split(", ")) == new
        assert unused == "left unused: decoder/bridge_0_0/kernel, decoder/bridge_0_0/bias"
        assert changed == [
            "model.context_inputs is ['state', 'readout'] there and ['readout'] here",
            "model.encoder.num_layers is 1 there and 2 here",
        ]

    def test_wired_in_another_way_are_said_and_dropout_is_free(self, begin):
        _, said = begin(model__attention__score="scaled_dot", model__readout_dropout=0.5)
        assert said.splitlines()[1:] == ["model.attention.score is 'dot' there and 'scaled_dot' here"]

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [("decoder/readot", r" Did you mean decoder/readout\?"), ("decoder/read", ""), ("xyz", "$")],
    )
    def test_of_a_name_that_is_nowhere(self, begin, name, suggestion):
        with pytest.raises(ConfigError, match=rf"training\.reinitialize must .*, got {name!r}\.{suggestion}"):
            begin(training__reinitialize=[name])


class TestStart:
    def test_of_a_file_that_is_not_there(self, toy_config, tmp_path):
        with pytest.raises(ModelFileError, match=r"none\.keras: no such model file"):
            read_start(toy_config(training__init_from=str(tmp_path / "none.keras")))

    def test_of_another_tokenizer(self, toy_config, start_path):
        config = toy_config(training__init_from=str(start_path), tokenizer={"kind": "bpe", "vocabulary_size": 90})
        with pytest.raises(ConfigError, match=r"tokenizer\.kind .* here; tokenizer\.vocabulary_size "):
            read_start(config)

    def test_of_a_model_without_a_recipe_asks_whether_the_vocabulary_is_shared(self, start, toy_config, tmp_path):
        bare = Seq2Seq.from_config(start.get_config() | {"recipe": {}})
        bare.tokenizer = start.tokenizer
        path = save(bare, tmp_path / "bare.keras")
        assert read_start(toy_config(training__init_from=str(path))).tokenizer == start.tokenizer
        with pytest.raises(ConfigError, match=r"tokenizer\.shared is True there and False here"):
            read_start(toy_config(training__init_from=str(path), tokenizer={"shared": False}))

    def test_of_a_model_without_a_tokenizer(self, start, toy_config, tmp_path):
        path = save(Seq2Seq.from_config(start.get_config()), tmp_path / "bare.keras")
        with pytest.raises(ModelFileError, match="must start from a model with a tokenizer"):
            read_start(toy_config(training__init_from=str(path)))

    def test_in_the_folder_that_the_run_replaces(self, toy_config, tmp_path):
        path = tmp_path / "run" / "model.keras"
        with pytest.raises(ConfigError, match=r"training\.init_from must be a model outside the run's own folder"):
            read_start(toy_config(training__init_from=str(path), run__folder=str(tmp_path), run__name="run"))


class TestRun:
    RECIPE = """\
data: {source: en, target: eo, test: null}
tokenizer: {kind: word, vocabulary_size: 100}
model: {embedding_size: 16, encoder: {units: 16}, decoder: {units: 32}}
training: {precision: float32, batch_tokens: 512, epochs: 1}
"""

    @pytest.fixture
    def recipe(self, tmp_path, toy_pairs):
        # Too few words for the tokenizer of the model that it starts from.
        return write_corpus(tmp_path, self.RECIPE, train=toy_pairs[:60], dev=toy_pairs[60:80])

    def flags(self, recipe, *more):
        config, _ = parse_train_arguments([str(recipe), "--run.folder", str(recipe.parent / "runs"), *more])
        return config

    def test_begins_with_the_dev_loss_and_the_tokenizer_of_the_other_model(
        self, recipe, start, start_path, toy_pairs, monkeypatch, capsys
    ):
        class StoppedError(Exception):
            pass

        def stop(self):
            assert self.state.updates == 0
            raise StoppedError(self.step.averaged)

        monkeypatch.setattr(loop.Trainer, "run", stop)
        with pytest.raises(StoppedError) as begun:
            train(self.flags(recipe, "--training.init_from", str(start_path)))
        (model,) = begun.value.args
        assert model.tokenizer == start.tokenizer
        sources, targets = zip(*toy_pairs[60:80], strict=True)
        assert corpus_loss(model, sources, targets) == pytest.approx(corpus_loss(start, sources, targets), rel=1e-6)
        assert f"starting from {start_path}: its tokenizer and " in capsys.readouterr().err
        folder = recipe.parent / "runs" / recipe.parent.name
        assert (folder / "state" / "joint.model").read_bytes() == start.tokenizer.models["joint.model"]
