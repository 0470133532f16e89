"""What stands between the embeddings and the recurrence of a long source: neighbouring steps made into one."""

from typing import Any

import keras
from keras import ops

from seq2seq.layers.masking import LARGE_NEGATIVE, ExplicitMaskLayer, in_windows, reduced_mask

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
