"""The first encoder-decoder there was, as Keras' and PyTorch's tutorials write it: the decoder starts from the state in
which the encoder ends, and scores tokens straight from its outputs (Sutskever et al. 2014, arXiv 1409.3215).

The layers of this package read C through a bridge and a readout, which learn better; these two are here for models that
were trained elsewhere.
"""

from typing import Any

import keras
from keras import ops

from seq2seq.layers.context import LastContext, PreparedContext
from seq2seq.layers.decoder import Decoder, DecoderState
from seq2seq.layers.encoder import Encoder
from seq2seq.layers.readout import Readout

PLAIN = {"bidirectional": False, "residual": False, "front_end": "none", "stride": 1, "kernel_size": None, "pyramid": 1}
"""What else an `Encoder` can do, and this one does not."""


@keras.saving.register_keras_serializable(package="seq2seq")
class FinalStateEncoder(Encoder):
    """An encoder of one direction whose memory has the final states of all its layers beside each output.

    Args:
        ignores_end: Whether the last valid step of each row, its end token, is not read, as the model was trained
            without any.
        units, num_layers, cell, dropout, implementation, update_gate: As in `Encoder`.

    Call arguments are those of `Encoder`.

    Returns:
        Memory, `(batch, source_steps, memory_units)`: outputs, then the states of the first layer, of the second, ...

    >>> import numpy as np
    >>> FinalStateEncoder(units=4, cell="lstm")(np.ones((2, 3, 5), "float32")).shape.as_list()
    [2, 3, 12]
    """

    def __init__(self, units: int, ignores_end: bool = True, **kwargs: Any) -> None:
        super().__init__(units, **kwargs | PLAIN)
        self.ignores_end = ignores_end

    @property
    def memory_units(self) -> int:
        return self.units * (1 + sum(layer.cell.num_states for layer in self.forward_layers))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for index, layer in enumerate(self.forward_layers):
            layer.build(input_shape if index == 0 else (None, None, self.units))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        keep = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else ops.cast(mask, "bool")
        # A step is followed by another, or is the end.
        read = ops.concatenate([keep[:, 1:], ops.zeros_like(keep[:, :1])], axis=1) if self.ignores_end else keep
        outputs, all_states = inputs, []
        for dropout, layer in zip(self.dropout_layers, self.forward_layers, strict=True):
            outputs, states = layer(dropout(outputs, training=training), mask=read, training=training)
            all_states += states
        steps = ops.shape(inputs)[1]
        beside = [ops.repeat(ops.expand_dims(state, 1), steps, axis=1) for state in all_states]
        return ops.concatenate([outputs, *beside], axis=-1) * ops.expand_dims(ops.cast(keep, outputs.dtype), -1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"ignores_end": self.ignores_end}


@keras.saving.register_keras_serializable(package="seq2seq")
class FinalStateDecoder(Decoder):
    """A decoder that starts from the final states of a `FinalStateEncoder` of as many layers.

    Args:
        vocabulary_size, embedding_size, units, num_layers, cell, dropout, implementation, update_gate: As in `Decoder`.

    Call arguments and results are those of `Decoder`.

    >>> import numpy as np
    >>> decoder = FinalStateDecoder(vocabulary_size=9, embedding_size=4, units=8)
    >>> decoder(np.ones((2, 5), "int32"), memory=np.ones((2, 3, 16), "float32")).shape.as_list()
    [2, 5, 9]
    """

    def __init__(self, vocabulary_size: int, embedding_size: int, units: int, **kwargs: Any) -> None:
        context = LastContext(name="context", dtype=kwargs.get("dtype"))
        fixed = {"context": context, "feeds": ("state",), "readout_size": units, "tie_output": False, "copy": "none"}
        super().__init__(vocabulary_size, embedding_size, units, **kwargs | fixed)

    def _create_bridges(self) -> list[keras.Layer]:
        return []

    def _create_readout(self) -> Readout:
        return DirectReadout(self.vocabulary_size, self.units, name="readout", dtype=self.dtype_policy)

    def start(self, prepared: PreparedContext) -> DecoderState:
        """The encoder's final states."""
        parts = iter(ops.split(prepared.summary, prepared.summary.shape[-1] // self.units, axis=-1)[1:])
        return DecoderState(
            tuple([next(parts) for _ in range(layer.cell.num_states)] for layer in self.recurrent_layers)
        )


@keras.saving.register_keras_serializable(package="seq2seq")
class DirectReadout(Readout):
    """logits = E s + c, without the hidden layer of `Readout`."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.output_bias = self.add_weight(name="output_bias", shape=(self.vocabulary_size,), initializer="zeros")
        self.output_embeddings = self.add_weight(name="output_embeddings", shape=(self.vocabulary_size, self.units))

    def features(self, inputs: Any) -> Any:
        """The decoder's outputs as they are."""
        return inputs
