"""A recipe's files: where they are, which pairs are split for dev, and what they become."""

import collections
import gzip

import pytest

from seq2seq.config.sections import Config
from seq2seq.errors import DataError
from seq2seq.text.tokenizer import SubwordVocabulary
from seq2seq.text.tokenizer_training import train_tokenizer
from seq2seq.training import data
from seq2seq.training.data import Corpus, create_batches, create_tokenizer
from tests.training.conftest import write_corpus


def config(folder, seed=0, training=None, tokenizer=None, **data):
    data = {"folder": str(folder), "source": "en", "target": "eo", "test": None} | data
    run = {"seed": seed, "folder": str(folder / "runs")}
    return Config.from_dict({"data": data, "run": run, "training": training or {}, "tokenizer": tokenizer or {}})


@pytest.fixture
def folder(tmp_path, toy_pairs):
    write_corpus(tmp_path, train=toy_pairs[:150], dev=toy_pairs[150:180], test=toy_pairs[180:])
    return tmp_path


def pairs_of(texts):
    return list(zip(texts.sources, texts.targets, strict=True))


def training_pairs(corpus):
    return [(pair.source, pair.target) for pair in corpus.train_pairs()]


def batches_of(settings, tokenizer):
    return create_batches(settings, Corpus(settings), tokenizer)


def read_back(batches, tokenizer, epoch=0):
    """Count every pair of texts of an epoch."""
    counts = collections.Counter()
    for batch in batches.epoch(epoch):
        sides = tokenizer.source.decode(batch.source_ids), tokenizer.target.decode(batch.target_ids)
        counts.update(zip(*sides, strict=True))
    return counts


@pytest.fixture
def trained_on(monkeypatch):
    """Collect the pairs that tokenizers are trained on."""
    read = []

    def remembering(sources, targets, **options):
        read.append(list(zip(sources, targets, strict=True)))
        return train_tokenizer(sources, targets, **options)

    monkeypatch.setattr(data, "train_tokenizer", remembering)
    return read


class TestFiles:
    def test_order(self, folder, toy_pairs):
        corpus = Corpus(config(folder, test="test"))
        assert training_pairs(corpus) == toy_pairs[:150]
        assert pairs_of(corpus.dev()) == toy_pairs[150:180]
        assert pairs_of(corpus.test()) == toy_pairs[180:]
        assert Corpus(config(folder)).test() is None
        assert corpus.agreement() is None

    def test_compressed_columns(self, folder, toy_pairs):
        lines = [f"{target}\tx\t{source}\n" for source, target in toy_pairs]
        for name in ("train", "dev"):
            with gzip.open(folder / f"{name}.tsv.gz", "wt", encoding="utf-8") as file:
                file.writelines(lines)
        corpus = Corpus(config(folder, format="tsv", source="3", target="1"))
        assert pairs_of(corpus.dev()) == training_pairs(corpus) == toy_pairs

    @pytest.mark.parametrize("name", ["train.en", "dev.eo", "test.en"])
    def test_absent(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(DataError, match=rf"{name}: no such file.* data\.folder .*https://example.org/pairs"):
            Corpus(config(folder, test="test", origin="Get them from https://example.org/pairs."))

    def test_agreement_items(self, folder):
        with pytest.raises(DataError, match=r"agreement\.tsv: no such file"):
            Corpus(config(folder, agreement="agreement.tsv"))
        (folder / "agreement.tsv").write_text("1\tthe cat runs\tla kato kuras\tkuras\tkuros\n", encoding="utf-8")
        (item,) = Corpus(config(folder, agreement="agreement.tsv")).agreement()
        assert item.source == "the cat runs"

    @pytest.mark.parametrize("name", ["dev", "test"])
    def test_without_a_pair(self, folder, name):
        for side in ("en", "eo"):
            (folder / f"{name}.{side}").write_text("")
        with pytest.raises(DataError, match=rf"{name}\.en: the file must have a good pair, got none"):
            getattr(Corpus(config(folder, test="test")), name)()


class TestDevSplit:
    def test_partitions_the_training_pairs(self, folder, toy_pairs):
        corpus = Corpus(config(folder, dev=None, dev_size=20))
        training, dev = training_pairs(corpus), pairs_of(corpus.dev())
        assert len(dev) == 20
        assert sorted(training + dev) == sorted(toy_pairs[:150])
        assert [pair for pair in toy_pairs if pair in training] == training

    def test_depends_on_the_seed(self, folder):
        first, again, other = (
            pairs_of(Corpus(config(folder, seed=seed, dev=None, dev_size=20)).dev()) for seed in (3, 3, 4)
        )
        assert first == again != other

    def test_leaves_training_pairs(self, folder):
        with pytest.raises(DataError, match=r"dev_size must be less than the number of pairs \(150\), got 150"):
            Corpus(config(folder, dev=None, dev_size=150)).dev()

    def test_is_unknown_to_the_tokenizer(self, folder, toy_pairs):
        marked = [(f"{source} n{place}", target) for place, (source, target) in enumerate(toy_pairs[:60])]
        write_corpus(folder, train=marked)
        settings = config(folder, dev=None, dev_size=20, tokenizer={"kind": "word", "vocabulary_size": 500})
        corpus = Corpus(settings)
        vocabulary = create_tokenizer(settings, corpus).source
        assert all(1 in ids for ids in vocabulary.encode([source.split()[-1] for source in corpus.dev().sources]))
        training = [pair.source.split()[-1] for pair in corpus.train_pairs()]
        assert not any(1 in ids for ids in vocabulary.encode(training))

    def test_is_cached(self, folder, toy_pairs, monkeypatch):
        settings = config(folder, dev=None, dev_size=20)
        first = Corpus(settings)
        dev, training = list(first.dev_pairs()), list(first.train_pairs())
        lines = (folder / "train.en").read_text(encoding="utf-8").splitlines()
        assert [pair.source for pair in dev] == [lines[int(pair.where.rpartition(":")[2]) - 1] for pair in dev]
        (cached,) = (folder / "runs" / ".cache").iterdir()
        with monkeypatch.context() as patch:
            patch.setattr(Corpus, "_split_dev", None)
            again = Corpus(settings)
            assert (list(again.dev_pairs()), list(again.train_pairs())) == (dev, training)
        cached.write_bytes(cached.read_bytes().replace(b"the", b"teh", 1))
        assert list(Corpus(settings).dev_pairs()) == dev
        # Another content of the files, another choice.
        write_corpus(folder, train=toy_pairs[:140])
        other = Corpus(settings)
        assert len(list(other.train_pairs())) == 120
        assert list(other.dev_pairs()) != dev


class TestSeveralCorpora:
    WEIGHTS = {"news": 2.0, "web": 0.5}  # noqa: RUF012

    @pytest.fixture
    def folder(self, tmp_path, toy_pairs):
        write_corpus(tmp_path, news=toy_pairs[:40], web=toy_pairs[40:120], dev=toy_pairs[150:180])
        return tmp_path

    def test_weights(self, folder, toy_tokenizer, toy_pairs, logged):
        batches = batches_of(config(folder, train=self.WEIGHTS, training={"batch_tokens": 300}), toy_tokenizer)
        epochs = [read_back(batches, toy_tokenizer, number) for number in range(4)]
        for epoch in epochs:
            assert {pair: epoch[pair] for pair in toy_pairs[:40]} == dict.fromkeys(toy_pairs[:40], 2)
            assert len(epoch) == 80
        assert (
            epochs[0] + epochs[1]
            == epochs[2] + epochs[3]
            == collections.Counter(dict.fromkeys(toy_pairs[:40], 4) | dict.fromkeys(toy_pairs[40:120], 1))
        )
        assert epochs[0] != epochs[2]
        assert logged == ["news, weight 2: 40 pairs, 0 skipped", "web, weight 0.5: 80 pairs, 0 skipped"]

    def test_order_and_names(self, folder, toy_pairs):
        corpus = Corpus(config(folder, train=self.WEIGHTS))
        pairs = list(corpus.train_pairs())
        assert [(pair.source, pair.target) for pair in pairs] == toy_pairs[:120]
        assert pairs[40].where == f"{folder}/web.en:1"
        assert len(corpus.fingerprints) == 6

    def test_caches_are_shared(self, folder, toy_tokenizer, monkeypatch):
        for train in ("news", {"web": 3.0}):
            batches_of(config(folder, train=train), toy_tokenizer)
        monkeypatch.setattr(SubwordVocabulary, "encode", None)
        assert len(batches_of(config(folder, train=self.WEIGHTS), toy_tokenizer).corpus) == 120

    def test_the_tokenizer_reads_as_much_as_an_epoch(self, folder, toy_pairs, trained_on):
        settings = config(folder, train=self.WEIGHTS, tokenizer={"kind": "word", "vocabulary_size": 100})
        create_tokenizer(settings, Corpus(settings))
        (pairs,) = trained_on
        counts = collections.Counter(pairs)
        assert {counts[pair] for pair in toy_pairs[:40]} == {2}
        # 80 draws with an even chance: 40, give or take 4.5; four deviations.
        assert 22 <= sum(counts[pair] for pair in toy_pairs[40:120]) <= 58

    def test_dev_is_split_from_all(self, folder, toy_tokenizer, toy_pairs):
        settings = config(folder, train={"news": 1, "web": 1}, dev=None, dev_size=30)
        corpus = Corpus(settings)
        dev, training = pairs_of(corpus.dev()), training_pairs(corpus)
        assert sorted(dev + training) == sorted(toy_pairs[:120])
        assert 0 < len(set(dev) & set(toy_pairs[:40])) < 30
        assert sorted(read_back(create_batches(settings, corpus, toy_tokenizer), toy_tokenizer)) == sorted(training)
        # The dev pairs of one corpus depend on the other, and so do its ids.
        write_corpus(folder, news=toy_pairs[:30])
        changed = sorted(training_pairs(Corpus(settings)))
        assert sorted(read_back(batches_of(settings, toy_tokenizer), toy_tokenizer)) == changed


class TestTokenizer:
    def test_is_trained_once(self, folder, toy_pairs, monkeypatch, logged):
        settings = config(folder, tokenizer={"kind": "bpe", "shared": False, "vocabulary_size": 60})
        first = create_tokenizer(settings, Corpus(settings))
        sources, targets = zip(*toy_pairs[:150], strict=True)
        assert first == train_tokenizer(sources, targets, kind="bpe", shared=False, vocabulary_size=60)
        with monkeypatch.context() as patch:
            patch.setattr(data, "train_tokenizer", None)
            patch.setattr(Corpus, "train_pairs", None)
            assert create_tokenizer(settings, Corpus(settings)) == first
        assert logged == ["training the tokenizer ..."]

    def test_depends_on_texts_and_settings(self, folder, toy_pairs):
        options = {"kind": "bpe", "vocabulary_size": 60}

        def create(tokenizer=options, **changes):
            settings = config(folder, tokenizer=tokenizer, **changes)
            return create_tokenizer(settings, Corpus(settings))

        tokenizers = [create(), create(options | {"vocabulary_size": 61}), create(dev=None, dev_size=50)]
        write_corpus(folder, train=toy_pairs[:40])
        tokenizers.append(create())
        assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 4

    def test_samples_many_pairs(self, folder, toy_pairs, monkeypatch, trained_on):
        monkeypatch.setattr(data, "MAX_TRAINING_LINES", 50)
        for shared in (True, False):
            settings = config(folder, tokenizer={"kind": "word", "shared": shared, "vocabulary_size": 100})
            create_tokenizer(settings, Corpus(settings))
        assert [len(set(pairs)) for pairs in trained_on] == [25, 50]
        assert all(set(pairs) < set(toy_pairs[:150]) for pairs in trained_on)


class TestBatches:
    def test_budget_and_seed(self, folder, toy_tokenizer, toy_pairs, logged):
        orders = []
        for seed in (0, 0, 1):
            batches = batches_of(config(folder, seed=seed, training={"batch_tokens": 300}), toy_tokenizer)
            found = list(batches.epoch(0))
            assert all(batch.source_ids.size + batch.target_ids.size <= 300 for batch in found)
            assert sorted(read_back(batches, toy_tokenizer).elements()) == sorted(toy_pairs[:150])
            orders.append([batch.indices.tolist() for batch in found])
        assert orders[0] == orders[1] != orders[2]
        assert any("150" in line for line in logged)

    def test_skipped_pairs_are_reported(self, folder, toy_tokenizer, toy_pairs, logged):
        write_corpus(folder, train=[*toy_pairs[:10], ("", "la kato"), ("the cat " * 200, "la kato")])
        batches = batches_of(config(folder, on_bad_line="skip", max_source_tokens=50), toy_tokenizer)
        assert sum(len(batch.indices) for batch in batches.epoch(0)) == 10
        assert "1 blank source" in " ".join(logged)
        assert "1 too many tokens" in " ".join(logged)

    def test_sampling_draws_other_pieces_of_the_same_texts(self, folder, toy_pairs):
        tokenizer = {"kind": "unigram", "vocabulary_size": 70}
        settings = config(folder, tokenizer=tokenizer, training={"sampling_alpha": 0.2})
        trained = create_tokenizer(settings, Corpus(settings))
        batches = batches_of(settings, trained)
        epochs = []
        for number in (0, 1, 0):
            rows = [row.tolist() for batch in batches.epoch(number) for row in batch.source_ids]
            assert sorted(trained.source.decode(rows)) == sorted(source for source, _ in toy_pairs[:150])
            epochs.append(sorted(rows))
        assert epochs[0] == epochs[2] != epochs[1]
