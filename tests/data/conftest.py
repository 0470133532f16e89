"""Run the scripts that make the shipped corpora."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def remade(tmp_path):
    """Run a script and return the names of its files and those that differ from the committed ones."""

    def remade(script, committed):
        command = [sys.executable, str(script), "--output", str(tmp_path)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, capture_output=True)
        made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
        return made, [name for name in made if (tmp_path / name).read_bytes() != (committed / name).read_bytes()]

    return remade
