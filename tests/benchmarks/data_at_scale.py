"""Measure training on millions of invented pairs: time to the first step, waits for batches, memory, encoding.

    python -m tests.benchmarks.data_at_scale PAIRS FOLDER [--section.key value ...]

prints a line for each measurement. FOLDER takes 200 bytes a pair for the texts, which are made once, and 100 for the
cache. The model is that of the recipe of Multi30k.
"""

import contextlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
RECIPE = ROOT / "data" / "multi30k" / "recipe.yaml"

SYLLABLES = {"a": "bdfghlmnprstvz", "b": "bcdfgjklmnprstvx"}
VOCABULARY, SHORTEST, LONGEST = 20_000, 8, 20
PAIRS_AT_A_TIME = 100_000
COMPARED_PAIRS = 300_000
STEPS = 60


def make_words(consonants: str, random: np.random.Generator) -> np.ndarray:
    syllables = [consonant + vowel for consonant in consonants for vowel in "aeiou"]
    words: set[str] = set()
    while len(words) < VOCABULARY:
        words.add("".join(random.choice(syllables, size=random.integers(1, 5))))
    return random.permutation(sorted(words))


def make_corpus(folder: pathlib.Path, pairs: int) -> None:
    """Sentences of words as frequent as Zipf says, and their translations word by word."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    words = {side: make_words(consonants, random) for side, consonants in SYLLABLES.items()}
    frequencies = 1 / np.arange(1, VOCABULARY + 1)
    reached = np.cumsum(frequencies / frequencies.sum())
    with contextlib.ExitStack() as files:
        sides = {side: files.enter_context(open(folder / f"train.{side}", "w", encoding="utf-8")) for side in words}
        for start in range(0, pairs, PAIRS_AT_A_TIME):
            lengths = random.integers(SHORTEST, LONGEST + 1, size=min(PAIRS_AT_A_TIME, pairs - start))
            drawn = np.searchsorted(reached, random.random(lengths.sum())).clip(max=VOCABULARY - 1)
            for side, file in sides.items():
                texts = iter(words[side][drawn].tolist())
                file.writelines(f"{' '.join(next(texts) for _ in range(length))}\n" for length in lengths.tolist())
    for side in words:
        with open(folder / f"train.{side}", encoding="utf-8") as file:
            (folder / f"dev.{side}").write_text("".join(next(file) for _ in range(100)), encoding="utf-8")


def load(folder: str, *overrides: str):
    from seq2seq.config.flags import load_config

    settings = ["--data.folder", folder, "--data.source", "a", "--data.target", "b", "--data.test", "null"]
    return load_config(RECIPE, [*settings, "--run.folder", f"{folder}/runs", *overrides])


def memory() -> dict[str, float]:
    """Read the megabytes that the process held at most, and those that it holds now without mapped files."""
    lines = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return {
        f"{name}_mb": int(lines[key].split()[0]) / 1000 for name, key in {"peak": "VmHWM", "own": "RssAnon"}.items()
    }


def measure_encoding(cores: int, folder: str) -> dict[str, float]:
    """Pairs a second of reading, cutting and writing."""
    from seq2seq.text.dataset_cache import encode_corpus
    from seq2seq.training.data import Corpus, create_tokenizer

    os.sched_setaffinity(0, range(cores))
    config = load(folder)
    corpus = Corpus(config)
    tokenizer = create_tokenizer(config, corpus)
    pairs = itertools.islice(corpus.train_pairs(), COMPARED_PAIRS)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        started = time.monotonic()
        encoded = encode_corpus(pairs, tokenizer, cache_folder=cache, fingerprint="")
        return {"pairs_per_second": len(encoded) / (time.monotonic() - started), **memory()}


def shares_of_tenths(batches) -> np.ndarray:
    """How much of the first batches comes from each tenth of the corpus: as much, where shuffling covers all of it."""
    with contextlib.closing(batches.epoch(0)) as epoch:
        places = np.concatenate([batch.indices for batch in itertools.islice(epoch, STEPS)])
    return np.bincount(10 * places // len(batches.corpus), minlength=10) / len(places)


def measure_start(began: float, folder: str, *overrides: str) -> dict[str, float]:
    """Seconds from the start of the process on, as `train` goes about it; then the share of waiting for batches."""
    found: dict[str, float] = {}

    def reached(name: str) -> None:
        found[name] = time.time() - began

    from seq2seq.diagnostics.train_benchmark import timed_steps, train_on, updates
    from seq2seq.training.data import Corpus, create_batches, create_tokenizer
    from seq2seq.training.step import create_step
    from seq2seq.training.trainer import Trainer

    reached("imported_s")
    config = load(folder, *overrides)
    corpus = Corpus(config)
    dev = corpus.dev()
    tokenizer = create_tokenizer(config, corpus)
    reached("tokenizer_s")
    found |= {f"tokenizer_{name}": value for name, value in memory().items()}
    batches = create_batches(config, corpus, tokenizer)
    reached("encoded_s")
    found |= {f"encoded_{name}": value for name, value in memory().items()}
    trainer = Trainer(config, create_step(config, tokenizer), batches, dev)
    reached("planned_s")
    stream = updates(batches, 1)
    train_on(trainer.step, 1e-4, next(stream))
    reached("first_step_s")
    timed = timed_steps(trainer.step, stream, 1e-4, STEPS)
    waiting, computing = sum(one.waiting for one in timed), sum(one.computing for one in timed)
    shares = shares_of_tenths(batches)
    return found | {
        "data_wait": waiting / (waiting + computing),
        "step_ms": 1e3 * computing / STEPS,
        **memory(),
        "smallest_share_of_a_tenth": shares.min(),
        "largest_share_of_a_tenth": shares.max(),
    }


def in_a_process(name: str, *arguments: object) -> None:
    """Each measurement has a process of its own, whose memory nothing else has filled."""
    command = [sys.executable, "-m", "tests.benchmarks.data_at_scale", name, str(time.time()), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    print(name, *arguments, {key: round(value, 4) for key, value in json.loads(done.stdout).items()}, flush=True)


def main(pairs: int, folder: pathlib.Path, *overrides: str) -> None:
    if not (folder / "dev.b").exists():
        make_corpus(folder, pairs)
    # The first start makes the tokenizer and the cache that the others find.
    in_a_process("start", folder, *overrides)
    in_a_process("start", folder, *overrides)
    for cores in (1, os.cpu_count()):
        in_a_process("encoding", cores, folder)


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "start":
        print(json.dumps(measure_start(float(arguments[0]), *arguments[1:])))
    elif command == "encoding":
        print(json.dumps(measure_encoding(int(arguments[1]), arguments[2])))
    else:
        main(int(command), pathlib.Path(arguments[0]).absolute(), *arguments[1:])
