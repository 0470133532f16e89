"""From strings to hypotheses: batches of sources through a compiled search, back in the order they came in."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.text.dataset import pad
from seq2seq.text.ids import UNKNOWN_ID

if TYPE_CHECKING:
    from seq2seq.models.seq2seq import Seq2Seq
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from seq2seq.config.sections import DecodingConfig
from seq2seq.decoding.candidates import GROUP_SIZE
from seq2seq.decoding.interface import Hypotheses
from seq2seq.decoding.required_phrases import RequiredPhrases
from seq2seq.decoding.sampling import random_numbers
from seq2seq.errors import ConfigError, Seq2SeqError
from seq2seq.models.constraints import Constraints, Vocabulary, Wish
from seq2seq.models.search_graph import Packing, Plan, compile_search, numbers_of
from seq2seq.text.ids import END_ID, PAD_ID
from seq2seq.threads import count_workers, map_parallel

if TYPE_CHECKING:
    from seq2seq.models.seq2seq import Seq2Seq
from typing import TYPE_CHECKING

from seq2seq.decoding.ensemble import AVERAGES
from seq2seq.models.constraints import wishes

if TYPE_CHECKING:
    from seq2seq.models.seq2seq import Seq2Seq


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
        num_truncated_tokens: Tokens of the source that were not read, for it has more than the model's recipe allows.
    """

    text: str
    score: float
    log_prob: float
    token_ids: list[int]
    pieces: list[str]
    token_log_probs: list[float]
    attention_weights: np.ndarray | None = None
    num_truncated_tokens: int = 0

    @property
    def alignment(self) -> list[int] | None:
        """The step of the memory, as a rule the source token, that each token attended to most: the hard alignment.

        None without attention weights.

        >>> weights = np.array([[0.1, 0.9], [0.8, 0.2]])
        >>> Hypothesis("a", -0.5, -0.5, [7, 3], ["a", "</s>"], [-0.3, -0.2], weights).alignment
        [1, 0]
        """
        return None if self.attention_weights is None else self.attention_weights.argmax(axis=-1).tolist()


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
        return hypothesis._replace(text=model.require_tokenizer().target.join(pieces), pieces=pieces)

    @functools.cached_property
    def _weights(self) -> Any:
        """What a known target copies by, `(batch, target_steps, source_steps)`."""

        def weights(source_ids: Any, target_ids: Any) -> Any:
            copies: Any = self._model.decode_teacher_forced({"source_ids": source_ids, "target_ids": target_ids}).copies
            return copies.weights

        ids = tf.TensorSpec([None, None], tf.int32)
        return tf.function(weights, input_signature=[ids, ids], autograph=False)


# A sentence with more hypotheses than this counts for more in a batch, which then holds fewer sentences.
USUAL_ROWS = 8

BATCHES_A_WORKER = 4
SMALL_BATCH = 512
"""Tokens of a batch below which its products are too small to be fast."""

SPECIAL_TOKENS = 4
"""Those that no search produces are candidates too, before they are sorted out."""

BLANK = Hypothesis("", 0.0, 0.0, [END_ID], ["</s>"], [0.0])


class Generator:
    """The searches of one model, or of several that vote, each compiled once for all shapes."""

    def __init__(self, models: Sequence["Seq2Seq"], average: str = "log_probs") -> None:
        self._models = tuple(models)
        self._average = average
        self._searches: dict[Plan, Any] = {}
        self._packing = Packing(self._models)
        # What one model copies of a source another must be able to read there too.
        self._copy = all(model.decoder.copy != "none" for model in self._models)
        self._unknown_pieces = UnknownPieces(self._models[0])

    def generate(
        self,
        texts: list[str],
        options: DecodingConfig,
        attention: bool,
        wishes: list[Wish],
        first_index: int,
        progress: Callable[[int], None] | None = None,
    ) -> list[list[Hypothesis]]:
        """The `n_best` hypotheses of each text; see `Seq2Seq.generate`."""
        self._check(options, attention, wishes)
        results = [[BLANK] for _ in texts]
        kept = [place for place, text in enumerate(texts) if text.strip() or any(wishes[place][:2])]
        sources_kept = [texts[place] for place in kept]
        whole = [model.require_tokenizer().source.encode(sources_kept) for model in self._models]
        source_ids = [
            [model.truncation.cut(ids) for ids in of_model] for model, of_model in zip(self._models, whole, strict=True)
        ]
        limits = [_longest_target(len(ids), options) for ids in source_ids[0]]
        constraints = [
            self._vocabulary.constraints(wishes[place], place, limit) if any(wishes[place]) else Constraints([], [], [])
            for place, limit in zip(kept, limits, strict=True)
        ]
        plan = Plan.of(
            options,
            prefix=any(one.prefix for one in constraints),
            required=any(one.required for one in constraints),
            banned=any(one.banned for one in constraints),
            attention=attention and all(model.decoder.context.is_attention for model in self._models),
            unknown=self._copy and any(UNKNOWN_ID in ids for ids in source_ids[0]),
        )
        if plan.uses_fused_weights and self._packing.is_outdated():
            # What is packed is part of the compiled searches.
            self._searches = {known: one for known, one in self._searches.items() if not known.uses_fused_weights}
        batch_tokens = options.batch_tokens * USUAL_ROWS // max(USUAL_ROWS, plan.rows)

        def inputs_of(batch: list[int]) -> dict[str, Any]:
            sources = [[ids[place] for place in batch] for ids in source_ids]
            inputs: dict[str, Any] = numbers_of(options) | {
                "source_ids": [pad(one) for one in sources],
                "max_steps": np.array([limits[place] for place in batch], np.int32),
                "min_steps": np.array([_shortest_target(len(ids), options) for ids in sources[0]], np.int32),
            }
            inputs |= self._constraint_inputs([constraints[place] for place in batch], plan)
            if plan.has_shortlist:
                inputs |= self._shortlist_inputs(sources[0], options)
            if plan.has_unknown:
                inputs["has_unknown"] = np.array([UNKNOWN_ID in ids for ids in sources[0]])
            if plan.sample:
                indices = [first_index + kept[place] for place in batch]
                inputs["random_numbers"] = random_numbers(
                    options.seed, indices, plan.rows, int(inputs["max_steps"].max())
                )
            found: dict[str, Any] = tf.nest.map_structure(tf.constant, inputs)
            return found

        def search(batch: list[int]) -> list[list[Hypothesis]]:
            memory_steps = [-(-len(source_ids[0][place]) // self._models[0].encoder.reduction) for place in batch]
            hypotheses = self._unpack(self._searches[plan](inputs_of(batch)), memory_steps)
            return [consensus(few, options.n_best) for few in hypotheses] if options.mbr_samples else list(hypotheses)

        batches = list(_batches(source_ids[0], _shared_out(batch_tokens, sum(map(len, source_ids[0])))))
        if batches and plan not in self._searches:
            # Here and not by each worker: a graph is traced on one thread.
            parts = self._packing.parts(plan.precision, plan.uses_fused_weights)
            inputs = inputs_of(batches[-1])
            self._searches[plan] = compile_search(parts, self._average, self._vocabulary, plan, inputs)
        if progress is not None and len(kept) < len(texts):
            progress(len(texts) - len(kept))
        for batch, found in zip(batches, map_parallel(search, batches, count_workers()), strict=True):
            for place, hypotheses in zip(batch, found, strict=True):
                num_truncated_tokens = max(
                    len(every[place]) - len(read[place]) for every, read in zip(whole, source_ids, strict=True)
                )
                found_here = [
                    hypothesis._replace(num_truncated_tokens=num_truncated_tokens) for hypothesis in hypotheses
                ]
                results[kept[place]] = (
                    self._unknown_pieces.restored(found_here, sources_kept[place]) if plan.has_unknown else found_here
                )
            if progress is not None:
                progress(len(batch))
        return results

    @functools.cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._models[0].require_tokenizer())

    def _check(self, options: DecodingConfig, attention: bool, wishes: list[Wish]) -> None:
        if options.sample and any(wish.required for wish in wishes):
            raise ConfigError(
                "decoding.sample must be false where phrases are required, but is true instead. Use a beam.",
                "decoding.sample",
            )
        if options.prefix or options.required_phrases or options.banned_phrases:
            self._vocabulary.check(options)
        if options.shortlist:
            self._check_shortlist(options, wishes)
        reads = all(model.decoder.context.is_attention for model in self._models)
        if options.coverage_penalty != "none" and not reads:
            raise ConfigError(
                "decoding.coverage_penalty must be none for a model without attention, but is "
                f"{options.coverage_penalty!r} instead. Leave it out.",
                "decoding.coverage_penalty",
            )
        first = self._models[0]
        is_one_source = all(
            model.tokenizer == first.tokenizer and model.encoder.reduction == first.encoder.reduction
            for model in self._models
        )
        if (attention or options.coverage_penalty != "none") and not is_one_source:
            raise ConfigError(
                "attention and decoding.coverage_penalty need models that cut sources into the same tokens, and join "
                "as many of them to a step, but these do not. Leave both out.",
                "decoding.coverage_penalty",
            )

    def _constraint_inputs(self, constraints: list[Constraints], plan: Plan) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        if plan.has_prefix:
            inputs["prefix_ids"] = pad([one.prefix or [PAD_ID] for one in constraints])
            inputs["prefix_lengths"] = np.array([len(one.prefix) for one in constraints], np.int32)
        if plan.has_required:
            required = RequiredPhrases.from_lists([one.required for one in constraints])
            inputs |= {"required_ids": required.token_ids, "required_overlaps": required.overlaps}
        if plan.has_banned:
            inputs |= self._vocabulary.banned_automata([one.banned for one in constraints])
        return inputs

    def _check_shortlist(self, options: DecodingConfig, wishes: list[Wish]) -> None:
        key = "decoding.shortlist"
        if len(self._models) > 1:
            raise ConfigError(f"{key} must be 0 for several models, but is {options.shortlist} instead.", key)
        if any(map(any, wishes)):
            raise ConfigError(f"{key} must be 0 where a sentence has wishes, but is {options.shortlist} instead.", key)
        if self._models[0].decoder.copy != "none":
            raise ConfigError(f"{key} must be 0 for a model that copies, but is {options.shortlist} instead.", key)
        lexicon = self._models[0].lexicon
        if lexicon is None:
            raise ConfigError(
                f"{key} must be 0 for a model without a lexicon, but is {options.shortlist} instead. Let it learn one "
                "with seq2seq shortlist.",
                key,
            )
        most = lexicon.translations.shape[1]
        if options.shortlist > most:
            raise ConfigError(f"{key} must be at most {most}, but is {options.shortlist} instead.", key)

    def _shortlist_inputs(self, source_ids: list[list[int]], options: DecodingConfig) -> dict[str, Any]:
        lexicon: Any = self._models[0].lexicon
        lists = [lexicon.shortlist(ids, options.shortlist) for ids in source_ids]
        columns = np.unique(np.concatenate(lists)).astype(np.int32)
        # As many as the search of the best asks for: enough groups, and no part of one.
        least = GROUP_SIZE * (options.beam_size + SPECIAL_TOKENS)
        padding = max(least, -(-len(columns) // GROUP_SIZE) * GROUP_SIZE) - len(columns)
        mask = np.zeros((len(lists), len(columns) + padding), bool)
        for row, ids in zip(mask, lists, strict=True):
            row[np.searchsorted(columns, ids)] = True
        return {"shortlist_ids": np.pad(columns, (0, padding), constant_values=PAD_ID), "shortlist_mask": mask}

    def _unpack(self, found: Hypotheses, memory_steps: list[int]) -> Iterator[list[Hypothesis]]:
        tokenizer = self._models[0].require_tokenizer()
        token_ids, scores, lengths, log_probs, token_log_probs = (
            field.numpy()
            for field in (found.token_ids, found.scores, found.lengths, found.log_probs, found.token_log_probs)
        )
        weights = None if found.attention_weights is None else found.attention_weights.numpy()
        for row, steps in enumerate(memory_steps):
            exist = [place for place in range(lengths.shape[1]) if lengths[row, place] > 0]
            if not exist:
                raise Seq2SeqError(
                    "The search must find a hypothesis, but finds none: the model's scores are not numbers. "
                    "Load another checkpoint, or train again with a lower training.learning_rate."
                )
            ids = [token_ids[row, place, : lengths[row, place]].tolist() for place in exist]
            yield [
                Hypothesis(
                    text,
                    float(scores[row, place]),
                    float(log_probs[row, place]),
                    tokens,
                    tokenizer.target.pieces(tokens),
                    token_log_probs[row, place, : len(tokens)].tolist(),
                    None if weights is None else weights[row, place, : len(tokens), :steps],
                )
                for place, tokens, text in zip(exist, ids, tokenizer.target.decode(ids), strict=True)
            ]


def consensus(samples: Sequence[Hypothesis], n_best: int) -> list[Hypothesis]:
    """The samples that agree best with all samples: minimum Bayes risk under chrF (Eikema and Aziz 2020).

    A sample stands for its share of the probability, so the mean chrF with all samples, equal ones counted as often as
    they were drawn, estimates what a text is worth when the right one is drawn from the model.

    >>> samples = [Hypothesis(text, -1.0, -1.0, [3], ["</s>"], [-1.0]) for text in ("ab", "abc", "xyz", "abc")]
    >>> consensus(samples, n_best=1)[0].text
    'abc'
    """
    # sacreBLEU and its companions take a quarter of a second to import, which most decoding can do without.
    from seq2seq.metrics.translation import pairwise_chrf

    first = {sample.text: sample for sample in reversed(samples)}
    counts = Counter(sample.text for sample in samples)
    texts = list(counts)
    weights = np.array([counts[text] for text in texts]) / len(samples)
    worth = np.array(pairwise_chrf(texts)) @ weights
    order = sorted(range(len(texts)), key=lambda place: (-worth[place], -first[texts[place]].log_prob))
    return [first[texts[place]]._replace(score=float(worth[place])) for place in order[:n_best]]


def _longest_target(source_length: int, options: DecodingConfig) -> int:
    limit = int(options.max_length_ratio * source_length) + options.max_length_extra
    # A small ratio of a short source may leave no token at all, and a target has one: its end.
    return max(1, min(limit, options.max_length))


def _shortest_target(source_length: int, options: DecodingConfig) -> int:
    return max(options.min_length, int(options.min_length_ratio * source_length))


def _shared_out(batch_tokens: int, tokens: int) -> int:
    """The most tokens of a batch, so that each worker has several: the last to be done shall not be long alone."""
    workers = count_workers()
    if workers == 1:
        return batch_tokens
    return min(batch_tokens, max(SMALL_BATCH, tokens // (BATCHES_A_WORKER * workers)))


def _batches(source_ids: list[list[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Places of sources of similar length, longest first, at most `batch_tokens` a batch with its padding."""
    order = sorted(range(len(source_ids)), key=lambda place: -len(source_ids[place]))
    batch: list[int] = []
    for place in order:
        if batch and len(source_ids[batch[0]]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


class Translator:
    """Text in, text out.

    Attributes:
        decoding: Defaults of `translate` and `generate`.
    """

    decoding: DecodingConfig
    _generator: Generator

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
        **options: Any,
    ) -> list[list[Hypothesis]]:
        """Searches for the targets of sources, the `n_best` of each, best first.

        What is found for a source does not depend on the others, on their order or on how they are batched; only what
        is drawn with `sample` depends on a source's place too.

        Args:
            texts: Sources. A blank one gives one blank hypothesis, unless its target has a prefix or required phrases.
            attention: Whether each hypothesis tells what its tokens attended to.
            prefixes: What each target starts with, in place of the option `prefix`; None or blank: as that says.
            required: Words or phrases that each target holds, besides those of the option `required_phrases`.
            banned: Words or phrases that each target does not hold, besides those of the option `banned_phrases`.
            first_index: Place of the first source in a longer list that comes in pieces, for `sample`.
            progress: Is called with how many more sources are done, batch by batch.
            **options: Settings of `DecodingConfig` that differ from the model's own, such as `beam_size`.

        Returns:
            A list of hypotheses a source, in the order of `texts`.

        Raises:
            ConfigError: An option has a bad value.
            DataError: A prefix or phrase cannot be written, or not within the length limit; the message says which.
            ModelFileError: The model has no tokenizer.
            TypeError: `texts` is one string, which would be read letter by letter.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of strings, but is {texts!r} instead. Put it into a list.")
        changed = self.decoding.replaced(**options)
        wanted = wishes(texts, changed, prefixes, required, banned)
        return self._generator.generate(list(texts), changed, attention, wanted, first_index, progress)

    def translate(self, texts: Sequence[str], **options: Any) -> list[str]:
        """The best target of each source, as strings in the same order; a blank source gives a blank one.

        Args:
            texts: Sources.
            **options: As for `generate`.
        """
        return [hypotheses[0].text for hypotheses in self.generate(texts, **options | {"n_best": 1})]


class Ensemble(Translator):
    """Models whose probabilities are averaged at every step of one search, which beats the best of them as a rule.

    They may differ in everything but their target vocabulary. Each reads the source with its own tokenizer; limits of
    the length count the first model's source tokens.

    Args:
        models: The models.
        average: `log_probs` or `probs`; see `seq2seq.decoding.ensemble_step`.
        decoding: Defaults of `translate` and `generate`; None: the first model's.

    Raises:
        ModelFileError: A model has no tokenizer.
        ValueError: There is no model, another target vocabulary, or an unknown `average`.

    >>> Ensemble([])
    Traceback (most recent call last):
    ValueError: models must hold at least one model, but is empty instead. Load some with seq2seq.load.
    """

    def __init__(
        self, models: Sequence["Seq2Seq"], average: str = "log_probs", decoding: DecodingConfig | None = None
    ) -> None:
        if not models:
            raise ValueError("models must hold at least one model, but is empty instead. Load some with seq2seq.load.")
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, but is {average!r} instead.")
        # The only model of a joint tokenizer, or the target's of two.
        targets = [list(model.require_tokenizer().models.values())[-1] for model in models]
        for place, target in enumerate(targets):
            if target != targets[0]:
                raise ValueError(
                    f"models must share one target vocabulary, but that of models[{place}] is not that of models[0] "
                    "instead. Train them with one tokenizer."
                )
        self.decoding = decoding or models[0].decoding
        self._generator = Generator(models, average)
