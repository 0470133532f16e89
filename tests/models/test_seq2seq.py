"""The model as a Keras model: padding, tied tables, the wiring of its parts, `compile` and `fit`."""

import functools
import gc
import json
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.layers import Decoder, Encoder
from seq2seq.models import generation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID

CONTEXTS = ["last", "projected", "mean", "max", "sum", "attentive", "attention"]


@pytest.fixture(scope="module")
def batch(toy_pairs, toy_tokenizer):
    """Sixteen pairs of unequal lengths, as ids."""
    sources, targets = zip(*toy_pairs[:16], strict=True)
    return {
        "source_ids": pad(toy_tokenizer.source.encode(sources)),
        "target_ids": pad(toy_tokenizer.target.encode(targets)),
    }


def padded(batch, columns):
    return {name: np.pad(ids, [(0, 0), (0, columns)], constant_values=PAD_ID) for name, ids in batch.items()}


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


class TestPadding:
    @pytest.mark.parametrize("context", CONTEXTS)
    def test_changes_no_logits_and_no_loss(self, make_model, batch, context):
        model = make_model(model__context=context, model__encoder__num_layers=2)
        steps, mask = batch["target_ids"].shape[1], batch["target_ids"] != PAD_ID
        logits = np.array(model(batch))
        loss, tokens = model.loss_and_tokens(batch)
        assert float(tokens) == mask.sum()
        for columns in (1, 9):
            more = padded(batch, columns)
            np.testing.assert_allclose(np.array(model(more))[:, :steps][mask], logits[mask], atol=1e-5)
            other_loss, other_tokens = model.loss_and_tokens(more)
            np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
            assert float(other_tokens) == float(tokens)

    def test_of_a_longer_companion_changes_no_row(self, make_model, batch):
        model = make_model()
        logits = np.array(model(batch))
        for row in range(4):
            source, target = (ids[row][ids[row] != PAD_ID][None] for ids in batch.values())
            alone = np.array(model({"source_ids": source, "target_ids": target}))
            np.testing.assert_allclose(alone[0], logits[row, : target.shape[1]], atol=1e-5)

    def test_changes_no_translation(self, trained, toy_pairs, monkeypatch):
        sources, targets = zip(*toy_pairs[:30], strict=True)
        monkeypatch.setattr(generation, "pad", lambda rows: np.pad(pad(rows), [(0, 0), (0, 11)]))
        assert trained.translate(sources) == list(targets)


class TestWiring:
    def test_equals_encoder_and_decoder_by_hand(self, make_model, batch):
        model = make_model()
        source, target = batch["source_ids"], batch["target_ids"]
        written = np.concatenate([np.full((len(target), 1), START_ID, "int32"), target[:, :-1]], 1)
        mask = source != PAD_ID
        memory = model.encoder(model.embedding(source), mask=mask)
        right = model.decoder(written, memory=memory, memory_mask=mask)
        np.testing.assert_allclose(model(batch), right, atol=1e-6)

    def test_loss_is_the_mean_cross_entropy_of_the_logits(self, make_model, batch):
        model = make_model(model__label_smoothing=0.2)
        log_probs = np.log(softmax(np.array(model(batch), np.float64)))
        one_hot = np.eye(log_probs.shape[-1])[batch["target_ids"]]
        mask = batch["target_ids"] != PAD_ID
        for smoothing, given in ((0.2, None), (0.0, 0.0), (0.5, 0.5)):
            soft = (1 - smoothing) * one_hot + smoothing / log_probs.shape[-1]
            right = -np.sum(soft * log_probs * mask[..., None])
            loss, _ = model.loss_and_tokens(batch, label_smoothing=given)
            np.testing.assert_allclose(loss, right, rtol=1e-5)

    def test_logits_are_float32_in_mixed_precision(self, make_model, batch):
        model, whole = make_model("mixed_bfloat16"), make_model()
        logits = model(batch)
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"
        assert model.decoder.compute_dtype == model.encoder.compute_dtype == "bfloat16"
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
        np.testing.assert_allclose(logits, whole(batch), atol=0.03)

    @pytest.mark.parametrize("tie_embeddings", ["none", "all"])
    def test_mixed_precision_rounds_the_rows_that_are_read_and_no_whole_table(self, make_model, tie_embeddings, batch):
        model = make_model("mixed_bfloat16", model__tie_embeddings=tie_embeddings)
        step = tf.function(functools.partial(model.loss_and_tokens, training=True), autograph=False)
        casts = [
            operation
            for operation in step.get_concrete_function(batch).graph.get_operations()
            if operation.type == "Cast" and operation.inputs[0].dtype == tf.float32
        ]
        tables = {tuple(table.embeddings.shape) for table in (model.embedding, model.decoder.embedding)}
        assert casts
        assert not [cast for cast in casts if tuple(cast.inputs[0].shape) in tables]

    def test_dropout_acts_in_training_only(self, make_model, batch):
        kinds = ("embedding", "context", "readout", "source_word", "target_word")
        plain_model = make_model()
        plain = np.array(plain_model(batch))
        for name in ("dropout", *(f"{kind}_dropout" for kind in kinds)):
            model = make_model(**{f"model__{name}": 0.5})
            for variable, value in zip(model.trainable_variables, plain_model.trainable_variables, strict=True):
                variable.assign(value)
            np.testing.assert_array_equal(np.array(model(batch)), plain)
            np.testing.assert_array_equal(np.array(model(batch, training=False)), plain)
            assert np.abs(np.array(model(batch, training=True)) - plain).max() > 1e-3

    def test_words_dropped_from_the_source_and_from_what_the_decoder_reads_are_unknown(self, make_model, batch):
        names = ("source_word", "target_word")
        plain_model = make_model()
        for name, ids in zip(names, ("source_ids", "target_ids"), strict=True):
            # Nearly all words are dropped, so nearly all rows of ids give what all unknown words would.
            model = make_model(**{f"model__{name}_dropout": 0.999})
            for variable, value in zip(model.trainable_variables, plain_model.trainable_variables, strict=True):
                variable.assign(value)
            blank = np.where(np.isin(batch[ids], [PAD_ID, END_ID]), batch[ids], UNKNOWN_ID)
            features = np.array(model.decode_teacher_forced(batch, training=True).features)
            right = np.array(plain_model.decode_teacher_forced(batch | {ids: blank}).features)
            same = [np.allclose(one, other, atol=1e-5) for one, other in zip(features, right, strict=True)]
            assert sum(same) >= len(same) - 3
            # The decoder still has to write every word: the loss is that of the right tokens.
            loss, _ = model.loss_and_tokens(batch, training=False)
            np.testing.assert_array_equal(loss, plain_model.loss_and_tokens(batch)[0])

    def test_kernels_of_both_roads_give_one_result(self, make_model, batch):
        scan, raw = (make_model(model__implementation=name) for name in ("scan", "raw"))
        np.testing.assert_allclose(scan(batch), raw(batch), atol=1e-5)


class TestTies:
    # Which tables are one variable: source embedding, target embedding, output matrix.
    @pytest.mark.parametrize(
        ("tie_embeddings", "tables"), [("none", 3), ("source_target", 2), ("output", 2), ("all", 1)]
    )
    def test_share_the_right_tables(self, make_model, tie_embeddings, tables):
        model = make_model(model__tie_embeddings=tie_embeddings)
        source, target = model.embedding.embeddings, model.decoder.embedding.embeddings
        output = model.decoder.output_embeddings
        assert (source is target) == (tie_embeddings in ("source_target", "all"))
        assert (output is target) == (tie_embeddings in ("output", "all"))
        assert (output is source) == (tie_embeddings == "all")
        shape = tuple(target.shape)
        assert sum(tuple(variable.shape) == shape for variable in model.trainable_variables) == tables
        assert len({id(variable) for variable in model.trainable_variables}) == len(model.trainable_variables)

    @pytest.mark.parametrize("tie_embeddings", ["none", "source_target", "output", "all"])
    def test_are_still_there_after_loading(self, make_model, tie_embeddings, batch, tmp_path):
        model = make_model(model__tie_embeddings=tie_embeddings)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(np.array(loaded(batch)), np.array(model(batch)))
        for either in (model, loaded):
            either.decoder.embedding.embeddings.assign(either.decoder.embedding.embeddings[::-1])
        np.testing.assert_array_equal(np.array(loaded(batch)), np.array(model(batch)))


class TestFit:
    def test_loss_is_that_of_training(self, make_model, batch):
        model = make_model(model__label_smoothing=0.1)
        loss, tokens = model.loss_and_tokens(batch, training=False)
        model.compile(optimizer="adam", jit_compile=False)
        np.testing.assert_allclose(model.evaluate(batch, batch_size=16, verbose=0), loss / tokens, rtol=1e-5)

    def test_learns_and_goes_on_where_it_was_saved(self, make_model, batch, tmp_path):
        model = make_model()
        model.compile(optimizer=keras.optimizers.Adam(0.02))
        losses = model.fit(batch, batch_size=16, epochs=12, verbose=0).history["loss"]
        assert losses[-1] < 0.7 * losses[0]
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        histories = [
            either.fit(batch, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]
            for either in (model, loaded)
        ]
        np.testing.assert_allclose(*histories, rtol=1e-4)

    def test_learns_by_labels_and_a_loss_of_keras(self, make_model, batch):
        model = make_model()
        labels, weights = batch["target_ids"], (batch["target_ids"] != PAD_ID).astype("float32")
        loss, _ = model.loss_and_tokens(batch, training=False)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
        model.compile(optimizer=keras.optimizers.Adam(0.02), loss=cross_entropy, jit_compile=False)
        before = model.evaluate(batch, labels, sample_weight=weights, batch_size=16, verbose=0)
        np.testing.assert_allclose(before, loss, rtol=1e-5)
        model.fit(batch, labels, sample_weight=weights, batch_size=16, epochs=12, verbose=0)
        assert model.evaluate(batch, labels, sample_weight=weights, batch_size=16, verbose=0) < 0.7 * before


class TestConfig:
    def test_is_plain_and_makes_the_same_model(self, make_model, batch, toy_config):
        model = make_model(
            model__context="attentive",
            model__tie_embeddings="output",
            model__embedding_dropout=0.1,
            model__dropout=0.2,
            model__context_dropout=0.3,
            model__readout_dropout=0.4,
            model__source_word_dropout=0.15,
            model__target_word_dropout=0.25,
            model__label_smoothing=0.5,
            decoding__beam_size=3,
        )
        config = json.loads(json.dumps(model.get_config()))
        twin = Seq2Seq.from_config(config)
        assert json.loads(json.dumps(twin.get_config())) == config
        assert (twin.embedding_dropout, twin.context_dropout, twin.label_smoothing) == (0.1, 0.3, 0.5)
        assert (twin.source_word_dropout, twin.target_word_dropout) == (0.15, 0.25)
        assert (twin.encoder.dropout, twin.decoder.dropout, twin.decoder.readout_dropout) == (0.2, 0.2, 0.4)
        assert twin.decoding == DecodingConfig(beam_size=3)
        assert twin.recipe == model.recipe
        assert twin.recipe["model"]["context"] == "attentive"
        assert [tuple(variable.shape) for variable in twin.weights] == [tuple(v.shape) for v in model.weights]
        twin.set_weights(model.get_weights())
        np.testing.assert_array_equal(np.array(twin(batch)), np.array(model(batch)))

    def test_needs_neither_tokenizer_nor_recipe(self):
        model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
        assert model.recipe == {}
        assert model.decoding == DecodingConfig()
        assert model.tokenizer is None
        assert model.target_vocabulary_size == 9
        ids = np.array([[5, 6, END_ID]], "int32")
        twin = Seq2Seq.from_config(model.get_config())
        assert twin({"source_ids": ids, "target_ids": ids}).shape == (1, 3, 9)


def test_a_decoder_that_runs_step_by_step_trains_on_no_kernel(make_model):
    """Its layers could, but each of its steps waits for the last one."""
    parallel, stepwise = (make_model(model__decoder__input_feeding=feeding) for feeding in (False, True))
    assert parallel.kernel_choices() == {
        name: layer.kernel_choice() for name, layer in parallel.recurrent_layers.items()
    }
    choices = stepwise.kernel_choices()
    assert choices["encoder.forward_0"] == parallel.kernel_choices()["encoder.forward_0"]
    implementation, reasons = choices["decoder.recurrent_0"]
    assert implementation == "raw"
    assert reasons[0] == "the decoder runs step by step, since each step reads the last one's context or readout"
    assert reasons[1:] == parallel.kernel_choices()["decoder.recurrent_0"].reasons_against_cudnn


def test_the_last_reference_frees_a_model_and_its_weights(make_model, toy_pairs):
    model = make_model()
    gc.collect()
    gc.disable()
    try:
        model.translate([source for source, _ in toy_pairs[:3]], beam_size=2)
        model.translate(["the cat"], precision="bfloat16")
        model.score(["the cat"], ["la kato"])
        left = [weakref.ref(one) for one in (model, model.decoder, model.embedding, *model.weights)]
        del model
        assert [one() for one in left] == [None] * len(left)
    finally:
        gc.enable()
