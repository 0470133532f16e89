"""From a recipe's files to what a run reads: texts, a tokenizer trained on them, and encoded training pairs."""

import base64
import dataclasses
import functools
import itertools
import logging
import pathlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import sentencepiece

from seq2seq.config.sections import Config
from seq2seq.errors import DataError
from seq2seq.files import cached_json
from seq2seq.metrics.agreement import AgreementItem, parse_agreement_items
from seq2seq.text.batching import Batches
from seq2seq.text.corpus import CorpusReport, Pair, read_pairs
from seq2seq.text.dataset import EncodedCorpus, encode_corpus, fingerprint_files
from seq2seq.text.lines import Problem, count_lines, read_lines
from seq2seq.text.subword_sampling import Sampling
from seq2seq.text.tokenizer import (
    LabelVocabulary,
    SubwordVocabulary,
    Tokenizer,
    Truncation,
    label_problem,
    split_labels,
)
from seq2seq.text.tokenizer_training import MAX_TRAINING_LINES, Reservoir, train_tokenizer
from seq2seq.threads import map_parallel

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Texts:
    """Sources and their targets, line by line."""

    sources: list[str]
    targets: list[str]


class HeldOut(NamedTuple):
    """Pairs taken out of training: their places in the files of each corpus, and what they are."""

    places: dict[str, frozenset[int]]
    pairs: list[Pair]


class Corpus:
    """The files of a recipe; nothing is held in memory but the dev and test texts, when asked for.

    Args:
        config: The run. What is held out of training is kept beside its folder, in `.cache`.

    Raises:
        DataError: A file is absent; the message says where it can be had, if the recipe does.
    """

    def __init__(self, config: Config) -> None:
        self._data = config.data
        self._seed = config.run.seed
        self._task = config.task if config.gives_labels else None
        self.cache_folder = config.run.path.parent / ".cache"
        self.train_paths = {name: self._paths(name) for name in self._data.corpora}
        self._dev_paths = self._paths(self._data.dev) if self._data.dev else None
        self._test_paths = self._paths(self._data.test) if self._data.test else None
        agreement = self._data.agreement
        self._agreement_path = self._existing(pathlib.Path(self._data.folder) / agreement) if agreement else None

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """What every file of the run holds, by its path: another content, another fingerprint."""
        other = [self._agreement_path] if self._agreement_path else []
        training = itertools.chain.from_iterable(self.train_paths.values())
        paths = [*training, *(self._dev_paths or []), *(self._test_paths or []), *other]
        fingerprints = map_parallel(lambda path: fingerprint_files([path]), paths)
        return {path.as_posix(): found for path, found in zip(paths, fingerprints, strict=True)}

    def train_fingerprint(self, name: str) -> str:
        """Stands for the training pairs of one corpus: what its files hold, how they are read, what is held out."""
        data = self._data
        dev_size: list[object] = [] if data.dev else [data.dev_size, self._seed]
        if dev_size and len(self.train_paths) > 1:
            # Which of its pairs are taken depends on the other corpora.
            dev_size += [list(self.train_paths).index(name), *map(self._content, self.train_paths)]
        reading = [data.format, data.source, data.target, data.columns, data.max_line_characters]
        reading += [self._task] if self._task else []
        return fingerprint_files([], *self._content(name), *reading, *dev_size)

    def _content(self, name: str) -> list[str]:
        return [self.fingerprints[path.as_posix()] for path in self.train_paths[name]]

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
        judge = functools.partial(self._judge, is_training=paths in self.train_paths.values())
        return read_pairs(
            *paths,
            format=data.format,
            source_field=None if parallel else data.source,
            target_field=None if parallel else data.target,
            columns=data.columns,
            on_bad_line=data.on_bad_line,
            max_line_characters=data.max_line_characters,
            report=report,
            judge=judge if self._task else None,
        )

    def _judge(self, source: str, target: str, is_training: bool) -> Problem | None:
        return label_problem(source, target, self._task == "tag", None if is_training else self.labels)

    @functools.cached_property
    def labels(self) -> dict[str, int]:
        """The labels of the training files, and how often each is there, in the order of their names.

        Raises:
            DataError: There are fewer than two.
        """
        pairs = itertools.chain.from_iterable(map(self._read, self.train_paths.values()))
        counts = Counter(label for pair in pairs for label in split_labels(pair.target, self._task == "tag"))
        if len(counts) < 2:
            path = next(iter(self.train_paths.values()))[-1]
            shown = ", ".join(map(repr, counts)) or "none"
            raise DataError(f"{path}: the labels must be two at least, but are {shown} instead. Check data.target.")
        return dict(sorted(counts.items()))

    def train_pairs(self, report: CorpusReport | None = None, name: str | None = None) -> Iterator[Pair]:
        """The training pairs, in the order of the files, without those held out for dev.

        Args:
            report: Is filled in while reading.
            name: Of one corpus; None: those of all, each once.
        """
        for one in self.train_paths if name is None else [name]:
            dev_size = frozenset() if self._dev_paths else self._held_out.places[one]
            pairs = self._read(self.train_paths[one], report)
            yield from (pair for place, pair in enumerate(pairs) if place not in dev_size)

    def dev_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """The dev pairs: those of its own files, or those held out of training."""
        return self._read(self._dev_paths, report) if self._dev_paths else iter(self._held_out.pairs)

    def test_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """The test pairs; none where the recipe names no test set."""
        return iter(()) if self._test_paths is None else self._read(self._test_paths, report)

    def dev(self) -> Texts:
        """The dev set: its own files, or pairs held out of training."""
        return _texts(self.dev_pairs(), self._dev_paths or next(iter(self.train_paths.values())))

    def test(self) -> Texts | None:
        """The test set, or None where the recipe names none."""
        return None if self._test_paths is None else _texts(self._read(self._test_paths), self._test_paths)

    def agreement(self) -> list[AgreementItem] | None:
        """The agreement items, or None where the recipe names none."""
        path = self._agreement_path
        return None if path is None else parse_agreement_items(read_lines(path), path)

    @functools.cached_property
    def _held_out(self) -> HeldOut:
        # Where they stand in the files is part of the account of them.
        identity = [*self.fingerprints.items(), *map(self.train_fingerprint, self.train_paths), self._data.on_bad_line]
        path = self.cache_folder / f"held-out-{fingerprint_files([], *identity)[:32]}"
        places, pairs = cached_json(path, self._hold_out)
        return HeldOut(
            {name: frozenset(found) for name, found in zip(self.train_paths, places, strict=True)},
            [Pair(*pair) for pair in pairs],
        )

    def _hold_out(self) -> tuple[list[list[int]], list[Pair]]:
        """Places of the pairs that are held out of each corpus, and these pairs."""
        LOG.info("holding pairs out of training ...")
        counts = [sum(1 for _ in self._read(paths)) for paths in self.train_paths.values()]
        if sum(counts) <= self._data.dev_size:
            first = next(iter(self.train_paths.values()))[0]
            raise DataError(
                f"{first}: data.dev_size must be less than the number of pairs ({sum(counts)}), but is "
                f"{self._data.dev_size} instead."
            )
        drawn = np.sort(random.Random(self._seed).sample(range(sum(counts)), self._data.dev_size))
        starts = np.cumsum([0, *counts])
        places = [
            (drawn[(start <= drawn) & (drawn < start + count)] - start).tolist()
            for start, count in zip(starts, counts, strict=False)
        ]
        pairs = []
        for paths, found in zip(self.train_paths.values(), map(frozenset, places), strict=True):
            pairs += [pair for place, pair in enumerate(self._read(paths)) if place in found]
        return places, pairs


def _texts(pairs: Iterator[Pair], paths: list[pathlib.Path]) -> Texts:
    found = list(pairs)
    if not found:
        raise DataError(f"{paths[0]}: the file must hold a pair that can be used, but holds none instead.")
    return Texts([pair.source for pair in found], [pair.target for pair in found])


def create_tokenizer(config: Config, corpus: Corpus) -> Tokenizer:
    """Trains SentencePiece on the training pairs, as the recipe says, or takes what has been trained so before.

    It is trained on as many pairs of each corpus as an epoch holds, or on a sample of these where they are many.

    Args:
        config: The run.
        corpus: Its files.
    """
    settings = config.tokenizer
    options: dict[str, Any] = {
        "kind": settings.kind,
        "shared": settings.shared,
        "vocabulary_size": settings.vocabulary_size,
        "target_vocabulary_size": settings.target_vocabulary_size,
        "character_coverage": settings.character_coverage,
        "byte_fallback": settings.byte_fallback,
        "user_symbols": settings.user_symbols,
        "normalization": settings.normalization,
    }

    def trained() -> dict[str, str]:
        labels = list(corpus.labels) if config.gives_labels else []
        LOG.info("training the tokenizer ...")
        sample = Reservoir[Pair](MAX_TRAINING_LINES // (2 if settings.shared else 1), seed=0)
        for pair in _weighted_pairs(config, corpus):
            sample.add(pair)
        sources, targets = [pair.source for pair in sample.items], [pair.target for pair in sample.items]
        models = train_tokenizer(sources, [] if config.gives_labels else targets, **options).models
        if config.gives_labels:
            by_word = config.task == "tag"
            source = SubwordVocabulary(models["joint.model"], by_word)
            models = Tokenizer(source, LabelVocabulary(labels, by_word)).models
        return {name: base64.b64encode(model).decode() for name, model in models.items()}

    corpora = [[corpus.train_fingerprint(name), weight] for name, weight in config.data.corpora.items()]
    identity = fingerprint_files([], sentencepiece.__version__, MAX_TRAINING_LINES, options, corpora)
    models = cached_json(corpus.cache_folder / f"tokenizer-{identity[:32]}", trained)
    return Tokenizer.from_models({name: base64.b64decode(model) for name, model in models.items()})


def _weighted_pairs(config: Config, corpus: Corpus) -> Iterator[Pair]:
    """The training pairs, each as often as an epoch holds it; which ones a fraction leaves out is drawn."""
    draw = random.Random(0)
    for name, weight in config.data.corpora.items():
        for pair in corpus.train_pairs(name=name):
            yield from itertools.repeat(pair, int(weight) + (draw.random() < weight % 1))


def create_batches(config: Config, corpus: Corpus, tokenizer: Tokenizer, folder: pathlib.Path) -> Batches:
    """Encodes the training pairs, once and for all runs on the same files and tokenizer, and cuts them into batches."""
    sampling = None
    if config.training.sampling_alpha > 0:
        sampling = Sampling(config.training.sampling_alpha, config.training.sampling_nbest)
    data = config.data
    truncation = Truncation(data.truncate, data.max_source_tokens)
    encoded: dict[str, EncodedCorpus] = {}
    for name, weight in data.corpora.items():
        report = CorpusReport()
        encoded[name] = encode_corpus(
            corpus.train_pairs(report, name),
            tokenizer,
            cache_folder=folder,
            fingerprint=corpus.train_fingerprint(name),
            max_source_tokens=data.max_source_tokens,
            max_target_tokens=data.max_target_tokens,
            truncation=truncation,
            on_bad_line=data.on_bad_line,
            keep_text=sampling is not None,
            report=report,
            expected_pairs=functools.partial(count_lines, corpus.train_paths[name][0]),
        )
        summary = encoded[name].report.summary()
        LOG.info(summary if isinstance(data.train, str) else f"{name}, weight {weight:g}: {summary}")
    return Batches(
        encoded[data.train] if isinstance(data.train, str) else EncodedCorpus.mixed(encoded, data.corpora),
        batch_tokens=config.training.batch_tokens,
        seed=config.run.seed,
        sampling=sampling,
        tokenizer=tokenizer if sampling else None,
        truncation=truncation,
    )
