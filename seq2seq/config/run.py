"""A whole run: the tree of all sections."""

import dataclasses
import pathlib
from typing import ClassVar, Literal

from seq2seq.config.architecture import Model
from seq2seq.config.checks import NonNegative, Section, must_be
from seq2seq.config.corpus import Data, Tokenizer
from seq2seq.config.decoding import Decoding
from seq2seq.config.optimisation import Training

LABEL_TASKS = ("classify", "tag")
_LABEL_SCORES = ("loss", "perplexity", "accuracy", "macro_f1")
SCORES = {
    "translate": ("loss", "perplexity", "bleu", "chrf", "exact_match"),
    "summarize": ("loss", "perplexity", "rouge_1", "rouge_2", "rouge_l", "token_f1", "exact_match"),
    "classify": _LABEL_SCORES,
    "tag": _LABEL_SCORES,
}
"""What an evaluation on the dev set finds, by task; `training.monitor` is one of them."""


@dataclasses.dataclass(frozen=True)
class Run(Section):
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
        >>> config = Config(run=Run(name="small"))
        >>> config.run.path.as_posix(), config.training.optimizer
        ('checkpoints/small', 'adam')
        >>> Config.from_dict(config.to_dict()) == config
        True
    """

    task: Literal["translate", "summarize", "classify", "tag"] = "translate"
    """What the model makes of a text, which says what its outputs are scored with: another text (translate, summarize),
    one label (classify), or a label for each word (tag), which a pair's target then holds, apart by spaces."""
    run: Run = dataclasses.field(default_factory=Run)
    data: Data = dataclasses.field(default_factory=Data)
    tokenizer: Tokenizer = dataclasses.field(default_factory=Tokenizer)
    model: Model = dataclasses.field(default_factory=Model)
    training: Training = dataclasses.field(default_factory=Training)
    decoding: Decoding = dataclasses.field(default_factory=Decoding)

    @property
    def gives_labels(self) -> bool:
        """Whether the model gives labels, and so has neither a decoder nor a search."""
        return self.task in LABEL_TASKS

    def check(self) -> None:
        if self.gives_labels:
            self._check_labels()
        if self.training.monitor not in SCORES[self.task]:
            raise must_be(
                self.training.key("monitor"),
                f"one of {', '.join(SCORES[self.task])} where task is {self.task}",
                self.training.monitor,
            )
        if self.model.tie in ("source_target", "all") and not self.tokenizer.shared:
            raise must_be(
                self.model.key("tie"),
                "none or output where tokenizer.shared is false",
                self.model.tie,
                "One table for both sides needs one vocabulary.",
            )
        if self.training.coverage_loss and self.model.context != "attention":
            raise must_be(
                self.training.key("coverage_loss"),
                f"0 where model.context is {self.model.context}",
                self.training.coverage_loss,
            )
        if self.model.copy.mode != "none" and not self.tokenizer.shared:
            raise must_be(
                self.model.copy.key("mode"),
                "none where tokenizer.shared is false",
                self.model.copy.mode,
                "Only a token that both sides have can be copied.",
            )

    def _check_labels(self) -> None:
        where = f"where task is {self.task}"
        if self.model.context == "attention":
            advice = "Only what is written step by step reads the source anew at each."
            raise must_be(self.model.key("context"), f"other than attention {where}", self.model.context, advice)
        if self.model.tie != "none":
            raise must_be(self.model.key("tie"), f"none {where}", self.model.tie, "Labels have no embeddings.")
        if not self.tokenizer.shared:
            raise must_be(self.tokenizer.key("shared"), f"true {where}", False, "Labels are not cut into pieces.")
        if self.model.copy.mode != "none":
            raise must_be(self.model.copy.key("mode"), f"none {where}", self.model.copy.mode, "Labels are not copied.")
        if self.task == "classify":
            return
        if self.tokenizer.sampling_alpha > 0:
            raise must_be(self.tokenizer.key("sampling_alpha"), f"0 {where}", self.tokenizer.sampling_alpha)
        if self.model.encoder.reduction > 1:
            advice = "Each word needs a step of its own."
            key = "stride" if self.model.encoder.stride > 1 else "pyramid"
            raise must_be(self.model.encoder.key(key), f"1 {where}", getattr(self.model.encoder, key), advice)
        if self.data.truncate != "none":
            advice = "Each word has its label."
            raise must_be(self.data.key("truncate"), f"none {where}", self.data.truncate, advice)
