"""Subword sampling: another segmentation of a text in every epoch, and the same in every run.

A model that sees several segmentations of a word learns what its parts mean (Kudo 2018, "Subword regularization";
Provilkov et al. 2020, "BPE-dropout"). SentencePiece's own draws differ from process to process whatever the seed, and a
resumed run would diverge. So SentencePiece gives the pieces and their scores, and each draw depends on the seed of its
sentence alone.
"""

import bisect
import dataclasses
import functools
import heapq
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import sentencepiece

from seq2seq.errors import ArgumentError, TokenizerError
from seq2seq.text.ids import END_ID, SPACE, UNKNOWN_ID

# Distinct words whose segmentations are remembered; the least recently used are computed again.
REMEMBERED_WORDS = 50_000

_UNKNOWN_PENALTY = 10.0


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Parameters of drawing a segmentation.

    For a unigram model `alpha` smooths the distribution over its `nbest_size` best segmentations (-1: over all) from
    uniform, near 0, to the best one alone; for a BPE model it is the share of merges to drop.
    """

    alpha: float = 0.1
    nbest_size: int = -1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ArgumentError("alpha", "a number > 0", self.alpha)
        if self.nbest_size != -1 and self.nbest_size < 2:
            raise ArgumentError("nbest_size", "-1 or >= 2", self.nbest_size)


class Sampler:
    """Draw segmentations by a SentencePiece model of the kind unigram or bpe."""

    def __init__(self, processor: sentencepiece.SentencePieceProcessor) -> None:
        self._processor = processor
        self._is_unigram = _answers(lambda: processor.nbest_encode("a", nbest_size=2))
        samples = self._is_unigram or _answers(lambda: processor.encode("a", enable_sampling=True, nbest_size=-1))
        if not samples:
            raise TokenizerError(
                "Subword sampling must have a unigram or bpe tokenizer, got one with a single segmentation of a text. "
                "Switch sampling off, or train another kind."
            )
        self._pieces: dict[str, int] = {}
        self._bytes: dict[str, int] = {}
        self._scores = [float(processor.get_score(i)) for i in range(processor.vocab_size())]
        symbols = []
        for i, score in enumerate(self._scores):
            piece = processor.id_to_piece(i)
            if processor.is_byte(i):
                self._bytes[piece] = i
            elif not (processor.is_control(i) or processor.is_unknown(i) or processor.is_unused(i)):
                self._pieces[piece] = i
                # A user's symbol scores +0; the other pieces have a negative number, or a negative zero.
                if score == 0 and math.copysign(1, score) > 0:
                    symbols.append(piece)
        self._longest = max(map(len, self._pieces), default=1)
        self._worst = min((self._scores[i] for i in self._pieces.values()), default=0.0) - _UNKNOWN_PENALTY
        # Where two symbols begin alike, the longest is meant.
        longest_first = sorted(symbols, key=len, reverse=True)
        self._symbols = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if symbols else None
        # In most models no piece crosses a word's end, so that words are segmented one by one and remembered.
        crossing = any(SPACE in piece.lstrip(SPACE) for piece in self._pieces if piece not in symbols)
        self._words = re.compile(".+" if crossing else f"{SPACE}*[^{SPACE}]+|{SPACE}+", re.DOTALL)
        self._lattice = functools.lru_cache(REMEMBERED_WORDS)(self._new_lattice)

    def draw(self, text: str, sampling: Sampling, seed: int) -> list[int]:
        """Draw the ids of a text with `seed`, `END_ID` last."""
        uniform = random.Random(seed).random
        if self._is_unigram and sampling.nbest_size > 0:
            return [*self._draw_from_best(text, sampling, uniform), END_ID]
        cut = self._draw_path if self._is_unigram else self._draw_merges
        ids: list[int] = []
        for word in self._split(self._processor.normalize(text)):
            symbol = self._pieces.get(word) if self._symbols and self._symbols.fullmatch(word) else None
            if symbol is not None:
                ids.append(symbol)
                continue
            for piece in cut(word, sampling.alpha, uniform):
                self._extend(ids, piece)
        return [*ids, END_ID]

    def _split(self, text: str) -> Iterator[str]:
        for part in self._symbols.split(text) if self._symbols else [text]:
            if self._symbols and self._symbols.fullmatch(part):
                yield part
            else:
                yield from self._words.findall(part)

    def _extend(self, ids: list[int], piece: str) -> None:
        i = self._pieces.get(piece)
        if i is not None:
            ids.append(i)
        elif self._bytes:
            ids.extend(self._bytes[f"<0x{byte:02X}>"] for byte in piece.encode())
        elif ids[-1:] != [UNKNOWN_ID]:
            # SentencePiece makes one unknown of a run of them.
            ids.append(UNKNOWN_ID)

    def _draw_from_best(self, text: str, sampling: Sampling, uniform: Callable[[], float]) -> list[int]:
        candidates = self._processor.nbest_encode(text, nbest_size=sampling.nbest_size, out_type=int)
        scores = [sampling.alpha * sum(self._scores[i] for i in ids) for ids in candidates]
        limits = _cumulative(scores)
        return list(candidates[bisect.bisect(limits, uniform(), hi=len(limits) - 1)]) if candidates else []

    def _draw_path(self, word: str, alpha: float, uniform: Callable[[], float]) -> list[str]:
        """Draw pieces from the end of the word backwards, each by its share in the probability of all paths."""
        lattice = self._lattice(word, alpha)
        pieces, end = [], len(word)
        while end:
            starts, limits = lattice[end]
            start = starts[bisect.bisect(limits, uniform(), hi=len(limits) - 1)]
            pieces.append(word[start:end])
            end = start
        return pieces[::-1]

    def _new_lattice(self, word: str, alpha: float) -> list[tuple[list[int], list[float]]]:
        """Return for every end of a piece its possible starts and their cumulative probabilities."""
        totals, lattice = [0.0], [([0], [1.0])]
        for end in range(1, len(word) + 1):
            starts, scores = [], []
            for start in range(max(0, end - self._longest), end):
                i = self._pieces.get(word[start:end])
                if i is not None or start == end - 1:
                    starts.append(start)
                    scores.append(totals[start] + alpha * (self._worst if i is None else self._scores[i]))
            largest = max(scores)
            totals.append(largest + math.log(sum(math.exp(score - largest) for score in scores)))
            lattice.append((starts, _cumulative(scores)))
        return lattice

    def _draw_merges(self, word: str, alpha: float, uniform: Callable[[], float]) -> list[str]:
        """Merge the best pair repeatedly, skipping a share `alpha` of them (Provilkov et al. 2020)."""
        symbols: list[str] = list(word)
        following = list(range(1, len(word) + 1))
        preceding = list(range(-1, len(word) - 1))
        waiting: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(word):
                merged = symbols[left] + symbols[right]
                i = self._pieces.get(merged)
                if i is not None:
                    heapq.heappush(waiting, (-self._scores[i], left, right, merged))

        for left, right in itertools.pairwise(range(len(word))):
            offer(left, right)
        while waiting:
            _, left, right, merged = heapq.heappop(waiting)
            # A pair is obsolete once one of its sides was merged with another.
            if not (symbols[left] and symbols[right]) or symbols[left] + symbols[right] != merged or uniform() < alpha:
                continue
            symbols[left], symbols[right] = merged, ""
            following[left] = following[right]
            if following[left] < len(word):
                preceding[following[left]] = left
            offer(preceding[left], left)
            offer(left, following[left])
        return [symbol for symbol in symbols if symbol]


def _answers(question: Callable[[], object]) -> bool:
    try:
        question()
    except RuntimeError as error:
        if "not available" in str(error):
            return False
        raise
    return True


def _cumulative(scores: Sequence[float]) -> list[float]:
    """Return the cumulative softmax of scores."""
    largest = max(scores, default=0.0)
    weights = [math.exp(score - largest) for score in scores]
    total = sum(weights)
    return list(itertools.accumulate(weight / total for weight in weights))


def sentence_seeds(seed: int, epoch: int, indices: np.ndarray, side: int) -> list[int]:
    """Return a 32-bit seed for each sentence by its index, with unrelated seeds for neighbours.

    The mixing is that of SplitMix64 (Steele et al. 2014).
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
