"""One step of every cell and, right below it, the way back through that step, derived by hand.

`bptt.py` says how the steps make up back-propagation through time. Here, for one step: x is its input, h the previous
state, d the gradient dL/dh' of its new state, delta_k the gradient of what stands inside gate k's squashing function.
Vectors are rows. From sigma' = sigma (1 - sigma) and tanh' = 1 - tanh^2, the slope of a gate follows from its value.

Each matrix stands in one product, `left @ M`, and gets outer(left, delta); the product's left side gets delta @ M.T.
So a step hands back left and delta of each matrix; a bias multiplies one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

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
