"""The plan of the house: who may import whom, for every import there is, also those inside functions."""

import ast
import graphlib
import pathlib
import sys
import tomllib
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

IN_ONE_FILE_EACH = [
    "jinja2",
    "plotly",
    "rouge_score",
    "sacrebleu",
    "sacremoses",
    "tensorboard",
    "tensorflow_text",
    "tf2onnx",
]
IMPORTED_AS = {"pyyaml": "yaml"}


class Import(NamedTuple):
    """One import statement: the full name that it imports, from which file, and whether at import time."""

    name: str
    file: pathlib.Path
    line: int
    room: str
    at_top: bool

    @property
    def package(self) -> str:
        return self.name.split(".")[0]

    @property
    def imported_room(self) -> str | None:
        """The room of this package that is imported, or None for another package."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "seq2seq" and len(parts) > 1 else None

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE.parent)}:{self.line} imports {self.name}"


def imports_of(source: str, file: pathlib.Path) -> Iterator[Import]:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    tree = ast.parse(source)
    # What runs only when it is called, or never.
    later = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    ]
    not_at_top = {id(node) for statement in later for node in ast.walk(statement)}
    for node in ast.walk(tree):
        for name in imported_names(node):
            yield Import(name, file, node.lineno, room, id(node) not in not_at_top)


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = f"seq2seq.<relative import {node.module}>" if node.level else node.module
        return [f"{module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    ):
        return [node.args[0].value] if node.args and isinstance(node.args[0], ast.Constant) else []
    return []


ALL = [found for file in sorted(PACKAGE.rglob("*.py")) for found in imports_of(file.read_text("utf-8"), file)]


def refuse(wrong: list[Import]) -> None:
    assert not wrong, "\n".join(map(str, wrong))


def breaks_plan(found: Import) -> bool:
    if found.imported_room is None or found.imported_room == found.room or found.room in FRONT:
        return False
    if found.room in WITHOUT_CONFIG and found.imported_room == "config":
        return True
    return not FLOOR_OF.get(found.imported_room, 99) < FLOOR_OF[found.room]


def module_of(file: pathlib.Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def module_graph(imports: list[Import]) -> dict[str, set[str]]:
    """Return which modules each module imports; a name imported from a module counts as that module."""
    modules = {module_of(file) for file in PACKAGE.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for found in imports:
        name = found.name if found.name in modules else found.name.rpartition(".")[0]
        if name in modules and name != module_of(found.file):
            graph.setdefault(module_of(found.file), set()).add(name)
    return graph


def test_rooms_have_floors():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix in (".py", "")}
    assert rooms - FRONT - {"__pycache__"} == set(FLOOR_OF)


def test_imports_go_downwards():
    refuse([found for found in ALL if breaks_plan(found)])


def test_no_circle_of_modules():
    graphlib.TopologicalSorter(module_graph(ALL)).prepare()


def test_circles_are_seen():
    errors, files = PACKAGE / "errors.py", PACKAGE / "files.py"
    one = imports_of("def f():\n    from seq2seq.files import atomic", errors)
    other = imports_of("if TYPE_CHECKING:\n    import seq2seq.errors", files)
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(module_graph([*one, *other])).prepare()


def test_rooms_without_tensorflow():
    refuse([found for found in ALL if found.room in WITHOUT_TENSORFLOW and found.package in NEEDS_TENSORFLOW])


def test_commands_import_tensorflow_when_they_run():
    at_top = [found for found in ALL if found.room in TENSORFLOW_ONLY_INSIDE_FUNCTIONS and found.at_top]
    refuse(
        [
            found
            for found in at_top
            if found.package in NEEDS_TENSORFLOW or found.imported_room in ROOMS_THAT_NEED_TENSORFLOW
        ]
    )


def test_the_runner_needs_neither_this_package_nor_tensorflow():
    found = {one.package for one in ALL if one.file.name == "runner.py" and one.room == "export"}
    assert found - set(sys.stdlib_module_names) == {"ai_edge_litert", "numpy", "onnxruntime", "sentencepiece"}


@pytest.mark.parametrize("package", IN_ONE_FILE_EACH)
def test_one_file_imports(package):
    importing = [found for found in ALL if found.package == package]
    assert len({found.file for found in importing}) <= 1, "\n".join(map(str, importing))


def test_imported_packages_are_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    requirements = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [requirement.split(">")[0] for extra in requirements for requirement in extra]
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    known = declared | {"seq2seq"} | set(sys.stdlib_module_names)
    refuse([found for found in ALL if found.package not in known])


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
def test_what_is_forbidden_is_seen(room, statement):
    assert any(breaks_plan(found) for found in imports_of(statement, PACKAGE / room))
