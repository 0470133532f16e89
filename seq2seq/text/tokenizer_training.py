"""Train tokenizers on lines of text, or build them from given tokens; errors name a size that works."""

import dataclasses
import io
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from seq2seq.errors import ArgumentError, TokenizerError, require_choice, require_integer
from seq2seq.text.ids import END_ID, PAD_ID, SPACE, SPECIAL_PIECES, START_ID, UNKNOWN_ID
from seq2seq.text.tokenizer import SubwordVocabulary, Tokenizer

KINDS = ("unigram", "bpe", "char", "word")
NORMALIZATIONS = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity")
GIVEN_TOKENS_KINDS = {"char": 4, "word": 3}
"""Kinds of given tokens, with SentencePiece's number for them."""

MAX_TRAINING_LINES = 400_000

Item = TypeVar("Item")

_SPECIAL_IDS: dict[str, Any] = {"pad_id": PAD_ID, "unk_id": UNKNOWN_ID, "bos_id": START_ID, "eos_id": END_ID}
_SPECIAL_NAMES: dict[str, Any] = dict(
    zip(("pad_piece", "unk_piece", "bos_piece", "eos_piece"), SPECIAL_PIECES, strict=True)
)
_TOO_LARGE = re.compile(r"Vocabulary size too high .*<= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """Settings of a tokenizer's training, as a recipe explains them.

    SentencePiece's unigram makes no piece of a whole word that is part of no other word: for a corpus of few words
    `bpe` gives shorter rows.
    """

    kind: str = "unigram"
    vocabulary_size: int
    target_vocabulary_size: int | None = None
    shared: bool = True
    character_coverage: float = 1.0
    byte_fallback: bool = False
    user_symbols: Sequence[str] = ()
    normalization: str = "nmt_nfkc"

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("normalization", self.normalization, NORMALIZATIONS)
        if self.shared and self.target_vocabulary_size is not None:
            requirement, advice = "None where shared is True", "Set shared to False for two vocabularies."
            raise ArgumentError("target_vocabulary_size", requirement, self.target_vocabulary_size, advice)
        if not 0.98 <= self.character_coverage <= 1:
            raise ArgumentError("character_coverage", "from 0.98 to 1", self.character_coverage)
        if self.byte_fallback and self.kind not in ("unigram", "bpe"):
            raise ArgumentError("byte_fallback", f"False where kind is {self.kind}", self.byte_fallback)
        if isinstance(self.user_symbols, str):
            raise TypeError(f"user_symbols must be a list of strings, got one string, {self.user_symbols!r}.")
        for symbol in self.user_symbols:
            if not symbol or symbol.split() != [symbol] or SPACE in symbol:
                raise ArgumentError("user_symbols", "strings without spaces", symbol)
            if symbol in SPECIAL_PIECES:
                raise ArgumentError("user_symbols", f"other than {', '.join(SPECIAL_PIECES)}", symbol)
        if len(set(self.user_symbols)) < len(self.user_symbols):
            raise ArgumentError("user_symbols", "without repetition", list(self.user_symbols))

    def for_sentencepiece(self) -> dict[str, Any]:
        """Return the options of both sides under SentencePiece's names."""
        return {
            "model_type": self.kind,
            "character_coverage": self.character_coverage,
            "byte_fallback": self.byte_fallback,
            "user_defined_symbols": list(self.user_symbols),
            "normalization_rule_name": self.normalization,
            # The characters or words of a corpus are given; a size can only select the frequent ones.
            "hard_vocab_limit": self.kind in ("unigram", "bpe"),
            # With its own spaces the mark of an unknown word would have two, since pieces of text bring theirs.
            "unk_surface": " ⁇" if self.kind == "word" else "⁇",
        }


def train_tokenizer(
    source_lines: Iterable[str],
    target_lines: Iterable[str],
    *,
    max_training_lines: int | None = MAX_TRAINING_LINES,
    seed: int = 0,
    **settings: Any,
) -> Tokenizer:
    """Train SentencePiece on a corpus (Kudo and Richardson 2018) with the settings of `TokenizerOptions`.

    The same lines always give the same tokenizer: one thread does the work, because SentencePiece's sums, and with them
    its pieces, differ with the number of threads. Of more than `max_training_lines` lines for a vocabulary some are
    drawn with `seed`. An error names the nearest vocabulary size that works.
    """
    options = TokenizerOptions(**settings)
    if max_training_lines is not None:
        require_integer("max_training_lines", max_training_lines)
    source, target = Reservoir[str](max_training_lines, seed), Reservoir[str](max_training_lines, seed)
    _add_lines(source, source_lines, "source")
    _add_lines(source if options.shared else target, target_lines, "target")
    vocabulary = SubwordVocabulary(
        _train(source.items, "vocabulary_size", options.vocabulary_size, options.for_sentencepiece())
    )
    if options.shared:
        return Tokenizer(vocabulary)
    size = options.target_vocabulary_size or options.vocabulary_size
    model = _train(target.items, "target_vocabulary_size", size, options.for_sentencepiece())
    return Tokenizer(vocabulary, SubwordVocabulary(model))


class Reservoir(Generic[Item]):
    """Keep up to `limit` items of a stream, each with the same probability (Vitter 1985, algorithm R)."""

    def __init__(self, limit: int | None, seed: int) -> None:
        self.items: list[Item] = []
        self._limit = limit
        self._random = random.Random(seed)
        self._seen = 0

    def add(self, item: Item) -> None:
        """Add an item, and drop another, or itself, where there are too many."""
        self._seen += 1
        if self._limit is None or len(self.items) < self._limit:
            self.items.append(item)
            return
        place = self._random.randrange(self._seen)
        if place < self._limit:
            self.items[place] = item


def _add_lines(sample: Reservoir[str], lines: Iterable[str], side: str) -> None:
    for number, line in enumerate(lines, start=1):
        # SentencePiece marks unknown characters with this one, and drops a line that has it without a word.
        text = line.replace("▅", " ").strip()
        if "\0" in text:
            raise TokenizerError(f"Line {number} of the {side} must be text, got a NUL character.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            message = f"Line {number} of the {side} must be valid Unicode, got half a surrogate pair."
            raise TokenizerError(message) from error
        if text:
            sample.add(text)


def _train(lines: Sequence[str], name: str, size: int, options: dict[str, Any]) -> bytes:
    if not lines:
        raise TokenizerError("The tokenizer must have at least one line to train on, got none. Check the corpus.")
    # With fewer pieces than these SentencePiece stops with a message that names no size. Where pieces are words, it
    # makes two of a symbol, with and without a space before it.
    symbols = len(options["user_defined_symbols"]) * (2 if options["model_type"] == "word" else 1)
    smallest = len(SPECIAL_PIECES) + symbols + 1
    model, error = _attempt(lines, max(size, smallest), options)
    if model is not None and size >= smallest:
        return model
    if found := _TOO_SMALL.search(error):
        smallest = int(found[1])
    if model is not None or found:
        raise TokenizerError(
            f"{name} must be >= {smallest} for the characters of this corpus, got {size}. "
            f"Set it to {smallest} or more, or lower character_coverage."
        )
    if found := _TOO_LARGE.search(error):
        largest = _largest_that_works(lines, int(found[1]), options)
        raise TokenizerError(
            f"{name} must be <= {largest} for this corpus ({len(lines):,} lines), got {size}. "
            f"Set it to {largest} or less, or give the tokenizer more text."
        )
    raise TokenizerError(f"SentencePiece could not train a tokenizer with {name} {size}: {error}")


def _largest_that_works(lines: Sequence[str], claimed: int, options: dict[str, Any]) -> int:
    """Try the size that SentencePiece names, which depends on the size that was asked for, until it holds."""
    while True:
        model, error = _attempt(lines, claimed, options)
        smaller = _TOO_LARGE.search(error)
        if model is not None or smaller is None or int(smaller[1]) >= claimed:
            return claimed
        claimed = int(smaller[1])


def _attempt(lines: Sequence[str], size: int, options: dict[str, Any]) -> tuple[bytes | None, str]:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=size,
            # SentencePiece would drop longer lines; the reader of the corpus has its own limit.
            max_sentence_length=2**30,
            num_threads=1,
            minloglevel=3,
            **_SPECIAL_IDS,
            **_SPECIAL_NAMES,
            **options,
        )
    except RuntimeError as error:
        return None, str(error)
    return model.getvalue(), ""


def tokenizer_from_tokens(source_tokens: Sequence[str], target_tokens: Sequence[str], kind: str) -> Tokenizer:
    """Build a tokenizer that numbers the given characters or words from 4 on, with a vocabulary for each side."""
    require_choice("kind", kind, GIVEN_TOKENS_KINDS)
    sides = {"source_tokens": source_tokens, "target_tokens": target_tokens}
    return Tokenizer(*(SubwordVocabulary(_model(tokens, argument, kind)) for argument, tokens in sides.items()))


def _model(tokens: Sequence[str], argument: str, kind: str) -> bytes:
    for place, token in enumerate(tokens):
        if not isinstance(token, str) or (len(token) != 1 if kind == "char" else not token or " " in token):
            wanted = "one character" if kind == "char" else "a word without spaces"
            raise TokenizerError(f"{argument}[{place}] must be {wanted} where kind is {kind}, got {token!r}.")
    pieces = [token.replace(" ", SPACE) if kind == "char" else f"{SPACE}{token}" for token in tokens]
    if len(set(pieces)) < len(pieces):
        twice = next(token for place, token in enumerate(tokens) if pieces[place] in pieces[:place])
        raise TokenizerError(f"{argument} must hold each token once, got {twice!r} twice.")
    model = sentencepiece_model_pb2.ModelProto()
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for place, piece in enumerate([*SPECIAL_PIECES, *pieces]):
        is_special = place < len(SPECIAL_PIECES)
        special = kinds.UNKNOWN if place == UNKNOWN_ID else kinds.CONTROL
        model.pieces.add(piece=piece, score=0.0, type=special if is_special else kinds.NORMAL)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = GIVEN_TOKENS_KINDS[kind]
    for name, value in (_SPECIAL_IDS | _SPECIAL_NAMES).items():
        setattr(trainer, name, value)
    # Characters are read as they come; words are what spaces separate.
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = kind == "word"
    content: bytes = model.SerializeToString()
    return content
