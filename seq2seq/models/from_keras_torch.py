"""Encoder-decoders that were trained elsewhere, as models of this package: the same outputs, then beams and inspection.

They are of the shape that tutorials teach: embeddings or one-hot vectors, a recurrent encoder whose final states start
the decoder, and one dense layer that scores the tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from seq2seq import layers
from seq2seq.layers import FinalStateDecoder, FinalStateEncoder, Recurrent
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.tokenizer_training import tokenizer_from_tokens

NO_TOKEN = -1e9
"""Logit of an id that the other model did not have."""

KERAS_SHAPE = (
    "It must have two inputs, source and target; SimpleRNN, LSTM or GRU layers of one size with return_state, whose "
    "states are the initial_state of as many layers that read the target; and a Dense layer over the tokens."
)


class Tokens(NamedTuple):
    """How the other model numbered the tokens of its two sides, and which of them are special.

    Attributes:
        source: The source's tokens in the order of their ids: characters, or words without spaces.
        target: The same for the target.
        start: The token that the decoder reads first.
        end: The token that ends a target.
        pad: What rows are filled up with; None: no token of its own.
        unknown: What stands for a word that is not known; None: no token of its own.
        source_has_end: Whether sources end with `end` too.
        kind: `char` or `word`.
    """

    source: Sequence[str]
    target: Sequence[str]
    start: str
    end: str
    pad: str | None = None
    unknown: str | None = None
    source_has_end: bool = False
    kind: str = "char"


class _Parts(NamedTuple):
    """The arrays of an encoder-decoder, its layers already of this package."""

    source_embeddings: np.ndarray
    encoder: list[Recurrent]
    target_embeddings: np.ndarray
    decoder: list[Recurrent]
    output_kernel: np.ndarray
    output_bias: np.ndarray


def from_keras(model: keras.Model, tokens: Tokens) -> Seq2Seq:
    """A plain Keras encoder-decoder of the kind that Keras' own example of sequence-to-sequence learning builds.

    The logits are the same at every step. Ids are numbered anew: padding 0, unknown 1, start 2 and end 3, then all
    other tokens in their order. A source read as one-hot vectors gets the identity as its embeddings.

    Args:
        model: A functional model with the inputs source and target, ids before an `Embedding` or one-hot vectors;
            layers `SimpleRNN`, `LSTM` or `GRU`, the encoder's with `return_state`, the decoder's with these states as
            `initial_state`; and a `Dense` layer, with or without a softmax. Dropout layers are left out.
        tokens: What its ids mean.

    Returns:
        The model, with a tokenizer for these tokens, ready for `translate`, `generate`, saving and `seq2seq inspect`.

    Raises:
        ValueError: The model has another shape, or not as many tokens as there are ids.
    """
    if not isinstance(model, keras.Model) or len(model.inputs) != 2 or len(model.outputs) != 1:
        raise ValueError(f"model must be another than this: it has not two inputs and one output. {KERAS_SHAPE}")
    dense, inputs, _ = _made_by(model.outputs[0])
    if not isinstance(dense, keras.layers.Dense) or dense.get_config()["activation"] not in ("softmax", "linear"):
        raise _wrong(dense, "stands at the end")
    decoder = _stack(*_made_by(inputs[0])[:2])
    if not decoder.layers or not decoder.states[-1]:
        raise _wrong(dense, "does not read a recurrent layer with an initial_state")
    encoder = _stack(*_made_by(decoder.states[-1][0])[:2])
    if any(encoder.states):
        raise _wrong(encoder.layers[0], "has an initial_state, where an encoder starts from zeros")
    for place, (layer, states) in enumerate(zip(decoder.layers, decoder.states, strict=True)):
        made = [(maker, part) for maker, _, part in map(_made_by, states)]
        if made != [(one, 1 + part) for one in encoder.layers[place : place + 1] for part in range(len(states))]:
            raise _wrong(layer, "does not start from the states of the encoder's layer at its place")
    return _assembled(
        _Parts(
            encoder.embeddings,
            [layers.from_keras(layer) for layer in encoder.layers],
            decoder.embeddings,
            [layers.from_keras(layer) for layer in decoder.layers],
            keras.ops.convert_to_numpy(dense.kernel),
            keras.ops.convert_to_numpy(dense.bias) if dense.use_bias else np.zeros(dense.units, np.float32),
        ),
        tokens,
    )


def from_torch(
    arrays: Mapping[str, Any],
    tokens: Tokens,
    *,
    cell: str,
    source_embedding: str = "encoder.embedding",
    encoder: str = "encoder.rnn",
    target_embedding: str = "decoder.embedding",
    decoder: str = "decoder.rnn",
    output: str = "decoder.output",
) -> Seq2Seq:
    """A PyTorch encoder-decoder, from the arrays of its modules: the same logits, with PyTorch not installed.

    It embeds the source with an `nn.Embedding`, reads it with an `nn.GRU`, `nn.LSTM` or `nn.RNN` of one direction and
    any number of layers, hands all final states to another of the same sizes that reads the embedded target, and scores
    the tokens with an `nn.Linear`. Ids are numbered anew as by `from_keras`.

    Args:
        arrays: `module.state_dict()`, or arrays of the same names; those of other modules are not read.
        tokens: What its ids mean.
        cell: What the names do not say: `rnn`, `lstm` or `gru`.
        source_embedding, encoder, target_embedding, decoder, output: What the modules are called in the names of the
            arrays: `encoder.rnn` for `encoder.rnn.weight_ih_l0` and the others beside it.

    Returns:
        The model, as from `from_keras`.

    Raises:
        ValueError: An array is missing or has another shape, or there are not as many tokens as ids.
    """
    stacks = [layers.from_torch(_of_module(arrays, name), cell) for name in (encoder, decoder)]
    for name, stack in zip((encoder, decoder), stacks, strict=True):
        if stack.bidirectional:
            raise ValueError(f"{name} must be of one direction, but is of two instead.")
    matrices = [_of_module(arrays, name) for name in (source_embedding, target_embedding, output)]
    for name, found in zip((source_embedding, target_embedding, output), matrices, strict=True):
        if "weight" not in found:
            known = ", ".join(sorted(arrays)) or "none"
            raise ValueError(
                f"arrays must hold {name}.weight, but hold {known} instead. Say what the module is called."
            )
    (source, target, linear) = (np.asarray(found["weight"], np.float32) for found in matrices)
    bias = np.asarray(matrices[2].get("bias", np.zeros(len(linear))), np.float32)
    first, second = (stack.forward_layers for stack in stacks)
    return _assembled(_Parts(source, first, target, second, linear.T, bias), tokens)


class _Stack(NamedTuple):
    """Recurrent Keras layers, the lowest first, what each starts from, and what the lowest reads."""

    layers: list[keras.Layer]
    states: list[list[Any]]
    embeddings: np.ndarray


def _made_by(tensor: Any) -> tuple[Any, list[Any], int]:
    """What made a tensor of a functional model, of which tensors, and as which of its outputs."""
    history = tensor._keras_history
    inputs = list(history.operation._inbound_nodes[history.node_index].input_tensors)
    # At inference they do nothing.
    if isinstance(history.operation, keras.layers.Dropout | keras.layers.SpatialDropout1D):
        return _made_by(inputs[0])
    return history.operation, inputs, history.tensor_index


def _stack(operation: Any, inputs: list[Any]) -> _Stack:
    recurrent: list[keras.Layer] = []
    states: list[list[Any]] = []
    while isinstance(operation, keras.layers.SimpleRNN | keras.layers.LSTM | keras.layers.GRU):
        recurrent.insert(0, operation)
        states.insert(0, inputs[1:])
        read = inputs[0]
        operation, inputs, _ = _made_by(read)
    if isinstance(operation, keras.layers.Embedding):
        embeddings = keras.ops.convert_to_numpy(operation.embeddings)
        operation = _made_by(inputs[0])[0]
    elif isinstance(operation, keras.layers.InputLayer):
        embeddings = np.eye(read.shape[-1], dtype=np.float32)
    if not isinstance(operation, keras.layers.InputLayer):
        raise _wrong(operation, "stands where recurrent layers, an Embedding or an input are wanted")
    return _Stack(recurrent, states, embeddings)


def _wrong(layer: Any, what: str) -> ValueError:
    return ValueError(
        f"model must be another than this: {layer.name!r}, a {type(layer).__name__}, {what}. {KERAS_SHAPE}"
    )


def _of_module(arrays: Mapping[str, Any], module: str) -> dict[str, Any]:
    return {name[len(module) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{module}.")}


def _assembled(parts: _Parts, tokens: Tokens) -> Seq2Seq:
    """A model with these arrays, its ids in the order of this package."""
    first, all_layers = parts.encoder[0], [*parts.encoder, *parts.decoder]
    kinds = {(layer.cell_name, layer.units) for layer in all_layers}
    if len(kinds) > 1 or len(parts.encoder) != len(parts.decoder):
        shown = ", ".join(f"{layer.cell_name} of {layer.units}" for layer in all_layers)
        raise ValueError(
            f"encoder and decoder must have as many layers of one cell and size, but have {shown} instead."
        )
    special = (tokens.pad, tokens.unknown, tokens.start, tokens.end)
    orders: list[list[int | None]] = []
    others: list[list[str]] = []
    for name, side, matrix in (
        ("source", tokens.source, parts.source_embeddings),
        ("target", tokens.target, parts.target_embeddings),
    ):
        if len(side) != len(matrix):
            raise ValueError(f"tokens.{name} must be {len(matrix)}, one for each id, but are {len(side)} instead.")
        others.append([token for token in side if token not in special])
        order = [side.index(token) if token is not None and token in side else None for token in special]
        orders.append(order + [place for place, token in enumerate(side) if token not in special])
    for name in ("start", "end"):
        if getattr(tokens, name) not in tokens.target:
            raise ValueError(f"tokens.{name} must be one of tokens.target, but is {getattr(tokens, name)!r} instead.")
    if parts.output_kernel.shape != (first.units, len(tokens.target)):
        raise ValueError(
            f"The output layer must have the shape {(first.units, len(tokens.target))}, but has "
            f"{parts.output_kernel.shape} instead."
        )
    size = max(parts.source_embeddings.shape[1], parts.target_embeddings.shape[1])
    shape: dict[str, Any] = {"units": first.units, "num_layers": len(parts.encoder), "cell": first.cell_name}
    decoder = FinalStateDecoder(len(orders[1]), size, name="decoder", **shape)
    model = Seq2Seq(
        FinalStateEncoder(ignores_end=not tokens.source_has_end, name="encoder", **shape),
        decoder,
        source_vocabulary_size=len(orders[0]),
        tokenizer=tokenizer_from_tokens(others[0], others[1], tokens.kind),
        name="seq2seq",
    )
    for embedding, matrix, order in zip(
        (model.embedding, decoder.embedding), (parts.source_embeddings, parts.target_embeddings), orders, strict=True
    ):
        embedding.set_weights([_padded(_rows(matrix, order), (len(order), size))])
    for ours, theirs in zip(model.recurrent_layers.values(), all_layers, strict=True):
        weights = theirs.get_weights()
        ours.set_weights([_padded(weights[0], ours.cell.kernel.shape), *weights[1:]])
    output = _rows(parts.output_kernel.T, orders[1])
    decoder.readout.set_weights([_rows(parts.output_bias, orders[1], NO_TOKEN), output])
    return model


def _rows(matrix: np.ndarray, order: Sequence[int | None], missing: float = 0.0) -> np.ndarray:
    """The rows in a new order, and numbers for those that are new."""
    return np.stack([np.full(matrix.shape[1:], missing, np.float32) if at is None else matrix[at] for at in order])


def _padded(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros at the ends: embeddings as wide as those of the other side, and rows of a kernel that read them."""
    return np.pad(matrix, [(0, most - count) for most, count in zip(shape, matrix.shape, strict=True)])
