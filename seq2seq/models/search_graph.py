"""One compiled search over one model or several: its plan, the parts of the models that it runs, and its graph."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

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
from seq2seq.errors import ArgumentError, ConfigError
from seq2seq.layers import Decoder
from seq2seq.layers.context import PreparedContext
from seq2seq.layers.quantized import FusedDecoder, FusedEncoder, Product, memory_bound, reasons_against
from seq2seq.models.constraints import PhraseVocabulary
from seq2seq.models.encoder_decoder import EncoderDecoder
from seq2seq.text.ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID

GRAPH_OPTIONS = (
    "sample",
    "length_penalty",
    "coverage_penalty",
    "no_repeat_ngram_size",
    "beam_groups",
    "top_k",
    "precision",
)
NUMERIC_OPTIONS = (
    "length_penalty_alpha",
    "coverage_penalty_beta",
    "repetition_penalty",
    "diversity",
    "temperature",
    "top_p",
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Describe the graph of a search.

    Options that a graph takes as inputs, such as the strength of a penalty, do not distinguish plans.
    """

    options: DecodingConfig = dataclasses.field(compare=False)
    has_prefix: bool = False
    has_required: bool = False
    has_banned: bool = False
    has_unknown: bool = False
    has_attention: bool = False
    graph: tuple[Any, ...] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        check_decoding(self.options)
        names = (*GRAPH_OPTIONS, "has_top_p", "has_repetition_penalty", "has_minimum", "has_shortlist")
        values = [getattr(self.options if name in GRAPH_OPTIONS else self, name) for name in names]
        object.__setattr__(self, "graph", (self.rows, self.n_best, *values))

    @property
    def n_best(self) -> int:
        return (self.options.sample and self.options.mbr_samples) or self.options.n_best

    @property
    def rows(self) -> int:
        return self.n_best if self.options.sample else self.options.beam_size

    @property
    def has_top_p(self) -> bool:
        return self.options.top_p < 1

    @property
    def has_repetition_penalty(self) -> bool:
        return self.options.repetition_penalty > 1

    @property
    def has_minimum(self) -> bool:
        return self.options.min_length > 1 or self.options.min_length_ratio > 0

    @property
    def has_shortlist(self) -> bool:
        return self.options.shortlist > 0

    @property
    def uses_fused_weights(self) -> bool:
        """Return whether the search runs on copies of the weights."""
        return self.options.precision != "float32" or self.has_shortlist

    @property
    def is_greedy(self) -> bool:
        """Return whether greedy search finds the same: a beam of one, which no penalty can change."""
        options = self.options
        return self.rows == 1 and not (options.sample or self.has_required or options.coverage_penalty != "none")


class SearchComponents(NamedTuple):
    """The functions of a model that a search runs: `prepare(source_ids)`, and the steps of a decoder."""

    prepare: Callable[[Any], tuple[PreparedContext, Any]]
    decoder: Decoder | FusedDecoder


def create_components(model: EncoderDecoder, plan: Plan) -> SearchComponents:
    """Return the parts of a model, on copies of its weights if the plan asks for them and the layers allow it."""
    if not plan.uses_fused_weights:
        return SearchComponents(model.prepare, model.decoder)
    precision = plan.options.precision
    reasons = reasons_against(model.encoder, precision) + reasons_against(model.decoder, precision)
    if reasons:
        raise ConfigError(
            f"decoding.precision must be float32 and decoding.shortlist 0 for this model, whose weights cannot be "
            f"packed in {precision}: {'; '.join(dict.fromkeys(reasons))}. Leave both out.",
            "decoding.precision",
        )
    decoder = FusedDecoder(model.decoder, precision, memory_bound(model.encoder))
    if model.encoder.reduction > 1:
        # The encoder has few steps as it is, and runs once for the many steps of the decoder.
        return SearchComponents(model.prepare, decoder)
    encoder = FusedEncoder(model.encoder, ops.convert_to_numpy(model.embedding.embeddings), precision)

    def prepare(source_ids: Any) -> tuple[PreparedContext, Any]:
        mask = source_ids != PAD_ID
        return model.prepare(source_ids, encoded=(encoder(source_ids, mask), mask))

    return SearchComponents(prepare, decoder)


ONLY_BEAM = ("beam_groups", "required_phrases", "coverage_penalty")
ONLY_SAMPLING = ("temperature", "top_k", "top_p", "mbr_samples")
NEED_ALL_TOKENS = (
    *("sample", "prefix", "required_phrases", "banned_phrases", "no_repeat_ngram_size", "repetition_penalty"),
    *("min_length_ratio", "min_length"),
)


def check_decoding(decoding: DecodingConfig) -> None:
    """Raise an ArgumentError, named after the setting, for settings of a search that exclude each other."""
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


def numeric_options(options: DecodingConfig) -> dict[str, np.ndarray]:
    """Return the inputs of a graph that are the same for all sentences."""
    return {name: np.array(getattr(options, name), np.float32) for name in NUMERIC_OPTIONS}


def length_limits(options: DecodingConfig, source_lengths: Any) -> tuple[Any, Any]:
    """Return the least and the greatest number of target tokens for sources of some lengths, as int32 tensors."""
    lengths = tf.cast(source_lengths, tf.float64)

    def multiply(ratio: float) -> Any:
        return tf.cast(tf.constant(ratio, tf.float64) * lengths, tf.int32)

    # A small ratio may leave no token for a short source, but every target has its end token.
    longest = tf.clip_by_value(multiply(options.max_length_ratio) + options.max_length_extra, 1, options.max_length)
    return tf.maximum(multiply(options.min_length_ratio), options.min_length), longest


def compile_search(
    components: Sequence[SearchComponents],
    average: str,
    vocabulary: PhraseVocabulary | None,
    plan: Plan,
    inputs: dict[str, Any],
    sentences_leave: bool = True,
) -> Any:
    """Compile a search as a function of tensors named as in `inputs`, for any number of sentences of any length.

    `average` combines the models as in `ensemble_step`; with `sentences_leave`, finished sentences leave the loop.
    """

    def search(inputs: dict[str, Any]) -> Hypotheses:
        step, state, memory_mask = _bind_decoders(components, average, inputs["source_ids"])
        if plan.has_shortlist:
            step = ShortlistStep.of(step, inputs["shortlist_ids"], inputs["shortlist_mask"])
        return _search(step if sentences_leave else step.__call__, state, memory_mask, plan, inputs, vocabulary)

    specs = tf.nest.map_structure(lambda value: tf.TensorSpec([None] * value.shape.rank, value.dtype), inputs)
    return tf.function(search, autograph=False).get_concrete_function(specs)


def _search(step: Any, state: Any, memory_mask: Any, plan: Plan, inputs: dict[str, Any], vocabulary: Any) -> Hypotheses:
    options = plan.options
    arguments: dict[str, Any] = {
        "max_steps": inputs["max_steps"],
        "start_id": START_ID,
        "end_id": END_ID,
        "pad_id": PAD_ID,
        "banned_ids": () if plan.has_unknown else (UNKNOWN_ID,),
        "processors": _processors(plan, inputs, vocabulary),
        "prefix": Prefix(inputs["prefix_ids"], inputs["prefix_lengths"]) if plan.has_prefix else None,
        "return_attention": plan.has_attention,
    }
    if options.sample:
        sampling = SamplingConfig(
            samples=plan.rows,
            numbers=inputs["random_numbers"],
            temperature=inputs["temperature"],
            top_k=options.top_k,
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
        options.length_penalty,
        inputs["length_penalty_alpha"],
        options.coverage_penalty,
        inputs["coverage_penalty_beta"],
        source_mask=memory_mask if options.coverage_penalty != "none" else None,
    )
    beam = BeamConfig(
        beam_size=plan.rows,
        n_best=plan.n_best,
        ranking=ranking,
        required=required,
        beam_groups=options.beam_groups,
        diversity=inputs["diversity"],
        **arguments,
    )
    return beam_search(step, state, beam)


def _processors(plan: Plan, inputs: dict[str, Any], vocabulary: Any) -> list[LogitsProcessor]:
    processors: list[LogitsProcessor] = []
    if plan.has_unknown:
        processors.append(OnlyWhereAllowed(UNKNOWN_ID, inputs["has_unknown"]))
    if plan.has_repetition_penalty:
        processors.append(RepetitionPenalty(penalty=inputs["repetition_penalty"], pad_id=PAD_ID))
    if plan.has_minimum:
        processors.append(MinimumLength(inputs["min_steps"], END_ID))
    if plan.options.no_repeat_ngram_size:
        processors.append(NoRepeatedNgram(size=plan.options.no_repeat_ngram_size, pad_id=PAD_ID))
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


@dataclasses.dataclass(frozen=True)
class BoundDecoder:
    """The step function of a decoder for prepared sources."""

    decoder: Decoder | FusedDecoder
    prepared: PreparedContext

    def __call__(self, token_ids: Any, state: Any) -> tuple[Any, Any, Any]:
        step = self.decoder.step(token_ids, state, self.prepared)
        return step.logits, step.state, step.attention_weights

    def for_sentences(self, sentences: Any) -> "BoundDecoder":
        def gather(leaf: Any) -> Any:
            return None if leaf is None else tf.gather(leaf, sentences)

        return BoundDecoder(self.decoder, tf.nest.map_structure(gather, self.prepared))


@dataclasses.dataclass(frozen=True)
class ShortlistStep:
    """The step function of a fused decoder that writes each sentence with some tokens only.

    Attributes:
        step: Step function of the decoder.
        columns: `(columns,)` int32, the tokens of all sentences and padding.
        mask: `(batch, columns)`, True for the tokens of each sentence.
        logits: Matrix product that computes the logits of `columns`.
    """

    step: BoundDecoder
    columns: Any
    mask: Any
    logits: Product

    @classmethod
    def of(cls, step: BoundDecoder, columns: Any, mask: Any) -> "ShortlistStep":
        """Create the step function with some columns of the output matrix."""
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


def _bind_decoders(
    components: Sequence[SearchComponents], average: str, source_ids: Sequence[Any]
) -> tuple[Any, Any, Any]:
    """Return the step function of all models, its first state, and the mask of the first model's memory."""
    steps, states = [], []
    for one, ids in zip(components, source_ids, strict=True):
        prepared, state = one.prepare(ids)
        steps.append(BoundDecoder(one.decoder, prepared))
        states.append(state)
    mask = steps[0].prepared.mask
    return (steps[0], states[0], mask) if len(steps) == 1 else (ensemble_step(steps, average), tuple(states), mask)
