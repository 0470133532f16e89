"""Let Keras load the models of this package once both packages are imported.

Keras finds the class of a saved model only if the module that registers it was imported. Importing that with the
package would make every command wait for TensorFlow, so it is imported right after Keras. wrapt's hooks do the same,
but importing wrapt takes a tenth of the time in which a command prints its help.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MODELS, LAYERS = "seq2seq.models", "seq2seq.layers"


def register_with_keras() -> None:
    """Import the models when Keras is imported; after the layers, if their import is what imports Keras."""
    if "keras" in sys.modules:
        importlib.import_module(MODELS)
    else:
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport:
    """Find Keras and the layers as the other finders do, and import the models after them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in ("keras", LAYERS):
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, specs), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            # Models or layers that are still being imported cannot be imported from.
            if not ({MODELS} if name == LAYERS else {MODELS, LAYERS}) & sys.modules.keys():
                importlib.import_module(MODELS)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
