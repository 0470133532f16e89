"""A model that needs no TensorFlow, in the place of the one that `seq2seq.models.load` would read."""

import math
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest

from seq2seq.config.sections import DecodingConfig
from seq2seq.errors import DataError, ModelFileError
from seq2seq.text.tokenizer import Truncation


class FakeHypothesis(NamedTuple):
    text: str
    score: float
    token_ids: tuple[int, ...] = (9, 3)
    log_prob: float = -2.0
    pieces: tuple[str, ...] = ("▁A", "</s>")
    token_log_probs: tuple[float, ...] = (-1.5, -0.5)
    attention_weights: np.ndarray = np.array([[0.75, 0.25], [0.0, 1.0]])
    alignment: tuple[int, ...] | None = (0, 1)
    num_truncated_tokens: int = 0


class FakeScore(NamedTuple):
    log_prob: float
    token_log_probs: list[float]
    pieces: list[str]
    num_truncated_tokens: int = 0

    @property
    def perplexity(self):
        return math.exp(-self.log_prob / len(self.pieces))


class FakeModel:
    """Translates into capitals; the second best is the text backwards, and there is no third."""

    truncation = Truncation()
    task = "translate"

    def __init__(self):
        self.decoding = DecodingConfig()
        self.calls, self.constraints = [], []

    def generate(self, texts, attention=False, first_index=0, progress=None, on_error=None, **options):
        constraints = {name: options.pop(name) for name in ("prefixes", "required", "banned") if name in options}
        self.calls.append((list(texts), options))
        self.constraints.append((attention, first_index, constraints))
        n_best = self.decoding.replaced(**options).n_best
        results = [self.found(text)[:n_best] if text else [FakeHypothesis("", 0.0)] for text in texts]
        for index, phrases in enumerate(constraints.get("required", [])):
            if "impossible" in phrases:
                results[index] = []
                on_error(index, DataError("'impossible' cannot be written."))
        if progress is not None:
            progress(len(texts))
        return results

    def require_tokenizer(self):
        return None

    def source_pieces(self, text):
        return [f"▁{text}", "</s>"]

    def memory_tokens(self, text):
        return tuple(self.source_pieces(text))

    @staticmethod
    def found(text):
        return [FakeHypothesis(text.upper(), -0.5), FakeHypothesis(text[::-1], -1.5)]

    def score(self, sources, targets):
        """Each word costs as much as it has letters, the end token one, and a source nothing."""
        costs = [[-float(len(word)) for word in target.split()] + [-1.0] for target in targets]
        pieces = [[f"▁{word}" for word in target.split()] + ["</s>"] for target in targets]
        return [FakeScore(sum(one), one, words) for one, words in zip(costs, pieces, strict=True)]

    def translate(self, texts, **options):
        return [hypotheses[0].text for hypotheses in self.generate(texts, **options)]

    answers = translate


class FakeEnsemble(FakeModel):
    """Tells that it has several models by what it finds; models that are one object cannot vote."""

    def __init__(self, models):
        super().__init__()
        if models[0] is models[-1]:
            raise ValueError("models must share one target vocabulary.")
        self.found = lambda text: [FakeHypothesis(f"{len(models)} {text}", -0.5)]


@pytest.fixture
def model(monkeypatch):
    fake = FakeModel()

    def load(path, kind=None):
        if path == "second.keras":
            return FakeModel()
        if path != "model.keras":
            raise ModelFileError(f"{path}: no such model file.")
        return fake

    for verb in ("translate", "evaluate", "score"):
        monkeypatch.setattr(f"seq2seq.cli.{verb}.import_tensorflow", lambda: None)
    fakes = {
        "": {},
        ".archive": {"load": load},
        ".seq2seq": {"Seq2Seq": FakeModel},
        ".results": {"perplexity": math.exp},
        ".generation": {"Ensemble": FakeEnsemble},
    }
    for module, names in fakes.items():
        monkeypatch.setitem(sys.modules, f"seq2seq.models{module}", types.SimpleNamespace(**names))
    monkeypatch.setattr("seq2seq.threads.use_single_threaded_ops", lambda: None)
    return fake
