"""A SavedModel translates as its model, without this package, on any machine."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from seq2seq.export import exporting, saved_model
from seq2seq.export.exporting import export_model
from seq2seq.layers import recurrent
from seq2seq.layers.quantized import has_int8
from seq2seq.text.dataset import pad
from seq2seq.text.ids import START_ID
from seq2seq.text.tokenizer import Truncation

BLANK = ["", "  ", "\u3000\u00a0\t"]


@pytest.fixture(scope="module")
def sources(toy_pairs):
    return [source for source, _ in toy_pairs[:20]] + ["the unseen cat sees"]


@pytest.fixture(scope="module")
def folder(trained, sources, tmp_path_factory):
    """Export on a machine that seems to have a GPU."""
    folder = tmp_path_factory.mktemp("export") / "toy.saved_model"

    def write(*arguments, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recurrent, "gpu_is_available", lambda: True)
            saved_model.write_saved_model(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "write_saved_model", write)
        parity = export_model(trained, folder, "saved_model", sources, attention=True, n_best=2, beam_size=3)
    assert parity.identical == parity.sentences == len(sources)
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    return tf.saved_model.load(str(folder)).signatures


def test_strings_come_with_all_fields(trained, sources, exported):
    found = {
        name: tensor.numpy() for name, tensor in exported["serving_default"](tf.constant([*sources, *BLANK])).items()
    }
    expected = trained.generate([*sources, *BLANK], attention=True, n_best=2, beam_size=3)
    for row, hypotheses in enumerate(expected):
        for place, one in enumerate(hypotheses):
            assert found["texts"][row, place].decode() == one.text
            assert found["scores"][row, place] == pytest.approx(one.score, abs=1e-5)
            if one.text:
                length = found["lengths"][row, place]
                assert found["token_ids"][row, place, :length].tolist() == one.token_ids
                steps, places = one.attention_weights.shape
                weights = found["attention_weights"][row, place, :steps, :places]
                np.testing.assert_allclose(weights, one.attention_weights, atol=1e-5)
    assert found["texts"][-len(BLANK) :].tolist() == [[b"", b""]] * len(BLANK)


@pytest.mark.parametrize(("policy", "most"), [("none", 0), ("head", 4), ("head_tail", 4), ("head_tail", 5)])
def test_truncation(toy_tokenizer, policy, most):
    def translate_ids(source_ids, is_blank):
        return {"token_ids": source_ids[:, None], "scores": tf.zeros([len(source_ids), 1])}

    sources = [" ".join(["the cat sees the dog often"] * 2)[:length] for length in range(0, 40, 4)]
    truncation = Truncation(policy, most)
    found = saved_model._TextTranslator(toy_tokenizer, truncation, translate_ids).translate(tf.constant(sources))
    expected = pad([truncation.cut(ids) for ids in toy_tokenizer.source.encode(sources)])
    np.testing.assert_array_equal(found["source_ids"], expected)


def test_ids_give_the_same(trained, sources, exported):
    found = exported["translate_ids"](tf.constant(pad(trained.tokenizer.source.encode(sources))))
    texts = trained.tokenizer.target.decode(found["token_ids"][:, 0].numpy())
    assert texts == trained.translate(sources, beam_size=3)


def test_own_search_on_encode_and_step(trained, sources, exported):
    encoded = exported["encode"](tf.constant(pad(trained.tokenizer.source.encode(sources))))
    context = {name: value for name, value in encoded.items() if not name.startswith("state")}
    states = {name: value for name, value in encoded.items() if name.startswith("state")}
    token_ids, written = tf.fill([len(sources)], START_ID), []
    for _ in range(20):
        outputs = exported["step"](token_ids=token_ids, **context, **states)
        states = {name: outputs[f"next_{name}"] for name in states}
        token_ids = tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32)
        written.append(token_ids.numpy())
    texts = trained.tokenizer.target.decode(np.stack(written, axis=1))
    assert texts == trained.translate(sources, beam_size=1)


def test_graph_is_portable(folder):
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    (graph,) = (meta.graph_def for meta in content.meta_graphs)
    # Restoring the weights assigns, but is not part of a signature.
    names = {
        node.op
        for function in graph.library.function
        for node in function.node_def
        if "restore" not in function.signature.name
    }
    wrong = [name for name in names if "Cudnn" in name or "Random" in name or "Assign" in name]
    assert "MatMul" in names
    assert not wrong


def test_ids_need_no_tensorflow_text(trained, sources, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    precision = "int8" if has_int8() else "bfloat16"
    parity = export_model(
        trained, tmp_path / "ids", "saved_model", sources, strings=False, precision=precision, beam_size=1
    )
    assert parity.identical >= 0.9 * len(sources)
    loaded = tf.saved_model.load(str(tmp_path / "ids"))
    assert sorted(loaded.signatures) == ["encode", "serving_default", "step", "translate_ids"]
    with pytest.raises(saved_model.MissingDependencyError, match=r"'seq2seq\[saved_model\]', or export ids .* --ids"):
        export_model(trained, tmp_path / "text", "saved_model", sources)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ids"]


@pytest.mark.slow
def test_without_this_package(trained, sources, folder, tmp_path):
    script = f"""
import sys, tensorflow as tf, tensorflow_text
assert not any(name.startswith("seq2seq") for name in sys.modules)
translate = tf.saved_model.load({str(folder)!r}).signatures["translate"]
texts = translate(sources=tf.constant({sources!r}))["texts"][:, 0].numpy()
sys.stdout.buffer.write(b"\\n".join(texts.tolist()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().split("\n") == trained.translate(sources, beam_size=3)
