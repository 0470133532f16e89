"""A model cut into the two functions that a search outside TensorFlow calls: read a source, write one token.

What a source leaves for the steps, and what a step leaves for the next, are nested tuples in Python. Outside they are
tensors by name: the fields of the prepared context, and `state_0`, `state_1`, ...
"""

import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.layers.context import PreparedContext
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import END_ID, PAD_ID

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
        self._prepared, self._state = self._read(tf.fill([1, 1], END_ID))
        self._source_of: dict[str, str] = {}
        examples: dict[str, Any] = {}
        for name, leaf in _leaves(self._prepared):
            # The keys of some scores are the memory itself.
            self._source_of[name] = next((known for known, other in examples.items() if other is leaf), name)
            examples.setdefault(self._source_of[name], leaf)
        self.context_names = list(examples)
        leaves = tf.nest.flatten(self._state)
        self.state_names = [f"state_{place}" for place, _ in enumerate(leaves)]
        examples |= dict(zip(self.state_names, leaves, strict=True))
        others = self.encode(tf.fill([2, 1 + 2 * model.encoder.reduction], END_ID))
        self._specs = {name: _spec(name, leaf, others[name]) for name, leaf in examples.items()}

    @property
    def has_attention(self) -> bool:
        """Whether a step gives attention weights."""
        return bool(self._model.decoder.context.is_attention)

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
        outputs = dict(_leaves(prepared))
        outputs = {name: outputs[name] for name in self.context_names}
        return outputs | dict(zip(self.state_names, tf.nest.flatten(state), strict=True))

    def step(self, token_ids: Any, **tensors: Any) -> dict[str, Any]:
        """Writes a token: from the last one of each row, `(rows,)`, to the logits of the next and the state after it.

        Rows may be a whole multiple of the sentences, the hypotheses of a sentence next to each other.
        """
        context = _rebuilt(self._prepared, {name: tensors[source] for name, source in self._source_of.items()})
        state = tf.nest.pack_sequence_as(self._state, [tensors[name] for name in self.state_names])
        step = self._model.decoder.step(token_ids, state, context)
        outputs = {LOGITS: step.logits} | dict(zip(self.next_state_names, tf.nest.flatten(step.state), strict=True))
        return outputs if step.attention_weights is None else outputs | {ATTENTION: step.attention_weights}

    def ranked_step(self, count: Any, token_ids: Any, **tensors: Any) -> dict[str, Any]:
        """The same, and the `count` best tokens of each row, `best_ids`, with `best_log_probs`, the best first."""
        outputs = self.step(token_ids, **tensors)
        log_probs = tf.nn.log_softmax(outputs[LOGITS])
        best = tf.math.top_k(log_probs, tf.minimum(count, log_probs.shape[-1]))
        return outputs | {BEST_IDS: best.indices, BEST_LOG_PROBS: best.values}

    def _read(self, source_ids: Any) -> tuple[PreparedContext, Any]:
        decoder = self._model.decoder
        memory, mask = self._model.encode(source_ids, training=False)
        prepared = decoder.prepare(memory, mask, source_ids, source_ids != PAD_ID)
        state = decoder.start(prepared)
        # The summary is for the first state only.
        return prepared._replace(summary=None), state


def _leaves(parts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors of nested named tuples, by the names of their fields."""
    for name, part in parts._asdict().items():
        if hasattr(part, "_asdict"):
            yield from _leaves(part, f"{prefix}{name}_")
        elif part is not None:
            yield f"{prefix}{name}", part


def _rebuilt(parts: Any, tensors: dict[str, Any], prefix: str = "") -> Any:
    """Named tuples like these, of other tensors."""
    return type(parts)(
        *(
            _rebuilt(part, tensors, f"{prefix}{name}_") if hasattr(part, "_asdict") else tensors.get(f"{prefix}{name}")
            for name, part in parts._asdict().items()
        )
    )


def _spec(name: str, example: Any, other: Any) -> tf.TensorSpec:
    """A tensor like two examples; where they differ, its size is known only when the graph runs."""
    sizes = zip(example.shape.as_list(), other.shape.as_list(), strict=True)
    return tf.TensorSpec([one if one == another else None for one, another in sizes], example.dtype, name)


def write_beside(model: Seq2Seq, folder: pathlib.Path) -> None:
    """Write the models of the tokenizer, and the runner as `translate.py`."""
    for name, content in model.require_tokenizer().models.items():
        (folder / name).write_bytes(content)
    shutil.copy(pathlib.Path(__file__).with_name("runner.py"), folder / "translate.py")


def describe(model: Seq2Seq, steps: Steps) -> dict[str, Any]:
    """What the runner must know of the graphs."""
    return {
        "context": steps.context_names,
        "states": steps.state_names,
        "attention": steps.has_attention,
        "reduction": model.encoder.reduction,
        "truncation": list(model.truncation),
    }


def translate_with_runner(folder: pathlib.Path, sources: Sequence[str]) -> list[tuple[str, float]]:
    """The best translation of each source and its score, by an export as it lies on the disk."""
    from seq2seq.export.runner import Translator

    return [(found[0].text, found[0].score) for found in Translator(folder).generate(sources)]
