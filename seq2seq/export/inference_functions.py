"""The functions of a model that exports hold: encode sources, take a step of the decoder, or run the whole search.

In Python, the prepared context of a source and the state of a decoder are nested tuples. In an export they are named
tensors: the fields of the context, and `state_0`, `state_1`, ...
"""

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.layers.context import PreparedContext
from seq2seq.models.search_graph import Plan, compile_search, create_components, length_limits, numeric_options
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import END_ID, PAD_ID


class InferenceFunctions:
    """The functions of a model, from tensors to tensors by name.

    `context_names` are the outputs of `encode` that are the same for all steps, one row per sentence; `state_names`
    those that each step changes, one row per hypothesis. `source_spec` and `step_specs` describe the inputs.

    >>> from seq2seq.layers import Decoder, Encoder
    >>> functions = InferenceFunctions(Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8)))
    >>> functions.context_names, functions.state_names
    (['values', 'mask'], ['state_0'])
    """

    source_spec = tf.TensorSpec([None, None], tf.int32, "source_ids")

    def __init__(self, model: Seq2Seq) -> None:
        self.model = model
        self._prepared, self._state = self._prepare(tf.fill([1, 1], END_ID))
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
        self.step_specs = {"token_ids": tf.TensorSpec([None], tf.int32, "token_ids")}
        self.step_specs |= {name: _spec(name, leaf, others[name]) for name, leaf in examples.items()}

    def encode(self, source_ids: Any) -> dict[str, Any]:
        """Encode `(batch, source_steps)` sources, each with an end token and padding on the right."""
        prepared, state = self._prepare(source_ids)
        outputs = dict(_leaves(prepared))
        outputs = {name: outputs[name] for name in self.context_names}
        return outputs | dict(zip(self.state_names, tf.nest.flatten(state), strict=True))

    def step(self, token_ids: Any, **tensors: Any) -> dict[str, Any]:
        """Compute `logits` and the states `next_state_0`, ... from the last token of each row, `(rows,)`.

        Rows may be a multiple of the sentences, with the hypotheses of a sentence adjacent.
        """
        context = _rebuilt(self._prepared, {name: tensors[source] for name, source in self._source_of.items()})
        state = tf.nest.pack_sequence_as(self._state, [tensors[name] for name in self.state_names])
        step = self.model.decoder.step(token_ids, state, context)
        # A graph cannot return its own inputs under their names.
        names = [f"next_{name}" for name in self.state_names]
        outputs = {"logits": step.logits} | dict(zip(names, tf.nest.flatten(step.state), strict=True))
        return outputs if step.attention_weights is None else outputs | {"attention_weights": step.attention_weights}

    def ranked_step(self, count: Any, token_ids: Any, **tensors: Any) -> dict[str, Any]:
        """Take a step and also return the `count` best tokens of each row, `best_ids`, with `best_log_probs`."""
        outputs = self.step(token_ids, **tensors)
        log_probs = tf.nn.log_softmax(outputs["logits"])
        best = tf.math.top_k(log_probs, tf.minimum(count, log_probs.shape[-1]))
        return outputs | {"best_ids": best.indices, "best_log_probs": best.values}

    def compile_translation(
        self, options: DecodingConfig, attention: bool = False, compacts: bool = True
    ) -> Callable[..., dict[str, Any]]:
        """Compile the search as `translate_ids(source_ids, is_blank=False)`; a blank source has an empty translation.

        Reduced-precision weights are copied. With `compacts` finished sentences are removed from the batch, by a loop
        inside another.
        """
        model = self.model
        has_attention = attention and model.decoder.context.is_attention
        plan = Plan(options, has_attention=has_attention)

        def inputs(source_ids: Any, is_blank: Any = False) -> dict[str, Any]:
            lengths = tf.math.count_nonzero(source_ids != PAD_ID, axis=1, dtype=tf.int32)
            shortest, longest = length_limits(options, lengths)
            return tf.nest.map_structure(tf.constant, numeric_options(options)) | {
                "source_ids": [source_ids],
                "max_steps": tf.where(is_blank, 0, longest),
                "min_steps": shortest,
            }

        components = [create_components(model, plan)]
        search = compile_search(components, "log_probs", None, plan, inputs(tf.zeros([1, 1], tf.int32)), compacts)

        def translate_ids(source_ids: Any, is_blank: Any = False) -> dict[str, Any]:
            found = search(inputs(source_ids, is_blank))
            return {name: tensor for name, tensor in found._asdict().items() if tensor is not None}

        return translate_ids

    def write_runtime_files(self, folder: pathlib.Path) -> dict[str, Any]:
        """Write the tokenizer and the runner, `translate.py`, and return what the runner must know of the graphs."""
        for name, content in self.model.require_tokenizer().models.items():
            (folder / name).write_bytes(content)
        shutil.copy(pathlib.Path(__file__).with_name("runner.py"), folder / "translate.py")
        return {
            "context": self.context_names,
            "states": self.state_names,
            "attention": bool(self.model.decoder.context.is_attention),
            "reduction": self.model.encoder.reduction,
            "truncation": list(self.model.truncation),
        }

    def _prepare(self, source_ids: Any) -> tuple[PreparedContext, Any]:
        prepared, state = self.model.prepare(source_ids)
        # Only the first state needs the summary.
        return prepared._replace(summary=None), state


def _leaves(parts: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors of nested named tuples by the names of their fields."""
    for name, part in parts._asdict().items():
        if hasattr(part, "_asdict"):
            yield from _leaves(part, f"{prefix}{name}_")
        elif part is not None:
            yield f"{prefix}{name}", part


def _rebuilt(parts: Any, tensors: dict[str, Any], prefix: str = "") -> Any:
    """Build named tuples of the same structure from other tensors."""
    return type(parts)(
        *(
            _rebuilt(part, tensors, f"{prefix}{name}_") if hasattr(part, "_asdict") else tensors.get(f"{prefix}{name}")
            for name, part in parts._asdict().items()
        )
    )


def _spec(name: str, example: Any, other: Any) -> tf.TensorSpec:
    """Describe tensors like two examples, with None for a dimension in which the examples differ."""
    sizes = zip(example.shape.as_list(), other.shape.as_list(), strict=True)
    return tf.TensorSpec([one if one == another else None for one, another in sizes], example.dtype, name)
