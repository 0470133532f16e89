import random

import pytest


@pytest.fixture(autouse=True)
def same_weights_on_every_run():
    # Keras draws the seeds of its initializers and dropout from here. keras.utils.set_random_seed would also empty
    # TensorFlow's cache of kernels, and to fill it again takes a third of the time of these tests.
    random.seed(1)
