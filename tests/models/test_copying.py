"""A model that copies and covers, on every road: losses, scores, searches, files, twins."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.errors import ConfigError
from seq2seq.layers import Decoder, Encoder, PooledContext
from seq2seq.models.base import clone_with_implementation
from seq2seq.models.build import build_model
from seq2seq.models.generation import Ensemble
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import END_ID, PAD_ID, UNKNOWN_ID
from seq2seq.text.tokenizer_training import train_tokenizer

TEXTS = ["oro nil", "oro", "nil ora ora"]


@pytest.fixture(scope="module")
def tokenizer():
    """Seven tokens: the four special ones and three words."""
    return train_tokenizer(TEXTS, TEXTS, kind="word", vocabulary_size=20)


@pytest.fixture(scope="module")
def make(toy_config, tokenizer):
    """Make a model of that vocabulary with large random weights, so that logits and gates differ widely."""

    def make_one(dtype="float32", seed=0, **changes):
        changes = {"model__copy": "reuse"} | changes
        model = build_model(toy_config(**changes), tokenizer, dtype)
        random = np.random.default_rng(seed)
        model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
        return model

    return make_one


@pytest.fixture(scope="module")
def batch(tokenizer):
    return {
        "source_ids": pad(tokenizer.source.encode(TEXTS)),
        "target_ids": pad(tokenizer.target.encode(["nil oro", "oro ora", "nil zzz"])),
    }


def right_log_probs(model, batch):
    return np.take_along_axis(np.array(model(batch), np.float64), batch["target_ids"][..., None], -1)[..., 0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__copy": "separate", "model__attention": {"coverage": True}},
        {"model__decoder__input_feeding": True},
    ],
)
def test_loss_score_and_the_step_tell_one_probability(make, batch, changes):
    model, mask = make(**changes), batch["target_ids"] != PAD_ID
    log_probs = right_log_probs(model, batch)
    loss, tokens = model.loss_and_tokens(batch)
    np.testing.assert_allclose(loss, -log_probs[mask].sum(), rtol=1e-5)
    longer = {name: np.pad(ids, [(0, 0), (0, 4)]) for name, ids in batch.items()}
    np.testing.assert_allclose(model.loss_and_tokens(longer)[0], loss, rtol=1e-5)
    scores = model.score(TEXTS, ["nil oro", "oro ora", "nil zzz"])
    for score, row, keep in zip(scores, log_probs, mask, strict=True):
        np.testing.assert_allclose(score.token_log_probs, row[keep], atol=1e-5)
    assert float(tokens) == mask.sum()


def test_a_forced_token_of_the_source_must_be_copied(make, batch):
    free, forced = make(), make(model__copy="reuse", model__force_copy=True)
    assert float(forced.loss_and_tokens(batch)[0]) == float(free.loss_and_tokens(batch)[0])
    readouts = free.decode_teacher_forced(batch)
    mask, log_probs = batch["target_ids"] != PAD_ID, right_log_probs(free, batch)
    for place in zip(*np.nonzero(mask), strict=True):
        here = batch["source_ids"][place[0]] == batch["target_ids"][place]
        if here.any():
            copied = np.array(readouts.copies.weights)[place][here].sum()
            log_probs[place] = np.log(copied) - np.logaddexp(0, np.array(readouts.copies.gate)[place])
    loss, _ = forced.loss_and_tokens(batch, training=True)
    np.testing.assert_allclose(loss, -log_probs[mask].sum(), rtol=1e-5)


@pytest.mark.parametrize(("mode", "coverage"), [("reuse", True), ("separate", False)])
def test_a_wide_beam_finds_what_enumeration_finds(make, tokenizer, mode, coverage):
    model, longest = make(model__copy=mode, model__attention={"coverage": coverage}), 3
    words = range(END_ID + 1, tokenizer.target.size)
    targets = [[*few, END_ID] for length in range(longest) for few in itertools.product(words, repeat=length)] + [
        list(many) for many in itertools.product(words, repeat=longest)
    ]
    found = model.generate(TEXTS, beam_size=50, n_best=50, max_length=longest, length_penalty="none")
    for text, hypotheses in zip(TEXTS, found, strict=True):
        ids = {"source_ids": pad(tokenizer.source.encode([text] * len(targets))), "target_ids": pad(targets)}
        log_probs = np.where(ids["target_ids"] == PAD_ID, 0.0, right_log_probs(model, ids)).sum(-1)
        best = sorted(zip(log_probs, targets, strict=True), reverse=True)
        assert [one.token_ids for one in hypotheses[:10]] == [tokens for _, tokens in best[:10]]
        np.testing.assert_allclose(
            [one.log_prob for one in hypotheses[:10]], [score for score, _ in best[:10]], atol=1e-4
        )


def test_models_that_vote_copy(make):
    model = make(model__attention={"coverage": True})
    alone, joined = (one.generate(TEXTS, beam_size=1, max_length=6) for one in (model, Ensemble([model, model])))
    for (mine,), (ours,), text in zip(alone, joined, TEXTS, strict=True):
        assert ours.text == mine.text
        np.testing.assert_allclose(ours.log_prob, mine.log_prob, atol=1e-4)
        if mine.token_ids[-1] == END_ID:
            np.testing.assert_allclose(mine.log_prob, model.score([text], [mine.text])[0].log_prob, atol=1e-4)


def test_an_unknown_word_is_copied_as_it_stands_in_the_source(make):
    model = make(model__copy="separate")
    # Nothing but copies: whatever is written stands in the source.
    model.decoder.copying.bias.assign([-50.0])
    sources = ["zzz", "xx oro 字y", "oro nil"]
    found = model.generate(sources, beam_size=12, n_best=12, max_length=3)
    for source, hypotheses in zip(sources, found, strict=True):
        for one in (one for one in hypotheses if one.log_prob > -30):
            assert set(one.text.split()) <= set(source.split())
            assert one.text == "".join(one.pieces).replace("</s>", "").replace("▁", " ").strip()
            assert len(one.pieces) == len(one.token_ids)
    assert "zzz" in [one.text for one in found[0]]
    assert {"xx", "字y"} & {word for one in found[1] for word in one.text.split()}
    one = next(one for one in found[1] if UNKNOWN_ID in one.token_ids)
    ids = {"source_ids": pad(model.encode_sources([sources[1]])), "target_ids": pad([one.token_ids])}
    weights = np.array(model.decode_teacher_forced(ids).copies.weights)[0]
    for token, piece, row in zip(one.token_ids, one.pieces, weights, strict=True):
        if token == UNKNOWN_ID:
            assert piece == ("▁xx" if row[0] > row[2] else "▁字y")


def test_an_unknown_word_that_the_source_has_not_is_never_written(make):
    model = make()
    model.decoder.copying.bias.assign([50.0])
    bias = np.zeros(model.target_vocabulary_size, "float32")
    bias[UNKNOWN_ID] = 30.0
    model.decoder.readout.output_bias.assign(bias)
    known, unknown = model.generate(["oro nil", "zzz"], max_length=4, beam_size=2)
    assert UNKNOWN_ID not in known[0].token_ids
    assert unknown[0].text.startswith("zzz")


def test_files_and_twins_copy_alike(make, batch, tmp_path):
    model = make(model__copy="separate", model__force_copy=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.force_copy
    np.testing.assert_array_equal(loaded(batch), model(batch))
    np.testing.assert_allclose(clone_with_implementation(model, "raw")(batch), model(batch), atol=1e-5)


def test_in_bfloat16_comes_close(make, batch):
    log_probs = np.array(make("mixed_bfloat16")(batch))
    assert log_probs.dtype == np.float32
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.exp(log_probs), np.exp(make()(batch)), atol=0.05)


def test_attention_that_goes_where_it_has_been_is_paid_for_in_training(make, batch):
    changes = {"model__copy": "none", "model__attention": {"coverage": True}}
    free, paid = make(**changes), make(model__coverage_loss=2.0, **changes)
    weights = np.array(free.decode_teacher_forced(batch, attention=True).attention_weights, np.float64)
    repeated = 0.0
    for row, ids in enumerate(batch["target_ids"]):
        covered = np.zeros(weights.shape[-1])
        for step in range(np.count_nonzero(ids)):
            repeated += np.minimum(weights[row, step], covered).sum()
            covered += weights[row, step]
    loss, tokens = free.loss_and_tokens(batch, training=True)
    np.testing.assert_allclose(paid.loss_and_tokens(batch, training=True)[0], loss + 2 * repeated, rtol=1e-5)
    assert float(paid.loss_and_tokens(batch)[0]) == float(loss)
    paid.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    found = paid.fit(batch, verbose=0).history["loss"]
    np.testing.assert_allclose(found, (loss + 2 * repeated) / tokens, rtol=1e-5)


def test_one_graph_trains_every_weight_on_batches_of_all_shapes(make, batch):
    model = make(model__attention={"coverage": True}, model__coverage_loss=1.0)
    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids], autograph=False)
    def gradients(source_ids, target_ids):
        with tf.GradientTape() as tape:
            loss, _ = model.loss_and_tokens({"source_ids": source_ids, "target_ids": target_ids}, training=True)
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    loss, found = gradients(**batch)
    for variable, gradient in zip(model.trainable_variables, found, strict=True):
        assert np.any(tf.convert_to_tensor(gradient)), variable.path
    alone = [gradients(batch["source_ids"][row:][:1], batch["target_ids"][row:][:1])[0] for row in range(3)]
    np.testing.assert_allclose(sum(alone), loss, rtol=1e-5)


def test_a_shortlist_is_refused(make):
    with pytest.raises(ConfigError, match=r"decoding\.shortlist must be 0 for a model that copies, got 2"):
        make().translate(TEXTS, shortlist=2)


def test_what_has_nothing_to_copy_is_refused():
    decoder = {"vocabulary_size": 9, "embedding_size": 6, "units": 8}
    with pytest.raises(ValueError, match=r"source_vocabulary_size must be None or 9, .* got 8"):
        Seq2Seq(Encoder(units=4), Decoder(**decoder, copy="reuse"), source_vocabulary_size=8)
    with pytest.raises(ValueError, match="force_copy must be False for a decoder that does not copy, got True"):
        Seq2Seq(Encoder(units=4), Decoder(**decoder), force_copy=True)
    with pytest.raises(ValueError, match=r"coverage_loss must be 0 for a decoder without attention, got 1\.0"):
        Seq2Seq(Encoder(units=4), Decoder(**decoder, context=PooledContext("mean")), coverage_loss=1.0)
    apart = train_tokenizer(TEXTS, TEXTS, kind="word", vocabulary_size=20, shared=False)
    with pytest.raises(ValueError, match="tokenizer must be joint for a decoder that copies"):
        Seq2Seq(Encoder(units=4), Decoder(**decoder, copy="reuse"), tokenizer=apart)
