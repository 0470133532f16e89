"""A whole run: recipe, corpus, tokenizer, model, training, scores."""

import dataclasses
import functools
import json
import pathlib
import shutil
import sys
from typing import Any

import yaml

from seq2seq.config import Config
from seq2seq.errors import ConfigError
from seq2seq.metrics import AgreementItem
from seq2seq.model import Seq2Seq, load
from seq2seq.text import Tokenizer
from seq2seq.training.corpus import Corpus, Texts, create_batches, create_tokenizer
from seq2seq.training.evaluation import bleu_by_length, evaluate, evaluate_agreement
from seq2seq.training.loop import Trainer, recurrent_kernels, recurrent_parameters
from seq2seq.training.progress import labelled

RECIPE, SCORES, STATE = "recipe.yaml", "scores.json", "state"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a run leaves: its folder, the file of its best model, that model, its scores, and some translations of the
    test set as (source, translation, reference)."""

    folder: pathlib.Path
    model_path: pathlib.Path
    model: Seq2Seq
    scores: dict[str, Any]
    samples: list[tuple[str, str, str]]


def say(line: str, label: str = "") -> None:
    """Writes a line of a run's account to stderr; stdout is for results."""
    print(labelled(line, label), file=sys.stderr, flush=True)


def train(config: Config, resume: bool = False, label: str = "") -> TrainingResult:
    """Trains a model as a recipe says, and scores the best one on the test set.

    Args:
        config: The run.
        resume: Whether to go on from the state that the run has saved.
        label: What stands before every line that it writes, where the run is one of several.

    Returns:
        Folder, model and scores. The folder holds `model.keras`, `recipe.yaml`, `history.jsonl`, `scores.json` and
        `state/`.

    Raises:
        DataError: The files cannot be used.
        ConfigError: The run to resume had another recipe.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    folder = config.run.path
    check_folder(config, resume)
    # Whatever can be wrong with the files is found now, before hours of training and before an old run is removed.
    corpus = Corpus(config)
    dev, test, agreement = corpus.dev(), corpus.test(), corpus.agreement()
    tokenizer = read_tokenizer(folder) if resume else create_tokenizer(config, corpus)
    batches = create_batches(config, corpus, tokenizer, folder.parent / ".cache", functools.partial(say, label=label))
    if not resume:
        create_folder(config, tokenizer, label)
    trainer = Trainer(config, tokenizer, batches, dev, label)
    if resume:
        trainer.resume()
    say(trainer.describe(), label)
    trainer.run()
    return finish(config, trainer, test, agreement)


def check_folder(config: Config, resume: bool) -> None:
    """Refuses a folder that holds something else than a run, and a run that cannot be resumed."""
    folder = config.run.path
    recipe = folder / RECIPE
    if resume and not recipe.is_file():
        raise ConfigError(f"{folder}: no run to resume. Start it without --resume.")
    if resume:
        if changes := recipe_changes(config):
            raise ConfigError(
                f"{recipe}: a run must be resumed with the recipe it began with, but {'; '.join(changes)}. "
                "Put it back, or start a run of another name."
            )
    elif folder.is_dir() and any(folder.iterdir()) and not recipe.is_file():
        raise ConfigError(
            f"{folder}: the folder of a run must be new or hold a run, but holds other files instead. "
            "Set run.name to another name."
        )


def create_folder(config: Config, tokenizer: Tokenizer, label: str = "") -> None:
    """Makes the run's folder, with its tokenizer and recipe, in the place of a run that may stand there."""
    folder = config.run.path
    if folder.exists():
        say(f"{folder}: replacing the run that stands there", label)
        shutil.rmtree(folder)
    (folder / STATE).mkdir(parents=True)
    for name, content in tokenizer.models.items():
        (folder / STATE / name).write_bytes(content)
    recipe = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
    (folder / RECIPE).write_text(recipe, encoding="utf-8")


def read_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """The tokenizer of a run that is resumed."""
    return Tokenizer.from_models({path.name: path.read_bytes() for path in (folder / STATE).glob("*.model")})


def recipe_changes(config: Config) -> list[str]:
    """What a run's recipe says otherwise than when it began, a setting each; empty where there is no run yet."""
    recipe = config.run.path / RECIPE
    if not recipe.is_file():
        return []
    before = _flat(yaml.safe_load(recipe.read_text(encoding="utf-8")))
    now = _flat(config.to_dict())
    return [f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in now if before.get(key) != now[key]]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


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
        "monitor": config.training.monitor,
        "best_dev": trainer.standing.best,
    }
    samples: list[tuple[str, str, str]] = []
    if test is not None:
        test_scores, hypotheses = evaluate(model, test.sources, test.targets)
        scores["test"] = test_scores | {"by_length": bleu_by_length(test.sources, hypotheses, test.targets)}
        samples = _samples(test, hypotheses)
    if agreement is not None:
        scores["agreement"] = evaluate_agreement(model, agreement)
    (trainer.folder / SCORES).write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    return TrainingResult(trainer.folder, trainer.model_path, model, scores, samples)


def _samples(test: Texts, hypotheses: list[str], count: int = 5) -> list[tuple[str, str, str]]:
    places = range(0, len(hypotheses), max(1, len(hypotheses) // count))
    return [(test.sources[place], hypotheses[place], test.targets[place]) for place in places][:count]
