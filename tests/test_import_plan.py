"""The plan of the house: who may import whom, held for every import there is, also those inside functions."""

import ast
import pathlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "seq2seq"

# Rooms on one floor never import each other; a room imports only from the floors below its own.
FLOORS = [
    {"errors", "progress"},
    {"files", "threads"},
    {"config"},
    {"text", "layers", "decoding", "metrics"},
    {"models"},
    {"training", "inspection", "export", "serving"},
    {"diagnostics"},
    {"cli"},
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}

# The package's own front: what it loads, it loads when it is asked for.
FRONT = {"__init__", "__main__", "registration"}

# These take plain arguments, so that each can be used alone.
WITHOUT_CONFIG = {"text", "layers", "decoding", "metrics"}

WITHOUT_TENSORFLOW = {"errors", "files", "progress", "config", "text", "metrics", "serving"}
# A command's help answers without TensorFlow: its files import it, and the rooms that need it, inside functions.
TENSORFLOW_ONLY_INSIDE_FUNCTIONS = {"cli", "threads"} | FRONT
NEEDS_TENSORFLOW = {"tensorflow", "keras"}
ROOMS_THAT_NEED_TENSORFLOW = {"layers", "decoding", "models", "training", "diagnostics", "inspection", "export"}

IN_ONE_FILE_EACH = {
    *("matplotlib", "sacrebleu", "sacremoses", "rouge_score", "plotly", "tensorboard"),
    *("tensorflow_text", "tf2onnx"),
}

IMPORTING_CALLS = {"importlib.import_module", "import_module", "__import__"}


class Import(NamedTuple):
    """One import statement: the full name that it imports, from which file, and whether at import time."""

    name: str
    file: pathlib.Path
    line: int
    room: str
    at_top: bool

    @property
    def imported_room(self) -> str | None:
        """The room of this package that is imported, or None for another package."""
        parts = self.name.split(".")
        return None if parts[0] != "seq2seq" or len(parts) == 1 else parts[1]

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.name}"


def imports_of(source: str, file: pathlib.Path) -> Iterator[Import]:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    tree = ast.parse(source)
    in_functions = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    type_checking = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test).endswith("TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        at_top = id(node) not in in_functions | type_checking
        for name in imported_names(node):
            yield Import(name, file, node.lineno, room, at_top)


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [f"seq2seq.<relative import {'.' * node.level}{node.module or ''}>"]
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    ):
        return [node.args[0].value] if node.args and isinstance(node.args[0], ast.Constant) else []
    return []


ALL = [found for file in sorted(PACKAGE.rglob("*.py")) for found in imports_of(file.read_text("utf-8"), file)]


def listed(imports: list[Import]) -> str:
    return "\n".join(str(found) for found in imports)


def breaks_plan(found: Import) -> bool:
    if found.imported_room is None or found.imported_room == found.room or found.room in FRONT:
        return False
    if found.room in WITHOUT_CONFIG and found.imported_room == "config":
        return True
    return not FLOOR_OF.get(found.imported_room, 99) < FLOOR_OF[found.room]


def test_there_is_something_to_check():
    assert {found.room for found in ALL} >= {"cli", "config", "text", "layers", "decoding", "metrics", "models"}


def test_every_room_has_its_floor():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix in (".py", "")}
    assert rooms - FRONT - {"__pycache__"} <= set(FLOOR_OF)


def test_imports_go_downwards_only():
    wrong = [found for found in ALL if breaks_plan(found)]
    assert not wrong, listed(wrong)


def test_some_rooms_never_import_tensorflow():
    wrong = [found for found in ALL if found.room in WITHOUT_TENSORFLOW and found.package in NEEDS_TENSORFLOW]
    assert not wrong, listed(wrong)


def test_commands_import_tensorflow_only_when_they_run():
    wrong = [
        found
        for found in ALL
        if found.room in TENSORFLOW_ONLY_INSIDE_FUNCTIONS
        and found.at_top
        and (found.package in NEEDS_TENSORFLOW or found.imported_room in ROOMS_THAT_NEED_TENSORFLOW)
    ]
    assert not wrong, listed(wrong)


def test_the_runner_imports_nothing_of_this_package_nor_tensorflow():
    found = {one.package for one in ALL if one.file.name == "runner.py" and one.room == "export"}
    assert found - set(sys.stdlib_module_names) == {"ai_edge_litert", "numpy", "onnxruntime", "sentencepiece"}


@pytest.mark.parametrize("package", sorted(IN_ONE_FILE_EACH))
def test_a_package_for_one_purpose_is_imported_by_one_file(package):
    importing = [found for found in ALL if found.package == package]
    assert len({found.file for found in importing}) <= 1, listed(importing)


def test_packages_that_are_imported_are_this_one_the_standard_library_or_declared():
    declared = {
        "ai_edge_litert",
        "cyclopts",
        "docstring_parser",
        "h5py",
        "keras",
        "numpy",
        "onnxruntime",
        "plotly",
        "rouge_score",
        "sacrebleu",
        "sacremoses",
        "sentencepiece",
        "tensorboard",
        "tensorflow",
        "tensorflow_text",
        "tf2onnx",
        "tqdm",
        "yaml",
    }
    known = declared | {"seq2seq"} | set(sys.stdlib_module_names)
    wrong = [found for found in ALL if found.package not in known]
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(
    ("room", "statement"),
    [
        ("text/a.py", "from seq2seq.layers import Encoder"),
        ("text/a.py", "def f():\n    import seq2seq.config"),
        ("models/a.py", "if TYPE_CHECKING:\n    from seq2seq.training import train"),
        ("layers/a.py", "import importlib\nimportlib.import_module('seq2seq.models')"),
        ("config/a.py", "from seq2seq import text"),
        ("errors.py", "from seq2seq.config import Config"),
        ("text/a.py", "from ..models import load"),
    ],
)
def test_the_check_sees_what_is_forbidden(room, statement):
    assert any(breaks_plan(found) for found in imports_of(statement, PACKAGE / room))
