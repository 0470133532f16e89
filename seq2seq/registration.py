"""Lets Keras read our files as soon as both packages are imported, although `seq2seq` loads its rooms lazily.

Keras finds a class of a saved model only if the module that registers it has been imported. Importing it with the
package would make every command wait for TensorFlow before it prints its help. So the model room is imported right
after Keras, whoever imports that, and after the layers, for those who take only them.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODEL_ROOM = "seq2seq.models"
BEFORE_IT = {"keras": {MODEL_ROOM, "seq2seq.layers"}, "seq2seq.layers": {MODEL_ROOM}}
"""After which imports the model room is due, and what must not be on its way already."""


def register_with_keras() -> None:
    """Imports the model room now if Keras is there, else as soon as Keras is."""
    if "keras" in sys.modules:
        importlib.import_module(MODEL_ROOM)
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def __init__(self) -> None:
        self._looking = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in BEFORE_IT or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, name)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader, name: str) -> None:
        self._loader = loader
        self._name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if not BEFORE_IT[self._name] & sys.modules.keys():
            importlib.import_module(MODEL_ROOM)
