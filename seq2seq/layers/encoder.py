"""The encoder: a stack of recurrent layers, in one direction or two."""

from typing import Any

import keras
from keras import ops

from seq2seq.layers.dropout import SharedDropout
from seq2seq.layers.masking import LARGE_NEGATIVE, ExplicitMaskLayer, in_windows, reduced_mask
from seq2seq.layers.recurrent import Recurrent

FRONT_ENDS = ("convolution", "mean", "max")


@keras.saving.register_keras_serializable(package="seq2seq")
class FrontEnd(ExplicitMaskLayer):
    """Makes one step of `stride` neighbouring ones, so that a recurrence over its outputs has fewer steps to run.

    A recurrent layer's time, and what it keeps for its gradient, grow with its steps, and one after the other is the
    only way to run them; joining steps before it runs over all of them at once (Lee et al. 2017, arXiv 1610.03017).

        mean, max      y_s = mean or maximum of the valid x_i, i from s k to s k + k - 1, for a stride of k
        convolution    y_s = tanh(sum_j x_{s k + j - (w - k) // 2} W_j + b), j from 0 to w - 1, of width w

    The convolution's windows are w steps wide and centred on those k; outside the sequence, and at masked steps, it
    reads zeros.

    Args:
        kind: `convolution`, `mean` or `max`.
        stride: Steps that become one.
        kernel_size: Width w of the convolution, at least `stride`; None: `stride`. No argument of the poolings.

    Call arguments:
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; valid steps come first. None: all are valid.

    Returns:
        `(batch, ceil(steps / stride), features)`; zeros at windows without a valid step. Their mask is
        `masking.reduced_mask(mask, stride)`.

    Raises:
        ValueError: Choices that are unknown or contradict each other.

    >>> import numpy as np
    >>> FrontEnd("max", stride=2)(np.array([[[1.0], [3.0], [2.0]]], "float32")).numpy().tolist()
    [[[3.0], [2.0]]]
    """

    def __init__(self, kind: str, stride: int, kernel_size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if kind not in FRONT_ENDS:
            raise ValueError(f"kind must be one of {', '.join(FRONT_ENDS)}, but is {kind!r} instead.")
        if not isinstance(stride, int) or stride < 2:
            raise ValueError(f"stride must be a whole number of at least 2, but is {stride!r} instead.")
        if kernel_size is not None and kind != "convolution":
            raise ValueError(f"kernel_size must be None where kind is {kind!r}, but is {kernel_size!r} instead.")
        if kernel_size is not None and (not isinstance(kernel_size, int) or kernel_size < stride):
            raise ValueError(
                f"kernel_size must be a whole number of at least stride ({stride}), but is {kernel_size!r} instead: "
                "it would pass steps over."
            )
        self.kind = kind
        self.stride = stride
        self.kernel_size = kernel_size
        self.convolution: Any = None

    @property
    def width(self) -> int:
        """Steps that one output reads."""
        return self.kernel_size or self.stride

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.kind == "convolution":
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
        if self.kind == "convolution":
            outputs = self._convolved(ops.where(mask[:, :, None], inputs, ops.zeros_like(inputs)))
            return outputs * ops.cast(reduced_mask(mask, self.stride), outputs.dtype)[:, :, None]
        windows, valid = in_windows(inputs, self.stride), in_windows(mask, self.stride)[..., None]
        if self.kind == "max":
            largest = ops.max(ops.where(valid, windows, ops.cast(LARGE_NEGATIVE, windows.dtype)), axis=2)
            return ops.where(ops.any(valid, axis=2), largest, ops.zeros_like(largest))
        count = ops.cast(ops.maximum(ops.sum(ops.cast(valid, "int32"), axis=2), 1), windows.dtype)
        return ops.sum(ops.where(valid, windows, ops.zeros_like(windows)), axis=2) / count

    def _convolved(self, inputs: Any) -> Any:
        windows = (ops.shape(inputs)[1] + self.stride - 1) // self.stride
        padded = ops.pad(inputs, [(0, 0), ((self.width - self.stride) // 2, self.width), (0, 0)])
        return self.convolution(padded[:, : (windows - 1) * self.stride + self.width])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, steps, features = input_shape
        return batch, None if steps is None else -(-steps // self.stride), features

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"kind": self.kind, "stride": self.stride, "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable(package="seq2seq")
class Encoder(ExplicitMaskLayer):
    """Turns embedded source tokens into the memory h_1..h_S that a context reads.

    In two directions each layer reads its input forwards and backwards, and joins both (Schuster and Paliwal 1997);
    a step of the memory then knows what stands before it and behind it.

    A long source can be read in fewer steps than it has: a front end makes one step of `stride` neighbouring
    embeddings, and in a pyramid every layer above the first reads `subsample` neighbouring steps of the layer below
    joined to one (Chan et al. 2016, arXiv 1508.01211). Step s of the memory then stands for the source steps from
    `s * reduction` to `s * reduction + reduction - 1`, and `memory_mask` tells which of its steps are valid.

    Args:
        units: Size of the state, of each direction.
        num_layers: Number of layers on top of each other.
        cell: Name of the cell, one of `cells.CELLS`.
        bidirectional: Whether each layer reads both ways; the memory then has `2 * units`.
        residual: Whether each layer above the first adds its input to its output (Wu et al. 2016).
        dropout: Share of a layer's inputs that are dropped in training, the same ones at every step (Gal 2016).
        implementation, update_gate: As in `Recurrent`.
        front_end: `none`, or one of `front_end.FRONT_ENDS`.
        stride: Source steps that the front end makes into one; 1 without one.
        kernel_size: Source steps that each output of a convolution reads; None: `stride`.
        subsample: Steps that each layer above the first reads as one.

    Call arguments:
        inputs: Embedded tokens, `(batch, source_steps, features)`.
        mask: `(batch, source_steps)`, True keeps; valid steps come first. None: all are valid.

    Returns:
        Memory, `(batch, memory_steps, memory_units)`, of `ceil(source_steps / reduction)` steps; zeros at padded ones.

    Raises:
        ValueError: Choices that are unknown or contradict each other.

    >>> import numpy as np
    >>> Encoder(units=4, num_layers=2)(np.ones((2, 3, 5), "float32")).shape.as_list()
    [2, 3, 8]
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
        for name, value in (("num_layers", num_layers), ("subsample", subsample)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive whole number, but is {value!r} instead.")
        if front_end == "none" and (stride, kernel_size) != (1, None):
            raise ValueError(
                f"stride must be 1 and kernel_size None without a front end, but are {stride!r} and {kernel_size!r} "
                "instead. Choose a front_end, or leave them out."
            )
        if subsample > 1 and (num_layers == 1 or residual):
            raise ValueError(
                f"subsample must be 1 with one layer, or with residual, but is {subsample} instead: it joins what a layer "
                "above the first reads, which is then no longer as wide as what the layer writes."
            )
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
        self.front_end_layer = (
            None
            if front_end == "none"
            else FrontEnd(front_end, stride, kernel_size, dtype=self.dtype_policy, name="front_end")
        )
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

    @property
    def reduction(self) -> int:
        """Source steps that a step of the memory stands for."""
        return self.reductions[-1]

    @property
    def reductions(self) -> list[int]:
        """Source steps that a step of each layer stands for."""
        return [self.stride * self.subsample**index for index in range(self.num_layers)]

    def memory_mask(self, mask: Any) -> Any:
        """Which steps of the memory are valid, `(batch, memory_steps)`: those that hold any valid step of the source.

        Args:
            mask: Of the source, `(batch, source_steps)`.
        """
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
            "front_end": self.front_end,
            "stride": self.stride,
            "kernel_size": self.kernel_size,
            "subsample": self.subsample,
        }
