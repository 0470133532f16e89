"""How a run trains and decodes: the sections `training` and `decoding`."""

import dataclasses
from typing import ClassVar, Literal

from seq2seq.config.checks import (
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    must_be,
)


@dataclasses.dataclass(frozen=True)
class Training(Section):
    """The loop: how long, on what batches, with which optimizer, and what is kept."""

    section: ClassVar[str] = "training"

    epochs: Positive = 20
    """Times to go through the training pairs."""
    minutes: NonNegativeFloat = 0.0
    """Stop after this many minutes of training, whatever the epoch; 0: no limit."""
    batch_tokens: Positive = 4_096
    """Tokens in a batch at most, source and target and their padding together."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """The rule that moves the weights; adamw also decays them."""
    learning_rate: PositiveFloat = 0.002
    """The highest learning rate, reached at the end of the warm-up."""
    schedule: Literal["constant", "cosine", "inverse_square_root"] = "cosine"
    """How the learning rate goes on after the warm-up: level, down to almost nothing at the last
    epoch, or with one over the root of the steps."""
    warmup_steps: NonNegative = 200
    """Steps in which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.0
    """Strength of the decay of weights; only with adamw."""
    clip_norm: NonNegativeFloat = 1.0
    """Largest norm of all gradients together; 0: never clipped."""
    label_smoothing: Fraction = 0.0
    """Probability taken from the right token and spread over all."""
    ema: Fraction = 0.0
    """Decay of the moving average of the weights, which is what gets evaluated and saved; 0: off."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers of the matrix products; auto: bfloat16 where the machine multiplies it faster."""
    evaluate_every: PositiveFloat = 1.0
    """Epochs between two evaluations on the dev set; 0.5 is twice an epoch."""
    monitor: Literal["loss", "perplexity", "bleu", "chrf", "exact_match"] = "loss"
    """The dev score that chooses the checkpoint to keep and stops training."""
    patience: NonNegative = 0
    """Evaluations without improvement after which training stops; 0: never."""
    dev_sentences: NonNegative = 500
    """Dev sentences that an evaluation translates for its scores; 0: all."""
    tensorboard: bool = False
    """Write the history for TensorBoard too, into the run's folder."""
    implementation: Literal["auto", "cudnn", "scan", "raw"] = "auto"
    """The kernel of the recurrent layers; auto takes the fastest that the machine and the model allow."""

    def check(self) -> None:
        if self.weight_decay > 0 and self.optimizer != "adamw":
            raise must_be(
                self.key("weight_decay"),
                f"0 where training.optimizer is {self.optimizer}",
                self.weight_decay,
                "Take adamw.",
            )


@dataclasses.dataclass(frozen=True)
class Decoding(Section):
    """The search for a translation; saved with the model as its defaults."""

    section: ClassVar[str] = "decoding"

    beam_size: Positive = 5
    """Hypotheses kept at every step; 1: greedy."""
    length_penalty: Literal["none", "average", "wu"] = "average"
    """What a hypothesis' log-probability is divided by: nothing, length ** alpha, or ((5 + length) / 6) ** alpha."""
    length_penalty_alpha: NonNegativeFloat = 1.0
    """The alpha of the length penalty: more favours longer translations."""
    max_length_ratio: NonNegativeFloat = 2.0
    """A translation has at most ratio * source tokens + extra tokens."""
    max_length_extra: NonNegative = 10
    """The extra tokens of that limit."""
    max_length: Positive = 256
    """A translation has at most this many tokens, however long the source."""
    batch_tokens: Positive = 4_096
    """Source tokens decoded at once at most, with their padding."""
    n_best: Positive = 1
    """Translations given for each source, best first."""

    def check(self) -> None:
        if self.n_best > self.beam_size:
            raise must_be(self.key("n_best"), f"at most decoding.beam_size ({self.beam_size})", self.n_best)
        if self.max_length_ratio == 0 and self.max_length_extra == 0:
            raise must_be(self.key("max_length_extra"), "at least 1 where decoding.max_length_ratio is 0", 0)
