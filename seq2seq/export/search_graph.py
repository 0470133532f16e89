"""The whole search of a model as a graph, from ids to ids, and texts translated with such a graph."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.models.constraints import Vocabulary
from seq2seq.models.search_graph import Packing, Plan, compile_search, numbers_of
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import PAD_ID

BATCH = 64


class SearchGraph:
    """The search on a model, from ids on.

    Args:
        model: The model; what is packed of it is copied.
        options: How it searches.
        attention: Whether translations come with their attention weights, where the model has any.
        sentences_leave: Whether sentences that are done leave the loop, which then is two, one in the other.
    """

    def __init__(self, model: Seq2Seq, options: DecodingConfig, attention: bool, sentences_leave: bool = True) -> None:
        self._options = options
        has_attention = attention and model.decoder.context.is_attention
        plan = Plan.of(options, prefix=False, required=False, banned=False, attention=has_attention, unknown=False)
        parts = Packing([model]).parts(options.precision, plan.uses_fused_weights)
        vocabulary = Vocabulary(model.require_tokenizer())
        inputs = self._inputs(tf.zeros([1, 1], tf.int32))
        self._search = compile_search(parts, "log_probs", vocabulary, plan, inputs, sentences_leave)

    def translate_ids(self, source_ids: Any, is_blank: Any = False) -> dict[str, Any]:
        """Translations by name; a blank source has an empty one.

        Args:
            source_ids: `(batch, source_steps)` int32, each ended by an end token and padded on the right.
            is_blank: `(batch,)`.
        """
        found = self._search(self._inputs(source_ids, is_blank))
        return {name: tensor for name, tensor in found._asdict().items() if tensor is not None}

    def _inputs(self, source_ids: Any, is_blank: Any = False) -> dict[str, Any]:
        options = self._options
        lengths = tf.math.count_nonzero(source_ids != PAD_ID, axis=1, dtype=tf.int32)
        limits = _times(options.max_length_ratio, lengths) + options.max_length_extra
        numbers = tf.nest.map_structure(tf.constant, numbers_of(options))
        return numbers | {
            "source_ids": [source_ids],
            "max_steps": tf.where(is_blank, 0, tf.clip_by_value(limits, 1, options.max_length)),
            "min_steps": tf.maximum(_times(options.min_length_ratio, lengths), options.min_length),
        }


def translate_in_batches(
    sources: Sequence[str], translate: Callable[[list[str]], Iterable[tuple[str, float]]], has_strings: bool = False
) -> list[tuple[str, float]]:
    """The best translation of each source and its score.

    Args:
        sources: Sources.
        translate: Does that for a batch of them.
        has_strings: Whether it reads strings: of a blank source, ids tell no more than of one that is nothing but its
            end.
    """
    results: dict[int, tuple[str, float]] = {}
    order = [place for place, source in enumerate(sources) if source.strip() or has_strings]
    order.sort(key=lambda place: len(sources[place]))
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        results |= dict(zip(places, translate([sources[place] for place in places]), strict=True))
    return [results.get(place, ("", 0.0)) for place in range(len(sources))]


def _times(ratio: float, lengths: Any) -> Any:
    """The whole part of the product, in the numbers that Python computes in."""
    return tf.cast(tf.constant(ratio, tf.float64) * tf.cast(lengths, tf.float64), tf.int32)
