"""TensorFlow's greeting is dropped, and nothing else."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = "from seq2seq.cli.quiet import import_tensorflow; import_tensorflow(); import_tensorflow(); print('after')"
WRITES = (
    'import os, sys\nos.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\\n'
    'I0000 00:00:1 1 port.cc:153] hello\\nE0000 00:00:1 1 a.cc:1] broken\\n")\nprint("Python says", file=sys.stderr)\n'
)


def run(folder, **more):
    environment = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"} | more
    environment["PYTHONPATH"] = os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])
    return subprocess.run([sys.executable, "-c", COMMAND], env=environment, capture_output=True, text=True)


@pytest.fixture
def pretender(tmp_path):
    """Write a module of TensorFlow's name."""

    def write(code):
        (tmp_path / "tensorflow.py").write_text(code)
        return tmp_path

    return write


def test_only_the_greeting_is_dropped(pretender):
    done = run(pretender(WRITES))
    assert (done.stdout, done.stderr) == ("after\n", "E0000 00:00:1 1 a.cc:1] broken\nPython says\n")


def test_a_failed_import_is_passed_on(pretender):
    done = run(pretender(f"{WRITES}raise ImportError('no such processor')\n"))
    assert done.returncode == 1
    assert done.stderr.startswith("E0000 00:00:1 1 a.cc:1] broken\nPython says\nTraceback")
    assert "no such processor" in done.stderr


def test_whoever_asks_gets_all_of_it(pretender):
    assert "hello" in run(pretender(WRITES), TF_CPP_MIN_LOG_LEVEL="0").stderr


def test_the_real_one_is_quiet():
    done = run(None)
    assert (done.stdout, done.stderr) == ("after\n", "")
