"""From strings to hypotheses in three steps: preprocess sources, search batches of them, postprocess what is found."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from seq2seq.config.sections import DecodingConfig
from seq2seq.decoding.candidates import GROUP_SIZE
from seq2seq.decoding.ensemble import AVERAGES
from seq2seq.decoding.interface import Hypotheses
from seq2seq.decoding.required_phrases import RequiredPhrases
from seq2seq.decoding.sampling import random_numbers
from seq2seq.errors import ArgumentError, ConfigError, DataError, Seq2SeqError
from seq2seq.models.base import require_list
from seq2seq.models.constraints import LexicalConstraints, PhraseVocabulary, TokenConstraints
from seq2seq.models.encoder_decoder import EncoderDecoder
from seq2seq.models.inference import IDS, InferenceCache, batches_of_like_length
from seq2seq.models.results import Hypothesis
from seq2seq.models.search_graph import Plan, compile_search, create_components, length_limits, numeric_options
from seq2seq.text.dataset import pad
from seq2seq.text.ids import END_ID, PAD_ID, UNKNOWN_ID
from seq2seq.threads import count_workers, map_parallel

USUAL_ROWS = 8
"""Hypotheses of a sentence above which a batch holds fewer sentences."""
BATCHES_PER_WORKER = 4
SMALL_BATCH = 512
"""Tokens of a batch below which its matrix products are too small to be fast."""
SPECIAL_TOKENS = 4
"""Tokens that a search takes for candidates, although it never writes them."""

BLANK = Hypothesis("", 0.0, 0.0, [END_ID], ["</s>"], [0.0])


@dataclasses.dataclass(frozen=True)
class SourceSentence:
    """A source ready for a search; `ids` are its tokens for each model."""

    index: int
    text: str
    ids: list[list[int]]
    constraints: TokenConstraints
    min_length: int
    max_length: int
    num_truncated_tokens: int

    @property
    def has_unknown(self) -> bool:
        """Return whether the source holds a token that is unknown to the first model."""
        return UNKNOWN_ID in self.ids[0]


class Translator:
    """Translate with one model or several, whose probabilities are averaged at every step of one search.

    Models may differ in everything but their target vocabulary. Each reads the source with its own tokenizer; length
    limits count the source tokens of the first model.

    Args:
        models: The models.
        average: `log_probs` or `probs`; see `seq2seq.decoding.ensemble_step`.
        decoding: Default options of `translate` and `generate`; None: the first model's.
        cache: Compiled searches; None: none yet.

    Raises:
        ArgumentError: There is no model, target vocabularies differ, or `average` is unknown.
        ModelFileError: A model has no tokenizer.

    >>> Ensemble([])
    Traceback (most recent call last):
    seq2seq.errors.ArgumentError: models must be at least one model, got []. Load some with seq2seq.load.
    """

    def __init__(
        self,
        models: Sequence[EncoderDecoder],
        average: str = "log_probs",
        decoding: DecodingConfig | None = None,
        cache: InferenceCache | None = None,
    ) -> None:
        if not models:
            raise ArgumentError("models", "at least one model", models, "Load some with seq2seq.load.")
        if average not in AVERAGES:
            raise ArgumentError("average", f"one of {', '.join(AVERAGES)}", average)
        targets = [model.require_tokenizer().target.model for model in models]
        for index, target in enumerate(targets):
            if target != targets[0]:
                raise ArgumentError(
                    "models",
                    "models that share one target vocabulary",
                    f"another one in models[{index}]",
                    "Train them with one tokenizer.",
                )
        self.decoding = decoding or models[0].decoding
        self._models = tuple(models)
        self._average = average
        self._cache = cache or InferenceCache()

    def generate(
        self,
        texts: Sequence[str],
        attention: bool = False,
        *,
        prefixes: Sequence[str | None] | None = None,
        required: Sequence[Sequence[str]] | None = None,
        banned: Sequence[Sequence[str]] | None = None,
        first_index: int = 0,
        progress: Callable[[int], None] | None = None,
        on_error: Callable[[int, Seq2SeqError], None] | None = None,
        **options: Any,
    ) -> list[list[Hypothesis]]:
        """Search for the `n_best` targets of each source, best first.

        The result for a source does not depend on the other sources, on their order or on batches; samples also depend
        on the index of the source.

        Args:
            texts: Sources. A blank source gives one blank hypothesis, unless its target has a prefix or required
                phrases.
            attention: Whether hypotheses hold attention weights.
            prefixes: Start of each target, in place of the option `prefix`; None or blank: the option's.
            required: Words or phrases that each target must contain, besides those of the option `required_phrases`.
            banned: Words or phrases that each target must not contain, besides those of the option `banned_phrases`.
            first_index: Index of the first source in a longer stream of sources, for sampling.
            progress: Function to call with the number of further sources done, after each batch.
            on_error: Function to call with the index in `texts` and the error of a source for which no target can be
                found; its list of hypotheses is empty. None: such an error is raised.
            **options: Settings of `seq2seq.config.sections.DecodingConfig` that differ from the defaults, such as
                `beam_size`.

        Returns:
            A list of hypotheses for each source, in order.

        Raises:
            ConfigError: An option has a bad value.
            DataError: A prefix or phrase cannot be written, or not within the length limit.
            TypeError: `texts` is one string.
        """
        require_list("texts", texts)
        settings = self.decoding.replaced(**options)
        constraints = LexicalConstraints.for_texts(texts, settings, prefixes, required, banned)
        self._check(settings, constraints, attention)
        results: list[list[Hypothesis]] = [[BLANK] for _ in texts]

        def refuse(index: int, error: Seq2SeqError) -> None:
            if on_error is None:
                raise type(error)(f"texts[{index}]: {error}") from error
            results[index] = []
            on_error(index, error)

        sentences = self.preprocess(texts, settings, constraints, first_index, refuse)
        if progress is not None and len(sentences) < len(texts):
            progress(len(texts) - len(sentences))
        for batch, hypotheses in self.search(sentences, settings, attention):
            for sentence, found in zip(batch, hypotheses, strict=True):
                results[sentence.index - first_index] = found
                if not found:
                    refuse(sentence.index - first_index, Seq2SeqError(NO_HYPOTHESIS))
            if progress is not None:
                progress(len(batch))
        return results

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """Return the best target of each source as a string, in order; a blank source gives a blank target.

        Args:
            texts: Sources.
            **options: As in `generate`.
        """
        return [hypotheses[0].text for hypotheses in self.generate(texts, **options | {"n_best": 1})]

    def preprocess(
        self,
        texts: Sequence[str],
        options: DecodingConfig,
        constraints: Sequence[LexicalConstraints],
        first_index: int,
        refuse: Callable[[int, Seq2SeqError], None],
    ) -> list[SourceSentence]:
        """Encode sources, all but blank ones, and the constraints of their targets; refuse what no target can meet."""
        kept = [index for index, text in enumerate(texts) if text.strip() or constraints[index].needs_target]
        whole = [model.require_tokenizer().source.encode([texts[i] for i in kept]) for model in self._models]
        cut = [model.truncate(ids) for model, ids in zip(self._models, whole, strict=True)]
        shortest, longest = (limits.numpy() for limits in length_limits(options, [len(ids) for ids in cut[0][0]]))
        sentences = []
        for row, index in enumerate(kept):
            encoded = TokenConstraints()
            try:
                if any(constraints[index]):
                    encoded = self._vocabulary.encode(constraints[index], int(longest[row]))
            except DataError as error:
                refuse(index, error)
                continue
            sentences.append(
                SourceSentence(
                    first_index + index,
                    texts[index],
                    [ids[row] for ids, _ in cut],
                    encoded,
                    int(shortest[row]),
                    int(longest[row]),
                    max(truncated[row] for _, truncated in cut),
                )
            )
        return sentences

    def search(
        self, sentences: Sequence[SourceSentence], options: DecodingConfig, attention: bool = False
    ) -> Iterator[tuple[list[SourceSentence], list[list[Hypothesis]]]]:
        """Yield batches of sentences of like length, each with the hypotheses of its sentences."""
        plan = self._plan(sentences, options, attention)
        budget = options.batch_tokens * USUAL_ROWS // max(USUAL_ROWS, plan.rows)
        lengths = [len(sentence.ids[0]) for sentence in sentences]
        budget = _share_among_workers(budget, sum(lengths))
        batches = [[sentences[index] for index in batch] for batch in batches_of_like_length(lengths, budget)]
        if not batches:
            return
        # A graph is traced on one thread, before the workers share it.
        search = self._compile(plan, batches[-1])
        if plan.has_unknown:
            self._copy_weights()

        def run(batch: list[SourceSentence]) -> list[list[Hypothesis]]:
            return self.postprocess(batch, search(self._inputs(batch, plan)), options)

        yield from zip(batches, map_parallel(run, batches, count_workers()), strict=True)

    def postprocess(
        self, batch: Sequence[SourceSentence], found: Hypotheses, options: DecodingConfig
    ) -> list[list[Hypothesis]]:
        """Turn the arrays of a search into hypotheses; a sentence without any gets an empty list."""
        results = []
        for sentence, hypotheses in zip(batch, self._unpack(batch, found), strict=True):
            if options.mbr_samples and hypotheses:
                hypotheses = consensus(hypotheses, options.n_best)
            if self._copies and sentence.has_unknown:
                hypotheses = [self._with_source_pieces(hypothesis, sentence) for hypothesis in hypotheses]
            results.append(hypotheses)
        return results

    @functools.cached_property
    def _copies(self) -> bool:
        # What one model copies of a source, another must find in it too.
        return all(model.decoder.copy != "none" for model in self._models)

    @property
    def _vocabulary(self) -> PhraseVocabulary:
        vocabulary: Any = self._models[0].require_tokenizer().target
        phrases: PhraseVocabulary = self._cache.get("vocabulary", lambda: PhraseVocabulary(vocabulary))
        return phrases

    def _plan(self, sentences: Sequence[SourceSentence], options: DecodingConfig, attention: bool) -> Plan:
        constraints = [sentence.constraints for sentence in sentences]
        return Plan(
            options,
            has_prefix=any(one.prefix for one in constraints),
            has_required=any(one.required for one in constraints),
            has_banned=any(one.banned for one in constraints),
            has_unknown=self._copies and any(sentence.has_unknown for sentence in sentences),
            has_attention=attention and all(model.decoder.context.is_attention for model in self._models),
        )

    def _compile(self, plan: Plan, batch: Sequence[SourceSentence]) -> Any:
        if plan.uses_fused_weights:
            self._cache.drop_outdated(self._models, lambda key: isinstance(key, Plan) and key.uses_fused_weights)

        def compile_plan() -> Any:
            components = [create_components(model, plan) for model in self._models]
            vocabulary = self._vocabulary if plan.has_required or plan.has_banned else None
            return compile_search(components, self._average, vocabulary, plan, self._inputs(batch, plan))

        return self._cache.get(plan, compile_plan)

    def _check(self, options: DecodingConfig, constraints: Sequence[LexicalConstraints], attention: bool) -> None:
        models, first = self._models, self._models[0]
        if options.prefix or options.required_phrases or options.banned_phrases:
            self._vocabulary.check(options)
        has_coverage = options.coverage_penalty != "none"
        have_attention = all(model.decoder.context.is_attention for model in models)
        have_same_steps = all(
            model.tokenizer == first.tokenizer and model.encoder.reduction == first.encoder.reduction
            for model in models
        )
        lexicon = first.lexicon
        longest = 0 if lexicon is None else lexicon.translations.shape[1]
        short = bool(options.shortlist)
        for setting, is_bad, requirement, advice in (
            ("sample", options.sample and any(one.required for one in constraints),
             "false where phrases are required", "Use a beam."),
            ("coverage_penalty", has_coverage and not have_attention, "none for a model without attention", ""),
            ("coverage_penalty", (attention or has_coverage) and not have_same_steps,
             "none, without attention weights, for models that cut sources into different steps", ""),
            ("shortlist", short and len(models) > 1, "0 for several models", ""),
            ("shortlist", short and any(map(any, constraints)), "0 for targets with constraints", ""),
            ("shortlist", short and first.decoder.copy != "none", "0 for a model that copies", ""),
            ("shortlist", short and lexicon is None, "0 for a model without a lexicon",
             "Let it learn one with seq2seq shortlist."),
            ("shortlist", options.shortlist > longest, f"at most {longest}", ""),
        ):  # fmt: skip
            if is_bad:
                value, key = getattr(options, setting), f"decoding.{setting}"
                raise ConfigError(f"{key} must be {requirement}, got {value!r}. {advice}".rstrip(), key)

    def _inputs(self, batch: Sequence[SourceSentence], plan: Plan) -> dict[str, Any]:
        sources = [[sentence.ids[number] for sentence in batch] for number in range(len(self._models))]
        longest = np.array([sentence.max_length for sentence in batch], np.int32)
        inputs: dict[str, Any] = numeric_options(plan.options) | {
            "source_ids": [pad(ids) for ids in sources],
            "max_steps": longest,
            "min_steps": np.array([sentence.min_length for sentence in batch], np.int32),
        }
        constraints = [sentence.constraints for sentence in batch]
        if plan.has_prefix:
            inputs["prefix_ids"] = pad([one.prefix or [PAD_ID] for one in constraints])
            inputs["prefix_lengths"] = np.array([len(one.prefix) for one in constraints], np.int32)
        if plan.has_required:
            required = RequiredPhrases.from_lists([one.required for one in constraints])
            inputs |= {"required_ids": required.token_ids, "required_overlaps": required.overlaps}
        if plan.has_banned:
            inputs |= self._vocabulary.banned_automata([one.banned for one in constraints])
        if plan.has_shortlist:
            inputs |= self._shortlist_inputs(sources[0], plan.options)
        if plan.has_unknown:
            inputs["has_unknown"] = np.array([sentence.has_unknown for sentence in batch])
        if plan.options.sample:
            indices = [sentence.index for sentence in batch]
            inputs["random_numbers"] = random_numbers(plan.options.seed, indices, plan.rows, int(longest.max()))
        return dict(tf.nest.map_structure(tf.constant, inputs))

    def _shortlist_inputs(self, source_ids: list[list[int]], options: DecodingConfig) -> dict[str, Any]:
        lexicon: Any = self._models[0].lexicon
        lists = [lexicon.shortlist(ids, options.shortlist) for ids in source_ids]
        columns = np.unique(np.concatenate(lists)).astype(np.int32)
        # The search for the best candidates needs whole groups of columns, and enough of them.
        least = GROUP_SIZE * (options.beam_size + SPECIAL_TOKENS)
        padding = max(least, -(-len(columns) // GROUP_SIZE) * GROUP_SIZE) - len(columns)
        mask = np.zeros((len(lists), len(columns) + padding), bool)
        for row, ids in zip(mask, lists, strict=True):
            row[np.searchsorted(columns, ids)] = True
        return {"shortlist_ids": np.pad(columns, (0, padding), constant_values=PAD_ID), "shortlist_mask": mask}

    def _unpack(self, batch: Sequence[SourceSentence], found: Hypotheses) -> Iterator[list[Hypothesis]]:
        first = self._models[0]
        vocabulary = first.require_tokenizer().target
        arrays: dict[str, Any] = {
            name: None if array is None else array.numpy() for name, array in found._asdict().items()
        }
        weights = arrays["attention_weights"]
        for row, sentence in enumerate(batch):
            lengths = arrays["lengths"][row]
            ranks = [rank for rank in range(len(lengths)) if lengths[rank] > 0]
            ids = [arrays["token_ids"][row, rank, : lengths[rank]].tolist() for rank in ranks]
            steps = -(-len(sentence.ids[0]) // first.encoder.reduction)
            yield [
                Hypothesis(
                    text,
                    float(arrays["scores"][row, rank]),
                    float(arrays["log_probs"][row, rank]),
                    tokens,
                    vocabulary.pieces(tokens),
                    arrays["token_log_probs"][row, rank, : len(tokens)].tolist(),
                    None if weights is None else weights[row, rank, : len(tokens), :steps],
                    sentence.num_truncated_tokens,
                )
                for rank, tokens, text in zip(ranks, ids, vocabulary.decode(ids), strict=True)
            ]

    def _copy_weights(self) -> Any:
        model = self._models[0]

        def copy_weights(source_ids: Any, target_ids: Any) -> Any:
            copies: Any = model.decode_teacher_forced({"source_ids": source_ids, "target_ids": target_ids}).copies
            return copies.weights

        return self._cache.compiled("copy_weights", copy_weights, IDS, IDS)

    def _with_source_pieces(self, hypothesis: Hypothesis, sentence: SourceSentence) -> Hypothesis:
        """Replace unknown tokens by the unknown source pieces that the first model most probably copied there.

        All characters or words that a tokenizer does not know are one token, which a search can copy.
        """
        if UNKNOWN_ID not in hypothesis.token_ids:
            return hypothesis
        model, source_ids = self._models[0], sentence.ids[0]
        ids = tf.constant(pad([source_ids])), tf.constant(pad([hypothesis.token_ids]))
        weights = self._copy_weights()(*ids).numpy()[0]
        is_unknown = np.array(source_ids) == UNKNOWN_ID
        positions = np.where(is_unknown, weights[:, : len(is_unknown)], -1.0).argmax(axis=1)
        source_pieces, pieces = model.source_pieces(sentence.text), list(hypothesis.pieces)
        for step, token in enumerate(hypothesis.token_ids):
            if token == UNKNOWN_ID:
                pieces[step] = source_pieces[positions[step]]
        return hypothesis._replace(text=model.require_tokenizer().target.join(pieces), pieces=pieces)


Ensemble = Translator
"""The same class under the name of its use with several models."""

NO_HYPOTHESIS = (
    "no hypothesis was found, since the model's scores are not numbers. "
    "Load another checkpoint, or train again with a lower training.learning_rate."
)


def consensus(samples: Sequence[Hypothesis], n_best: int) -> list[Hypothesis]:
    """Return the samples that agree best with all samples: minimum Bayes risk under chrF (Eikema and Aziz 2020).

    The mean chrF with all samples, duplicates included, estimates the expected chrF of a text under the model.

    >>> samples = [Hypothesis(text, -1.0, -1.0, [3], ["</s>"], [-1.0]) for text in ("ab", "abc", "xyz", "abc")]
    >>> consensus(samples, n_best=1)[0].text
    'abc'
    """
    # sacreBLEU takes a quarter of a second to import, which most decoding does not need.
    from seq2seq.metrics.translation import pairwise_chrf

    first = {sample.text: sample for sample in reversed(samples)}
    counts = Counter(sample.text for sample in samples)
    texts = list(counts)
    weights = np.array([counts[text] for text in texts]) / len(samples)
    agreement = np.array(pairwise_chrf(texts)) @ weights
    order = sorted(range(len(texts)), key=lambda place: (-agreement[place], -first[texts[place]].log_prob))
    return [first[texts[place]]._replace(score=float(agreement[place])) for place in order[:n_best]]


def _share_among_workers(batch_tokens: int, tokens: int) -> int:
    """Return a budget of a batch that gives each worker several batches, so that none finishes long after the rest."""
    workers = count_workers()
    if workers == 1:
        return batch_tokens
    return min(batch_tokens, max(SMALL_BATCH, tokens // (BATCHES_PER_WORKER * workers)))
