"""Convert strings to ids and back: vocabularies of subwords and of labels, and the pair that a model carries."""

import functools
import hashlib
import itertools
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import sentencepiece

from seq2seq.errors import ArgumentError, DataError, TokenizerError
from seq2seq.text.ids import END_ID, FIRST_LABEL_ID, PAD_ID, SPACE, START_ID, UNKNOWN_ID
from seq2seq.text.lines import Problem
from seq2seq.text.subword_sampling import Sampler, Sampling

Token = TypeVar("Token")


class SubwordVocabulary:
    """Segment texts, or each of their words, with a SentencePiece model; `END_ID` ends every row of ids.

    `model` has the ids PAD 0, UNKNOWN 1, START 2, END 3. `name` names it in messages.
    """

    def __init__(self, model: bytes, by_word: bool = False, name: str = "model") -> None:
        self.model = bytes(model)
        self.by_word = by_word
        self._processor = _load(self.model, name)
        self.size = int(self._processor.vocab_size())

    @functools.cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self._processor)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Convert every text to ids."""
        if self.by_word:
            return self.encode_words(texts)[0]
        _check_texts(texts)
        # SentencePiece starts threads for a list, even for a list of one. `encode_corpus` has threads of its own.
        if len(texts) == 1:
            return [self._processor.encode(texts[0], add_eos=True)]
        return self._processor.encode(list(texts), add_eos=True, num_threads=1)

    def encode_words(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Convert every text to ids word by word, and give the position of the first piece of each word."""
        _check_texts(texts)
        words = [text.split() for text in texts]
        encoded = self._processor.encode(list(itertools.chain.from_iterable(words)), num_threads=1)
        # Normalisation can leave nothing of a word of invisible characters, which needs a piece for its label.
        pieces = iter([ids or [UNKNOWN_ID] for ids in encoded])
        rows = [[next(pieces) for _ in of_text] for of_text in words]
        ends = [list(itertools.accumulate(map(len, row), initial=0)) for row in rows]
        return [[*itertools.chain.from_iterable(row), END_ID] for row in rows], [starts[:-1] for starts in ends]

    def sample(self, texts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[list[int]]:
        """Convert every text to ids, with a segmentation drawn by the seed of the text, from 0 to 2**32 - 1."""
        if self.by_word:
            raise ArgumentError("sampling", "None for words with a label each", sampling)
        _check_texts(texts)
        if len(seeds) != len(texts):
            raise ArgumentError("seeds", f"one for each of {len(texts)} texts", len(seeds))
        return [self._sampler.draw(text, sampling, seed) for text, seed in zip(texts, seeds, strict=True)]

    def tokenize(self, text: str) -> list[str]:
        """Name the piece of each id that `encode` makes of a text; a character without a piece names itself."""
        _check_texts([text])
        if not self.by_word:
            return list(self._processor.encode(text, out_type=str, add_eos=True))
        words = [self._processor.encode(word, out_type=str) or [word] for word in text.split()]
        return [*itertools.chain.from_iterable(words), self._processor.id_to_piece(END_ID)]

    def pieces(self, token_ids: Iterable[int]) -> list[str]:
        """Name the pieces of a row of ids, up to and with the first `END_ID`, without padding and start."""
        return [self._processor.id_to_piece(i) for i in self._until_end(token_ids)]

    def _until_end(self, token_ids: Iterable[int], index: int = 0) -> list[int]:
        row = _checked(token_ids, self.size, index)
        end = row.index(END_ID) + 1 if END_ID in row else len(row)
        return [i for i in row[:end] if i not in (PAD_ID, START_ID)]

    def join(self, pieces: Sequence[str]) -> str:
        """Join pieces to a text, up to the first end; a piece outside the vocabulary is copied."""
        end = self._processor.id_to_piece(END_ID)
        inner = pieces[: pieces.index(end)] if end in pieces else pieces
        # SentencePiece copies the sign of a space in unknown pieces.
        return self._processor.decode(list(inner)).replace(SPACE, " ").strip(" ")

    def decode(self, token_ids: Iterable[Iterable[int]]) -> list[str]:
        """Convert rows of ids to texts, each up to its first `END_ID`; an unknown id reads `⁇`."""
        rows = [[i for i in self._until_end(ids, index) if i != END_ID] for index, ids in enumerate(token_ids)]
        # One by one: for a list SentencePiece starts threads, which takes longer than most lists.
        return [self._processor.decode(row).strip(" ") for row in rows]

    def __reduce__(self) -> tuple[Any, ...]:
        return SubwordVocabulary, (self.model, self.by_word)


class LabelVocabulary:
    """Number labels, of each word or of a source as a whole, from `FIRST_LABEL_ID` on."""

    def __init__(self, labels: Sequence[str], by_word: bool) -> None:
        self.labels = tuple(labels)
        self.by_word = by_word
        self.ids = {label: number for number, label in enumerate(self.labels, start=FIRST_LABEL_ID)}
        self.size = len(self.labels) + FIRST_LABEL_ID

    @property
    def model(self) -> bytes:
        """The labels as JSON."""
        return json.dumps({"labels": self.labels, "by_word": self.by_word}, ensure_ascii=False).encode()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Convert the labels of every text to ids; an unknown one is a DataError."""
        for text in texts:
            _raise_problem(label_problem(text if self.by_word else "", text, self.by_word, self.ids))
        return [[self.ids[label] for label in self.tokenize(text)] for text in texts]

    def sample(self, texts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[list[int]]:
        """Convert as `encode` does: labels have one segmentation."""
        return self.encode(texts)

    def tokenize(self, text: str) -> list[str]:
        """Split a text into its labels."""
        return split_labels(text, self.by_word)

    def pieces(self, token_ids: Iterable[int]) -> list[str]:
        """Name the labels of a row of ids, without padding."""
        return [self.labels[i - FIRST_LABEL_ID] for i in _checked(token_ids, self.size) if i != PAD_ID]

    def join(self, pieces: Sequence[str]) -> str:
        """Join labels by spaces."""
        return " ".join(pieces)

    def decode(self, token_ids: Iterable[Iterable[int]]) -> list[str]:
        """Convert rows of ids to labels, separated by spaces."""
        return [self.join(self.pieces(row)) for row in token_ids]


class Tokenizer:
    """Convert texts to ids and ids to texts; immutable.

    Everything that it needs is in the bytes of its `models`, which a saved model carries.

    Args:
        source: Vocabulary of the sources.
        target: Vocabulary of the targets, subwords or labels; None: that of the sources.

    Raises:
        ArgumentError: The target labels each word and the source is not segmented by word, or the reverse.

    >>> from seq2seq.text.tokenizer_training import train_tokenizer
    >>> tokenizer = train_tokenizer(["a cat"], ["un chat"], kind="char", vocabulary_size=50)
    >>> tokenizer.source.tokenize("a hat")
    ['▁', 'a', '▁', 'h', 'a', 't', '</s>']
    >>> tokenizer.target.decode(tokenizer.target.encode(["un chat", "un"]))
    ['un chat', 'un']
    """

    def __init__(self, source: SubwordVocabulary, target: SubwordVocabulary | LabelVocabulary | None = None) -> None:
        self.source = source
        self.target = source if target is None else target
        if source.by_word != self.target.by_word:
            raise ArgumentError("source.by_word", f"{self.target.by_word}, as of the target", source.by_word)

    @classmethod
    def from_models(cls, models: Mapping[str, bytes]) -> "Tokenizer":
        """Build the tokenizer of which `models` are the models.

        Args:
            models: Content by file name, as the property `models` gives it.

        Returns:
            The tokenizer.

        Raises:
            TokenizerError: The names are other than "joint.model" alone, or "source.model" with "target.model" or
                "labels.model", or a model is damaged.
        """
        if set(models) == {"joint.model"}:
            return cls(SubwordVocabulary(models["joint.model"], name="joint.model"))
        if set(models) == {"source.model", "labels.model"}:
            labels = LabelVocabulary(**json.loads(models["labels.model"]))
            return cls(SubwordVocabulary(models["source.model"], labels.by_word, "source.model"), labels)
        if set(models) == {"source.model", "target.model"}:
            return cls(*(SubwordVocabulary(models[name], name=name) for name in ("source.model", "target.model")))
        raise TokenizerError(
            "models of a tokenizer must be joint.model, or source.model with target.model or labels.model, got "
            f"{', '.join(sorted(models)) or 'none'}."
        )

    @property
    def models(self) -> dict[str, bytes]:
        """The content of the vocabularies by file name, from which `from_models` builds this tokenizer."""
        if self.is_joint:
            return {"joint.model": self.source.model}
        target = "labels.model" if isinstance(self.target, LabelVocabulary) else "target.model"
        return {"source.model": self.source.model, target: self.target.model}

    @property
    def is_joint(self) -> bool:
        """Return whether source and target share one vocabulary."""
        return self.target is self.source

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the models: two tokenizers with the same fingerprint encode alike."""
        digest = hashlib.sha256()
        for name, model in self.models.items():
            digest.update(f"{name} {len(model)}\n".encode())
            digest.update(model)
        return digest.hexdigest()

    def encode_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Convert sources and targets to ids; where each word has a label, at the position of its first piece.

        Args:
            sources: Source texts.
            targets: As many target texts, or labels.

        Returns:
            Ids of every source and of every target. Where each word has a label, the two are equally long and the
            target is `PAD_ID` between the labels.

        Raises:
            DataError: A label is unknown, or there is not one for each word.
            TokenizerError: A text holds half a surrogate pair.
        """
        if not isinstance(self.target, LabelVocabulary):
            return self.source.encode(sources), self.target.encode(targets)
        for source, target in zip(sources, targets, strict=True):
            _raise_problem(label_problem(source, target, self.target.by_word, self.target.ids))
        (source_ids, positions), label_ids = self.encode_with_label_positions(sources), self.target.encode(targets)
        if not self.target.by_word:
            return source_ids, label_ids
        target_ids = [[PAD_ID] * len(ids) for ids in source_ids]
        for row, of_row, ids in zip(target_ids, positions, label_ids, strict=True):
            for position, label in zip(of_row, ids, strict=True):
                row[position] = label
        return source_ids, target_ids

    def encode_with_label_positions(self, sources: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Convert sources to ids, and return with them the positions of their labels: first pieces of words, or 0."""
        if self.source.by_word:
            return self.source.encode_words(sources)
        return self.source.encode(sources), [[0]] * len(sources)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        if self.is_joint:
            return f"Tokenizer(joint, {self.source.size} pieces)"
        if isinstance(self.target, LabelVocabulary):
            return f"Tokenizer(source {self.source.size} pieces, target {len(self.target.labels)} labels)"
        return f"Tokenizer(source {self.source.size} pieces, target {self.target.size} pieces)"


def _load(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    # SentencePiece reads no bytes at all as an empty model, without complaint.
    if not model:
        raise TokenizerError(f"{name} must be a SentencePiece model, got an empty one.")
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise TokenizerError(
            f"{name} must be a SentencePiece model, got {len(model)} bytes that are damaged or something else."
        ) from error
    found = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
    expected = (PAD_ID, UNKNOWN_ID, START_ID, END_ID)
    if found != expected:
        raise TokenizerError(
            f"{name} must number padding, unknown, start and end as {expected}, got {found}. "
            "Train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3."
        )
    return processor


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of strings, got one string. Write [{texts[:40]!r}].")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] must be a string, got {type(text).__name__}.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"texts[{index}] must be valid Unicode, got half a surrogate pair ({text[error.start]!r}) at character "
                f"{error.start}."
            ) from error


def _checked(token_ids: Iterable[int], vocabulary_size: int, index: int = 0) -> list[int]:
    row = [int(i) for i in token_ids]
    if row and not 0 <= min(row) <= max(row) < vocabulary_size:
        place = next(place for place, i in enumerate(row) if not 0 <= i < vocabulary_size)
        raise TokenizerError(
            f"token_ids[{index}][{place}] must be from 0 to {vocabulary_size - 1}, got {row[place]}. "
            "Decode with the tokenizer that the ids were made with."
        )
    return row


def joined_pieces(pieces: Sequence[str], size: int) -> tuple[str, ...]:
    """Join each group of `size` neighbouring pieces, for models that join as many source steps."""
    return tuple("".join(pieces[start : start + size]) for start in range(0, len(pieces), size))


def split_labels(target: str, by_word: bool) -> list[str]:
    """Split a target into its labels: the words of it, or the whole."""
    return target.split() if by_word else [target.strip()]


def label_problem(source: str, target: str, by_word: bool, known: Container[str] | None) -> Problem | None:
    """Say why a target cannot be the labels of a source, or None; with `known` None any label is good."""
    labels, words = split_labels(target, by_word), len(source.split())
    if by_word and len(labels) != words:
        message = f"the target must have a label for each of {words} words of its source, got {len(labels)}"
        return Problem("as many labels as words", f"{message}. Check the words and labels.")
    strange = [] if known is None else [label for label in labels if label not in known]
    if strange:
        message = f"the label must be one of the training pairs, got {strange[0]!r}. Correct it, or train with it."
        return Problem("unknown label", message)
    return None


def _raise_problem(problem: Problem | None) -> None:
    if problem is not None:
        raise DataError(problem.message)


class Truncation(NamedTuple):
    """Cut sources to `max_tokens`, the end token included: `head`, or `head_tail`, half of beginning and end."""

    policy: str = "none"
    max_tokens: int = 0

    @property
    def tail(self) -> int:
        """Number of tokens before the end token that a cut keeps."""
        return (self.max_tokens - 1) // 2 if self.policy == "head_tail" else 0

    def cut(self, tokens: list[Token]) -> list[Token]:
        """Cut the ids or pieces of a source, the last of which is its end."""
        if self.policy == "none" or len(tokens) <= self.max_tokens:
            return tokens
        return tokens[: self.max_tokens - 1 - self.tail] + tokens[len(tokens) - 1 - self.tail :]

    def note(self, tokenizer: Tokenizer, sources: Sequence[str]) -> str:
        """Describe how many sources are cut and by how much; empty where none is."""
        lengths = [len(ids) for ids in tokenizer.source.encode(sources)] if self.policy != "none" else []
        over = [length - self.max_tokens for length in lengths if length > self.max_tokens]
        if not over:
            return ""
        return (
            f"{len(over):,} of {len(sources):,} sources cut to {self.max_tokens:,} tokens ({self.policy}), "
            f"{sum(over):,} tokens ({100 * sum(over) / sum(lengths):.1f} %) left out"
        )


WHOLE = Truncation()
"""Sources as they are."""
