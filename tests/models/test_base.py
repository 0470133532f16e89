"""Clones on other kernels: the same weights and the same results."""

import numpy as np
import pytest

from seq2seq.layers import Recurrent
from seq2seq.layers.cells import CELLS
from seq2seq.models.base import clone_with_implementation
from seq2seq.text.dataset import pad

GRUS = ("gru", "gru_reset_before", "gru_simplified")
SENTENCES = ["the big cat sees the dog", "the man often hears the old king", "the girl"]


@pytest.fixture(scope="module", params=CELLS)
def model(request, make_random_model):
    return make_random_model(request.param)


def batch(model):
    """Ragged rows on both sides."""
    ids = model.tokenizer.source.encode(SENTENCES)
    assert len({len(row) for row in ids}) > 1
    return {"source_ids": pad(ids), "target_ids": pad(ids[::-1])}


def implementations(model):
    return {layer.kernel_choice().implementation for layer in model.recurrent_layers.values()}


def test_raw_clone_equals_its_model(model):
    raw = clone_with_implementation(model, "raw")
    assert implementations(raw) == {"raw"}
    assert all(
        np.array_equal(ours, theirs) for ours, theirs in zip(raw.get_weights(), model.get_weights(), strict=True)
    )
    expected = model(batch(model)).numpy()
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(raw(batch(model)).numpy(), expected, atol=1e-5, rtol=1e-5)
    assert raw.translate(SENTENCES) == model.translate(SENTENCES)


def test_clone_of_a_clone(model):
    back = clone_with_implementation(clone_with_implementation(model, "raw"), "auto")
    assert implementations(back) == implementations(model)
    np.testing.assert_array_equal(back(batch(model)).numpy(), model(batch(model)).numpy())


def test_clone_shares_no_weights(model):
    before = [weight.copy() for weight in model.get_weights()]
    raw = clone_with_implementation(model, "raw")
    raw.set_weights([weight + 1 for weight in raw.get_weights()])
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(before, model.get_weights(), strict=True))


def test_update_gates_can_be_read_either_way(model):
    turned = clone_with_implementation(model, "raw", "write")
    has_gate = model.encoder.cell in GRUS
    assert {layer.update_gate for layer in turned.recurrent_layers.values()} == {"write" if has_gate else "keep"}
    np.testing.assert_allclose(turned(batch(model)).numpy(), model(batch(model)).numpy(), atol=1e-5, rtol=1e-5)
    # Other kernels keep the reading of the gate.
    kernels = clone_with_implementation(turned, "auto")
    np.testing.assert_allclose(kernels(batch(model)).numpy(), model(batch(model)).numpy(), atol=1e-5, rtol=1e-5)
    kept = clone_with_implementation(turned, "raw", "keep")
    for ours, theirs in zip(kept.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_only_weights_of_update_gates_change_their_sign(make_model):
    model = make_model()
    turned = clone_with_implementation(model, "raw", "write")
    for name, layer in model.recurrent_layers.items():
        for ours, theirs in zip(turned.recurrent_layers[name].get_weights(), layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours[..., : layer.units], -theirs[..., : layer.units])
            np.testing.assert_array_equal(ours[..., layer.units :], theirs[..., layer.units :])


def test_clone_keeps_tokenizer_recipe_and_decoding(make_model):
    model = make_model(decoding__beam_size=3)
    raw = clone_with_implementation(model, "raw")
    assert raw.tokenizer == model.tokenizer
    assert raw.recipe == model.recipe
    assert raw.decoding == model.decoding


def test_names_of_recurrent_layers(make_model):
    model = make_model(model__encoder__num_layers=2, model__decoder__num_layers=2)
    assert list(model.recurrent_layers) == [
        "encoder.forward_0", "encoder.forward_1", "encoder.backward_0", "encoder.backward_1",
        "decoder.recurrent_0", "decoder.recurrent_1",
    ]  # fmt: skip
    found = {id(layer) for layer in model._flatten_layers() if isinstance(layer, Recurrent)}
    assert {id(layer) for layer in model.recurrent_layers.values()} == found
