"""One file out, one file in, in the same process and in others; and what is said of files that are no models."""

import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import seq2seq
from seq2seq.errors import ModelFileError, Seq2SeqError
from seq2seq.layers import Decoder, Encoder
from seq2seq.models.archive import load, save
from seq2seq.models.seq2seq import Seq2Seq

ROOT = Path(seq2seq.__file__).parents[1]


@pytest.fixture(scope="module")
def model_path(trained, tmp_path_factory):
    return save(trained, tmp_path_factory.mktemp("model") / "deep" / "model.keras")


@pytest.fixture
def copy(model_path, tmp_path):
    """Copy the file, so that a test may damage it."""
    return Path(shutil.copy(model_path, tmp_path / "copy.keras"))


class TestRoundTrip:
    def test_keeps_weights_settings_and_tokenizer(self, trained, model_path):
        loaded = load(model_path)
        assert isinstance(loaded, Seq2Seq)
        assert loaded.tokenizer.models == trained.tokenizer.models
        assert loaded.tokenizer.fingerprint == trained.tokenizer.fingerprint
        assert loaded.recipe == trained.recipe
        assert loaded.decoding == trained.decoding
        for variable, right in zip(loaded.weights, trained.weights, strict=True):
            np.testing.assert_array_equal(variable, right)

    def test_two_vocabularies(self, make_model, toy_pairs, tmp_path):
        from seq2seq.config.sections import Config
        from seq2seq.models.build import build_model
        from seq2seq.text.tokenizer_training import train_tokenizer

        sources, targets = zip(*toy_pairs, strict=True)
        tokenizer = train_tokenizer(sources, targets, kind="word", shared=False, vocabulary_size=100)
        settings = {"tokenizer": {"shared": False}, "model": {"encoder": {"units": 8}, "decoder": {"units": 16}}}
        model = build_model(Config.from_dict(settings), tokenizer)
        loaded = load(save(model, tmp_path / "model.keras"))
        assert loaded.tokenizer.models == tokenizer.models
        assert not loaded.tokenizer.is_joint
        assert loaded.translate(sources[:4], beam_size=1) == model.translate(sources[:4], beam_size=1)

    def test_without_a_tokenizer(self, tmp_path):
        model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
        assert load(save(model, tmp_path / "model.keras")).tokenizer is None

    @pytest.mark.parametrize(
        "settings",
        [{"model__context": name} for name in ("last", "projected", "mean", "max", "sum", "attentive")]
        + [
            {"model__attention__score": name}
            for name in ("scaled_dot", "general", "additive", "location", "local", "multi_head")
        ]
        + [
            {"model__decoder__attention_position": "between", "model__decoder__num_layers": 2},
            {
                "model__context_inputs": ["input", "state"],
                "model__decoder__input_feeding": True,
                "model__encoder__num_layers": 2,
            },
        ],
        ids=lambda settings: "-".join(str(value) for value in settings.values()),
    )
    def test_every_architecture(self, make_model, settings, tmp_path):
        model = make_model(**settings)
        for variable in model.trainable_variables:
            variable.assign(variable + 0.1)
        loaded = load(save(model, tmp_path / "model.keras"))
        ids = np.array([[5, 6, 7, 3], [9, 3, 0, 0]], "int32")
        inputs = {"source_ids": ids, "target_ids": ids[:, ::-1] + 1}
        np.testing.assert_array_equal(np.array(loaded(inputs)), np.array(model(inputs)))


class TestOtherProcesses:
    # What `load` does in a process of its own, the command does in tests/serving/test_stream.py.
    @pytest.mark.parametrize("imports", ["seq2seq, keras", "keras, seq2seq"])
    def test_translate_alike(self, trained, model_path, toy_pairs, imports, tmp_path):
        sources = [source for source, _ in toy_pairs[:20]]
        (tmp_path / "sources").write_text("\n".join(sources), encoding="utf-8")
        script = (
            f"import {imports}, sys\nmodel = keras.saving.load_model({str(model_path)!r})\n"
            f"sources = open({str(tmp_path / 'sources')!r}, encoding='utf-8').read().split('\\n')\n"
            "translations = model.translate(sources)\n"
            "sys.stdout.buffer.write('\\n'.join(translations).encode())"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout == "\n".join(trained.translate(sources)).encode()


class TestSave:
    def test_leaves_one_file(self, trained, tmp_path):
        path = tmp_path / "run" / "model.keras"
        assert save(trained, path) == path
        assert save(trained, str(path)) == path
        assert [entry.name for entry in path.parent.iterdir()] == ["model.keras"]

    def test_that_fails_leaves_what_was_there(self, trained, tmp_path, monkeypatch):
        path = tmp_path / "model.keras"
        path.write_bytes(b"before")

        def fail(self, directory):
            raise OSError("no space left on device")

        monkeypatch.setattr(Seq2Seq, "save_assets", fail)
        with pytest.raises(Seq2SeqError, match="no space left"):
            save(trained, path)
        assert path.read_bytes() == b"before"
        assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]

    @pytest.mark.parametrize("name", ["model.h5", "model"])
    def test_wants_the_right_ending(self, trained, tmp_path, name):
        message = rf"{name}: a model file must end in \.keras\. Name it model\.keras\."
        with pytest.raises(ModelFileError, match=message):
            save(trained, tmp_path / name)
        assert list(tmp_path.iterdir()) == []


class TestBadFiles:
    def test_missing(self, tmp_path):
        for path in (tmp_path / "model.keras", tmp_path):
            with pytest.raises(ModelFileError, match=r"no such model file\. Give the path of a \.keras file"):
                load(path)

    @pytest.mark.parametrize("content", [b"", b"a text, not a model", b"PK\x03\x04 and no more"])
    def test_no_archive(self, tmp_path, content):
        path = tmp_path / "model.keras"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"model\.keras: not a \.keras file, or one that is cut short\."):
            load(path)

    @pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
    def test_cut_short(self, copy, share):
        content = copy.read_bytes()
        copy.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ModelFileError, match=r"not a \.keras file, or one that is cut short\. Copy or train it"):
            load(copy)

    def test_one_byte_wrong(self, copy, trained, monkeypatch):
        """Whatever a wrong byte leads the reader of archives to, the user sees one kind of error."""
        content = copy.read_bytes()
        with zipfile.ZipFile(copy) as archive:
            offsets = [part.header_offset for part in archive.infolist()]
            directory = archive.start_dir
        reached = []
        monkeypatch.setattr(keras.saving, "load_model", lambda path, safe_mode: reached.append(path) or trained)
        headers = [*range(directory, len(content)), *(offset + byte for offset in offsets for byte in range(30))]
        messages = []
        for place in [*headers, *range(0, directory, directory // 50)]:
            spoilt = bytearray(content)
            spoilt[place] ^= 0xFF
            copy.write_bytes(spoilt)
            try:
                load(copy)
            except ModelFileError as error:
                messages.append(str(error))
        assert all(message.startswith(f"{copy}: ") for message in messages)
        # What is let through are dates, versions and permissions, which say nothing of the content.
        assert len(messages) > len(reached) > 0

    @pytest.mark.parametrize("name", ["model.weights.h5", "config.json", "assets/joint.model"])
    def test_content_damaged(self, copy, name):
        with zipfile.ZipFile(copy) as archive:
            part = next(part for part in archive.infolist() if part.filename.endswith(name))
        content = bytearray(copy.read_bytes())
        name_length, extra_length = struct.unpack_from("<HH", content, part.header_offset + 26)
        content[part.header_offset + 30 + name_length + extra_length + part.compress_size // 2] ^= 1
        copy.write_bytes(content)
        with pytest.raises(ModelFileError, match=rf"damaged: the checksum of \S*{name} is wrong\. Copy or train it"):
            load(copy)

    def test_another_archive(self, tmp_path):
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
        with pytest.raises(ModelFileError, match=r"it holds no metadata\.json, model\.weights\.h5\."):
            load(path)

    def test_whole_but_unreadable(self, copy, tmp_path):
        path = tmp_path / "other.keras"
        with zipfile.ZipFile(copy) as before, zipfile.ZipFile(path, "w") as after:
            for part in before.infolist():
                content = before.read(part)
                if part.filename == "config.json":
                    content = content.replace(b"seq2seq>Decoder", b"seq2seq>Odd").replace(b'"Decoder"', b'"Odd"')
                after.writestr(part.filename, content)
        with pytest.raises(ModelFileError, match=r"other\.keras: Keras cannot read this model: "):
            load(path)
