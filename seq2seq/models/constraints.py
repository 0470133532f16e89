"""What each sentence's target must start with, hold and not hold: from text to the tables that the search takes."""

import bisect
import functools
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError, DataError
from seq2seq.text.ids import END_ID, PAD_ID, UNKNOWN_ID
from seq2seq.text.tokenizer import Tokenizer

SPACE = "▁"
# The states of an automaton of banned phrases: before every phrase, and where a word begins without a space.
OUTSIDE, BEGINNING = 0, 1


class Wish(NamedTuple):
    """What one sentence's target must be like, in text."""

    prefix: str = ""
    required: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()


class Constraints(NamedTuple):
    """The same in tokens; a banned phrase as its characters, with a mark before each word."""

    prefix: list[int]
    required: list[list[int]]
    banned: list[str]


def wishes(
    texts: Sequence[str],
    options: DecodingConfig,
    prefixes: Sequence[str | None] | None,
    required: Sequence[Sequence[str]] | None,
    banned: Sequence[Sequence[str]] | None,
) -> list[Wish]:
    """Join what all sentences want with what each wants: its own prefix replaces the common one, its phrases are added.

    Raises:
        DataError: There is not one entry a text.
        TypeError: The phrases of a text are one string.
    """
    for name, entries in (("prefixes", prefixes), ("required", required), ("banned", banned)):
        if entries is None:
            continue
        if isinstance(entries, str) or len(entries) != len(texts):
            shown = "one string" if isinstance(entries, str) else len(entries)
            raise DataError(f"{name} must have an entry for each of {len(texts)} texts, but has {shown} instead.")
        for place, entry in enumerate(entries):
            if name != "prefixes" and isinstance(entry, str):
                raise TypeError(
                    f"{name}[{place}] must be a list of phrases, but is {entry!r} instead. Write [{entry!r}]."
                )
    nothing: Sequence[Any] = [()] * len(texts)
    return [
        Wish(prefix or options.prefix, (*options.required_phrases, *must), (*options.banned_phrases, *must_not))
        for prefix, must, must_not in zip(prefixes or nothing, required or nothing, banned or nothing, strict=True)
    ]


class Vocabulary:
    """The target's pieces, as wishes need them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        first = END_ID + 1
        pieces = tokenizer.target.pieces(range(first, tokenizer.target.size))
        self._ids = {piece: first + place for place, piece in enumerate(pieces)}
        self._sorted = sorted(self._ids)
        self._longest = max(map(len, pieces), default=0)
        # What follows a character within a piece after which a word may begin, as `hund)` in `▁(hund)`.
        self._inner = [
            (piece[place:], token)
            for piece, token in self._ids.items()
            for place in range(1, len(piece))
            if not _is_of_a_word(piece[place - 1]) and piece[:place] != SPACE
        ]
        self._automaton = functools.lru_cache(4096)(self._phrase_automaton)
        # After these a word may begin without a space: a quotation mark, or a space that is a piece of its own.
        self.begins_word = np.zeros(tokenizer.target.size, bool)
        self.begins_word[first:] = [not _is_of_a_word(piece[-1]) for piece in pieces]
        # These make another word of the one before.
        self.continues_word = np.zeros_like(self.begins_word)
        self.continues_word[first:] = [_is_of_a_word(piece[0]) for piece in pieces]

    def check(self, options: DecodingConfig) -> None:
        """Refuse options that no sentence could meet, before any sentence is refused for them.

        Raises:
            ConfigError: A prefix or a phrase cannot be written, or is both required and banned.
        """
        wish = Wish(options.prefix, options.required_phrases, options.banned_phrases)
        try:
            self.constraints(wish, None, limit=sys.maxsize)
        except DataError as error:
            raise ConfigError(str(error)) from error

    def constraints(self, wish: Wish, place: int | None, limit: int) -> Constraints:
        """One sentence's wishes in tokens.

        Args:
            wish: What it wants.
            place: Its place among the texts, for the message; None: it is what the options want of all.
            limit: The most tokens that it may have.

        Raises:
            DataError: A wish cannot come true: a prefix or a required phrase that the vocabulary cannot write, phrases
                that are both required and banned, or more tokens than the limit.
        """
        prefix = self._encoded(wish.prefix, _named("prefix", place)) if wish.prefix.strip() else []
        required = [self._encoded(phrase, _named("required", place)) for phrase in dict.fromkeys(wish.required)]
        banned = [spelled for phrase in dict.fromkeys(wish.banned) if (spelled := self._spelled(phrase, place))]
        for phrase in wish.required:
            self._check_allowed(phrase, banned, place)
        needed = len(prefix) + sum(map(len, required))
        if needed > limit:
            raise DataError(
                f"texts[{place}]: the prefix and the required phrases must have at most {limit} tokens, as the "
                f"translation may, but have {needed} instead. Ask for less, or raise max_length, max_length_ratio or "
                "max_length_extra."
            )
        return Constraints(prefix, required, banned)

    def banned_automata(self, sentences: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        """The automata of `seq2seq.decoding.BannedPhrases` for a batch of sentences, each with its phrases."""
        rows = [list(self._transitions(phrases)) for phrases in sentences]
        states = 2 + max(sum(map(len, phrases)) for phrases in sentences) + 1
        table = np.zeros((len(rows), max([1, *map(len, rows)]), 3), np.int32)
        table[..., 1] = PAD_ID
        for row, transitions in zip(table, rows, strict=True):
            if transitions:
                row[: len(transitions)] = transitions
        # What completes a phrase leads to the last state, whose number is the same for all sentences.
        table[table < 0] = states - 1
        return {
            "banned_sources": table[..., 0],
            "banned_ids": table[..., 1],
            "banned_targets": table[..., 2],
            "banned_states": np.array(states, np.int32),
        }

    def _encoded(self, text: str, name: str) -> list[int]:
        (ids,) = self._tokenizer.target.encode([text])
        if len(ids) == 1:
            raise DataError(f"{name} must hold words, but is {text!r} instead. Leave it out.")
        if UNKNOWN_ID in ids:
            raise DataError(
                f"{name} must be text that the model's vocabulary can write, but is {text!r} instead. Write it with "
                "characters of the training data."
            )
        return ids[:-1]

    def _spelled(self, phrase: str, place: int | None) -> str:
        """The characters of a phrase as pieces spell them; nothing for one that no pieces can spell."""
        (ids,) = self._tokenizer.target.encode([phrase])
        if len(ids) == 1:
            raise DataError(f"{_named('banned', place)} must hold words, but is {phrase!r} instead. Leave it out.")
        return "" if UNKNOWN_ID in ids else self._joined(ids[:-1])

    def _joined(self, ids: list[int]) -> str:
        return SPACE + "".join(self._tokenizer.target.pieces(ids)).strip(SPACE)

    def _check_allowed(self, phrase: str, banned: Iterable[str], place: int | None) -> None:
        (ids,) = self._tokenizer.target.encode([phrase])
        spelled = self._joined(ids[:-1]) + SPACE
        for other in banned:
            end = spelled.find(other) + len(other)
            if other in spelled and not _is_of_a_word(spelled[end]):
                raise DataError(
                    f"{_named('required', place)} must not hold a banned phrase, but {phrase!r} holds {other[1:]!r}. "
                    "Keep one."
                )

    def _transitions(self, phrases: Sequence[str]) -> Iterator[tuple[int, int, int]]:
        """The transitions of one sentence: (state, token, next state), -1 for the state after a whole phrase."""
        first = BEGINNING + 1
        for phrase in phrases:
            for start, token, stop in self._automaton(phrase):
                target = -1 if stop == len(phrase) else first + stop
                yield (first + start if start else OUTSIDE), token, target
                if start == 1:
                    yield BEGINNING, token, target
            first += len(phrase)

    def _phrase_automaton(self, phrase: str) -> tuple[tuple[int, int, int], ...]:
        """Every token that spells the phrase on from some character of it: (start, token, stop); 0 is any place."""
        found = []
        for start in range(len(phrase)):
            rest = phrase[start:]
            sizes = range(1, min(len(rest), self._longest) + 1)
            found += [(start, self._ids[rest[:size]], start + size) for size in sizes if rest[:size] in self._ids]
            # A piece may go on after the phrase, as `▁cat,` does.
            for place in range(bisect.bisect_right(self._sorted, rest), len(self._sorted)):
                piece = self._sorted[place]
                if not piece.startswith(rest):
                    break
                if not _is_of_a_word(piece[len(rest)]):
                    found.append((start, self._ids[piece], len(phrase)))
        body = phrase.removeprefix(SPACE)
        for rest, token in self._inner:
            if body.startswith(rest):
                found.append((0, token, len(phrase) - len(body) + len(rest)))
            elif rest.startswith(body) and not _is_of_a_word(rest[len(body)]):
                found.append((0, token, len(phrase)))
        return tuple(found)


def _named(kind: str, place: int | None) -> str:
    if place is None:
        return {"prefix": "decoding.prefix"}.get(kind, f"decoding.{kind}_phrases")
    return f"{'prefixes' if kind == 'prefix' else kind}[{place}]"


def _is_of_a_word(character: str) -> bool:
    """Whether a word goes on with a character; scripts that write no spaces, such as Chinese, have no such ones."""
    return character.isalnum() and unicodedata.east_asian_width(character) not in ("W", "F")
