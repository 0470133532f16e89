"""Keras RNN cells: the weights around an equation.

A cell works in `keras.layers.RNN`, and holds its weights in the layout of the Keras layer of its name,
so weights move between the two unchanged.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.layers import equations


class StepRecord(NamedTuple):
    """One step as it ran: inputs `(batch, features)`, the states it started from, and what the equation returned."""

    inputs: Any
    states: list[Any]
    step: Any


class Cell(keras.Layer):
    """What every cell shares: weights in blocks, one a gate, side by side.

    `on_step`, where somebody sets it, is given a `StepRecord` of every step that the cell takes, and returns the step
    to go on with.

    Args:
        units: Size of the state.
        kernel_initializer, recurrent_initializer, bias_initializer: As in the Keras layer of the cell's name.

    Raises:
        ValueError: `units` is not a positive whole number.
    """

    blocks: ClassVar[tuple[str, ...]]
    """What each block of columns of the weight matrices makes, in Keras' order."""
    has_recurrent_bias = False
    """Whether the recurrent product has a bias of its own, as cuDNN gives it to the GRU."""
    num_states = 1
    """How many states a step hands to the next; they are the first fields of what `step` returns."""
    kernel_name = ""
    """The cell's name in `kernels.CELLS`; empty: the cell runs step by step only."""
    cudnn_mode = ""
    """cuDNN's name of the cell; empty: cuDNN has no kernel for it."""

    def __init__(
        self,
        units: int,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(units, int) or units < 1:
            raise ValueError(f"units must be a positive whole number, but is {units!r} instead.")
        self.units = units
        self.state_size = units if self.num_states == 1 else [units] * self.num_states
        self.output_size = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.on_step: Callable[[StepRecord], Any] | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = len(self.blocks) * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer=self.recurrent_initializer
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(2, width) if self.has_recurrent_bias else (width,),
            initializer=self.bias_initializer,
        )

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [ops.zeros((batch_size, self.units), dtype=self.compute_dtype) for _ in range(self.num_states)]

    def project(self, inputs: Any) -> Any:
        """The part of a step that does not depend on the state: `W x + b`.

        Args:
            inputs: `(..., features)`.

        Returns:
            `(..., blocks * units)`, for one step or for all steps at once.
        """
        return ops.matmul(inputs, self.kernel) + (self.bias[0] if self.has_recurrent_bias else self.bias)

    def step(self, projected_inputs: Any, states: list[Any]) -> Any:
        """One step with every gate by name.

        Args:
            projected_inputs: From `project`, `(batch, blocks * units)`.
            states: `(batch, units)` each.

        Returns:
            The named tuple of the cell's equation; its first fields are the new states.
        """
        raise NotImplementedError

    def kernel_weights(self) -> tuple[Any, Any, Any]:
        """Kernel, recurrent kernel and bias as the kernels take them."""
        return self.kernel, self.recurrent_kernel, self.bias

    def call(self, inputs: Any, states: list[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        states = list(states)
        if self.on_step is not None:
            # Tensors of their own, so that what reaches a state along the recurrence can be told from the rest.
            states = [tf.identity(state) for state in states]
        step = self.step(self.project(inputs), states)
        if self.on_step is not None:
            step = self.on_step(StepRecord(inputs, states, step))
        new_states = list(step[: self.num_states])
        return new_states[0], new_states

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


class UpdateGateCell(Cell):
    """What the gated recurrent units share: an update gate, in one of its two readings.

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer: As in `Cell`.
        update_gate: `keep` (an open gate keeps the past: Keras, cuDNN, PyTorch) or `write` (it writes the candidate).

    Raises:
        ValueError: Another `update_gate`.
    """

    def __init__(self, units: int, *args: Any, update_gate: str = "keep", **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        if update_gate not in equations.UPDATE_GATES:
            raise ValueError(
                f"update_gate must be one of {', '.join(equations.UPDATE_GATES)}, but is {update_gate!r} instead."
            )
        self.update_gate = update_gate

    def kernel_weights(self) -> tuple[Any, Any, Any]:
        if self.update_gate == "keep":
            return super().kernel_weights()
        kernel, recurrent_kernel, bias = (self.with_gate_turned(weight) for weight in super().kernel_weights())
        return kernel, recurrent_kernel, bias

    def with_gate_turned(self, weight: Any) -> Any:
        """A weight of this cell for the other reading of the update gate: the gate's block changes its sign."""
        signs = [-1.0 if block == "update" else 1.0 for block in self.blocks for _ in range(self.units)]
        return weight * ops.convert_to_tensor(signs, weight.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"update_gate": self.update_gate}


@keras.saving.register_keras_serializable(package="seq2seq")
class RNNCell(Cell):
    """Weights around `equations.rnn`, in the layout of `keras.layers.SimpleRNN`.

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer: As in `keras.layers.SimpleRNN`.

    Raises:
        ValueError: `units` is not a positive whole number.

    >>> import numpy as np
    >>> cell = RNNCell(4)
    >>> outputs, state = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(state)
    ([2, 4], 1)
    """

    blocks = ("state",)
    kernel_name = "rnn"
    cudnn_mode = "rnn_tanh"

    def step(self, projected_inputs: Any, states: list[Any]) -> equations.RNNStep:
        return equations.rnn(projected_inputs, states[0], self.recurrent_kernel)


@keras.saving.register_keras_serializable(package="seq2seq")
class OpenForgetGate(keras.initializers.Initializer):
    """Biases of a new LSTM: ones for the forget gate, so that it keeps most of its state, and zeros elsewhere.

    Gers et al. 2000; Jozefowicz et al. 2015. Keras calls it `unit_forget_bias`.

    >>> OpenForgetGate()((8,)).numpy().tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        is_forget_gate = ops.arange(shape[0]) // (shape[0] // 4) == 1
        return ops.cast(is_forget_gate, dtype or "float32")


@keras.saving.register_keras_serializable(package="seq2seq")
class LSTMCell(Cell):
    """Weights around `equations.lstm`, in the layout of `keras.layers.LSTM`.

    Args:
        units, kernel_initializer, recurrent_initializer: As in `keras.layers.LSTM`.
        bias_initializer: None: `OpenForgetGate`.

    Raises:
        ValueError: `units` is not a positive whole number.

    >>> import numpy as np
    >>> cell = LSTMCell(4)
    >>> outputs, states = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(states)
    ([2, 4], 2)
    """

    blocks = ("input_gate", "forget_gate", "candidate", "output_gate")
    num_states = 2
    kernel_name = "lstm"
    cudnn_mode = "lstm"

    def __init__(
        self,
        units: int,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        bias_initializer = bias_initializer or OpenForgetGate()
        super().__init__(units, kernel_initializer, recurrent_initializer, bias_initializer, **kwargs)

    def step(self, projected_inputs: Any, states: list[Any]) -> equations.LSTMStep:
        return equations.lstm(projected_inputs, states[0], states[1], self.recurrent_kernel)


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUCell(UpdateGateCell):
    """Weights around `equations.gru`, the GRU of cuDNN and of `keras.layers.GRU(reset_after=True)`.

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer: As in `keras.layers.GRU`.
        update_gate: `keep` or `write`.

    Raises:
        ValueError: `units` is not a positive whole number, or an unknown `update_gate`.

    >>> import numpy as np
    >>> cell = GRUCell(4)
    >>> outputs, state = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(state)
    ([2, 4], 1)
    """

    blocks = ("update", "reset", "candidate")
    has_recurrent_bias = True
    kernel_name = "gru"
    cudnn_mode = "gru"

    def step(self, projected_inputs: Any, states: list[Any]) -> equations.GRUStep:
        return equations.gru(projected_inputs, states[0], self.recurrent_kernel, self.bias[1], self.update_gate)


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUResetBeforeCell(UpdateGateCell):
    """Weights around `equations.gru_reset_before`, in the layout of `keras.layers.GRU(reset_after=False)`.

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer: As in `keras.layers.GRU`.
        update_gate: `keep` or `write`.

    Raises:
        ValueError: `units` is not a positive whole number, or an unknown `update_gate`.

    >>> import numpy as np
    >>> cell = GRUResetBeforeCell(4)
    >>> outputs, state = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(state)
    ([2, 4], 1)
    """

    blocks = ("update", "reset", "candidate")

    def step(self, projected_inputs: Any, states: list[Any]) -> equations.GRUStep:
        return equations.gru_reset_before(projected_inputs, states[0], self.recurrent_kernel, self.update_gate)


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUSimplifiedCell(UpdateGateCell):
    """Weights around `equations.gru_simplified`, blocks [update | candidate].

    Args:
        units, kernel_initializer, recurrent_initializer, bias_initializer: As in `keras.layers.GRU`.
        update_gate: `keep` or `write`.

    Raises:
        ValueError: `units` is not a positive whole number, or an unknown `update_gate`.

    >>> import numpy as np
    >>> cell = GRUSimplifiedCell(4)
    >>> outputs, state = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(state)
    ([2, 4], 1)
    """

    blocks = ("update", "candidate")
    kernel_name = "gru_simplified"

    def step(self, projected_inputs: Any, states: list[Any]) -> equations.GRUSimplifiedStep:
        return equations.gru_simplified(projected_inputs, states[0], self.recurrent_kernel, self.update_gate)


CELLS: dict[str, type[Cell]] = {
    "rnn": RNNCell,
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru_reset_before": GRUResetBeforeCell,
    "gru_simplified": GRUSimplifiedCell,
}


def create_cell(cell: str, units: int, update_gate: str = "keep", **kwargs: Any) -> Cell:
    """The cell of that name, as recipes spell it.

    Args:
        cell: One of `CELLS`.
        units: Size of the state.
        update_gate: `keep` or `write`, for the cells that have one.
        **kwargs: What the cell's class takes.

    Raises:
        ValueError: There is no cell of that name, or `update_gate="write"` for a cell without an update gate.

    >>> create_cell("gru", 8).units
    8
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, but is {cell!r} instead.")
    if issubclass(CELLS[cell], UpdateGateCell):
        return CELLS[cell](units, update_gate=update_gate, **kwargs)
    if update_gate != "keep":
        raise ValueError(f"update_gate must be 'keep' where cell is {cell!r}, but is {update_gate!r} instead.")
    return CELLS[cell](units, **kwargs)
