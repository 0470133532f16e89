"""What a model reads of a source that has more tokens than it may have."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from seq2seq.text.tokenizer import Tokenizer

Token = TypeVar("Token")


class Truncation(NamedTuple):
    """How sources of too many tokens are cut; the end token stays.

    News tell what matters first, and reports often come to it last: hence the two ways.

    Attributes:
        policy: `none` cuts nothing, `head` keeps the beginning, `head_tail` half of the beginning and half of the end.
        max_tokens: Tokens that are left at the most, the end token counted.

    >>> [Truncation(policy, 5).cut(list("abcdefg.")) for policy in ("none", "head", "head_tail")]
    [['a', 'b', 'c', 'd', 'e', 'f', 'g', '.'], ['a', 'b', 'c', 'd', '.'], ['a', 'b', 'f', 'g', '.']]
    """

    policy: str = "none"
    max_tokens: int = 0

    @property
    def tail(self) -> int:
        """Of a source that is cut, how many tokens before its end token are kept."""
        return (self.max_tokens - 1) // 2 if self.policy == "head_tail" else 0

    def cut(self, tokens: list[Token]) -> list[Token]:
        """What is left of a source's ids or pieces, the last of which is its end."""
        if self.policy == "none" or len(tokens) <= self.max_tokens:
            return tokens
        return tokens[: self.max_tokens - 1 - self.tail] + tokens[len(tokens) - 1 - self.tail :]

    def note(self, tokenizer: Tokenizer, sources: Sequence[str]) -> str:
        """How many sources are cut and by how much, in words; nothing where none is."""
        lengths = [len(ids) for ids in tokenizer.encode_source(sources)] if self.policy != "none" else []
        over = [length - self.max_tokens for length in lengths if length > self.max_tokens]
        if not over:
            return ""
        return (
            f"{len(over):,} of {len(sources):,} sources cut to {self.max_tokens:,} tokens ({self.policy}), "
            f"{sum(over):,} tokens ({100 * sum(over) / sum(lengths):.1f} %) left out"
        )


WHOLE = Truncation()
"""Sources as they are."""
