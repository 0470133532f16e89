"""`seq2seq train`: the steps of `train.py`."""

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_result
from seq2seq.config.flags import training_command
from seq2seq.config.sections import Config


def run_training(config: Config, resume: bool) -> None:
    """Train, and print outputs for the test set, scores, and the path of the model."""
    import_tensorflow()
    from seq2seq.training.run import train as train_model

    print_result(train_model(config, resume=resume))


train = training_command(run_training)
