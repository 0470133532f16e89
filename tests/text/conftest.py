"""A small corpus with repeating words, and tokenizers trained on it once."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import seq2seq
from seq2seq.text.tokenizer import Tokenizer
from seq2seq.text.tokenizer_training import train_tokenizer

SYLLABLES = ("ba", "de", "fi", "go", "hu", "la", "mi", "no", "pe", "ra", "so", "tu")
ENDINGS = {"source": ("ck", "n", "sh", "ter"), "target": ("é", "eau", "ois", "ille")}


def words(side: str) -> list[str]:
    draw = random.Random(side)
    return ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 3))) + draw.choice(ENDINGS[side]) for _ in range(150)]


def sentences(number: int, seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    sources, targets = words("source"), words("target")
    pairs = []
    for _ in range(number):
        places = [min(draw.randrange(150), draw.randrange(150)) for _ in range(draw.randint(1, 7))]
        source = "the " + " and the ".join(sources[i] for i in places)
        target = " et ".join(f"le {targets[i]}" for i in reversed(places))
        pairs.append((source, target))
    return pairs


@pytest.fixture(scope="session")
def corpus() -> list[tuple[str, str]]:
    return sentences(400)


@pytest.fixture(scope="session")
def tokenizers(corpus) -> dict[str, Tokenizer]:
    sources, targets = [source for source, _ in corpus], [target for _, target in corpus]
    return {
        kind: train_tokenizer(sources, targets, kind=kind, vocabulary_size=size)
        for kind, size in {"unigram": 250, "bpe": 200, "char": 300, "word": 300}.items()
    }


@pytest.fixture(scope="session")
def fresh_python():
    """Run code in a fresh process with another hash seed and return its output."""

    def run(code: str, hash_seed: int = 12345) -> str:
        environment = os.environ | {
            "PYTHONHASHSEED": str(hash_seed),
            "PYTHONPATH": str(Path(next(iter(seq2seq.__path__))).parent),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
