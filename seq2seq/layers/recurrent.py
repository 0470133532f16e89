"""One recurrent layer: the same weights on cuDNN, on the processor's kernel, or step by step over a cell."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, require_choice
from seq2seq.layers import cpu_kernel, cudnn_kernel
from seq2seq.layers.cells import CELLS
from seq2seq.layers.masking import ExplicitMaskLayer
from seq2seq.layers.scan import scan

IMPLEMENTATIONS = ("auto", "cudnn", "scan", "raw")


def gpu_is_available() -> bool:
    """Report whether TensorFlow sees a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


class KernelChoice(NamedTuple):
    """The kernel that a layer runs on here, and every reason against cuDNN (empty where cuDNN runs)."""

    implementation: str
    reasons_against_cudnn: tuple[str, ...]


@keras.saving.register_keras_serializable(package="seq2seq")
class Recurrent(ExplicitMaskLayer):
    """Recurrent layer over whole sequences, and over one step with `step`.

    All implementations hold the same weights and return the same numbers: outputs at padded steps are zero, a padded
    step does not change the state, and `reverse` reads each row from its last valid step to its first. `auto` takes
    cuDNN's kernel on a GPU and the processor's kernel elsewhere; `raw` runs the cell's equation step by step under
    plain autodiff, as `gru_reset_before` always does. `kernel_choice` returns the kernel of this machine, and why.

    Args:
        units: Size of the state.
        cell: Name of the cell: `rnn`, `lstm`, `gru`, `gru_reset_before` or `gru_simplified`.
        reverse: Whether to read from the last valid step to the first.
        implementation: `auto`, `cudnn`, `scan` (the processor's kernel) or `raw` (the cell, step by step).
        update_gate: `keep` or `write`, for cells with an update gate; see `GRUCell`.

    Call arguments:
        inputs: `(batch, steps, features)`.
        mask: `(batch, steps)`, True keeps; valid steps come first. None: all are valid.
        initial_state: List of `(batch, units)`, two for an LSTM (h and c); None: zeros.
        training: Whether batches come in few shapes, so that it pays to compile the kernel for each of them.

    Returns:
        Outputs `(batch, steps, units)`, in the order of the inputs, and the list of final states.

    Raises:
        ArgumentError: An unknown or impossible `cell`, `implementation` or `update_gate`, with every reason.

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
        require_choice("implementation", implementation, IMPLEMENTATIONS)
        require_choice("cell", cell, CELLS)
        if implementation == "scan" and CELLS[cell].spec.kernel is None:
            requirement = f"'auto' or 'raw' for the cell {cell!r}, which has no kernel"
            raise ArgumentError("implementation", requirement, implementation)
        self.units = units
        self.cell_name = cell
        self.reverse = reverse
        self.implementation = implementation
        self.update_gate = update_gate
        self.cell = CELLS[cell](units, update_gate=update_gate, dtype=self.dtype_policy, name="cell")
        # XLA has no cuDNN kernel, and Keras compiles a model with XLA unless one of its layers objects.
        self.supports_jit = self.kernel_choice().implementation != "cudnn"

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.cell.build(input_shape)

    def kernel_choice(self) -> KernelChoice:
        """Return the kernel that runs on this machine, and every reason against cuDNN."""
        reasons = []
        if not self.cell.spec.cudnn_mode:
            reasons.append(f"cuDNN has no kernel for the cell {self.cell_name!r}")
        if self.implementation in ("scan", "raw"):
            reasons.append(f"implementation is {self.implementation!r}")
        if not gpu_is_available():
            reasons.append("TensorFlow sees no GPU")
        if not reasons:
            return KernelChoice("cudnn", ())
        step_by_step = self.implementation == "raw" or self.cell.spec.kernel is None
        return KernelChoice("raw" if step_by_step else "scan", tuple(reasons))

    def initial_state(self, batch_size: Any) -> list[Any]:
        """Return the default first state, zeros."""
        return self.cell.get_initial_state(batch_size)

    def step(self, inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """Take one time step from inputs `(batch, features)` to outputs `(batch, units)` and new states."""
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
        choice, spec = self.kernel_choice(), self.cell.spec
        if self.implementation == "cudnn" and choice.reasons_against_cudnn:
            advice = f"cuDNN cannot run: {'; '.join(choice.reasons_against_cudnn)}."
            raise ArgumentError("implementation", "'auto' here", "cudnn", advice)
        if choice.implementation == "raw" or spec.kernel is None:
            outputs, states = self._call_raw(inputs, mask, states)
        else:
            weights = tuple(ops.cast(weight, self.compute_dtype) for weight in self.cell.kernel_weights())
            if choice.implementation == "cudnn":
                outputs, states = cudnn_kernel.run(spec.cudnn_mode, inputs, mask, states, weights, self.reverse)
            else:
                outputs, states = cpu_kernel.run(
                    spec.kernel, inputs, mask, states, weights, self.reverse, compiled=bool(training)
                )
        if mask is not None:
            outputs *= ops.expand_dims(ops.cast(mask, outputs.dtype), -1)
        # The loops know the number of steps only when they run.
        return tf.ensure_shape(outputs, (*inputs.shape[:2], self.units)), states

    def _call_raw(self, inputs: Any, mask: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        keep = ops.ones(ops.shape(inputs)[:2], "bool") if mask is None else mask
        keep_and_inputs = ops.concatenate([ops.cast(keep, inputs.dtype)[:, :, None], inputs], axis=-1)

        def step(keep_and_inputs: Any, states: list[Any]) -> tuple[Any, list[Any]]:
            keep = keep_and_inputs[:, :1] > 0
            outputs, new_states = self.step(keep_and_inputs[:, 1:], states)
            return outputs, [ops.where(keep, new, old) for new, old in zip(new_states, states, strict=True)]

        return scan(step, states, keep_and_inputs, tf.TensorSpec([None, self.units], inputs.dtype), self.reverse)
