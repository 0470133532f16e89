"""A whole run: recipe, corpus, tokenizer, model, training, scores."""

import dataclasses
import json
import logging
import pathlib
from typing import Any

from seq2seq.config.sections import Config
from seq2seq.files import write_whole
from seq2seq.metrics.agreement import AgreementItem
from seq2seq.models.archive import load
from seq2seq.models.base import TextModel
from seq2seq.models.build import check_recipe
from seq2seq.training.data import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.evaluation import by_source_length, evaluate, evaluate_agreement
from seq2seq.training.fine_tuning import init_from, read_start
from seq2seq.training.run_folder import check_data, check_folder, create_folder, read_tokenizer
from seq2seq.training.step import choose_workers
from seq2seq.training.trainer import Trainer, recurrent_kernels, recurrent_parameters

LOG = logging.getLogger(__name__)

SCORES = "scores.json"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run leaves: its folder, the file of its best model, that model, its scores, and some outputs for the
    test set as (source, output, reference)."""

    folder: pathlib.Path
    model_path: pathlib.Path
    model: TextModel
    scores: dict[str, Any]
    samples: list[tuple[str, str, str]]


def train(config: Config, resume: bool = False) -> TrainingResult:
    """Trains a model as a recipe says, and scores the best one on the test set.

    In a process in which TensorFlow has not run yet, each operation is given its share of the cores, see
    `training.workers`.

    Args:
        config: The run.
        resume: Whether to go on from the state that the run has saved.

    Returns:
        Folder, model and scores. The folder holds `model.keras`, `recipe.yaml`, `history.jsonl`, `scores.json` and
        `state/`.

    Raises:
        DataError: The files cannot be used.
        Seq2SeqError: The disk is full, or the loss is no longer a number.
        ConfigError: The run to resume had another recipe, or the model to start from does not fit.
        ModelFileError: The model to start from cannot be read, or no state of the run to resume is whole.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    # TensorFlow can be told only before anything of it runs, a check of an earlier run included.
    workers = choose_workers(config.training.workers)
    check_recipe(config)
    folder = config.run.path
    check_folder(config, resume)
    # Whatever can be wrong with the files is found now, before hours of training and before an old run is removed.
    corpus = Corpus(config)
    if resume:
        check_data(folder, corpus)
    dev, test, agreement = corpus.dev(), corpus.test(), corpus.agreement()
    start = None if resume else read_start(config)
    if resume:
        tokenizer = read_tokenizer(folder)
    else:
        tokenizer = start.require_tokenizer() if start else create_tokenizer(config, corpus)
    batches = create_batches(config, corpus, tokenizer)
    trainer = Trainer(config, tokenizer, batches, dev, workers)
    for name, texts in {"dev": dev, "test": test}.items():
        if texts is not None and (note := trainer.step.model.truncation.note(tokenizer, texts.sources)):
            LOG.info(f"{name}: {note}")
    if start:
        LOG.info(init_from(trainer.step, start, config))
    if resume:
        trainer.resume()
    else:
        create_folder(config, corpus, tokenizer)
    LOG.info(trainer.describe())
    trainer.run()
    return finish(config, trainer, test, agreement)


def finish(
    config: Config, trainer: Trainer, test: Texts | None, agreement: list[AgreementItem] | None
) -> TrainingResult:
    """Scores the best model of a run on its test set and writes `scores.json`."""
    model = load(trainer.model_path)
    scores: dict[str, Any] = {
        "training_minutes": round(trainer.standing.seconds / 60, 2),
        "updates": trainer.standing.updates,
        "target_tokens_per_second": trainer.standing.target_tokens_per_second,
        "parameters": model.count_params(),
        "recurrent_parameters": recurrent_parameters(model),
        "recurrent_kernel": recurrent_kernels(trainer.step.model),
        "skipped_steps": trainer.standing.skipped,
        "overflowed_steps": trainer.standing.overflows,
        "monitor": config.training.monitor,
        "best_dev": trainer.standing.best,
        "averaged_checkpoints": trainer.standing.averaged,
    }
    samples: list[tuple[str, str, str]] = []
    if test is not None:
        test_scores, hypotheses = evaluate(model, test.sources, test.targets)
        by_length = by_source_length(model.task, test.sources, hypotheses, test.targets)
        scores["test"] = test_scores | {"by_length": by_length}
        samples = _samples(test, hypotheses)
    if agreement is not None:
        scores["agreement"] = evaluate_agreement(model, agreement)
    write_whole(trainer.folder / SCORES, (json.dumps(scores, indent=2) + "\n").encode())
    return TrainingResult(trainer.folder, trainer.model_path, model, scores, samples)


def _samples(test: Texts, hypotheses: list[str], count: int = 5) -> list[tuple[str, str, str]]:
    places = range(0, len(hypotheses), max(1, len(hypotheses) // count))
    return [(test.sources[place], hypotheses[place], test.targets[place]) for place in places][:count]
