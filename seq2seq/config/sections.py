"""What a run trains: the section `model` and those inside it."""

import dataclasses
import pathlib
from typing import ClassVar, Literal

from seq2seq.config.base import (
    AtLeastOne,
    Coverage,
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Probability,
    Section,
    Share,
    must_be,
)
from seq2seq.errors import ConfigError

Cell = Literal["rnn", "lstm", "gru", "gru_reset_before", "gru_simplified"]


def _check_update_gate(section: "EncoderConfig | DecoderConfig") -> None:
    if section.update_gate != "keep" and not section.cell.startswith("gru"):
        raise must_be(
            section.key("update_gate"), f"keep where {section.key('cell')} is {section.cell}", section.update_gate
        )


@dataclasses.dataclass(frozen=True)
class EncoderConfig(Section):
    """The recurrent layers that read the source."""

    section: ClassVar[str] = "model.encoder"

    cell: Cell = "gru"
    """The recurrence of every layer; gru has its reset gate after the recurrent product, as cuDNN, gru_reset_before
    before it, and gru_simplified has none."""
    update_gate: Literal["keep", "write"] = "keep"
    """What an open update gate of a GRU does: keep the past, or write over it. One model, written in two ways."""
    units: Positive = 256
    """Size of a layer's state, in each direction."""
    num_layers: Positive = 1
    """Number of layers, one above the other."""
    bidirectional: bool = True
    """Read the source in both directions and join what they say, so the memory is twice `units` wide."""
    residual: bool = False
    """Add a layer's input to its output, from the second layer on."""
    front_end: Literal["none", "convolution", "mean", "max"] = "none"
    """For long sources: make one step of `stride` neighbouring embeddings, by a convolution or by pooling, so that the
    recurrent layers run over fewer steps."""
    stride: Positive = 1
    """Source tokens that the front end makes into one step; 1 without one."""
    kernel_size: Positive | None = None
    """Source tokens that each step of the convolution reads; null: `stride`, so that they do not overlap."""
    subsample: Positive = 1
    """Steps of the layer below that each layer above the first reads joined as one; 1: none are joined."""

    def check(self) -> None:
        _check_update_gate(self)
        if self.front_end == "none" and self.stride > 1:
            raise must_be(
                self.key("stride"), "1 where model.encoder.front_end is none", self.stride, "Choose a front end."
            )
        if self.front_end != "none" and self.stride < 2:
            raise must_be(
                self.key("stride"), f"at least 2 where model.encoder.front_end is {self.front_end}", self.stride
            )
        if self.kernel_size and self.front_end != "convolution":
            raise must_be(
                self.key("kernel_size"), f"null where model.encoder.front_end is {self.front_end}", self.kernel_size
            )
        if self.kernel_size and self.kernel_size < self.stride:
            raise must_be(
                self.key("kernel_size"),
                f"null or at least model.encoder.stride ({self.stride})",
                self.kernel_size,
                "Tokens would be passed over.",
            )
        if self.subsample > 1 and self.num_layers == 1:
            raise must_be(self.key("subsample"), "1 where model.encoder.num_layers is 1", self.subsample)
        if self.subsample > 1 and self.residual:
            raise must_be(self.key("subsample"), "1 where model.encoder.residual is true", self.subsample)

    @property
    def reductions(self) -> list[int]:
        """Source tokens that a step of each layer stands for."""
        return [self.stride * self.subsample**index for index in range(self.num_layers)]

    @property
    def reduction(self) -> int:
        """Source tokens that a step of the encoder's output stands for."""
        return self.reductions[-1]

    @property
    def memory_size(self) -> int:
        """Width of the encoder's output at one source step."""
        return self.units * (2 if self.bidirectional else 1)


@dataclasses.dataclass(frozen=True)
class DecoderConfig(Section):
    """The recurrent layers that write the target."""

    section: ClassVar[str] = "model.decoder"

    cell: Cell = "gru"
    """The recurrence of every layer; gru has its reset gate after the recurrent product, as cuDNN, gru_reset_before
    before it, and gru_simplified has none."""
    update_gate: Literal["keep", "write"] = "keep"
    """What an open update gate of a GRU does: keep the past, or write over it. One model, written in two ways."""
    units: Positive = 512
    """Size of a layer's state."""
    num_layers: Positive = 1
    """Number of layers, one above the other."""
    attention_position: Literal["after", "between"] = "after"
    """Where the context is read: after the last layer, or between the first and the second, which then reads it too."""
    input_feeding: bool = False
    """Give the first layer what the last step read and said; slower, since training then runs step by step."""
    residual: bool = False
    """Add a layer's input to its output, from the second layer on."""

    def check(self) -> None:
        _check_update_gate(self)
        if self.attention_position == "between" and self.num_layers < 2:
            raise must_be(
                self.key("num_layers"), "at least 2 where model.decoder.attention_position is between", self.num_layers
            )


@dataclasses.dataclass(frozen=True)
class AttentionConfig(Section):
    """How the decoder weighs the source, where `model.context` is attention."""

    section: ClassVar[str] = "model.attention"

    score: Literal["dot", "scaled_dot", "general", "additive", "location", "local", "multi_head"] = "dot"
    """How well a query fits a source step."""
    units: Positive | None = None
    """Inner size of the scores additive, location and multi_head; null: as many as the decoder has."""
    num_heads: Positive = 4
    """Number of heads of the score multi_head."""
    window: Positive = 5
    """Steps of the encoder's output on each side of the centre that the score local sees."""
    coverage: bool = False
    """Let the score know how much attention a step has had; in training attention then runs step by step."""


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The encoder-decoder."""

    section: ClassVar[str] = "model"

    embedding_size: Positive = 256
    """Width of the embeddings."""
    tie_embeddings: Literal["none", "source_target", "output", "all"] = "none"
    """Which tables are one: source and target embeddings, target embeddings and output, or all three."""
    context: Literal["last", "projected", "mean", "max", "sum", "attentive", "attention"] = "attention"
    """The context C, what the decoder reads of the source: its last step, that step projected, a pooling, one learned
    query, or attention at every step."""
    context_inputs: tuple[Literal["state", "input", "readout"], ...] = ("state", "readout")
    """Where C enters: the decoder's first state, its input at every step, its output before the logits."""
    readout_size: Positive | None = None
    """Width of the readout before the logits; null: as wide as the embeddings."""
    copy: Literal["none", "reuse", "separate"] = "none"
    """Attention that copies tokens of the source, from the vocabulary that both sides share: none, that of the context,
    or one of its own."""
    force_copy: bool = False
    """In training a token that stands in the source must be copied, which teaches the gate when to."""
    embedding_dropout: Fraction = 0.0
    """Share of the embeddings of source and target that training drops, the same at all steps of a sentence."""
    dropout: Fraction = 0.0
    """Share of a recurrent layer's output that training drops before the next layer, in encoder and decoder."""
    context_dropout: Fraction = 0.0
    """Share of the encoder's output that training drops before the decoder reads it."""
    readout_dropout: Fraction = 0.0
    """Share of the decoder's readout that training drops before the logits."""
    source_word_dropout: Fraction = 0.0
    """Share of the source tokens that training replaces by the unknown token."""
    target_word_dropout: Fraction = 0.0
    """Share of the target tokens that training replaces by the unknown token in the decoder's input; the decoder still
    writes them."""
    label_smoothing: Fraction = 0.0
    """Probability that the loss takes from the right token and spreads over all."""
    coverage_loss: NonNegativeFloat = 0.0
    """Weight in the training loss of attention to places that were attended to before, against repetitions."""
    implementation: Literal["auto", "cudnn", "scan", "raw"] = "auto"
    """The kernel of the recurrent layers; auto takes the fastest that the machine and the model allow."""
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    decoder: DecoderConfig = dataclasses.field(default_factory=DecoderConfig)
    attention: AttentionConfig = dataclasses.field(default_factory=AttentionConfig)

    def check(self) -> None:
        if self.force_copy and self.copy == "none":
            raise must_be(self.key("force_copy"), "false where model.copy is none", True)
        if not self.context_inputs:
            raise ConfigError(
                "model.context_inputs must hold at least one of state, input, readout, but is empty instead. "
                "Without one the decoder never sees the source.",
                self.key("context_inputs"),
            )
        if self.tie_embeddings in ("output", "all") and self.readout_size not in (None, self.embedding_size):
            raise must_be(
                self.key("readout_size"),
                f"null or model.embedding_size ({self.embedding_size}) where model.tie_embeddings is {self.tie_embeddings}",
                self.readout_size,
            )
        if self.context == "attention":
            self._check_attention()
        elif self.decoder.attention_position == "between":
            raise must_be(
                self.decoder.key("attention_position"),
                f"after where model.context is {self.context}",
                self.decoder.attention_position,
                "Only attention is read between layers.",
            )
        elif self.decoder.input_feeding:
            raise must_be(self.decoder.key("input_feeding"), f"false where model.context is {self.context}", True)
        elif self.copy == "reuse":
            raise must_be(self.key("copy"), f"none or separate where model.context is {self.context}", self.copy)

    def _check_attention(self) -> None:
        if self.context_inputs == ("state",) and self.decoder.attention_position == "after":
            raise ConfigError(
                "model.context_inputs must hold input or readout where model.context is attention, but is [state] instead. "
                "Attention would never be read: add readout, or set model.context to last.",
                self.key("context_inputs"),
            )
        if "input" in self.context_inputs and self.decoder.attention_position == "between":
            raise ConfigError(
                "model.context_inputs must not hold input where model.decoder.attention_position is between, but is "
                f"[{', '.join(self.context_inputs)}] instead. Both say when attention reads: choose one.",
                self.key("context_inputs"),
            )
        score, memory, query = self.attention.score, self.encoder.memory_size, self.decoder.units
        if score in ("dot", "scaled_dot") and memory != query:
            raise ConfigError(
                f"model.decoder.units must be {memory}, as wide as the encoder's memory, where model.attention.score "
                f"is {score}, but is {query} instead. Change one of the two, or take the score general.",
                self.decoder.key("units"),
            )
        inner = self.attention.units or query
        if score == "location" and inner % 2:
            raise must_be(self.attention.key("units"), "even where model.attention.score is location", inner)
        if score == "multi_head" and inner % self.attention.num_heads:
            raise must_be(
                self.attention.key("num_heads"),
                f"a divisor of the attention's size ({inner})",
                self.attention.num_heads,
            )


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Where the pairs of texts lie, and what to do with lines that cannot be used."""

    section: ClassVar[str] = "data"

    folder: str = "."
    """Folder of the files, relative to where the command runs; left out: the recipe's own folder."""
    format: Literal["parallel", "tsv", "jsonl"] = "parallel"
    """parallel: two files of lines, {train}.{source} and {train}.{target}; tsv: columns; jsonl: an object a line.
    Every file may end in .gz."""
    source: str = "source"
    """What to translate from: a file ending (parallel), a column's number from 1 (tsv) or a key (jsonl)."""
    target: str = "target"
    """What to translate into, named in the same way."""
    columns: Positive | None = None
    """Columns of every line of a tsv file; null: no more than source and target need."""
    train: str | dict[str, PositiveFloat] = "train"
    """Name of the training files, without their ending; or several names, each with its weight, which is how many
    times an epoch holds each of its pairs: {news: 2, web: 0.5}, as a flag news=2 web=0.5."""
    dev: str | None = "dev"
    """Name of the files that choose the best checkpoint; null: take `dev_size` pairs from the training files."""
    test: str | None = "test"
    """Name of the files that are scored once, after training; null: none."""
    agreement: str | None = None
    """A file of agreement items (distractors, source, target, right form, wrong form), scored after training."""
    dev_size: NonNegative = 0
    """Pairs taken out of training to be the dev set, drawn with the run's seed; only with `dev: null`."""
    on_bad_line: Literal["error", "skip"] = "error"
    """A line that cannot be used: stop and name it, or skip it, count it and report the count."""
    max_line_characters: Positive = 10_000
    """A line longer than this cannot be used."""
    max_source_tokens: Positive = 256
    """A source of more tokens than this cannot be used in training, unless `truncate` says what to read of it."""
    truncate: Literal["none", "head", "head_tail"] = "none"
    """What is read of a source of more tokens, in training and ever after: its beginning, or half of that and half of
    its end; how many were cut is always said. none: none is cut, and a model is given sources of any length."""
    max_target_tokens: Positive = 256
    """A target of more tokens than this cannot be used in training."""
    origin: str = ""
    """Where the files can be had, in a sentence: shown when they are absent."""

    @property
    def corpora(self) -> dict[str, float]:
        """Names of the training files, with the weight of each, in an order that does not depend on the recipe's."""
        return {self.train: 1.0} if isinstance(self.train, str) else dict(sorted(self.train.items()))

    def check(self) -> None:
        for name in ("folder", "source", "target"):
            if not getattr(self, name):
                raise must_be(self.key(name), "a name", getattr(self, name))
        if not self.corpora or not all(self.corpora):
            raise must_be(self.key("train"), "a name", self.train)
        if self.source == self.target:
            raise must_be(self.key("target"), f"other than {self.key('source')}", self.target)
        if self.columns and self.format != "tsv":
            raise must_be(self.key("columns"), f"null where data.format is {self.format}", self.columns)
        if self.format == "tsv":
            for name in ("source", "target"):
                column = getattr(self, name)
                if not (column.isascii() and column.isdigit() and int(column) >= 1):
                    raise must_be(self.key(name), "a column's number from 1 where data.format is tsv", column)
                if self.columns and int(column) > self.columns:
                    raise must_be(self.key(name), f"at most data.columns ({self.columns})", column)
        if self.truncate != "none" and self.max_source_tokens < 3:
            raise must_be(
                self.key("max_source_tokens"),
                f"at least 3 where data.truncate is {self.truncate}",
                self.max_source_tokens,
                "The end token is one of them.",
            )
        if self.dev is None and self.dev_size == 0:
            raise ConfigError(
                "data.dev_size must be at least 1 where data.dev is null, but is 0 instead. "
                "Name a dev set, or say how many training pairs to hold out.",
                self.key("dev_size"),
            )
        if self.dev is not None and self.dev_size > 0:
            raise ConfigError(
                f"data.dev_size must be 0 where data.dev names files ({self.dev}), but is {self.dev_size} instead. "
                "Set data.dev to null to hold pairs out of training.",
                self.key("dev_size"),
            )


@dataclasses.dataclass(frozen=True)
class TokenizerConfig(Section):
    """How text becomes ids: a SentencePiece model trained on the training files."""

    section: ClassVar[str] = "tokenizer"

    kind: Literal["unigram", "bpe", "char", "word"] = "unigram"
    """What a piece is; `word` splits at spaces only."""
    shared: bool = True
    """One vocabulary for source and target, or one for each."""
    vocabulary_size: Positive = 8_000
    """Number of pieces, of the source alone where `shared` is false; `char` and `word` may have fewer."""
    target_vocabulary_size: Positive | None = None
    """Number of pieces of the target where `shared` is false; null: the same as the source."""
    character_coverage: Coverage = 1.0
    """Share of the characters of the training files that get a piece; lower for scripts of thousands of characters."""
    byte_fallback: bool = False
    """Spell characters that have no piece in bytes, instead of as unknown (unigram and bpe)."""
    user_symbols: tuple[str, ...] = ()
    """Strings that are always one piece."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """Unicode normalisation of the text; those in _cf also fold case."""

    def check(self) -> None:
        for symbol in self.user_symbols:
            if not symbol or symbol.split() != [symbol]:
                raise must_be(self.key("user_symbols"), "strings without spaces", symbol)
        subwords = self.kind in ("unigram", "bpe")
        if self.shared and self.target_vocabulary_size is not None:
            raise ConfigError(
                "tokenizer.target_vocabulary_size must be null where tokenizer.shared is true, but is "
                f"{self.target_vocabulary_size} instead. Set tokenizer.shared to false for two vocabularies.",
                self.key("target_vocabulary_size"),
            )
        if self.byte_fallback and not subwords:
            raise must_be(self.key("byte_fallback"), f"false where tokenizer.kind is {self.kind}", True)


@dataclasses.dataclass(frozen=True)
class DecodingConfig(Section):
    """The search for a translation; saved with the model as its defaults.

    Every setting is an option of `model.translate` and `model.generate`, a flag of the commands that decode, and a
    line of a recipe's `decoding` section.
    """

    section: ClassVar[str] = "decoding"

    beam_size: Positive = 5
    """Hypotheses kept at every step; 1: greedy."""
    n_best: Positive = 1
    """Translations given for each source, best first."""
    length_penalty: Literal["none", "average", "wu", "reward"] = "average"
    """How a hypothesis' log-probability makes its score: as it is, divided by length ** alpha, divided by ((5 + length)
    / 6) ** alpha, or with alpha added for each token."""
    length_penalty_alpha: NonNegativeFloat = 1.0
    """The alpha of the length penalty: more favours longer translations."""
    coverage_penalty: Literal["none", "wu", "summary"] = "none"
    """What attention to the source adds to a score: nothing; wu: beta * the sum over source tokens of log(min(attention
    received, 1)), for what was left out; summary: -beta * the attention received beyond 1, for what was repeated."""
    coverage_penalty_beta: NonNegativeFloat = 0.2
    """The beta of the coverage penalty."""
    max_length_ratio: NonNegativeFloat = 2.0
    """A translation has at most ratio * source tokens + extra tokens."""
    max_length_extra: NonNegative = 10
    """The extra tokens of that limit."""
    max_length: Positive = 256
    """A translation has at most this many tokens, its end counted, however long the source."""
    min_length_ratio: NonNegativeFloat = 0.0
    """A translation has at least ratio * source tokens, as far as its limits allow."""
    min_length: NonNegative = 0
    """A translation has at least this many tokens, its end counted, as far as its limits allow."""
    no_repeat_ngram_size: NonNegative = 0
    """No sequence of so many tokens comes twice in a translation; 0: any may."""
    repetition_penalty: AtLeastOne = 1.0
    """What the log-probability of a token that was written before is multiplied by; 1: nothing changes."""
    prefix: str = ""
    """Text that every translation starts with."""
    required_phrases: tuple[str, ...] = ()
    """Words or phrases that every translation holds; a beam of 5 or more finds them better places."""
    banned_phrases: tuple[str, ...] = ()
    """Words or phrases that no translation holds; upper case counts. A longer word is lost with them where its tokens
    are theirs and some more."""
    beam_groups: Positive = 1
    """Groups of equal size that the beam is cut into, each of which avoids what those before it write."""
    diversity: NonNegativeFloat = 0.5
    """What a token loses for each hypothesis of an earlier group that takes it at the same step."""
    sample: bool = False
    """Draw translations at random instead of searching for the best; n_best says how many."""
    temperature: PositiveFloat = 1.0
    """What log-probabilities are divided by before a token is drawn: less than 1 is bolder, more is wilder."""
    top_k: NonNegative = 0
    """Draw among so many of the most probable tokens; 0: among all."""
    top_p: Probability = 1.0
    """Draw among the most probable tokens that have this probability together; 1: among all."""
    seed: NonNegative = 0
    """Where the randomness starts: the same seed draws the same translations."""
    mbr_samples: NonNegative = 0
    """Draw so many translations and give those that agree best with the others, by chrF; 0: off."""
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    """What a model of GRUs multiplies: its weights as they are, or copies of half or a quarter of the bits, which are
    faster and now and then find another translation. int8 needs an x86 processor."""
    shortlist: NonNegative = 0
    """Write only with so many likely translations of each source token and the most frequent tokens; needs a model that
    has learned them (`seq2seq shortlist`). Faster, and now and then without the right word. 0: with all tokens."""
    batch_tokens: Positive = 4_096
    """Source tokens of a batch at most, with their padding; commands decode a batch a core at once."""

    def check(self) -> None:
        if not self.sample:
            self._check_beam()
        elif self.mbr_samples and self.n_best > self.mbr_samples:
            raise must_be(self.key("n_best"), f"at most decoding.mbr_samples ({self.mbr_samples})", self.n_best)
        for name, rest in (("beam_groups", 1), ("required_phrases", ()), ("coverage_penalty", "none")):
            value = getattr(self, name)
            if self.sample and value != rest:
                shown = list(value) if isinstance(value, tuple) else value
                raise must_be(self.key(name), f"{_shown(rest)} where decoding.sample is true", shown, "Use a beam.")
        if self.max_length_ratio == 0 and self.max_length_extra == 0:
            raise must_be(self.key("max_length_extra"), "at least 1 where decoding.max_length_ratio is 0", 0)
        if self.min_length > self.max_length:
            raise must_be(self.key("min_length"), f"at most decoding.max_length ({self.max_length})", self.min_length)
        if self.shortlist:
            self._check_shortlist()
        for name in ("required_phrases", "banned_phrases"):
            if not all(phrase.strip() for phrase in getattr(self, name)):
                raise must_be(
                    self.key(name), "words or phrases", list(getattr(self, name)), "Leave out the blank ones."
                )

    def _check_shortlist(self) -> None:
        for name in _FREE_CHOICE:
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default:
                raise must_be(self.key("shortlist"), f"0 where {self.key(name)} is set", self.shortlist)

    def _check_beam(self) -> None:
        if self.n_best > self.beam_size:
            raise must_be(self.key("n_best"), f"at most decoding.beam_size ({self.beam_size})", self.n_best)
        if self.beam_size % self.beam_groups:
            raise must_be(
                self.key("beam_groups"), f"a divisor of decoding.beam_size ({self.beam_size})", self.beam_groups
            )
        for name, rest in (("temperature", 1.0), ("top_k", 0), ("top_p", 1.0), ("mbr_samples", 0)):
            if getattr(self, name) != rest:
                raise must_be(
                    self.key(name),
                    f"{_shown(rest)} where decoding.sample is false",
                    getattr(self, name),
                    "Set decoding.sample.",
                )


_FREE_CHOICE = (
    "sample",
    "prefix",
    "required_phrases",
    "banned_phrases",
    "no_repeat_ngram_size",
    "repetition_penalty",
    "min_length_ratio",
    "min_length",
)
"""Settings that a search can only heed where it may write with all tokens."""


def _shown(value: object) -> str:
    return "empty" if value == () else f"{value:g}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Section):
    """The loop: how long, on what batches, with which optimizer, and what is kept."""

    section: ClassVar[str] = "training"

    epochs: Positive = 20
    """Times to go through the training pairs."""
    minutes: NonNegativeFloat = 0.0
    """Stop after this many minutes of training, whatever the epoch; 0: no limit."""
    batch_tokens: Positive = 4_096
    """Tokens in a batch at most, source and target and their padding together."""
    accumulate: Positive = 1
    """Batches whose gradients, weighted by their target tokens, make one update: as one batch of so many times the
    tokens, in the memory of one."""
    workers: NonNegative = 0
    """Parts of a batch that are computed at the same time, each on cores of its own; 0: one for each core, four at the
    most, and one where there is a GPU. Another number rounds otherwise, and drops other units."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """The rule that moves the weights; adamw also decays them."""
    learning_rate: PositiveFloat = 0.002
    """The highest learning rate, reached at the end of the warm-up."""
    schedule: Literal["constant", "cosine", "inverse_square_root", "plateau"] = "cosine"
    """How the learning rate goes on after the warm-up: level, down to almost nothing at the last
    epoch, with one over the root of the steps, or lower each time that the dev score no longer gains."""
    plateau_factor: Share = 0.5
    """What the schedule plateau multiplies the learning rate by."""
    plateau_patience: Positive = 2
    """Evaluations without improvement after which the schedule plateau lowers the learning rate, each time anew."""
    warmup_steps: NonNegative = 200
    """Steps in which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.0
    """Strength of the decay of weights, biases and embeddings left out; only with adamw."""
    l2: NonNegativeFloat = 0.0
    """What the squares of the weights count for in the loss, biases and embeddings left out; with adam too."""
    clip_norm: NonNegativeFloat = 1.0
    """Largest norm of all gradients together; 0: never clipped."""
    sampling_alpha: NonNegativeFloat = 0.0
    """Subword sampling of the training pairs: smoothing of the unigram model, or dropout of merges in bpe; 0: off."""
    sampling_nbest: int = -1
    """Segmentations that the unigram model samples from; -1: all of them."""
    ema: Fraction = 0.0
    """Decay of the moving average of the weights, which is what gets evaluated and saved; 0: off."""
    init_from: str | None = None
    """Fine-tuning: a model file whose weights and tokenizer the run starts from; null: random weights."""
    reinitialize: tuple[str, ...] = ()
    """Layers or weights that start at random all the same, such as decoder/readout: those that the other model has not,
    or in another shape, must be named here."""
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
    patience: NonNegative = 0
    """Evaluations without improvement after which training stops; 0: never."""
    average_checkpoints: NonNegative = 0
    """Average the weights at so many of the best evaluations when training ends, and keep that model where its dev
    score is better than the best single one's; 0: off."""
    save_every: NonNegative = 1_000
    """Updates after which the state is saved between evaluations too, for --resume after a crash; 0: at evaluations
    only."""
    max_skipped_steps: Positive = 10
    """Steps in a row whose loss or gradient is infinite or no number, and which are skipped, until the run goes back to
    its last good state."""
    max_rollbacks: NonNegative = 3
    """Times that a run may go back so, until it stops; 0: it stops at once."""
    rollback_lr_factor: Share = 0.5
    """What the learning rate is multiplied by each time that a run goes back so."""
    dev_sentences: NonNegative = 500
    """Dev sentences that an evaluation translates for its scores; 0: all."""
    tensorboard: bool = False
    """Write the history for TensorBoard too, into the run's folder."""

    def check(self) -> None:
        if self.weight_decay > 0 and self.optimizer != "adamw":
            raise must_be(
                self.key("weight_decay"),
                f"0 where training.optimizer is {self.optimizer}",
                self.weight_decay,
                "Take adamw.",
            )
        if self.schedule == "plateau" and 0 < self.patience <= self.plateau_patience:
            raise must_be(
                self.key("plateau_patience"),
                f"less than training.patience ({self.patience})",
                self.plateau_patience,
                "Training would stop before a lower rate is tried.",
            )
        if self.sampling_nbest != -1 and self.sampling_nbest < 2:
            raise must_be(self.key("sampling_nbest"), "-1 or at least 2", self.sampling_nbest)
        if self.average_checkpoints == 1:
            raise must_be(self.key("average_checkpoints"), "0 or at least 2", 1)
        if self.reinitialize and self.init_from is None:
            raise must_be(
                self.key("reinitialize"),
                "empty where training.init_from is null",
                list(self.reinitialize),
                "Everything starts anew.",
            )


LABEL_TASKS = ("classify", "tag")
_LABEL_SCORES = ("loss", "perplexity", "accuracy", "macro_f1")
METRICS_BY_TASK = {
    "translate": ("loss", "perplexity", "bleu", "chrf", "exact_match"),
    "summarize": ("loss", "perplexity", "rouge_1", "rouge_2", "rouge_l", "token_f1", "exact_match"),
    "classify": _LABEL_SCORES,
    "tag": _LABEL_SCORES,
}
"""What an evaluation on the dev set finds, by task; `training.monitor` is one of them."""


@dataclasses.dataclass(frozen=True)
class RunConfig(Section):
    """What a run is called and where it leaves its results."""

    section: ClassVar[str] = "run"

    name: str = "run"
    """Name of the run and of its folder; left out: the name of the recipe's folder."""
    folder: str = "checkpoints"
    """Folder of the runs' folders, relative to where the command runs."""
    seed: NonNegative = 0
    """Where all of the run's randomness starts: the same seed gives the same run."""

    def check(self) -> None:
        if not self.name or self.name in (".", "..") or set(self.name) & set("/\\\0"):
            raise must_be(self.key("name"), "a folder's name, without slashes", self.name)

    @property
    def path(self) -> pathlib.Path:
        """The folder of this run's results."""
        return pathlib.Path(self.folder) / self.name


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """A run, whole: every setting has a value here.

    Examples:
        >>> config = Config(run=RunConfig(name="small"))
        >>> config.run.path.as_posix(), config.training.optimizer
        ('checkpoints/small', 'adam')
        >>> Config.from_dict(config.to_dict()) == config
        True
    """

    task: Literal["translate", "summarize", "classify", "tag"] = "translate"
    """What the model makes of a text, which says what its outputs are scored with: another text (translate, summarize),
    one label (classify), or a label for each word (tag), which a pair's target then holds, apart by spaces."""
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)

    @property
    def gives_labels(self) -> bool:
        """Whether the model gives labels, and so has neither a decoder nor a search."""
        return self.task in LABEL_TASKS

    def check(self) -> None:
        if self.gives_labels:
            self._check_labels()
        self._check_sampling()
        if self.training.monitor not in METRICS_BY_TASK[self.task]:
            raise must_be(
                self.training.key("monitor"),
                f"one of {', '.join(METRICS_BY_TASK[self.task])} where task is {self.task}",
                self.training.monitor,
            )
        if self.model.tie_embeddings in ("source_target", "all") and not self.tokenizer.shared:
            raise must_be(
                self.model.key("tie_embeddings"),
                "none or output where tokenizer.shared is false",
                self.model.tie_embeddings,
                "One table for both sides needs one vocabulary.",
            )
        if self.model.coverage_loss and self.model.context != "attention":
            raise must_be(
                self.model.key("coverage_loss"),
                f"0 where model.context is {self.model.context}",
                self.model.coverage_loss,
            )
        if self.model.copy != "none" and not self.tokenizer.shared:
            raise must_be(
                self.model.key("copy"),
                "none where tokenizer.shared is false",
                self.model.copy,
                "Only a token that both sides have can be copied.",
            )

    def _check_sampling(self) -> None:
        alpha, kind = self.training.sampling_alpha, self.tokenizer.kind
        if alpha > 0 and kind not in ("unigram", "bpe"):
            raise must_be(self.training.key("sampling_alpha"), f"0 where tokenizer.kind is {kind}", alpha)
        if alpha > 1 and kind == "bpe":
            raise must_be(self.training.key("sampling_alpha"), "at most 1 where tokenizer.kind is bpe", alpha)

    def _check_labels(self) -> None:
        where = f"where task is {self.task}"
        if self.model.context == "attention":
            advice = "Only what is written step by step reads the source anew at each."
            raise must_be(self.model.key("context"), f"other than attention {where}", self.model.context, advice)
        if self.model.tie_embeddings != "none":
            raise must_be(
                self.model.key("tie_embeddings"),
                f"none {where}",
                self.model.tie_embeddings,
                "Labels have no embeddings.",
            )
        if not self.tokenizer.shared:
            raise must_be(self.tokenizer.key("shared"), f"true {where}", False, "Labels are not cut into pieces.")
        if self.model.copy != "none":
            raise must_be(self.model.key("copy"), f"none {where}", self.model.copy, "Labels are not copied.")
        if self.task == "classify":
            return
        if self.training.sampling_alpha > 0:
            raise must_be(self.training.key("sampling_alpha"), f"0 {where}", self.training.sampling_alpha)
        if self.model.encoder.reduction > 1:
            advice = "Each word needs a step of its own."
            key = "stride" if self.model.encoder.stride > 1 else "subsample"
            raise must_be(self.model.encoder.key(key), f"1 {where}", getattr(self.model.encoder, key), advice)
        if self.data.truncate != "none":
            advice = "Each word has its label."
            raise must_be(self.data.key("truncate"), f"none {where}", self.data.truncate, advice)
