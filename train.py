"""Train a model: recipe -> corpus -> tokenizer -> model -> training -> scores.

    python train.py [RECIPE.yaml] [--resume] [--section.key value ...]

Without a recipe it trains on the shipped corpus, data/en-fr. `python train.py --help` shows every setting.
"""

import sys
from collections.abc import Sequence

from seq2seq.cli.main import exit_status
from seq2seq.cli.train import run_training
from seq2seq.config.flags import parse_train_arguments


def main(arguments: Sequence[str]) -> None:
    config, resume = parse_train_arguments(arguments)
    run_training(config, resume)


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
