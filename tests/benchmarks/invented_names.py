"""Words that never occurred in training: invented names in sentences of data/en-fr, with copying and without.

    python -m tests.benchmarks.invented_names FOLDER [--section.key value ...]

puts two to four names into each short sentence, trains a small model a way of copying, and prints for each and each
kind of test names a line: the share of the names that are written right, and of the sentences that are right as a
whole. Names are made of random syllables, and none of the test set is in training. Two kinds: of the letters that
training has too, and with one letter in each that training has nowhere. Flags change the recipe of all models.
"""

import json
import pathlib
import random
import re
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
CORPUS = ROOT / "data" / "en-fr"

MOST_WORDS = 6
UNSEEN_LETTERS = "ğłñőřşåø"
FRAMES = (
    ("{0} and {1} say: {text}", "{0} et {1} disent : {text}"),
    ("{0} tells {1}: {text}", "{0} dit à {1} : {text}"),
    ("{0} calls {1}, {2} and {3}: {text}", "{0} appelle {1}, {2} et {3} : {text}"),
)
RECIPE = """
data: {source: en, target: fr}
tokenizer: {kind: unigram, vocabulary_size: 800}
model:
  embedding_size: 64
  tie_embeddings: all
  encoder: {units: 64}
  decoder: {units: 128, num_layers: 2, attention_position: between}
  embedding_dropout: 0.1
  readout_dropout: 0.1
  source_word_dropout: 0.1
  target_word_dropout: 0.1
  label_smoothing: 0.1
training:
  {epochs: 10, batch_tokens: 2048, learning_rate: 3e-3, evaluate_every: 5, dev_sentences: 100}
"""
WAYS = {
    "none": (),
    "reuse": ("--model.copy", "reuse"),
    "separate": ("--model.copy", "separate"),
    "reuse-forced": ("--model.copy", "reuse", "--model.force_copy", "true"),
}


class Row(NamedTuple):
    """A pair of texts and the names in both."""

    source: str
    target: str
    names: list[str]


def make_name(draw: random.Random) -> str:
    syllables = [draw.choice("bcdfghjklmnprstvwz") + draw.choice("aeiou") for _ in range(draw.randint(2, 4))]
    return ("".join(syllables) + draw.choice(["", *"klmnrstx"])).capitalize()


def with_unseen_letter(draw: random.Random, name: str) -> str:
    place = draw.randrange(1, len(name))
    return name[:place] + draw.choice(UNSEEN_LETTERS) + name[place + 1 :]


def short_pairs(part: str) -> list[tuple[str, str]]:
    sides = [(CORPUS / f"{part}.{side}").read_text(encoding="utf-8").splitlines() for side in ("en", "fr")]
    return [pair for pair in zip(*sides, strict=True) if len(pair[0].split()) <= MOST_WORDS]


def make_rows(part: str, draw: random.Random, make: Callable[[], str]) -> list[Row]:
    """Put names into the pairs of a part."""
    rows = []
    for source, target in short_pairs(part):
        names = [make() for _ in range(4)]
        frames = draw.choice(FRAMES)
        source, target = (frame.format(*names, text=text) for frame, text in zip(frames, (source, target), strict=True))
        rows.append(Row(source, target, [name for name in names if name in source]))
    return rows


def make_corpus(folder: pathlib.Path) -> dict[str, list[Row]]:
    """Write the three parts, and return a test set for each kind of names."""
    draw = random.Random(0)
    parts = {"train": make_rows("train", draw, lambda: make_name(draw))}
    known = {name for row in parts["train"] for name in row.names}

    def invented() -> str:
        return next(name for name in iter(lambda: make_name(draw), None) if name not in known)

    parts |= {part: make_rows(part, draw, invented) for part in ("dev", "test")}
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        for side, place in (("en", 0), ("fr", 1)):
            (folder / f"{part}.{side}").write_text("".join(f"{row[place]}\n" for row in rows), encoding="utf-8")
    unseen = make_rows("test", draw, lambda: with_unseen_letter(draw, invented()))
    return {"of known letters": parts["test"], "with an unseen letter": unseen}


def trained(folder: pathlib.Path, way: str, flags: list[str]) -> tuple[Any, float]:
    """Train the model of a way of copying, and return it and its seconds."""
    from seq2seq.config.flags import load_config
    from seq2seq.training.run import train

    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    places = ("--data.folder", str(folder), "--run.folder", str(folder / "runs"), "--run.name", way)
    config = load_config(recipe, [*places, *WAYS[way], *flags])
    started = time.monotonic()
    return train(config).model, time.monotonic() - started


def scores(model: Any, rows: list[Row]) -> dict[str, float]:
    translations = model.translate([row.source for row in rows])
    words = [re.findall(r"\w+", text) for text in translations]
    right = [name in found for row, found in zip(rows, words, strict=True) for name in row.names]
    exact = [text == row.target for text, row in zip(translations, rows, strict=True)]
    return {"of_names": len(right), "names_right": sum(right) / len(right), "exact_match": sum(exact) / len(exact)}


def main(folder: str, *flags: str) -> None:
    tests = make_corpus(pathlib.Path(folder))
    for way in WAYS:
        model, seconds = trained(pathlib.Path(folder), way, list(flags))
        for kind, rows in tests.items():
            line = {"copy": way, "seconds": round(seconds), "names": kind, "sentences": len(rows)}
            print(json.dumps(line | scores(model, rows)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
