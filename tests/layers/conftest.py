import keras
import pytest


@pytest.fixture(autouse=True)
def same_weights_on_every_run():
    keras.utils.set_random_seed(1)
