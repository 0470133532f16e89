"""What an export refuses before and after the work, and what it leaves behind."""

import re

import pytest

from seq2seq.cli.main import main
from seq2seq.errors import ConfigError, ModelFileError, Seq2SeqError
from seq2seq.export import exporting
from seq2seq.export.parity import Parity, compare
from seq2seq.layers import Decoder, Encoder
from seq2seq.models.archive import save
from seq2seq.models.generation import Hypothesis
from seq2seq.models.seq2seq import Seq2Seq


@pytest.mark.parametrize(
    ("export_format", "options", "message"),
    [
        (
            "saved_model",
            {"sample": True, "temperature": 0.5},
            "saved_model cannot hold this: decoding.sample must be left out, since random numbers are drawn in Python.",
        ),
        (
            "saved_model",
            {"prefix": "la", "banned_phrases": ("kato",), "required_phrases": ("hundo",)},
            "saved_model cannot hold this: decoding.prefix must be left out, since a prefix is cut into tokens in "
            "Python; decoding.required_phrases must be left out, since phrases are cut into tokens in Python; "
            "decoding.banned_phrases must be left out, since phrases are cut into tokens in Python.",
        ),
        (
            "saved_model",
            {"shortlist": 5},
            "saved_model cannot hold this: decoding.shortlist must be left out, since the words of a shortlist are "
            "looked up in Python.",
        ),
        (
            "onnx",
            {"shortlist": 5, "precision": "bfloat16"},
            "onnx cannot hold this: decoding.precision must be float32 or int8, but is 'bfloat16'; "
            "decoding.shortlist must be left out, since the words of a shortlist are looked up in Python.",
        ),
        ("torch", {}, "format must be one of saved_model, onnx, litert, keras, but is 'torch' instead."),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_work_starts(make_model, tmp_path, export_format, options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        exporting.export_model(make_model(), tmp_path / "out", export_format, ["the cat"], **options)
    assert list(tmp_path.iterdir()) == []


def test_layers_that_no_converter_knows_are_refused(make_model, tmp_path):
    model = make_model(model__copy="reuse", model__tie_embeddings="all")
    with pytest.raises(
        ConfigError, match=r"litert cannot hold this: model\.copy\.mode must be none, since the sums over"
    ):
        exporting.export_model(model, tmp_path / "out", "litert", ["the cat"])
    model = make_model(model__encoder__subsample=2, model__encoder__num_layers=2)
    with pytest.raises(
        ConfigError, match=r"onnx cannot hold this: model\.encoder\.subsample must be 1, since no converter"
    ):
        exporting.export_model(model, tmp_path / "out", "onnx", ["the cat"])


def test_a_whole_search_without_what_no_converter_follows(make_model, tmp_path):
    with pytest.raises(
        ConfigError, match=r"decoding\.coverage_penalty must be none for --whole-search, since no converter follows it"
    ):
        exporting.export_model(
            make_model(), tmp_path / "out", "onnx", ["the cat"], whole_search=True, coverage_penalty="wu"
        )


def test_a_model_that_computes_in_another_precision_is_no_onnx(make_model, tmp_path):
    with pytest.raises(ConfigError, match=r"the model must compute in float32, but computes in bfloat16\.$"):
        exporting.export_model(make_model("mixed_bfloat16"), tmp_path / "out", "onnx", ["the cat"])


def test_a_folder_that_is_there_and_no_sentences_are_refused(make_model, tmp_path):
    with pytest.raises(ConfigError, match=r"is there already\. Remove it, or give another --output\."):
        exporting.export_model(make_model(), tmp_path, "saved_model", ["the cat"])
    with pytest.raises(ConfigError, match=r"sentences must be some sources to check the export on, but are none"):
        exporting.export_model(make_model(), tmp_path / "out", "saved_model", [])


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
    with pytest.raises(ModelFileError, match="Strings need a model with a tokenizer"):
        exporting.export_model(model, tmp_path / "out", "saved_model", ["the cat"])


def test_parity_counts_and_shows_what_differs():
    def found(text, score):
        return [Hypothesis(text, score, score, [3], ["</s>"], [score])]

    ours = [found("a", -1.0), found("b", -2.0), found("c", -3.0)]
    parity = compare(["x", "y", "z"], ours, [("a", -1.0), ("B", -2.0), ("c", -3.25)])
    assert parity == Parity(3, 2, 0.25, [("y", "b", "B")])
    assert str(parity).splitlines() == [
        "parity: 2 of 3 sentences are translated alike, scores differ by at most 2.5e-01",
        "  source: y",
        "  model:  b",
        "  export: B",
    ]


def test_parity_that_does_not_hold_is_an_error():
    with pytest.raises(
        Seq2SeqError,
        match=r"The export must translate 99% of the sentences as the model does, but translates 98 of 100 alike\. It "
        r"was not written\.",
    ):
        Parity(100, 98, 0.0, []).check("float32")
    Parity(100, 98, 0.1, []).check("int8")
    with pytest.raises(
        Seq2SeqError,
        match=r"scores must differ from the model's by at most 0\.001, but differ by 1\.0e-01\. It was not written\.",
    ):
        Parity(100, 100, 0.1, []).check("float32")


def test_an_export_that_translates_otherwise_is_not_left_behind(make_model, tmp_path, monkeypatch):
    def write(model, options, folder, **kwargs):
        folder.mkdir()

    monkeypatch.setattr(exporting, "write_saved_model", write)
    monkeypatch.setattr(exporting, "translate_with_saved_model", lambda *arguments: [("nothing", 0.0)])
    with pytest.raises(Seq2SeqError, match="translates 0 of 1 alike"):
        exporting.export_model(make_model(), tmp_path / "out", "saved_model", ["the cat"], max_length=3)
    assert list(tmp_path.iterdir()) == []


class TestCommand:
    @pytest.fixture
    def path(self, make_model, tmp_path):
        return str(save(make_model(), tmp_path / "model.keras"))

    @pytest.fixture
    def calls(self, monkeypatch):
        calls = []

        def export_model(model, folder, export_format, sentences, **options):
            calls.append((folder.name, export_format, sentences, options))
            folder.mkdir()
            (folder / "part").write_bytes(bytes(2_000_000))
            return Parity(2, 2, 0.0, [])

        monkeypatch.setattr(exporting, "export_model", export_model)
        return calls

    def test_prints_parity_and_size(self, path, calls, tmp_path, capsys):
        (tmp_path / "lines").write_text("the cat\nthe dog\nthe king\n", "utf-8")
        arguments = ["--format", "saved_model", "--sentences", str(tmp_path / "lines"), "--most", "2", "--ids"]
        assert main(["export", path, *arguments, "--beam-size", "3"]) == 0
        options = {"attention": False, "strings": False, "source_steps": 64, "whole_search": False, "beam_size": 3}
        assert calls == [("model.saved_model", "saved_model", ["the cat", "the dog"], options)]
        assert capsys.readouterr().out.splitlines() == [
            "parity: 2 of 2 sentences are translated alike, scores differ by at most 0.0e+00",
            f"{tmp_path / 'model.saved_model'}: saved_model, 2.0 MB",
        ]

    def test_without_sentences_it_needs_the_dev_set(self, path, calls, capsys):
        assert main(["export", path, "--format", "onnx"]) == 2
        message = "--sentences must be given where the dev set of the model's recipe cannot be read, but is not."
        assert message in capsys.readouterr().err
        assert main(["export", path, "--format", "onnx", "--most", "0"]) == 2
        assert "--most must be at least 1, but is 0 instead." in capsys.readouterr().err
        assert main(["export", path, "--format", "litert", "--source-steps", "0"]) == 2
        assert "--source-steps must be at least 1, but is 0 instead." in capsys.readouterr().err
        assert calls == []
