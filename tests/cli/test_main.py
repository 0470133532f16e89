"""The dispatch: help without TensorFlow, and a status and one line for whatever goes wrong."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest

from seq2seq.cli.main import VERBS, exit_status, main
from seq2seq.errors import ConfigError, DataError, MissingDependencyError, ModelFileError, TokenizerError

ROOT = pathlib.Path(__file__).parents[2]


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("no"), 2),
        (DataError("no"), 1),
        (TokenizerError("no"), 1),
        (ModelFileError("no"), 1),
        (MissingDependencyError("no"), 1),
    ],
)
def test_a_users_mistake_is_one_line_on_stderr(error, status, capsys):
    assert exit_status(raising(error)) == status
    assert capsys.readouterr() == ("", "error: no\n")


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 / 0)


def test_ctrl_c(capsys):
    assert exit_status(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_success(capsys):
    assert exit_status(print, "done") == 0
    assert capsys.readouterr() == ("done\n", "")


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown and summary in shown for verb, summary in VERBS.items())


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert f"seq2seq {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
        (["translate", "m", "--beam-siz", "3"], "Unknown option: --beam-siz. Did you mean --beam-size?"),
        (["translate", "m", "--beam-size", "x"], "Invalid value for --beam-size"),
        (["translate"], "requires an argument"),
        (["evaluate", "m", "--source", "a"], "--target requires an argument"),
        (["train", "--training.epoch", "3"], "Did you mean --training.epochs?"),
        (["train", "nowhere.yaml"], "nowhere.yaml: the recipe cannot be read: No such file or directory."),
    ],
)
def test_usage_errors(arguments, words, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_answers_at_once_and_without_tensorflow(arguments):
    code = "import sys, time\nfrom seq2seq.cli.main import main\nstatus = main(sys.argv[1:])\n"
    code += "slow = [name for name in ('tensorflow', 'keras', 'sacrebleu') if name in sys.modules]\n"
    code += "print(status, time.process_time(), *slow, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    status, seconds, *slow = done.stderr.split()
    assert (status, slow) == ("0", [])
    assert float(seconds) < 2


def test_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "seq2seq", "nonsense"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith('error: Unknown command "nonsense".')


def test_ctrl_c_in_a_process_leaves_no_traceback():
    # A shell starts what it runs in the background with Ctrl-C ignored, and the tests may run there.
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "import time\nfrom seq2seq.cli.main import exit_status\nimport sys\n"
    code += "print('ready', flush=True)\nsys.exit(exit_status(time.sleep, 60))"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_reader_that_stops_early_causes_no_noise():
    code = "import sys\nfrom seq2seq.cli.main import exit_status\n"
    code += "sys.exit(exit_status(lambda: [print('x' * 1000) for _ in range(1000)]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("x")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 1
    process.stderr.close()
