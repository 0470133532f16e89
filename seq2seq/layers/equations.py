"""Each cell's step, once, as a pure function that returns its gates by name.

The cells, the kernels and the inspection of a trained model all call these functions, so what is read
gate by gate is what was trained. The product of the inputs with their weights comes in ready made
(`projected_inputs`), because it does not depend on the state and is best done for all steps at once.
"""

from typing import Any, NamedTuple

from keras import ops


class GRUStep(NamedTuple):
    """One step of a gated recurrent unit; every field is `(batch, units)`."""

    state: Any
    update: Any
    reset: Any
    candidate: Any
    recurrent_candidate: Any


def gru(projected_inputs: Any, state: Any, recurrent_kernel: Any, recurrent_bias: Any) -> GRUStep:
    """Gated recurrent unit whose reset gate acts after the recurrent product, as in cuDNN.

    With h the previous state, sigma the logistic function and `*` element by element:

        z  = sigma(W_z x + b_z + U_z h + c_z)             update: how much of the past is kept
        r  = sigma(W_r x + b_r + U_r h + c_r)             reset: how much of the past the candidate sees
        n  = tanh(W_n x + b_n + r * (U_n h + c_n))        candidate
        h' = z * h + (1 - z) * n

    Cho et al. 2014 (arXiv 1406.1078, version 1) in the form that cuDNN computes. Keras packs the three
    blocks as [z | r | n].

    Args:
        projected_inputs: `W x + b`, `(batch, 3 * units)`.
        state: h, `(batch, units)`.
        recurrent_kernel: U, `(units, 3 * units)`.
        recurrent_bias: c, `(3 * units,)`.

    Returns:
        The new state h' and the gates; `recurrent_candidate` is `U_n h + c_n`, before the reset gate.

    >>> import numpy as np
    >>> step = gru(np.zeros((1, 6), "float32"), np.ones((1, 2), "float32"),
    ...            np.zeros((2, 6), "float32"), np.zeros(6, "float32"))
    >>> step.update.numpy().tolist(), step.state.numpy().tolist()
    ([[0.5, 0.5]], [[0.5, 0.5]])
    """
    recurrent = ops.matmul(state, recurrent_kernel) + recurrent_bias
    update_input, reset_input, candidate_input = ops.split(projected_inputs, 3, axis=-1)
    update_state, reset_state, recurrent_candidate = ops.split(recurrent, 3, axis=-1)
    update = ops.sigmoid(update_input + update_state)
    reset = ops.sigmoid(reset_input + reset_state)
    candidate = ops.tanh(candidate_input + reset * recurrent_candidate)
    return GRUStep(update * state + (1 - update) * candidate, update, reset, candidate, recurrent_candidate)
