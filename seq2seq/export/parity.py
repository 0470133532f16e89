"""Whether an export translates as its model does."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seq2seq.errors import Seq2SeqError
from seq2seq.models.generation import Hypothesis

LEAST_IDENTICAL = {"float32": 0.99, "bfloat16": 0.8, "int8": 0.6}
"""The share of sentences that must be translated alike. Other kernels round otherwise, and where two hypotheses are
equally good, that decides; fewer bits decide more often."""

LARGEST_SCORE_DIFFERENCE = 1e-3
"""Of translations that are alike, in float32."""

SHOWN = 3


class Parity(NamedTuple):
    """What a comparison found.

    Attributes:
        sentences: How many were translated.
        identical: How many alike.
        score_difference: The largest difference between the scores of those.
        different: Source, the model's translation and the export's, of the others.
    """

    sentences: int
    identical: int
    score_difference: float
    different: list[tuple[str, str, str]]

    def __str__(self) -> str:
        lines = [
            f"parity: {self.identical:,} of {self.sentences:,} sentences are translated alike, "
            f"scores differ by at most {self.score_difference:.1e}"
        ]
        for source, ours, theirs in self.different[:SHOWN]:
            lines += [f"  source: {source}", f"  model:  {ours}", f"  export: {theirs}"]
        return "\n".join(lines)

    def check(self, precision: str) -> None:
        """Refuse an export that does not do what its model does.

        Raises:
            Seq2SeqError: Too few sentences are translated alike, or with other scores.
        """
        least = LEAST_IDENTICAL[precision]
        if self.identical < least * self.sentences:
            raise Seq2SeqError(
                f"The export must translate {least:.0%} of the sentences as the model does, but translates "
                f"{self.identical:,} of {self.sentences:,} alike. It was not written."
            )
        if precision == "float32" and self.score_difference > LARGEST_SCORE_DIFFERENCE:
            raise Seq2SeqError(
                f"The export's scores must differ from the model's by at most {LARGEST_SCORE_DIFFERENCE:g}, but differ "
                f"by {self.score_difference:.1e}. It was not written."
            )


def compare(
    sources: Sequence[str], ours: Sequence[Sequence[Hypothesis]], theirs: Sequence[tuple[str, float]]
) -> Parity:
    """Compare the best translation of each source with that of an export.

    Args:
        sources: Sources.
        ours: What the model found.
        theirs: Text and score that the export found.
    """
    different, differences = [], [0.0]
    for source, (best, *_), (text, score) in zip(sources, ours, theirs, strict=True):
        if best.text == text:
            differences.append(abs(best.score - score))
        else:
            different.append((source, best.text, text))
    return Parity(len(sources), len(sources) - len(different), float(np.max(differences)), different)
