"""A recipe's files: where they are, what is held out of them, and what they become."""

import collections
import gzip

import pytest

from seq2seq.config.sections import Config
from seq2seq.errors import DataError
from seq2seq.text.corpus import CorpusReport
from seq2seq.text.tokenizer import SubwordVocabulary
from seq2seq.text.tokenizer_training import train_tokenizer
from seq2seq.training import data as corpus_module
from seq2seq.training.data import Corpus, create_batches, create_tokenizer


def write(folder, name, pairs):
    for side, texts in zip(("en", "eo"), zip(*pairs, strict=True), strict=True):
        (folder / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def config(folder, seed=0, training=None, tokenizer=None, **data):
    data = {"folder": str(folder), "source": "en", "target": "eo", "test": None} | data
    run = {"seed": seed, "folder": str(folder / "runs")}
    return Config.from_dict({"data": data, "run": run, "training": training or {}, "tokenizer": tokenizer or {}})


@pytest.fixture
def folder(tmp_path, toy_pairs):
    write(tmp_path, "train", toy_pairs[:150])
    write(tmp_path, "dev", toy_pairs[150:180])
    write(tmp_path, "test", toy_pairs[180:])
    return tmp_path


def pairs_of(texts):
    return list(zip(texts.sources, texts.targets, strict=True))


class TestFiles:
    def test_are_read_in_their_order(self, folder, toy_pairs):
        corpus = Corpus(config(folder, test="test"))
        assert [(pair.source, pair.target) for pair in corpus.train_pairs()] == toy_pairs[:150]
        assert pairs_of(corpus.dev()) == toy_pairs[150:180]
        assert pairs_of(corpus.test()) == toy_pairs[180:]
        assert Corpus(config(folder)).test() is None
        assert corpus.agreement() is None

    def test_of_other_formats(self, folder, toy_pairs):
        lines = [f"{target}\tx\t{source}\n" for source, target in toy_pairs]
        for name in ("train", "dev"):
            with gzip.open(folder / f"{name}.tsv.gz", "wt", encoding="utf-8") as file:
                file.writelines(lines)
        corpus = Corpus(config(folder, format="tsv", source="3", target="1"))
        assert pairs_of(corpus.dev()) == toy_pairs
        assert [(pair.source, pair.target) for pair in corpus.train_pairs()] == toy_pairs

    @pytest.mark.parametrize("name", ["train.en", "dev.eo", "test.en"])
    def test_absent_ones_are_named_with_their_origin(self, folder, name):
        (folder / name).unlink()
        with pytest.raises(DataError) as error:
            Corpus(config(folder, test="test", origin="Get them from https://example.org/pairs."))
        assert str(error.value) == (
            f"{folder / name}: no such file, nor {name}.gz. Set data.folder to where the files are. "
            "Get them from https://example.org/pairs."
        )

    def test_absent_ones_without_an_origin(self, tmp_path):
        with pytest.raises(DataError, match=r"train\.en\.gz\. Set data\.folder to where the files are\.$"):
            Corpus(config(tmp_path))

    def test_absent_agreement_items(self, folder):
        with pytest.raises(DataError, match=r"agreement\.tsv: no such file"):
            Corpus(config(folder, agreement="agreement.tsv"))

    def test_agreement_items(self, folder):
        (folder / "agreement.tsv").write_text("1\tthe cat runs\tla kato kuras\tkuras\tkuros\n", encoding="utf-8")
        (item,) = Corpus(config(folder, agreement="agreement.tsv")).agreement()
        assert item.source == "the cat runs"

    @pytest.mark.parametrize("name", ["dev", "test"])
    def test_without_a_pair_are_refused(self, folder, name):
        for side in ("en", "eo"):
            (folder / f"{name}.{side}").write_text("")
        with pytest.raises(DataError, match=rf"{name}\.en: the file must hold a pair that can be used, but holds none"):
            getattr(Corpus(config(folder, test="test")), name)()


class TestHeldOut:
    def test_pairs_are_in_dev_and_not_in_training(self, folder, toy_pairs):
        corpus = Corpus(config(folder, dev=None, dev_size=20))
        training, dev = [(pair.source, pair.target) for pair in corpus.train_pairs()], pairs_of(corpus.dev())
        assert len(dev) == 20
        assert sorted(training + dev) == sorted(toy_pairs[:150])
        assert [pair for pair in toy_pairs if pair in training] == training

    def test_pairs_are_those_of_the_seed(self, folder):
        first, again, other = (
            pairs_of(Corpus(config(folder, seed=seed, dev=None, dev_size=20)).dev()) for seed in (3, 3, 4)
        )
        assert first == again != other

    def test_must_leave_some(self, folder):
        corpus = Corpus(config(folder, dev=None, dev_size=150))
        with pytest.raises(DataError, match=r"dev_size must be less than the number of pairs \(150\), but is 150 ins"):
            corpus.dev()

    def test_pairs_are_not_in_the_tokenizer(self, folder, toy_pairs):
        marked = [(f"{source} n{place}", target) for place, (source, target) in enumerate(toy_pairs[:60])]
        write(folder, "train", marked)
        settings = config(folder, dev=None, dev_size=20, tokenizer={"kind": "word", "vocabulary_size": 500})
        corpus = Corpus(settings)
        tokenizer = create_tokenizer(settings, corpus)
        dev_size = [source.split()[-1] for source in corpus.dev().sources]
        kept = [pair.source.split()[-1] for pair in corpus.train_pairs()]
        unknown = [1 in ids for ids in tokenizer.source.encode(dev_size)]
        assert unknown == [True] * 20
        assert not any(1 in ids for ids in tokenizer.source.encode(kept))

    def test_pairs_are_drawn_and_read_once(self, folder, toy_pairs, monkeypatch):
        settings = config(folder, dev=None, dev_size=20)
        first = Corpus(settings)
        dev = list(first.dev_pairs())
        lines = (folder / "train.en").read_text(encoding="utf-8").splitlines()
        assert [pair.source for pair in dev] == [lines[int(pair.where.rpartition(":")[2]) - 1] for pair in dev]
        training = list(first.train_pairs())
        (kept,) = (folder / "runs" / ".cache").iterdir()
        with monkeypatch.context() as patch:
            patch.setattr(Corpus, "_hold_out", None)
            again = Corpus(settings)
            assert (list(again.dev_pairs()), list(again.train_pairs())) == (dev, training)
        kept.write_bytes(kept.read_bytes().replace(b"the", b"teh", 1))
        assert list(Corpus(settings).dev_pairs()) == dev
        # Another content of the files, another choice.
        write(folder, "train", toy_pairs[:140])
        other = Corpus(settings)
        assert len(list(other.train_pairs())) == 120
        assert list(other.dev_pairs()) != dev


def read_back(batches, tokenizer, epoch):
    """Every pair of texts of an epoch with how often it came."""
    counts = collections.Counter()
    for batch in batches.epoch(epoch):
        sides = tokenizer.source.decode(batch.source_ids), tokenizer.target.decode(batch.target_ids)
        counts.update(zip(*sides, strict=True))
    return counts


class TestSeveralCorpora:
    WEIGHTS = {"news": 2.0, "web": 0.5}  # noqa: RUF012

    @pytest.fixture
    def folder(self, tmp_path, toy_pairs):
        write(tmp_path, "news", toy_pairs[:40])
        write(tmp_path, "web", toy_pairs[40:120])
        write(tmp_path, "dev", toy_pairs[150:180])
        return tmp_path

    def test_come_as_often_as_their_weights_say(self, folder, toy_tokenizer, toy_pairs, logged):
        settings = config(folder, train=self.WEIGHTS, training={"batch_tokens": 300})
        batches = create_batches(settings, Corpus(settings), toy_tokenizer, folder / "cache")
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

    def test_are_read_in_their_order_and_named(self, folder, toy_pairs):
        corpus = Corpus(config(folder, train=self.WEIGHTS))
        pairs = list(corpus.train_pairs())
        assert [(pair.source, pair.target) for pair in pairs] == toy_pairs[:120]
        assert pairs[40].where == f"{folder}/web.en:1"
        assert len(corpus.fingerprints) == 6
        (folder / "web.eo").unlink()
        with pytest.raises(DataError, match=r"web\.eo: no such file"):
            Corpus(config(folder, train=self.WEIGHTS))

    def test_share_the_caches_of_each(self, folder, toy_tokenizer, monkeypatch):
        for train in ("news", {"web": 3.0}):
            settings = config(folder, train=train)
            create_batches(settings, Corpus(settings), toy_tokenizer, folder / "cache")
        monkeypatch.setattr(SubwordVocabulary, "encode", None)
        settings = config(folder, train=self.WEIGHTS)
        batches = create_batches(settings, Corpus(settings), toy_tokenizer, folder / "cache")
        assert len(batches.corpus) == 120

    def test_give_the_tokenizer_as_much_as_an_epoch(self, folder, toy_pairs, monkeypatch):
        read = []

        def remembering(sources, targets, **options):
            read.append(list(zip(sources, targets, strict=True)))
            return train_tokenizer(sources, targets, **options)

        monkeypatch.setattr(corpus_module, "train_tokenizer", remembering)
        settings = config(folder, train=self.WEIGHTS, tokenizer={"kind": "word", "vocabulary_size": 100})
        create_tokenizer(settings, Corpus(settings))
        (pairs,) = read
        counts = collections.Counter(pairs)
        assert {counts[pair] for pair in toy_pairs[:40]} == {2}
        # 80 draws with an even chance: 40, give or take 4.5; four deviations.
        assert 22 <= sum(counts[pair] for pair in toy_pairs[40:120]) <= 58

    def test_pairs_are_held_out_of_all(self, folder, toy_tokenizer, toy_pairs):
        settings = config(folder, train={"news": 1, "web": 1}, dev=None, dev_size=30)
        corpus = Corpus(settings)
        dev, training = pairs_of(corpus.dev()), [(pair.source, pair.target) for pair in corpus.train_pairs()]
        assert sorted(dev + training) == sorted(toy_pairs[:120])
        assert 0 < len(set(dev) & set(toy_pairs[:40])) < 30
        batches = create_batches(settings, corpus, toy_tokenizer, folder / "cache")
        assert sorted(read_back(batches, toy_tokenizer, 0)) == sorted(training)
        # Those of one corpus depend on the other, and so do its ids.
        write(folder, "news", toy_pairs[:30])
        changed = Corpus(settings)
        batches = create_batches(settings, changed, toy_tokenizer, folder / "cache")
        assert sorted(read_back(batches, toy_tokenizer, 0)) == sorted(pair[:2] for pair in changed.train_pairs())

    def test_a_weight_that_leaves_nothing_is_refused(self, folder, toy_tokenizer):
        settings = config(folder, train={"news": 1, "web": 0.001})
        with pytest.raises(DataError, match=r"web: the weight .* but 0\.001 leaves none of 80 instead"):
            create_batches(settings, Corpus(settings), toy_tokenizer, folder / "cache")


class TestTokenizer:
    def test_is_trained_once(self, folder, toy_pairs, monkeypatch, logged):
        settings = config(folder, tokenizer={"kind": "bpe", "shared": False, "vocabulary_size": 60})
        first = create_tokenizer(settings, Corpus(settings))
        sources, targets = zip(*toy_pairs[:150], strict=True)
        assert first == train_tokenizer(sources, targets, kind="bpe", shared=False, vocabulary_size=60)
        assert logged == ["training the tokenizer ..."]
        with monkeypatch.context() as patch:
            patch.setattr(corpus_module, "train_tokenizer", None)
            patch.setattr(Corpus, "train_pairs", None)
            assert create_tokenizer(settings, Corpus(settings)) == first
        (kept,) = (folder / "runs" / ".cache").iterdir()
        content = kept.read_bytes()
        kept.write_bytes(content[:-9])
        assert create_tokenizer(settings, Corpus(settings)) == first
        assert kept.read_bytes() == content
        assert logged[1:] == [f"{kept}: the file is damaged; it is made again.", "training the tokenizer ..."]

    def test_of_other_texts_or_settings_is_another(self, folder, toy_pairs):
        options = {"kind": "bpe", "vocabulary_size": 60}

        def create(tokenizer=options, **changes):
            settings = config(folder, tokenizer=tokenizer, **changes)
            return create_tokenizer(settings, Corpus(settings))

        tokenizers = [create(), create(options | {"vocabulary_size": 61}), create(dev=None, dev_size=50)]
        write(folder, "train", toy_pairs[:40])
        tokenizers.append(create())
        assert len({tokenizer.fingerprint for tokenizer in tokenizers}) == 4

    def test_is_trained_on_a_sample_of_many_pairs(self, folder, toy_pairs, monkeypatch):
        monkeypatch.setattr(corpus_module, "MAX_TRAINING_LINES", 50)
        read = []

        def remembering(sources, targets, **options):
            read.append(list(zip(sources, targets, strict=True)))
            return train_tokenizer(sources, targets, **options)

        monkeypatch.setattr(corpus_module, "train_tokenizer", remembering)
        for shared in (True, False):
            settings = config(folder, tokenizer={"kind": "word", "shared": shared, "vocabulary_size": 100})
            create_tokenizer(settings, Corpus(settings))
        assert [len(set(pairs)) for pairs in read] == [25, 50]
        assert all(set(pairs) < set(toy_pairs[:150]) for pairs in read)


class TestBatches:
    def test_hold_every_training_pair_once(self, folder, toy_tokenizer, toy_pairs, tmp_path, logged):
        settings = config(folder, training={"batch_tokens": 300})
        batches = create_batches(settings, Corpus(settings), toy_tokenizer, tmp_path / "cache")
        sources, targets = zip(*toy_pairs[:150], strict=True)
        read = []
        for batch in batches.epoch(0):
            assert batch.source_ids.size + batch.target_ids.size <= 300
            read += zip(
                toy_tokenizer.source.decode(batch.source_ids.tolist()),
                toy_tokenizer.target.decode(batch.target_ids.tolist()),
                strict=True,
            )
        assert sorted(read) == sorted(zip(sources, targets, strict=True))
        assert any("150" in line for line in logged)

    def test_of_other_seeds_have_another_order(self, folder, toy_tokenizer, tmp_path):
        orders = []
        for seed in (0, 0, 1):
            settings = config(folder, seed=seed, training={"batch_tokens": 300})
            batches = create_batches(settings, Corpus(settings), toy_tokenizer, tmp_path / "cache")
            orders.append([batch.indices.tolist() for batch in batches.epoch(0)])
        assert orders[0] == orders[1] != orders[2]

    def test_leave_out_what_is_held_out(self, folder, toy_tokenizer, tmp_path):
        for seed in (0, 1):
            settings = config(folder, seed=seed, dev=None, dev_size=20)
            corpus = Corpus(settings)
            batches = create_batches(settings, corpus, toy_tokenizer, tmp_path / "cache")
            dev = set(corpus.dev().sources)
            read = [
                text for batch in batches.epoch(0) for text in toy_tokenizer.source.decode(batch.source_ids.tolist())
            ]
            assert len(read) == 130
            assert not dev & set(read)

    def test_say_what_was_skipped(self, folder, toy_tokenizer, toy_pairs, tmp_path, logged):
        write(folder, "train", [*toy_pairs[:10], ("", "la kato"), ("the cat " * 200, "la kato")])
        settings = config(folder, on_bad_line="skip", max_source_tokens=50)
        corpus = Corpus(settings)
        batches = create_batches(settings, corpus, toy_tokenizer, tmp_path / "cache")
        assert sum(len(batch.indices) for batch in batches.epoch(0)) == 10
        assert "blank" in " ".join(logged)
        assert len(list(corpus.train_pairs(CorpusReport()))) == 11

    def test_draw_other_pieces_of_the_same_texts_with_sampling(self, folder, toy_pairs, tmp_path):
        tokenizer = {"kind": "unigram", "vocabulary_size": 70}
        settings = config(folder, tokenizer=tokenizer, training={"sampling_alpha": 0.2})
        corpus = Corpus(settings)
        trained = create_tokenizer(settings, corpus)
        batches = create_batches(settings, corpus, trained, tmp_path / "cache")
        epochs = []
        for number in (0, 1, 0):
            rows = [row.tolist() for batch in batches.epoch(number) for row in batch.source_ids]
            assert sorted(trained.source.decode(rows)) == sorted(source for source, _ in toy_pairs[:150])
            epochs.append(sorted(rows))
        assert epochs[0] == epochs[2] != epochs[1]

    def test_of_nothing_are_refused(self, folder, toy_tokenizer, tmp_path):
        settings = config(folder, on_bad_line="skip", max_source_tokens=1)
        with pytest.raises(
            DataError, match="must hold a pair that can be used, but holds none instead: 0 pairs, 150 skipped"
        ):
            create_batches(settings, Corpus(settings), toy_tokenizer, tmp_path / "cache")
