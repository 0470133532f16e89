"""Subword sampling: another segmentation of the same text in every epoch, and yet the same in every run.

A model that sees a word cut in several ways learns what its parts mean (Kudo 2018, "Subword regularization";
Provilkov et al. 2020, "BPE-dropout"). The draw for a sentence depends on its own seed only, never on what was drawn
before it, so an epoch that is resumed in its middle goes on exactly as if it had not been stopped.
"""

import dataclasses
import math
import threading
from collections.abc import Sequence

import numpy as np
import sentencepiece


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to draw a segmentation: plain numbers, checked when made.

    Args:
        alpha: for a unigram model the smoothing of the distribution (near 0: every segmentation alike; large: always
            the best one); for a BPE model the share of merges to drop.
        nbest_size: segmentations that a unigram model draws from; -1 stands for all of them. BPE ignores it.

    Raises:
        ValueError: where a number is out of range.

    Examples:
        >>> Sampling(alpha=0.2)
        Sampling(alpha=0.2, nbest_size=-1)
    """

    alpha: float = 0.1
    nbest_size: int = -1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha must be greater than 0, but is {self.alpha} instead.")
        if self.nbest_size != -1 and self.nbest_size < 2:
            raise ValueError(f"nbest_size must be -1 or at least 2, but is {self.nbest_size} instead.")


# SentencePiece has one seed for the whole process: setting it and drawing with it must not be torn apart.
_SEED_LOCK = threading.Lock()


def sample_encode(
    processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str], sampling: Sampling, seeds: Sequence[int]
) -> list[list[int]]:
    """Encode each text with a segmentation drawn by its own seed; the end id comes last."""
    rows = []
    with _SEED_LOCK:
        for text, seed in zip(texts, seeds, strict=True):
            sentencepiece.set_random_generator_seed(int(seed))
            rows.append(
                processor.encode(
                    text,
                    enable_sampling=True,
                    alpha=sampling.alpha,
                    nbest_size=sampling.nbest_size,
                    add_eos=True,
                )
            )
    return rows


def sentence_seeds(seed: int, epoch: int, indices: np.ndarray, side: int) -> list[int]:
    """One 32-bit seed a sentence, which depends on nothing but the run's seed, the epoch, its place and its side.

    The mixing is that of SplitMix64 (Steele et al. 2014): neighbouring places get unrelated seeds.

    Examples:
        >>> sentence_seeds(1, 0, np.array([7, 8]), 0) == sentence_seeds(1, 0, np.array([8, 7]), 0)[::-1]
        True
    """
    state = np.zeros(len(indices), np.uint64)
    with np.errstate(over="ignore"):
        for part in (seed, epoch, side, indices):
            state = _mix(state + np.uint64(0x9E3779B97F4A7C15) + np.asarray(part, np.uint64))
    return (state >> np.uint64(32)).tolist()


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
