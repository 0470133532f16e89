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
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from seq2seq.layers.equations import UPDATE_GATES

Weights = Mapping[str, np.ndarray]
Factors = dict[str, tuple[np.ndarray | float, np.ndarray]]


class Back(NamedTuple):
    """What a step hands back.

    Whole gradients of its new states and gradients of the previous states through it, each `(units,)`, and left and
    delta of each matrix.
    """

    of_states: tuple[np.ndarray, ...]
    of_previous_states: tuple[np.ndarray, ...]
    factors: Factors


class Step(NamedTuple):
    """States and gates by name, each `(units,)`, and the way back: gradients of the new states in, a `Back` out."""

    values: dict[str, np.ndarray]
    back: Callable[..., Back]


def rnn(weights: Weights, x: np.ndarray, states: Sequence[np.ndarray], _update_gate: str) -> Step:
    """Plain recurrent network (Elman 1990).

        a  = x W + h U + b
        h' = tanh(a)

    Back: tanh has slope 1 - h'^2, and h stands in one product.

        delta = d * (1 - h'^2)
        dL/dh = delta U^T
    """
    w = weights
    (h,) = states
    new_h = np.tanh(x @ w["W"] + h @ w["U"] + w["b"])

    def back(d: np.ndarray) -> Back:
        delta = d * (1 - new_h**2)
        return Back((d,), (delta @ w["U"].T,), {"W": (x, delta), "U": (h, delta), "b": (1.0, delta)})

    return Step({"state": new_h}, back)


def lstm(weights: Weights, x: np.ndarray, states: Sequence[np.ndarray], _update_gate: str) -> Step:
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

        i, f, o = sigma(x W_k + h U_k + b_k)     for k = i, f, o: input, forget and output gate
        g  = tanh(x W_g + h U_g + b_g)           candidate
        c' = f * c + i * g
        h' = o * tanh(c')

    Back: c' goes on to the next step, which hands back e = dL/dc', and into h', which adds to it.

        e       = e + d * o * (1 - tanh(c')^2)
        delta_o = d * tanh(c') * o (1 - o)
        delta_i = e * g * i (1 - i)
        delta_f = e * c * f (1 - f)
        delta_g = e * i * (1 - g^2)
        dL/dc   = e * f                          no matrix on this path: what f keeps, the gradient keeps
        dL/dh   = sum_k delta_k U_k^T
    """
    w = weights
    h, c = states
    i = _sigma(x @ w["W_i"] + h @ w["U_i"] + w["b_i"])
    f = _sigma(x @ w["W_f"] + h @ w["U_f"] + w["b_f"])
    g = np.tanh(x @ w["W_g"] + h @ w["U_g"] + w["b_g"])
    o = _sigma(x @ w["W_o"] + h @ w["U_o"] + w["b_o"])
    new_c = f * c + i * g
    new_h = o * np.tanh(new_c)

    def back(d: np.ndarray, e: np.ndarray) -> Back:
        e = e + d * o * (1 - np.tanh(new_c) ** 2)
        delta_o = d * np.tanh(new_c) * o * (1 - o)
        delta_i = e * g * i * (1 - i)
        delta_f = e * c * f * (1 - f)
        delta_g = e * i * (1 - g**2)
        gradient_of_h = delta_i @ w["U_i"].T + delta_f @ w["U_f"].T + delta_g @ w["U_g"].T + delta_o @ w["U_o"].T
        factors = _factors(x, h, i=delta_i, f=delta_f, g=delta_g, o=delta_o)
        return Back((d, e), (gradient_of_h, e * f), factors)

    values = {"state": new_h, "cell_state": new_c, "input_gate": i, "forget_gate": f, "candidate": g, "output_gate": o}
    return Step(values, back)


def gru(weights: Weights, x: np.ndarray, states: Sequence[np.ndarray], update_gate: str) -> Step:
    """Gated recurrent unit whose reset gate acts after the recurrent product (Cho et al. 2014, as in cuDNN).

        z  = sigma(x W_z + b_z + h U_z + c_z)    update
        r  = sigma(x W_r + b_r + h U_r + c_r)    reset
        q  = h U_n + c_n                         what the candidate could see of the past
        n  = tanh(x W_n + b_n + r * q)           candidate
        h' = k * h + (1 - k) * n                 k, the share kept, is z ("keep") or 1 - z ("write")

    Back: h stands in four places, on the direct path and in three products. dk/dz is 1 ("keep") or -1 ("write").

        delta_n = d * (1 - k) * (1 - n^2)
        delta_q = delta_n * r                    q is itself a product, with no squashing of its own
        delta_r = delta_n * q * r (1 - r)
        delta_z = d * (h - n) * dk/dz * z (1 - z)
        dL/dh   = d * k + delta_z U_z^T + delta_r U_r^T + delta_q U_n^T

    What W_n and b_n get of the candidate is delta_n; U_n and c_n, behind the reset gate, get delta_q.
    """
    w = weights
    (h,) = states
    z = _sigma(x @ w["W_z"] + w["b_z"] + h @ w["U_z"] + w["c_z"])
    r = _sigma(x @ w["W_r"] + w["b_r"] + h @ w["U_r"] + w["c_r"])
    q = h @ w["U_n"] + w["c_n"]
    n = np.tanh(x @ w["W_n"] + w["b_n"] + r * q)
    k, slope_of_k = _share_kept(z, update_gate)

    def back(d: np.ndarray) -> Back:
        delta_n = d * (1 - k) * (1 - n**2)
        delta_q = delta_n * r
        delta_r = delta_n * q * r * (1 - r)
        delta_z = d * (h - n) * slope_of_k * z * (1 - z)
        gradient_of_h = d * k + delta_z @ w["U_z"].T + delta_r @ w["U_r"].T + delta_q @ w["U_n"].T
        factors = _factors(x, h, z=delta_z, r=delta_r, n=delta_n)
        factors |= {"U_n": (h, delta_q), "c_z": (1.0, delta_z), "c_r": (1.0, delta_r), "c_n": (1.0, delta_q)}
        return Back((d,), (gradient_of_h,), factors)

    values = {"state": k * h + (1 - k) * n, "update": z, "reset": r, "candidate": n, "recurrent_candidate": q}
    return Step(values, back)


def gru_reset_before(weights: Weights, x: np.ndarray, states: Sequence[np.ndarray], update_gate: str) -> Step:
    """Gated recurrent unit whose reset gate acts on the state, before the recurrent product (Cho et al. 2014).

        z  = sigma(x W_z + h U_z + b_z)          update
        r  = sigma(x W_r + h U_r + b_r)          reset
        p  = r * h                               what the candidate may see of the past
        n  = tanh(x W_n + p U_n + b_n)           candidate
        h' = k * h + (1 - k) * n                 k, the share kept, is z ("keep") or 1 - z ("write")

    Back: the reset gate is reached through the product with U_n, from which p gets delta_n U_n^T.

        delta_n = d * (1 - k) * (1 - n^2)
        dL/dp   = delta_n U_n^T
        delta_r = dL/dp * h * r (1 - r)
        delta_z = d * (h - n) * dk/dz * z (1 - z)
        dL/dh   = d * k + dL/dp * r + delta_z U_z^T + delta_r U_r^T

    The left side of U_n is p, not h.
    """
    w = weights
    (h,) = states
    z = _sigma(x @ w["W_z"] + h @ w["U_z"] + w["b_z"])
    r = _sigma(x @ w["W_r"] + h @ w["U_r"] + w["b_r"])
    p = r * h
    recurrent_candidate = p @ w["U_n"]
    n = np.tanh(x @ w["W_n"] + recurrent_candidate + w["b_n"])
    k, slope_of_k = _share_kept(z, update_gate)

    def back(d: np.ndarray) -> Back:
        delta_n = d * (1 - k) * (1 - n**2)
        gradient_of_p = delta_n @ w["U_n"].T
        delta_r = gradient_of_p * h * r * (1 - r)
        delta_z = d * (h - n) * slope_of_k * z * (1 - z)
        gradient_of_h = d * k + gradient_of_p * r + delta_z @ w["U_z"].T + delta_r @ w["U_r"].T
        factors = _factors(x, h, z=delta_z, r=delta_r, n=delta_n) | {"U_n": (p, delta_n)}
        return Back((d,), (gradient_of_h,), factors)

    values = {
        "state": k * h + (1 - k) * n,
        "update": z,
        "reset": r,
        "candidate": n,
        "recurrent_candidate": recurrent_candidate,
    }
    return Step(values, back)


def gru_simplified(weights: Weights, x: np.ndarray, states: Sequence[np.ndarray], update_gate: str) -> Step:
    """Gated recurrent unit without a reset gate: the candidate sees the whole past.

        z  = sigma(x W_z + h U_z + b_z)          update
        n  = tanh(x W_n + h U_n + b_n)           candidate
        h' = k * h + (1 - k) * n                 k, the share kept, is z ("keep") or 1 - z ("write")

    Back:

        delta_n = d * (1 - k) * (1 - n^2)
        delta_z = d * (h - n) * dk/dz * z (1 - z)
        dL/dh   = d * k + delta_z U_z^T + delta_n U_n^T
    """
    w = weights
    (h,) = states
    z = _sigma(x @ w["W_z"] + h @ w["U_z"] + w["b_z"])
    n = np.tanh(x @ w["W_n"] + h @ w["U_n"] + w["b_n"])
    k, slope_of_k = _share_kept(z, update_gate)

    def back(d: np.ndarray) -> Back:
        delta_n = d * (1 - k) * (1 - n**2)
        delta_z = d * (h - n) * slope_of_k * z * (1 - z)
        gradient_of_h = d * k + delta_z @ w["U_z"].T + delta_n @ w["U_n"].T
        return Back((d,), (gradient_of_h,), _factors(x, h, z=delta_z, n=delta_n))

    return Step({"state": k * h + (1 - k) * n, "update": z, "candidate": n}, back)


# What each cell carries from step to step, under the names that it has among a step's values.
STATES = {
    "rnn": ("state",),
    "lstm": ("state", "cell_state"),
    "gru": ("state",),
    "gru_reset_before": ("state",),
    "gru_simplified": ("state",),
}

STEPS = {
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
    "gru_reset_before": gru_reset_before,
    "gru_simplified": gru_simplified,
}


def _sigma(a: np.ndarray) -> np.ndarray:
    # The logistic function by way of tanh, which overflows nowhere.
    return (1 + np.tanh(a / 2)) / 2


def _share_kept(z: np.ndarray, update_gate: str) -> tuple[np.ndarray, float]:
    """k and dk/dz."""
    return (z, 1.0) if update_gate == "keep" else (1 - z, -1.0)


def _factors(x: np.ndarray, h: np.ndarray, **deltas: np.ndarray) -> Factors:
    """Left and delta of W_k, U_k and b_k for gates `sum of products + bias` of x and h."""
    factors: Factors = {}
    for gate, delta in deltas.items():
        factors |= {f"W_{gate}": (x, delta), f"U_{gate}": (h, delta), f"b_{gate}": (1.0, delta)}
    return factors


# What stands after W, U and b in the name of each block, in the order in which Keras packs the blocks.
BLOCKS = {
    "rnn": ("",),
    "lstm": ("_i", "_f", "_g", "_o"),
    "gru": ("_z", "_r", "_n"),
    "gru_reset_before": ("_z", "_r", "_n"),
    "gru_simplified": ("_z", "_n"),
}


def split_weights(
    cell: str, kernel: np.ndarray, recurrent_kernel: np.ndarray, bias: np.ndarray
) -> dict[str, np.ndarray]:
    """Give every matrix of a cell its own name, because a derivation is about W_z and U_n, not about packed arrays.

    The orientation stays that of Keras: vectors are rows and a product reads `x @ W`.

    Args:
        cell: `rnn`, `lstm`, `gru`, `gru_reset_before` or `gru_simplified`.
        kernel: `(features, blocks * units)`.
        recurrent_kernel: `(units, blocks * units)`.
        bias: `(blocks * units,)`; for `gru` `(2, 3 * units)`, the row of the inputs and the row of the states.

    Returns:
        Input matrices W `(features, units)`, recurrent matrices U `(units, units)` and biases b `(units,)` in float64.
        `rnn`: W, U, b. `lstm`: each with i (input), f (forget), g (candidate) and o (output): W_i, U_i, b_i, ... The
        GRU kinds: each with z (update), r (reset; not `gru_simplified`) and n (candidate): W_z, U_z, b_z, ...; `gru`
        also has the biases of its recurrent products, c_z, c_r and c_n.

    Raises:
        ValueError: There is no cell of that name, or an array does not have the shape that the cell's has.

    >>> matrices = split_weights("gru", np.zeros((3, 12)), np.zeros((4, 12)), np.zeros((2, 12)))
    >>> ", ".join(matrices)
    'W_z, W_r, W_n, U_z, U_r, U_n, b_z, b_r, b_n, c_z, c_r, c_n'
    >>> matrices["W_z"].shape, matrices["U_z"].shape, matrices["b_z"].shape
    ((3, 4), (4, 4), (4,))
    """
    check_cell(cell)
    blocks = BLOCKS[cell]
    kernel, recurrent_kernel, bias = (np.asarray(array, "float64") for array in (kernel, recurrent_kernel, bias))
    if kernel.ndim != 2 or recurrent_kernel.ndim != 2:
        raise ValueError(
            f"kernel and recurrent_kernel must be matrices, but have shapes {kernel.shape} and "
            f"{recurrent_kernel.shape} instead. Give them as Keras' {cell} layer holds them."
        )
    units = recurrent_kernel.shape[0]
    width = len(blocks) * units
    layout = f"Give it as Keras' layer holds it: {len(blocks)} blocks of {units} units beside each other."
    check_shape("kernel", kernel, (kernel.shape[0], width), layout)
    check_shape("recurrent_kernel", recurrent_kernel, (units, width), layout)
    check_shape("bias", bias, (2, width) if cell == "gru" else (width,), layout)
    packed = {"W": kernel, "U": recurrent_kernel}
    packed |= {"b": bias[0], "c": bias[1]} if cell == "gru" else {"b": bias}
    return {
        letter + block: part
        for letter, array in packed.items()
        for block, part in zip(blocks, np.split(array, len(blocks), axis=-1), strict=True)
    }


def shapes_of(cell: str, features: int, units: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every matrix that `split_weights` gives for a cell.

    >>> shapes_of("rnn", 3, 4)
    {'W': (3, 4), 'U': (4, 4), 'b': (4,)}
    """
    of_letter: dict[str, tuple[int, ...]] = {"W": (features, units), "U": (units, units), "b": (units,)}
    if cell == "gru":
        of_letter["c"] = (units,)
    return {letter + block: shape for letter, shape in of_letter.items() for block in BLOCKS[cell]}


def check_matrices(weights: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]], cell: str) -> None:
    """Hold a dict of matrices against the names and shapes that it must have."""
    if set(weights) != set(shapes):
        raise ValueError(
            f"weights of a cell {cell!r} must be {', '.join(shapes)}, but are {', '.join(weights) or 'none'} instead. "
            "split_weights gives them, and an output layer adds V and b_V."
        )
    for name, shape in shapes.items():
        advice = "The sizes of the inputs, of the states and of all matrices must agree."
        check_shape(f"weights[{name!r}]", np.asarray(weights[name]), shape, advice)


def check_cell(cell: str, update_gate: str = "keep") -> None:
    """Refuse a cell or an update gate that does not exist."""
    if cell not in BLOCKS:
        raise ValueError(f"cell must be one of {', '.join(BLOCKS)}, but is {cell!r} instead.")
    if update_gate not in UPDATE_GATES:
        raise ValueError(f'update_gate must be "keep" or "write", but is {update_gate!r} instead.')
    if update_gate == "write" and "_z" not in BLOCKS[cell]:
        raise ValueError(f'update_gate must be "keep" for a cell {cell!r}, which has none, but is "write" instead.')


def check_shape(name: str, array: np.ndarray, shape: Sequence[int], advice: str) -> None:
    """Refuse an array of another shape."""
    if array.shape != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)}, but has {array.shape} instead. {advice}")


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
