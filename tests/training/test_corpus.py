"""A recipe's files: where they are, what is held out of them, and what they become."""

import gzip

import pytest

from seq2seq.config import Config
from seq2seq.errors import DataError
from seq2seq.text import CorpusReport, Tokenizer
from seq2seq.training.corpus import Corpus, create_batches, create_tokenizer


def write(folder, name, pairs):
    for side, texts in zip(("en", "eo"), zip(*pairs, strict=True), strict=True):
        (folder / f"{name}.{side}").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def config(folder, seed=0, training=None, tokenizer=None, **data):
    data = {"folder": str(folder), "source": "en", "target": "eo", "test": None} | data
    settings = {"data": data, "run": {"seed": seed}, "training": training or {}, "tokenizer": tokenizer or {}}
    return Config.from_dict(settings)


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
        corpus = Corpus(config(folder, dev=None, held_out=20))
        training, dev = [(pair.source, pair.target) for pair in corpus.train_pairs()], pairs_of(corpus.dev())
        assert len(dev) == 20
        assert sorted(training + dev) == sorted(toy_pairs[:150])
        assert [pair for pair in toy_pairs if pair in training] == training

    def test_pairs_are_those_of_the_seed(self, folder):
        first, again, other = (
            pairs_of(Corpus(config(folder, seed=seed, dev=None, held_out=20)).dev()) for seed in (3, 3, 4)
        )
        assert first == again != other

    def test_must_leave_some(self, folder):
        corpus = Corpus(config(folder, dev=None, held_out=150))
        with pytest.raises(DataError, match=r"held_out must be less than the number of pairs \(150\), but is 150 ins"):
            corpus.dev()

    def test_pairs_are_not_in_the_tokenizer(self, folder, toy_pairs):
        marked = [(f"{source} n{place}", target) for place, (source, target) in enumerate(toy_pairs[:60])]
        write(folder, "train", marked)
        settings = config(folder, dev=None, held_out=20, tokenizer={"kind": "word", "vocabulary_size": 500})
        corpus = Corpus(settings)
        tokenizer = create_tokenizer(settings, corpus)
        held_out = [source.split()[-1] for source in corpus.dev().sources]
        kept = [pair.source.split()[-1] for pair in corpus.train_pairs()]
        unknown = [1 in ids for ids in tokenizer.encode_source(held_out)]
        assert unknown == [True] * 20
        assert not any(1 in ids for ids in tokenizer.encode_source(kept))


class TestBatches:
    def test_hold_every_training_pair_once(self, folder, toy_tokenizer: Tokenizer, toy_pairs, tmp_path):
        said = []
        settings = config(folder, training={"batch_tokens": 300})
        batches = create_batches(settings, Corpus(settings), toy_tokenizer, tmp_path / "cache", said.append)
        sources, targets = zip(*toy_pairs[:150], strict=True)
        read = []
        for batch in batches.epoch(0):
            assert batch.source_ids.size + batch.target_ids.size <= 300
            read += zip(
                toy_tokenizer.decode_source(batch.source_ids.tolist()),
                toy_tokenizer.decode_target(batch.target_ids.tolist()),
                strict=True,
            )
        assert sorted(read) == sorted(zip(sources, targets, strict=True))
        assert any("150" in line for line in said)

    def test_of_other_seeds_have_another_order(self, folder, toy_tokenizer, tmp_path):
        orders = []
        for seed in (0, 0, 1):
            settings = config(folder, seed=seed, training={"batch_tokens": 300})
            batches = create_batches(settings, Corpus(settings), toy_tokenizer, tmp_path / "cache", lambda line: None)
            orders.append([batch.indices.tolist() for batch in batches.epoch(0)])
        assert orders[0] == orders[1] != orders[2]

    def test_leave_out_what_is_held_out(self, folder, toy_tokenizer, tmp_path):
        said = []
        for seed in (0, 1):
            settings = config(folder, seed=seed, dev=None, held_out=20)
            corpus = Corpus(settings)
            batches = create_batches(settings, corpus, toy_tokenizer, tmp_path / "cache", said.append)
            dev = set(corpus.dev().sources)
            read = [
                text for batch in batches.epoch(0) for text in toy_tokenizer.decode_source(batch.source_ids.tolist())
            ]
            assert len(read) == 130
            assert not dev & set(read)

    def test_say_what_was_skipped(self, folder, toy_tokenizer, toy_pairs, tmp_path):
        write(folder, "train", [*toy_pairs[:10], ("", "la kato"), ("the cat " * 200, "la kato")])
        settings = config(folder, on_bad_line="skip", max_source_tokens=50)
        said = []
        corpus = Corpus(settings)
        batches = create_batches(settings, corpus, toy_tokenizer, tmp_path / "cache", said.append)
        assert sum(len(batch.indices) for batch in batches.epoch(0)) == 10
        assert "blank" in " ".join(said)
        assert len(list(corpus.train_pairs(CorpusReport()))) == 11

    def test_draw_other_pieces_of_the_same_texts_with_sampling(self, folder, toy_pairs, tmp_path):
        tokenizer = {"kind": "unigram", "vocabulary_size": 70, "sampling_alpha": 0.2}
        settings = config(folder, tokenizer=tokenizer)
        corpus = Corpus(settings)
        trained = create_tokenizer(settings, corpus)
        batches = create_batches(settings, corpus, trained, tmp_path / "cache", lambda line: None)
        epochs = []
        for number in (0, 1, 0):
            rows = [row.tolist() for batch in batches.epoch(number) for row in batch.source_ids]
            assert sorted(trained.decode_source(rows)) == sorted(source for source, _ in toy_pairs[:150])
            epochs.append(sorted(rows))
        assert epochs[0] == epochs[2] != epochs[1]

    def test_of_nothing_are_refused(self, folder, toy_tokenizer, tmp_path):
        settings = config(folder, on_bad_line="skip", max_source_tokens=1)
        with pytest.raises(
            DataError, match="must hold a pair that can be used, but holds none instead: 0 pairs, 150 skipped"
        ):
            create_batches(settings, Corpus(settings), toy_tokenizer, tmp_path / "cache", lambda line: None)
