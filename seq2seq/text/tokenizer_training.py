"""Training of a tokenizer from lines of text, with errors that name a size that works."""

import difflib
import io
import random
import re
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from seq2seq.errors import TokenizerError
from seq2seq.text.ids import (
    END_ID,
    END_PIECE,
    PAD_ID,
    PAD_PIECE,
    SPECIAL_PIECES,
    START_ID,
    START_PIECE,
    UNKNOWN_ID,
    UNKNOWN_PIECE,
)
from seq2seq.text.tokenizer import SubwordVocabulary, Tokenizer

KINDS = ("unigram", "bpe", "char", "word")
NORMALIZATIONS = ("nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity")

MAX_TRAINING_LINES = 400_000

Item = TypeVar("Item")

_TOO_LARGE = re.compile(r"Vocabulary size too high .*<= (\d+)")
_TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)")


def train_tokenizer(
    source_lines: Iterable[str],
    target_lines: Iterable[str],
    *,
    kind: str = "unigram",
    vocabulary_size: int,
    target_vocabulary_size: int | None = None,
    shared: bool = True,
    character_coverage: float = 1.0,
    byte_fallback: bool = False,
    user_symbols: Sequence[str] = (),
    normalization: str = "nmt_nfkc",
    max_training_lines: int | None = MAX_TRAINING_LINES,
    seed: int = 0,
) -> Tokenizer:
    """Train SentencePiece on a corpus (Kudo and Richardson 2018); the same lines always give the same tokenizer.

    One thread does the work, because SentencePiece's sums, and with them its pieces, differ with the number of
    threads. Of a corpus of more than `max_training_lines`, lines drawn with `seed` are used: more would change
    little and cost memory.

    Args:
        source_lines: source texts, read once.
        target_lines: target texts, read once.
        kind: `unigram` or `bpe` for subwords, `char` for characters, `word` for what stands between spaces.
            SentencePiece's unigram never makes a piece of a whole word that is part of no other word: for a corpus of
            few different words `bpe` gives shorter rows.
        vocabulary_size: number of pieces, the four special ones included; `char` and `word` may have fewer, never
            more.
        target_vocabulary_size: the same for the target where `shared` is False; None: `vocabulary_size`.
        shared: one vocabulary for both sides, or one for each.
        character_coverage: share of the characters of the corpus that get a piece of their own, 0.98 to 1.
        byte_fallback: spell any other character in bytes instead of as unknown (unigram and bpe).
        user_symbols: strings that are always one piece.
        normalization: Unicode normalisation, one of `NORMALIZATIONS`.
        max_training_lines: lines of one vocabulary to train on; None: all.
        seed: draws the lines where there are more.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: where the corpus cannot give such a vocabulary; the message names the nearest size that it can.
        ValueError: where an argument is out of its range.

    Examples:
        >>> tokenizer = train_tokenizer(["ab", "ba"], ["ab a"], kind="bpe", vocabulary_size=9)
        >>> tokenizer
        Tokenizer(joint, 9 pieces)
    """
    if shared and target_vocabulary_size is not None:
        raise ValueError(
            f"target_vocabulary_size must be None where shared is True, but is {target_vocabulary_size} instead."
        )
    settings = _settings(kind, character_coverage, byte_fallback, user_symbols, normalization)
    if max_training_lines is not None and max_training_lines < 1:
        raise ValueError(f"max_training_lines must be at least 1 or None, but is {max_training_lines} instead.")
    source, target = Reservoir[str](max_training_lines, seed), Reservoir[str](max_training_lines, seed)
    _add_lines(source, source_lines, "source")
    _add_lines(source if shared else target, target_lines, "target")
    source_model = _train(source.items, "vocabulary_size", vocabulary_size, settings)
    if shared:
        return Tokenizer(SubwordVocabulary(source_model))
    target_size = vocabulary_size if target_vocabulary_size is None else target_vocabulary_size
    target_model = _train(target.items, "target_vocabulary_size", target_size, settings)
    return Tokenizer(SubwordVocabulary(source_model), SubwordVocabulary(target_model))


def _settings(
    kind: str, character_coverage: float, byte_fallback: bool, user_symbols: Sequence[str], normalization: str
) -> dict[str, Any]:
    """What SentencePiece calls these arguments, once they have been checked."""
    _check_choice("kind", kind, KINDS)
    _check_choice("normalization", normalization, NORMALIZATIONS)
    _check_user_symbols(user_symbols)
    if not 0.98 <= character_coverage <= 1:
        raise ValueError(f"character_coverage must be from 0.98 to 1, but is {character_coverage} instead.")
    if byte_fallback and kind not in ("unigram", "bpe"):
        raise ValueError(f"byte_fallback must be False where kind is {kind}, but is True instead.")
    return {
        "model_type": kind,
        "character_coverage": character_coverage,
        "byte_fallback": byte_fallback,
        "user_defined_symbols": list(user_symbols),
        "normalization_rule_name": normalization,
        # A vocabulary of characters or words is what the corpus has; only the larger part of it can be asked for.
        "hard_vocab_limit": kind in ("unigram", "bpe"),
        # With its own spaces around it, the mark of an unknown word would stand apart; pieces of text bring theirs.
        "unk_surface": " ⁇" if kind == "word" else "⁇",
    }


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(choices)}, but is {value!r} instead.{hint}")


def _check_user_symbols(user_symbols: Sequence[str]) -> None:
    if isinstance(user_symbols, str):
        raise TypeError(f"user_symbols must be a list of strings, but is one string, {user_symbols!r}, instead.")
    for symbol in user_symbols:
        if not symbol or symbol.split() != [symbol] or "▁" in symbol:
            raise ValueError(f"user_symbols must be strings without spaces, but one is {symbol!r} instead.")
        if symbol in SPECIAL_PIECES:
            raise ValueError(f"user_symbols must be other than {', '.join(SPECIAL_PIECES)}, but one is {symbol}.")
    if len(set(user_symbols)) < len(user_symbols):
        raise ValueError(f"user_symbols must be without repetition, but are {list(user_symbols)} instead.")


class Reservoir(Generic[Item]):
    """Up to `limit` items of a stream of any length, each equally likely to be kept (Vitter 1985, algorithm R).

    Args:
        limit: items to keep at most; None: all.
        seed: what the choice depends on, beside the number of items.
    """

    def __init__(self, limit: int | None, seed: int) -> None:
        self.items: list[Item] = []
        self._limit = limit
        self._random = random.Random(seed)
        self._seen = 0

    def add(self, item: Item) -> None:
        """Take an item, and drop another, or itself, where there are too many."""
        self._seen += 1
        if self._limit is None or len(self.items) < self._limit:
            self.items.append(item)
            return
        place = self._random.randrange(self._seen)
        if place < self._limit:
            self.items[place] = item


def _add_lines(sample: Reservoir[str], lines: Iterable[str], side: str) -> None:
    """Blank lines teach nothing and are passed over."""
    for number, line in enumerate(lines, start=1):
        # SentencePiece marks unknown characters with this one, and leaves out a line that has it without a word.
        text = line.replace("▅", " ").strip()
        _check_line(text, side, number)
        if text:
            sample.add(text)


def _check_line(text: str, side: str, number: int) -> None:
    if "\0" in text:
        raise TokenizerError(f"Line {number} of the {side} must be text, but holds a NUL character instead.")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"Line {number} of the {side} must be valid Unicode, but holds half a surrogate pair instead."
            ) from error


def _train(lines: Sequence[str], name: str, size: int, settings: dict[str, Any]) -> bytes:
    if not lines:
        raise TokenizerError(
            "The text to train the tokenizer on must hold at least one line, but is empty instead. Check the corpus."
        )
    # Below one piece beside the fixed ones SentencePiece stops with a message that names no size. Where pieces are
    # words, it makes two of a symbol, with and without a space before it.
    symbols = len(settings["user_defined_symbols"]) * (2 if settings["model_type"] == "word" else 1)
    floor = len(SPECIAL_PIECES) + symbols + 1
    model, error = _attempt(lines, max(size, floor), settings)
    if size < floor and model is not None:
        raise _too_small(name, size, floor)
    if model is not None:
        return model
    too_small, too_large = _TOO_SMALL.search(error), _TOO_LARGE.search(error)
    if too_small:
        raise _too_small(name, size, int(too_small[1]))
    if too_large:
        largest = _largest_that_works(lines, int(too_large[1]), settings)
        raise TokenizerError(
            f"{name} must be at most {largest} for this corpus ({len(lines):,} lines), but is {size} instead. "
            f"Set it to {largest} or less, or give the tokenizer more text."
        )
    raise TokenizerError(f"SentencePiece could not train a tokenizer with {name} {size}: {error}")


def _too_small(name: str, size: int, smallest: int) -> TokenizerError:
    return TokenizerError(
        f"{name} must be at least {smallest} for the characters of this corpus, but is {size} instead. "
        f"Set it to {smallest} or more, or lower character_coverage."
    )


def _largest_that_works(lines: Sequence[str], claimed: int, settings: dict[str, Any]) -> int:
    """The size that SentencePiece names is one that it reached by asking for more: it is tried before we name it."""
    while True:
        model, error = _attempt(lines, claimed, settings)
        smaller = _TOO_LARGE.search(error)
        if model is not None or smaller is None or int(smaller[1]) >= claimed:
            return claimed
        claimed = int(smaller[1])


def _attempt(lines: Sequence[str], size: int, settings: dict[str, Any]) -> tuple[bytes | None, str]:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=size,
            pad_id=PAD_ID,
            unk_id=UNKNOWN_ID,
            bos_id=START_ID,
            eos_id=END_ID,
            pad_piece=PAD_PIECE,
            unk_piece=UNKNOWN_PIECE,
            bos_piece=START_PIECE,
            eos_piece=END_PIECE,
            # Longer lines would be left out; what is too long has been decided by the reader of the corpus.
            max_sentence_length=2**30,
            num_threads=1,
            minloglevel=3,
            **settings,
        )
    except RuntimeError as error:
        return None, str(error)
    return model.getvalue(), ""


GIVEN_TOKENS_KINDS = {"char": 4, "word": 3}
"""What tokens may be, and SentencePiece's number for it."""

SPACE = "▁"


def tokenizer_from_tokens(source_tokens: Sequence[str], target_tokens: Sequence[str], kind: str) -> Tokenizer:
    """The tokenizer that gives these tokens the ids from 4 on, in their order; each side has its own vocabulary.

    Args:
        source_tokens: Characters, or words without spaces; none of the special ones.
        target_tokens: The same for the target.
        kind: `char` or `word`.

    Raises:
        TokenizerError: A token comes twice, is empty, or is more than a character, or a word.
        ValueError: Another kind.

    >>> tokenizer = tokenizer_from_tokens(["the", "cat"], ["la", "kato"], "word")
    >>> tokenizer.source.encode(["the cat sat"]), tokenizer.target.decode([[4, 5]])
    ([[4, 5, 1, 3]], ['la kato'])
    """
    if kind not in GIVEN_TOKENS_KINDS:
        raise ValueError(f"kind must be one of {', '.join(GIVEN_TOKENS_KINDS)}, but is {kind!r} instead.")
    models = (_model(source_tokens, "source_tokens", kind), _model(target_tokens, "target_tokens", kind))
    return Tokenizer(*map(SubwordVocabulary, models))


def _model(tokens: Sequence[str], argument: str, kind: str) -> bytes:
    for place, token in enumerate(tokens):
        if not isinstance(token, str) or (len(token) != 1 if kind == "char" else not token or " " in token):
            wanted = "one character" if kind == "char" else "a word without spaces"
            raise TokenizerError(
                f"{argument}[{place}] must be {wanted} where kind is {kind}, but is {token!r} instead."
            )
    pieces = [token.replace(" ", SPACE) if kind == "char" else f"{SPACE}{token}" for token in tokens]
    if len(set(pieces)) < len(pieces):
        twice = next(token for place, token in enumerate(tokens) if pieces[place] in pieces[:place])
        raise TokenizerError(f"{argument} must hold each token once, but hold {twice!r} twice.")
    model = sentencepiece_model_pb2.ModelProto()
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for place, piece in enumerate([*SPECIAL_PIECES, *pieces]):
        is_special = place < len(SPECIAL_PIECES)
        special = kinds.UNKNOWN if place == UNKNOWN_ID else kinds.CONTROL
        model.pieces.add(piece=piece, score=0.0, type=special if is_special else kinds.NORMAL)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = GIVEN_TOKENS_KINDS[kind]
    trainer.pad_id, trainer.unk_id, trainer.bos_id, trainer.eos_id = range(len(SPECIAL_PIECES))
    trainer.pad_piece, trainer.unk_piece, trainer.bos_piece, trainer.eos_piece = SPECIAL_PIECES
    # Characters are read as they come; words are what stands between spaces.
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = normalizer.remove_extra_whitespaces = kind == "word"
    content: bytes = model.SerializeToString()
    return content
