"""Back-propagation through time, derived by hand for every cell, in NumPy.

A recurrent network reads x_1 ... x_T and carries a state, h_t = step(x_t, h_{t-1}), with the same matrices at every
step. Vectors are rows, as in Keras: x is `(features,)`, h is `(units,)`, and a product reads x W or h U, with W
`(features, units)` and U `(units, units)`. `*` multiplies element by element, sigma is the logistic function, with
sigma' = sigma (1 - sigma) and tanh' = 1 - tanh^2. L is the loss.

Three questions, three answers:

1. What does h_t do to the loss? It has two ways there: out of the layer at step t (to the output layer, to attention),
   and on to step t + 1. With d_t = dL/dh_t,

       d_t = (what comes from outside at t) + (dL/dh_t through step t + 1),     nothing comes through step T + 1

   so all d_t follow in one walk from the last step to the first.

2. What passes through one step? Each gate is a squashing function of a sum of products. The gradient of such a sum is
   called delta here: (gradient of the gate) * (slope of the squashing function). The deltas of each cell, and what its
   previous state gets from them, are below, each right after its equations: for the plain network,
   h' = tanh(x W + h U + b), they are delta = d * (1 - h'^2) and dL/dh = delta U^T. T steps back in time multiply the
   gradient by T such factors, a slope and U^T, which is why it vanishes or explodes.

3. What does a matrix do to the loss? A matrix M is used at every step t, and only in a product p_t = left_t M, where
   left_t is x_t for an input matrix and h_{t-1} for a recurrent one (r_t * h_{t-1} where a reset gate comes first).
   The chain rule adds up over all the places where M stands, as though each step had a copy M_t of its own:

       dL/dM = sum_t dL/dM_t

   As p_t[j] = sum_i left_t[i] M[i, j], the weight M[i, j] touches nothing but p_t[j], with slope left_t[i], so that
   dL/dM_t[i, j] = left_t[i] delta_t[j]: what came in times what was wrong with what went out. Hence each step
   contributes one outer product,

       dL/dM = sum_t outer(left_t, delta_t) = left^T delta,     left `(steps, rows)`, delta `(steps, units)`

   and the sum of all of them is a single matrix product. delta_t already holds all that later steps do with p_t, so
   nothing is counted twice. A bias is a matrix that multiplies one: its left_t is 1.

With a softmax on top, y_t = softmax(h_t V + b_V) and L = -sum_t log y_t[label_t], the chain starts at
delta_t = y_t - onehot(label_t); V gets outer(h_t, delta_t), and delta_t V^T is what reaches h_t from outside.
For a plain network that makes three matrices, V, U and W; for a GRU seven: V, and a W and a U for z, r and n each.

The cells, forward and back (`*_gradients` of `layers.cpu_kernel` are the same lines as code):

`rnn`, plain recurrent network. tanh has slope 1 - h'^2, and h is in one product.

    h' = tanh(x W + h U + b)

    delta = d * (1 - h'^2)
    dL/dh = delta U^T

`lstm`, long short-term memory. c' goes on to the next step, which hands back e = dL/dc', and into h', which adds to it.

    i, f, o = sigma(x W_k + h U_k + b_k)     for k = i, f, o: input, forget and output gate
    n  = tanh(x W_n + h U_n + b_n)           candidate
    c' = f * c + i * n
    h' = o * tanh(c')

    e       = e + d * o * (1 - tanh(c')^2)
    delta_o = d * tanh(c') * o (1 - o)
    delta_i = e * n * i (1 - i)
    delta_f = e * c * f (1 - f)
    delta_n = e * i * (1 - n^2)
    dL/dc   = e * f                          no matrix on this path: what f keeps, the gradient keeps
    dL/dh   = sum_k delta_k U_k^T

`gru`, gated recurrent unit whose reset gate acts after the recurrent product, as in cuDNN. h is in four places, on the
direct path and in three products.

    z  = sigma(x W_z + b_z + h U_z + c_z)    update
    r  = sigma(x W_r + b_r + h U_r + c_r)    reset
    q  = h U_n + c_n                         what the candidate could see of the past
    n  = tanh(x W_n + b_n + r * q)           candidate
    h' = z * h + (1 - z) * n

    delta_n = d * (1 - z) * (1 - n^2)
    delta_q = delta_n * r                    q is itself a product, with no squashing of its own
    delta_r = delta_n * q * r (1 - r)
    delta_z = d * (h - n) * z (1 - z)
    dL/dh   = d * z + delta_z U_z^T + delta_r U_r^T + delta_q U_n^T

What W_n and b_n get of the candidate is delta_n; U_n and c_n, behind the reset gate, get delta_q.

`gru_reset_before`, the reset gate acts on the state, before the recurrent product (Cho et al. 2014). The reset gate is
reached through the product with U_n, whose left side is p, not h.

    z, r as in `gru`, with one bias each
    p  = r * h                               what the candidate may see of the past
    n  = tanh(x W_n + p U_n + b_n)           candidate
    h' = z * h + (1 - z) * n

    delta_n = d * (1 - z) * (1 - n^2)
    dL/dp   = delta_n U_n^T
    delta_r = dL/dp * h * r (1 - r)
    delta_z = d * (h - n) * z (1 - z)
    dL/dh   = d * z + dL/dp * r + delta_z U_z^T + delta_r U_r^T

`gru_simplified`, no reset gate: the candidate sees the whole past.

    z  = sigma(x W_z + h U_z + b_z)          update
    n  = tanh(x W_n + h U_n + b_n)           candidate
    h' = z * h + (1 - z) * n

    delta_n and delta_z as above
    dL/dh   = d * z + delta_z U_z^T + delta_n U_n^T

An update gate that writes, h' = (1 - z) * h + z * n, is the same cell with 1 - z for z: sigma(-a) = 1 - sigma(a), so
W_z, U_z and b_z change their sign on the way in, and their gradients on the way out.

Werbos 1990, "Backpropagation through time: what it does and how to do it". The cells: Elman 1990; Hochreiter and
Schmidhuber 1997 and, for the forget gate, Gers et al. 2000, both of whom cut the gradient short where it enters the
gates (here it is whole, as in Graves and Schmidhuber 2005); Cho et al. 2014 (arXiv 1406.1078).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seq2seq.errors import ArgumentError
from seq2seq.layers import equations
from seq2seq.layers.cells import CELLS
from seq2seq.layers.cpu_kernel import StepGradients

Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class BackPropagation:
    """Gradients of one sequence, with every gate and state of the way forward by name, `(steps, units)`.

    `factors` are left `(steps, rows)`, or ones `(steps,)` for a bias, and delta `(steps, units)` of each matrix.
    Gradients of states are whole, from outside and from later steps.
    """

    values: dict[str, np.ndarray]
    factors: dict[str, tuple[np.ndarray, np.ndarray]]
    gradients_of_states: np.ndarray
    gradients_of_cell_states: np.ndarray | None
    gradients_of_inputs: np.ndarray
    gradients_of_initial_states: tuple[np.ndarray, ...]

    @property
    def contributions(self) -> dict[str, np.ndarray]:
        """Return each step's part of each gradient, outer(left_t, delta_t): `(steps, *shape of the matrix)`."""
        return {name: np.einsum("t...,tu->t...u", left, delta) for name, (left, delta) in self.factors.items()}

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        """The gradient of each matrix, left^T delta: the sum of its contributions over all steps."""
        return {name: np.tensordot(left, delta, axes=(0, 0)) for name, (left, delta) in self.factors.items()}


def split_weights(
    cell: str, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray
) -> dict[str, np.ndarray]:
    """Cut the packed arrays of a Keras layer into the matrices of the derivation: W_z, ..., U_z, ..., b_z, ...

    Vectors are rows, as in Keras, and a product reads `x @ W`. A plain network has W, U and b, and `gru` has the biases
    of its recurrent products too, c_z, c_r and c_n.

    >>> matrices = split_weights("gru_simplified", np.zeros((3, 8)), np.zeros((4, 8)), np.zeros(8))
    >>> {name: matrix.shape for name, matrix in matrices.items()}
    {'W_z': (3, 4), 'W_n': (3, 4), 'U_z': (4, 4), 'U_n': (4, 4), 'b_z': (4,), 'b_n': (4,)}
    """
    gates = _gates(cell)
    kernel, recurrent_kernel, bias = (np.asarray(array, "float64") for array in (kernel, recurrent_kernel, bias))
    if kernel.ndim != 2 or recurrent_kernel.ndim != 2:
        shapes = kernel.shape, recurrent_kernel.shape
        raise ArgumentError("kernel and recurrent_kernel", "matrices", shapes, f"Give those of a Keras {cell} layer.")
    units = recurrent_kernel.shape[0]
    width = len(gates) * units
    layout = f"Keras packs {len(gates)} blocks of {units} units next to each other."
    has_two_biases = CELLS[cell].spec.has_recurrent_bias
    _check_shape("kernel", kernel, (kernel.shape[0], width), layout)
    _check_shape("recurrent_kernel", recurrent_kernel, (units, width), layout)
    _check_shape("bias", bias, (2, width) if has_two_biases else (width,), layout)
    packed = {"W": kernel, "U": recurrent_kernel}
    packed |= {"b": bias[0], "c": bias[1]} if has_two_biases else {"b": bias}
    return {
        letter + gate: part
        for letter, array in packed.items()
        for gate, part in zip(gates, np.split(array, len(gates), axis=-1), strict=True)
    }


def back_propagate(
    cell: str,
    weights: Weights,
    inputs: np.ndarray,
    initial_states: Sequence[np.ndarray],
    outside_gradients: np.ndarray,
    update_gate: str = "keep",
    outside_gradients_of_cell_states: np.ndarray | None = None,
) -> BackPropagation:
    """Run a cell over one sequence and carry the gradient of its states back through time, step by step.

    Inputs `(steps, features)` come in the order in which the cell reads them; `initial_states` are h_0, and c_0 for an
    LSTM, `(units,)` each. `outside_gradients` `(steps, units)` reach each h_t from outside the recurrence, those of
    cell states each c_t of an LSTM, without what c_t does through h_t.
    """
    forward = _forward(cell, weights, inputs, initial_states, update_gate)
    shape = (len(forward.inputs), len(forward.initial_states[0]))
    given = [outside_gradients, outside_gradients_of_cell_states]
    if len(forward.initial_states) == 1 and outside_gradients_of_cell_states is not None:
        raise ArgumentError("outside_gradients_of_cell_states", f"None for {cell}", shape, "It has no cell state.")
    outside = [
        np.zeros(shape) if gradients is None else np.asarray(gradients, "float64")
        for gradients in given[: len(forward.initial_states)]
    ]
    for name, gradients in zip(("outside_gradients", "outside_gradients_of_cell_states"), outside, strict=False):
        _check_shape(name, gradients, shape, "Give one row a step and one column a unit.")
    return forward.back(outside)


def back_propagate_labels(
    cell: str,
    weights: Weights,
    inputs: np.ndarray,
    initial_states: Sequence[np.ndarray],
    labels: np.ndarray,
    update_gate: str = "keep",
) -> tuple[np.ndarray, BackPropagation]:
    """Run the whole textbook network, with a softmax on the states of a cell and a label `(steps,)` for each step.

    The output layer is V `(units, labels)` and b_V `(labels,)` among the weights. Returns the loss -log y_t[label_t] of
    each step in nats, `(steps,)`, and the gradients of their sum.

    >>> weights = {"W": np.ones((1, 1)), "U": np.ones((1, 1)), "b": np.zeros(1)}
    >>> weights |= {"V": np.zeros((1, 4)), "b_V": np.zeros(4)}
    >>> labels = np.array([0, 1, 0])
    >>> losses, result = back_propagate_labels("rnn", weights, np.ones((3, 1)), [np.zeros(1)], labels)
    >>> losses.round(3).tolist(), result.gradients["b_V"].tolist(), result.contributions["V"].shape
    ([1.386, 1.386, 1.386], [-1.25, -0.25, 0.75, 0.75], (3, 1, 4))
    """
    weights = {name: np.asarray(matrix, "float64") for name, matrix in weights.items()}
    forward = _forward(cell, weights, inputs, initial_states, update_gate, output_layer=True)
    num_labels = weights["V"].shape[1]
    labels = np.asarray(labels)
    _check_shape("labels", labels, (len(forward.inputs),), "Give one label a step.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= num_labels:
        raise ArgumentError("labels", f"whole numbers from 0 to {num_labels - 1}, the columns of V", labels.tolist())
    outputs = np.stack([step.state for step in forward.steps])
    logits = outputs @ weights["V"] + weights["b_V"]
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    delta = np.exp(log_probs) - np.eye(num_labels)[labels]
    nothing = [np.zeros_like(outputs) for _ in forward.initial_states[1:]]
    result = forward.back([delta @ weights["V"].T, *nothing])
    of_output_layer = {"V": (outputs, delta), "b_V": (np.ones(len(delta)), delta)}
    result = dataclasses.replace(result, factors=result.factors | of_output_layer)
    return -log_probs[np.arange(len(labels)), labels], result


class _Forward(NamedTuple):
    """One sequence on its way forward; the update gate keeps, and `is_turned` tells that the caller's writes."""

    cell: str
    weights: Weights
    inputs: np.ndarray
    initial_states: list[np.ndarray]
    steps: list[Any]
    is_turned: bool

    def back(self, outside: Sequence[np.ndarray]) -> BackPropagation:
        """Walk from the last step to the first; `outside` is `(steps, units)` for each state that the cell carries."""
        gates, weights, num_states = _gates(self.cell), self.weights, len(self.initial_states)
        kernel = CELLS[self.cell].spec.kernel
        previous = [self.initial_states, *(list(step[:num_states]) for step in self.steps[:-1])]
        through_next_step = [np.zeros_like(state) for state in self.initial_states]
        totals: list[list[np.ndarray]] = []
        products: list[np.ndarray] = []
        for time in reversed(range(len(self.steps))):
            step = self.steps[time]
            arriving = [gradients[time] + later for gradients, later in zip(outside, through_next_step, strict=True)]
            if kernel is None:
                of_step = _reset_before_gradients(arriving, previous[time], step, weights["U_n"])
            else:
                of_step = kernel.gradients(arriving, previous[time], step)
            through_next_step = [np.asarray(gradients) for gradients in of_step.states]
            recurrent, from_inputs = np.asarray(of_step.products[0]), np.asarray(of_step.products[-1])
            for gate, delta in zip(gates, recurrent, strict=True):
                through_next_step[0] = through_next_step[0] + delta @ weights[f"U{gate}"].T
            if num_states == 2:
                # The whole gradient of a cell state, its way through h_t included.
                arriving[1] = arriving[1] + arriving[0] * step.output_gate * (1 - np.tanh(step.cell_state) ** 2)
            totals.insert(0, arriving)
            products.insert(0, np.stack([recurrent, from_inputs]))
        factors = self._factors(np.stack([states[0] for states in previous]), np.stack(products, axis=2))
        values = {name: np.stack([getattr(step, name) for step in self.steps]) for name in self.steps[0]._fields}
        of_inputs = np.sum([factors[f"W{gate}"][1] @ weights[f"W{gate}"].T for gate in gates], axis=0)
        if self.is_turned:
            values["update"] = 1 - values["update"]
            factors |= {name: (left, -delta) for name, (left, delta) in factors.items() if name.endswith("_z")}
        of_states = [np.stack(gradients) for gradients in zip(*totals, strict=True)]
        of_cell_states = of_states[1] if num_states == 2 else None
        return BackPropagation(values, factors, of_states[0], of_cell_states, of_inputs, tuple(through_next_step))

    def _factors(self, h: np.ndarray, deltas: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Pair left and delta of each matrix; deltas are `(recurrent or input product, blocks, steps, units)`."""
        ones = np.ones(len(h))
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for gate, recurrent, from_inputs in zip(_gates(self.cell), *deltas, strict=True):
            is_reset = CELLS[self.cell].spec.kernel is None and gate == "_n"
            left = h * np.stack([step.reset for step in self.steps]) if is_reset else h
            found |= {f"W{gate}": (self.inputs, from_inputs), f"U{gate}": (left, recurrent)}
            found |= {f"b{gate}": (ones, from_inputs), f"c{gate}": (ones, recurrent)}
        return {name: factors for name, factors in found.items() if name in self.weights}


def _forward(
    cell: str,
    weights: Weights,
    inputs: np.ndarray,
    initial_states: Sequence[np.ndarray],
    update_gate: str,
    output_layer: bool = False,
) -> _Forward:
    """Check that everything goes together, and take the steps."""
    weights = {name: np.asarray(matrix, "float64") for name, matrix in weights.items()}
    inputs, states = np.asarray(inputs, "float64"), [np.asarray(state, "float64") for state in initial_states]
    _check(cell, weights, inputs, states, update_gate, output_layer)
    if update_gate == "write":
        weights = {name: -matrix if name.endswith("_z") else matrix for name, matrix in weights.items()}
    forward, gates = _Forward(cell, weights, inputs, states, [], update_gate == "write"), _gates(cell)
    kernel = CELLS[cell].spec.kernel
    for x in inputs:
        projected = [x @ weights[f"W{gate}"] + weights[f"b{gate}"] for gate in gates]
        if kernel is None:
            matrix = np.hstack([weights[f"U{gate}"] for gate in gates])
            batch = equations.gru_reset_before(np.hstack(projected)[None], states[0][None], matrix)
            step = type(batch)(*(value[0] for value in batch))
        else:
            recurrent = [states[0] @ weights[f"U{gate}"] + weights.get(f"c{gate}", 0.0) for gate in gates]
            step = kernel.gates(projected, recurrent, *states)
        forward.steps.append(type(step)(*map(np.asarray, step)))
        states = list(forward.steps[-1][: len(states)])
    return forward


def _reset_before_gradients(
    totals: Sequence[np.ndarray], previous: Sequence[np.ndarray], step: equations.GRUStep, matrix: np.ndarray
) -> StepGradients:
    """Differentiate the cell that has no kernel, because its second product waits for the first."""
    (total,), (h,) = totals, previous
    candidate = total * (1 - step.update) * (1 - step.candidate**2)
    of_past = candidate @ matrix.T
    reset = of_past * h * step.reset * (1 - step.reset)
    update = total * (h - step.candidate) * step.update * (1 - step.update)
    # The caller adds of_past, as though h were on the left of U_n; only r * h is.
    return StepGradients([total * step.update + of_past * (step.reset - 1)], [[update, reset, candidate]])


def _gates(cell: str) -> list[str]:
    """Return what stands after W, U and b in the names of a cell's matrices, in the order in which Keras packs them."""
    if cell not in CELLS:
        raise ArgumentError("cell", f"one of {', '.join(CELLS)}", cell)
    return ["" if block == "state" else f"_{equations.GATES[block].symbol}" for block in CELLS[cell].spec.blocks]


def _check(
    cell: str, weights: Weights, inputs: np.ndarray, states: list[np.ndarray], update_gate: str, output_layer: bool
) -> None:
    """Refuse arrays that do not go together."""
    gates = _gates(cell)
    readings = equations.UPDATE_GATES if "_z" in gates else ("keep",)
    if update_gate not in readings:
        raise ArgumentError("update_gate", f"one of {', '.join(readings)} for {cell}", update_gate)
    if inputs.ndim != 2 or not len(inputs):
        raise ArgumentError("inputs", "(steps, features) with one step or more", inputs.shape)
    num_states = CELLS[cell].spec.num_states
    if len(states) != num_states:
        raise ArgumentError(
            "initial_states", f"{num_states} arrays for {cell}", len(states), "Give zeros to start from nothing."
        )
    units = states[0].size
    of_letter: dict[str, tuple[int, ...]] = {"W": (inputs.shape[1], units), "U": (units, units), "b": (units,)}
    if CELLS[cell].spec.has_recurrent_bias:
        of_letter["c"] = (units,)
    shapes = {letter + gate: shape for letter, shape in of_letter.items() for gate in gates}
    if output_layer:
        num_labels = np.size(weights.get("b_V", ()))
        shapes |= {"V": (units, num_labels), "b_V": (num_labels,)}
    if set(weights) != set(shapes):
        advice = "split_weights gives them; an output layer adds V and b_V."
        raise ArgumentError("weights", f"{', '.join(shapes)} for {cell}", ", ".join(weights), advice)
    for name, shape in shapes.items():
        _check_shape(f"weights[{name!r}]", weights[name], shape, "The sizes of inputs, states and matrices must agree.")
    for state in states:
        _check_shape("initial_states", state, (units,), "Give one number a unit.")


def _check_shape(argument: str, array: np.ndarray, shape: Sequence[int], advice: str) -> None:
    if array.shape != tuple(shape):
        raise ArgumentError(argument, f"of shape {tuple(shape)}", array.shape, advice)
