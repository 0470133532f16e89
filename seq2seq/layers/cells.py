"""Recurrent cells: the weights around an equation, in the layout of the Keras layer of the same name."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, require_choice, require_integer
from seq2seq.layers import cpu_kernel, equations


class StepRecord(NamedTuple):
    """One step: inputs `(batch, features)`, the states before it, and the named tuple of the equation."""

    inputs: Any
    states: list[Any]
    step: Any


class CellSpec(NamedTuple):
    """The differences between one kind of cell and another.

    `blocks` names the gates of the blocks of weight columns, in Keras' order. A cell without a `kernel` only runs step
    by step, and cuDNN has no kernel for a cell without a `cudnn_mode`.
    """

    equation: Callable[..., Any]
    blocks: tuple[str, ...]
    num_states: int = 1
    has_recurrent_bias: bool = False
    kernel: cpu_kernel.KernelCell | None = None
    cudnn_mode: str = ""
    bias_initializer: type[keras.initializers.Initializer] = keras.initializers.Zeros

    @property
    def has_update_gate(self) -> bool:
        """Return whether the cell has an update gate, which can be read in two ways."""
        return "update" in self.blocks


class RecurrentCell(keras.Layer):
    """Base of all cells: weights in blocks of columns, one block a gate.

    `on_step` is an optional hook: it is called with a `StepRecord` after each step and returns the step to go on with.
    """

    spec: ClassVar[CellSpec]

    def __init__(
        self,
        units: int,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = None,
        update_gate: str = "keep",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_integer("units", units)
        require_choice("update_gate", update_gate, equations.UPDATE_GATES)
        if update_gate != "keep" and not self.spec.has_update_gate:
            raise ArgumentError("update_gate", "'keep' for a cell without an update gate", update_gate)
        self.units = units
        self.update_gate = update_gate
        self.num_states = self.spec.num_states
        self.state_size = units if self.num_states == 1 else [units] * self.num_states
        self.output_size = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer or self.spec.bias_initializer())
        self.on_step: Callable[[StepRecord], Any] | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = len(self.spec.blocks) * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer=self.recurrent_initializer
        )
        shape = (2, width) if self.spec.has_recurrent_bias else (width,)
        self.bias = self.add_weight(name="bias", shape=shape, initializer=self.bias_initializer)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Return zeros, `(batch_size, units)` for each state."""
        return [ops.zeros((batch_size, self.units), dtype=self.compute_dtype) for _ in range(self.num_states)]

    def project(self, inputs: Any) -> Any:
        """Compute `W x + b` of inputs `(..., features)`, for one step or for all steps at once."""
        return ops.matmul(inputs, self.kernel) + (self.bias[0] if self.spec.has_recurrent_bias else self.bias)

    def step(self, projected_inputs: Any, states: list[Any]) -> Any:
        """Apply the equation to the result of `project` for one step, and return its named tuple."""
        weights = [self.recurrent_kernel, self.bias[1]] if self.spec.has_recurrent_bias else [self.recurrent_kernel]
        options = {"update_gate": self.update_gate} if self.spec.has_update_gate else {}
        return self.spec.equation(projected_inputs, *states, *weights, **options)

    def call(self, inputs: Any, states: list[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        states = list(states)
        if self.on_step is not None:
            # Tensors of their own tell a gradient along the recurrence from the rest.
            states = [tf.identity(state) for state in states]
        step = self.step(self.project(inputs), states)
        if self.on_step is not None:
            step = self.on_step(StepRecord(inputs, states, step))
        new_states = list(step[: self.num_states])
        return new_states[0], new_states

    def kernel_weights(self) -> tuple[Any, Any, Any]:
        """Return kernel, recurrent kernel and bias for an update gate that keeps, which is what the kernels compute."""
        weights = (self.kernel, self.recurrent_kernel, self.bias)
        if self.update_gate == "keep":
            return weights
        kernel, recurrent_kernel, bias = map(self.with_gate_turned, weights)
        return kernel, recurrent_kernel, bias

    def with_gate_turned(self, weight: Any) -> Any:
        """Convert a weight to the other reading of the update gate, which changes the sign of the gate's block."""
        signs = [-1.0 if block == "update" else 1.0 for block in self.spec.blocks for _ in range(self.units)]
        return weight * ops.convert_to_tensor(signs, weight.dtype)

    def get_config(self) -> dict[str, Any]:
        initializers = {
            name: keras.initializers.serialize(getattr(self, name))
            for name in ("kernel_initializer", "recurrent_initializer", "bias_initializer")
        }
        return super().get_config() | {"units": self.units, "update_gate": self.update_gate} | initializers


@keras.saving.register_keras_serializable(package="seq2seq")
class OpenForgetGate(keras.initializers.Initializer):
    """Initial biases of an LSTM: ones for the forget gate, so that it keeps most of its state, and zeros elsewhere.

    Gers et al. 2000; Jozefowicz et al. 2015. Keras calls it `unit_forget_bias`.
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        is_forget_gate = ops.arange(shape[0]) // (shape[0] // 4) == 1
        return ops.cast(is_forget_gate, dtype or "float32")


@keras.saving.register_keras_serializable(package="seq2seq")
class RNNCell(RecurrentCell):
    """Cell of a plain recurrent network (Elman 1990), in the layout of `keras.layers.SimpleRNN`.

    h' = tanh(W x + b + U h)

    Args:
        units: Size of the state.
        kernel_initializer, recurrent_initializer: As in Keras.
        bias_initializer: None: zeros.
        update_gate: Only `keep`, for a cell without an update gate.

    Call arguments:
        inputs: `(batch, features)`.
        states: List of the previous states, `(batch, units)` each.

    Returns:
        Output `(batch, units)` and the list of the new states.

    Raises:
        ArgumentError: A bad `units` or `update_gate`.

    >>> import numpy as np
    >>> cell = RNNCell(4)
    >>> outputs, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(states)
    ([2, 4], 1)
    """

    spec = CellSpec(
        equations.rnn,
        ("state",),
        kernel=cpu_kernel.KernelCell(equations.rnn_gates, cpu_kernel.rnn_gradients),
        cudnn_mode="rnn_tanh",
    )


@keras.saving.register_keras_serializable(package="seq2seq")
class LSTMCell(RecurrentCell):
    """Cell of a long short-term memory (Hochreiter and Schmidhuber 1997), in the layout of `keras.layers.LSTM`.

        i, f, o = sigma(W x + b + U h), each with its own W, U, b
        g  = tanh(W_g x + b_g + U_g h);   c' = f * c + i * g;   h' = o * tanh(c')

    Args:
        units, kernel_initializer, recurrent_initializer, update_gate: As in `RNNCell`.
        bias_initializer: None: `OpenForgetGate`, ones for the forget gate and zeros elsewhere.

    Call arguments, results and errors are those of `RNNCell`, with the two states h and c.

    >>> import numpy as np
    >>> cell = LSTMCell(4)
    >>> outputs, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(states)
    ([2, 4], 2)
    """

    spec = CellSpec(
        equations.lstm,
        ("input_gate", "forget_gate", "candidate", "output_gate"),
        num_states=2,
        kernel=cpu_kernel.KernelCell(equations.lstm_gates, cpu_kernel.lstm_gradients),
        cudnn_mode="lstm",
        bias_initializer=OpenForgetGate,
    )


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUCell(RecurrentCell):
    """Cell of a gated recurrent unit as in cuDNN and `keras.layers.GRU(reset_after=True)` (Cho et al. 2014, version 1).

        z, r = sigma(W x + b + U h + c), each with its own W, U, b, c
        n  = tanh(W_n x + b_n + r * (U_n h + c_n));   h' = z * h + (1 - z) * n

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer: As in `RNNCell`.
        update_gate: `keep` (an open gate keeps the past: Keras, cuDNN, PyTorch) or `write` (an open gate writes the
            candidate: h' = (1 - z) * h + z * n).

    Call arguments, results and errors are those of `RNNCell`.

    >>> import numpy as np
    >>> cell = GRUCell(4, update_gate="write")
    >>> outputs, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(states)
    ([2, 4], 1)
    """

    spec = CellSpec(
        equations.gru,
        ("update", "reset", "candidate"),
        has_recurrent_bias=True,
        kernel=cpu_kernel.KernelCell(equations.gru_gates, cpu_kernel.gru_gradients),
        cudnn_mode="gru",
    )


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUResetBeforeCell(RecurrentCell):
    """Cell of a gated recurrent unit as in `keras.layers.GRU(reset_after=False)` (Cho et al. 2014, version 3).

        z, r = sigma(W x + b + U h), each with its own W, U, b
        n  = tanh(W_n x + b_n + U_n (r * h));   h' = z * h + (1 - z) * n

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer, update_gate: As in `GRUCell`.

    Call arguments, results and errors are those of `RNNCell`.

    >>> import numpy as np
    >>> cell = GRUResetBeforeCell(4)
    >>> outputs, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(states)
    ([2, 4], 1)
    """

    spec = CellSpec(equations.gru_reset_before, ("update", "reset", "candidate"))


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUSimplifiedCell(RecurrentCell):
    """Cell of a gated recurrent unit without a reset gate, blocks [update | candidate].

        z  = sigma(W_z x + b_z + U_z h)
        n  = tanh(W_n x + b_n + U_n h);   h' = z * h + (1 - z) * n

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer, update_gate: As in `GRUCell`.

    Call arguments, results and errors are those of `RNNCell`.

    >>> import numpy as np
    >>> cell = GRUSimplifiedCell(4)
    >>> outputs, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(states)
    ([2, 4], 1)
    """

    spec = CellSpec(
        equations.gru_simplified,
        ("update", "candidate"),
        kernel=cpu_kernel.KernelCell(equations.gru_simplified_gates, cpu_kernel.gru_simplified_gradients),
    )


CELLS: dict[str, type[RecurrentCell]] = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru_reset_before": GRUResetBeforeCell,
    "gru_simplified": GRUSimplifiedCell,
}
"""Every cell by the name that recipes give it."""
