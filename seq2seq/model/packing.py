"""The packed parts of models, made when they are first asked for, and again when the weights have changed."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
from keras import ops

from seq2seq.errors import ConfigError
from seq2seq.layers import Decoder
from seq2seq.layers.packed import (
    PackedDecoder,
    PackedEncoder,
    memory_bound,
    reasons_against_decoder,
    reasons_against_encoder,
)
from seq2seq.text import PAD_ID

if TYPE_CHECKING:
    from seq2seq.model.seq2seq import Seq2Seq


class Parts(NamedTuple):
    """What a search runs of a model: how it reads a source, and its decoder.

    Attributes:
        encode: From source ids `(batch, source_steps)` to the memory and its mask.
        decoder: Has `step`, and `start` and `context` where it is not packed.
        plain: The decoder as it is.
    """

    encode: Any
    decoder: Decoder | PackedDecoder
    plain: Decoder


class Packing:
    """Parts of models on copies of their weights, and whether these are still copies.

    Args:
        models: The models.
    """

    def __init__(self, models: Sequence["Seq2Seq"]) -> None:
        self._models = models
        self._fingerprint: int | None = None
        self._fingerprint_now = tf.function(functools.partial(_fingerprint, models), autograph=False)

    def parts(self, precision: str, is_packed: bool) -> list[Parts]:
        """The parts of each model, packed in a precision or as they are, on the weights themselves.

        Raises:
            ConfigError: A model cannot be packed, with every reason.
        """
        return [_packed(model, precision) if is_packed else _plain(model) for model in self._models]

    def is_outdated(self) -> bool:
        """Whether any weight has changed since this was last asked."""
        before, self._fingerprint = self._fingerprint, int(self._fingerprint_now())
        return before is not None and before != self._fingerprint


def _plain(model: "Seq2Seq") -> Parts:
    return Parts(lambda source_ids: model.encode(source_ids, training=False), model.decoder, model.decoder)


def _packed(model: "Seq2Seq", precision: str) -> Parts:
    reasons = reasons_against_encoder(model.encoder, precision) + reasons_against_decoder(model.decoder, precision)
    if reasons:
        raise ConfigError(
            f"decoding.precision must be float32 and decoding.shortlist 0 for this model, but one is not, since its "
            f"weights cannot be packed in {precision}: {'; '.join(dict.fromkeys(reasons))}. Leave both out.",
            "decoding.precision",
        )
    bound = memory_bound(model.encoder)
    decoder = PackedDecoder(model.decoder, precision, bound)
    if model.encoder.reduction > 1:
        # It has few steps as it is, and there is one reading for the many steps of writing.
        return _plain(model)._replace(decoder=decoder)
    encoder = PackedEncoder(model.encoder, ops.convert_to_numpy(model.embedding.embeddings), precision)

    def encode(source_ids: Any) -> tuple[Any, Any]:
        mask = source_ids != PAD_ID
        return encoder(source_ids, mask), mask

    return Parts(encode, decoder, model.decoder)


def _fingerprint(models: Sequence["Seq2Seq"]) -> Any:
    """A number that is another one when the bits of the weights are."""
    weights = [weight for model in models for weight in model.weights if weight.dtype == "float32"]
    sums = [tf.reduce_sum(tf.bitcast(weight.value, tf.int32)) for weight in weights]
    return tf.add_n([total * (2 * place + 1) for place, total in enumerate(sums)])
