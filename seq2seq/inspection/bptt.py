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
   previous state gets from them, stand in `bptt_cells.py`, each right below its equations: for the plain network,
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

Werbos 1990, "Backpropagation through time: what it does and how to do it". The cells: Elman 1990; Hochreiter and
Schmidhuber 1997 and, for the forget gate, Gers et al. 2000, both of whom cut the gradient short where it enters the
gates (here it is whole, as in Graves and Schmidhuber 2005); Cho et al. 2014 (arXiv 1406.1078).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from seq2seq.inspection.bptt_cells import STATES, STEPS, Step
from seq2seq.inspection.matrices import check_cell, check_matrices, check_shape, shapes_of

Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class BackPropagation:
    """The gradients of one sequence.

    Attributes:
        values: Every state and gate of the way forward by name, each `(steps, units)`.
        factors: left `(steps, rows)`, or ones `(steps,)` for a bias, and delta `(steps, units)` of each matrix: all
            that its gradient is made of.
        gradients_of_states: The whole dL/dh_t, from outside and from later steps, `(steps, units)`.
        gradients_of_cell_states: The whole dL/dc_t of an LSTM, `(steps, units)`; None for another cell.
        gradients_of_inputs: dL/dx_t, `(steps, features)`.
        gradients_of_initial_states: dL/dh_0, and dL/dc_0 for an LSTM, each `(units,)`.
    """

    values: dict[str, np.ndarray]
    factors: dict[str, tuple[np.ndarray, np.ndarray]]
    gradients_of_states: np.ndarray
    gradients_of_cell_states: np.ndarray | None
    gradients_of_inputs: np.ndarray
    gradients_of_initial_states: tuple[np.ndarray, ...]

    @property
    def contributions(self) -> dict[str, np.ndarray]:
        """What each step adds to each matrix's gradient, outer(left_t, delta_t): `(steps, *shape of the matrix)`."""
        return {name: np.einsum("t...,tu->t...u", left, delta) for name, (left, delta) in self.factors.items()}

    @property
    def gradients(self) -> dict[str, np.ndarray]:
        """The gradient of each matrix, left^T delta: the sum of its contributions over all steps."""
        return {name: np.tensordot(left, delta, axes=(0, 0)) for name, (left, delta) in self.factors.items()}


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

    Args:
        cell: `rnn`, `lstm`, `gru`, `gru_reset_before` or `gru_simplified`.
        weights: Every matrix by name, as `split_weights` gives them.
        inputs: x_1 ... x_T in the order in which the cell reads them, `(steps, features)`.
        initial_states: `[h_0]`, for an LSTM `[h_0, c_0]`, each `(units,)`.
        outside_gradients: What reaches each h_t from outside the recurrence, `(steps, units)`.
        update_gate: Whether an update gate of one keeps the past (`keep`) or writes the candidate (`write`).
        outside_gradients_of_cell_states: The same for each c_t of an LSTM, without what c_t does through h_t; None:
            nothing reaches them.

    Raises:
        ValueError: There is no such cell or update gate, or an array has a shape that does not go with the others.

    >>> weights = {"W": np.ones((1, 1)), "U": np.full((1, 1), 0.5), "b": np.zeros(1)}
    >>> result = back_propagate("rnn", weights, np.zeros((3, 1)), [np.zeros(1)], np.array([[0.0], [0.0], [1.0]]))
    >>> result.gradients_of_states.tolist()
    [[0.25], [0.5], [1.0]]
    """
    weights, inputs, states = _checked(cell, weights, inputs, initial_states, update_gate)
    steps = _forward(cell, weights, inputs, states, update_gate)
    shape = (len(inputs), len(states[0]))
    outside = {"state": np.asarray(outside_gradients, "float64")}
    if outside_gradients_of_cell_states is not None:
        if "cell_state" not in STATES[cell]:
            raise ValueError(
                f"outside_gradients_of_cell_states must be None for a cell {cell!r}, which has no cell state, but is "
                "an array instead. Leave it out."
            )
        outside["cell_state"] = np.asarray(outside_gradients_of_cell_states, "float64")
    for name, gradients in outside.items():
        advice = "Give one row a step and one column a unit."
        check_shape(f"The gradient from outside of each {name}", gradients, shape, advice)
    return _backward(steps, weights, [outside.get(name, np.zeros(shape)) for name in STATES[cell]])


def back_propagate_labels(
    cell: str,
    weights: Weights,
    inputs: np.ndarray,
    initial_states: Sequence[np.ndarray],
    labels: np.ndarray,
    update_gate: str = "keep",
) -> tuple[np.ndarray, BackPropagation]:
    """The whole textbook network: a cell, a softmax on its states, and the label that each step should have given.

    Args:
        cell, inputs, initial_states, update_gate: As in `back_propagate`.
        weights: Those of the cell and of the output layer: V `(units, labels)` and its bias b_V `(labels,)`.
        labels: The right label of each step, whole numbers from zero, `(steps,)`.

    Returns:
        The loss -log y_t[label_t] of each step in nats, `(steps,)`, and the gradients of their sum: of the cell's
        matrices and of V and b_V.

    Raises:
        ValueError: As in `back_propagate`, or labels are not one whole number a step that V has a column for.

    >>> weights = {"W": np.ones((1, 1)), "U": np.ones((1, 1)), "b": np.zeros(1)}
    >>> weights |= {"V": np.zeros((1, 4)), "b_V": np.zeros(4)}
    >>> labels = np.array([0, 1, 0])
    >>> losses, result = back_propagate_labels("rnn", weights, np.ones((3, 1)), [np.zeros(1)], labels)
    >>> losses.round(3).tolist(), result.gradients["b_V"].tolist(), result.contributions["V"].shape
    ([1.386, 1.386, 1.386], [-1.25, -0.25, 0.75, 0.75], (3, 1, 4))
    """
    weights, inputs, states = _checked(cell, weights, inputs, initial_states, update_gate, output_layer=True)
    labels = _checked_labels(labels, len(inputs), weights["V"].shape[1])
    steps = _forward(cell, weights, inputs, states, update_gate)
    outputs = np.stack([step.values["state"] for step in steps])
    logits = outputs @ weights["V"] + weights["b_V"]
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    delta = np.exp(log_probs) - np.eye(logits.shape[1])[labels]
    nothing = [np.zeros_like(outputs) for _ in states[1:]]
    result = _backward(steps, weights, [delta @ weights["V"].T, *nothing])
    of_output_layer = {"V": (outputs, delta), "b_V": (np.ones(len(delta)), delta)}
    return -log_probs[np.arange(len(labels)), labels], dataclasses.replace(
        result, factors=result.factors | of_output_layer
    )


def _forward(
    cell: str, weights: Weights, inputs: np.ndarray, states: Sequence[np.ndarray], update_gate: str
) -> list[Step]:
    steps = []
    for x in inputs:
        step = STEPS[cell](weights, x, states, update_gate)
        states = [step.values[name] for name in STATES[cell]]
        steps.append(step)
    return steps


def _backward(steps: Sequence[Step], weights: Weights, outside: Sequence[np.ndarray]) -> BackPropagation:
    """From the last step to the first; `outside` is `(steps, units)` for each state that the cell carries."""
    through_next_step = tuple(np.zeros_like(gradients[0]) for gradients in outside)
    backs = []
    for t in reversed(range(len(steps))):
        arriving = [gradients[t] + later for gradients, later in zip(outside, through_next_step, strict=True)]
        back = steps[t].back(*arriving)
        through_next_step = back.of_previous_states
        backs.append(back)
    backs.reverse()
    factors = {
        name: (np.stack([back.factors[name][0] for back in backs]), np.stack([back.factors[name][1] for back in backs]))
        for name in backs[0].factors
    }
    gradients_of_states = [np.stack(of_state) for of_state in zip(*(back.of_states for back in backs), strict=True)]
    return BackPropagation(
        values={name: np.stack([step.values[name] for step in steps]) for name in steps[0].values},
        factors=factors,
        gradients_of_states=gradients_of_states[0],
        gradients_of_cell_states=gradients_of_states[1] if len(outside) == 2 else None,
        gradients_of_inputs=np.sum([factors[name][1] @ weights[name].T for name in factors if name[0] == "W"], axis=0),
        gradients_of_initial_states=through_next_step,
    )


def _checked(
    cell: str,
    weights: Weights,
    inputs: np.ndarray,
    initial_states: Sequence[np.ndarray],
    update_gate: str,
    output_layer: bool = False,
) -> tuple[dict[str, np.ndarray], np.ndarray, list[np.ndarray]]:
    """Weights, inputs and initial states in float64, once they are known to go together."""
    check_cell(cell, update_gate)
    weights = {name: np.asarray(matrix, "float64") for name, matrix in weights.items()}
    inputs = np.asarray(inputs, "float64")
    states = [np.asarray(state, "float64") for state in initial_states]
    if inputs.ndim != 2 or not len(inputs):
        raise ValueError(f"inputs must be (steps, features), one step or more, but have shape {inputs.shape} instead.")
    if len(states) != len(STATES[cell]):
        raise ValueError(
            f"initial_states of a cell {cell!r} must be {len(STATES[cell])} arrays ({', '.join(STATES[cell])}), "
            f"but are {len(states)} instead. Give zeros where a sequence starts from nothing."
        )
    units = states[0].size
    shapes = shapes_of(cell, inputs.shape[1], units)
    if output_layer:
        num_labels = np.size(weights.get("b_V", ()))
        shapes |= {"V": (units, num_labels), "b_V": (num_labels,)}
    check_matrices(weights, shapes, cell)
    for name, state in zip(STATES[cell], states, strict=True):
        check_shape(f"The initial {name}", state, (units,), "Give one number a unit.")
    return weights, inputs, states


def _checked_labels(labels: np.ndarray, steps: int, num_labels: int) -> np.ndarray:
    labels = np.asarray(labels)
    check_shape("labels", labels, (steps,), "Give one label a step.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be whole numbers, but are of type {labels.dtype} instead.")
    if labels.min() < 0 or labels.max() >= num_labels:
        raise ValueError(
            f"labels must be from 0 to {num_labels - 1}, one for each column of V, but go from {labels.min()} to "
            f"{labels.max()} instead."
        )
    return labels
