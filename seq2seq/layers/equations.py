"""One step of each cell as a pure function that returns its gates by name.

The cells, the kernels, fused decoding and the inspection of a trained model all call these functions, so the gates that
a page shows are the gates that were trained. The product of inputs and weights is an argument (`projected_inputs`),
because it does not depend on the state and is fastest for all steps at once. The element-wise rest of a step, once its
recurrent product is known, is a function of its own (`gru_gates` for `gru`), which the kernels compile.

States, inputs of a step and gates are `(batch, units)`; weights have Keras' layout, one block of columns a gate. In the
equations h is the previous state, x the input, sigma the logistic function, and `*` works element by element.
Half of the literature writes the update of a GRU the other way round, h' = (1 - z) * h + z * n; that is
`update_gate="write"`, one model with "keep" once W_z, U_z and b_z change their sign, for sigma(-a) = 1 - sigma(a).
"""

import math
from typing import Any, NamedTuple

from keras import ops

UPDATE_GATES = ("keep", "write")


class Gate(NamedTuple):
    """One field of a step: its symbol in the equations, its meaning, and the range of its values."""

    symbol: str
    meaning: str
    range: tuple[float, float]


GATES = {
    "state": Gate("h", "output of the layer at this step", (-1, 1)),
    "cell_state": Gate("c", "memory of an LSTM; the state is its tanh times the output gate", (-math.inf, math.inf)),
    "update": Gate("z", "share of the past that the unit keeps", (0, 1)),
    "reset": Gate("r", "share of the past that the candidate sees", (0, 1)),
    "candidate": Gate("n", "what the unit would hold if it kept nothing", (-1, 1)),
    "recurrent_candidate": Gate("q", "part of the candidate that comes from the past", (-math.inf, math.inf)),
    "input_gate": Gate("i", "share of the candidate that is written", (0, 1)),
    "forget_gate": Gate("f", "share of the cell state that is kept", (0, 1)),
    "output_gate": Gate("o", "share of the cell state that is shown", (0, 1)),
}
"""Every field that a step can have; derivations, matrices and pages take symbols and meanings from here."""


def describe_gate(name: str, update_gate: str = "keep") -> Gate:
    """Return the entry of `GATES`, in the reading of the update gate that the cell has."""
    if name == "update" and update_gate == "write":
        return GATES["update"]._replace(meaning="share of the candidate that is written")
    return GATES[name]


class RNNStep(NamedTuple):
    """One step of a plain recurrent network; `(batch, units)`."""

    state: Any


class LSTMStep(NamedTuple):
    """One step of a long short-term memory; every field is `(batch, units)`."""

    state: Any
    cell_state: Any
    input_gate: Any
    forget_gate: Any
    candidate: Any
    output_gate: Any


class GRUStep(NamedTuple):
    """One step of a gated recurrent unit; every field is `(batch, units)`."""

    state: Any
    update: Any
    reset: Any
    candidate: Any
    recurrent_candidate: Any


class GRUSimplifiedStep(NamedTuple):
    """One step of a gated recurrent unit without a reset gate; every field is `(batch, units)`."""

    state: Any
    update: Any
    candidate: Any


def rnn(projected_inputs: Any, state: Any, recurrent_kernel: Any) -> RNNStep:
    """Compute a plain recurrent network (Elman 1990; `keras.layers.SimpleRNN`), which overwrites its whole state.

    h' = tanh(W x + b + U h)
    """
    return rnn_gates([projected_inputs], [ops.matmul(state, recurrent_kernel)], state)


def rnn_gates(inputs: list[Any], recurrent: list[Any], _state: Any) -> RNNStep:
    """Compute `rnn` from the blocks of `W x + b` and `U h`."""
    return RNNStep(ops.tanh(inputs[0] + recurrent[0]))


def lstm(projected_inputs: Any, state: Any, cell_state: Any, recurrent_kernel: Any) -> LSTMStep:
    """Compute a long short-term memory, whose second state c is only scaled and added to, so its gradient survives.

        i, f, o = sigma(W x + b + U h), each with its own W, U, b     input, forget and output gate
        g  = tanh(W_g x + b_g + U_g h)                                candidate
        c' = f * c + i * g
        h' = o * tanh(c')

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; blocks [i | f | g | o].
    """
    recurrent = ops.matmul(state, recurrent_kernel)
    return lstm_gates(_blocks(projected_inputs, 4), _blocks(recurrent, 4), state, cell_state)


def lstm_gates(inputs: list[Any], recurrent: list[Any], _state: Any, cell_state: Any) -> LSTMStep:
    """Compute `lstm` from the blocks of `W x + b` and `U h`."""
    input_gate, forget_gate, candidate, output_gate = (sum(pair) for pair in zip(inputs, recurrent, strict=True))
    input_gate, forget_gate, output_gate = (ops.sigmoid(gate) for gate in (input_gate, forget_gate, output_gate))
    candidate = ops.tanh(candidate)
    cell_state = forget_gate * cell_state + input_gate * candidate
    return LSTMStep(output_gate * ops.tanh(cell_state), cell_state, input_gate, forget_gate, candidate, output_gate)


def gru(
    projected_inputs: Any, state: Any, recurrent_kernel: Any, recurrent_bias: Any, update_gate: str = "keep"
) -> GRUStep:
    """Compute a gated recurrent unit whose reset gate acts after the recurrent product.

        z  = sigma(W_z x + b_z + U_z h + c_z)             update: how much of the past is kept
        r  = sigma(W_r x + b_r + U_r h + c_r)             reset: how much of the past the candidate sees
        n  = tanh(W_n x + b_n + r * (U_n h + c_n))        candidate
        h' = z * h + (1 - z) * n

    Cho et al. 2014 (arXiv 1406.1078, version 1) in the form that cuDNN computes; blocks [z | r | n].
    `recurrent_candidate` is `U_n h + c_n`, before the reset gate.
    """
    recurrent = ops.matmul(state, recurrent_kernel) + recurrent_bias
    return gru_gates(_blocks(projected_inputs, 3), _blocks(recurrent, 3), state, update_gate)


def gru_gates(inputs: list[Any], recurrent: list[Any], state: Any, update_gate: str = "keep") -> GRUStep:
    """Compute `gru` from the blocks of `W x + b` and `U h + c`."""
    update, reset = inputs[0] + recurrent[0], inputs[1] + recurrent[1]
    return gru_activations(update, reset, inputs[2], recurrent[2], state, update_gate)


def gru_activations(
    update: Any, reset: Any, candidate: Any, recurrent_candidate: Any, state: Any, update_gate: str = "keep"
) -> GRUStep:
    """Compute `gru` from the sums inside of its gates, which fused decoding makes in one product."""
    update, reset = ops.sigmoid(update), ops.sigmoid(reset)
    candidate = ops.tanh(candidate + reset * recurrent_candidate)
    return GRUStep(_updated(update, state, candidate, update_gate), update, reset, candidate, recurrent_candidate)


def gru_reset_before(projected_inputs: Any, state: Any, recurrent_kernel: Any, update_gate: str = "keep") -> GRUStep:
    """Compute a gated recurrent unit whose reset gate acts on the state, before the recurrent product.

        z, r as in `gru`, with one bias each
        n  = tanh(W_n x + b_n + U_n (r * h))
        h' = z * h + (1 - z) * n

    Cho et al. 2014 (arXiv 1406.1078, version 3); `keras.layers.GRU(reset_after=False)`; blocks [z | r | n]. The
    product with U_n waits for r, so a step needs two products in a row, and cuDNN has no kernel for it.
    `recurrent_candidate` is `U_n (r * h)`.
    """
    units = state.shape[-1]
    update_input, reset_input, candidate_input = _blocks(projected_inputs, 3)
    gates = ops.matmul(state, recurrent_kernel[:, : 2 * units])
    update_state, reset_state = _blocks(gates, 2)
    update = ops.sigmoid(update_input + update_state)
    reset = ops.sigmoid(reset_input + reset_state)
    recurrent_candidate = ops.matmul(reset * state, recurrent_kernel[:, 2 * units :])
    candidate = ops.tanh(candidate_input + recurrent_candidate)
    return GRUStep(_updated(update, state, candidate, update_gate), update, reset, candidate, recurrent_candidate)


def gru_simplified(
    projected_inputs: Any, state: Any, recurrent_kernel: Any, update_gate: str = "keep"
) -> GRUSimplifiedStep:
    """Compute a gated recurrent unit without a reset gate: two thirds of a GRU's weights.

        z  = sigma(W_z x + b_z + U_z h)
        n  = tanh(W_n x + b_n + U_n h)
        h' = z * h + (1 - z) * n

    The GRU of Cho et al. 2014 with a candidate that always sees the whole past; blocks [z | n].
    """
    recurrent = ops.matmul(state, recurrent_kernel)
    return gru_simplified_gates(_blocks(projected_inputs, 2), _blocks(recurrent, 2), state, update_gate)


def gru_simplified_gates(
    inputs: list[Any], recurrent: list[Any], state: Any, update_gate: str = "keep"
) -> GRUSimplifiedStep:
    """Compute `gru_simplified` from the blocks of `W x + b` and `U h`."""
    update, candidate = ops.sigmoid(inputs[0] + recurrent[0]), ops.tanh(inputs[1] + recurrent[1])
    return GRUSimplifiedStep(_updated(update, state, candidate, update_gate), update, candidate)


def _updated(update: Any, state: Any, candidate: Any, update_gate: str) -> Any:
    if update_gate == "keep":
        return update * state + (1 - update) * candidate
    return (1 - update) * state + update * candidate


def _blocks(values: Any, count: int) -> list[Any]:
    return list(ops.split(values, count, axis=-1))
