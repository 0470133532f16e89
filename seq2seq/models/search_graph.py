"""One compiled search over one model or several: what its graph depends on, and the graph."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, ConfigError
from seq2seq.layers import Decoder
from seq2seq.layers.quantized import (
    FusedDecoder,
    FusedEncoder,
    memory_bound,
    reasons_against,
)
from seq2seq.text.ids import PAD_ID

if TYPE_CHECKING:
    from seq2seq.models.seq2seq import Seq2Seq
import dataclasses

import numpy as np

from seq2seq.config.sections import DecodingConfig
from seq2seq.decoding.beam import BeamConfig, beam_search, check_beam
from seq2seq.decoding.ensemble import ensemble_step
from seq2seq.decoding.interface import Hypotheses, LogitsProcessor, Prefix, SearchConfig
from seq2seq.decoding.penalties import Ranking
from seq2seq.decoding.processors import (
    BannedPhrases,
    MinimumLength,
    NoRepeatedNgram,
    OnlyWhereAllowed,
    RepetitionPenalty,
)
from seq2seq.decoding.required_phrases import RequiredPhrases
from seq2seq.decoding.sampling import SamplingConfig, greedy_search, sample_search
from seq2seq.layers.context import PreparedContext
from seq2seq.layers.quantized import Product
from seq2seq.models.constraints import Vocabulary
from seq2seq.text.ids import END_ID, START_ID, UNKNOWN_ID


class Parts(NamedTuple):
    """What a search runs of a model: how it reads a source, and its decoder.

    Attributes:
        encode: From source ids `(batch, source_steps)` to the memory and its mask.
        decoder: Has `step`, and `start` and `context` where it is not packed.
        plain: The decoder as it is.
    """

    encode: Any
    decoder: Decoder | FusedDecoder
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

    def parts(self, precision: str, uses_fused_weights: bool) -> list[Parts]:
        """The parts of each model, packed in a precision or as they are, on the weights themselves.

        Raises:
            ConfigError: A model cannot be packed, with every reason.
        """
        return [_packed(model, precision) if uses_fused_weights else _plain(model) for model in self._models]

    def is_outdated(self) -> bool:
        """Whether any weight has changed since this was last asked."""
        before, self._fingerprint = self._fingerprint, int(self._fingerprint_now())
        return before is not None and before != self._fingerprint


def _plain(model: "Seq2Seq") -> Parts:
    return Parts(lambda source_ids: model.encode(source_ids, training=False), model.decoder, model.decoder)


def _packed(model: "Seq2Seq", precision: str) -> Parts:
    reasons = reasons_against(model.encoder, precision) + reasons_against(model.decoder, precision)
    if reasons:
        raise ConfigError(
            f"decoding.precision must be float32 and decoding.shortlist 0 for this model, but one is not, since its "
            f"weights cannot be packed in {precision}: {'; '.join(dict.fromkeys(reasons))}. Leave both out.",
            "decoding.precision",
        )
    bound = memory_bound(model.encoder)
    decoder = FusedDecoder(model.decoder, precision, bound)
    if model.encoder.reduction > 1:
        # It has few steps as it is, and there is one reading for the many steps of writing.
        return _plain(model)._replace(decoder=decoder)
    encoder = FusedEncoder(model.encoder, ops.convert_to_numpy(model.embedding.embeddings), precision)

    def encode(source_ids: Any) -> tuple[Any, Any]:
        mask = source_ids != PAD_ID
        return encoder(source_ids, mask), mask

    return Parts(encode, decoder, model.decoder)


def _fingerprint(models: Sequence["Seq2Seq"]) -> Any:
    """A number that is another one when the bits of the weights are."""
    weights = [weight for model in models for weight in model.weights if weight.dtype == "float32"]
    sums = [tf.reduce_sum(tf.bitcast(weight.value, tf.int32)) for weight in weights]
    return tf.add_n([total * (2 * place + 1) for place, total in enumerate(sums)])


class Plan(NamedTuple):
    """What changes the graph of a search; all else, such as the strength of a penalty, is an input of it.

    Of the inputs with defaults here, a False one is not in the graph at all.
    """

    rows: int
    n_best: int
    sample: bool
    length_penalty: str
    coverage_penalty: str
    no_repeat_ngram_size: int
    groups: int
    top_k: int
    has_top_p: bool
    has_repetition_penalty: bool
    has_minimum: bool
    has_prefix: bool
    has_required: bool
    has_banned: bool
    attention: bool
    precision: str
    has_shortlist: bool
    has_unknown: bool

    @classmethod
    def of(
        cls, options: DecodingConfig, *, prefix: bool, required: bool, banned: bool, attention: bool, unknown: bool
    ) -> "Plan":
        """The plan that options ask for, and whether any sentence has a prefix, phrases or an unknown token to copy."""
        check_decoding(options)
        samples = options.mbr_samples or options.n_best
        return cls(
            rows=samples if options.sample else options.beam_size,
            n_best=samples if options.sample else options.n_best,
            sample=options.sample,
            length_penalty=options.length_penalty,
            coverage_penalty=options.coverage_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            groups=options.beam_groups,
            top_k=options.top_k,
            has_top_p=options.top_p < 1,
            has_repetition_penalty=options.repetition_penalty > 1,
            has_minimum=options.min_length > 1 or options.min_length_ratio > 0,
            has_prefix=prefix,
            has_required=required,
            has_banned=banned,
            attention=attention,
            precision=options.precision,
            has_shortlist=options.shortlist > 0,
            has_unknown=unknown,
        )

    @property
    def uses_fused_weights(self) -> bool:
        """Whether the search runs on copies of the weights."""
        return self.precision != "float32" or self.has_shortlist

    @property
    def is_greedy(self) -> bool:
        """Whether the search without places to compete for does: no penalty can change what a beam of one finds."""
        return self.rows == 1 and not self.sample and not self.has_required and self.coverage_penalty == "none"


ONLY_BEAM = ("beam_groups", "required_phrases", "coverage_penalty")
ONLY_SAMPLING = ("temperature", "top_k", "top_p", "mbr_samples")
NEED_ALL_TOKENS = (
    *("sample", "prefix", "required_phrases", "banned_phrases", "no_repeat_ngram_size", "repetition_penalty"),
    *("min_length_ratio", "min_length"),
)


def check_decoding(decoding: DecodingConfig) -> None:
    """Raise an ArgumentError, named after the setting, where settings of the search exclude each other."""
    defaults = type(decoding)()

    def changed(names: Sequence[str]) -> list[str]:
        return [name for name in names if getattr(decoding, name) != getattr(defaults, name)]

    n_best = decoding.n_best
    if not decoding.sample:
        check_beam(decoding.beam_size, n_best, decoding.beam_groups)
    elif decoding.mbr_samples and n_best > decoding.mbr_samples:
        raise ArgumentError("n_best", f"at most mbr_samples ({decoding.mbr_samples})", n_best)
    for name in changed(ONLY_BEAM if decoding.sample else ONLY_SAMPLING):
        default, sample = getattr(defaults, name), str(decoding.sample).lower()
        raise ArgumentError(name, f"left at {default!r} where sample is {sample}", getattr(decoding, name))
    if decoding.max_length_ratio == 0 and decoding.max_length_extra == 0:
        raise ArgumentError("max_length_extra", "at least 1 where max_length_ratio is 0", 0)
    if decoding.min_length > decoding.max_length:
        raise ArgumentError("min_length", f"at most max_length ({decoding.max_length})", decoding.min_length)
    if decoding.shortlist and (names := changed(NEED_ALL_TOKENS)):
        raise ArgumentError("shortlist", f"0 where {names[0]} is set", decoding.shortlist)


def numbers_of(options: DecodingConfig) -> dict[str, np.ndarray]:
    """The inputs that are the same for all sentences."""
    return {
        name: np.array(getattr(options, name), np.float32)
        for name in (
            "length_penalty_alpha",
            "coverage_penalty_beta",
            "repetition_penalty",
            "diversity",
            "temperature",
            "top_p",
        )
    }


def compile_search(
    parts: Sequence[Parts],
    average: str,
    vocabulary: Vocabulary,
    plan: Plan,
    inputs: dict[str, Any],
    sentences_leave: bool = True,
) -> Any:
    """One graph of a search, for batches and sentences of any size.

    Args:
        parts: Of each model; their probabilities are averaged.
        average: What is averaged; see `seq2seq.decoding.ensemble_step`.
        vocabulary: The target's pieces.
        plan: What the graph holds.
        inputs: Tensors by name, such as the graph is to take.
        sentences_leave: Whether sentences that are done leave the loop.

    Returns:
        A function of such a dictionary that gives `Hypotheses`.
    """

    def search(inputs: dict[str, Any]) -> Hypotheses:
        step, state, memory_mask = _decoders(parts, average, inputs["source_ids"])
        if plan.has_shortlist:
            step = ShortlistStep.of(step, inputs["shortlist_ids"], inputs["shortlist_mask"])
        if not sentences_leave:
            step = step.__call__
        arguments: dict[str, Any] = {
            "max_steps": inputs["max_steps"],
            "start_id": START_ID,
            "end_id": END_ID,
            "pad_id": PAD_ID,
            "banned_ids": () if plan.has_unknown else (UNKNOWN_ID,),
            "processors": _processors(plan, inputs, vocabulary),
            "prefix": Prefix(inputs["prefix_ids"], inputs["prefix_lengths"]) if plan.has_prefix else None,
            "return_attention": plan.attention,
        }
        if plan.sample:
            sampling = SamplingConfig(
                samples=plan.rows,
                numbers=inputs["random_numbers"],
                temperature=inputs["temperature"],
                top_k=plan.top_k,
                top_p=inputs["top_p"] if plan.has_top_p else None,
                **arguments,
            )
            return sample_search(step, state, sampling)
        if plan.is_greedy:
            return greedy_search(step, state, SearchConfig(**arguments))
        required = None
        if plan.has_required:
            continues_word = tf.constant(vocabulary.continues_word)
            required = RequiredPhrases(inputs["required_ids"], inputs["required_overlaps"], continues_word)
        ranking = Ranking(
            plan.length_penalty,
            inputs["length_penalty_alpha"],
            plan.coverage_penalty,
            inputs["coverage_penalty_beta"],
            source_mask=memory_mask if plan.coverage_penalty != "none" else None,
        )
        beam = BeamConfig(
            beam_size=plan.rows,
            n_best=plan.n_best,
            ranking=ranking,
            required=required,
            beam_groups=plan.groups,
            diversity=inputs["diversity"],
            **arguments,
        )
        return beam_search(step, state, beam)

    specs = tf.nest.map_structure(lambda value: tf.TensorSpec([None] * value.shape.rank, value.dtype), inputs)
    return tf.function(search, autograph=False).get_concrete_function(specs)


@dataclasses.dataclass(frozen=True)
class DecoderStep:
    """The step function of a decoder, for sentences whose sources are prepared."""

    decoder: Decoder | FusedDecoder
    prepared: PreparedContext

    def __call__(self, token_ids: Any, state: Any) -> tuple[Any, Any, Any]:
        step = self.decoder.step(token_ids, state, self.prepared)
        return step.logits, step.state, step.attention_weights

    def for_sentences(self, sentences: Any) -> "DecoderStep":
        def of_these(leaf: Any) -> Any:
            return None if leaf is None else tf.gather(leaf, sentences)

        return DecoderStep(self.decoder, tf.nest.map_structure(of_these, self.prepared))


@dataclasses.dataclass(frozen=True)
class ShortlistStep:
    """The step function of a packed decoder that writes with some tokens only, each sentence with its own.

    Attributes:
        step: Of the decoder and the prepared sources.
        columns: `(columns,)` int32, the tokens that any sentence may write with, and padding up to their number.
        mask: `(batch, columns)`, True for those of each sentence.
        logits: The product that makes their logits.
    """

    step: DecoderStep
    columns: Any
    mask: Any
    logits: Product

    @classmethod
    def of(cls, step: DecoderStep, columns: Any, mask: Any) -> "ShortlistStep":
        """The step function with the columns of the output matrix taken out."""
        decoder: Any = step.decoder
        return cls(step, columns, mask, decoder.logits_of(columns))

    def __call__(self, token_ids: Any, state: Any) -> tuple[Any, Any, Any]:
        decoder: Any = self.step.decoder
        step = decoder.step(token_ids, state, self.step.prepared, self.logits)
        batch, columns = tf.unstack(tf.shape(self.mask))
        allowed = tf.where(self.mask[:, None], tf.reshape(step.logits, [batch, -1, columns]), -float("inf"))
        return tf.reshape(allowed, [-1, columns]), step.state, step.attention_weights

    def for_sentences(self, sentences: Any) -> "ShortlistStep":
        return dataclasses.replace(self, step=self.step.for_sentences(sentences), mask=tf.gather(self.mask, sentences))


def _decoders(parts: Sequence[Parts], average: str, source_ids: Sequence[Any]) -> tuple[Any, Any, Any]:
    """The step function of the models, its first state, and the mask of what they attend to, if they do."""
    prepared = []
    for one, ids in zip(parts, source_ids, strict=True):
        memory, mask = one.encode(ids)
        prepared.append(one.plain.prepare(memory, mask, ids, ids != PAD_ID))
    steps = [DecoderStep(one.decoder, context) for one, context in zip(parts, prepared, strict=True)]
    states = [one.plain.start(context) for one, context in zip(parts, prepared, strict=True)]
    mask = prepared[0].mask
    return (steps[0], states[0], mask) if len(parts) == 1 else (ensemble_step(steps, average), tuple(states), mask)


def _processors(plan: Plan, inputs: dict[str, Any], vocabulary: Vocabulary) -> list[LogitsProcessor]:
    processors: list[LogitsProcessor] = []
    if plan.has_unknown:
        processors.append(OnlyWhereAllowed(UNKNOWN_ID, inputs["has_unknown"]))
    if plan.has_repetition_penalty:
        processors.append(RepetitionPenalty(penalty=inputs["repetition_penalty"], pad_id=PAD_ID))
    if plan.has_minimum:
        processors.append(MinimumLength(inputs["min_steps"], END_ID))
    if plan.no_repeat_ngram_size:
        processors.append(NoRepeatedNgram(size=plan.no_repeat_ngram_size, pad_id=PAD_ID))
    if plan.has_banned:
        processors.append(
            BannedPhrases(
                inputs["banned_sources"],
                inputs["banned_ids"],
                inputs["banned_targets"],
                inputs["banned_states"],
                tf.constant(vocabulary.begins_word),
            )
        )
    return processors
