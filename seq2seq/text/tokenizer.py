"""Strings to ids and back, by SentencePiece: one view on the model, or the two models, of a run."""

import functools
import hashlib
import itertools
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import sentencepiece

from seq2seq.errors import DataError, TokenizerError
from seq2seq.text.ids import END_ID, FIRST_LABEL_ID, PAD_ID, START_ID, UNKNOWN_ID
from seq2seq.text.lines import Problem
from seq2seq.text.subword_sampling import Sampler, Sampling


class Tokenizer:
    """Turns texts into ids that end with `END_ID`, and ids into texts; never changes once made.

    Source and target may share one vocabulary or have one each. Everything that it knows is in the bytes of the
    SentencePiece models, which is what a saved model carries with it.

    Args:
        source_model: bytes of a SentencePiece model with the ids PAD 0, UNKNOWN 1, START 2, END 3.
        target_model: the same for the target; None: `source_model` serves both sides.

    Raises:
        TokenizerError: where the bytes are not such a model.

    Examples:
        >>> from seq2seq.text.tokenizer_training import train_tokenizer
        >>> tokenizer = train_tokenizer(["a cat"], ["un chat"], kind="char", vocabulary_size=50)
        >>> tokenizer.source_pieces("a hat")
        ['▁', 'a', '▁', 'h', 'a', 't', '</s>']
        >>> tokenizer.decode_target(tokenizer.encode_target(["un chat", "un"]))
        ['un chat', 'un']
    """

    def __init__(self, source_model: bytes, target_model: bytes | None = None) -> None:
        self._source_model = bytes(source_model)
        self._target_model = None if target_model is None else bytes(target_model)
        names = ("joint.model",) if target_model is None else ("source.model", "target.model")
        self._source = _load(self._source_model, names[0])
        self._target = self._source if self._target_model is None else _load(self._target_model, names[-1])

    @classmethod
    def from_models(cls, models: Mapping[str, bytes]) -> "Tokenizer":
        """The tokenizer whose `models` these are.

        Raises:
            TokenizerError: where the names are not "joint.model" alone, or "source.model" and "target.model" or
                "labels.model".
        """
        names = set(models)
        if names == {"source.model", "labels.model"}:
            # That file builds on this one.

            return LabelTokenizer(models["source.model"], **json.loads(models["labels.model"]))
        if names == {"joint.model"}:
            return cls(models["joint.model"])
        if names == {"source.model", "target.model"}:
            return cls(models["source.model"], models["target.model"])
        raise TokenizerError(
            "The models of a tokenizer must be joint.model, or source.model with target.model or labels.model, but are "
            f"{', '.join(sorted(names)) or 'none'} instead."
        )

    @property
    def models(self) -> dict[str, bytes]:
        """The bytes of the SentencePiece models by file name: all that is needed to make this tokenizer again."""
        if self._target_model is None:
            return {"joint.model": self._source_model}
        return {"source.model": self._source_model, "target.model": self._target_model}

    @property
    def is_joint(self) -> bool:
        """Whether source and target share one vocabulary."""
        return self._target_model is None

    @property
    def source_vocabulary_size(self) -> int:
        """Number of source ids, the four special ones included."""
        return int(self._source.vocab_size())

    @property
    def target_vocabulary_size(self) -> int:
        """Number of target ids, the four special ones included."""
        return int(self._target.vocab_size())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the models: two tokenizers with the same fingerprint encode alike."""
        digest = hashlib.sha256()
        for name, model in self.models.items():
            digest.update(f"{name} {len(model)}\n".encode())
            digest.update(model)
        return digest.hexdigest()

    @functools.cached_property
    def _source_sampler(self) -> Sampler:
        return Sampler(self._source)

    @functools.cached_property
    def _target_sampler(self) -> Sampler:
        return self._source_sampler if self.is_joint else Sampler(self._target)

    def encode_source(
        self, texts: Sequence[str], sampling: Sampling | None = None, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Ids of every source text, `END_ID` last, so that no row is ever empty.

        Args:
            texts: the texts.
            sampling: draw the segmentation instead of taking the best one.
            seeds: what each text's draw depends on, an integer from 0 to 2**32 - 1 a text; None: its place in
                `texts`.

        Returns:
            One list of ids a text, in order.

        Raises:
            TokenizerError: where a text holds half a surrogate pair, or the model's kind has no segmentations to
                draw from.
        """
        if sampling is None:
            return _encode(self._source, texts)
        return _draw(self._source_sampler, texts, sampling, seeds)

    def encode_target(
        self, texts: Sequence[str], sampling: Sampling | None = None, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Ids of every target text, as `encode_source` gives them for the source."""
        if sampling is None:
            return _encode(self._target, texts)
        return _draw(self._target_sampler, texts, sampling, seeds)

    def encode_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of every source and of every target, as `encode_source` and `encode_target` give them."""
        return self.encode_source(sources), self.encode_target(targets)

    def decode_source(self, token_ids: Iterable[Iterable[int]]) -> list[str]:
        """Texts of rows of source ids, as `decode_target` gives them for the target."""
        return _decode(self._source, token_ids)

    def decode_target(self, token_ids: Iterable[Iterable[int]]) -> list[str]:
        """Texts of rows of target ids: each is read up to its first `END_ID`; padding and start ids are dropped.

        Args:
            token_ids: rows of ids: lists, or an array `(batch, steps)`.

        Returns:
            One text a row. An unknown id reads `⁇`.

        Raises:
            TokenizerError: where an id is outside the vocabulary.
        """
        return _decode(self._target, token_ids)

    def source_pieces(self, text: str) -> list[str]:
        """The pieces that `encode_source` makes of a text, one for each id: what to write beside an alignment.

        A character that has no piece is shown as itself; its id is `UNKNOWN_ID`.
        """
        _check_texts([text])
        return list(self._source.encode(text, out_type=str, add_eos=True))

    def target_pieces(self, token_ids: Iterable[int]) -> list[str]:
        """The pieces of a row of target ids, up to and with the first end; padding and start ids are dropped."""
        row = _row(token_ids, self.target_vocabulary_size, 0)
        end = row.index(END_ID) + 1 if END_ID in row else len(row)
        return [self._target.id_to_piece(i) for i in row[:end] if i not in (PAD_ID, START_ID)]

    def join_target_pieces(self, pieces: Sequence[str]) -> str:
        """The text of target pieces, of which any may be strange to the vocabulary: such a piece stands for itself.

        Args:
            pieces: pieces as `target_pieces` or `source_pieces` gives them, up to and with the first end.
        """
        end = self._target.id_to_piece(END_ID)
        known = pieces[: pieces.index(end)] if end in pieces else pieces
        # SentencePiece leaves the sign of a space in what it does not know.
        return self._target.decode(list(known)).replace("▁", " ").strip(" ")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self._source_model, self._target_model)

    def __repr__(self) -> str:
        if self.is_joint:
            return f"Tokenizer(joint, {self.source_vocabulary_size} pieces)"
        return f"Tokenizer(source {self.source_vocabulary_size} pieces, target {self.target_vocabulary_size} pieces)"


def joined_pieces(pieces: Sequence[str], size: int) -> tuple[str, ...]:
    """Neighbouring pieces as one: what each step of a model stands for that reads so many at once.

    >>> joined_pieces(["▁the", "▁cat", "s", "</s>"], 3)
    ('▁the▁cats', '</s>')
    """
    return tuple("".join(pieces[start : start + size]) for start in range(0, len(pieces), size))


def _load(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    # SentencePiece reads no bytes at all as an empty model, without complaint.
    if not model:
        raise TokenizerError(f"{name} must be a SentencePiece model, but is empty instead.")
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise TokenizerError(
            f"{name} must be a SentencePiece model, but is damaged or something else instead ({len(model)} bytes)."
        ) from error
    found = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
    expected = (PAD_ID, UNKNOWN_ID, START_ID, END_ID)
    if found != expected:
        raise TokenizerError(
            f"{name} must number padding, unknown, start and end as {expected}, but numbers them {found} instead. "
            "Train it with pad_id=0, unk_id=1, bos_id=2, eos_id=3."
        )
    return processor


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of strings, but is one string instead. Write [{texts[:40]!r}].")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{index}] must be a string, but is {type(text).__name__} instead.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"texts[{index}] must be valid Unicode, but holds half a surrogate pair ({text[error.start]!r}) "
                f"at character {error.start} instead."
            ) from error


def _encode(processor: sentencepiece.SentencePieceProcessor, texts: Sequence[str]) -> list[list[int]]:
    _check_texts(texts)
    # SentencePiece starts threads for a list, were it of one. Whoever has texts for many threads, as `encode_corpus`
    # has, shares them out itself.
    if len(texts) == 1:
        return [processor.encode(texts[0], add_eos=True)]
    return processor.encode(list(texts), add_eos=True, num_threads=1)


def _draw(sampler: Sampler, texts: Sequence[str], sampling: Sampling, seeds: Sequence[int] | None) -> list[list[int]]:
    _check_texts(texts)
    seeds = range(len(texts)) if seeds is None else seeds
    if len(seeds) != len(texts):
        raise ValueError(f"seeds must be one for each of {len(texts)} texts, but are {len(seeds)} instead.")
    return [sampler.draw(text, sampling, seed) for text, seed in zip(texts, seeds, strict=True)]


def _row(token_ids: Iterable[int], vocabulary_size: int, index: int) -> list[int]:
    row = [int(i) for i in token_ids]
    if row and not 0 <= min(row) <= max(row) < vocabulary_size:
        place = next(place for place, i in enumerate(row) if not 0 <= i < vocabulary_size)
        raise TokenizerError(
            f"token_ids[{index}][{place}] must be from 0 to {vocabulary_size - 1}, but is {row[place]} instead. "
            "Decode with the tokenizer that the ids were made with."
        )
    return row


def _decode(processor: sentencepiece.SentencePieceProcessor, token_ids: Iterable[Iterable[int]]) -> list[str]:
    rows = []
    for index, ids in enumerate(token_ids):
        row = _row(ids, processor.vocab_size(), index)
        end = row.index(END_ID) if END_ID in row else len(row)
        rows.append([i for i in row[:end] if i not in (PAD_ID, START_ID)])
    # One by one: for a list SentencePiece starts threads, which takes longer than most lists.
    return [processor.decode(row).strip(" ") for row in rows]


def split_labels(target: str, by_word: bool) -> list[str]:
    """The labels of a target: what stands between its spaces, or the whole of it."""
    return target.split() if by_word else [target.strip()]


def label_problem(source: str, target: str, by_word: bool, known: Container[str] | None) -> Problem | None:
    """Why a target cannot be the labels of a source, or None.

    Args:
        source: the source.
        target: its labels.
        by_word: whether each word has a label, or the source as a whole.
        known: the labels that there are; None: any may be one.

    >>> label_problem("the cat", "noun", True, None).message
    'the target must have a label for each of 2 words of its source, but has 1 instead. Check the words and labels.'
    """
    labels, words = split_labels(target, by_word), len(source.split())
    if by_word and len(labels) != words:
        message = f"the target must have a label for each of {words} words of its source, but has {len(labels)} instead"
        return Problem("as many labels as words", f"{message}. Check the words and labels.")
    strange = [] if known is None else [label for label in labels if label not in known]
    if strange:
        message = f"the label must be one of the training pairs, but is {strange[0]!r} instead. Correct it, or train it"
        return Problem("unknown label", f"{message} with pairs that have it.")
    return None


class LabelTokenizer(Tokenizer):
    """A tokenizer whose target side is a list of labels: its ids begin with `FIRST_LABEL_ID`, and `PAD_ID` is none.

    Where each word has a label, words are cut apart from each other, so that each has a first piece: that is where its
    label lies in the ids of the target, which are then as many as those of the source.

    Args:
        source_model: bytes of the SentencePiece model of the sources.
        labels: in the order of their ids.
        by_word: whether each word has a label, or the source as a whole.

    Examples:
        >>> from seq2seq.text.tokenizer_training import train_tokenizer
        >>> model = train_tokenizer(["a cat"], [], kind="char", vocabulary_size=50).models["joint.model"]
        >>> tokenizer = LabelTokenizer(model, ["article", "noun"], by_word=True)
        >>> source_ids, target_ids = tokenizer.encode_pairs(["a cat"], ["article noun"])
        >>> tokenizer.source_pieces("a cat"), target_ids
        (['▁', 'a', '▁', 'c', 'a', 't', '</s>'], [[4, 0, 5, 0, 0, 0, 0]])
    """

    def __init__(self, source_model: bytes, labels: Sequence[str], by_word: bool) -> None:
        super().__init__(source_model)
        self.labels = tuple(labels)
        self.by_word = by_word
        self._ids = {label: number for number, label in enumerate(self.labels, start=FIRST_LABEL_ID)}

    @property
    def models(self) -> dict[str, bytes]:
        """The bytes of the SentencePiece model, and the labels as JSON, by file name."""
        described = json.dumps({"labels": self.labels, "by_word": self.by_word}, ensure_ascii=False)
        return {"source.model": self._source_model, "labels.model": described.encode()}

    @property
    def is_joint(self) -> bool:
        return False

    @property
    def target_vocabulary_size(self) -> int:
        """Number of target ids: the labels, and the special ones before them."""
        return len(self.labels) + FIRST_LABEL_ID

    def cut(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of each source, and at which of them its labels lie: the first piece of each word, or the first of all.

        Args:
            texts: the sources.
        """
        if not self.by_word:
            return super().encode_source(texts), [[0]] * len(texts)
        words = [text.split() for text in texts]
        cut = super().encode_source(list(itertools.chain.from_iterable(words)))
        # Of a word of invisible characters normalisation leaves nothing; it has its label all the same.
        pieces = iter([ids[:-1] or [UNKNOWN_ID] for ids in cut])
        rows = [[next(pieces) for _ in of_text] for of_text in words]
        ends = [list(itertools.accumulate(map(len, row), initial=0)) for row in rows]
        return [[*itertools.chain.from_iterable(row), END_ID] for row in rows], [places[:-1] for places in ends]

    def encode_source(
        self, texts: Sequence[str], sampling: Sampling | None = None, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        if sampling is None:
            return self.cut(texts)[0]
        if self.by_word:
            raise ValueError("sampling must be None where each word has a label, but is given. Leave it out.")
        return super().encode_source(texts, sampling, seeds)

    def encode_target(
        self, texts: Sequence[str], sampling: Sampling | None = None, seeds: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Ids of the labels of every target, one after the other; there is nothing to draw.

        Raises:
            DataError: A label is unknown.
        """
        for text in texts:
            if problem := label_problem(text if self.by_word else "", text, self.by_word, self._ids):
                raise DataError(problem.message)
        return [[self._ids[label] for label in split_labels(text, self.by_word)] for text in texts]

    def encode_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of both sides; where each word has a label, the target's are laid on the first pieces of the source's.

        Raises:
            DataError: A label is unknown, or there is not one for each word.
        """
        for source, target in zip(sources, targets, strict=True):
            if problem := label_problem(source, target, self.by_word, self._ids):
                raise DataError(problem.message)
        (source_ids, places), label_ids = self.cut(sources), self.encode_target(targets)
        if not self.by_word:
            return source_ids, label_ids
        target_ids = [[PAD_ID] * len(ids) for ids in source_ids]
        for row, of_row, ids in zip(target_ids, places, label_ids, strict=True):
            for place, label in zip(of_row, ids, strict=True):
                row[place] = label
        return source_ids, target_ids

    def source_pieces(self, text: str) -> list[str]:
        if not self.by_word:
            return super().source_pieces(text)
        words = [super(LabelTokenizer, self).source_pieces(word)[:-1] or [word] for word in text.split()]
        return [*itertools.chain.from_iterable(words), *super().source_pieces("")]

    def target_pieces(self, token_ids: Iterable[int]) -> list[str]:
        """The labels of a row of ids; those that stand for none are dropped."""
        return [self.labels[number - FIRST_LABEL_ID] for number in token_ids if number != PAD_ID]

    def decode_target(self, token_ids: Iterable[Iterable[int]]) -> list[str]:
        """The labels of rows of ids, apart by spaces."""
        return [" ".join(self.target_pieces(row)) for row in token_ids]

    def __reduce__(self) -> tuple[Any, ...]:
        return LabelTokenizer, (self._source_model, self.labels, self.by_word)

    def __repr__(self) -> str:
        return f"LabelTokenizer(source {self.source_vocabulary_size} pieces, {len(self.labels)} labels)"
