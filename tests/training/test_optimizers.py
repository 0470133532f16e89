"""Which weights are drawn towards zero, and by how much."""

import keras
import numpy as np
import pytest

from seq2seq.config.sections import TrainingConfig
from seq2seq.training.fine_tuning import named_weights
from seq2seq.training.optimizers import create_optimizer, decayed_variables

BIASES = {
    "encoder/forward_0/cell/bias", "encoder/backward_0/cell/bias", "decoder/recurrent_0/cell/bias",
    "decoder/bridge_0_0/bias", "decoder/readout/bias", "decoder/readout/output_bias",
}  # fmt: skip
TABLE = "decoder/embedding/embeddings"


@pytest.mark.parametrize(
    ("tie_embeddings", "tables"),
    [("all", {TABLE}), ("none", {TABLE, "source_embedding/embeddings"})],
)
def test_biases_and_embeddings_are_left_out(make_model, tie_embeddings, tables):
    model = make_model(model__tie_embeddings=tie_embeddings)
    decayed = {id(variable) for variable in decayed_variables(model)}
    assert {name for name, variable in named_weights(model).items() if id(variable) not in decayed} == BIASES | tables


def test_adamw_decays_the_rest_by_its_rate(make_model):
    model = make_model()
    optimizer = create_optimizer(TrainingConfig(optimizer="adamw", learning_rate=0.25, weight_decay=0.1), model)
    optimizer.build(model.trainable_variables)
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    # Where all gradients are zero, nothing but the decay moves a weight.
    optimizer.apply([np.zeros(variable.shape, "float32") for variable in model.trainable_variables])
    decayed = {variable.path for variable in decayed_variables(model)}
    for variable in model.trainable_variables:
        right = before[variable.path] * (1 - 0.25 * 0.1 if variable.path in decayed else 1)
        np.testing.assert_allclose(variable, right, rtol=1e-6, err_msg=variable.path)
    assert any(np.abs(before[path]).max() > 0.1 for path in decayed)


def test_adam_decays_nothing(make_model):
    optimizer = create_optimizer(TrainingConfig(learning_rate=0.25), make_model())
    assert type(optimizer) is keras.optimizers.Adam
    assert optimizer.weight_decay is None
