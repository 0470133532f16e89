"""What must hold for every public layer: one list of layers, one test a law."""

import copy
import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import seq2seq.layers
from seq2seq.layers import (
    AttentionContext,
    AttentiveContext,
    Decoder,
    Encoder,
    FinalStateDecoder,
    FinalStateEncoder,
    FrontEnd,
    GRUCell,
    LastContext,
    LSTMCell,
    OutputProjection,
    PooledContext,
    ProjectedContext,
    Recurrent,
)
from seq2seq.layers.attention import LocalWindow
from seq2seq.layers.context import ATTENTION_SCORES
from seq2seq.layers.dropout import SharedDropout, WordDropout
from tests.layers.samples import close, normal, operations, randomize

BATCH, STEPS, QUERIES, UNITS = 3, 5, 2, 6
MASK = np.arange(STEPS) < np.array([[5], [3], [1]])
SEQUENCE = normal(1, BATCH, STEPS, UNITS)
QUERY = normal(2, BATCH, QUERIES, UNITS)
STATE = normal(4, BATCH, 4)
TOKENS = np.random.default_rng(3).integers(0, 9, (BATCH, 4)).astype("int32")
SOURCE_TOKENS = np.random.default_rng(4).integers(0, 9, (BATCH, STEPS)).astype("int32")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A layer, what it is called on, and which inputs grow together when the sequence is padded."""

    create: Any
    inputs: dict[str, Any]
    padded: tuple[tuple[str, ...], ...]
    drops: bool = False

    @functools.cached_property
    def layer(self):
        """The layer of float32, built and random; no test may change it."""
        return built(self)

    @functools.cached_property
    def outputs(self):
        return flat(call(self.layer, self.inputs))

    @functools.cached_property
    def outputs_and_gradients(self):
        return outputs_and_gradients(self.layer, self.inputs)


def sequence(layer_class, *arguments, drops=False, **options):
    """Make the case of a layer over masked sequences."""

    def create(**policy):
        return layer_class(*arguments, **options, **policy)

    return Case(create, {"inputs": SEQUENCE, "mask": MASK}, (("inputs", "mask"),), drops)


def rnn(cell_class, **options):
    def create(**policy):
        return keras.layers.RNN(cell_class(4, **options, **policy), return_sequences=True, **policy)

    return Case(create, {"sequences": SEQUENCE, "mask": MASK}, (("sequences", "mask"),))


def context(layer_class, *arguments, **options):
    inputs = {"memory": SEQUENCE, "query": QUERY, "mask": MASK}
    return dataclasses.replace(
        sequence(layer_class, *arguments, **options), inputs=inputs, padded=(("memory", "mask"), ("query",))
    )


def decoder(coverage=False, more_inputs=(), **options):
    def create(**policy):
        general = AttentionContext("general", coverage=coverage, **policy)
        rates = {"embedding_dropout": 0.3, "dropout": 0.2, "readout_dropout": 0.1}
        return Decoder(9, 5, 4, context=general, **options, **rates, **policy)

    inputs = DECODER_INPUTS | dict(more_inputs)
    return Case(create, inputs, (("token_ids",), ("memory", "memory_mask", *dict(more_inputs))), drops=True)


def embedded_words(**policy):
    """Embed the ids of word dropout, which have no gradients themselves."""
    dropout = WordDropout(0.3, unknown_id=1, kept_ids=(0, 3), seed=5, **policy)
    return keras.Sequential([dropout, keras.layers.Embedding(9, 4, **policy)])


DECODER_INPUTS = {"token_ids": TOKENS, "memory": SEQUENCE, "memory_mask": MASK}
FRONT_END = {"front_end": "convolution", "stride": 2}
CASES = {
    "gru_cell": rnn(GRUCell, bias_initializer="ones"),
    "lstm_cell": rnn(LSTMCell),
    "recurrent": sequence(Recurrent, 4),
    "recurrent_backward_raw": sequence(Recurrent, 4, "lstm", reverse=True, implementation="raw"),
    "recurrent_from_a_state": dataclasses.replace(
        sequence(Recurrent, 4, "lstm", implementation="scan"),
        inputs={"inputs": SEQUENCE, "mask": MASK, "initial_state": [STATE, STATE]},
    ),
    "encoder": sequence(Encoder, 3, 2, residual=True, dropout=0.3, implementation="scan", drops=True),
    "encoder_one_way": sequence(Encoder, 4, cell="rnn", bidirectional=False),
    "encoder_of_fewer_steps": sequence(Encoder, 3, 2, dropout=0.3, kernel_size=5, subsample=2, drops=True, **FRONT_END),
    "front_end": sequence(FrontEnd, kernel_size=3, **FRONT_END),
    "front_end_mean": sequence(FrontEnd, "mean", stride=3),
    "front_end_max": sequence(FrontEnd, "max", stride=3),
    "last": context(LastContext, bidirectional=True),
    "projected": context(ProjectedContext, units=4, bidirectional=True),
    "max": context(PooledContext, "max"),
    "attentive": context(AttentiveContext, units=4),
    **{
        f"attention_{name}": context(AttentionContext, name, units=8, num_heads=2, window=2)
        for name in ATTENTION_SCORES
        if name != "scaled_dot"
    },
    "local_window": dataclasses.replace(
        context(LocalWindow, window=2), inputs={"query": QUERY, "mask": MASK}, padded=(("query",), ("mask",))
    ),
    "decoder": decoder(implementation="scan"),
    "decoder_between": decoder(num_layers=2, attention_position="between", residual=True, cell="lstm"),
    "decoder_bahdanau": decoder(
        context_inputs=("input", "state", "readout"), readout_size=7, cell="gru_reset_before", update_gate="write"
    ),
    "decoder_input_feeding": decoder(input_feeding=True, tie_output=True, cell="gru_simplified"),
    "encoder_final_state": sequence(FinalStateEncoder, 3, num_layers=2, cell="lstm", dropout=0.3, drops=True),
    "decoder_final_state": dataclasses.replace(
        sequence(FinalStateDecoder, 9, 5, UNITS // 2),
        inputs=DECODER_INPUTS,
        padded=(("token_ids",), ("memory", "memory_mask")),
    ),
    "decoder_covering": decoder(coverage=True),
    "decoder_copying": decoder(copy="separate", more_inputs={"source_ids": SOURCE_TOKENS}),
    "readout": dataclasses.replace(
        sequence(OutputProjection, 9, 4), inputs={"inputs": SEQUENCE}, padded=(("inputs",),)
    ),
    "shared_dropout": dataclasses.replace(
        sequence(SharedDropout, 0.3, seed=5, drops=True), inputs={"inputs": SEQUENCE}, padded=(("inputs",),)
    ),
    "word_dropout": Case(embedded_words, {"inputs": TOKENS}, (("inputs",),), drops=True),
}
ONE_OF_EACH_CLASS = {type(case.create()): name for name, case in reversed(CASES.items())}.values()
EVERY_LAYER = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def call(layer, inputs, **options):
    first, *others = inputs
    return layer(inputs[first], **{name: inputs[name] for name in others}, **options)


def built(case, **policy):
    layer = case.create(**policy)
    call(layer, case.inputs)
    return randomize(layer)


def flat(outputs):
    return [tf.cast(output, "float32").numpy() for output in tf.nest.flatten(outputs)]


def all_close(actual, expected, tolerance):
    for one, other in zip(flat(actual), flat(expected), strict=True):
        close(one, other, tolerance)


def outputs_and_gradients(layer, inputs):
    """All outputs, and the gradients to every weight; where there is none, to the first input of real numbers."""
    watched = [variable.value for variable in layer.trainable_variables]
    if not watched:
        first = tf.constant(next(value for value in inputs.values() if value.dtype.kind == "f"))
        watched = [first]
        inputs = inputs | {next(iter(inputs)): first}
    with tf.GradientTape() as tape:
        tape.watch(watched)
        outputs = tf.nest.flatten(call(layer, inputs))
        loss = sum(tf.reduce_sum(tf.cast(output, "float32") * normal(6, *output.shape)) for output in outputs)
    return flat(outputs), [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, watched)]


def open_shape(value):
    """Any number of rows and of steps; a state has no steps."""
    open_axes = 1 if value is STATE else 2
    return (*[None] * open_axes, *value.shape[open_axes:])


def functional(case, create_output, steps=False):
    """Build a plain Keras model around one layer, for any number of rows and steps or for these."""

    def symbol(value):
        return keras.Input(batch_shape=value.shape if steps else open_shape(value), dtype=value.dtype.name)

    symbols = tf.nest.map_structure(symbol, case.inputs)
    layer = case.create()
    model = keras.Model(tf.nest.flatten(symbols), create_output(call(layer, symbols)))
    randomize(layer)
    return model, layer


def test_list_is_complete():
    listed = set()
    for case in CASES.values():
        listed |= {type(part) for part in case.create()._flatten_layers()}
    found = set()
    for module in pkgutil.iter_modules(seq2seq.layers.__path__, "seq2seq.layers."):
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and keras.saving.get_registered_name(value).startswith("seq2seq>"):
                found.add(value)
    assert {value for value in found if issubclass(value, keras.Layer)} <= listed
    public = {getattr(seq2seq.layers, name) for name in seq2seq.layers.__all__}
    assert {value for value in public if inspect.isclass(value)} <= found


@EVERY_LAYER
def test_saved_model_loads_in_plain_keras(case, tmp_path):
    model, layer = functional(case, lambda outputs: outputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer(layer.name)) is type(layer)
    all_close(loaded(tf.nest.flatten(case.inputs)), call(layer, case.inputs), 0)


@EVERY_LAYER
def test_config_survives_json(case):
    layer = case.layer
    config = json.loads(json.dumps(layer.get_config()))
    again = type(layer).from_config(copy.deepcopy(config))
    call(again, case.inputs)
    assert json.loads(json.dumps(again.get_config())) == config
    again.set_weights(layer.get_weights())
    all_close(call(again, case.inputs), case.outputs, 0)
    low = case.create(dtype=keras.DTypePolicy("mixed_bfloat16"))
    assert type(low).from_config(low.get_config()).dtype_policy == low.dtype_policy
    for part in layer._flatten_layers():
        if type(part).__module__.startswith("seq2seq") and "__init__" in vars(type(part)):
            arguments = inspect.signature(type(part).__init__).parameters.values()
            named = {argument.name for argument in arguments if argument.kind is not argument.VAR_KEYWORD} - {"self"}
            assert named <= set(part.get_config())


@EVERY_LAYER
def test_padding_changes_nothing(case):
    for together in case.padded:
        inputs = dict(case.inputs)
        for name in together:
            value = inputs[name]
            garbage = {"b": False, "i": 1}.get(value.dtype.kind, 1e3)
            inputs[name] = np.concatenate([value, np.full((BATCH, 3, *value.shape[2:]), garbage, value.dtype)], axis=1)
        for padded, output in zip(flat(call(case.layer, inputs)), case.outputs, strict=True):
            close(padded[tuple(slice(size) for size in output.shape)], output, 1e-5)


@EVERY_LAYER
def test_masked_steps_change_nothing(case):
    masks = [name for name in case.inputs if name.endswith("mask")]
    for name in masks:
        (group,) = (group for group in case.padded if name in group)
        inputs = dict(case.inputs)
        for other in set(group) - {name}:
            value = inputs[other]
            garbage = value.dtype.type(1 if value.dtype.kind == "i" else -1e3)
            inputs[other] = np.where(MASK.reshape(*MASK.shape, *[1] * (value.ndim - 2)), value, garbage)
        all_close(call(case.layer, inputs), case.outputs, 1e-5)


@EVERY_LAYER
def test_gradients_reach_every_weight(case):
    _, gradients = case.outputs_and_gradients
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        assert gradient.any()


@EVERY_LAYER
def test_eager_and_graph_agree(case):
    signature = tf.nest.map_structure(lambda value: tf.TensorSpec(open_shape(value), value.dtype), case.inputs)
    function = tf.function(lambda inputs: call(case.layer, inputs), [signature], autograph=False)
    all_close(function(tf.nest.map_structure(tf.constant, case.inputs)), case.outputs, 1e-6)
    first_row = tf.nest.map_structure(lambda value: tf.constant(value[:1]), case.inputs)
    for one, all_rows in zip(flat(function(first_row)), case.outputs, strict=True):
        close(one, all_rows[:1], 1e-5)


@EVERY_LAYER
@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.15), ("mixed_float16", 0.02)])
def test_mixed_precision_is_close_to_float32(case, policy, tolerance):
    low = built(case, dtype=policy)
    low.set_weights(case.layer.get_weights())
    assert all(variable.dtype == "float32" for variable in low.trainable_variables)
    outputs, gradients = case.outputs_and_gradients
    low_outputs, low_gradients = outputs_and_gradients(low, case.inputs)
    for output, expected in zip(low_outputs, outputs, strict=True):
        close(output, expected, tolerance)
        assert np.abs(output - expected).mean() < tolerance / 5
    for gradient, expected in zip(low_gradients, gradients, strict=True):
        assert gradient.dtype == "float32"
        assert np.linalg.norm(gradient - expected) <= tolerance * np.linalg.norm(expected) + tolerance / 5


@EVERY_LAYER
def test_inference_draws_no_random_numbers(case):
    def traced(**options):
        function = tf.function(lambda inputs: call(case.layer, inputs, **options), autograph=False)
        found = operations(function.get_concrete_function(tf.nest.map_structure(tf.constant, case.inputs)))
        return [name for name in found if "Random" in name or "Assign" in name]

    assert not traced()
    if case.drops:
        assert not traced(training=False)
        assert traced(training=True)


@pytest.mark.parametrize("name", ONE_OF_EACH_CLASS)
def test_a_functional_model_fits_for_a_step(name):
    """One of each class: `fit` traces a whole step, which takes its time, and all of a class come in alike."""
    case = CASES[name]
    dense = keras.layers.Dense(1)
    model, layer = functional(case, lambda outputs: dense(tf.nest.flatten(outputs)[0]), steps=True)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [weight.copy() for weight in layer.get_weights()]
    target = np.ones((*flat(call(layer, case.inputs))[0].shape[:-1], 1), "float32")
    history = model.fit(tf.nest.flatten(case.inputs), target, batch_size=BATCH, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert all(
        (old != new).any() for old, new in zip(before, layer.get_weights(), strict=True) if old.dtype.kind == "f"
    )
