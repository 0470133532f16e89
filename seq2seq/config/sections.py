"""Settings of a run as frozen sections that check each value; rules between settings stand with what they protect.

Of the libraries compared for settings, pydantic checks dataclasses without making them anything else: a section is
passed on as the keyword arguments of a layer. The text under a setting is its help.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic.dataclasses import dataclass

from seq2seq.config.base import STRICT, Factor, Name, Rate, Section, Unique, Words, with_weights
from seq2seq.errors import ArgumentError

Phrases = Annotated[tuple[Annotated[str, Field(pattern=r"\S")], ...], Unique]
ContextInput = Literal["state", "input", "readout"]
Cell = Literal["rnn", "lstm", "gru", "gru_reset_before", "gru_simplified"]
UpdateGate = Literal["keep", "write"]


@dataclass(frozen=True, config=STRICT)
class RunConfig(Section):
    """Name, folder and seed of a run."""

    name: str = "run"
    """Name of the run and of its folder; default: the name of the recipe's folder."""
    folder: str = "checkpoints"
    """Folder of the runs' folders, relative to where the command runs."""
    seed: NonNegativeInt = 0
    """Seed of all of the run's randomness: the same seed gives the same run."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in ("", ".", "..") or set(self.name) & set("/\\\0"):
            raise ArgumentError("name", "a folder's name, without slashes", self.name)
        return self

    @property
    def path(self) -> pathlib.Path:
        """The folder of this run's results."""
        return pathlib.Path(self.folder) / self.name


@dataclass(frozen=True, config=STRICT)
class DataConfig(Section):
    """Files of the pairs of texts, and the treatment of lines that cannot be used."""

    folder: Name = "."
    """Folder of the files, relative to where the command runs; default: the recipe's own folder."""
    format: Literal["parallel", "tsv", "jsonl"] = "parallel"
    """parallel: two files of lines, {train}.{source} and {train}.{target}; tsv: columns; jsonl: an object a line.
    Every file may end in .gz."""
    source: Name = "source"
    """What to translate from: a file ending (parallel), a column's number from 1 (tsv) or a key (jsonl)."""
    target: Name = "target"
    """What to translate into, named in the same way."""
    columns: PositiveInt | None = None
    """Number of columns of every line of a tsv file; null: any number that includes source and target."""
    train: Annotated[Name | dict[Name, PositiveFloat], BeforeValidator(with_weights)] = "train"
    """Name of the training files, without their ending; or several names, each with its weight, which is how many
    times an epoch holds each of its pairs: {news: 2, web: 0.5}, as a flag news=2 web=0.5."""
    dev: str | None = "dev"
    """Name of the files that choose the best checkpoint; null: take `dev_size` pairs from the training files."""
    test: str | None = "test"
    """Name of the files that are scored once, after training; null: none."""
    agreement: str | None = None
    """A file of agreement items (distractors, source, target, right form, wrong form), scored after training."""
    dev_size: NonNegativeInt = 0
    """Number of pairs taken out of training to be the dev set, drawn with the run's seed; only with `dev: null`."""
    on_bad_line: Literal["error", "skip"] = "error"
    """A line that cannot be used: stop and name it, or skip it and report how many were skipped."""
    max_line_characters: PositiveInt = 10_000
    """A line longer than this cannot be used."""
    max_source_tokens: PositiveInt = 256
    """A source of more tokens than this cannot be used in training, unless `truncate` shortens it."""
    truncate: Literal["none", "head", "head_tail"] = "none"
    """What a source of more than `max_source_tokens` tokens is shortened to, in training and in use: its beginning, or
    half of it from either end. none: no source is shortened, and a model reads sources of any length."""
    max_target_tokens: PositiveInt = 256
    """A target of more tokens than this cannot be used in training."""
    origin: str = ""
    """Where the files can be had, in a sentence: shown when they are missing."""

    @property
    def corpora(self) -> dict[str, float]:
        """Names of the training files with their weights, in an order that does not depend on the recipe's."""
        return {self.train: 1.0} if isinstance(self.train, str) else dict(sorted(self.train.items()))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.corpora:
            raise ArgumentError("train", "a name, or names with a weight each", self.train)
        if self.source == self.target:
            raise ArgumentError("target", "other than data.source", self.target)
        if self.columns and self.format != "tsv":
            raise ArgumentError("columns", f"null where data.format is {self.format}", self.columns)
        if self.format == "tsv":
            for name, column in (("source", self.source), ("target", self.target)):
                if not (column.isascii() and column.isdigit() and int(column) >= 1):
                    raise ArgumentError(name, "a column's number from 1 where data.format is tsv", column)
                if self.columns and int(column) > self.columns:
                    raise ArgumentError(name, f"at most data.columns ({self.columns})", column)
        if self.truncate != "none" and self.max_source_tokens < 3:
            requirement = f"at least 3 where data.truncate is {self.truncate}"
            raise ArgumentError("max_source_tokens", requirement, self.max_source_tokens, "One is the end token.")
        if self.dev is None and self.dev_size == 0:
            advice = "Name a dev set, or say how many training pairs to hold out."
            raise ArgumentError("dev_size", "at least 1 where data.dev is null", 0, advice)
        if self.dev is not None and self.dev_size > 0:
            advice = "Set data.dev to null to hold pairs out of training."
            raise ArgumentError("dev_size", f"0 where data.dev names files ({self.dev})", self.dev_size, advice)
        return self


@dataclass(frozen=True, config=STRICT)
class TokenizerConfig(Section):
    """The SentencePiece model that is trained on the training files."""

    kind: Literal["unigram", "bpe", "char", "word"] = "unigram"
    """What a piece is; `word` splits at spaces only."""
    shared: bool = True
    """One vocabulary for source and target, or one for each."""
    vocabulary_size: PositiveInt = 8_000
    """Number of pieces, of the source alone where `shared` is false; `char` and `word` may have fewer."""
    target_vocabulary_size: PositiveInt | None = None
    """Number of pieces of the target where `shared` is false; null: the same as the source."""
    character_coverage: Annotated[float, Field(ge=0.98, le=1)] = 1.0
    """Share of the characters of the training files that get a piece; lower for scripts of thousands of characters."""
    byte_fallback: bool = False
    """Spell characters without a piece in bytes, instead of as unknown (unigram and bpe)."""
    user_symbols: Words = ()
    """Strings that are always one piece."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """Unicode normalisation of the text; those in _cf also fold case."""


@dataclass(frozen=True, config=STRICT)
class EncoderConfig(Section):
    """The recurrent layers that read the source."""

    cell: Cell = "gru"
    """The recurrence of every layer; gru has its reset gate after the recurrent product, as cuDNN, gru_reset_before
    before it, and gru_simplified has none."""
    update_gate: UpdateGate = "keep"
    """Meaning of an open update gate of a GRU: keep the past, or write over it. One model, written in two ways."""
    units: PositiveInt = 256
    """Size of a layer's state, in each direction."""
    num_layers: PositiveInt = 1
    """Number of layers, one above the other."""
    bidirectional: bool = True
    """Read the source in both directions and join both outputs, which makes the memory twice `units` wide."""
    residual: bool = False
    """Add a layer's input to its output, from the second layer on."""
    front_end: Literal["none", "convolution", "mean", "max"] = "none"
    """For long sources: make one step of `stride` neighbouring embeddings, by a convolution or by pooling."""
    stride: PositiveInt = 1
    """Source tokens that the front end makes into one step; 1 without one."""
    kernel_size: PositiveInt | None = None
    """Source tokens that each step of the convolution reads; null: `stride`, so that they do not overlap."""
    subsample: PositiveInt = 1
    """Steps of the layer below that each layer above the first reads joined as one; 1: none are joined."""

    @property
    def reductions(self) -> list[int]:
        """Source tokens that a step of each layer stands for."""
        return [self.stride * self.subsample**index for index in range(self.num_layers)]


@dataclass(frozen=True, config=STRICT)
class DecoderConfig(Section):
    """The recurrent layers that write the target."""

    cell: Cell = "gru"
    """The recurrence of every layer, as for the encoder."""
    update_gate: UpdateGate = "keep"
    """Meaning of an open update gate of a GRU, as for the encoder."""
    units: PositiveInt = 512
    """Size of a layer's state."""
    num_layers: PositiveInt = 1
    """Number of layers, one above the other."""
    attention_position: Literal["after", "between"] = "after"
    """Where the context is read: after the last layer, or between the first and the second, which then reads it too."""
    input_feeding: bool = False
    """Feed the first layer the readout of the step before; slower, since training then runs step by step."""
    residual: bool = False
    """Add a layer's input to its output, from the second layer on."""


@dataclass(frozen=True, config=STRICT)
class AttentionConfig(Section):
    """Attention to the source, where `model.context` is attention."""

    score: Literal["dot", "scaled_dot", "general", "additive", "location", "local", "multi_head"] = "dot"
    """How well a query fits a source step."""
    units: PositiveInt | None = None
    """Inner size of the scores additive, location and multi_head; null: the decoder's units."""
    num_heads: PositiveInt = 4
    """Number of heads of the score multi_head."""
    window: PositiveInt = 5
    """Steps of the encoder's output on each side of the centre that the score local sees."""
    coverage: bool = False
    """Let the score know how much attention a step has had; in training attention then runs step by step."""


@dataclass(frozen=True, config=STRICT)
class ModelConfig(Section):
    """The encoder-decoder."""

    embedding_size: PositiveInt = 256
    """Width of the embeddings."""
    tie_embeddings: Literal["none", "source_target", "output", "all"] = "none"
    """Which matrices are one: source and target embeddings, target embeddings and output, or all three."""
    context: Literal["last", "projected", "mean", "max", "sum", "attentive", "attention"] = "attention"
    """What the decoder reads of the source: its last step, projected or not, a pooling, the answer to one learned query
    (attentive), or attention at every step."""
    context_inputs: Annotated[tuple[ContextInput, ...], Unique] = ("state", "readout")
    """Where the context enters: the decoder's first state, its input at every step, its output before the logits."""
    readout_size: PositiveInt | None = None
    """Width of the readout before the logits; null: `embedding_size`."""
    copy: Literal["none", "reuse", "separate"] = "none"
    """Copy tokens of the source instead of writing them, by the weights of the context's attention (reuse) or of an
    attention of its own (separate); source and target must share one vocabulary."""
    force_copy: bool = False
    """Teach the copy gate: in training a target token that occurs in the source must be copied."""
    embedding_dropout: Rate = 0.0
    """Share of the embeddings of source and target that training drops, the same at all steps of a sentence."""
    dropout: Rate = 0.0
    """Share of a recurrent layer's output that training drops before the next layer, in encoder and decoder."""
    context_dropout: Rate = 0.0
    """Share of the encoder's output that training drops before the decoder reads it."""
    readout_dropout: Rate = 0.0
    """Share of the decoder's readout that training drops before the logits."""
    source_word_dropout: Rate = 0.0
    """Share of the source tokens that training replaces by the unknown token."""
    target_word_dropout: Rate = 0.0
    """Share of the target tokens that training replaces by the unknown token in the decoder's input only."""
    label_smoothing: Rate = 0.0
    """Probability that the loss takes from the right token and spreads over all."""
    coverage_loss: NonNegativeFloat = 0.0
    """Weight in the training loss of attention to places that were attended to before, against repetitions."""
    implementation: Literal["auto", "cudnn", "scan", "raw"] = "auto"
    """The kernel of the recurrent layers; auto takes the fastest that the machine and the model allow."""
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
    attention: AttentionConfig = dataclasses.field(default_factory=AttentionConfig)


@dataclass(frozen=True, config=STRICT)
class TrainingConfig(Section):
    """The loop: how long, on which batches, with which optimizer, and which weights are saved."""

    epochs: PositiveInt = 20
    """Times to go through the training pairs."""
    minutes: NonNegativeFloat = 0.0
    """Stop after this many minutes of training, whatever the epoch; 0: no limit."""
    batch_tokens: PositiveInt = 4_096
    """Tokens in a batch at most, source and target and their padding together."""
    accumulate: PositiveInt = 1
    """Batches that make one update, as one batch of their tokens would, in the memory of one."""
    workers: NonNegativeInt = 0
    """Parts of a batch that are computed at the same time, each on cores of its own; 0: one for each core, at most
    four, and one where there is a GPU. Another number rounds otherwise, and drops other units."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """The rule that moves the weights; adamw also decays them."""
    learning_rate: PositiveFloat = 0.002
    """The highest learning rate, reached at the end of the warm-up."""
    schedule: Literal["constant", "cosine", "inverse_square_root", "plateau"] = "cosine"
    """How the learning rate goes on after the warm-up: level, down to almost nothing at the last
    epoch, with one over the root of the steps, or lower each time that the dev score no longer gains."""
    plateau_factor: Factor = 0.5
    """What the schedule plateau multiplies the learning rate by."""
    plateau_patience: PositiveInt = 2
    """Evaluations without improvement after which the schedule plateau lowers the learning rate."""
    warmup_steps: NonNegativeInt = 200
    """Steps in which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.0
    """Strength of the decay of weights, not of biases and embeddings; only with adamw."""
    l2: NonNegativeFloat = 0.0
    """Weight in the loss of the squared weights, not of biases and embeddings; with adam too."""
    clip_norm: NonNegativeFloat = 1.0
    """Largest norm of all gradients together; 0: never clipped."""
    sampling_alpha: NonNegativeFloat = 0.0
    """Subword sampling of the training pairs: smoothing of the unigram model, or dropout of merges in bpe; 0: off."""
    sampling_nbest: int = -1
    """Segmentations that the unigram model samples from; -1: all of them."""
    ema: Rate = 0.0
    """Decay of the moving average of the weights, which is what gets evaluated and saved; 0: off."""
    init_from: str | None = None
    """Fine-tuning: a model file whose weights and tokenizer the run starts from; null: random weights."""
    reinitialize: Words = ()
    """Layers or weights that start at random in spite of `init_from`, such as decoder/readout: those that the other
    model lacks, or has in another shape, must be named here."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers of the matrix products; auto: those that the machine multiplies fastest, bfloat16 before float16, whose
    loss is scaled. Weights, losses and attention scores are float32 in any case."""
    evaluate_every: PositiveFloat = 1.0
    """Epochs between two evaluations on the dev set; 0.5 is twice an epoch."""
    monitor: Literal[
        "loss", "perplexity", "bleu", "chrf", "exact_match",
        "rouge_1", "rouge_2", "rouge_l", "token_f1", "accuracy", "macro_f1",
    ] = "loss"  # fmt: skip
    """The dev score that chooses the checkpoint to keep and stops training; bleu and chrf where the task is translate,
    rouge_1, rouge_2, rouge_l and token_f1 where it is summarize, accuracy and macro_f1 where it gives labels."""
    patience: NonNegativeInt = 0
    """Evaluations without improvement after which training stops; 0: never."""
    average_checkpoints: NonNegativeInt = 0
    """At the end average the weights of this many best evaluations, and keep the average if it is better; 0: off."""
    save_every: NonNegativeInt = 1_000
    """Updates after which the state is saved between evaluations too, for --resume after a crash; 0: never."""
    max_skipped_steps: PositiveInt = 10
    """Steps skipped in a row, for an infinite or undefined gradient, until the run rolls back to a good state."""
    max_rollbacks: NonNegativeInt = 3
    """Times that a run may roll back until it stops; 0: it stops at once."""
    rollback_lr_factor: Factor = 0.5
    """What the learning rate is multiplied by at each rollback."""
    dev_sentences: NonNegativeInt = 500
    """Dev sentences that an evaluation translates for its scores; 0: all."""
    tensorboard: bool = False
    """Write the history for TensorBoard too, into the run's folder."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weight_decay > 0 and self.optimizer != "adamw":
            requirement = f"0 where training.optimizer is {self.optimizer}"
            raise ArgumentError("weight_decay", requirement, self.weight_decay, "Use adamw.")
        if self.schedule == "plateau" and 0 < self.patience <= self.plateau_patience:
            requirement = f"less than training.patience ({self.patience})"
            advice = "Training would stop before a lower rate is tried."
            raise ArgumentError("plateau_patience", requirement, self.plateau_patience, advice)
        if self.average_checkpoints == 1:
            raise ArgumentError("average_checkpoints", "0 or at least 2", 1)
        if self.reinitialize and self.init_from is None:
            advice = "Every weight starts at random."
            raise ArgumentError("reinitialize", "empty where training.init_from is null", self.reinitialize, advice)
        return self


@dataclass(frozen=True, config=STRICT)
class DecodingConfig(Section):
    """The search for a translation; saved with the model as its defaults.

    Every setting is an option of `model.translate` and `model.generate`, a flag of the commands that decode, and a
    line of a recipe's `decoding` section.
    """

    beam_size: PositiveInt = 5
    """Hypotheses kept at every step; 1: greedy."""
    n_best: PositiveInt = 1
    """Translations given for each source, best first."""
    length_penalty: Literal["none", "average", "wu", "reward"] = "average"
    """How a hypothesis' log-probability makes its score: as it is, divided by length ** alpha, divided by ((5 + length)
    / 6) ** alpha, or with alpha added for each token."""
    length_penalty_alpha: NonNegativeFloat = 1.0
    """The alpha of the length penalty: more favours longer translations."""
    coverage_penalty: Literal["none", "wu", "summary"] = "none"
    """What attention to the source adds to a score: nothing; wu: beta * the sum over source tokens of log(min(attention
    received, 1)), against omissions; summary: -beta * the attention received beyond 1, against repetitions."""
    coverage_penalty_beta: NonNegativeFloat = 0.2
    """The beta of the coverage penalty."""
    max_length_ratio: NonNegativeFloat = 2.0
    """A translation has at most ratio * source tokens + extra tokens."""
    max_length_extra: NonNegativeInt = 10
    """The extra tokens of that limit."""
    max_length: PositiveInt = 256
    """A translation has at most this many tokens, its end counted, however long the source."""
    min_length_ratio: NonNegativeFloat = 0.0
    """A translation has at least ratio * source tokens, as far as its limits allow."""
    min_length: NonNegativeInt = 0
    """A translation has at least this many tokens, its end counted, as far as its limits allow."""
    no_repeat_ngram_size: NonNegativeInt = 0
    """No sequence of this many tokens comes twice in a translation; 0: any may."""
    repetition_penalty: Annotated[float, Field(ge=1)] = 1.0
    """Factor for the log-probability of a token that was written before; 1: no change."""
    prefix: str = ""
    """Text that every translation starts with."""
    required_phrases: Phrases = ()
    """Words or phrases that every translation holds; a beam of 5 or more finds them better places."""
    banned_phrases: Phrases = ()
    """Words or phrases that no translation holds; upper case counts. A longer word is banned too where its tokens
    begin with those of a phrase."""
    beam_groups: PositiveInt = 1
    """Groups of equal size that the beam is cut into, each of which avoids the tokens of the groups before it."""
    diversity: NonNegativeFloat = 0.5
    """Penalty of a token for each hypothesis of an earlier group that takes it at the same step."""
    sample: bool = False
    """Draw translations at random instead of searching for the best; n_best says how many."""
    temperature: PositiveFloat = 1.0
    """What log-probabilities are divided by before a token is drawn: below 1 is safer, above 1 is wilder."""
    top_k: NonNegativeInt = 0
    """Draw among this many of the most probable tokens; 0: among all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw among the most probable tokens that have this probability together; 1: among all."""
    seed: NonNegativeInt = 0
    """Seed of the draws: the same seed draws the same translations."""
    mbr_samples: NonNegativeInt = 0
    """Draw this many translations and give those that agree best with the others, by chrF; 0: off."""
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    """What a model of GRUs multiplies: its weights as they are, or copies of half or a quarter of the bits, which are
    faster and now and then find another translation. int8 needs an x86 processor."""
    shortlist: NonNegativeInt = 0
    """Write only with this many likely translations of each source token and the most frequent tokens; needs a model
    with a lexicon (`seq2seq shortlist`). Faster, and now and then without the right word. 0: with all tokens."""
    batch_tokens: PositiveInt = 4_096
    """Source tokens of a batch at most, with their padding; commands decode one batch on each core at a time."""


LABEL_TASKS = ("classify", "tag")
_LABEL_METRICS = ("loss", "perplexity", "accuracy", "macro_f1")
METRICS_BY_TASK = {
    "translate": ("loss", "perplexity", "bleu", "chrf", "exact_match"),
    "summarize": ("loss", "perplexity", "rouge_1", "rouge_2", "rouge_l", "token_f1", "exact_match"),
    "classify": _LABEL_METRICS,
    "tag": _LABEL_METRICS,
}
"""Scores of an evaluation on the dev set, by task; `training.monitor` is one of them."""


@dataclass(frozen=True, config=STRICT)
class Config(Section):
    """A whole run: every setting has a value here.

    >>> config = Config(run=RunConfig(name="small"))
    >>> config.run.path.as_posix(), config.training.optimizer
    ('checkpoints/small', 'adam')
    >>> Config.from_dict(config.to_dict()) == config
    True
    """

    places: ClassVar[Mapping[str, str]] = {}
    """Lines of the settings that a recipe gave, such as `recipe.yaml:12`, set by `merge`."""
    task: Literal["translate", "summarize", "classify", "tag"] = "translate"
    """What the model makes of a text, which decides the scores: another text (translate, summarize), one label
    (classify), or a label for each word (tag), which a pair's target then holds, separated by spaces."""
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)

    @property
    def gives_labels(self) -> bool:
        """Return whether the model gives labels, and so has neither a decoder nor a search."""
        return self.task in LABEL_TASKS

    @model_validator(mode="after")
    def _check(self) -> Self:
        metrics, shared = METRICS_BY_TASK[self.task], self.tokenizer.shared
        if self.training.monitor not in metrics:
            requirement = f"one of {', '.join(metrics)} where task is {self.task}"
            raise ArgumentError("training.monitor", requirement, self.training.monitor)
        if self.model.tie_embeddings in ("source_target", "all") and not shared:
            advice = "One matrix for both sides needs one vocabulary."
            requirement = "none or output where tokenizer.shared is false"
            raise ArgumentError("model.tie_embeddings", requirement, self.model.tie_embeddings, advice)
        alpha, kind = self.training.sampling_alpha, self.tokenizer.kind
        if alpha > 0 and kind not in ("unigram", "bpe"):
            raise ArgumentError("training.sampling_alpha", f"0 where tokenizer.kind is {kind}", alpha)
        if alpha > 1 and kind == "bpe":
            raise ArgumentError("training.sampling_alpha", "at most 1 where tokenizer.kind is bpe", alpha)
        if self.gives_labels:
            self._check_labels()
        return self

    def _check_labels(self) -> None:
        unused: list[tuple[str, object, object, str]] = [
            ("model.tie_embeddings", self.model.tie_embeddings, "none", "Labels have no embeddings."),
            ("model.copy", self.model.copy, "none", "Labels are not copied."),
            ("tokenizer.shared", self.tokenizer.shared, True, "Labels are not cut into pieces."),
        ]
        if self.task == "tag":
            unused.append(("data.truncate", self.data.truncate, "none", "Each word has its label."))
            unused.append(("training.sampling_alpha", self.training.sampling_alpha, 0, "Each word has its label."))
        for key, value, needed, advice in unused:
            if value != needed:
                raise ArgumentError(key, f"{needed} where task is {self.task}", value, advice)
