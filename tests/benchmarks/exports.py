"""One model in every format, each in a process of its own: what it translates, how fast, from what files.

    python -m tests.benchmarks.exports MODEL SENTENCES FOLDER [--only onnx,litert] [--beam-size 10 ...]

exports the model into FOLDER where that is not done yet, with the flags of the search that are given, and prints a row
for Keras and each format, or those named (as in FOLDER): megabytes, seconds from the start of the process to the first
translation, sentences a second of all sentences, and how many are translated as Keras does.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]

TOGETHER = """
import json, sys, time
path, sentences, start = sys.argv[1:]
lines = open(sentences, encoding="utf-8").read().splitlines()
{prepare}
translate(lines[:1])
ready = time.time() - float(start)
if {warm}:
    translate(lines)
begun = time.time()
texts = translate(lines)
seconds = time.time() - begun
print(json.dumps({{"ready": ready, "rate": len(lines) / seconds, "texts": texts}}))
"""

KERAS = """
from seq2seq.threads import use_single_threaded_ops
from seq2seq.models.archive import load
use_single_threaded_ops()  # As the commands do, which decode batches beside each other.
model = load(path)
options = {options}
translate = lambda texts: model.translate(texts, **options)
"""

SAVED_MODEL = """
import tensorflow as tf, tensorflow_text
assert not any(name.startswith("seq2seq") for name in sys.modules)
graph = tf.saved_model.load(path).signatures["translate"]
def translate(texts):
    order, found = sorted(range(len(texts)), key=lambda place: len(texts[place])), {}
    for start in range(0, len(order), 64):
        places = order[start : start + 64]
        outputs = graph(sources=tf.constant([texts[place] for place in places]))
        found |= dict(zip(places, [text.decode() for text in outputs["texts"][:, 0].numpy()]))
    return [found[place] for place in range(len(texts))]
"""

RUNNER = """
sys.path.insert(0, path)
from translate import Translator
assert not any(name.startswith(("seq2seq", "tensorflow", "keras")) for name in sys.modules)
translate = Translator(path).translate
"""

FORMATS = [
    ("Keras", None, []),
    ("SavedModel", "saved_model", []),
    ("ONNX", "onnx", []),
    ("ONNX, int8", "onnx", ["--precision", "int8"]),
    ("LiteRT", "litert", []),
    ("LiteRT, int8", "litert", ["--precision", "int8"]),
    ("Keras, int8", "keras", ["--precision", "int8"]),
]


def megabytes(path: pathlib.Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def main(model: str, sentences: str, folder: str, *flags: str) -> None:
    only: set[str] = set()
    if flags[:1] == ("--only",):
        only, flags = set(flags[1].split(",")), flags[2:]
    options = {
        name[2:].replace("-", "_"): json.loads(value) for name, value in zip(flags[::2], flags[1::2], strict=True)
    }
    ours: list[str] = []
    print(f"{'':14}{'MB':>8}{'ready s':>9}{'sent/s':>8}{'identical':>11}")
    for name, export_format, more in FORMATS:
        path, place_of_run = pathlib.Path(model), str(ROOT)
        prepare = KERAS.format(options=options)
        if export_format is not None:
            path = pathlib.Path(folder) / name.lower().replace(", ", "_")
            if only and path.name not in only:
                continue
            if export_format == "keras":
                path = path.with_suffix(".keras")
            else:
                prepare, place_of_run = SAVED_MODEL if export_format == "saved_model" else RUNNER, folder
            command = [sys.executable, "-m", "seq2seq", "export", model, "--format", export_format]
            command += ["--output", str(path), "--sentences", sentences, "--most", "100", *more, *flags]
            if not path.exists():
                subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        code = TOGETHER.format(prepare=prepare, warm=export_format != "litert")
        done = subprocess.run(
            [sys.executable, "-c", code, str(path.resolve()), str(pathlib.Path(sentences).resolve()), str(time.time())],
            cwd=place_of_run,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            check=True,
            capture_output=True,
            text=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        ours = ours or found["texts"]
        identical = sum(one == other for one, other in zip(ours, found["texts"], strict=True))
        row = f"{megabytes(path):8.1f}{found['ready']:9.2f}{found['rate']:8.0f}{identical:7} of {len(ours)}"
        print(f"{name:14}{row}", flush=True)
        for place, (one, other) in enumerate(zip(ours, found["texts"], strict=True)):
            if one != other:
                print(f"{name} {place}\n  {one}\n  {other}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
