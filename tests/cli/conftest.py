"""A model that needs no TensorFlow, in the place of the one that `seq2seq.model.load` would read."""

import sys
import types
from typing import NamedTuple

import pytest

from seq2seq.config import Decoding
from seq2seq.errors import ModelFileError


class FakeHypothesis(NamedTuple):
    text: str
    score: float


class FakeModel:
    """Translates into capitals; the second best is the text backwards, and there is no third."""

    def __init__(self):
        self.decoding = Decoding()
        self.calls = []

    def generate(self, texts, **options):
        self.calls.append((list(texts), options))
        wanted = self.decoding.replaced(**options).n_best
        return [self.found(text)[:wanted] if text else [FakeHypothesis("", 0.0)] for text in texts]

    @staticmethod
    def found(text):
        return [FakeHypothesis(text.upper(), -0.5), FakeHypothesis(text[::-1], -1.5)]

    def translate(self, texts, **options):
        return [hypotheses[0].text for hypotheses in self.generate(texts, **options)]


@pytest.fixture
def model(monkeypatch):
    fake = FakeModel()

    def load(path):
        if path != "model.keras":
            raise ModelFileError(f"{path}: no such model file.")
        return fake

    for verb in ("translate", "evaluate"):
        monkeypatch.setattr(f"seq2seq.cli.{verb}.import_tensorflow", lambda: None)
    monkeypatch.setitem(sys.modules, "seq2seq.model", types.SimpleNamespace(load=load))
    return fake
