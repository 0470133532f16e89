"""The decoder: all steps at once, one step at a time and a NumPy loop agree, for every way to read the source."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.errors import ArgumentError
from seq2seq.layers import Decoder, create_context
from seq2seq.layers.context import ATTENTION_SCORES, CONTEXTS
from seq2seq.layers.decoder import CONTEXT_INPUTS
from seq2seq.layers.dropout import SharedDropout
from tests.layers import oracles
from tests.layers.samples import CELLS, GATED, close, normal, randomize, weights_of

BATCH, TARGET_STEPS, SOURCE_STEPS, MEMORY_UNITS, UNITS, EMBEDDING, VOCABULARY = 3, 3, 4, 6, 4, 5, 7
MASK = np.arange(SOURCE_STEPS) < np.array([[4], [2], [1]])
SOURCE_IDS = np.array([[4, 5, 4, 3], [6, 3, 0, 0], [3, 0, 0, 0]], "int32")
ALL_INPUTS = [context_inputs for size in range(4) for context_inputs in itertools.combinations(CONTEXT_INPUTS, size)]
ALL_CHOICES = list(itertools.product(CONTEXTS, ALL_INPUTS, ("after", "between"), (False, True)))


def refused_argument(context, context_inputs, attention_position):
    """Return the argument that contradicts the others, from the table of the design; None where none does."""
    if not context_inputs:
        return "context_inputs"
    if attention_position == "between" and context != "attention":
        return "attention_position"
    if attention_position == "between" and "input" in context_inputs:
        return "context_inputs"
    if attention_position == "after" and context == "attention" and context_inputs == ("state",):
        return "context_inputs"
    return None


def named(context, context_inputs, attention_position, input_feeding):
    return "-".join([context, "+".join(context_inputs) or "nothing", attention_position, *["fed"] * input_feeding])


ACCEPTED = [choice for choice in ALL_CHOICES if refused_argument(*choice[:3]) is None]
REFUSED = [choice for choice in ALL_CHOICES if refused_argument(*choice[:3]) is not None]
TRIED = [
    (context, context_inputs, attention_position, input_feeding)
    for context, context_inputs, attention_position, input_feeding in ACCEPTED
    if context in ("attention", "mean")
    or (ALL_INPUTS.index(context_inputs) + list(CONTEXTS).index(context)) % 2 == input_feeding
]
"""All of attention and of one summary. The other summaries, which are read at the same place, with all feeds, and fed
every other time."""
EACH_CHOICE = pytest.mark.parametrize("choice", TRIED, ids=[named(*choice) for choice in TRIED])


def unbuilt(
    context="attention", context_inputs=("state", "readout"), attention_position="after", input_feeding=False, **options
):
    defaults = {"num_layers": 2, "residual": True, "readout_size": 6, "dtype": "float32"}
    if isinstance(context, str):
        score = {"score": "general"} if context == "attention" else {}
        context = create_context(context, bidirectional=True, **score)
    return Decoder(
        VOCABULARY,
        EMBEDDING,
        UNITS,
        context=context,
        context_inputs=context_inputs,
        attention_position=attention_position,
        input_feeding=input_feeding,
        **defaults | options,
    )


def create(*choice, **options):
    decoder = unbuilt(*choice, **options)
    decoder.build((None, None), (None, None, MEMORY_UNITS))
    return randomize(decoder)


def sample():
    token_ids = np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, TARGET_STEPS)).astype("int32")
    return token_ids, normal(2, BATCH, SOURCE_STEPS, MEMORY_UNITS)


def parts_of(decoder, dropout=None):
    """Weights and choices as the oracle wants them."""
    context, weights = decoder.context, weights_of(decoder.context)

    def summary(memory, mask):
        if context.is_attention or getattr(context, "pooling", None) == "mean":
            return oracles.masked_pool("mean", memory, mask)
        if hasattr(context, "pooling"):
            return oracles.masked_pool(context.pooling, memory, mask)
        if "vector" in weights:
            return oracles.attentive(memory, mask, **weights)
        ends = oracles.both_ends(memory, mask)
        return np.tanh(ends @ weights["kernel"] + weights["bias"]) if "kernel" in weights else ends

    def copy_weights(memory, mask, query, weights):
        if decoder.copy == "reuse":
            return weights
        score = oracles.general(weights_of(decoder.copying.score)["kernel"])
        return oracles.attention_position(score, memory[0], mask[0], query)[1]

    covered = {}

    def read(memory, mask, query):
        if not context.is_attention:
            return summary(memory, mask)[0], None
        plain = oracles.general(weights["kernel"])
        if not context.coverage:
            return oracles.attention_position(plain, memory[0], mask[0], query)
        # One sentence after the other: its memory is the same array at every step.
        key = memory.tobytes()
        sums = covered.get(key, np.zeros(SOURCE_STEPS))

        def score(query, place, step):
            return plain(query, place, step) + weights["coverage_kernel"][0] * sums[step]

        found, alpha = oracles.attention_position(score, memory[0], mask[0], query)
        covered[key] = sums + alpha
        return found, alpha

    def arrays(layer):
        return [weight.astype("float64") for weight in layer.get_weights()]

    readout = weights_of(decoder.readout)
    embeddings = arrays(decoder.embedding)[0]
    nothing = {
        "embedding": np.ones((BATCH, EMBEDDING)),
        "outputs": np.ones((decoder.num_layers, BATCH, UNITS)),
        "features": np.ones((BATCH, TARGET_STEPS, decoder.readout_size)),
    }
    return {
        "embeddings": embeddings,
        "bridges": [arrays(bridge) for bridge in decoder.bridges],
        "layers": [arrays(layer) for layer in decoder.recurrent_layers],
        "readout": (readout["kernel"], readout["bias"]),
        "output": (embeddings if decoder.tie_output else readout["output_embeddings"], readout["output_bias"]),
        "summary": summary,
        "read": read,
        "copying": None if decoder.copying is None else (*arrays(decoder.copying)[:2], copy_weights, SOURCE_IDS),
        "cell": decoder.cell,
        "update_gate": decoder.update_gate,
        "context_inputs": decoder.context_inputs,
        "attention_position": decoder.attention_position,
        "input_feeding": decoder.input_feeding,
        "residual": decoder.residual,
        "dropout": nothing | (dropout or {}),
    }


def step_by_step(decoder, token_ids, memory, mask, beams=1, source_ids=SOURCE_IDS):
    """Logits and weights of `Decoder.step` on its own; several rows of a sentence share its prepared context."""
    prepared = decoder.prepare(tf.constant(memory), tf.constant(mask), tf.constant(source_ids))
    state = decoder.start(prepared)
    state = tf.nest.map_structure(lambda part: tf.repeat(part, beams, axis=0), state)
    logits, weights = [], []
    for step in range(token_ids.shape[1]):
        result = decoder.step(tf.constant(token_ids[:, step]), state, prepared)
        state = result.state
        logits.append(result.logits)
        weights.append(result.attention_weights)
    return np.stack(logits, 1), None if weights[0] is None else np.stack(weights, 1)


def agrees_with_the_loop(decoder, logits):
    """Whether the logits of all steps at once, and those of one step at a time, are those of the loop."""
    token_ids, memory = sample()
    expected, expected_weights = oracles.decoder(parts_of(decoder), token_ids, memory.astype("float64"), MASK)
    close(logits, expected, 1e-5)
    logits, weights = step_by_step(decoder, token_ids, memory, MASK)
    close(logits, expected, 1e-5)
    if decoder.context.is_attention:
        close(weights, expected_weights.astype("float64"), 1e-5)
        assert not weights[np.broadcast_to(~MASK[:, None], weights.shape)].any()
    else:
        assert weights is None


def trained(*choice, **options):
    """Return a decoder of that choice, its logits of a whole target, and the gradient to each of its weights."""
    decoder, (token_ids, memory) = create(*choice, **options), sample()
    with tf.GradientTape() as tape:
        logits = decoder(token_ids, memory=memory, memory_mask=MASK, source_ids=SOURCE_IDS)
        loss = tf.reduce_sum(logits * normal(3, *logits.shape))
    return decoder, logits, tape.gradient(loss, [variable.value for variable in decoder.trainable_variables])


trained_once = functools.cache(trained)


def reach_every_weight(decoder, gradients):
    for variable, gradient in zip(decoder.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all(), variable.path
        assert gradient.any(), variable.path


@EACH_CHOICE
def test_whole_target_and_steps(choice):
    decoder, logits, _ = trained_once(*choice)
    agrees_with_the_loop(decoder, logits)


@EACH_CHOICE
def test_gradients_reach_every_weight(choice):
    decoder, _, gradients = trained_once(*choice)
    reach_every_weight(decoder, gradients)


@pytest.mark.parametrize("choice", REFUSED, ids=[named(*choice) for choice in REFUSED])
def test_contradictions(choice):
    with pytest.raises(ArgumentError) as error:
        unbuilt(*choice)
    assert error.value.argument == refused_argument(*choice[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_inputs": ("state", "output")}, "context_inputs must be some of state, input, readout"),
        ({"attention_position": "before"}, "attention_position must be one of after, between"),
        ({"attention_position": "between", "num_layers": 1}, "attention_position must be 'after' with a single layer"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"num_layers": 1.0}, "num_layers must be"),
        ({"tie_output": True, "readout_size": 6}, r"readout_size must be embedding_size \(5\)"),
        ({"cell": "rnn", "update_gate": "write"}, "update_gate must be 'keep'"),
        ({"copy": "pointer"}, "copy must be one of none, reuse, separate"),
        ({"context": "mean", "copy": "reuse"}, "copy must be 'none' or 'separate' without attention"),
        ({"copy_window": 2}, "copy_window must be 1"),
        ({"implementation": "fast"}, "implementation must be one of"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        unbuilt(**options)


def test_copying_needs_the_tokens_of_the_source():
    decoder, (token_ids, memory) = create(copy="reuse"), sample()
    with pytest.raises(ValueError, match="source_ids must be given"):
        decoder(token_ids, memory=memory)


@pytest.mark.parametrize(
    ("score", "attention_position", "context_inputs"),
    [
        *((score, "after", ("readout",)) for score in ATTENTION_SCORES),
        ("local", "between", ("state",)),
        ("multi_head", "between", ("state",)),
        ("local", "after", ("state", "input")),
        ("multi_head", "after", ("state", "input")),
    ],
)
def test_every_score(score, attention_position, context_inputs):
    context = create_context("attention", score=score, num_heads=2, window=1)
    decoder = Decoder(
        VOCABULARY,
        EMBEDDING,
        MEMORY_UNITS,
        context=context,
        num_layers=2,
        attention_position=attention_position,
        context_inputs=context_inputs,
    )
    decoder.build((None, None), (None, None, MEMORY_UNITS))
    randomize(decoder)
    token_ids, memory = sample()
    logits, weights = step_by_step(decoder, token_ids, memory, MASK)
    close(decoder(token_ids, memory=memory, memory_mask=MASK), logits, 1e-5)
    assert weights.shape == (BATCH, TARGET_STEPS, SOURCE_STEPS)


SOME = {
    "luong": ("attention", ("state", "readout"), "after", False),
    "between": ("attention", ("state", "readout"), "between", False),
    "bahdanau": ("attention", ("state", "input", "readout"), "after", False),
    "input_feeding": ("attention", ("state", "readout"), "after", True),
    "constant": ("mean", ("state", "input", "readout"), "after", False),
    "constant_fed": ("projected", ("state", "input"), "after", True),
}
SOME_CHOICES = pytest.mark.parametrize("choice", SOME.values(), ids=SOME)


ONE_OF_EACH = [
    *((context, ("state", "readout"), "after", False) for context in CONTEXTS if context != "attention"),
    *(choice for choice in SOME.values() if choice[0] == "attention"),
    ("mean", ("readout",), "after", False),
    ("last", ("state", "input"), "after", True),
]
"""Each context, each place where it enters and each order of attention at least once."""


OTHER_CELLS = [
    *((cell, "keep", choice) for cell in CELLS if cell != "gru" for choice in ONE_OF_EACH),
    *((cell, "write", SOME["between"]) for cell in GATED),
]


@pytest.mark.parametrize(
    ("cell", "update_gate", "choice"),
    OTHER_CELLS,
    ids=["-".join([cell, update_gate, named(*choice)]) for cell, update_gate, choice in OTHER_CELLS],
)
def test_every_cell(cell, update_gate, choice):
    decoder, logits, gradients = trained(*choice, cell=cell, update_gate=update_gate)
    agrees_with_the_loop(decoder, logits)
    reach_every_weight(decoder, gradients)


COPYING = [
    *(("reuse", choice) for name, choice in SOME.items() if not name.startswith("constant")),
    ("separate", SOME["luong"]),
    ("separate", SOME["constant"]),
    ("separate", SOME["constant_fed"]),
    ("separate", ("last", ("state",), "after", False)),
]
COPYING_CHOICES = pytest.mark.parametrize(
    ("copy", "choice"), COPYING, ids=[f"{copy}-{named(*choice)}" for copy, choice in COPYING]
)


@COPYING_CHOICES
def test_copying(copy, choice):
    decoder, logits, gradients = trained(*choice, copy=copy)
    close(np.exp(logits).sum(-1), 1.0, 1e-5)
    agrees_with_the_loop(decoder, logits)
    reach_every_weight(decoder, gradients)


COVERING = [
    (copy, SOME[name])
    for copy, name in zip(
        ("none", "reuse", "separate", "none"), ("luong", "between", "bahdanau", "input_feeding"), strict=True
    )
]


@pytest.mark.parametrize(("copy", "choice"), COVERING, ids=[f"{copy}-{named(*choice)}" for copy, choice in COVERING])
def test_coverage(copy, choice):
    context = create_context("attention", score="general", coverage=True)
    decoder, logits, gradients = trained(context, *choice[1:], copy=copy)
    agrees_with_the_loop(decoder, logits)
    reach_every_weight(decoder, gradients)


@pytest.mark.parametrize("score", ATTENTION_SCORES)
def test_every_score_with_coverage(score):
    context = create_context("attention", score=score, num_heads=2, window=1, coverage=True)
    decoder = Decoder(VOCABULARY, EMBEDDING, MEMORY_UNITS, context=context, num_layers=2, attention_position="between")
    decoder.build((None, None), (None, None, MEMORY_UNITS))
    token_ids, memory = sample()
    without = decoder(token_ids, memory=memory, memory_mask=MASK)
    context.coverage_kernel.assign(context.coverage_kernel + 3.0)
    assert not np.allclose(decoder(token_ids, memory=memory, memory_mask=MASK), without, atol=1e-6)
    randomize(decoder)
    logits, weights = step_by_step(decoder, token_ids, memory, MASK)
    prepared = decoder.prepare(tf.constant(memory), tf.constant(MASK))
    readouts = decoder.decode_teacher_forced(tf.constant(token_ids), prepared, attention=True)
    close(decoder.scores(readouts), logits, 1e-5)
    close(readouts.attention_weights, weights, 1e-5)
    beams = step_by_step(decoder, np.repeat(token_ids, 2, axis=0), memory, MASK, beams=2)
    close(beams[0], np.repeat(logits, 2, axis=0), 1e-5)


@pytest.mark.parametrize("score", ["additive", "multi_head"])
def test_coverage_inside_of_additive_and_multi_head(score):
    context = create_context("attention", score=score, units=4, num_heads=2, coverage=True)
    context.build((None, None, MEMORY_UNITS), (None, None, UNITS))
    randomize(context)
    weights, (_, memory) = weights_of(context) | weights_of(context.score_layer), sample()
    query, coverage = normal(5, BATCH, 1, UNITS), np.abs(normal(6, BATCH, 1, SOURCE_STEPS))
    prepared = context.prepare(tf.constant(memory), tf.constant(MASK))
    _, found = context.read(prepared, tf.constant(query), tf.constant(coverage))
    for row in range(BATCH):
        q, h, covered, length = query[row, 0], memory[row], coverage[row, 0], MASK[row].sum()
        if score == "additive":
            kernel = weights["coverage_kernel"]
            hidden = q @ weights["query_kernel"] + h @ weights["memory_kernel"] + np.outer(covered, kernel)
            expected = oracles.softmax((np.tanh(hidden) @ weights["vector"])[:length, 0])
        else:
            heads = [
                (h @ weights["key_kernel"][:, head]) @ (q @ weights["query_kernel"][:, head]) / 2**0.5
                + weights["coverage_kernel"][head] * covered
                for head in range(2)
            ]
            expected = np.mean([oracles.softmax(scores[:length]) for scores in heads], axis=0)
        close(found[row, 0, :length], expected, 1e-5)


@pytest.mark.parametrize("copy", ["reuse", "separate"])
def test_beams_copy_from_their_sentence(copy):
    decoder, (_, memory) = create(*SOME["between"], copy=copy), sample()
    token_ids = np.random.default_rng(4).integers(0, VOCABULARY, (BATCH * 2, TARGET_STEPS)).astype("int32")
    logits, _ = step_by_step(decoder, token_ids, memory, MASK, beams=2)
    tiled, tiled_mask, tiled_ids = (np.repeat(array, 2, axis=0) for array in (memory, MASK, SOURCE_IDS))
    close(logits, step_by_step(decoder, token_ids, tiled, tiled_mask, source_ids=tiled_ids)[0], 1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_bridges(cell):
    decoder, (_, memory) = create(cell=cell), sample()
    assert len(decoder.bridges) == decoder.num_layers * oracles.number_of_states(cell)
    state = decoder.start(decoder.context.prepare(tf.constant(memory), tf.constant(MASK)))
    parts = tf.nest.flatten(state)
    summary = oracles.masked_pool("mean", memory.astype("float64"), MASK)
    for bridge, part in zip(decoder.bridges, parts, strict=True):
        kernel, bias = bridge.get_weights()
        close(part, np.tanh(summary @ kernel + bias), 1e-5)
    assert len({part.numpy().tobytes() for part in parts}) == len(parts)


@SOME_CHOICES
@pytest.mark.parametrize("options", [{"num_layers": 3, "residual": False}, {"tie_output": True, "readout_size": None}])
def test_other_depths_and_outputs(choice, options):
    decoder, (token_ids, memory) = create(*choice, **options), sample()
    expected, _ = oracles.decoder(parts_of(decoder), token_ids, memory.astype("float64"), MASK)
    close(decoder(token_ids, memory=memory, memory_mask=MASK), expected, 1e-5)
    close(step_by_step(decoder, token_ids, memory, MASK)[0], expected, 1e-5)


@SOME_CHOICES
def test_beams(choice):
    beams = 2
    decoder, (_, memory) = create(*choice), sample()
    token_ids = np.random.default_rng(4).integers(0, VOCABULARY, (BATCH * beams, TARGET_STEPS)).astype("int32")
    logits, weights = step_by_step(decoder, token_ids, memory, MASK, beams)
    tiled, tiled_mask = np.repeat(memory, beams, axis=0), np.repeat(MASK, beams, axis=0)
    expected, expected_weights = step_by_step(decoder, token_ids, tiled, tiled_mask)
    close(logits, expected, 1e-5)
    if weights is not None:
        close(weights, expected_weights, 1e-5)


@SOME_CHOICES
def test_without_a_mask(choice):
    decoder, (token_ids, memory) = create(*choice), sample()
    everything = np.ones(MASK.shape, bool)
    close(decoder(token_ids, memory=memory), decoder(token_ids, memory=memory, memory_mask=everything), 0)


@SOME_CHOICES
def test_dropout_is_shared_over_time(choice, monkeypatch):
    """The oracle drops with one mask a layer for all steps, the one that the layer drew."""
    drawn = {}
    original = SharedDropout.call

    def recording(self, inputs, training=False):
        outputs = original(self, inputs, training=training)
        assert self.name not in drawn, "one draw a sequence"
        drawn[self.name] = np.where(inputs == 0, 1.0, outputs / inputs)[:, 0].astype("float64")
        return outputs

    monkeypatch.setattr(SharedDropout, "call", recording)
    decoder, (token_ids, memory) = create(*choice, embedding_dropout=0.3, dropout=0.4), sample()
    logits = decoder(token_ids, memory=memory, memory_mask=MASK, training=True)
    dropout = {"embedding": drawn["embedding_dropout"], "outputs": [drawn["dropout_0"], drawn["dropout_1"]]}
    assert all(0 < (factor == 0).mean() < 1 for factor in (dropout["embedding"], *dropout["outputs"]))
    expected, _ = oracles.decoder(parts_of(decoder, dropout), token_ids, memory.astype("float64"), MASK)
    close(logits, expected, 1e-5)


@SOME_CHOICES
def test_readout_dropout_spares_input_feeding(choice, monkeypatch):
    decoder, (token_ids, memory) = create(*choice, readout_dropout=0.4), sample()
    seen = []
    original = type(decoder.readout_dropout_layer).call

    def recording(self, inputs, training=False):
        outputs = original(self, inputs, training=training)
        if self is decoder.readout_dropout_layer:
            seen.append((outputs / inputs).numpy().astype("float64"))
        return outputs

    monkeypatch.setattr(type(decoder.readout_dropout_layer), "call", recording)
    logits = decoder(token_ids, memory=memory, memory_mask=MASK, training=True)
    (factors,) = seen
    assert 0 < (factors == 0).mean() < 1
    expected, _ = oracles.decoder(parts_of(decoder, {"features": factors}), token_ids, memory.astype("float64"), MASK)
    close(logits, expected, 1e-5)


def test_nothing_is_dropped_while_searching():
    options = {"embedding_dropout": 0.5, "dropout": 0.5, "readout_dropout": 0.5}
    decoder, (token_ids, memory) = create(**options), sample()
    expected, _ = oracles.decoder(parts_of(decoder), token_ids, memory.astype("float64"), MASK)
    close(step_by_step(decoder, token_ids, memory, MASK)[0], expected, 1e-5)
    close(decoder(token_ids, memory=memory, memory_mask=MASK), expected, 1e-5)


def test_is_sequential():
    for choice in ACCEPTED:
        context, context_inputs, _, input_feeding = choice
        decoder = unbuilt(*choice)
        assert decoder.attends_before_recurrence == (context == "attention" and "input" in context_inputs)
        assert decoder.is_sequential == (decoder.attends_before_recurrence or input_feeding)


def test_first_state_without_bridge():
    decoder, (_, memory) = create("mean", ("readout",), "after", True), sample()
    state = decoder.start(decoder.context.prepare(tf.constant(memory), tf.constant(MASK)))
    assert [[part.shape.as_list() for part in layer] for layer in state.layers] == [[[BATCH, UNITS]]] * 2
    assert state.fed[0].shape == (BATCH, 6)
    assert not any(part.numpy().any() for part in tf.nest.flatten(state))


def test_tied_output():
    decoder = create(tie_output=True, readout_size=None)
    assert decoder.output_embeddings is decoder.embedding.embeddings
    assert "output_embeddings" not in weights_of(decoder.readout)
