"""Every command line and every block of Python in a README, as far as its flags, files and names go."""

import ast
import builtins
import dataclasses
import importlib.util
import inspect
import pathlib
import re
import shlex
import shutil
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from seq2seq.cli.main import VERBS
from seq2seq.config.flags import call, command_app
from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError, Seq2SeqError
from seq2seq.text.tokenizer_training import TokenizerOptions

ROOT = pathlib.Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("seq2seq/*/README.md")), *sorted(ROOT.glob("data/*/README.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
REDIRECTION = re.compile(r"\s(?:2?>{1,2}|<)\s*[^\s|]+")
LAYER_ARGUMENTS = {"name", "dtype", "trainable"}
OTHER_PROGRAMS = {"pip", "echo", "pytest", "cat", "head", "zcat", "taskset", "cp"}


def blocks(language: str) -> list[Any]:
    """List the fenced blocks of all READMEs in a language, each named by its file and line."""
    found = []
    for path in READMES:
        text = path.read_text("utf-8")
        for block in BLOCK.finditer(text):
            if block[1] == language:
                line = text[: block.start()].count("\n") + 1
                found.append(pytest.param(block[2], id=f"{path.relative_to(ROOT)}:{line}"))
    return found


def commands(block: str) -> Iterator[list[str]]:
    """Split a block of shell into the words of its commands: variables are replaced, redirections left out."""
    variables: dict[str, str] = {}
    for line in block.replace("\\\n", " ").replace("|\n", "| ").splitlines():
        command: list[str] = []
        for word in [*shlex.split(REDIRECTION.sub(" ", line), comments=True), ";"]:
            if word in ("&&", "|", ";"):
                if command:
                    yield command
                command = []
            elif not command and re.fullmatch(r"\w+=.*", word):
                name, _, variables[name] = word.partition("=")
            else:
                command.append(re.sub(r"\$(\w+)", lambda name: variables[name[1]], word))


class ReachedError(Exception):
    """A verb has accepted its arguments and would load TensorFlow now."""


@pytest.fixture
def run_verb(monkeypatch, tmp_path):
    """Run a verb of the command line up to where it would load TensorFlow; a mistake in its flags is a ConfigError."""

    def stop() -> None:
        raise ReachedError

    def run(arguments: list[str]) -> None:
        verb = arguments[0]
        assert verb in VERBS, f"no verb {verb}"
        monkeypatch.setattr(f"seq2seq.cli.{verb}.import_tensorflow", stop, raising=False)
        monkeypatch.setattr("seq2seq.cli.quiet.import_tensorflow", stop)
        monkeypatch.chdir(tmp_path)
        if not (tmp_path / "data").exists():
            (tmp_path / "data").symlink_to(ROOT / "data")
        for name in arguments:
            if name.endswith(".yaml") and not (tmp_path / name).exists():
                shutil.copy(ROOT / "data/en-fr/recipe.yaml", tmp_path / name)
        app = command_app("seq2seq")
        for name in VERBS:
            app.command(f"seq2seq.cli.{name}:{name}", name=name)
        try:
            call(app, arguments)
        except ConfigError:
            raise
        except (ReachedError, Seq2SeqError):  # Files that a reader makes are not there.
            return

    return run


def check_command(words: list[str], run_verb: Any) -> None:
    """Refuse a command whose program, file, verb, flag or setting does not exist."""
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program in ("python", "python3"):
        if arguments[0] == "-m":
            assert importlib.util.find_spec(arguments[1]), f"no module {arguments[1]}"
            program, arguments = arguments[1], arguments[2:]
        else:
            script, *arguments = arguments
            if script == "train.py":
                program, arguments = "seq2seq", ["train", *arguments]
            else:  # `translate.py` lies beside an export.
                assert script == "translate.py" or (ROOT / script).is_file(), f"no file {script}"
                return
    if program == "seq2seq":
        run_verb(arguments)
    else:
        assert program in OTHER_PROGRAMS or importlib.util.find_spec(program), f"unknown program {program}"


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands(block, run_verb):
    for words in commands(block):
        check_command(words, run_verb)


@pytest.mark.parametrize(
    "command",
    ["seq2seq translat a.keras", "seq2seq translate a.keras --beam-sise 3", "python train.py --model.unitz 3"],
)
def test_wrong_commands_are_seen(command, run_verb):
    with pytest.raises((ConfigError, AssertionError)):
        check_command(command.split(), run_verb)


class Instance(typing.NamedTuple):
    """A value of which only the class is known; None where not even that is."""

    of: Any = None


class NameChecker(ast.NodeVisitor):
    """Follow the names of a block: modules, classes, functions, keyword arguments and attributes must exist."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.values[alias.asname or alias.name.partition(".")[0]] = importlib.import_module(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            module = importlib.import_module(str(node.module))
            if not hasattr(module, alias.name):
                importlib.import_module(f"{node.module}.{alias.name}")
            self.values[alias.asname or alias.name] = getattr(module, alias.name)

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        self.generic_visit(node)
        for target in node.targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name):
                    self.values[name.id] = value if name is target else Instance()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.value(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.value(node)
        for part in [*node.args, *node.keywords]:
            self.visit(part)

    def value(self, node: ast.expr) -> Any:
        """Return what an expression stands for, as far as it can be known."""
        if isinstance(node, ast.Name):
            return self.values.get(node.id, getattr(builtins, node.id, Instance()))
        if isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self.result(self.value(node.func), [keyword.arg for keyword in node.keywords if keyword.arg])
        return Instance()

    def attribute(self, owner: Any, name: str) -> Any:
        if not isinstance(owner, Instance):
            assert hasattr(owner, name), f"{owner} has no {name}"
            return getattr(owner, name)
        if not isinstance(owner.of, type) or not owner.of.__module__.startswith("seq2seq"):
            return Instance()
        known = {key for base in owner.of.__mro__ for key in getattr(base, "__annotations__", {})}
        if owner.of.__init__ is not object.__init__:
            own = (base for base in owner.of.__mro__ if base.__module__.startswith("seq2seq"))
            known |= {found for base in own for found in re.findall(r"self\.(\w+)\b.* = ", inspect.getsource(base))}
        assert name in known or hasattr(owner.of, name), f"{owner.of} has no {name}"
        return getattr(owner.of, name, Instance())

    def result(self, function: Any, keywords: list[str]) -> Any:
        if isinstance(function, Instance) or not callable(function):
            return Instance()
        if function is importlib.import_module("seq2seq").load:
            return Instance(importlib.import_module("seq2seq").Seq2Seq)
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:
            return Instance()
        known = set(parameters)
        if "options" in parameters:
            of_sentences = inspect.signature(importlib.import_module("seq2seq").Ensemble.generate).parameters
            known |= {*of_sentences, *(field.name for field in dataclasses.fields(DecodingConfig))}
        elif "settings" in parameters:
            known |= {field.name for field in dataclasses.fields(TokenizerOptions)}
        elif any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            known |= LAYER_ARGUMENTS if function.__module__.startswith("seq2seq") else set(keywords)
        assert set(keywords) <= known, f"{function} takes no {set(keywords) - known}"
        if isinstance(function, type):
            return Instance(function)
        return Instance(typing.get_type_hints(function).get("return"))


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block):
    NameChecker().visit(ast.parse(block))


@pytest.mark.parametrize(
    "block",
    [
        "import seq2seq\nseq2seq.Encodr(units=3)",
        "import seq2seq\nseq2seq.Encoder(unitz=3)",
        "import seq2seq\nmodel = seq2seq.load('a')\nmodel.translat(['a'])",
        "import seq2seq\nmodel = seq2seq.load('a')\nmodel.translate(['a'], beam_sise=3)",
        "from seq2seq.inspection import nothing",
    ],
)
def test_wrong_names_are_seen(block):
    with pytest.raises((AssertionError, ImportError)):
        NameChecker().visit(ast.parse(block))


def test_relative_links_lead_somewhere():
    for path in READMES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


def test_the_front_door_is_short():
    assert READMES[0].read_text("utf-8").count("\n") <= 200
