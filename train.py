"""Train a model: recipe -> corpus -> tokenizer -> model -> training -> scores.

    python train.py [RECIPE.yaml] [--resume] [--section.key value ...]

Without a recipe it trains on the shipped corpus, data/en-fr. `python train.py --help` shows every setting.
"""

import sys
from collections.abc import Sequence

from seq2seq.cli.main import exit_status
from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_result
from seq2seq.config.flags import parse_train_arguments


def main(arguments: Sequence[str]) -> None:
    # A setting is its default, or what the recipe says, or what a flag says. All of it is saved with the run.
    config, resume = parse_train_arguments(arguments)
    import_tensorflow()
    from seq2seq.training.run import prepare_data, prepare_trainer, score_run
    from seq2seq.training.step import choose_workers

    workers = choose_workers(config.training.workers)
    # Corpus, tokenizer, and the training pairs as ids in batches of like length, which are the same on every run.
    data = prepare_data(config, resume)
    # The model, its optimizer and its moving average; a resumed run gets its last state back.
    trainer = prepare_trainer(config, data, workers, resume)
    # Batches through the step, scores on the dev set, the best model kept, a stop at any moment.
    trainer.run()
    # The best model on the test set.
    print_result(score_run(trainer, data))


if __name__ == "__main__":
    sys.exit(exit_status(main, sys.argv[1:]))
