"""How a model decodes: the section `decoding`, which Python, the commands and the recipes share."""

import dataclasses
from typing import ClassVar, Literal

from seq2seq.config.checks import (
    AtLeastOne,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Probability,
    Section,
    must_be,
)


@dataclasses.dataclass(frozen=True)
class Decoding(Section):
    """The search for a translation; saved with the model as its defaults.

    Every setting is an option of `model.translate` and `model.generate`, a flag of the commands that decode, and a
    line of a recipe's `decoding` section.
    """

    section: ClassVar[str] = "decoding"

    beam_size: Positive = 5
    """Hypotheses kept at every step; 1: greedy."""
    n_best: Positive = 1
    """Translations given for each source, best first."""
    length_penalty: Literal["none", "average", "wu", "reward"] = "average"
    """How a hypothesis' log-probability makes its score: as it is, divided by length ** alpha, divided by ((5 + length)
    / 6) ** alpha, or with alpha added for each token."""
    length_penalty_alpha: NonNegativeFloat = 1.0
    """The alpha of the length penalty: more favours longer translations."""
    coverage_penalty: Literal["none", "wu", "summary"] = "none"
    """What attention to the source adds to a score: nothing; wu: beta * the sum over source tokens of log(min(attention
    received, 1)), for what was left out; summary: -beta * the attention received beyond 1, for what was repeated."""
    coverage_penalty_beta: NonNegativeFloat = 0.2
    """The beta of the coverage penalty."""
    max_length_ratio: NonNegativeFloat = 2.0
    """A translation has at most ratio * source tokens + extra tokens."""
    max_length_extra: NonNegative = 10
    """The extra tokens of that limit."""
    max_length: Positive = 256
    """A translation has at most this many tokens, its end counted, however long the source."""
    min_length_ratio: NonNegativeFloat = 0.0
    """A translation has at least ratio * source tokens, as far as its limits allow."""
    min_length: NonNegative = 0
    """A translation has at least this many tokens, its end counted, as far as its limits allow."""
    no_repeat_ngram_size: NonNegative = 0
    """No sequence of so many tokens comes twice in a translation; 0: any may."""
    repetition_penalty: AtLeastOne = 1.0
    """What the log-probability of a token that was written before is multiplied by; 1: nothing changes."""
    prefix: str = ""
    """Text that every translation starts with."""
    required_phrases: tuple[str, ...] = ()
    """Words or phrases that every translation holds; a beam of 5 or more finds them better places."""
    banned_phrases: tuple[str, ...] = ()
    """Words or phrases that no translation holds; upper case counts. A longer word is lost with them where its tokens
    are theirs and some more."""
    beam_groups: Positive = 1
    """Groups of equal size that the beam is cut into, each of which avoids what those before it write."""
    diversity: NonNegativeFloat = 0.5
    """What a token loses for each hypothesis of an earlier group that takes it at the same step."""
    sample: bool = False
    """Draw translations at random instead of searching for the best; n_best says how many."""
    temperature: PositiveFloat = 1.0
    """What log-probabilities are divided by before a token is drawn: less than 1 is bolder, more is wilder."""
    top_k: NonNegative = 0
    """Draw among so many of the most probable tokens; 0: among all."""
    top_p: Probability = 1.0
    """Draw among the most probable tokens that have this probability together; 1: among all."""
    seed: NonNegative = 0
    """Where the randomness starts: the same seed draws the same translations."""
    mbr_samples: NonNegative = 0
    """Draw so many translations and give those that agree best with the others, by chrF; 0: off."""
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    """What a model of GRUs multiplies: its weights as they are, or copies of half or a quarter of the bits, which are
    faster and now and then find another translation. int8 needs an x86 processor."""
    shortlist: NonNegative = 0
    """Write only with so many likely translations of each source token and the most frequent tokens; needs a model that
    has learned them (`seq2seq shortlist`). Faster, and now and then without the right word. 0: with all tokens."""
    batch_tokens: Positive = 4_096
    """Source tokens of a batch at most, with their padding; commands decode a batch a core at once."""

    def check(self) -> None:
        if not self.sample:
            self._check_beam()
        elif self.mbr_samples and self.n_best > self.mbr_samples:
            raise must_be(self.key("n_best"), f"at most decoding.mbr_samples ({self.mbr_samples})", self.n_best)
        for name, rest in (("beam_groups", 1), ("required_phrases", ()), ("coverage_penalty", "none")):
            value = getattr(self, name)
            if self.sample and value != rest:
                shown = list(value) if isinstance(value, tuple) else value
                raise must_be(self.key(name), f"{_shown(rest)} where decoding.sample is true", shown, "Use a beam.")
        if self.max_length_ratio == 0 and self.max_length_extra == 0:
            raise must_be(self.key("max_length_extra"), "at least 1 where decoding.max_length_ratio is 0", 0)
        if self.min_length > self.max_length:
            raise must_be(self.key("min_length"), f"at most decoding.max_length ({self.max_length})", self.min_length)
        if self.shortlist:
            self._check_shortlist()
        for name in ("required_phrases", "banned_phrases"):
            if not all(phrase.strip() for phrase in getattr(self, name)):
                raise must_be(
                    self.key(name), "words or phrases", list(getattr(self, name)), "Leave out the blank ones."
                )

    def _check_shortlist(self) -> None:
        for name in _FREE_CHOICE:
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default:
                raise must_be(self.key("shortlist"), f"0 where {self.key(name)} is set", self.shortlist)

    def _check_beam(self) -> None:
        if self.n_best > self.beam_size:
            raise must_be(self.key("n_best"), f"at most decoding.beam_size ({self.beam_size})", self.n_best)
        if self.beam_size % self.beam_groups:
            raise must_be(
                self.key("beam_groups"), f"a divisor of decoding.beam_size ({self.beam_size})", self.beam_groups
            )
        for name, rest in (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0), ("mbr_samples", 0)):
            if getattr(self, name) != rest:
                raise must_be(
                    self.key(name),
                    f"{_shown(rest)} where decoding.sample is false",
                    getattr(self, name),
                    "Set decoding.sample.",
                )


_FREE_CHOICE = (
    "sample",
    "prefix",
    "required_phrases",
    "banned_phrases",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "min_length_ratio",
    "min_length",
)
"""Settings that a search can only heed where it may write with all tokens."""


def _shown(value: object) -> str:
    return "empty" if value == () else f"{value:g}" if isinstance(value, float) else str(value)
