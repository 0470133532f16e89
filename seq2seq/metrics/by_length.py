"""A score by the length of the source: where a fixed-size context gives way to attention."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from seq2seq.metrics.checks import check_pairs
from seq2seq.metrics.translation import Score

DEFAULT_EDGES = (5, 10, 15, 20, 25, 30, 40, 50)


class LengthBin(NamedTuple):
    """The score of the texts whose source has from `shortest` to `longest` words; None: no upper end."""

    shortest: int
    longest: int | None
    sentences: int
    score: Score


def score_by_length(
    metric: Callable[[Sequence[Any], Sequence[Any]], Score],
    hypotheses: Sequence[Any],
    references: Sequence[Any],
    sources: Sequence[str],
    edges: Sequence[int] = DEFAULT_EDGES,
) -> list[LengthBin]:
    """Score the texts in groups of similar source length, counted in words between white space.

    >>> from seq2seq.metrics.translation import exact_match
    >>> bins = score_by_length(exact_match, ["x", "y"], ["x", "z"], ["a b", "a b c d e f"], edges=(5,))
    >>> [(part.shortest, part.longest, part.score.value) for part in bins]
    [(0, 5, 100.0), (6, None, 0.0)]

    Args:
        metric: a score of two lists, such as `bleu`.
        hypotheses: the generated texts.
        references: the right ones.
        sources: what they were made from.
        edges: the largest length of each group but the last, in rising order.

    Returns:
        The groups that have sentences, shortest first.

    Raises:
        DataError: for empty lists or unequal counts.
        ValueError: for edges that do not rise.
    """
    check_pairs(hypotheses, references)
    check_pairs(hypotheses, sources, "sources")
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"edges must be rising lengths, but are {list(edges)} instead. Sort them and drop repeats.")
    groups: dict[int, list[int]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(bisect_left(edges, len(source.split())), []).append(index)
    bins = []
    for group, indices in sorted(groups.items()):
        score = metric([hypotheses[index] for index in indices], [references[index] for index in indices])
        shortest = edges[group - 1] + 1 if group else 0
        longest = edges[group] if group < len(edges) else None
        bins.append(LengthBin(shortest, longest, len(indices), score))
    return bins
