"""Every score against its equation, place by place, and what all attention has in common."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import AttentionContext
from seq2seq.layers.attention import AdditiveScore, DotScore, GeneralScore, LocalWindow, LocationScore, Score
from tests.layers import oracles
from tests.layers.samples import RAGGED, TOLERANCE, close, normal, randomize, weights_of

BATCH, SOURCE_STEPS, QUERIES, MEMORY_UNITS, QUERY_UNITS = 4, 5, 3, 6, 4
SAME_SIZE = ("dot", "scaled_dot")
SCORES = (*SAME_SIZE, "general", "additive", "location", "local", "multi_head")
ALL_SCORES = pytest.mark.parametrize("score", SCORES)


def sample(score, dtype="float32"):
    units = MEMORY_UNITS if score in SAME_SIZE else QUERY_UNITS
    memory = normal(1, BATCH, SOURCE_STEPS, MEMORY_UNITS, dtype=dtype)
    return memory, normal(2, BATCH, QUERIES, units, dtype=dtype)


def create(score, dtype="float32", **options):
    options = {"units": {"additive": 7, "location": 8, "multi_head": 6}.get(score), "window": 2} | options
    context = AttentionContext(score, num_heads=2, dtype=dtype, **options)
    memory, queries = sample(score)
    context.build(memory.shape, queries.shape)
    return randomize(context)


def expected_of(context, memory, mask, queries):
    """Contexts and weights of the oracle for the weights of `context`."""
    weights = weights_of(context)
    score, factor = None, None
    if context.score in SAME_SIZE:
        score = getattr(oracles, context.score)
    elif context.score == "additive":
        score = oracles.additive(weights["query_kernel"], weights["memory_kernel"], weights["vector"])
    elif context.score == "location":
        score = oracles.location(weights["kernel"])
    elif context.score == "general":
        score = oracles.general(weights["kernel"])
    elif context.score == "local":
        score = oracles.general(context.score_layer.kernel.numpy().astype("float64"))
        window = weights_of(context.local_window)

        def factor(query, step, valid):
            return oracles.window_factor(query, step, valid, **window, window=context.window)

    results = []
    for row in range(len(memory)):
        for query in queries[row].astype("float64"):
            place = memory[row].astype("float64")
            if score is None:
                heads = weights_of(context.score_layer)
                results.append(oracles.multi_head(place, mask[row], query, **heads))
            else:
                results.append(oracles.attention_position(score, place, mask[row], query, factor=factor))
    shape = queries.shape[:2]
    contexts, alphas = (np.stack(parts) for parts in zip(*results, strict=True))
    return contexts.reshape(*shape, -1), alphas.reshape(*shape, -1)


@ALL_SCORES
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_context_and_weights(score, dtype):
    context, (memory, queries) = create(score, dtype), sample(score, dtype)
    found, weights = context(memory, queries, mask=RAGGED)
    expected, expected_weights = expected_of(context, memory, RAGGED, queries)
    assert found.dtype == dtype
    assert weights.dtype == "float32"
    close(found, expected, 1e-5)
    close(weights, expected_weights, 1e-5)


@ALL_SCORES
def test_without_a_mask_every_place_is_valid(score):
    context, (memory, queries) = create(score), sample(score)
    everything = np.ones(RAGGED.shape, bool)
    found, weights = context(memory, queries)
    expected, expected_weights = expected_of(context, memory, everything, queries)
    close(found, expected, 1e-5)
    close(weights, expected_weights, 1e-5)


@ALL_SCORES
def test_masked_places_get_no_weight(score):
    context, (memory, queries) = create(score), sample(score)
    garbage = np.where(RAGGED[..., None], memory, np.float32(1e4))
    found, weights = context(memory, queries, mask=RAGGED)
    with_garbage, weights_with_garbage = context(garbage, queries, mask=RAGGED)
    masked = np.broadcast_to(~RAGGED[:, None], weights.shape)
    assert (weights_with_garbage.numpy()[masked] == 0).all()
    close(with_garbage, found, 1e-6)
    close(weights_with_garbage, weights, 1e-6)
    assert not with_garbage.numpy()[3].any()
    if score != "local":
        close(weights.numpy()[:3].sum(-1), np.ones((3, QUERIES)), 1e-6)


@ALL_SCORES
@pytest.mark.parametrize("beams", [1, 3])
def test_beams_share_the_memory(score, beams):
    context, (memory, _) = create(score), sample(score)
    units = MEMORY_UNITS if score in SAME_SIZE else QUERY_UNITS
    queries = normal(3, BATCH * beams, 1, units)
    found, weights = context.read(context.prepare(tf.constant(memory), tf.constant(RAGGED)), tf.constant(queries))
    tiled, tiled_mask = np.repeat(memory, beams, axis=0), np.repeat(RAGGED, beams, axis=0)
    expected, expected_weights = context(tiled, queries, mask=tiled_mask)
    assert found.shape == (BATCH * beams, 1, MEMORY_UNITS)
    assert weights.shape == (BATCH * beams, 1, SOURCE_STEPS)
    close(found, expected, 1e-6)
    close(weights, expected_weights, 1e-6)


@ALL_SCORES
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(score, dtype):
    context, (memory, queries) = create(score, f"mixed_{dtype}"), sample(score)
    found, weights = context(memory, queries, mask=RAGGED)
    expected, expected_weights = expected_of(context, memory, RAGGED, queries)
    assert found.dtype == dtype
    assert weights.dtype == "float32"
    close(tf.cast(found, "float32"), expected, 0.1)
    close(weights, expected_weights, 0.05)
    keys = context.score_layer.keys(tf.cast(memory, dtype))
    assert context.score_layer(tf.cast(queries, dtype), keys=keys).dtype == "float32"


@pytest.mark.parametrize("score", ["dot", "scaled_dot", "general", "multi_head"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_tells_large_scores_apart(score, dtype):
    """Of two places that score 131,072 and half more: float16 ends at 65,504, bfloat16 steps by 1,024 there."""
    context = AttentionContext(score, num_heads=1, dtype=f"mixed_{dtype}")
    memory = np.array([[[512.0, 0.0], [512.0, 1.0]]], "float32")
    query = np.array([[[256.0, 0.5]]], "float32")
    context(memory, query)
    context.set_weights([np.eye(2).reshape(weight.shape) for weight in context.get_weights()])
    _, weights = context(memory, query)
    difference = 0.5 / (2**0.5 if score in ("scaled_dot", "multi_head") else 1)
    close(weights[0, 0], oracles.softmax(np.array([0.0, difference])), 2e-3)


@pytest.mark.parametrize("units", [None, 8])
def test_sizes_default_to_the_query(units):
    memory, queries = sample("additive")
    additive, heads = AttentionContext("additive", units=units), AttentionContext("multi_head", units=units)
    for context in (additive, heads):
        context(memory, queries)
    assert weights_of(additive)["vector"].shape == (units or QUERY_UNITS, 1)
    assert weights_of(heads)["query_kernel"].shape == (QUERY_UNITS, 4, (units or QUERY_UNITS) // 4)


def test_the_window_looks_no_further_than_its_size():
    window = LocalWindow(window=1)
    factors = window(np.zeros((1, 1, 4), "float32"), mask=np.ones((1, 7), bool)).numpy()[0, 0]
    close(factors, [0, 0, np.exp(-2.0), 1.0, np.exp(-2.0), 0, 0], 1e-6)


def test_the_window_stays_inside_the_sentence():
    """However hard the query pulls, the centre is between the first and the last valid place."""
    window = LocalWindow(window=1)
    window.build((None, None, 2))
    window.set_weights([np.eye(2), np.array([[1e3], [0.0]])])
    queries = np.array([[[5.0, 0.0], [-5.0, 0.0]]] * 4, "float32")
    factors = window(queries, mask=RAGGED).numpy()
    assert factors[:3].argmax(-1).tolist() == [[4, 0], [2, 0], [0, 0]]
    close(factors[:3].max(-1), np.ones((3, 2)), 1e-6)


def test_sinusoids_have_no_longest_source():
    score = LocationScore(units=8)
    score.build((None, None, 8), (None, None, 2))
    score.set_weights([np.eye(8)])
    scores = score(np.eye(8, dtype="float32")[None], keys=np.zeros((1, 300, 2), "float32")).numpy()[0]
    for step in (0, 1, 2, 299):
        close(scores[:, step], oracles.sinusoid(step, 8), 1e-4)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: AttentionContext("cosine"), "score must be one of dot, scaled_dot, general"),
        (
            lambda: AttentionContext("dot")(*sample("general")),
            "score must be no dot product .* got 'dot'. Use 'general'",
        ),
        (lambda: DotScore(scaled=True).build((None, None, 2), (None, None, 3)), "score must be .* got 'scaled_dot'"),
        (
            lambda: AttentionContext("multi_head", num_heads=3)(*sample("multi_head")),
            r"units must be a multiple of num_heads \(3\), got 4",
        ),
        (lambda: AttentionContext("multi_head", num_heads=0), "num_heads must be"),
        (lambda: LocationScore(7), "units must be an even positive integer"),
        (lambda: LocationScore(0), "units must be an even positive integer"),
        (lambda: AttentionContext("local", window=-1), "window must be"),
    ],
)
def test_bad_arguments(create, message):
    with pytest.raises(ValueError, match=message):
        create()


def test_a_score_of_ones_own_needs_its_comparison():
    with pytest.raises(NotImplementedError):
        Score().score(None, None)


@pytest.mark.parametrize("score", [GeneralScore(), AdditiveScore(7), LocationScore(8), DotScore(), DotScore(True)])
def test_a_score_alone_scores_every_place(score):
    name = "dot" if isinstance(score, DotScore) else "general"
    memory, queries = sample(name)
    score.build(queries.shape, memory.shape)
    randomize(score)
    weights = weights_of(score)
    oracle = {
        "GeneralScore": lambda: oracles.general(**weights),
        "AdditiveScore": lambda: oracles.additive(**weights),
        "LocationScore": lambda: oracles.location(**weights),
        "DotScore": lambda: oracles.scaled_dot if score.scaled else oracles.dot,
    }[type(score).__name__]()
    expected = oracles.scores(oracle, memory.astype("float64"), queries.astype("float64"))
    close(score(queries, keys=score.keys(tf.constant(memory))), expected, 1e-5)
