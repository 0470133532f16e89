"""Training steps on the toy language, without a run around them."""

import random

import keras
import numpy as np
import pytest

from seq2seq.models.build import build_model
from seq2seq.text.batching import Batch
from seq2seq.text.dataset import pad
from seq2seq.text.ids import PAD_ID
from seq2seq.training.step import TrainingStep


def write_corpus(folder, recipe=None, **pairs):
    """Write the two files of each name, and a recipe where there is one; return the path of the recipe."""
    for name, some in pairs.items():
        for side, texts in zip(("en", "eo"), zip(*some, strict=True), strict=True):
            (folder / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    if recipe:
        (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return folder / "recipe.yaml"


@pytest.fixture(scope="session")
def make_step(toy_config, toy_tokenizer):
    def make(
        seed: int = 1,
        dtype: str = "float32",
        optimizer=None,
        clip_norm: float = 1.0,
        ema: float = 0.0,
        l2: float = 0.0,
        workers: int = 1,
        **changes,
    ) -> TrainingStep:
        random.seed(seed)
        config = toy_config(**changes)
        return TrainingStep(
            build_model(config, toy_tokenizer, dtype),
            build_model(config, toy_tokenizer),
            optimizer or keras.optimizers.Adam(),
            clip_norm,
            ema,
            l2,
            workers,
        )

    return make


@pytest.fixture(scope="session")
def toy_batches(toy_pairs, toy_tokenizer) -> list[Batch]:
    """Three batches of sixteen pairs."""
    batches = []
    for start in (0, 16, 32):
        sources, targets = zip(*toy_pairs[start : start + 16], strict=True)
        source_ids, target_ids = pad(toy_tokenizer.source.encode(sources)), pad(toy_tokenizer.target.encode(targets))
        batches.append(Batch(source_ids, target_ids, np.arange(start, start + 16)))
    assert all((ids == PAD_ID).any() for batch in batches for ids in batch[:2])
    return batches
