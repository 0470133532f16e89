"""Encoder-decoders that were trained elsewhere, as models of this package: the same outputs, then beams and inspection.

They have the shape of tutorials: embeddings or one-hot vectors, a recurrent encoder whose final states start the
decoder, and one dense layer that scores the tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from seq2seq import layers
from seq2seq.errors import ArgumentError
from seq2seq.layers import FinalStateDecoder, FinalStateEncoder, Recurrent
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.tokenizer_training import tokenizer_from_tokens

ABSENT_LOGIT = -1e9
"""Logit of an id that the other model did not have."""

KERAS_SHAPE = (
    "It must have two inputs, source and target; SimpleRNN, LSTM or GRU layers of one size with return_state, whose "
    "states are the initial_state of as many layers that read the target; and a Dense layer over the tokens."
)


class Tokens(NamedTuple):
    """Tokens of the other model in the order of its ids, and the special ones among them.

    Attributes:
        source: Source tokens in the order of their ids: characters, or words without spaces.
        target: The same for the target.
        start: Token that the decoder reads first.
        end: Token that ends a target.
        pad: Token that fills up rows; None: no token of its own.
        unknown: Token of unknown words; None: no token of its own.
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


class ImportedWeights(NamedTuple):
    """Arrays of an encoder-decoder whose recurrent layers are already converted."""

    source_embeddings: np.ndarray
    encoder: list[Recurrent]
    target_embeddings: np.ndarray
    decoder: list[Recurrent]
    output_kernel: np.ndarray
    output_bias: np.ndarray


def from_keras(model: keras.Model, tokens: Tokens) -> Seq2Seq:
    """Convert a plain Keras encoder-decoder, such as that of Keras' own example of sequence-to-sequence learning.

    The logits are the same at every step. Ids are renumbered: padding 0, unknown 1, start 2 and end 3, then all other
    tokens in their order. A source of one-hot vectors gets the identity as its embeddings.

    Args:
        model: A functional model with the inputs source and target, ids before an `Embedding` or one-hot vectors;
            layers `SimpleRNN`, `LSTM` or `GRU`, the encoder's with `return_state`, the decoder's with these states as
            `initial_state`; and a `Dense` layer, with or without a softmax. Dropout layers are left out.
        tokens: The tokens of its ids.

    Returns:
        The model, with a tokenizer for these tokens, ready for `translate`, `generate`, saving and `seq2seq inspect`.

    Raises:
        ArgumentError: Another shape of model, or a number of tokens that differs from the number of ids.
    """
    if not isinstance(model, keras.Model) or len(model.inputs) != 2 or len(model.outputs) != 1:
        raise ArgumentError("model", "an encoder-decoder with two inputs and one output", model, KERAS_SHAPE)
    dense, inputs, _ = _producer_of(model.outputs[0])
    if not isinstance(dense, keras.layers.Dense) or dense.get_config()["activation"] not in ("softmax", "linear"):
        raise _unsupported(dense, "is its last layer")
    decoder = _stack(*_producer_of(inputs[0])[:2])
    if not decoder.layers or not decoder.states[-1]:
        raise _unsupported(dense, "does not read a recurrent layer with an initial_state")
    encoder = _stack(*_producer_of(decoder.states[-1][0])[:2])
    if any(encoder.states):
        raise _unsupported(encoder.layers[0], "has an initial_state, where an encoder starts from zeros")
    for place, (layer, states) in enumerate(zip(decoder.layers, decoder.states, strict=True)):
        producers = [(producer, part) for producer, _, part in map(_producer_of, states)]
        if producers != [(one, 1 + part) for one in encoder.layers[place : place + 1] for part in range(len(states))]:
            raise _unsupported(layer, "does not start from the states of the encoder's layer at its place")
    return _assemble(
        ImportedWeights(
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
    """Convert a PyTorch encoder-decoder from the arrays of its modules, without PyTorch: the logits are the same.

    It embeds the source with an `nn.Embedding`, reads it with an `nn.GRU`, `nn.LSTM` or `nn.RNN` of one direction and
    any number of layers, passes all final states to another of the same sizes that reads the embedded target, and
    scores the tokens with an `nn.Linear`. Ids are renumbered as by `from_keras`.

    Args:
        arrays: `module.state_dict()`, or arrays of the same names; those of other modules are not read.
        tokens: The tokens of its ids.
        cell: The cell, which the names do not tell: `rnn`, `lstm` or `gru`.
        source_embedding: Name of the module of the source's embedding in the names of the arrays.
        encoder: Name of the module that reads the source: `encoder.rnn` for `encoder.rnn.weight_ih_l0` and the others.
        target_embedding: Name of the module of the target's embedding.
        decoder: Name of the module that reads the target.
        output: Name of the module that scores the tokens.

    Returns:
        The model, as from `from_keras`.

    Raises:
        ArgumentError: A missing or misshapen array, or a number of tokens that differs from the number of ids.
    """
    stacks = [layers.from_torch(_of_module(arrays, name), cell) for name in (encoder, decoder)]
    for name, stack in zip((encoder, decoder), stacks, strict=True):
        if stack.bidirectional:
            raise ArgumentError(name, "of one direction", "bidirectional")
    matrices = [_of_module(arrays, name) for name in (source_embedding, target_embedding, output)]
    for name, found in zip((source_embedding, target_embedding, output), matrices, strict=True):
        if "weight" not in found:
            advice = f"{name}.weight is missing: name its module."
            raise ArgumentError("arrays", "those of all modules", ", ".join(sorted(arrays)), advice)
    (source, target, linear) = (np.asarray(found["weight"], np.float32) for found in matrices)
    bias = np.asarray(matrices[2].get("bias", np.zeros(len(linear))), np.float32)
    first, second = (stack.forward_layers for stack in stacks)
    return _assemble(ImportedWeights(source, first, target, second, linear.T, bias), tokens)


class _Stack(NamedTuple):
    """Recurrent Keras layers, the lowest first, their initial states, and the embeddings that the lowest reads."""

    layers: list[keras.Layer]
    states: list[list[Any]]
    embeddings: np.ndarray


def _producer_of(tensor: Any) -> tuple[Any, list[Any], int]:
    """Return the operation that made a tensor of a functional model, its inputs, and the place among its outputs."""
    history = tensor._keras_history
    inputs = list(history.operation._inbound_nodes[history.node_index].input_tensors)
    # Dropout does nothing at inference.
    if isinstance(history.operation, keras.layers.Dropout | keras.layers.SpatialDropout1D):
        return _producer_of(inputs[0])
    return history.operation, inputs, history.tensor_index


def _stack(operation: Any, inputs: list[Any]) -> _Stack:
    recurrent: list[keras.Layer] = []
    states: list[list[Any]] = []
    while isinstance(operation, keras.layers.SimpleRNN | keras.layers.LSTM | keras.layers.GRU):
        recurrent.insert(0, operation)
        states.insert(0, inputs[1:])
        read = inputs[0]
        operation, inputs, _ = _producer_of(read)
    if isinstance(operation, keras.layers.Embedding):
        embeddings = keras.ops.convert_to_numpy(operation.embeddings)
        operation = _producer_of(inputs[0])[0]
    elif isinstance(operation, keras.layers.InputLayer):
        embeddings = np.eye(read.shape[-1], dtype=np.float32)
    if not isinstance(operation, keras.layers.InputLayer):
        raise _unsupported(operation, "is neither recurrent nor an Embedding nor an input")
    return _Stack(recurrent, states, embeddings)


def _unsupported(layer: Any, problem: str) -> ArgumentError:
    return ArgumentError(
        "model",
        "a recurrent encoder-decoder",
        f"{type(layer).__name__} {layer.name}",
        f"This layer {problem}. {KERAS_SHAPE}",
    )


def _of_module(arrays: Mapping[str, Any], module: str) -> dict[str, Any]:
    return {name[len(module) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{module}.")}


def _assemble(weights: ImportedWeights, tokens: Tokens) -> Seq2Seq:
    """Create a model with these arrays, its ids in the order of this package."""
    _check(weights, tokens)
    first, all_layers = weights.encoder[0], [*weights.encoder, *weights.decoder]
    special = (tokens.pad, tokens.unknown, tokens.start, tokens.end)
    others = [[token for token in side if token not in special] for side in (tokens.source, tokens.target)]
    orders: list[list[int | None]] = [
        [side.index(token) if token is not None and token in side else None for token in special]
        + [place for place, token in enumerate(side) if token not in special]
        for side in (tokens.source, tokens.target)
    ]
    size = max(weights.source_embeddings.shape[1], weights.target_embeddings.shape[1])
    shape: dict[str, Any] = {"units": first.units, "num_layers": len(weights.encoder), "cell": first.cell_name}
    decoder = FinalStateDecoder(len(orders[1]), size, name="decoder", **shape)
    model = Seq2Seq(
        FinalStateEncoder(ignores_end=not tokens.source_has_end, name="encoder", **shape),
        decoder,
        source_vocabulary_size=len(orders[0]),
        tokenizer=tokenizer_from_tokens(others[0], others[1], tokens.kind),
        name="seq2seq",
    )
    for embedding, matrix, order in zip(
        (model.embedding, decoder.embedding),
        (weights.source_embeddings, weights.target_embeddings),
        orders,
        strict=True,
    ):
        embedding.set_weights([_padded(_rows(matrix, order), (len(order), size))])
    for ours, theirs in zip(model.recurrent_layers.values(), all_layers, strict=True):
        kernel, *others_of_layer = theirs.get_weights()
        ours.set_weights([_padded(kernel, ours.cell.kernel.shape), *others_of_layer])
    output = _rows(weights.output_kernel.T, orders[1])
    decoder.readout.set_weights([_rows(weights.output_bias, orders[1], ABSENT_LOGIT), output])
    return model


def _check(weights: ImportedWeights, tokens: Tokens) -> None:
    sizes = [f"{layer.cell_name} of {layer.units}" for layer in (*weights.encoder, *weights.decoder)]
    if len(set(sizes)) > 1 or len(weights.encoder) != len(weights.decoder):
        raise ArgumentError("encoder and decoder", "as many layers of one cell and size", ", ".join(sizes))
    for name, matrix in (("source", weights.source_embeddings), ("target", weights.target_embeddings)):
        if len(getattr(tokens, name)) != len(matrix):
            requirement = f"{len(matrix)} tokens, one for each id"
            raise ArgumentError(f"tokens.{name}", requirement, len(getattr(tokens, name)))
    for name in ("start", "end"):
        if getattr(tokens, name) not in tokens.target:
            raise ArgumentError(f"tokens.{name}", "one of tokens.target", getattr(tokens, name))
    expected = (weights.encoder[0].units, len(tokens.target))
    if weights.output_kernel.shape != expected:
        raise ArgumentError("output", f"of shape {expected}", weights.output_kernel.shape)


def _rows(matrix: np.ndarray, order: Sequence[int | None], missing: float = 0.0) -> np.ndarray:
    """Take rows in a new order; rows without a place are filled with `missing`."""
    return np.stack([np.full(matrix.shape[1:], missing, np.float32) if at is None else matrix[at] for at in order])


def _padded(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Append zeros: to embeddings as wide as those of the other side, and to the kernel that reads them."""
    return np.pad(matrix, [(0, most - count) for most, count in zip(shape, matrix.shape, strict=True)])
