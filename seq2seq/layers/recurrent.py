"""One recurrent layer: the same weights on cuDNN, on the processor's kernel, or step by step over a cell.

All three give the same result: outputs at padded steps are zero, the state passes padded steps unchanged, and
`reverse` reads each row from its last valid step to its first.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.layers import cpu_kernel, cudnn_kernel
from seq2seq.layers.cells import create_cell
from seq2seq.layers.masking import ExplicitMaskLayer
from seq2seq.layers.scan import scan

IMPLEMENTATIONS = ("auto", "cudnn", "scan", "raw")


def gpu_is_available() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


class KernelChoice(NamedTuple):
    """Which kernel a layer runs on here, and every reason against cuDNN (empty where it runs)."""

    implementation: str
    reasons_against_cudnn: tuple[str, ...]


@keras.saving.register_keras_serializable(package="seq2seq")
class Recurrent(ExplicitMaskLayer):
    """A recurrent layer over whole sequences, and over one step with `step`.

    The fast road and the readable one hold the same weights: `auto` takes cuDNN's kernel where there is a GPU and
    that of `kernels` elsewhere, `raw` runs the cell's equation step by step under plain autodiff. `kernel_choice`
    tells which one runs on this machine, and why. `gru_reset_before` has no kernel and always runs step by step.

    Args:
        units: Size of the state.
        cell: Name of the cell, one of `cells.CELLS`.
        reverse: Whether to read from the last valid step to the first.
        implementation: `auto`, `cudnn`, `scan` (the processor's kernel) or `raw` (the cell, step by step).
        update_gate: `keep` or `write`, for cells with an update gate.

    Call arguments:
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; valid steps come first. None: all steps are valid.
        initial_state: List of `(batch, units)`, two for an LSTM (h and c); None: zeros.
        training: Whether the batches come in few shapes, so that compiling for each pays (`kernels.run`).

    Returns:
        Outputs `(batch, steps, units)`, in the order of the inputs, and the list of final states.

    Raises:
        ValueError: An unknown `cell`, `implementation` or `update_gate`, or `cudnn` or `scan` where it cannot run, with
            every reason.

    >>> import numpy as np
    >>> outputs, states = Recurrent(4)(np.ones((2, 3, 5), "float32"))
    >>> outputs.shape.as_list(), states[0].shape.as_list()
    ([2, 3, 4], [2, 4])
    """

    def __init__(
        self,
        units: int,
        cell: str = "gru",
        reverse: bool = False,
        implementation: str = "auto",
        update_gate: str = "keep",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, but is {implementation!r} instead."
            )
        self.units = units
        self.cell_name = cell
        self.reverse = reverse
        self.implementation = implementation
        self.update_gate = update_gate
        self.cell = create_cell(cell, units, update_gate, dtype=self.dtype_policy, name="cell")
        # XLA has no cuDNN kernel, and Keras compiles a model with XLA unless one of its layers says so.
        self.supports_jit = self.kernel_choice().implementation != "cudnn"

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.cell.build(input_shape)

    def kernel_choice(self) -> KernelChoice:
        """Which kernel will run on this machine, and every reason against cuDNN."""
        reasons = []
        if not self.cell.cudnn_mode:
            reasons.append(f"cuDNN has no kernel for the cell {self.cell_name!r}")
        if self.implementation in ("scan", "raw"):
            reasons.append(f"implementation is {self.implementation!r}")
        if not gpu_is_available():
            reasons.append("TensorFlow sees no GPU")
        if not reasons:
            return KernelChoice("cudnn", ())
        step_by_step = self.implementation == "raw" or not self.cell.kernel_name
        return KernelChoice("raw" if step_by_step else "scan", tuple(reasons))

    def initial_state(self, batch_size: Any) -> list[Any]:
        """Zeros in the shape of the state: what the layer starts from unless told otherwise."""
        return self.cell.get_initial_state(batch_size)

    def step(self, inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """One time step: `(batch, features)` and states to outputs `(batch, units)` and new states."""
        return self.cell(inputs, states)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        initial_state: list[Any] | None = None,
        training: bool | None = None,
    ) -> tuple[Any, list[Any]]:
        states = self.initial_state(ops.shape(inputs)[0]) if initial_state is None else initial_state
        states = [ops.cast(state, self.compute_dtype) for state in states]
        mask = None if mask is None else ops.cast(mask, "bool")
        if inputs.shape[1] == 1 and mask is None:
            outputs, states = self.step(inputs[:, 0], states)
            return outputs[:, None], states
        choice = self.kernel_choice()
        self._check_possible(choice)
        if choice.implementation == "raw":
            outputs, states = self._call_raw(inputs, mask, states)
        else:
            weights = tuple(ops.cast(weight, self.compute_dtype) for weight in self.cell.kernel_weights())
            if choice.implementation == "cudnn":
                outputs, states = cudnn_kernel.run(self.cell.cudnn_mode, inputs, mask, states, weights, self.reverse)
            else:
                outputs, states = cpu_kernel.run(
                    self.cell.kernel_name, inputs, mask, states, weights, self.reverse, compiled=bool(training)
                )
        if mask is not None:
            outputs *= ops.expand_dims(ops.cast(mask, outputs.dtype), -1)
        # The loops know the number of steps only when they run.
        return tf.ensure_shape(outputs, (*inputs.shape[:2], self.units)), states

    def _check_possible(self, choice: KernelChoice) -> None:
        if self.implementation == "cudnn" and choice.reasons_against_cudnn:
            raise ValueError(
                f"implementation='cudnn' cannot run: {'; '.join(choice.reasons_against_cudnn)}. "
                "Use implementation='auto'."
            )
        if self.implementation == "scan" and not self.cell.kernel_name:
            raise ValueError(
                f"implementation='scan' cannot run: the processor has no kernel for the cell {self.cell_name!r}. "
                "Use implementation='auto'."
            )

    def _call_raw(self, inputs: Any, mask: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        keep = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else mask
        keep_and_inputs = ops.concatenate([ops.cast(keep, inputs.dtype)[:, :, None], inputs], axis=-1)

        def step(keep_and_inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
            keep = keep_and_inputs[:, :1] > 0
            outputs, new_states = self.step(keep_and_inputs[:, 1:], states)
            return outputs, [ops.where(keep, new, old) for new, old in zip(new_states, states, strict=True)]

        return scan(step, states, keep_and_inputs, tf.TensorSpec([None, self.units], inputs.dtype), self.reverse)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "units": self.units,
            "cell": self.cell_name,
            "reverse": self.reverse,
            "implementation": self.implementation,
            "update_gate": self.update_gate,
        }
