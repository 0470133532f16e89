"""What every metric asks of the lists that it compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seq2seq.errors import DataError


def check_pairs(hypotheses: Sequence[Any], others: Sequence[Any], others_name: str = "references") -> None:
    """Refuse lists that cannot be compared line by line.

    Args:
        hypotheses: the generated texts.
        others: what they are compared with, one for each.
        others_name: what the messages call them.

    Raises:
        DataError: for one string in place of a list, for empty lists and for unequal counts.
    """
    for name, texts in (("hypotheses", hypotheses), (others_name, others)):
        if isinstance(texts, str):
            raise DataError(f"{name} must be a list of strings, but is one string instead. Put it in a list.")
    if len(hypotheses) != len(others):
        raise DataError(
            f"hypotheses must be as many as {others_name}, {len(others):,}, but are {len(hypotheses):,} "
            "instead. Check that no line was lost or added."
        )
    if not hypotheses:
        raise DataError("hypotheses must hold at least one text, but are empty instead. There is nothing to score.")
