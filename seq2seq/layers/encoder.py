"""The encoder: a stack of recurrent layers, in one direction or two, behind an optional front end."""

from typing import Any

import keras
from keras import ops

from seq2seq.errors import ArgumentError, require_choice, require_integer
from seq2seq.layers.dropout import SharedDropout
from seq2seq.layers.masking import LARGE_NEGATIVE, ExplicitMaskLayer, in_windows, reduced_mask
from seq2seq.layers.recurrent import Recurrent

FRONT_ENDS = ("convolution", "mean", "max")


@keras.saving.register_keras_serializable(package="seq2seq")
class FrontEnd(ExplicitMaskLayer):
    """Joins `stride` neighbouring steps to one, so that a recurrence over its outputs has fewer steps.

    Time and gradient memory of a recurrent layer grow with its steps, which must run one after another; a front end
    joins all of them at once (Lee et al. 2017, arXiv 1610.03017).

        mean, max      y_s = mean or maximum of the valid x_i, i from s k to s k + k - 1, for a stride of k
        convolution    y_s = tanh(sum_j x_{s k + j - (w - k) // 2} W_j + b), j from 0 to w - 1, of width w

    The convolution's windows are w steps wide and centred on those k; outside the sequence, and at masked steps, it
    reads zeros.

    Args:
        front_end: `convolution`, `mean` or `max`.
        stride: Steps that become one.
        kernel_size: Width w of the convolution, at least `stride`; None: `stride`. The poolings take none.

    Call arguments:
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; valid steps come first. None: all are valid.

    Returns:
        `(batch, ceil(steps / stride), features)`; zeros at windows without a valid step. Their mask is
        `masking.reduced_mask(mask, stride)`.

    Raises:
        ArgumentError: Arguments that are unknown or contradict each other.

    >>> import numpy as np
    >>> FrontEnd("max", stride=2)(np.array([[[1.0], [3.0], [2.0]]], "float32")).numpy().tolist()
    [[[3.0], [2.0]]]
    """

    def __init__(self, front_end: str, stride: int, kernel_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_choice("front_end", front_end, FRONT_ENDS)
        require_integer("stride", stride, 2)
        if kernel_size is not None and front_end != "convolution":
            raise ArgumentError("kernel_size", f"None for the front end {front_end!r}", kernel_size)
        if kernel_size is not None:
            # A narrower convolution would skip steps.
            require_integer("kernel_size", kernel_size, stride)
        self.front_end = front_end
        self.stride = stride
        self.kernel_size = kernel_size
        self.width = kernel_size or stride
        self.convolution: Any = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.front_end == "convolution":
            self.convolution = keras.layers.Conv1D(
                input_shape[-1],
                self.width,
                strides=self.stride,
                activation="tanh",
                dtype=self.dtype_policy,
                name="convolution",
            )
            self.convolution.build((None, None, input_shape[-1]))

    def call(self, inputs: Any, mask: Any = None) -> Any:
        mask = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else ops.cast(mask, "bool")
        if self.front_end == "convolution":
            outputs = self._convolve(ops.where(mask[:, :, None], inputs, ops.zeros_like(inputs)))
            return outputs * ops.cast(reduced_mask(mask, self.stride), outputs.dtype)[:, :, None]
        windows, valid = in_windows(inputs, self.stride), in_windows(mask, self.stride)[..., None]
        if self.front_end == "max":
            largest = ops.max(ops.where(valid, windows, ops.cast(LARGE_NEGATIVE, windows.dtype)), axis=2)
            return ops.where(ops.any(valid, axis=2), largest, ops.zeros_like(largest))
        count = ops.cast(ops.maximum(ops.sum(ops.cast(valid, "int32"), axis=2), 1), windows.dtype)
        return ops.sum(ops.where(valid, windows, ops.zeros_like(windows)), axis=2) / count

    def _convolve(self, inputs: Any) -> Any:
        windows = (ops.shape(inputs)[1] + self.stride - 1) // self.stride
        padded = ops.pad(inputs, [(0, 0), ((self.width - self.stride) // 2, self.width), (0, 0)])
        return self.convolution(padded[:, : (windows - 1) * self.stride + self.width])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, steps, features = input_shape
        return batch, None if steps is None else -(-steps // self.stride), features


@keras.saving.register_keras_serializable(package="seq2seq")
class Encoder(ExplicitMaskLayer):
    """Turns embedded source tokens into the memory h_1..h_S that a context reads.

    With two directions each layer reads its input forwards and backwards and joins both (Schuster and Paliwal 1997), so
    that a step of the memory depends on the whole sentence.

    The memory of a long source can have fewer steps than the source: a front end joins `stride` neighbouring
    embeddings, and in a pyramid every layer above the first reads `subsample` neighbouring steps of the layer below
    joined to one (Chan et al. 2016, arXiv 1508.01211). Step s of the memory then stands for the source steps from
    `s * reduction` to `s * reduction + reduction - 1`, and `memory_mask` returns the mask of its steps.

    Args:
        units: Size of the state, of each direction.
        num_layers: Number of layers on top of each other.
        cell: Name of the cell: `rnn`, `lstm`, `gru`, `gru_reset_before` or `gru_simplified`.
        bidirectional: Whether each layer reads both ways; the memory then has `2 * units`.
        residual: Whether each layer above the first adds its input to its output (Wu et al. 2016).
        dropout: Share of a layer's inputs that are dropped in training, the same ones at every step (Gal 2016).
        implementation, update_gate: As in `Recurrent`.
        front_end: `none`, or as in `FrontEnd`.
        stride: Source steps that the front end joins to one; 1 without one.
        kernel_size: Source steps that each output of a convolution reads; None: `stride`.
        subsample: Steps that each layer above the first reads as one.

    Call arguments:
        inputs: Embedded tokens, `(batch, source_steps, features)`.
        mask: `(batch, source_steps)`, True keeps; valid steps come first. None: all are valid.

    Returns:
        Memory, `(batch, memory_steps, memory_units)`, of `ceil(source_steps / reduction)` steps; zeros at padded ones.

    Raises:
        ArgumentError: Arguments that are unknown or contradict each other.

    >>> import numpy as np
    >>> encoder = Encoder(units=4, num_layers=2, front_end="mean", stride=2, subsample=2)
    >>> encoder(np.ones((2, 9, 5), "float32")).shape.as_list(), encoder.reduction
    ([2, 3, 8], 4)
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
        front_end: str = "none",
        stride: int = 1,
        kernel_size: int | None = None,
        subsample: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_integer("num_layers", num_layers)
        require_integer("subsample", subsample)
        require_choice("front_end", front_end, ("none", *FRONT_ENDS))
        if front_end == "none" and stride != 1:
            raise ArgumentError("stride", "1 without a front end", stride, "Choose a front_end, or leave stride out.")
        if front_end == "none" and kernel_size is not None:
            raise ArgumentError("kernel_size", "None without a front end", kernel_size)
        if subsample > 1 and (num_layers == 1 or residual):
            advice = "A layer that reads joined steps must be above another one, and cannot add its wider input."
            raise ArgumentError("subsample", "1 with one layer or with residual", subsample, advice)
        self.units = units
        self.num_layers = num_layers
        self.cell = cell
        self.bidirectional = bidirectional
        self.residual = residual
        self.dropout = dropout
        self.implementation = implementation
        self.update_gate = update_gate
        self.front_end = front_end
        self.stride = stride
        self.kernel_size = kernel_size
        self.subsample = subsample
        policy: dict[str, Any] = {"dtype": self.dtype_policy}
        self.front_end_layer = None
        if front_end != "none":
            self.front_end_layer = FrontEnd(front_end, stride, kernel_size, name="front_end", **policy)
        self.forward_layers = [self._layer(False, index) for index in range(num_layers)]
        self.backward_layers = [self._layer(True, index) for index in range(num_layers) if bidirectional]
        self.dropout_layers = [SharedDropout(dropout, name=f"dropout_{index}", **policy) for index in range(num_layers)]

    def _layer(self, reverse: bool, index: int) -> Recurrent:
        name = f"{'backward' if reverse else 'forward'}_{index}"
        choices = (self.units, self.cell, reverse, self.implementation, self.update_gate)
        return Recurrent(*choices, dtype=self.dtype_policy, name=name)

    @property
    def memory_units(self) -> int:
        """Size of each step of the memory."""
        return self.units * (1 + self.bidirectional)

    @property
    def reduction(self) -> int:
        """Source steps that a step of the memory stands for."""
        return self.reductions[-1]

    @property
    def reductions(self) -> list[int]:
        """Source steps that a step of each layer stands for."""
        return [self.stride * self.subsample**index for index in range(self.num_layers)]

    def memory_mask(self, mask: Any) -> Any:
        """Return the mask of the memory, `(batch, memory_steps)`, for that of the source, `(batch, source_steps)`."""
        return reduced_mask(mask, self.reduction)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.front_end_layer is not None:
            self.front_end_layer.build(input_shape)
        for index in range(self.num_layers):
            features = input_shape[-1] if index == 0 else self.subsample * self.memory_units
            for directions in (self.forward_layers, self.backward_layers)[: 1 + self.bidirectional]:
                directions[index].build((None, None, features))

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        outputs = inputs
        if self.front_end_layer is not None:
            outputs = self.front_end_layer(inputs, mask=mask)
            mask = None if mask is None else reduced_mask(mask, self.stride)
        for index in range(self.num_layers):
            if self.subsample > 1 and index > 0:
                outputs = self._joined(outputs)
                mask = None if mask is None else reduced_mask(mask, self.subsample)
            layer_inputs = self.dropout_layers[index](outputs, training=training)
            outputs, _ = self.forward_layers[index](layer_inputs, mask=mask, training=training)
            if self.bidirectional:
                backward, _ = self.backward_layers[index](layer_inputs, mask=mask, training=training)
                outputs = ops.concatenate([outputs, backward], axis=-1)
            if self.residual and index > 0:
                outputs += layer_inputs
        return outputs

    def _joined(self, outputs: Any) -> Any:
        windows = in_windows(outputs, self.subsample)
        batch, steps = ops.shape(windows)[:2]
        return ops.reshape(windows, (batch, steps, self.subsample * self.memory_units))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, steps, _ = input_shape
        return batch, None if steps is None else -(-steps // self.reduction), self.memory_units
