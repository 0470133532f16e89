"""`seq2seq train`: the same as `train.py`."""

from seq2seq.cli.quiet import import_tensorflow
from seq2seq.cli.report import print_samples, print_scores
from seq2seq.config.flags import training_command
from seq2seq.config.sections import Config


def run_training(config: Config, resume: bool) -> None:
    """Train, and print outputs for the test set, how the model scores and where it is."""
    import_tensorflow()
    from seq2seq.training.run import train as train_model

    result = train_model(config, resume=resume)
    print_samples(result.samples)
    print_scores(result.scores)
    print(f"model: {result.model_path}")


train = training_command(run_training)
