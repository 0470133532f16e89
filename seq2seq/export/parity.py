"""Compare the translations of an export with those of its model."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from seq2seq.errors import Seq2SeqError
from seq2seq.models.results import Hypothesis

MIN_IDENTICAL = {"float32": 0.99, "bfloat16": 0.8, "int8": 0.6}
"""Minimum share of identical translations. Other kernels round otherwise, which decides between two equally good
hypotheses; fewer bits decide more often."""

MAX_SCORE_DIFFERENCE = 1e-3
"""Of identical translations, in float32."""

BATCH_SIZE = 64
SHOWN = 3


class Parity(NamedTuple):
    """Result of a comparison."""

    sentences: int
    identical: int
    score_difference: float  # the largest between identical translations
    different: list[tuple[str, str, str]]  # source, the model's translation, the export's

    def __str__(self) -> str:
        lines = [
            f"parity: {self.identical:,} of {self.sentences:,} sentences are translated alike, "
            f"scores differ by at most {self.score_difference:.1e}"
        ]
        for source, ours, theirs in self.different[:SHOWN]:
            lines += [f"  source: {source}", f"  model:  {ours}", f"  export: {theirs}"]
        return "\n".join(lines)

    def check(self, precision: str) -> None:
        """Raise a Seq2SeqError where too few translations are identical, or their scores differ."""
        least = MIN_IDENTICAL[precision]
        if self.identical < least * self.sentences:
            raise Seq2SeqError(
                f"The export must translate {least:.0%} of the sentences as the model does, but translates "
                f"{self.identical:,} of {self.sentences:,} alike. It was not written."
            )
        if precision == "float32" and self.score_difference > MAX_SCORE_DIFFERENCE:
            raise Seq2SeqError(
                f"The export's scores must differ from the model's by at most {MAX_SCORE_DIFFERENCE:g}, but differ "
                f"by {self.score_difference:.1e}. It was not written."
            )


def compare(
    sources: Sequence[str], ours: Sequence[Sequence[Hypothesis]], theirs: Sequence[tuple[str, float]]
) -> Parity:
    """Compare the model's best translation of each source with the text and score of an export."""
    different, differences = [], [0.0]
    for source, (best, *_), (text, score) in zip(sources, ours, theirs, strict=True):
        if best.text == text:
            differences.append(abs(best.score - score))
        else:
            different.append((source, best.text, text))
    return Parity(len(sources), len(sources) - len(different), float(np.max(differences)), different)


def translate_in_batches(
    sources: Sequence[str], translate: Callable[[list[str]], Iterable[tuple[str, float]]], has_strings: bool = False
) -> list[tuple[str, float]]:
    """Translate sources in batches; only a function of strings sees blank sources, which ids cannot express."""
    results: dict[int, tuple[str, float]] = {}
    order = [place for place, source in enumerate(sources) if source.strip() or has_strings]
    order.sort(key=lambda place: len(sources[place]))
    for start in range(0, len(order), BATCH_SIZE):
        places = order[start : start + BATCH_SIZE]
        results |= dict(zip(places, translate([sources[place] for place in places]), strict=True))
    return [results.get(place, ("", 0.0)) for place in range(len(sources))]
