"""A toy language of about forty words, for all tests that need text and a model of it."""

import logging
import random

import pytest

import seq2seq.progress  # noqa: F401 - makes the package's log lines visible

NOUNS = {
    "cat": "kato", "dog": "hundo", "bird": "birdo", "horse": "ĉevalo", "man": "viro", "girl": "knabino", "king": "reĝo",
}  # fmt: skip
ADJECTIVES = {"big": "granda", "red": "ruĝa", "old": "maljuna", "good": "bona", "wild": "sovaĝa"}
VERBS = {"sees": "vidas", "loves": "amas", "finds": "trovas", "hears": "aŭdas", "follows": "sekvas"}
ADVERBS = {"often": "ofte", "today": "hodiaŭ", "never": "neniam"}


def toy_sentences(number: int, seed: int = 0) -> list[tuple[str, str]]:
    """Pairs of a sentence and its translation, all different, in which the adjective changes its place."""
    draw = random.Random(seed)

    def noun_phrase() -> tuple[str, str]:
        noun, adjective = draw.choice(list(NOUNS)), draw.choice(list(ADJECTIVES))
        if draw.random() < 0.5:
            return f"the {noun}", f"la {NOUNS[noun]}"
        return f"the {adjective} {noun}", f"la {NOUNS[noun]} {ADJECTIVES[adjective]}"

    pairs: dict[str, str] = {}
    while len(pairs) < number:
        (subject, translated_subject), (thing, translated_thing) = noun_phrase(), noun_phrase()
        verb, adverb = draw.choice(list(VERBS)), draw.choice([None, *ADVERBS])
        source, target = f"{subject} {verb} {thing}", f"{translated_subject} {VERBS[verb]} {translated_thing}"
        if adverb:
            source, target = f"{source} {adverb}", f"{ADVERBS[adverb]} {target}"
        pairs[source] = target
    return list(pairs.items())


@pytest.fixture
def logged():
    """Collect the lines that the package logs, as they come."""
    lines: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("seq2seq")
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture(scope="session")
def toy_pairs() -> list[tuple[str, str]]:
    return toy_sentences(200)


@pytest.fixture(scope="session")
def toy_tokenizer(toy_pairs):
    from seq2seq.text.tokenizer_training import train_tokenizer

    sources, targets = zip(*toy_pairs, strict=True)
    return train_tokenizer(sources, targets, kind="word", vocabulary_size=100)


@pytest.fixture(scope="session")
def toy_config():
    """Make the configuration of a run small enough for tests, with changes by the full names of settings."""
    from seq2seq.config.sections import Config

    def make(**changes) -> Config:
        settings = {
            "model": {"embedding_size": 16, "encoder": {"units": 16}, "decoder": {"units": 32}},
            "tokenizer": {"kind": "word", "vocabulary_size": 100},
            "training": {
                "precision": "float32", "batch_tokens": 512, "learning_rate": 0.02, "warmup_steps": 5, "epochs": 8,
            },
        }  # fmt: skip
        for key, value in changes.items():
            *sections, name = key.split("__")
            place = settings
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return Config.from_dict(settings)

    return make


@pytest.fixture(scope="session")
def make_model(toy_config, toy_tokenizer):
    """Make an untrained model of any recipe."""
    from seq2seq.models.build import build_model
    from seq2seq.models.seq2seq import Seq2Seq

    def make(dtype: str = "float32", seed: int = 1, **changes) -> Seq2Seq:
        # Keras draws its seeds from here. keras.utils.set_random_seed would also empty TensorFlow's cache of kernels.
        random.seed(seed)
        return build_model(toy_config(**changes), toy_tokenizer, dtype)

    return make


@pytest.fixture(scope="session")
def make_random_model(make_model):
    """Make a model of two layers in both directions, and a decoder of two; every weight is random, biases too."""
    import numpy as np

    def make(cell: str):
        model = make_model(
            model__encoder__cell=cell,
            model__encoder__num_layers=2,
            model__decoder__cell=cell,
            model__decoder__num_layers=2,
            model__decoder__attention_position="between",
        )
        random = np.random.default_rng(7)
        model.set_weights([random.normal(scale=0.3, size=weight.shape) for weight in model.get_weights()])
        return model

    return make


@pytest.fixture(scope="session")
def trained(make_model, toy_pairs, toy_tokenizer):
    """Train a model that knows every pair of the toy corpus. It is shared: no test may change it."""
    import keras

    from seq2seq.text.batching import Batches
    from seq2seq.text.dataset import EncodedCorpus
    from seq2seq.training.step import TrainingStep

    model = make_model(model__tie_embeddings="all")
    averaged = make_model(model__tie_embeddings="all")
    step = TrainingStep(model, averaged, keras.optimizers.Adam(0.01), clip_norm=1.0, ema=0.0)
    sources, targets = zip(*toy_pairs, strict=True)
    corpus = EncodedCorpus.from_lists(toy_tokenizer.source.encode(sources), toy_tokenizer.target.encode(targets))
    batches = Batches(corpus, batch_tokens=512)
    for epoch in range(50):
        for batch in batches.epoch(epoch):
            step([batch], 0.01)
    step.synchronise()
    return averaged
