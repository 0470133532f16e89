"""From a recipe's files to what a run reads: texts, a tokenizer trained on them, and encoded training pairs."""

import dataclasses
import functools
import pathlib
import random
from collections.abc import Callable, Iterator

from seq2seq.config import Config
from seq2seq.errors import DataError
from seq2seq.metrics import AgreementItem, read_agreement_items
from seq2seq.text import (
    Batches,
    CorpusReport,
    Pair,
    Sampling,
    Tokenizer,
    encode_corpus,
    fingerprint_files,
    read_pairs,
    train_tokenizer,
)


@dataclasses.dataclass(frozen=True)
class Texts:
    """Sources and their targets, line by line."""

    sources: list[str]
    targets: list[str]


class Corpus:
    """The files of a recipe; nothing is held in memory but the dev and test texts, when asked for.

    Args:
        config: The run.

    Raises:
        DataError: A file is absent; the message says where it can be had, if the recipe does.
    """

    def __init__(self, config: Config) -> None:
        self._data = config.data
        self._seed = config.run.seed
        self.train_paths = self._paths(self._data.train)
        self._dev_paths = self._paths(self._data.dev) if self._data.dev else None
        self._test_paths = self._paths(self._data.test) if self._data.test else None
        agreement = self._data.agreement
        self._agreement_path = self._existing(pathlib.Path(self._data.folder) / agreement) if agreement else None
        self._held_out: frozenset[int] | None = None

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """What every file of the run holds, by its path: another content, another fingerprint."""
        other = [self._agreement_path] if self._agreement_path else []
        paths = [*self.train_paths, *(self._dev_paths or []), *(self._test_paths or []), *other]
        return {path.as_posix(): fingerprint_files([path]) for path in paths}

    def _paths(self, name: str) -> list[pathlib.Path]:
        data, folder = self._data, pathlib.Path(self._data.folder)
        if data.format == "parallel":
            names = [f"{name}.{data.source}", f"{name}.{data.target}"]
        else:
            names = [f"{name}.{data.format}"]
        return [self._existing(folder / name) for name in names]

    def _existing(self, path: pathlib.Path) -> pathlib.Path:
        for candidate in (path, path.with_name(f"{path.name}.gz")):
            if candidate.is_file():
                return candidate
        origin = f" {self._data.origin}" if self._data.origin else ""
        raise DataError(f"{path}: no such file, nor {path.name}.gz. Set data.folder to where the files are.{origin}")

    def _read(self, paths: list[pathlib.Path], report: CorpusReport | None = None) -> Iterator[Pair]:
        data = self._data
        parallel = data.format == "parallel"
        return read_pairs(
            *paths,
            format=data.format,
            source_field=None if parallel else data.source,
            target_field=None if parallel else data.target,
            columns=data.columns or None,
            on_bad_line=data.on_bad_line,
            max_line_characters=data.max_line_characters,
            report=report,
        )

    def train_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """The training pairs, in the order of the files, without those held out for dev."""
        held_out = self._held_out_places()
        return (pair for place, pair in enumerate(self._read(self.train_paths, report)) if place not in held_out)

    def dev_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """The dev pairs: those of its own files, or those held out of training."""
        if self._dev_paths is not None:
            return self._read(self._dev_paths, report)
        held_out = self._held_out_places()
        return (pair for place, pair in enumerate(self._read(self.train_paths, report)) if place in held_out)

    def test_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """The test pairs; none where the recipe names no test set."""
        return iter(()) if self._test_paths is None else self._read(self._test_paths, report)

    def dev(self) -> Texts:
        """The dev set: its own files, or pairs held out of training."""
        return _texts(self.dev_pairs(), self._dev_paths or self.train_paths)

    def test(self) -> Texts | None:
        """The test set, or None where the recipe names none."""
        return None if self._test_paths is None else _texts(self._read(self._test_paths), self._test_paths)

    def agreement(self) -> list[AgreementItem] | None:
        """The agreement items, or None where the recipe names none."""
        return None if self._agreement_path is None else read_agreement_items(self._agreement_path)

    def _held_out_places(self) -> frozenset[int]:
        if self._dev_paths is not None:
            return frozenset()
        if self._held_out is None:
            pairs = sum(1 for _ in self._read(self.train_paths))
            if pairs <= self._data.held_out:
                raise DataError(
                    f"{self.train_paths[0]}: data.held_out must be less than the number of pairs ({pairs}), but is "
                    f"{self._data.held_out} instead."
                )
            self._held_out = frozenset(random.Random(self._seed).sample(range(pairs), self._data.held_out))
        return self._held_out


def _texts(pairs: Iterator[Pair], paths: list[pathlib.Path]) -> Texts:
    kept = list(pairs)
    if not kept:
        raise DataError(f"{paths[0]}: the file must hold a pair that can be used, but holds none instead.")
    return Texts([pair.source for pair in kept], [pair.target for pair in kept])


def create_tokenizer(config: Config, corpus: Corpus) -> Tokenizer:
    """Trains SentencePiece on the training pairs, as the recipe says."""
    settings = config.tokenizer
    return train_tokenizer(
        (pair.source for pair in corpus.train_pairs()),
        (pair.target for pair in corpus.train_pairs()),
        kind=settings.kind,
        shared=settings.shared,
        vocabulary_size=settings.vocabulary_size,
        target_vocabulary_size=settings.target_vocabulary_size,
        character_coverage=settings.character_coverage,
        byte_fallback=settings.byte_fallback,
        user_symbols=settings.user_symbols,
        normalization=settings.normalization,
    )


def create_batches(
    config: Config, corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path, say: Callable[[str], None]
) -> Batches:
    """Encodes the training pairs, once and for all runs on the same files and tokenizer, and cuts them into batches."""
    sampling = None
    if config.tokenizer.sampling_alpha > 0:
        sampling = Sampling(config.tokenizer.sampling_alpha, config.tokenizer.sampling_nbest)
    data, report = config.data, CorpusReport()
    reading = [data.format, data.source, data.target, data.columns, data.max_line_characters]
    held_out = [] if data.dev else [data.held_out, config.run.seed]
    encoded = encode_corpus(
        corpus.train_pairs(report),
        tokenizer,
        cache_folder=folder,
        fingerprint=fingerprint_files(
            [], *[corpus.fingerprints[path.as_posix()] for path in corpus.train_paths], *reading, *held_out
        ),
        max_source_tokens=data.max_source_tokens,
        max_target_tokens=data.max_target_tokens,
        on_bad_line=data.on_bad_line,
        keep_text=sampling is not None,
        report=report,
        notify=say,
    )
    say(encoded.report.summary())
    return Batches(
        encoded,
        batch_tokens=config.training.batch_tokens,
        seed=config.run.seed,
        sampling=sampling,
        tokenizer=tokenizer if sampling else None,
    )
