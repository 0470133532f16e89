"""Recurrent sequence-to-sequence models on Keras: train, translate, summarize, and look inside.

The names of `__init__.pyi` load when they are first used, so that a command can print its help without TensorFlow.
"""

import lazy_loader

from seq2seq.registration import register_with_keras

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_with_keras()
