"""A model cut into the two functions that a search outside TensorFlow calls: read a source, write one token.

What a source leaves for the steps, and what a step leaves for the next, are nested tuples in Python. Outside they are
tensors by name: the fields of the prepared context, and `state_0`, `state_1`, ...
"""

from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.layers.context import PreparedContext
from seq2seq.model import Seq2Seq
from seq2seq.text import END_ID

LOGITS, ATTENTION = "logits", "attention_weights"
BEST_IDS, BEST_LOG_PROBS = "best_ids", "best_log_probs"


class Steps:
    """The functions `encode` and `step` of a model, from tensors to tensors by name.

    Args:
        model: The model.

    Attributes:
        context_names: What `encode` gives that is the same for all steps, one row a sentence.
        state_names: What `encode` gives and each step changes, one row a hypothesis.

    >>> from seq2seq.layers import Decoder, Encoder
    >>> steps = Steps(Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8)))
    >>> steps.context_names, steps.state_names
    (['values', 'mask'], ['state_0'])
    """

    def __init__(self, model: Seq2Seq) -> None:
        self._model = model
        prepared, self._state = self._read(tf.constant([[END_ID]]))
        self._source_of: dict[str, str] = {}
        examples: dict[str, Any] = {}
        # The summary is for the first state only.
        for name, leaf in prepared._replace(summary=None)._asdict().items():
            if leaf is not None:
                # The keys of some scores are the memory itself.
                self._source_of[name] = next((known for known, other in examples.items() if other is leaf), name)
                examples.setdefault(self._source_of[name], leaf)
        self.context_names = list(examples)
        self.state_names = [f"state_{place}" for place, _ in enumerate(tf.nest.flatten(self._state))]
        leaves = dict(zip(self.state_names, tf.nest.flatten(self._state), strict=True))
        self._specs = {name: _spec(name, leaf, 2) for name, leaf in examples.items()}
        self._specs |= {name: _spec(name, leaf, 1) for name, leaf in leaves.items()}

    @property
    def has_attention(self) -> bool:
        """Whether a step gives attention weights."""
        return bool(self._model.decoder.context.reads_every_step)

    @property
    def next_state_names(self) -> list[str]:
        """What `step` gives for each of `state_names`: a graph may not give what it takes."""
        return [f"next_{name}" for name in self.state_names]

    @property
    def encode_spec(self) -> tf.TensorSpec:
        """What `encode` takes."""
        return tf.TensorSpec([None, None], tf.int32, "source_ids")

    @property
    def step_specs(self) -> dict[str, tf.TensorSpec]:
        """What `step` takes, by name."""
        return {"token_ids": tf.TensorSpec([None], tf.int32, "token_ids")} | self._specs

    def encode(self, source_ids: Any) -> dict[str, Any]:
        """Reads sources, `(batch, source_steps)` int32, each ended by an end token and padded on the right."""
        prepared, state = self._read(source_ids)
        outputs = {name: getattr(prepared, name) for name in self.context_names}
        return outputs | dict(zip(self.state_names, tf.nest.flatten(state), strict=True))

    def step(self, token_ids: Any, **tensors: Any) -> dict[str, Any]:
        """Writes a token: from the last one of each row, `(rows,)`, to the logits of the next and the state after it.

        Rows may be a whole multiple of the sentences, the hypotheses of a sentence next to each other.
        """
        fields = {name: tensors[source] for name, source in self._source_of.items()}
        context = PreparedContext(**dict.fromkeys(PreparedContext._fields) | fields)
        state = tf.nest.pack_sequence_as(self._state, [tensors[name] for name in self.state_names])
        logits, state, weights = self._model.decoder.step(token_ids, state, context)
        outputs = {LOGITS: logits} | dict(zip(self.next_state_names, tf.nest.flatten(state), strict=True))
        return outputs if weights is None else outputs | {ATTENTION: weights}

    def ranked_step(self, count: Any, token_ids: Any, **tensors: Any) -> dict[str, Any]:
        """The same, and the `count` best tokens of each row, `best_ids`, with `best_log_probs`, the best first."""
        outputs = self.step(token_ids, **tensors)
        log_probs = tf.nn.log_softmax(outputs[LOGITS])
        best = tf.math.top_k(log_probs, tf.minimum(count, log_probs.shape[-1]))
        return outputs | {BEST_IDS: best.indices, BEST_LOG_PROBS: best.values}

    def _read(self, source_ids: Any) -> tuple[PreparedContext, Any]:
        decoder = self._model.decoder
        prepared = decoder.context.prepare(*self._model.encode(source_ids, training=False))
        return prepared, decoder.start(prepared)


def _spec(name: str, example: Any, free_dimensions: int) -> tf.TensorSpec:
    """A tensor like the example, whose first dimensions are known only when the graph runs."""
    shape = np.array(example.shape).tolist()
    return tf.TensorSpec([None] * free_dimensions + shape[free_dimensions:], example.dtype, name)
