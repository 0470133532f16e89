"""Constraints on targets: what each must start with, contain and not contain, from text to the tables of a search."""

import bisect
import functools
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import ConfigError, DataError
from seq2seq.text.ids import END_ID, PAD_ID, SPACE, UNKNOWN_ID
from seq2seq.text.tokenizer import SubwordVocabulary

# States of an automaton of banned phrases: before every phrase, and at the beginning of a word without a space.
OUTSIDE, BEGINNING = 0, 1


class LexicalConstraints(NamedTuple):
    """The constraints on the target of one sentence, as text."""

    prefix: str = ""
    required: tuple[str, ...] = ()
    banned: tuple[str, ...] = ()

    @property
    def needs_target(self) -> bool:
        """Return whether even a blank source must have a target."""
        return bool(self.prefix or self.required)

    @classmethod
    def for_texts(
        cls,
        texts: Sequence[str],
        options: DecodingConfig,
        prefixes: Sequence[str | None] | None = None,
        required: Sequence[Sequence[str]] | None = None,
        banned: Sequence[Sequence[str]] | None = None,
    ) -> "list[LexicalConstraints]":
        """Join the constraints of the options with those of each text, whose prefix replaces the common one."""
        for name, entries in (("prefixes", prefixes), ("required", required), ("banned", banned)):
            if entries is None:
                continue
            if isinstance(entries, str) or len(entries) != len(texts):
                given = "one string" if isinstance(entries, str) else len(entries)
                raise DataError(f"{name} must have an entry for each of {len(texts)} texts, got {given}.")
            for index, entry in enumerate(entries):
                if name != "prefixes" and isinstance(entry, str):
                    raise TypeError(f"{name}[{index}] must be a list of phrases, got {entry!r}. Write [{entry!r}].")
        none: Sequence[Any] = [()] * len(texts)
        return [
            cls(prefix or options.prefix, (*options.required_phrases, *more), (*options.banned_phrases, *fewer))
            for prefix, more, fewer in zip(prefixes or none, required or none, banned or none, strict=True)
        ]


class TokenConstraints(NamedTuple):
    """The same constraints as tokens; banned phrases as their characters, with a mark before each word."""

    prefix: Sequence[int] = ()
    required: Sequence[list[int]] = ()
    banned: Sequence[str] = ()


class PhraseVocabulary:
    """Encode phrases with the pieces of a target vocabulary.

    Attributes:
        begins_word: `(vocabulary,)`, whether a word may begin after a token without a space, as after a quotation mark.
        continues_word: `(vocabulary,)`, whether a token makes another word of the one before it.
    """

    def __init__(self, vocabulary: SubwordVocabulary) -> None:
        self._vocabulary = vocabulary
        first = END_ID + 1
        pieces = vocabulary.pieces(range(first, vocabulary.size))
        self._ids = {piece: first + place for place, piece in enumerate(pieces)}
        self._sorted = sorted(self._ids)
        self._longest = max(map(len, pieces), default=0)
        # The rest of a piece after a character that ends a word, as `hund)` in `▁(hund)`.
        self._inner = [
            (piece[place:], token)
            for piece, token in self._ids.items()
            for place in range(1, len(piece))
            if not _continues_word(piece[place - 1]) and piece[:place] != SPACE
        ]
        self._automaton = functools.lru_cache(4096)(self._phrase_automaton)
        self.begins_word = np.zeros(vocabulary.size, bool)
        self.begins_word[first:] = [not _continues_word(piece[-1]) for piece in pieces]
        self.continues_word = np.zeros_like(self.begins_word)
        self.continues_word[first:] = [_continues_word(piece[0]) for piece in pieces]

    def check(self, options: DecodingConfig) -> None:
        """Raise `ConfigError` for options that no sentence could meet, before any sentence is refused for them."""
        common = LexicalConstraints(options.prefix, options.required_phrases, options.banned_phrases)
        try:
            self.encode(
                common, sys.maxsize, ("decoding.prefix", "decoding.required_phrases", "decoding.banned_phrases")
            )
        except DataError as error:
            raise ConfigError(str(error)) from error

    def encode(
        self,
        constraints: LexicalConstraints,
        limit: int,
        names: tuple[str, str, str] = ("prefix", "required", "banned"),
    ) -> TokenConstraints:
        """Encode constraints as tokens, or raise `DataError` if the vocabulary or the length limit cannot meet them."""
        prefix = self._encode(constraints.prefix, names[0]) if constraints.prefix.strip() else []
        required = [self._encode(phrase, names[1]) for phrase in dict.fromkeys(constraints.required)]
        spelled = [self._spell(phrase, names[2]) for phrase in dict.fromkeys(constraints.banned)]
        banned = [phrase for phrase in spelled if phrase]
        for phrase in constraints.required:
            self._check_allowed(phrase, banned, names[1])
        needed = len(prefix) + sum(map(len, required))
        if needed > limit:
            raise DataError(
                f"prefix and required phrases must have at most {limit} tokens, got {needed}. Ask for less, or raise "
                "max_length, max_length_ratio or max_length_extra."
            )
        return TokenConstraints(prefix, required, banned)

    def banned_automata(self, sentences: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        """Build the automata of `BannedPhrases` for a batch of sentences, each with its phrases."""
        rows = [list(self._transitions(phrases)) for phrases in sentences]
        states = 2 + max(sum(map(len, phrases)) for phrases in sentences) + 1
        table = np.zeros((len(rows), max([1, *map(len, rows)]), 3), np.int32)
        table[..., 1] = PAD_ID
        for row, transitions in zip(table, rows, strict=True):
            if transitions:
                row[: len(transitions)] = transitions
        # The last state, whose number is the same for all sentences, follows a whole phrase.
        table[table < 0] = states - 1
        return {
            "banned_sources": table[..., 0],
            "banned_ids": table[..., 1],
            "banned_targets": table[..., 2],
            "banned_states": np.array(states, np.int32),
        }

    def _token_ids(self, text: str, name: str) -> list[int]:
        (ids,) = self._vocabulary.encode([text])
        if len(ids) == 1:
            raise DataError(f"{name} must hold words, got {text!r}. Leave it out.")
        return ids[:-1]

    def _encode(self, text: str, name: str) -> list[int]:
        ids = self._token_ids(text, name)
        if UNKNOWN_ID in ids:
            raise DataError(
                f"{name} must be text that the model's vocabulary can write, got {text!r}. Write it with characters of "
                "the training data."
            )
        return ids

    def _spell(self, phrase: str, name: str) -> str:
        """Return the characters of a phrase as pieces spell them; empty if no pieces can."""
        ids = self._token_ids(phrase, name)
        return "" if UNKNOWN_ID in ids else self._join(ids)

    def _join(self, ids: list[int]) -> str:
        return SPACE + "".join(self._vocabulary.pieces(ids)).strip(SPACE)

    def _check_allowed(self, phrase: str, banned: Iterable[str], name: str) -> None:
        spelled = self._join(self._token_ids(phrase, name)) + SPACE
        for other in banned:
            end = spelled.find(other) + len(other)
            if other in spelled and not _continues_word(spelled[end]):
                raise DataError(
                    f"{name} must not hold a banned phrase, but {phrase!r} holds {other[1:]!r}. Keep one of them."
                )

    def _transitions(self, phrases: Sequence[str]) -> Iterator[tuple[int, int, int]]:
        """Yield the transitions of one sentence as (state, token, next state); -1 is the state after a phrase."""
        first = BEGINNING + 1
        for phrase in phrases:
            for start, token, stop in self._automaton(phrase):
                target = -1 if stop == len(phrase) else first + stop
                yield (first + start if start else OUTSIDE), token, target
                if start == 1:
                    yield BEGINNING, token, target
            first += len(phrase)

    def _phrase_automaton(self, phrase: str) -> tuple[tuple[int, int, int], ...]:
        """Return every token that spells part of a phrase as (start, token, stop); a start of 0 is any position."""
        transitions = []
        for start in range(len(phrase)):
            rest = phrase[start:]
            sizes = range(1, min(len(rest), self._longest) + 1)
            transitions += [(start, self._ids[rest[:size]], start + size) for size in sizes if rest[:size] in self._ids]
            # A piece may go on after the phrase, as `▁cat,` does.
            for place in range(bisect.bisect_right(self._sorted, rest), len(self._sorted)):
                piece = self._sorted[place]
                if not piece.startswith(rest):
                    break
                if not _continues_word(piece[len(rest)]):
                    transitions.append((start, self._ids[piece], len(phrase)))
        body = phrase.removeprefix(SPACE)
        for rest, token in self._inner:
            if body.startswith(rest):
                transitions.append((0, token, len(phrase) - len(body) + len(rest)))
            elif rest.startswith(body) and not _continues_word(rest[len(body)]):
                transitions.append((0, token, len(phrase)))
        return tuple(transitions)


def _continues_word(character: str) -> bool:
    """Return whether a character continues a word; no character does in scripts without spaces, such as Chinese."""
    return character.isalnum() and unicodedata.east_asian_width(character) not in ("W", "F")
