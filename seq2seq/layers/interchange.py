"""Conversion of weights from plain Keras layers and PyTorch's arrays, and back, without training.

Outputs agree with those of the other library to rounding. PyTorch is not needed: its `state_dict` maps names to arrays.
"""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from seq2seq.errors import ArgumentError, require_choice
from seq2seq.layers.context import LastContext, PreparedContext
from seq2seq.layers.cudnn_kernel import BLOCK_ORDER
from seq2seq.layers.decoder import Decoder, DecoderState, OutputProjection
from seq2seq.layers.encoder import Encoder
from seq2seq.layers.recurrent import Recurrent

GATES = {"activation": "tanh", "recurrent_activation": "sigmoid"}
KERAS_LAYERS: dict[str, tuple[type[keras.Layer], dict[str, Any]]] = {
    "rnn": (keras.layers.SimpleRNN, {"activation": "tanh"}),
    "lstm": (keras.layers.LSTM, GATES),
    "gru": (keras.layers.GRU, GATES | {"reset_after": True}),
    "gru_reset_before": (keras.layers.GRU, GATES | {"reset_after": False}),
}
"""Keras layer of each cell, and the options with which it computes that cell."""

NOT_REPRESENTED: dict[str, Any] = {
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "stateful": False,
    **{f"{weight}_regularizer": None for weight in ("kernel", "recurrent", "bias", "activity")},
    **{f"{weight}_constraint": None for weight in ("kernel", "recurrent", "bias")},
}
"""Options of Keras' layers that a `Recurrent` does not have, with the value that disables each."""

TORCH_CELLS = ("rnn", "lstm", "gru")
"""Cells that PyTorch has too: `nn.RNN` with tanh, `nn.LSTM` and `nn.GRU`."""


def from_keras(layer: keras.Layer, **recurrent_arguments: Any) -> Recurrent:
    """Convert a plain Keras layer to a `Recurrent` with its weights, for our kernels, gates and traces.

    At valid steps both return the same outputs, and the same final states. At padded steps ours are zero, Keras' only
    with `zero_output_for_mask=True`. `go_backwards` becomes `reverse`: Keras returns the outputs of such a layer last
    step first, `Recurrent` in the order of the inputs. Of a `keras.layers.Bidirectional`, take `forward_layer` and
    `backward_layer`. A layer without biases gets zeros.

    Args:
        layer: A built `keras.layers.SimpleRNN`, `LSTM` or `GRU` with Keras' default activations.
        **recurrent_arguments: Further arguments of `Recurrent`, such as `implementation`.

    Returns:
        The layer, built, under the same name and in the same precision.

    Raises:
        ArgumentError: Another class, a layer that is not built, or an option that no cell here has.

    >>> layer = keras.layers.LSTM(4)
    >>> layer.build((None, None, 3))
    >>> from_keras(layer).cell_name
    'lstm'
    """
    cell = _cell_of(layer)
    _require_built(layer, "layer")
    config = layer.get_config()
    for name, needed in (KERAS_LAYERS[cell][1] | NOT_REPRESENTED).items():
        if name in config and config[name] != needed:
            advice = (
                f"Recurrent has no such option: make the Keras layer {layer.name!r} without it, with the same weights."
            )
            raise ArgumentError(name, repr(needed), config[name], advice)
    recurrent = Recurrent(
        layer.units,
        cell=cell,
        reverse=layer.go_backwards,
        update_gate="keep",
        **{"dtype": layer.dtype_policy, "name": layer.name, "trainable": layer.trainable} | recurrent_arguments,
    )
    weights = layer.get_weights()
    recurrent.build((None, None, weights[0].shape[0]))
    recurrent.set_weights(weights if layer.use_bias else [*weights, np.zeros(recurrent.cell.bias.shape)])
    return recurrent


def to_keras(recurrent: Recurrent, **keras_arguments: Any) -> keras.Layer:
    """Convert a `Recurrent` to the plain Keras layer that computes the same, for a model without this package.

    An update gate that writes is converted to Keras', which keeps. With `reverse`, Keras returns the outputs last step
    first.

    Args:
        recurrent: A built layer of any cell but `gru_simplified`.
        **keras_arguments: Further arguments of the Keras layer. By default it returns what a `Recurrent` does: outputs
            at all steps, zeros at padded ones, and the final states.

    Returns:
        A `keras.layers.SimpleRNN`, `LSTM` or `GRU`, built.

    Raises:
        ArgumentError: Keras has no layer for the cell, or `recurrent` is not built.

    >>> recurrent = Recurrent(4, "gru_reset_before")
    >>> recurrent.build((None, None, 3))
    >>> layer = to_keras(recurrent)
    >>> type(layer).__name__, layer.reset_after
    ('GRU', False)
    """
    if recurrent.cell_name not in KERAS_LAYERS:
        advice = "Keras has no layer for it. Wrap the cell itself: keras.layers.RNN(recurrent.cell)."
        raise ArgumentError("cell", f"one of {', '.join(KERAS_LAYERS)}", recurrent.cell_name, advice)
    _require_built(recurrent, "recurrent")
    keras_class, options = KERAS_LAYERS[recurrent.cell_name]
    defaults = {
        "return_sequences": True,
        "return_state": True,
        "zero_output_for_mask": True,
        "dtype": recurrent.dtype_policy,
        "name": recurrent.name,
        "trainable": recurrent.trainable,
    }
    layer = keras_class(
        recurrent.units, go_backwards=recurrent.reverse, use_bias=True, **options, **defaults | keras_arguments
    )
    layer.build((None, None, recurrent.cell.kernel.shape[0]))
    layer.set_weights(_arrays(recurrent))
    return layer


def from_torch(arrays: Mapping[str, Any], cell: str, **encoder_arguments: Any) -> Encoder:
    """Create an `Encoder` with the weights of PyTorch's `nn.RNN` (tanh), `nn.LSTM` or `nn.GRU`, of any depth.

    PyTorch multiplies from the left, so its matrices are transposed; it packs a GRU as [r | z | n], an LSTM as
    [i | f | g | o], and adds two biases everywhere, which become one where the cell has one. The memory is PyTorch's
    `output` of a packed sequence (`pack_padded_sequence`): without packing, PyTorch reads padding as well.

    Args:
        arrays: `module.state_dict()`, or arrays of the same names: `weight_ih_l0` `(blocks * units, features)`,
            `weight_hh_l0` `(blocks * units, units)`, `bias_ih_l0` and `bias_hh_l0` `(blocks * units,)`, the same with
            `_reverse` for the backward direction, and with `l1`, ... for the layers above.
        cell: The cell, which the names do not tell: `rnn`, `lstm` or `gru`.
        **encoder_arguments: Further arguments of `Encoder`, such as `implementation`, `dropout` or `dtype`.

    Returns:
        The encoder, built.

    Raises:
        ArgumentError: A cell that PyTorch lacks, or missing, superfluous or misshapen arrays.

    >>> shapes = {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    >>> encoder = from_torch({name: np.zeros(shape) for name, shape in shapes.items()}, "gru")
    >>> encoder.units, encoder.num_layers, encoder.bidirectional
    (4, 1, False)
    """
    require_choice("cell", cell, TORCH_CELLS)
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    num_layers = max(1, sum(name.startswith("weight_ih_l") and not name.endswith("_reverse") for name in arrays))
    bidirectional = any(name.endswith("_reverse") for name in arrays)
    has_bias = any(name.startswith("bias_") for name in arrays) or not arrays
    _require_names(arrays, num_layers, bidirectional, has_bias)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if arrays[name].ndim != 2:
            raise ArgumentError(name, "a matrix", arrays[name].shape)
    units = arrays["weight_hh_l0"].shape[1]
    encoder = Encoder(
        units=units,
        num_layers=num_layers,
        cell=cell,
        bidirectional=bidirectional,
        residual=False,
        update_gate="keep",
        **encoder_arguments,
    )
    encoder.build((None, None, arrays["weight_ih_l0"].shape[1]))
    for suffix, layer in _layers_by_suffix(encoder).items():
        rows, width = layer.cell.kernel.shape
        kernel = _of_shape(arrays, f"weight_ih{suffix}", (width, rows)).T
        recurrent_kernel = _of_shape(arrays, f"weight_hh{suffix}", (width, units)).T
        biases = np.zeros((2, width))
        if has_bias:
            biases = np.stack([_of_shape(arrays, f"{name}{suffix}", (width,)) for name in ("bias_ih", "bias_hh")])
        bias = biases if layer.cell.spec.has_recurrent_bias else biases.sum(axis=0)
        layer.set_weights([_reordered(array, cell) for array in (kernel, recurrent_kernel, bias)])
    return encoder


def to_torch(encoder: Encoder) -> dict[str, np.ndarray]:
    """Convert the weights of an encoder to PyTorch's names and layout.

    `load_state_dict` of an `nn.RNN`, `nn.LSTM` or `nn.GRU` of the same sizes takes them, each through
    `torch.from_numpy`. An update gate that writes is converted to PyTorch's, which keeps. Where the cell has one bias
    and PyTorch two, `bias_ih` holds it and `bias_hh` is zero.

    Args:
        encoder: A built encoder without residual connections, of the cell `rnn`, `lstm` or `gru`.

    Returns:
        Arrays by name, with the shapes that `from_torch` takes.

    Raises:
        ArgumentError: A cell or residual connections that PyTorch lacks, or an encoder that is not built.

    >>> encoder = Encoder(4, cell="lstm", bidirectional=False)
    >>> encoder.build((None, None, 3))
    >>> {name: array.shape for name, array in to_torch(encoder).items()}
    {'weight_ih_l0': (16, 3), 'weight_hh_l0': (16, 4), 'bias_ih_l0': (16,), 'bias_hh_l0': (16,)}
    """
    require_choice("cell", encoder.cell, TORCH_CELLS)
    if encoder.residual:
        raise ArgumentError("residual", "False", True, "PyTorch has no residual connections between layers.")
    _require_built(encoder, "encoder")
    arrays: dict[str, np.ndarray] = {}
    for suffix, layer in _layers_by_suffix(encoder).items():
        kernel, recurrent_kernel, bias = (_reordered(array, encoder.cell) for array in _arrays(layer))
        of_inputs, of_state = bias if layer.cell.spec.has_recurrent_bias else (bias, np.zeros_like(bias))
        arrays |= {
            f"weight_ih{suffix}": np.ascontiguousarray(kernel.T),
            f"weight_hh{suffix}": np.ascontiguousarray(recurrent_kernel.T),
            f"bias_ih{suffix}": of_inputs,
            f"bias_hh{suffix}": of_state,
        }
    return arrays


def _cell_of(layer: keras.Layer) -> str:
    for cell, (keras_class, options) in KERAS_LAYERS.items():
        # A subclass may compute anything.
        if type(layer) is keras_class and getattr(layer, "reset_after", None) == options.get("reset_after"):
            return cell
    requirement = "a keras.layers.SimpleRNN, LSTM or GRU"
    raise ArgumentError("layer", requirement, type(layer).__name__, "Take the layer inside of a wrapper or a model.")


def _arrays(recurrent: Recurrent) -> list[np.ndarray]:
    return [ops.convert_to_numpy(weight) for weight in recurrent.cell.kernel_weights()]


def _require_built(layer: keras.Layer, argument: str) -> None:
    if not layer.built:
        raise ArgumentError(argument, "built", layer.name, "Call it once, or its build.")


def _layers_by_suffix(encoder: Encoder) -> dict[str, Recurrent]:
    """Return the layers in PyTorch's order, by the ends of their arrays' names."""
    return {
        f"_l{index}{direction}": layers[index]
        for index in range(encoder.num_layers)
        for direction, layers in (("", encoder.forward_layers), ("_reverse", encoder.backward_layers))
        if layers
    }


def _require_names(arrays: Mapping[str, Any], num_layers: int, bidirectional: bool, has_bias: bool) -> None:
    names = [
        f"{name}_l{index}{direction}"
        for index in range(num_layers)
        for direction in ("", "_reverse")[: 1 + bidirectional]
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 2 + 2 * has_bias]
    ]
    if set(arrays) != set(names):
        advice = "Give all arrays of one nn.RNN, nn.LSTM or nn.GRU, under its own names."
        raise ArgumentError("arrays", f"{', '.join(names)}", ", ".join(sorted(arrays)), advice)


def _of_shape(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if arrays[name].shape != shape:
        advice = "Check that cell names the module that the arrays come from."
        raise ArgumentError(name, f"of shape {shape}", arrays[name].shape, advice)
    return arrays[name]


def _reordered(array: np.ndarray, cell: str) -> np.ndarray:
    """Convert between Keras' order of the blocks and PyTorch's, which is cuDNN's and its own inverse."""
    order = BLOCK_ORDER["rnn_tanh" if cell == "rnn" else cell]
    blocks = np.split(array, len(order), axis=-1)
    return np.concatenate([blocks[place] for place in order], axis=-1)


@keras.saving.register_keras_serializable(package="seq2seq")
class FinalStateEncoder(Encoder):
    """Encoder of one direction whose memory holds, next to each output, the final states of all its layers.

    Args:
        ignores_end: Whether to skip the last valid step of each row, its end token, for a model that was trained
            without end tokens.
        units, num_layers, cell, dropout, implementation, update_gate: As in `Encoder`.

    Call arguments are those of `Encoder`.

    Returns:
        Memory, `(batch, source_steps, memory_units)`: outputs, then the states of the first layer, of the second, ...

    >>> import numpy as np
    >>> FinalStateEncoder(units=4, cell="lstm")(np.ones((2, 3, 5), "float32")).shape.as_list()
    [2, 3, 12]
    """

    def __init__(self, units: int, ignores_end: bool = True, **kwargs: Any) -> None:
        super().__init__(units, **kwargs | {"bidirectional": False})
        self.ignores_end = ignores_end

    @property
    def memory_units(self) -> int:
        """Size of each step of the memory."""
        return self.units * (1 + sum(layer.cell.num_states for layer in self.forward_layers))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for index, layer in enumerate(self.forward_layers):
            layer.build(input_shape if index == 0 else (None, None, self.units))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        keep = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else ops.cast(mask, "bool")
        # A step that no valid step follows is the end.
        read = ops.concatenate([keep[:, 1:], ops.zeros_like(keep[:, :1])], axis=1) if self.ignores_end else keep
        outputs, all_states = inputs, []
        for dropout, layer in zip(self.dropout_layers, self.forward_layers, strict=True):
            outputs, states = layer(dropout(outputs, training=training), mask=read, training=training)
            all_states += states
        steps = ops.shape(inputs)[1]
        repeated = [ops.repeat(ops.expand_dims(state, 1), steps, axis=1) for state in all_states]
        return ops.concatenate([outputs, *repeated], axis=-1) * ops.expand_dims(ops.cast(keep, outputs.dtype), -1)


@keras.saving.register_keras_serializable(package="seq2seq")
class FinalStateDecoder(Decoder):
    """Decoder that starts from the final states of a `FinalStateEncoder` of as many layers.

    Args:
        vocabulary_size, embedding_size, units, num_layers, cell, dropout, implementation, update_gate: As in `Decoder`.

    Call arguments are those of `Decoder`.

    Returns:
        Logits, `(batch, target_steps, vocabulary_size)`: E s + c, without a hidden layer.

    >>> import numpy as np
    >>> decoder = FinalStateDecoder(vocabulary_size=9, embedding_size=4, units=8)
    >>> decoder(np.ones((2, 5), "int32"), memory=np.ones((2, 3, 16), "float32")).shape.as_list()
    [2, 5, 9]
    """

    def __init__(self, vocabulary_size: int, embedding_size: int, units: int, **kwargs: Any) -> None:
        fixed = {
            "context": LastContext(name="context", dtype=kwargs.get("dtype")),
            "context_inputs": ("state",),
            "readout_size": units,
            "tie_output": False,
            "copy": "none",
        }
        super().__init__(vocabulary_size, embedding_size, units, **kwargs | fixed)

    def _create_bridges(self) -> list[keras.Layer]:
        return []

    def _create_readout(self) -> OutputProjection:
        return DirectReadout(self.vocabulary_size, self.units, name="readout", dtype=self.dtype_policy)

    def start(self, prepared: PreparedContext) -> DecoderState:
        """Return the encoder's final states."""
        parts = iter(ops.split(prepared.summary, prepared.summary.shape[-1] // self.units, axis=-1)[1:])
        return DecoderState(
            tuple([next(parts) for _ in range(layer.cell.num_states)] for layer in self.recurrent_layers)
        )


@keras.saving.register_keras_serializable(package="seq2seq")
class DirectReadout(OutputProjection):
    """logits = E s + c, without the hidden layer of `OutputProjection`."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.output_bias = self.add_weight(name="output_bias", shape=(self.vocabulary_size,), initializer="zeros")
        self.output_embeddings = self.add_weight(name="output_embeddings", shape=(self.vocabulary_size, self.units))

    def features(self, inputs: Any) -> Any:
        """Return the decoder's outputs unchanged."""
        return inputs
