"""What was copied of a source and has no token of its own, put back as it stands there."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from seq2seq.model.hypothesis import Hypothesis
from seq2seq.text import UNKNOWN_ID, pad

if TYPE_CHECKING:
    from seq2seq.model.seq2seq import Seq2Seq


class UnknownPieces:
    """Reads in the copy attention of a model which part of the source each unknown token of a hypothesis is.

    A character, or where tokens are words a word, that the tokenizer has not met is one token for all: the search can
    copy it, and only the source tells what it was.

    Args:
        model: A model that copies.
    """

    def __init__(self, model: "Seq2Seq") -> None:
        self._model = model

    def restored(self, hypotheses: Sequence[Hypothesis], source: str) -> list[Hypothesis]:
        """The hypotheses of a source with its own characters instead of unknown tokens, in `text` and in `pieces`."""
        return [self._restored(one, source) if UNKNOWN_ID in one.token_ids else one for one in hypotheses]

    def _restored(self, hypothesis: Hypothesis, source: str) -> Hypothesis:
        model = self._model
        source_ids = model.encode_sources([source])
        weights = self._weights(tf.constant(pad(source_ids)), tf.constant(pad([hypothesis.token_ids]))).numpy()[0]
        is_unknown = np.array(source_ids[0]) == UNKNOWN_ID
        places = np.where(is_unknown, weights[:, : len(is_unknown)], -1.0).argmax(axis=1)
        source_pieces, pieces = model.source_pieces(source), list(hypothesis.pieces)
        for step, token in enumerate(hypothesis.token_ids):
            if token == UNKNOWN_ID:
                pieces[step] = source_pieces[places[step]]
        return hypothesis._replace(text=model.require_tokenizer().join_target_pieces(pieces), pieces=pieces)

    @functools.cached_property
    def _weights(self) -> Any:
        """What a known target copies by, `(batch, target_steps, source_steps)`."""

        def weights(source_ids: Any, target_ids: Any) -> Any:
            copies: Any = self._model.read_out({"source_ids": source_ids, "target_ids": target_ids}).copies
            return copies.weights

        ids = tf.TensorSpec([None, None], tf.int32)
        return tf.function(weights, input_signature=[ids, ids], autograph=False)
