"""The folder of a run: its recipe, its tokenizer, and the fingerprints of its data."""

import json
import logging
import pathlib
from typing import Any

import yaml

from seq2seq.config.recipe import known_sections
from seq2seq.config.sections import Config
from seq2seq.errors import ConfigError, DataError
from seq2seq.files import atomic
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.training.data import Corpus

LOG = logging.getLogger(__name__)

RECIPE, STATE, DATA = "recipe.yaml", "state", "data.json"


def check_folder(config: Config, resume: bool) -> None:
    """Refuse a folder that holds something else than a run, and a run that cannot be resumed."""
    folder = config.run.path
    recipe = folder / RECIPE
    if resume and not recipe.is_file():
        raise ConfigError(f"{folder}: no run to resume. Start it without --resume.")
    if resume and (changes := recipe_changes(config)):
        raise ConfigError(
            f"{recipe}: a run must be resumed with the recipe it began with, but {'; '.join(changes)}. "
            "Put it back, or start a run of another name."
        )
    if not resume and folder.is_dir() and any(folder.iterdir()) and not recipe.is_file():
        raise ConfigError(
            f"{folder}: the folder of a run must be new or hold a run, got one with other files. "
            "Set run.name to another name."
        )


def check_data(folder: pathlib.Path, corpus: Corpus) -> None:
    """Refuse to resume a run on other data than it began with: it would be neither that run nor a new one."""
    path = folder / STATE / DATA
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    now = corpus.fingerprints
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if changed:
        raise DataError(
            f"{', '.join(changed)}: a run must be resumed with the data it began with, but this has changed since. "
            "Put it back, or start a run of another name."
        )


def create_folder(config: Config, corpus: Corpus, tokenizer: Tokenizer) -> None:
    """Create the folder of a run with its tokenizer and recipe; it replaces a run of that name once it is whole."""
    folder = config.run.path
    with atomic(folder) as new:
        (new / STATE).mkdir(parents=True)
        for name, content in tokenizer.models.items():
            (new / STATE / name).write_bytes(content)
        fingerprints = json.dumps(corpus.fingerprints, indent=2, ensure_ascii=False) + "\n"
        (new / STATE / DATA).write_text(fingerprints, encoding="utf-8")
        recipe = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
        (new / RECIPE).write_text(recipe, encoding="utf-8")
        if folder.exists():
            LOG.info(f"{folder}: replacing the run that stands there")


def read_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """Read the tokenizer of a run that is resumed."""
    return Tokenizer.from_models({path.name: path.read_bytes() for path in (folder / STATE).glob("*.model")})


def recipe_changes(config: Config) -> list[str]:
    """Return how settings differ from those that a run began with; none where there is no run yet."""
    recipe = config.run.path / RECIPE
    if not recipe.is_file():
        return []
    before = _flat(yaml.safe_load(recipe.read_text(encoding="utf-8")))
    now = _flat(config.to_dict())
    return [f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in now if before.get(key) != now[key]]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if name in known_sections() else {name: value}
    return flat
