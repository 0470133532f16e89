"""The interface of every search: step function, configuration, logits processors, hypotheses."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import tensorflow as tf

from seq2seq.errors import ArgumentError

MINUS_INFINITY = -float("inf")

StepFunction = Callable[[tf.Tensor, Any], tuple[tf.Tensor, Any, tf.Tensor | None]]
"""`step(token_ids, state) -> (logits, state, attention_weights)`: one step of a decoder for all rows.

- `token_ids`: `(rows,)` int32. A sentence has one row per beam; its rows are adjacent: row = sentence * beams + beam.
- `state`: nested tensors of shape `(rows, ...)`. The search copies it at every step, so values that all rows of a
  sentence share, such as the encoder's outputs, belong in the closure of the function, one row per sentence.
- `logits`: `(rows, vocabulary)` of any float type.
- `attention_weights`: `(rows, source_steps)` or None.

Two optional attributes make a search faster. With a method `for_sentences(sentences) -> StepFunction`, which restricts
the function to some sentences, `(batch,)` int32, finished sentences are removed from the batch. With `columns`,
`(columns,)` int32, the logits are those of these tokens only, minus infinity where a sentence excludes one; there are a
multiple of 64 columns, at least 64 times the candidates, and no processor, prefix or required phrase.
"""


class Hypotheses(NamedTuple):
    """Sequences that a search found, best first; after the end of a sequence all fields are padding or zero."""

    token_ids: tf.Tensor  # (batch, n_best, steps) int32, the end token included where the sequence has one
    scores: tf.Tensor  # (batch, n_best) float32, after penalties; minus infinity where fewer than n_best exist
    lengths: tf.Tensor  # (batch, n_best) int32, numbers of tokens, the end token included
    attention_weights: tf.Tensor | None  # (batch, n_best, steps, source_steps) float32
    log_probs: tf.Tensor  # (batch, n_best) float32, sums of token_log_probs
    token_log_probs: tf.Tensor  # (batch, n_best, steps) float32, as the step function gives them


@dataclasses.dataclass(frozen=True, eq=False)
class PerSentence:
    """Arguments of a search of which the fields named in `per_sentence` have one row per sentence."""

    per_sentence: ClassVar[tuple[str, ...]] = ()

    def for_sentences(self, sentences: tf.Tensor) -> Self:
        """Select the rows of some sentences, `(batch,)` int32."""
        return dataclasses.replace(
            self, **{name: _select(getattr(self, name), sentences) for name in self.per_sentence}
        )


def _select(value: Any, sentences: tf.Tensor) -> Any:
    if value is None:
        return None
    if isinstance(value, PerSentence):
        return value.for_sentences(sentences)
    if isinstance(value, tuple | list):
        return [_select(one, sentences) for one in value]
    return tf.gather(value, sentences)


class LogitsProcessor(PerSentence):
    """Changes the log-probabilities of the next tokens before a search reads them.

    A processor may lower log-probabilities, to minus infinity where a token is forbidden, but never raise them: early
    stopping relies on that. Its state has one row per hypothesis and follows the hypotheses through the search.
    """

    def start(self, rows: tf.Tensor, longest: tf.Tensor) -> Any:
        """Return the state before the first token, for hypotheses of at most `longest` tokens."""
        return ()

    def __call__(
        self, log_probs: tf.Tensor, token_ids: tf.Tensor, state: Any, num_steps: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Process `(rows, vocabulary)` log-probabilities, given the last tokens, `(rows,)`, and the steps before."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Prefix(PerSentence):
    """Tokens that the hypotheses of each sentence start with, whatever logits processors do."""

    per_sentence = ("token_ids", "lengths")

    token_ids: tf.Tensor  # (batch, prefix_steps) int32, padded with any token
    lengths: tf.Tensor  # (batch,) int32, 0 for no prefix

    def at(self, num_steps: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the token that each row must take now and whether it must, `(rows, 1)` each."""
        copies = rows // tf.maximum(tf.shape(self.lengths)[0], 1)
        place = tf.minimum(num_steps, tf.shape(self.token_ids)[1] - 1)
        token_ids = tf.gather(self.token_ids, place, axis=1)
        is_forced = num_steps < self.lengths
        return tuple(tf.repeat(values, copies)[:, tf.newaxis] for values in (token_ids, is_forced))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SearchConfig(PerSentence):
    """Arguments that all searches share; the arguments of greedy search."""

    per_sentence: ClassVar[tuple[str, ...]] = ("max_steps", "processors", "prefix")

    max_steps: Any  # (batch,) int32, limits of length, the end included; a hypothesis without an end is cut off there
    start_id: int  # what the step function reads first
    end_id: int
    pad_id: int = 0  # what the step function reads after the end
    banned_ids: Sequence[int] = ()  # never produced, nor are start_id and pad_id
    processors: Sequence[LogitsProcessor] = ()  # applied in this order; a hypothesis with no token left ends
    prefix: Prefix | None = None
    return_attention: bool = False

    def __post_init__(self) -> None:
        if self.end_id in self.forbidden_ids:
            advice = f"{list(self.forbidden_ids)} are the start, padding and banned tokens."
            raise ArgumentError("end_id", "a token that may be produced", self.end_id, advice)

    @property
    def forbidden_ids(self) -> tuple[int, ...]:
        """Tokens that the search may not produce."""
        return tuple(sorted({self.start_id, self.pad_id, *self.banned_ids}))
