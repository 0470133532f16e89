"""A long stream through the command itself: order, memory, kills, interrupts and pipes that break."""

import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from seq2seq.models.archive import save

ROOT = pathlib.Path(__file__).parents[2]

# The command with a model that answers at once, so that it starts at once, too. A shell starts what it runs in the
# background with Ctrl-C ignored, and the tests may run there.
WITH_FAKE_MODEL = """
import signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.cli.conftest import FakeModel
from seq2seq import threads
from seq2seq.cli import translate
from seq2seq.cli.main import main
translate.import_tensorflow = lambda: None
fakes = {"": {}, ".archive": {"load": lambda path, kind: FakeModel()}, ".seq2seq": {"Seq2Seq": FakeModel}}
for module, names in fakes.items():
    sys.modules[f"seq2seq.models{module}"] = types.SimpleNamespace(**names)
threads.use_single_threaded_ops = lambda: None
sys.exit(main(["translate", "model.keras", *sys.argv[1:]]))
"""


@pytest.fixture
def start():
    """Start a command whose three streams are pipes, and kill it in the end."""
    started = []

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, **pipes)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def resident_megabytes(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def feed(process, sources):
    """Write sources over and over, in the background, for as long as they are read."""

    def write():
        try:
            for block in itertools.repeat("".join(f"{source}\n" for source in sources).encode()):
                process.stdin.write(block)
        except BrokenPipeError:
            process.stdin.raw.close()

    threading.Thread(target=write, daemon=True).start()


def follow(path, process, count):
    """Yield the first lines of a file that is being written, as soon as they are there."""
    with open(path, encoding="utf-8", newline="\n") as stream:
        line = ""
        for _ in range(count):
            while not line.endswith("\n"):
                more = stream.readline()
                line += more
                if not more:
                    assert process.poll() is None, process.stderr.read().decode()
                    time.sleep(0.02)
            yield line.removesuffix("\n")
            line = ""


@pytest.mark.parametrize("lines", [8_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_order_is_kept_memory_stays_flat_and_a_kill_leaves_whole_lines(make_model, toy_pairs, tmp_path, start, lines):
    model = make_model(decoding__beam_size=1, decoding__max_length=4, decoding__batch_tokens=16_384)
    for variable in model.trainable_variables:
        variable.assign(2.5 * variable)
    save(model, tmp_path / "model.keras")
    sources = [source for source, _ in toy_pairs] + ["", "a zebra"]
    expected = model.translate(sources)
    assert len(set(expected)) > 50

    path = tmp_path / "out.txt"
    path.touch()
    process = start("-m", "seq2seq", "translate", str(tmp_path / "model.keras"), "--output", str(path))
    feed(process, sources)
    memory = []
    for number, line in enumerate(follow(path, process, lines)):
        assert line == expected[number % len(expected)], number
        if number % (lines // 10) == 0:
            memory.append(resident_megabytes(process))
    print(f"{lines} lines; resident megabytes at every tenth of them:", [round(value) for value in memory])
    process.kill()
    process.wait()
    # Of the last nine tenths; the first window compiles and reserves.
    assert max(memory[2:]) - memory[1] < 50

    written = path.read_text(encoding="utf-8")
    assert written.endswith("\n")
    found = written.removesuffix("\n").split("\n")
    assert len(found) >= lines
    assert found == list(itertools.islice(itertools.cycle(expected), len(found)))


def test_ctrl_c_while_it_waits_for_input(start):
    process = start("-c", WITH_FAKE_MODEL)
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    assert [process.stdout.readline(), process.stdout.readline()] == [b"A\n", b"B\n"]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read() == b"interrupted\n"
    assert process.stdout.read() == b""


def test_a_reader_that_has_seen_enough(start):
    process = start("-c", WITH_FAKE_MODEL)
    feed(process, ["a"])
    assert process.stdout.readline() == b"A\n"
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""


def test_an_input_without_an_end_of_its_last_line(start):
    process = start("-c", WITH_FAKE_MODEL)
    out, err = process.communicate(b"a\n\nb", timeout=60)
    assert (out, err) == (b"A\n\nB\n", b"3 lines: 1 blank (<stdin>:2)\n")
    assert process.returncode == 0
