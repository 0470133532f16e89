"""Models that were trained elsewhere: the same outputs here, then beams, saving and inspection."""

import pathlib
import re

import keras
import numpy as np
import pytest

import seq2seq
from seq2seq.cli.main import main
from seq2seq.layers import Encoder, to_torch
from seq2seq.models.archive import load, save
from seq2seq.models.base import clone_with_implementation

LETTERS = "abcdefgh"
SOURCE = [*LETTERS, " "]
TARGET = ["\t", "\n", *LETTERS.upper(), " "]
WORDS = [f"w{i}" for i in range(9)]


def tokens(**changes):
    return seq2seq.Tokens(**{"source": SOURCE, "target": TARGET, "start": "\t", "end": "\n"} | changes)


def keras_model(kind="LSTM", one_hot=True, num_layers=1, mask=False, **dense):
    """Build the model of Keras' example of sequence-to-sequence learning, and its relatives, written in plain Keras."""
    layer = getattr(keras.layers, kind)

    def read(size, width):
        if one_hot:
            inputs = keras.Input((None, size))
            return inputs, inputs
        inputs = keras.Input((None,), dtype="int32")
        return inputs, keras.layers.Embedding(size, width, mask_zero=mask)(inputs)

    source, outputs = read(len(SOURCE), 5)
    all_states = []
    for place in range(num_layers):
        outputs, *states = layer(12, return_sequences=place + 1 < num_layers, return_state=True)(outputs)
        all_states.append(states)
    target, outputs = read(len(TARGET), 7)
    for states in all_states:
        outputs, *_ = layer(12, return_sequences=True, return_state=True)(
            keras.layers.Dropout(0.3)(outputs), initial_state=states
        )
    outputs = keras.layers.Dense(len(TARGET), **{"activation": "softmax"} | dense)(outputs)
    model = keras.Model([source, target], outputs)
    random = np.random.default_rng(5)
    model.set_weights([random.normal(scale=0.7, size=weight.shape) for weight in model.get_weights()])
    return model


def as_read(ids, size, one_hot):
    return np.eye(size, dtype="float32")[ids] if one_hot else ids


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "GRU", "one_hot": False, "num_layers": 2},
        {"kind": "SimpleRNN", "one_hot": False, "use_bias": False},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "official",
)
def test_probabilities_of_a_keras_model_are_the_same(options):
    model = keras_model(**options)
    ours = seq2seq.from_keras(model, tokens())
    one_hot, random = options.get("one_hot", True), np.random.default_rng(1)
    source, target = random.integers(0, len(SOURCE), (3, 6)), random.integers(2, len(TARGET), (3, 5))
    read = [as_read(source, len(SOURCE), one_hot), as_read(np.insert(target, 0, 0, axis=1), len(TARGET), one_hot)]
    expected = model.predict_on_batch(read)[:, :-1]
    # Start and end, which come first here, go to 2 and 3, and all else follows.
    new_source = np.insert(source + 4, 6, 3, axis=1).astype("int32")
    logits = ours({"source_ids": new_source, "target_ids": (target + 2).astype("int32")})
    found = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    np.testing.assert_allclose(found[..., 2:], expected, atol=1e-6)
    assert not found[..., :2].any()


def greedy_in_keras(model, text, most):
    """Run the loop of Keras' example: feed back the best letter until the end."""
    source = np.eye(len(SOURCE), dtype="float32")[[[SOURCE.index(letter) for letter in text]]]
    written = [TARGET.index("\t")]
    while len(written) <= most:
        probabilities = model.predict_on_batch([source, np.eye(len(TARGET), dtype="float32")[[written]]])
        written.append(int(probabilities[0, -1].argmax()))
        if TARGET[written[-1]] == "\n":
            break
    return "".join(TARGET[place] for place in written[1:] if TARGET[place] != "\n")


def test_a_trained_keras_model_writes_the_same_then_has_beams_a_page_and_a_file(tmp_path):
    model = keras_model()
    random = np.random.default_rng(2)
    texts = ["".join(random.choice(list(LETTERS), 4)) for _ in range(64)]
    source = np.eye(len(SOURCE), dtype="float32")[[[SOURCE.index(letter) for letter in text] for text in texts]]
    target = [[0, *(TARGET.index(letter) for letter in text.upper()), 1] for text in texts]
    written = np.eye(len(TARGET), dtype="float32")[target]
    model.compile("adam", "categorical_crossentropy")
    model.fit([source, written[:, :-1]], written[:, 1:], epochs=3, verbose=0)
    ours = seq2seq.from_keras(model, tokens())
    few = [*texts[:5], "a b", "h"]
    assert ours.translate(few, beam_size=1, max_length=8) == [
        greedy_in_keras(model, text, 8).strip(" ") for text in few
    ]
    found = ours.generate(few, beam_size=4, n_best=4)
    assert all(len(hypotheses) == 4 for hypotheses in found)
    assert [one.score for one in found[0]] == sorted((one.score for one in found[0]), reverse=True)
    path = save(ours, tmp_path / "model.keras")
    assert main(["inspect", str(path), few[0], "--output", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000
    loaded = load(path)
    assert loaded.translate(few) == ours.translate(few)
    assert clone_with_implementation(loaded, "raw").translate(few) == ours.translate(few)


class Torch:
    """The arrays of tests/model/torch_{cell}.npz, and what PyTorch computed of them; see tests/model/make_torch.py."""

    def __init__(self, cell):
        with np.load(pathlib.Path(__file__).with_name(f"torch_{cell}.npz")) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files if "." in name}
            self.source, self.target, self.log_probs, self.greedy = (
                arrays[name] for name in ("source", "target", "log_probs", "greedy")
            )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_arrays_of_a_torch_model_give_its_outputs_and_its_greedy_translations(cell):
    torch = Torch(cell)
    words = tokens(
        source=["<pad>", *WORDS],
        target=["<pad>", "<s>", "</s>", *WORDS],
        start="<s>",
        end="</s>",
        pad="<pad>",
        kind="word",
    )
    model = seq2seq.from_torch(torch.arrays, words, cell=cell)
    target_order = [0, 2, 3, *range(4, 13)]
    source = np.insert(torch.source + 3, torch.source.shape[1], 3, axis=1).astype("int32")
    target = np.array(target_order, "int32")[torch.target]
    logits = model({"source_ids": source, "target_ids": target})
    found = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))
    np.testing.assert_allclose(found[..., target_order], torch.log_probs, atol=1e-5)
    texts = [" ".join(WORDS[place - 1] for place in row) for row in torch.source]
    expected = []
    for row in torch.greedy.tolist():
        row = row[: row.index(2)] if 2 in row else row
        expected.append(" ".join(WORDS[place - 3] for place in row if place > 2))
    assert model.translate(texts, beam_size=1, max_length=torch.greedy.shape[1]) == expected


def wrong_models():
    source, target = keras.Input((None, 9)), keras.Input((None, 11))
    encoded, *states = keras.layers.LSTM(4, return_state=True)(source)
    decoded = keras.layers.LSTM(4, return_sequences=True)(target, initial_state=states)
    other = keras.layers.LSTM(4, return_sequences=True)(target, initial_state=states[::-1])
    dense = keras.layers.Dense(11, activation="softmax")
    twice = keras.layers.LSTM(4, return_state=True)(source, initial_state=states)
    return {
        "with two inputs and one output": keras.Model(source, encoded),
        "got 'LSTM lstm.*'. This layer is its last layer": keras.Model([source, target], decoded),
        "does not read a recurrent layer with an initial_state": keras.Model(
            [source, target], dense(keras.layers.LSTM(4, return_sequences=True)(decoded))
        ),
        "does not start from the states of the encoder's layer at its place": keras.Model(
            [source, target], dense(other)
        ),
        "has an initial_state, where an encoder starts from zeros": keras.Model(
            [source, target], dense(keras.layers.LSTM(4, return_sequences=True)(target, initial_state=twice[1:]))
        ),
        "is neither recurrent nor an Embedding nor an input": keras.Model(
            [source, target],
            dense(keras.layers.LSTM(4, return_sequences=True)(keras.layers.Dense(3)(target), initial_state=states)),
        ),
    }


def test_models_of_another_shape_are_refused_with_the_place():
    for message, model in wrong_models().items():
        with pytest.raises(ValueError, match=rf"^model must be .*{message}.*It must have two inputs"):
            seq2seq.from_keras(model, tokens())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "abc"}, "tokens.source must be 9 tokens, one for each id"),
        ({"end": "!"}, "tokens.end must be one of tokens.target"),
        ({"target": [*TARGET[:-1], "AB"]}, "target_tokens[8] must be one character"),
        ({"target": [*TARGET[:-1], "A"]}, "target_tokens must hold each token once"),
        ({"kind": "bpe"}, "kind must be one of char, word"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        seq2seq.from_keras(keras_model(), tokens(**changes))


def test_arrays_that_do_not_fit_are_refused():
    torch = Torch("gru")
    words = tokens(
        source=["<pad>", *WORDS], target=["<pad>", "<s>", "</s>", *WORDS], start="<s>", end="</s>", kind="word"
    )
    with pytest.raises(ValueError, match=r"arrays must be those of all modules, .*out\.weight is missing"):
        seq2seq.from_torch(torch.arrays, words, cell="gru", output="out")
    arrays = torch.arrays | {"decoder.output.weight": np.zeros((12, 5))}
    with pytest.raises(ValueError, match=r"output must be of shape \(6, 12\), got \(5, 12\)"):
        seq2seq.from_torch(arrays, words, cell="gru")
    encoder = Encoder(6, num_layers=2)
    encoder.build((None, None, 4))
    both = {f"encoder.rnn.{name}": array for name, array in to_torch(encoder).items()}
    with pytest.raises(ValueError, match=r"encoder\.rnn must be of one direction"):
        seq2seq.from_torch(arrays | both, words, cell="gru")
