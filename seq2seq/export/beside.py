"""What stands beside the graphs of ONNX and LiteRT: the tokenizer, and the runner, which makes a translator of them."""

import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

from seq2seq.export.steps import Steps
from seq2seq.model import Seq2Seq


def write_beside(model: Seq2Seq, folder: pathlib.Path) -> None:
    """Write the models of the tokenizer, and the runner as `translate.py`."""
    for name, content in model.require_tokenizer().models.items():
        (folder / name).write_bytes(content)
    shutil.copy(pathlib.Path(__file__).with_name("runner.py"), folder / "translate.py")


def describe(model: Seq2Seq, steps: Steps) -> dict[str, Any]:
    """What the runner must know of the graphs."""
    return {
        "context": steps.context_names,
        "states": steps.state_names,
        "attention": steps.has_attention,
        "reduction": model.encoder.reduction,
        "truncation": list(model.truncation),
    }


def translate_with_runner(folder: pathlib.Path, sources: Sequence[str]) -> list[tuple[str, float]]:
    """The best translation of each source and its score, by an export as it lies on the disk."""
    from seq2seq.export.runner import Translator

    return [(found[0].text, found[0].score) for found in Translator(folder).generate(sources)]
