"""The encoder: a stack of recurrent layers, in one direction or two."""

from typing import Any

import keras
from keras import ops

from seq2seq.layers.dropout import SharedDropout
from seq2seq.layers.masking import ExplicitMaskLayer
from seq2seq.layers.recurrent import Recurrent


@keras.saving.register_keras_serializable(package="seq2seq")
class Encoder(ExplicitMaskLayer):
    """Turns embedded source tokens into the memory h_1..h_S that a context reads.

    In two directions each layer reads its input forwards and backwards, and joins both (Schuster and Paliwal 1997);
    a step of the memory then knows what stands before it and behind it.

    Args:
        units: Size of the state, of each direction.
        num_layers: Number of layers on top of each other.
        cell: Name of the cell, one of `cells.CELLS`.
        bidirectional: Whether each layer reads both ways; the memory then has `2 * units`.
        residual: Whether each layer above the first adds its input to its output (Wu et al. 2016).
        dropout: Share of a layer's inputs that are dropped in training, the same ones at every step (Gal 2016).
        implementation, update_gate: As in `Recurrent`.

    Call arguments:
        inputs: Embedded tokens, `(batch, source_steps, features)`.
        mask: `(batch, source_steps)`, True keeps; valid steps come first. None: all are valid.

    Returns:
        Memory, `(batch, source_steps, memory_units)`; zeros at padded steps.

    Raises:
        ValueError: `num_layers` is not a positive whole number.

    >>> import numpy as np
    >>> Encoder(units=4, num_layers=2)(np.ones((2, 3, 5), "float32")).shape.as_list()
    [2, 3, 8]
    """

    def __init__(
        self,
        units: int,
        num_layers: int = 1,
        cell: str = "gru",
        bidirectional: bool = True,
        residual: bool = False,
        dropout: float = 0.0,
        implementation: str = "auto",
        update_gate: str = "keep",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_layers, int) or num_layers < 1:
            raise ValueError(f"num_layers must be a positive whole number, but is {num_layers!r} instead.")
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.bidirectional = bidirectional
        self.residual = residual
        self.dropout = dropout
        self.implementation = implementation
        self.update_gate = update_gate
        self.forward_layers = [self._layer(False, index) for index in range(num_layers)]
        self.backward_layers = [self._layer(True, index) for index in range(num_layers) if bidirectional]
        self.dropout_layers = [
            SharedDropout(dropout, dtype=self.dtype_policy, name=f"dropout_{index}") for index in range(num_layers)
        ]

    def _layer(self, reverse: bool, index: int) -> Recurrent:
        return Recurrent(
            self.units,
            self.cell,
            reverse,
            self.implementation,
            self.update_gate,
            dtype=self.dtype_policy,
            name=f"{'backward' if reverse else 'forward'}_{index}",
        )

    @property
    def memory_units(self) -> int:
        """Size of each step of the memory."""
        return self.units * (2 if self.bidirectional else 1)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for index in range(self.num_layers):
            features = input_shape[-1] if index == 0 else self.memory_units
            for directions in (self.forward_layers, self.backward_layers)[: 1 + self.bidirectional]:
                directions[index].build((None, None, features))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        outputs = inputs
        for index in range(self.num_layers):
            layer_inputs = self.dropout_layers[index](outputs, training=training)
            outputs, _ = self.forward_layers[index](layer_inputs, mask=mask, training=training)
            if self.bidirectional:
                backward, _ = self.backward_layers[index](layer_inputs, mask=mask, training=training)
                outputs = ops.concatenate([outputs, backward], axis=-1)
            if self.residual and index > 0:
                outputs += layer_inputs
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.memory_units)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "num_layers": self.num_layers,
            "cell": self.cell,
            "bidirectional": self.bidirectional,
            "residual": self.residual,
            "dropout": self.dropout,
            "implementation": self.implementation,
            "update_gate": self.update_gate,
        }
