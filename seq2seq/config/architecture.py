"""What a run trains: the section `model` and those inside it."""

import dataclasses
from typing import ClassVar, Literal

from seq2seq.config.checks import Fraction, NonNegative, Positive, Section, must_be
from seq2seq.errors import ConfigError

Cell = Literal["rnn", "lstm", "gru", "gru_reset_before", "gru_simplified"]


def _check_update_gate(section: "Encoder | Decoder") -> None:
    if section.update_gate != "keep" and not section.cell.startswith("gru"):
        raise must_be(
            section.key("update_gate"), f"keep where {section.key('cell')} is {section.cell}", section.update_gate
        )


@dataclasses.dataclass(frozen=True)
class Encoder(Section):
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
    kernel_size: NonNegative = 0
    """Source tokens that each step of the convolution reads; 0: `stride`, so that they do not overlap."""
    pyramid: Positive = 1
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
                self.key("kernel_size"), f"0 where model.encoder.front_end is {self.front_end}", self.kernel_size
            )
        if 0 < self.kernel_size < self.stride:
            raise must_be(
                self.key("kernel_size"),
                f"0 or at least model.encoder.stride ({self.stride})",
                self.kernel_size,
                "Tokens would be passed over.",
            )
        if self.pyramid > 1 and self.num_layers == 1:
            raise must_be(self.key("pyramid"), "1 where model.encoder.num_layers is 1", self.pyramid)
        if self.pyramid > 1 and self.residual:
            raise must_be(self.key("pyramid"), "1 where model.encoder.residual is true", self.pyramid)

    @property
    def reductions(self) -> list[int]:
        """Source tokens that a step of each layer stands for."""
        return [self.stride * self.pyramid**index for index in range(self.num_layers)]

    @property
    def reduction(self) -> int:
        """Source tokens that a step of the encoder's output stands for."""
        return self.reductions[-1]

    @property
    def memory_size(self) -> int:
        """Width of the encoder's output at one source step."""
        return self.units * (2 if self.bidirectional else 1)


@dataclasses.dataclass(frozen=True)
class Decoder(Section):
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
    attend: Literal["after", "between"] = "after"
    """Where the context is read: after the last layer, or between the first and the second, which then reads it too."""
    input_feeding: bool = False
    """Give the first layer what the last step read and said; slower, since training then runs step by step."""
    residual: bool = False
    """Add a layer's input to its output, from the second layer on."""

    def check(self) -> None:
        _check_update_gate(self)
        if self.attend == "between" and self.num_layers < 2:
            raise must_be(self.key("num_layers"), "at least 2 where model.decoder.attend is between", self.num_layers)


@dataclasses.dataclass(frozen=True)
class Attention(Section):
    """How the decoder weighs the source, where `model.context` is attention."""

    section: ClassVar[str] = "model.attention"

    score: Literal["dot", "scaled_dot", "general", "additive", "location", "local", "multi_head"] = "dot"
    """How well a query fits a source step."""
    units: NonNegative = 0
    """Inner size of the scores additive, location and multi_head; 0: as many as the decoder has."""
    num_heads: Positive = 4
    """Number of heads of the score multi_head."""
    window: Positive = 5
    """Steps of the encoder's output on each side of the centre that the score local sees."""
    coverage: bool = False
    """Let the score know how much attention a step has had; in training attention then runs step by step."""


@dataclasses.dataclass(frozen=True)
class Copy(Section):
    """Copying tokens of the source instead of writing them from the vocabulary, which both sides must share."""

    section: ClassVar[str] = "model.copy"

    mode: Literal["none", "reuse", "separate"] = "none"
    """By which attention tokens are copied: none are, by that of the context, or by one of its own."""
    force: bool = False
    """In training a token that stands in the source must be copied, which teaches the gate when to."""

    def check(self) -> None:
        if self.force and self.mode == "none":
            raise must_be(self.key("force"), "false where model.copy.mode is none", True)


@dataclasses.dataclass(frozen=True)
class Dropout(Section):
    """What training leaves out: shares of the numbers, the same at all steps of a sentence, and of the words."""

    section: ClassVar[str] = "model.dropout"

    embedding: Fraction = 0.0
    """Of the embeddings of source and target."""
    recurrent: Fraction = 0.0
    """Of what one recurrent layer hands to the next."""
    context: Fraction = 0.0
    """Of what the decoder reads of the source."""
    readout: Fraction = 0.0
    """Of the decoder's output before the logits."""
    source_word: Fraction = 0.0
    """Of the tokens of the source, which are read as unknown instead."""
    target_word: Fraction = 0.0
    """Of the tokens of the target that the decoder reads, which are read as unknown instead; it still writes them."""


@dataclasses.dataclass(frozen=True)
class Model(Section):
    """The encoder-decoder."""

    section: ClassVar[str] = "model"

    embedding_size: Positive = 256
    """Width of the embeddings."""
    tie: Literal["none", "source_target", "output", "all"] = "none"
    """Which tables are one: source and target embeddings, target embeddings and output, or all three."""
    context: Literal["last", "projected", "mean", "max", "sum", "attentive", "attention"] = "attention"
    """The context C, what the decoder reads of the source: its last step, that step projected, a pooling, one learned
    query, or attention at every step."""
    feeds: tuple[Literal["state", "input", "readout"], ...] = ("state", "readout")
    """Where C enters: the decoder's first state, its input at every step, its output before the logits."""
    readout_size: NonNegative = 0
    """Width of the readout before the logits; 0: as wide as the embeddings."""
    encoder: Encoder = dataclasses.field(default_factory=Encoder)
    decoder: Decoder = dataclasses.field(default_factory=Decoder)
    attention: Attention = dataclasses.field(default_factory=Attention)
    copy: Copy = dataclasses.field(default_factory=Copy)
    dropout: Dropout = dataclasses.field(default_factory=Dropout)

    def check(self) -> None:
        if not self.feeds:
            raise ConfigError(
                "model.feeds must hold at least one of state, input, readout, but is empty instead. "
                "Without one the decoder never sees the source.",
                self.key("feeds"),
            )
        if self.tie in ("output", "all") and self.readout_size not in (0, self.embedding_size):
            raise must_be(
                self.key("readout_size"),
                f"0 or model.embedding_size ({self.embedding_size}) where model.tie is {self.tie}",
                self.readout_size,
            )
        if self.context == "attention":
            self._check_attention()
        elif self.decoder.attend == "between":
            raise must_be(
                self.decoder.key("attend"),
                f"after where model.context is {self.context}",
                self.decoder.attend,
                "Only attention is read between layers.",
            )
        elif self.decoder.input_feeding:
            raise must_be(self.decoder.key("input_feeding"), f"false where model.context is {self.context}", True)
        elif self.copy.mode == "reuse":
            raise must_be(
                self.copy.key("mode"), f"none or separate where model.context is {self.context}", self.copy.mode
            )

    def _check_attention(self) -> None:
        if self.feeds == ("state",) and self.decoder.attend == "after":
            raise ConfigError(
                "model.feeds must hold input or readout where model.context is attention, but is [state] instead. "
                "Attention would never be read: add readout, or set model.context to last.",
                self.key("feeds"),
            )
        if "input" in self.feeds and self.decoder.attend == "between":
            raise ConfigError(
                "model.feeds must not hold input where model.decoder.attend is between, but is "
                f"[{', '.join(self.feeds)}] instead. Both say when attention reads: choose one.",
                self.key("feeds"),
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
