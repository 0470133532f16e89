"""A whole run in four steps: the data, the trainer, its training, the scores of its best model."""

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
from seq2seq.text.batching import Batches
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.training.data import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.evaluation import by_source_length, evaluate, evaluate_agreement
from seq2seq.training.fine_tuning import init_from, read_start
from seq2seq.training.run_folder import check_data, check_folder, create_folder, read_tokenizer
from seq2seq.training.step import choose_workers, create_step
from seq2seq.training.trainer import Trainer, recurrent_kernels, recurrent_parameters

LOG = logging.getLogger(__name__)

SCORES_FILE = "scores.json"
SAMPLES = 5


@dataclasses.dataclass(frozen=True)
class RunData:
    """Input of a run: its corpus, the tokenizer, the training batches, and the texts that models are scored on."""

    corpus: Corpus
    tokenizer: Tokenizer
    batches: Batches
    dev: Texts
    test: Texts | None
    agreement: list[AgreementItem] | None
    start: TextModel | None
    """The model of `training.init_from`."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """Folder, best model and scores of a run, and samples of the test set as (source, output, reference)."""

    folder: pathlib.Path
    model_path: pathlib.Path
    model: TextModel
    scores: dict[str, Any]
    samples: list[tuple[str, str, str]]


def train(config: Config, resume: bool = False) -> TrainingResult:
    """Train a model as a recipe says, and score the best one on the test set.

    In a process in which TensorFlow has not run yet, each operation gets its share of the cores, see
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
    # Threads can be set only before TensorFlow runs anything.
    workers = choose_workers(config.training.workers)
    data = prepare_data(config, resume)
    trainer = prepare_trainer(config, data, workers, resume)
    trainer.run()
    return score_run(trainer, data)


def prepare_data(config: Config, resume: bool = False) -> RunData:
    """Find every mistake in folder and files, before hours of training and before an old run is replaced."""
    check_recipe(config)
    folder = config.run.path
    check_folder(config, resume)
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
    return RunData(corpus, tokenizer, batches, dev, test, agreement, start)


def prepare_trainer(config: Config, data: RunData, workers: int = 1, resume: bool = False) -> Trainer:
    """Build the model and its trainer, with weights of another model or a saved state if the run has one."""
    trainer = Trainer(config, create_step(config, data.tokenizer, workers), data.batches, data.dev)
    for name, texts in {"dev": data.dev, "test": data.test}.items():
        if texts is not None and (note := trainer.step.model.truncation.note(data.tokenizer, texts.sources)):
            LOG.info(f"{name}: {note}")
    if data.start:
        LOG.info(init_from(trainer.step, data.start, config))
    if resume:
        trainer.resume()
    else:
        create_folder(config, data.corpus, data.tokenizer)
    LOG.info(trainer.describe())
    return trainer


def score_run(trainer: Trainer, data: RunData) -> TrainingResult:
    """Score the best model of a run on its test set and write `scores.json`."""
    model, state = load(trainer.model_path), trainer.state
    scores: dict[str, Any] = {
        "training_minutes": round(state.seconds / 60, 2),
        "updates": state.updates,
        "target_tokens_per_second": state.target_tokens_per_second,
        "parameters": model.count_params(),
        "recurrent_parameters": recurrent_parameters(model),
        "recurrent_kernel": recurrent_kernels(trainer.step.model),
        "skipped_steps": state.skipped,
        "overflowed_steps": state.overflows,
        "monitor": trainer.config.training.monitor,
        "best_dev": state.best,
        "averaged_checkpoints": state.averaged,
    }
    samples: list[tuple[str, str, str]] = []
    if (test := data.test) is not None:
        test_scores, hypotheses = evaluate(model, test.sources, test.targets)
        by_length = by_source_length(model.task, test.sources, hypotheses, test.targets)
        scores["test"] = test_scores | {"by_length": by_length}
        places = range(0, len(hypotheses), max(1, len(hypotheses) // SAMPLES))[:SAMPLES]
        samples = [(test.sources[place], hypotheses[place], test.targets[place]) for place in places]
    if data.agreement is not None:
        scores["agreement"] = evaluate_agreement(model, data.agreement)
    write_whole(trainer.folder / SCORES_FILE, (json.dumps(scores, indent=2) + "\n").encode())
    return TrainingResult(trainer.folder, trainer.model_path, model, scores, samples)
