"""Batches by a budget of tokens: pairs of like lengths together, in an order that the seed alone decides."""

import math
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np

from seq2seq.text.dataset import EncodedCorpus, Share, deal, pad, rounded_up
from seq2seq.text.subword_sampling import Sampling, sentence_seeds
from seq2seq.text.tokenizer import WHOLE, Tokenizer, Truncation
from seq2seq.threads import prefetch

ROW_MULTIPLE = 8
"""Large batches have a multiple of this many rows: products are prepared anew for every shape, and so shapes recur."""
MULTIPLE_FROM_ROWS = 64
"""Batches of fewer rows keep what fits, since leaving rows out would cost them more."""


class Batch(NamedTuple):
    """Some pairs of a corpus, padded on the right with `PAD_ID`; every row ends with `END_ID` before its padding.

    Args:
        source_ids: `(batch, source_steps)` int32.
        target_ids: `(batch, target_steps)` int32.
        indices: `(batch,)` int64, which pairs of the corpus these are.
    """

    source_ids: np.ndarray
    target_ids: np.ndarray
    indices: np.ndarray


class Batches:
    """The batches of a corpus, epoch by epoch, the same on every run.

    A batch holds as many pairs as its budget allows, padding counted: rows * (longest source + longest target) <=
    `batch_tokens`, and one pair at least, however long; large batches are cut to a multiple of `ROW_MULTIPLE` rows. The
    corpus is shuffled as a whole, cut into pools, each pool sorted by length, cut into batches, and its batches
    shuffled. An epoch is a function of `seed` and its number, so that it can be gone on with from any batch. Of a
    mixture an epoch holds what the weights say, see `deal`.

    Args:
        corpus: the encoded pairs.
        batch_tokens: the budget of a batch.
        bucket_pool: pairs that are sorted together; more gives less padding, fewer more variety.
        shuffle: False: the whole corpus in order of length, each pair once, the same in every epoch, for scoring.
        seed: what the order depends on, and the segmentations where they are drawn.
        multiple: widths are rounded up to a multiple of this, for fewer distinct shapes.
        sampling: draw another segmentation of every text in every epoch. The budget counts the plain one, so a batch
            may come out larger by the pieces that the drawn one has more.
        tokenizer: the tokenizer of the corpus; needed for `sampling`.
        truncation: what is left of a long source whose segmentation is drawn, as it was of the plain one.
        prefetch: batches to make ahead in a background thread; 0: none.

    Raises:
        ValueError: where an argument is out of its range, or sampling lacks its tokenizer or the corpus its texts.

    Examples:
        >>> corpus = EncodedCorpus.from_lists([[5, 3], [6, 3], [5, 6, 7, 3]], [[8, 3], [8, 3], [9, 9, 3]])
        >>> for batch in Batches(corpus, batch_tokens=8, shuffle=False).epoch(0):
        ...     print(batch.source_ids.tolist(), batch.indices.tolist())
        [[5, 3], [6, 3]] [0, 1]
        [[5, 6, 7, 3]] [2]
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
        limits = {"batch_tokens": 1, "bucket_pool": 1, "multiple": 1, "seed": 0, "prefetch": 0}
        values = {
            "batch_tokens": batch_tokens,
            "bucket_pool": bucket_pool,
            "multiple": multiple,
            "seed": seed,
            "prefetch": prefetch,
        }
        for name, value in values.items():
            if value < limits[name]:
                raise ValueError(f"{name} must be at least {limits[name]}, but is {value} instead.")
        if sampling is not None and (tokenizer is None or not corpus.has_texts):
            raise ValueError(
                "sampling must have the tokenizer and a corpus with its texts, but "
                f"{'the tokenizer is' if tokenizer is None else 'the texts are'} missing. "
                "Pass tokenizer, and encode the corpus with keep_text=True."
            )
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
        """The batches of one epoch.

        Args:
            number: which epoch, from 0.
            skip: batches at the beginning to leave out; they are counted but not made.

        Returns:
            An iterator; close it to stop its background thread before its end.

        Raises:
            ValueError: where a number is negative, or, at the first batch, where the epoch has fewer than `skip`
                batches.
        """
        for name, value in {"number": number, "skip": skip}.items():
            if value < 0:
                raise ValueError(f"{name} must be at least 0, but is {value} instead.")
        return prefetch(self._epoch(number, skip), self._prefetch)

    def number_of_batches(self, number: int) -> int:
        """How many batches an epoch has: planned, not made. It differs a little from epoch to epoch."""
        return sum(len(batches) for batches in self._plan(number))

    def shapes(self, number: int) -> np.ndarray:
        """Rows, source steps and target steps of every batch of an epoch, planned, not made.

        Args:
            number: which epoch, from 0.

        Returns:
            `(batches, 3)` int64, in the order of the epoch; where segmentations are drawn, of the plain ones.
        """
        shapes = [
            (len(dealt), *(lengths.max() for lengths in self._lengths(dealt)))
            for batches in self._plan(number)
            for dealt in batches
        ]
        found = np.array(shapes, np.int64).reshape(-1, 3)
        found[:, 1:] = rounded_up(found[:, 1:], self._multiple)
        return found

    def _epoch(self, number: int, skip: int) -> Generator[Batch, None, None]:
        passed = 0
        for batches in self._plan(number):
            first = min(max(skip - passed, 0), len(batches))
            passed += len(batches)
            for dealt in batches[first:]:
                yield self._batch(number, dealt)
        if passed < skip:
            raise ValueError(
                f"skip must be at most {passed}, the number of batches of epoch {number}, but is {skip} instead. "
                "Resume with the corpus, batch_tokens and seed of the run that was stopped."
            )

    def _batch(self, number: int, dealt: np.ndarray) -> Batch:
        indices = dealt % len(self.corpus)
        if self._sampling is None or self._tokenizer is None:
            source = self.corpus.source.padded(indices, self._multiple)
            target = self.corpus.target.padded(indices, self._multiple)
            return Batch(source, target, indices)
        # A pair that comes twice in an epoch is cut in two ways.
        source_seeds = sentence_seeds(self._seed, number, dealt, side=0)
        target_seeds = sentence_seeds(self._seed, number, dealt, side=1)
        source_texts, target_texts = self.corpus.source_texts(indices), self.corpus.target_texts(indices)
        source_rows = self._tokenizer.source.sample(source_texts, self._sampling, source_seeds)
        target_rows = self._tokenizer.target.sample(target_texts, self._sampling, target_seeds)
        source_rows = [self._truncation.cut(row) for row in source_rows]
        return Batch(pad(source_rows, self._multiple), pad(target_rows, self._multiple), indices)

    def _plan(self, number: int) -> Iterator[list[np.ndarray]]:
        """The batches of an epoch as `deal` numbers the pairs, pool by pool, so that the first does not wait for the
        last."""
        if not self.shuffle:
            yield self._cut(np.arange(len(self.corpus)))
            return
        order = deal(self.corpus.shares or [Share(len(self.corpus), 1)], number, self._seed)
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

    def _lengths(self, dealt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        indices = dealt % len(self.corpus)
        return self._source_lengths[indices], self._target_lengths[indices]

    def _rows(self, source: np.ndarray, target: np.ndarray) -> int:
        """How many of the first pairs fit the budget together."""
        # No batch has more rows than its first target length, the smallest of all, would allow.
        most = self.batch_tokens // (int(target[0]) + 1) + 1
        longest = [np.maximum.accumulate(lengths[:most]).astype(np.int64) for lengths in (source, target)]
        widths = rounded_up(longest[0], self._multiple) + rounded_up(longest[1], self._multiple)
        costs = np.arange(1, len(widths) + 1) * widths
        fitting = max(1, int(np.searchsorted(costs, self.batch_tokens, side="right")))
        return fitting if fitting < MULTIPLE_FROM_ROWS else fitting - fitting % ROW_MULTIPLE
