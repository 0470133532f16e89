"""Batches by a budget of tokens: pairs of similar lengths together, in an order that the seed alone decides."""

import math
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np

from seq2seq.errors import ArgumentError, require_integer
from seq2seq.text.dataset import EncodedCorpus, MixtureComponent, pad, rounded_up, sample_mixture
from seq2seq.text.subword_sampling import Sampling, sentence_seeds
from seq2seq.text.tokenizer import WHOLE, Tokenizer, Truncation
from seq2seq.threads import prefetch

ROW_MULTIPLE = 8
"""Large batches have a multiple of this many rows: matrix products are prepared for every shape, so shapes recur."""
MULTIPLE_FROM_ROWS = 64
"""Smaller batches keep all rows that fit, since dropping rows would cost them more."""


class Batch(NamedTuple):
    """Ids of some pairs, `(batch, steps)` int32, padded with `PAD_ID`, and their numbers in the corpus, `(batch,)`."""

    source_ids: np.ndarray
    target_ids: np.ndarray
    indices: np.ndarray


class Batches:
    """The batches of a corpus, epoch by epoch, the same on every run.

    A batch has as many pairs as its budget allows, padding included: rows * (longest source + longest target) <=
    `batch_tokens`, and at least one pair, however long; large batches are cut to a multiple of `ROW_MULTIPLE` rows. The
    corpus is shuffled as a whole, cut into pools of `bucket_pool` pairs, each pool sorted by length, cut into batches,
    and its batches shuffled; without `shuffle` it is one pool. An epoch is a function of `seed` and its number, so
    that it can be resumed at any batch. Widths are rounded up to `multiple`, for fewer distinct shapes. With `sampling`
    every text has another segmentation in every epoch, cut by `truncation`; the budget counts the plain one.
    """

    def __init__(
        self,
        corpus: EncodedCorpus,
        *,
        batch_tokens: int,
        bucket_pool: int = 50_000,
        shuffle: bool = True,
        seed: int = 0,
        multiple: int = 1,
        sampling: Sampling | None = None,
        tokenizer: Tokenizer | None = None,
        truncation: Truncation = WHOLE,
        prefetch: int = 8,
    ) -> None:
        for name, value in {"batch_tokens": batch_tokens, "bucket_pool": bucket_pool, "multiple": multiple}.items():
            require_integer(name, value)
        for name, value in {"seed": seed, "prefetch": prefetch}.items():
            require_integer(name, value, minimum=0)
        if sampling is not None and tokenizer is None:
            raise ArgumentError("tokenizer", "that of the corpus where sampling is set", None)
        if sampling is not None and corpus.texts is None:
            raise ArgumentError("corpus", "one with its texts where sampling is set", None, "Encode it with keep_text.")
        self.corpus = corpus
        self.batch_tokens = batch_tokens
        self.shuffle = shuffle
        self._bucket_pool = bucket_pool
        self._seed = seed
        self._multiple = multiple
        self._sampling = sampling
        self._tokenizer = tokenizer
        self._truncation = truncation
        self._prefetch = prefetch
        self._source_lengths = corpus.source.lengths()
        self._target_lengths = corpus.target.lengths()

    def epoch(self, number: int, skip: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of epoch `number`, from 0, without the first `skip`, which are counted but not made."""
        require_integer("number", number, minimum=0)
        require_integer("skip", skip, minimum=0)
        return prefetch(self._epoch(number, skip), self._prefetch)

    def number_of_batches(self, number: int) -> int:
        """Count the batches of an epoch without making them; the count differs a little from epoch to epoch."""
        return sum(len(batches) for batches in self._plan(number))

    def shapes(self, number: int) -> np.ndarray:
        """Return rows, source steps and target steps of every batch of an epoch, `(batches, 3)` int64, not sampled."""
        shapes = np.array(
            [
                (len(chosen), *(lengths.max() for lengths in self._lengths(chosen)))
                for batches in self._plan(number)
                for chosen in batches
            ],
            np.int64,
        ).reshape(-1, 3)
        shapes[:, 1:] = rounded_up(shapes[:, 1:], self._multiple)
        return shapes

    def _epoch(self, number: int, skip: int) -> Generator[Batch, None, None]:
        passed = 0
        for batches in self._plan(number):
            first = min(max(skip - passed, 0), len(batches))
            passed += len(batches)
            for chosen in batches[first:]:
                yield self._batch(number, chosen)
        if passed < skip:
            raise ArgumentError(
                "skip",
                f"<= {passed}, the number of batches of epoch {number}",
                skip,
                "Resume with the corpus, batch_tokens and seed of the run that was stopped.",
            )

    def _batch(self, number: int, chosen: np.ndarray) -> Batch:
        indices = chosen % len(self.corpus)
        if self._sampling is None or self._tokenizer is None:
            source, target = self.corpus.source.take(indices), self.corpus.target.take(indices)
            return Batch(source.padded(self._multiple), target.padded(self._multiple), indices)
        # A pair that comes twice in an epoch gets two segmentations.
        seeds = [sentence_seeds(self._seed, number, chosen, side) for side in (0, 1)]
        sources = self._tokenizer.source.sample(self.corpus.source_texts(indices), self._sampling, seeds[0])
        targets = self._tokenizer.target.sample(self.corpus.target_texts(indices), self._sampling, seeds[1])
        sources = [self._truncation.cut(row) for row in sources]
        return Batch(pad(sources, self._multiple), pad(targets, self._multiple), indices)

    def _plan(self, number: int) -> Iterator[list[np.ndarray]]:
        """Yield the batches of an epoch pool by pool, as `sample_mixture` numbers pairs: the first comes at once."""
        if not self.shuffle:
            yield self._cut(np.arange(len(self.corpus)))
            return
        components = self.corpus.components or [MixtureComponent(len(self.corpus), 1)]
        order = sample_mixture(components, number, self._seed)
        np.random.default_rng([self._seed, number]).shuffle(order)
        pools = np.array_split(order, math.ceil(len(order) / self._bucket_pool)) if len(order) else []
        for place, pool in enumerate(pools):
            batches = self._cut(pool)
            shuffled = np.random.default_rng([self._seed, number, place]).permutation(len(batches))
            yield [batches[i] for i in shuffled]

    def _cut(self, pool: np.ndarray) -> list[np.ndarray]:
        """Sort a pool by length and cut it where the budget is spent."""
        source, target = self._lengths(pool)
        # Sources run up within one target length and down within the next, so that the longest of one meet the
        # longest of the next: a jump from long to short in the middle of a batch would pad half of it.
        order = np.lexsort((np.where(target % 2, source, -source), target))
        pool, source, target = pool[order], source[order], target[order]
        batches, start = [], 0
        while start < len(pool):
            stop = start + self._rows(source[start:], target[start:])
            batches.append(pool[start:stop])
            start = stop
        return batches

    def _lengths(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        indices = chosen % len(self.corpus)
        return self._source_lengths[indices], self._target_lengths[indices]

    def _rows(self, source: np.ndarray, target: np.ndarray) -> int:
        """Count the first pairs that fit the budget together."""
        # No batch has more rows than its first target length, the smallest of all, would allow.
        limit = self.batch_tokens // (int(target[0]) + 1) + 1
        longest = [np.maximum.accumulate(lengths[:limit]).astype(np.int64) for lengths in (source, target)]
        widths = rounded_up(longest[0], self._multiple) + rounded_up(longest[1], self._multiple)
        costs = np.arange(1, len(widths) + 1) * widths
        fitting = max(1, int(np.searchsorted(costs, self.batch_tokens, side="right")))
        return fitting if fitting < MULTIPLE_FROM_ROWS else fitting - fitting % ROW_MULTIPLE
