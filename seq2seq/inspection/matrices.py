"""The matrices of a recurrent cell by the names that equations give them, taken out of Keras' packed arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from seq2seq.layers.equations import UPDATE_GATES

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
