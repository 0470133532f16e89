"""The data of a run: texts from a recipe's files, a tokenizer trained on them, and encoded training pairs."""

import base64
import dataclasses
import functools
import itertools
import logging
import pathlib
import random
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import sentencepiece

from seq2seq.config.sections import Config
from seq2seq.errors import DataError
from seq2seq.files import cached_json
from seq2seq.metrics.agreement import AgreementItem, parse_agreement_items
from seq2seq.text.batching import Batches
from seq2seq.text.corpus import CorpusReport, Pair, read_pairs
from seq2seq.text.dataset import EncodedCorpus
from seq2seq.text.dataset_cache import encode_corpus, fingerprint_files
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


class Corpus:
    """The files of a recipe; only dev and test texts are ever in memory. A DataError names a file that is absent."""

    def __init__(self, config: Config) -> None:
        self._data = config.data
        self._seed = config.run.seed
        self._gives_labels, self._by_word = config.gives_labels, config.task == "tag"
        self.cache_folder = config.run.path.parent / ".cache"
        self.train_paths = {name: self._paths(name) for name in self._data.corpora}
        self._dev_paths = self._paths(self._data.dev) if self._data.dev else None
        self._test_paths = self._paths(self._data.test) if self._data.test else None
        agreement = self._data.agreement
        self._agreement_path = self._existing(pathlib.Path(self._data.folder) / agreement) if agreement else None

    def _paths(self, name: str) -> list[pathlib.Path]:
        data = self._data
        endings = [data.source, data.target] if data.format == "parallel" else [data.format]
        return [self._existing(pathlib.Path(data.folder) / f"{name}.{ending}") for ending in endings]

    def _existing(self, path: pathlib.Path) -> pathlib.Path:
        for candidate in (path, path.with_name(f"{path.name}.gz")):
            if candidate.is_file():
                return candidate
        origin = f" {self._data.origin}" if self._data.origin else ""
        raise DataError(f"{path}: no such file, nor {path.name}.gz. Set data.folder to where the files are.{origin}")

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hash of the content of every file of the run, by path."""
        paths = [*itertools.chain.from_iterable(self.train_paths.values()), *(self._dev_paths or [])]
        paths += [*(self._test_paths or []), *filter(None, [self._agreement_path])]
        fingerprints = map_parallel(lambda path: fingerprint_files([path]), paths)
        return {path.as_posix(): fingerprint for path, fingerprint in zip(paths, fingerprints, strict=True)}

    def train_fingerprint(self, name: str) -> str:
        """Hash all that decides the training pairs of one corpus: its files, how they are read, and the dev split."""
        data = self._data
        split: list[object] = [] if data.dev else [data.dev_size, self._seed]
        if split and len(self.train_paths) > 1:
            # Which of its pairs are dev pairs depends on the other corpora.
            split += [list(self.train_paths).index(name), *map(self._content, self.train_paths)]
        reading = [data.format, data.source, data.target, data.columns, data.max_line_characters]
        return fingerprint_files([], *self._content(name), *reading, self._gives_labels, self._by_word, *split)

    def _content(self, name: str) -> list[str]:
        return [self.fingerprints[path.as_posix()] for path in self.train_paths[name]]

    def _read(self, paths: list[pathlib.Path], report: CorpusReport | None = None) -> Iterator[Pair]:
        data = self._data
        is_parallel, is_training = data.format == "parallel", paths in self.train_paths.values()

        def validate(source: str, target: str) -> Problem | None:
            return label_problem(source, target, self._by_word, None if is_training else self.labels)

        return read_pairs(
            *paths,
            format=data.format,
            source_field=None if is_parallel else data.source,
            target_field=None if is_parallel else data.target,
            columns=data.columns,
            on_bad_line=data.on_bad_line,
            max_line_characters=data.max_line_characters,
            report=report,
            validate=validate if self._gives_labels else None,
        )

    @functools.cached_property
    def labels(self) -> dict[str, int]:
        """The labels of the training files in alphabetical order, with their counts."""
        pairs = itertools.chain.from_iterable(map(self._read, self.train_paths.values()))
        counts = Counter(label for pair in pairs for label in split_labels(pair.target, self._by_word))
        if len(counts) < 2:
            path = next(iter(self.train_paths.values()))[-1]
            shown = ", ".join(map(repr, counts)) or "none"
            raise DataError(f"{path}: the labels must be at least two, got {shown}. Check data.target.")
        return dict(sorted(counts.items()))

    def train_pairs(self, report: CorpusReport | None = None, name: str | None = None) -> Iterator[Pair]:
        """Yield the training pairs of one corpus or of all, in the order of the files, without the dev split."""
        for corpus in self.train_paths if name is None else [name]:
            excluded = frozenset() if self._dev_paths else self._dev_split[0][corpus]
            pairs = self._read(self.train_paths[corpus], report)
            yield from (pair for place, pair in enumerate(pairs) if place not in excluded)

    def dev_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """Yield the dev pairs, of their own files or split from the training files."""
        return self._read(self._dev_paths, report) if self._dev_paths else iter(self._dev_split[1])

    def test_pairs(self, report: CorpusReport | None = None) -> Iterator[Pair]:
        """Yield the test pairs; none where the recipe names no test set."""
        return iter(()) if self._test_paths is None else self._read(self._test_paths, report)

    def dev(self) -> Texts:
        """Read the dev set."""
        return _texts(self.dev_pairs(), self._dev_paths or next(iter(self.train_paths.values())))

    def test(self) -> Texts | None:
        """Read the test set, if the recipe names one."""
        return None if self._test_paths is None else _texts(self.test_pairs(), self._test_paths)

    def agreement(self) -> list[AgreementItem] | None:
        """Read the agreement items, if the recipe names any."""
        path = self._agreement_path
        return None if path is None else parse_agreement_items(read_lines(path), path)

    @functools.cached_property
    def _dev_split(self) -> tuple[dict[str, frozenset[int]], list[Pair]]:
        """Places of the dev pairs in each training corpus, and the pairs, which name the paths of their files."""
        identity = [*self.fingerprints.items(), *map(self.train_fingerprint, self.train_paths), self._data.on_bad_line]
        path = self.cache_folder / f"dev-{fingerprint_files([], *identity)[:32]}"
        places, pairs = cached_json(path, self._split_dev)
        names = zip(self.train_paths, places, strict=True)
        return {name: frozenset(in_corpus) for name, in_corpus in names}, [Pair(*pair) for pair in pairs]

    def _split_dev(self) -> tuple[list[list[int]], list[Pair]]:
        LOG.info("splitting dev pairs from the training pairs ...")
        corpora = list(self.train_paths.values())
        counts = [sum(1 for _ in self._read(paths)) for paths in corpora]
        if sum(counts) <= self._data.dev_size:
            raise DataError(
                f"{corpora[0][0]}: data.dev_size must be less than the number of pairs ({sum(counts)}), got "
                f"{self._data.dev_size}."
            )
        drawn = np.sort(random.Random(self._seed).sample(range(sum(counts)), self._data.dev_size))
        ends = np.cumsum(counts)
        in_corpora = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
        places = [(part - end + count).tolist() for part, end, count in zip(in_corpora, ends, counts, strict=True)]
        pairs = []
        for paths, chosen in zip(corpora, map(frozenset, places), strict=True):
            pairs += [pair for place, pair in enumerate(self._read(paths)) if place in chosen]
        return places, pairs


def _texts(pairs: Iterable[Pair], paths: list[pathlib.Path]) -> Texts:
    sources_targets = [(pair.source, pair.target) for pair in pairs]
    if not sources_targets:
        raise DataError(f"{paths[0]}: the file must have a good pair, got none.")
    sources, targets = map(list, zip(*sources_targets, strict=True))
    return Texts(sources, targets)


def create_tokenizer(config: Config, corpus: Corpus) -> Tokenizer:
    """Train the tokenizer of a recipe on as many pairs of each corpus as an epoch contains, or read it from the cache.

    Of more than `MAX_TRAINING_LINES` lines a sample is used.
    """
    options = vars(config.tokenizer)

    def train() -> dict[str, str]:
        labels = list(corpus.labels) if config.gives_labels else []
        LOG.info("training the tokenizer ...")
        sample = Reservoir[Pair](MAX_TRAINING_LINES // (2 if config.tokenizer.shared else 1), seed=0)
        for pair in _weighted_pairs(config, corpus):
            sample.add(pair)
        targets = [] if config.gives_labels else [pair.target for pair in sample.items]
        tokenizer = train_tokenizer([pair.source for pair in sample.items], targets, **options)
        if config.gives_labels:
            by_word = config.task == "tag"
            source = SubwordVocabulary(tokenizer.source.model, by_word)
            tokenizer = Tokenizer(source, LabelVocabulary(labels, by_word))
        return {name: base64.b64encode(model).decode() for name, model in tokenizer.models.items()}

    corpora = [[corpus.train_fingerprint(name), weight] for name, weight in config.data.corpora.items()]
    identity = fingerprint_files([], sentencepiece.__version__, MAX_TRAINING_LINES, options, corpora)
    models = cached_json(corpus.cache_folder / f"tokenizer-{identity[:32]}", train)
    return Tokenizer.from_models({name: base64.b64decode(model) for name, model in models.items()})


def _weighted_pairs(config: Config, corpus: Corpus) -> Iterator[Pair]:
    """Yield the training pairs, each as often as an epoch contains it; a fraction is drawn."""
    draw = random.Random(0)
    for name, weight in config.data.corpora.items():
        for pair in corpus.train_pairs(name=name):
            yield from itertools.repeat(pair, int(weight) + (draw.random() < weight % 1))


def create_batches(config: Config, corpus: Corpus, tokenizer: Tokenizer) -> Batches:
    """Encode the training pairs, once for all runs on the same files and tokenizer, and plan their batches."""
    data, training = config.data, config.training
    sampling = Sampling(training.sampling_alpha, training.sampling_nbest) if training.sampling_alpha > 0 else None
    truncation = Truncation(data.truncate, data.max_source_tokens)
    encoded: dict[str, EncodedCorpus] = {}
    for name, weight in data.corpora.items():
        report = CorpusReport()
        encoded[name] = encode_corpus(
            corpus.train_pairs(report, name),
            tokenizer,
            cache_folder=corpus.cache_folder,
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
        batch_tokens=training.batch_tokens,
        seed=config.run.seed,
        sampling=sampling,
        tokenizer=tokenizer if sampling else None,
        truncation=truncation,
    )
