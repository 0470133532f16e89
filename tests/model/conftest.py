"""Models of the toy language: untrained ones of any recipe, and one that has learnt it."""

import keras
import pytest

from seq2seq.model import Seq2Seq, build_model
from seq2seq.text import Batches, EncodedCorpus
from seq2seq.training import TrainingStep


@pytest.fixture(scope="session")
def make_model(toy_config, toy_tokenizer):
    def make(dtype: str = "float32", seed: int = 1, **changes) -> Seq2Seq:
        keras.utils.set_random_seed(seed)
        return build_model(toy_config(**changes), toy_tokenizer, dtype)

    return make


@pytest.fixture(scope="session")
def trained(make_model, toy_pairs, toy_tokenizer) -> Seq2Seq:
    """Knows every pair of the toy corpus. It is shared: no test may change it."""
    model = make_model(model__tie="all")
    averaged = make_model(model__tie="all")
    step = TrainingStep(model, averaged, keras.optimizers.Adam(0.01), clip_norm=1.0, ema=0.0)
    sources, targets = zip(*toy_pairs, strict=True)
    corpus = EncodedCorpus.from_lists(toy_tokenizer.encode_source(sources), toy_tokenizer.encode_target(targets))
    batches = Batches(corpus, batch_tokens=512)
    for epoch in range(50):
        for batch in batches.epoch(epoch):
            step(batch.source_ids, batch.target_ids, 0.01)
    step.synchronise()
    return averaged
