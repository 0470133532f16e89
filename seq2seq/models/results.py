"""Results of models: hypotheses of a search, scores of given pairs, and predicted labels."""

import math
from typing import NamedTuple

import numpy as np


class Hypothesis(NamedTuple):
    """One target that the search found.

    Attributes:
        text: The target.
        score: The number that ranks hypotheses: `log_prob` after the penalties; with `mbr_samples`, the mean chrF, from
            0 to 100, with the other samples.
        log_prob: The sum of `token_log_probs`.
        token_ids: The tokens, with the end token unless the length limit came first.
        pieces: The tokens as text.
        token_log_probs: The log-probability of each token under the model itself, before penalties.
        attention_weights: `(tokens, memory_steps)`; None without attention, or if it was not asked for. The steps are
            the source's tokens, or, if the encoder joins tokens, the windows that `Seq2Seq.memory_tokens` names.
        num_truncated_tokens: Number of source tokens that the model did not read, because its recipe limits them.

    >>> weights = np.array([[0.1, 0.9], [0.8, 0.2]])
    >>> Hypothesis("a", -0.5, -0.5, [7, 3], ["a", "</s>"], [-0.3, -0.2], weights).alignment
    [1, 0]
    """

    text: str
    score: float
    log_prob: float
    token_ids: list[int]
    pieces: list[str]
    token_log_probs: list[float]
    attention_weights: np.ndarray | None = None
    num_truncated_tokens: int = 0

    @property
    def alignment(self) -> list[int] | None:
        """Return the memory step that each token attends to most; None without attention weights."""
        return None if self.attention_weights is None else self.attention_weights.argmax(axis=-1).tolist()


class PairScore(NamedTuple):
    """Hold the log-probability of a given target, in nats: of each token after the tokens before it, and their sum."""

    log_prob: float
    token_log_probs: list[float]
    pieces: list[str]
    num_truncated_tokens: int = 0

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log-probability of a token."""
        return perplexity(-self.log_prob / len(self.pieces))


class LabelPrediction(NamedTuple):
    """Hold the most probable labels of one source and the probabilities of all labels, `(places, labels)`."""

    labels: list[str]
    probabilities: np.ndarray
    num_truncated_tokens: int = 0

    @property
    def text(self) -> str:
        """Return the labels as a target file has them, separated by spaces."""
        return " ".join(self.labels)


def perplexity(loss: float) -> float:
    """Return exp(loss) of a mean loss per token in nats; infinity if no float can hold it."""
    return math.exp(loss) if loss < 700 else math.inf
