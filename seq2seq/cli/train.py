"""`seq2seq train`: the same as `train.py`."""

from typing import Annotated

import cyclopts

from seq2seq.cli.report import print_samples, print_scores
from seq2seq.config import Config
from seq2seq.config.flags import DEFAULT_RECIPE, Texts, with_setting_flags
from seq2seq.config.reading import merge


def train_as_told(
    recipe: str = DEFAULT_RECIPE,
    /,
    *,
    resume: Annotated[bool, cyclopts.Parameter(negative=())] = False,
    flags: Texts,
) -> None:
    """Train a model on pairs of texts; the recipe says how, and flags change what the recipe says.

    Args:
        recipe: a YAML file of the settings below; what it leaves out keeps its default.
        resume: go on where the run of this name was stopped.
    """
    run_training(merge(recipe, flags), resume)


def run_training(config: Config, resume: bool) -> None:
    """Train, and print translations of the test set, how the model scores and where it is."""
    # TensorFlow takes seconds to import: only now, so that help and mistakes in a recipe are answered at once.
    from seq2seq.training import train

    result = train(config, resume=resume)
    print_samples(result.samples)
    print_scores(result.scores)
    print(f"model: {result.model_path}")


train = with_setting_flags(train_as_told)
