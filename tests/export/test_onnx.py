"""ONNX: the graphs compute what the layers compute, and the runner finds what our search finds."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from seq2seq.export import onnx_files, runner
from seq2seq.export.exporting import export_model
from seq2seq.export.inference_functions import InferenceFunctions
from seq2seq.text.dataset import pad

SEARCHES = [
    {"beam_size": 5, "n_best": 3},
    {"beam_size": 1, "coverage_penalty": "wu"},
    {"beam_size": 4, "n_best": 4, "length_penalty": "wu", "coverage_penalty": "wu", "coverage_penalty_beta": 0.7},
    {"beam_size": 4, "n_best": 2, "length_penalty": "reward", "coverage_penalty": "summary", "min_length": 9},
    {"beam_size": 1, "repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "min_length": 12},
    {"beam_size": 6, "n_best": 3, "beam_groups": 2, "diversity": 0.9, "no_repeat_ngram_size": 1, "batch_tokens": 64},
]
MORE_SEARCHES = [
    {"beam_size": 1},
    {"beam_size": 3, "length_penalty": "none", "max_length": 4, "min_length_ratio": 0.9, "batch_tokens": 64},
    {"beam_size": 4, "n_best": 4, "beam_groups": 4, "diversity": 2.0},
    {"beam_size": 4, "n_best": 2, "repetition_penalty": 1.8, "min_length": 15},
    {"beam_size": 5, "n_best": 5, "no_repeat_ngram_size": 3, "coverage_penalty": "wu", "min_length": 20},
    {"beam_size": 4, "beam_groups": 2, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "length_penalty": "wu"},
    {"beam_size": 3, "n_best": 3, "no_repeat_ngram_size": 1, "min_length": 200},
]


@pytest.fixture(scope="module")
def sources(toy_pairs):
    return [source for source, _ in toy_pairs[:40]] + ["", "the unseen cat sees", "\u3000 "]


@pytest.fixture(scope="module")
def folder(trained, sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "toy.onnx"
    parity = export_model(trained, folder, "onnx", sources)
    assert parity.identical == parity.sentences
    return folder


@pytest.fixture(scope="module")
def translator(folder):
    return runner.Translator(folder, threads=1)


@pytest.mark.parametrize(
    "options",
    [*SEARCHES, *(pytest.param(options, marks=pytest.mark.slow) for options in MORE_SEARCHES)],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_search_in_numpy(trained, translator, sources, options):
    expected = trained.generate(sources, attention=True, **options)
    for ours, theirs in zip(expected, translator.generate(sources, attention=True, **options), strict=True):
        assert [found.token_ids for found in theirs] == [found.token_ids for found in ours]
        for found, right in zip(theirs, ours, strict=True):
            assert found.text == right.text
            assert (found.score, found.log_prob) == pytest.approx((right.score, right.log_prob), abs=1e-4)
            np.testing.assert_allclose(found.token_log_probs, right.token_log_probs, atol=1e-4)
            if right.attention_weights is not None:
                np.testing.assert_allclose(found.attention_weights, right.attention_weights, atol=1e-4)


def test_sentences_are_independent(translator, sources):
    together = translator.translate(sources)
    assert together == [translator.translate([source])[0] for source in sources]


def test_script_needs_no_tensorflow(trained, folder, sources, tmp_path):
    """Run the script of the export in a process that can import neither TensorFlow nor this package."""
    code = (
        "import sys, runpy\n"
        "sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'seq2seq']))\n"
        "sys.argv = ['translate.py', '--n-best', '2', '--window', '7']\n"
        f"runpy.run_path({str(folder / 'translate.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(sources).encode(), capture_output=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().split("\n")[:-1]
    expected = trained.generate(sources, n_best=2)
    assert lines == [text for found in expected for text in ([one.text for one in found] + [""])[:2]]


def test_runner_imports_no_tensorflow():
    code = "import sys, seq2seq.export.runner; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    root = pathlib.Path(runner.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_bad_arguments_of_the_runner(translator, folder, tmp_path):
    for options, message in (
        ({"sample": True}, r"options must be some of beam_size, .*, got sample\."),
        ({"beam_size": 2, "n_best": 3}, r"n_best must be from 1 to beam_size \(2\), got 3"),
        ({"beam_size": 3, "beam_groups": 2}, r"beam_groups must be a divisor of beam_size \(3\), got 2"),
    ):
        with pytest.raises(ValueError, match=message):
            translator.generate(["a"], **options)
    shutil.copytree(folder, tmp_path / "later")
    description = json.loads((folder / "export.json").read_text("utf-8"))
    (tmp_path / "later" / "export.json").write_text(json.dumps(description | {"version": 99}), "utf-8")
    with pytest.raises(ValueError, match=r"of version 1 or less, got one to onnx of version 99\."):
        runner.Translator(tmp_path / "later")


def test_missing_tf2onnx(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(onnx_files.MissingDependencyError, match=r"tf2onnx is not installed.*'seq2seq\[onnx\]'"):
        export_model(trained, tmp_path / "out", "onnx", ["the cat"])


def outputs_of(session, context_inputs):
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, context_inputs), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"model__context": name} for name in ("last", "projected", "mean", "max", "sum", "attentive")]
    + [
        {"model__attention__score": name}
        for name in ("scaled_dot", "general", "additive", "location", "local", "multi_head")
    ]
    + [
        {"model__encoder__cell": cell, "model__decoder__cell": cell, "model__encoder__num_layers": 2}
        for cell in ("rnn", "lstm", "gru_simplified", "gru_reset_before")
    ]
    + [
        {"model__decoder__attention_position": "between", "model__decoder__num_layers": 2},
        {"model__context_inputs": ["input", "state"], "model__decoder__input_feeding": True},
        {"model__attention__coverage": True},
        {"model__encoder__front_end": "mean", "model__encoder__stride": 2},
    ],
    ids=lambda settings: "-".join(str(value) for value in settings.values()),
)
def test_every_architecture(make_model, settings, tmp_path):
    model = make_model(**settings)
    random = np.random.default_rng(3)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    onnx_files.write_onnx(model, model.decoding, tmp_path / "out")
    encoder, decoder = (runner.onnx_session(tmp_path / "out" / f"{name}.onnx", 1) for name in ("encoder", "decoder"))
    ids = np.array([[5, 6, 7, 3], [9, 3, 0, 0]], np.int32)
    functions = InferenceFunctions(model)
    expected = {name: np.array(value) for name, value in functions.encode(tf.constant(ids)).items()}
    found = outputs_of(encoder, {"source_ids": ids})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)
    beams = {name: np.repeat(expected[name], 3, axis=0) for name in functions.state_names}
    context_inputs = {name: expected[name] for name in functions.context_names} | beams
    context_inputs["token_ids"] = random.integers(2, model.target_vocabulary_size, 6).astype(np.int32)
    right = functions.step(**{name: tf.constant(value) for name, value in context_inputs.items()})
    names = [value.name for value in decoder.get_inputs()]
    # A context that is read once needs no mask in a step.
    context_inputs = {
        name: value for name, value in (context_inputs | {"count": np.array(4, np.int32)}).items() if name in names
    }
    found = outputs_of(decoder, context_inputs)
    for name, value in right.items():
        np.testing.assert_allclose(found[name], np.array(value), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 5, "n_best": 2},
        {"beam_size": 1},
        {"beam_size": 4, "beam_groups": 2, "no_repeat_ngram_size": 2, "repetition_penalty": 1.4, "min_length": 5},
        {"beam_size": 3, "precision": "int8"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_whole_search_in_one_graph(trained, sources, tmp_path, options):
    """Translate sentences that end at different steps; the loop ends with the last."""
    export_model(trained, tmp_path / "out", "onnx", sources, whole_search=True, **options)
    session = runner.onnx_session(tmp_path / "out" / onnx_files.WHOLE_SEARCH, 1)
    texts = [source for source in sources if source.strip()]
    ids, lengths, scores = session.run(
        ["token_ids", "lengths", "scores"], {"source_ids": pad(trained.encode_sources(texts))}
    )
    if options.get("precision") == "int8":
        return
    for row, hypotheses in enumerate(trained.generate(texts, **options)):
        for place, right in enumerate(hypotheses):
            assert ids[row, place, : lengths[row, place]].tolist() == right.token_ids
            assert scores[row, place] == pytest.approx(right.score, abs=1e-4)
    assert ids.shape[2] == lengths.max()


@pytest.mark.slow
def test_int8(trained, sources, tmp_path):
    parity = export_model(trained, tmp_path / "out", "onnx", sources, precision="int8", beam_size=3)
    assert parity.identical >= 0.9 * parity.sentences
