"""What an export refuses before and after the work, and what it leaves behind."""

import pytest

from seq2seq.cli.main import main
from seq2seq.errors import ArgumentError, ConfigError, ModelFileError, Seq2SeqError
from seq2seq.export import exporting
from seq2seq.export.exporting import ONLY_IN_PYTHON, export_model
from seq2seq.export.parity import Parity, compare
from seq2seq.layers import Decoder, Encoder
from seq2seq.models.archive import save
from seq2seq.models.results import Hypothesis
from seq2seq.models.seq2seq import Seq2Seq

PHRASES = {"prefix": "la", "banned_phrases": ("kato",), "required_phrases": ("hundo",)}
COPYING = {"model__copy": "reuse", "model__tie_embeddings": "all"}
JOINING = {"model__encoder__subsample": 2, "model__encoder__num_layers": 2}


@pytest.mark.parametrize(
    ("export_format", "changes", "options", "settings"),
    [
        ("saved_model", {}, {"sample": True, "temperature": 0.5}, ["decoding.sample"]),
        ("saved_model", {}, PHRASES, [f"decoding.{name}" for name in PHRASES]),
        ("saved_model", {}, {"shortlist": 5}, ["decoding.shortlist"]),
        ("onnx", {}, {"shortlist": 5, "precision": "bfloat16"}, ["decoding.precision", "decoding.shortlist"]),
        ("onnx", {}, {"whole_search": True, "coverage_penalty": "wu"}, ["decoding.coverage_penalty"]),
        ("litert", COPYING, {}, ["model.copy"]),
        ("onnx", JOINING, {}, ["model.encoder.subsample"]),
        ("onnx", {"dtype": "mixed_bfloat16"}, {}, ["the model"]),
    ],
)
def test_unsupported_settings(make_model, tmp_path, export_format, changes, options, settings):
    with pytest.raises(ConfigError, match=f"^{export_format} cannot hold this model and search: ") as error:
        export_model(make_model(**changes), tmp_path / "out", export_format, ["the cat"], **options)
    reasons = str(error.value).partition("search: ")[2].split("; ")
    assert sorted(reason.partition(" must ")[0] for reason in reasons) == sorted(settings)
    assert all(reason.rstrip(".").endswith(ONLY_IN_PYTHON[name]) for reason in reasons
               if (name := reason.partition(" ")[0].removeprefix("decoding.")) in ONLY_IN_PYTHON)  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(make_model, tmp_path):
    model = make_model()
    with pytest.raises(ArgumentError, match="format must be one of saved_model, onnx, litert, keras, got 'torch'"):
        export_model(model, tmp_path / "out", "torch", ["the cat"])
    with pytest.raises(ConfigError, match="already exists"):
        export_model(model, tmp_path, "saved_model", ["the cat"])
    with pytest.raises(ArgumentError, match="sentences must be"):
        export_model(model, tmp_path / "out", "saved_model", [])
    model = Seq2Seq(Encoder(units=4), Decoder(vocabulary_size=9, embedding_size=6, units=8))
    with pytest.raises(ModelFileError, match="tokenizer"):
        export_model(model, tmp_path / "out", "saved_model", ["the cat"])


def test_parity_counts_and_shows_differences():
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


def test_failed_parity_is_an_error():
    with pytest.raises(Seq2SeqError, match="must translate 99% of the sentences"):
        Parity(100, 98, 0.0, []).check("float32")
    Parity(100, 98, 0.1, []).check("int8")
    with pytest.raises(Seq2SeqError, match=r"at most 0\.001, but differ by 1\.0e-01"):
        Parity(100, 100, 0.1, []).check("float32")


def test_an_export_that_translates_otherwise_is_removed(make_model, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "write_saved_model", lambda model, options, folder, **kwargs: folder.mkdir())
    monkeypatch.setattr(exporting, "translate_with_saved_model", lambda *arguments: [("nothing", 0.0)])
    with pytest.raises(Seq2SeqError, match="translates 0 of 1 alike"):
        export_model(make_model(), tmp_path / "out", "saved_model", ["the cat"], max_length=3)
    assert list(tmp_path.iterdir()) == []


def test_command_refuses_bad_arguments(make_model, tmp_path, capsys):
    path = str(save(make_model(), tmp_path / "model.keras"))
    for arguments, message in (
        ([], "--sentences must be given"),
        (["--most", "0"], "--most must be at least 1, got 0"),
        (["--source-steps", "0"], "--source-steps must be at least 1, got 0"),
    ):
        assert main(["export", path, "--format", "litert", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.keras"]
