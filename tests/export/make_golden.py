"""Write the golden files: a small model file with its exports and translations, and one of 8 bits per weight.

Run by hand, only when the format changes: python -m tests.export.make_golden
"""

import json
import pathlib
import tempfile
import zipfile

import keras
import numpy as np

SENTENCES = ["ab ba", "b", "abba ab", ""]


def golden_model(embedding_size=16, units=16):
    """Make a model of random weights, always the same."""
    from seq2seq.config.sections import Config
    from seq2seq.models.build import build_model
    from seq2seq.text.tokenizer_training import train_tokenizer

    tokenizer = train_tokenizer(["ab a"], ["ba b"], kind="char", vocabulary_size=7, normalization="identity")
    decoder = {"units": 2 * units, "num_layers": 2}
    sizes = {"embedding_size": embedding_size, "encoder": {"units": units}, "decoder": decoder}
    search = {"beam_size": 3, "n_best": 2, "max_length": 12}
    model = build_model(Config.from_dict({"model": sizes, "decoding": search}), tokenizer)
    random = np.random.default_rng(1)
    model.set_weights([random.normal(scale=1.5, size=weight.shape) for weight in model.get_weights()])
    return model


def main():
    from seq2seq.export.exporting import export_model
    from seq2seq.export.keras_files import write_keras
    from seq2seq.export.runner import VERSION
    from seq2seq.models.archive import save

    model = golden_model(embedding_size=4, units=3)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        save(model, folder / "model.keras")
        export_model(model, folder / "onnx", "onnx", SENTENCES)
        export_model(model, folder / "litert", "litert", SENTENCES, source_steps=9)
        export_model(model, folder / "saved_model", "saved_model", SENTENCES, strings=False)
        found = [[(one.token_ids, one.score) for one in few] for few in model.generate(SENTENCES)]
        (folder / "expected.json").write_text(json.dumps(found), "utf-8")
        write_keras(golden_model(), pathlib.Path(__file__).with_name(f"golden_{VERSION}_int8.keras"))
        golden = pathlib.Path(__file__).with_name(f"golden_{VERSION}.zip")
        with zipfile.ZipFile(golden, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
    print(golden, golden.stat().st_size, keras.__version__)


if __name__ == "__main__":
    main()
