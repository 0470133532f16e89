"""The flags of the search, which `translate` and `evaluate` share."""

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What to change in the search that the model was saved with."""

    beam_size: int | None = None
    """Hypotheses kept at every step; 1 is greedy."""
    length_penalty: Literal["none", "average", "wu"] | None = None
    """What a hypothesis' log-probability is divided by: nothing, length ** alpha, or ((5 + length) / 6) ** alpha."""
    length_penalty_alpha: float | None = None
    """That alpha: more favours longer translations."""
    max_length: int | None = None
    """Tokens that a translation may have at most."""
    max_length_ratio: float | None = None
    """Tokens that it may have at most for each token of its source."""
    max_length_extra: int | None = None
    """Tokens that it may have beyond that ratio."""
    batch_tokens: int | None = None
    """Source tokens decoded at once at most."""

    def given(self) -> dict[str, Any]:
        """The options that somebody gave: what the model's own are replaced with."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


AS_SAVED = SearchOptions()
