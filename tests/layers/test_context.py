"""The contexts that are built once a sentence, against their equations, and what all contexts share."""

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.layers import (
    AttentionContext,
    AttentiveContext,
    LastContext,
    PooledContext,
    ProjectedContext,
    create_context,
)
from seq2seq.layers.context import CONTEXTS, Context
from tests.layers import oracles
from tests.layers.samples import RAGGED, TOLERANCE, close, normal, randomize, weights_of

BATCH, SOURCE_STEPS, UNITS, QUERY_UNITS = 4, 5, 6, 3
CREATE = {
    "last": LastContext,
    "last_of_both": lambda **options: LastContext(bidirectional=True, **options),
    "projected": lambda **options: ProjectedContext(units=7, **options),
    "projected_of_both": lambda **options: ProjectedContext(bidirectional=True, **options),
    "mean": lambda **options: PooledContext("mean", **options),
    "max": lambda **options: PooledContext("max", **options),
    "sum": lambda **options: PooledContext("sum", **options),
    "attentive": lambda **options: AttentiveContext(units=7, **options),
    "attentive_as_wide_as_the_memory": AttentiveContext,
}
EVERY = pytest.mark.parametrize("name", CREATE)


def create(name, dtype="float32"):
    context = CREATE[name](dtype=dtype)
    context.build((None, None, UNITS), (None, None, QUERY_UNITS))
    return randomize(context)


def sample(dtype="float32"):
    return normal(1, BATCH, SOURCE_STEPS, UNITS, dtype=dtype), normal(2, BATCH, 2, QUERY_UNITS, dtype=dtype)


def expected_of(name, context, memory, mask):
    memory, weights = memory.astype("float64"), weights_of(context)
    if name.startswith("attentive"):
        return oracles.attentive(memory, mask, **weights)
    if name in ("mean", "max", "sum"):
        return oracles.masked_pool(name, memory, mask)
    last = oracles.both_ends(memory, mask) if name.endswith("both") else oracles.masked_pool("last", memory, mask)
    if name.startswith("last"):
        return last
    return np.tanh(np.stack([weights["kernel"].T @ row + weights["bias"] for row in last]))


@EVERY
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_context(name, dtype):
    context, (memory, queries) = create(name, dtype), sample(dtype)
    found = context(memory, queries, mask=RAGGED)
    expected = expected_of(name, context, memory, RAGGED)
    assert found.dtype == dtype
    assert found.shape == (BATCH, 2, context.context_units(UNITS))
    tolerance = 1e-6 if name.startswith("attentive") else TOLERANCE[dtype]
    for query in range(2):
        close(found[:, query], expected, tolerance)


@EVERY
def test_without_a_mask_every_step_is_valid(name):
    context, (memory, queries) = create(name), sample()
    close(context(memory, queries)[:, 0], expected_of(name, context, memory, np.ones(RAGGED.shape, bool)), 1e-5)


@EVERY
@pytest.mark.parametrize("beams", [1, 3])
def test_beams(name, beams):
    context, (memory, _) = create(name), sample()
    prepared = context.prepare(tf.constant(memory), tf.constant(RAGGED))
    found, weights = context.read(prepared, tf.zeros([BATCH * beams, 1, QUERY_UNITS]))
    assert weights is None
    close(found[:, 0], np.repeat(prepared.summary, beams, axis=0), 0)


def test_attention_starts_the_decoder_from_the_mean():
    memory, _ = sample()
    context = AttentionContext("dot")
    summary = context.prepare(tf.constant(memory), tf.constant(RAGGED)).summary
    close(summary, oracles.masked_pool("mean", memory.astype("float64"), RAGGED), 1e-6)


@pytest.mark.parametrize("name", CONTEXTS)
def test_contexts_have_the_names_of_recipes(name):
    kinds = {
        "last": LastContext,
        "projected": ProjectedContext,
        "attentive": AttentiveContext,
        "attention": AttentionContext,
    }
    context = create_context(name, bidirectional=True)
    assert type(context) is kinds.get(name, PooledContext)
    assert context.is_attention == (name == "attention")
    if name in ("last", "projected"):
        assert context.bidirectional
        assert not create_context(name).bidirectional
    if type(context) is PooledContext:
        assert context.pooling == name


def test_options_reach_the_context():
    assert create_context("attention", score="local", window=3).window == 3
    assert create_context("projected", units=5).context_units(9) == 5
    assert create_context("mean", name="average").name == "average"


@pytest.mark.parametrize(("create", "argument"), [(create_context, "context"), (PooledContext, "pooling")])
def test_unknown_names(create, argument):
    with pytest.raises(ValueError, match=f"{argument} must be one of"):
        create("median")


def test_a_context_of_ones_own_needs_both_verbs():
    for verb in (Context().prepare, Context().read):
        with pytest.raises(NotImplementedError):
            verb(None, None)
