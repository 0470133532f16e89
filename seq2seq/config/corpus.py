"""What a run reads and how it becomes ids: the sections `data` and `tokenizer`."""

import dataclasses
from typing import ClassVar, Literal

from seq2seq.config.checks import (
    Coverage,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    must_be,
)
from seq2seq.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Data(Section):
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
    columns: NonNegative = 0
    """Columns of every line of a tsv file; 0: no more than source and target need."""
    train: str | dict[str, PositiveFloat] = "train"
    """Name of the training files, without their ending; or several names, each with its weight, which is how many
    times an epoch holds each of its pairs: {news: 2, web: 0.5}, as a flag news=2 web=0.5."""
    dev: str | None = "dev"
    """Name of the files that choose the best checkpoint; null: take `held_out` pairs from the training files."""
    test: str | None = "test"
    """Name of the files that are scored once, after training; null: none."""
    agreement: str | None = None
    """A file of agreement items (distractors, source, target, right form, wrong form), scored after training."""
    held_out: NonNegative = 0
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
            raise must_be(self.key("columns"), f"0 where data.format is {self.format}", self.columns)
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
        if self.dev is None and self.held_out == 0:
            raise ConfigError(
                "data.held_out must be at least 1 where data.dev is null, but is 0 instead. "
                "Name a dev set, or say how many training pairs to hold out.",
                self.key("held_out"),
            )
        if self.dev is not None and self.held_out > 0:
            raise ConfigError(
                f"data.held_out must be 0 where data.dev names files ({self.dev}), but is {self.held_out} instead. "
                "Set data.dev to null to hold pairs out of training.",
                self.key("held_out"),
            )


@dataclasses.dataclass(frozen=True)
class Tokenizer(Section):
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
    sampling_alpha: NonNegativeFloat = 0.0
    """Subword sampling while training: smoothing of the unigram model, or dropout of merges in bpe; 0: off."""
    sampling_nbest: int = -1
    """Segmentations that the unigram model samples from; -1: all of them."""

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
        if self.sampling_alpha > 0 and not subwords:
            raise must_be(self.key("sampling_alpha"), f"0 where tokenizer.kind is {self.kind}", self.sampling_alpha)
        if self.sampling_alpha > 1 and self.kind == "bpe":
            raise must_be(self.key("sampling_alpha"), "at most 1 where tokenizer.kind is bpe", self.sampling_alpha)
        if self.sampling_nbest != -1 and self.sampling_nbest < 2:
            raise must_be(self.key("sampling_nbest"), "-1 or at least 2", self.sampling_nbest)
