"""Which pairs of a mixture of corpora an epoch holds, when some are to be met more often than others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# What sets these random numbers apart from those that shuffle an epoch, which have two or three seeds.
_DEALING = 1


class Share(NamedTuple):
    """One corpus of a mixture.

    Args:
        pairs: how many it has.
        weight: how many times an epoch holds each of them, on average over the epochs.
    """

    pairs: int
    weight: float

    @property
    def size(self) -> int:
        """How many pairs of it an epoch holds."""
        return round(self.weight * self.pairs)


def deal(shares: Sequence[Share], epoch: int, seed: int) -> np.ndarray:
    """The pairs of an epoch, before they are shuffled.

    Each corpus is dealt like a pack of cards that is shuffled anew whenever it has been used up, and every epoch goes
    on where the one before has stopped: of weight 2 it holds each pair twice, of weight 0.5 half of them, and the next
    epoch the other half. So all pairs of a corpus have come equally often after any number of epochs, give or take one.

    Args:
        shares: the corpora, whose pairs are numbered through.
        epoch: which epoch, from 0.
        seed: what the packs depend on.

    Returns:
        `(sum of sizes,)` int64, all different: number of the pair, plus the number of all pairs for each earlier pack
        of this epoch that may have held it.

    Examples:
        >>> deal([Share(3, 1), Share(2, 2)], epoch=0, seed=0)
        array([0, 1, 2, 3, 4, 8, 9])
    """
    total = sum(share.pairs for share in shares)
    dealt, start = [np.zeros(0, np.int64)], 0
    for place, share in enumerate(shares):
        first, stop = epoch * share.size, (epoch + 1) * share.size
        packs = range(first // share.pairs, -(-stop // share.pairs)) if share.pairs else range(0)
        for pack in packs:
            begin, end = max(first - pack * share.pairs, 0), min(stop - pack * share.pairs, share.pairs)
            pairs = np.arange(share.pairs)
            # The order of a whole pack does not matter, since the epoch is shuffled.
            if end - begin < share.pairs:
                pairs = np.random.default_rng([seed, place, pack, _DEALING]).permutation(pairs)[begin:end]
            pairs += start + total * (pack - packs[0])
            dealt.append(pairs)
        start += share.pairs
    return np.concatenate(dealt)
