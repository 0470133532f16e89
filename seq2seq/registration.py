"""Let Keras load the models of this package once both packages are imported.

Keras finds the class of a saved model only if the module that registers it was imported. Importing that with the
package would make every command wait for TensorFlow, so it is imported right after Keras.
"""

import importlib
import sys
from types import ModuleType

import wrapt

MODELS, LAYERS = "seq2seq.models", "seq2seq.layers"


def register_with_keras() -> None:
    """Import the models when Keras is imported; after the layers, if their import is what imports Keras."""
    for name in ("keras", LAYERS):
        wrapt.register_post_import_hook(_import_models, name)


def _import_models(module: ModuleType) -> None:
    # Models or layers that are still being imported cannot be imported from.
    unfinished = {MODELS} if module.__name__ == LAYERS else {MODELS, LAYERS}
    if not unfinished & sys.modules.keys():
        importlib.import_module(MODELS)
