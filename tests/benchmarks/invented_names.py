"""Words that never occurred in training: invented names in sentences of data/en-fr, with copying and without.

    python -m tests.benchmarks.invented_names FOLDER [--section.key value ...]

puts two to four names into each short sentence, trains a small model a way of copying, and prints for each a line: the
share of test names that are written right, the share of sentences that are right as a whole, and the time. The names
are made of random syllables: 500 in training, again and again, as in any corpus of real people, and none of them in the
test set. Flags change the recipe of all models.
"""

import json
import pathlib
import random
import re
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
CORPUS = ROOT / "data" / "en-fr"

MOST_WORDS, COPIES, TRAINING_NAMES = 4, 4, 500
FRAMES = (
    ("{0} and {1} say: {text}", "{0} et {1} disent : {text}"),
    ("{0} tells {1}: {text}", "{0} dit à {1} : {text}"),
    ("{0} calls {1}, {2} and {3}: {text}", "{0} appelle {1}, {2} et {3} : {text}"),
)
RECIPE = """
data: {source: en, target: fr}
tokenizer: {kind: unigram, vocabulary_size: 600}
model:
  embedding_size: 64
  tie: all
  encoder: {units: 64}
  decoder: {units: 128, num_layers: 2, attend: between}
  dropout: {embedding: 0.1, readout: 0.1, source_word: 0.1}
training:
  {epochs: 10, batch_tokens: 2048, learning_rate: 3e-3, label_smoothing: 0.1, evaluate_every: 5, dev_sentences: 50}
"""
WAYS = {
    "none": (),
    "reuse": ("--model.copy.mode", "reuse"),
    "separate": ("--model.copy.mode", "separate"),
    "reuse-forced": ("--model.copy.mode", "reuse", "--model.copy.force", "true"),
}


def make_name(draw: random.Random) -> str:
    syllables = [draw.choice("bcdfghjklmnprstvwz") + draw.choice("aeiou") for _ in range(draw.randint(2, 4))]
    return ("".join(syllables) + draw.choice(["", *"klmnrstx"])).capitalize()


def short_pairs(part: str) -> list[tuple[str, str]]:
    sides = [(CORPUS / f"{part}.{side}").read_text(encoding="utf-8").splitlines() for side in ("en", "fr")]
    return [pair for pair in zip(*sides, strict=True) if len(pair[0].split()) <= MOST_WORDS]


def make_corpus(folder: pathlib.Path) -> list[tuple[str, str, list[str]]]:
    """Writes the three parts, and returns the test set with the names of each sentence."""
    draw = random.Random(0)
    known = sorted({make_name(draw) for _ in range(TRAINING_NAMES)})

    def invented() -> str:
        return next(name for name in iter(lambda: make_name(draw), None) if name not in known)

    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev", "test"):
        rows = []
        for source, target in short_pairs(part) * COPIES:
            names = [draw.choice(known) if part == "train" else invented() for _ in range(4)]
            frames = draw.choice(FRAMES)
            texts = [frame.format(*names, text=text) for frame, text in zip(frames, (source, target), strict=True)]
            rows.append((*texts, [name for name in names if name in texts[0]]))
        for place, side in enumerate(("en", "fr")):
            (folder / f"{part}.{side}").write_text("".join(f"{row[place]}\n" for row in rows), encoding="utf-8")
    return rows


def measure(folder: pathlib.Path, way: str, rows: list[tuple[str, str, list[str]]], flags: list[str]) -> dict:
    from seq2seq.config import load_config
    from seq2seq.training import train

    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    places = ("--data.folder", str(folder), "--run.folder", str(folder / "runs"), "--run.name", way)
    config = load_config(recipe, [*places, *WAYS[way], *flags])
    started = time.monotonic()
    result = train(config)
    seconds = time.monotonic() - started
    sources, targets, names = zip(*rows, strict=True)
    translations = result.model.translate(sources)
    words = [re.findall(r"\w+", text) for text in translations]
    right = [name in found for all_names, found in zip(names, words, strict=True) for name in all_names]
    exact = [text == target for text, target in zip(translations, targets, strict=True)]
    return {
        "copy": way,
        "sentences": len(rows),
        "names": len(right),
        "names_right": sum(right) / len(right),
        "exact_match": sum(exact) / len(exact),
        "seconds": round(seconds),
    }


def main(folder: str, *flags: str) -> None:
    rows = make_corpus(pathlib.Path(folder))
    for way in WAYS:
        print(json.dumps(measure(pathlib.Path(folder), way, rows, list(flags))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
