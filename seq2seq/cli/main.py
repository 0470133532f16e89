"""`seq2seq VERB`: find the file of the verb and call it; other verbs are not imported."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from seq2seq.config.flags import call, command_app
from seq2seq.errors import ArgumentError, ConfigError, Seq2SeqError

VERBS = {
    "train": "Train a model as a recipe says.",
    "translate": "Translate lines of text with a trained model.",
    "summarize": "Summarize lines of text with a trained model.",
    "predict": "Give the labels of lines of text with a trained model.",
    "evaluate": "Score a trained model on a test set.",
    "score": "Give the log-probability of given translations.",
    "shortlist": "Let a trained model learn which tokens to write with.",
    "compare": "Train variants of a recipe and compare them.",
    "doctor": "Say what is wrong with a recipe before it is trained.",
    "benchmark": "Measure how fast this machine trains.",
    "export": "Write a trained model for other runtimes.",
    "inspect": "Look inside a trained model: its gates, states and gradients.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb with the arguments of this process or others, and return the exit status.

    It is 1 for a mistake in data, files or models, 2 for one in flags or recipe, and 130 for Ctrl-C.
    """
    app = command_app("seq2seq")
    app.help = "Train recurrent encoder-decoders on pairs of texts, translate and summarize with them."
    for verb, summary in VERBS.items():
        app.command(f"seq2seq.cli.{verb}:{verb}", name=verb, help=summary)
    return exit_status(call, app, sys.argv[1:] if arguments is None else arguments)


def exit_status(command: Callable[..., Any], *arguments: Any) -> int:
    """Call a command, and turn a user's mistake into one line on stderr and a status."""
    try:
        command(*arguments)
    except Seq2SeqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ArgumentError | ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does: nothing may be written any more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
