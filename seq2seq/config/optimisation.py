"""How a run trains: the section `training`."""

import dataclasses
from typing import ClassVar, Literal

from seq2seq.config.checks import (
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Share,
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
    label_smoothing: Fraction = 0.0
    """Probability taken from the right token and spread over all."""
    coverage_loss: NonNegativeFloat = 0.0
    """What the attention that goes where it has been counts for in the loss of training, against repetitions."""
    ema: Fraction = 0.0
    """Decay of the moving average of the weights, which is what gets evaluated and saved; 0: off."""
    start_from: str | None = None
    """Fine-tuning: a model file whose weights and tokenizer the run starts from; null: random weights."""
    start_anew: tuple[str, ...] = ()
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
    max_skips: Positive = 10
    """Steps in a row whose loss or gradient is infinite or no number, and which are skipped, until the run goes back to
    its last good state."""
    max_returns: NonNegative = 3
    """Times that a run may go back so, until it stops; 0: it stops at once."""
    return_factor: Share = 0.5
    """What the learning rate is multiplied by each time that a run goes back so."""
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
        if self.schedule == "plateau" and 0 < self.patience <= self.plateau_patience:
            raise must_be(
                self.key("plateau_patience"),
                f"less than training.patience ({self.patience})",
                self.plateau_patience,
                "Training would stop before a lower rate is tried.",
            )
        if self.average_checkpoints == 1:
            raise must_be(self.key("average_checkpoints"), "0 or at least 2", 1)
        if self.start_anew and self.start_from is None:
            raise must_be(
                self.key("start_anew"),
                "empty where training.start_from is null",
                list(self.start_anew),
                "Everything starts anew.",
            )
