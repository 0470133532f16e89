"""Keras RNN cells: the weights around an equation.

A cell works in `keras.layers.RNN`, and holds its weights in the layout of the Keras layer of its name,
so weights move between the two unchanged.
"""

from typing import Any

import keras
from keras import ops

from seq2seq.layers import equations


@keras.saving.register_keras_serializable(package="seq2seq")
class GRUCell(keras.Layer):
    """Weights around `equations.gru`, the GRU of cuDNN and of `keras.layers.GRU(reset_after=True)`.

    Args:
        units: Size of the state.
        kernel_initializer, recurrent_initializer, bias_initializer: As in `keras.layers.GRU`.

    Raises:
        ValueError: `units` is not a positive whole number.

    >>> import numpy as np
    >>> cell = GRUCell(4)
    >>> outputs, state = cell(np.ones((2, 3), "float32"), cell.get_initial_state(batch_size=2))
    >>> outputs.shape.as_list(), len(state)
    ([2, 4], 1)
    """

    cudnn_mode = "gru"

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
        self.state_size = units
        self.output_size = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = 3 * self.units
        self.kernel = self.add_weight(
            name="kernel", shape=(input_shape[-1], width), initializer=self.kernel_initializer
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, width), initializer=self.recurrent_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(2, width), initializer=self.bias_initializer)

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [ops.zeros((batch_size, self.state_size), dtype=self.compute_dtype)]

    def project(self, inputs: Any) -> Any:
        """The part of a step that does not depend on the state: `W x + b`.

        Args:
            inputs: `(..., features)`.

        Returns:
            `(..., 3 * units)`, for one step or for all steps at once.
        """
        return ops.matmul(inputs, self.kernel) + self.bias[0]

    def step(self, projected_inputs: Any, states: list[Any]) -> equations.GRUStep:
        """One step with every gate by name; `projected_inputs` comes from `project`."""
        return equations.gru(projected_inputs, states[0], self.recurrent_kernel, self.bias[1])

    def call(self, inputs: Any, states: list[Any], training: bool | None = None) -> tuple[Any, list[Any]]:
        step = self.step(self.project(inputs), states)
        return step.state, [step.state]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


CELLS = {"gru": GRUCell}


def create_cell(cell: str, units: int, **kwargs: Any) -> keras.Layer:
    """The cell of that name, as recipes spell it.

    Raises:
        ValueError: There is no cell of that name.

    >>> create_cell("gru", 8).units
    8
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {', '.join(CELLS)}, but is {cell!r} instead.")
    return CELLS[cell](units, **kwargs)
