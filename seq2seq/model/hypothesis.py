"""One target that a search found, in words."""

from typing import NamedTuple

import numpy as np


class Hypothesis(NamedTuple):
    """One target that the search found.

    Attributes:
        text: The target.
        score: What hypotheses are ranked by: `log_prob` after the penalties; with `mbr_samples`, the mean chrF, from 0
            to 100, with the other samples.
        log_prob: The sum of `token_log_probs`.
        token_ids: The tokens, with the end where the target has one.
        pieces: The same as text.
        token_log_probs: The log-probability of each token, by the model itself, whatever penalties made of it.
        attention_weights: `(tokens, memory_steps)`, or None where the context has none or nobody asked. The steps are
            the source's tokens, or, where the encoder joins these, what `Seq2Seq.memory_tokens` names.
        left_out: Tokens of the source that were not read, for it has more than the model's recipe allows.
    """

    text: str
    score: float
    log_prob: float
    token_ids: list[int]
    pieces: list[str]
    token_log_probs: list[float]
    attention_weights: np.ndarray | None = None
    left_out: int = 0

    @property
    def alignment(self) -> list[int] | None:
        """The step of the memory, as a rule the source token, that each token attended to most: the hard alignment.

        None without attention weights.

        >>> weights = np.array([[0.1, 0.9], [0.8, 0.2]])
        >>> Hypothesis("a", -0.5, -0.5, [7, 3], ["a", "</s>"], [-0.3, -0.2], weights).alignment
        [1, 0]
        """
        return None if self.attention_weights is None else self.attention_weights.argmax(axis=-1).tolist()
