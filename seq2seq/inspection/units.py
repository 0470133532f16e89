"""What single units do in one sentence: how long they remember, and which are on across a span of its tokens."""

import dataclasses

import numpy as np

from seq2seq.inspection.trace import LayerTrace


@dataclasses.dataclass(frozen=True)
class UnitThreshold:
    """Where a unit counts as on: a state may be as strongly negative as positive, so a threshold has a side.

    Attributes:
        unit: Number of the unit in its layer, from 0.
        sign: 1: on above the threshold; -1: on below minus the threshold.
        threshold: What `sign * value` must exceed.
    """

    unit: int
    sign: int
    threshold: float

    def is_on(self, values: np.ndarray) -> np.ndarray:
        """Whether the unit is on, `(...)`, for the values of its layer, `(..., units)`.

        >>> UnitThreshold(unit=1, sign=-1, threshold=0.5).is_on(np.array([[0.9, -0.4], [0.0, -0.6]])).tolist()
        [False, True]
        """
        return self.sign * values[..., self.unit] > self.threshold


@dataclasses.dataclass(frozen=True)
class UnitSpan(UnitThreshold):
    """A unit that is on at every step of a span and off outside it.

    Attributes:
        inside: Its weakest value in the span, times `sign`.
        outside: Its strongest value outside, times `sign`; 0 where it has none on that side of 0.
    """

    inside: float
    outside: float

    @property
    def margin(self) -> float:
        """How far on and off are apart, in units of the state: every threshold between the two tells them apart."""
        return self.inside - self.outside


def half_lives(layer: LayerTrace, start: int = 0, stop: int | None = None) -> np.ndarray:
    """How many steps like those of this sentence, or of a span of it, it takes until half of what a unit holds is left.

    A cell with a gate keeps the share z_t of its past at step t, and of what it holds the product of n such shares
    after n steps. With g their geometric mean over the steps, half is left after n = log 2 / log(1 / g) steps. That
    is what the gate keeps; what a unit writes back to itself through the candidate is not counted. A unit that is
    written at one step and then held shows in a span that begins after that step, and hardly in the whole sentence.

    A plain RNN has no such gate, and its trace has no weights. There g is the autocorrelation of the unit's state from
    one step to the next: in a first-order autoregression h_t = g h_(t-1) + noise it is just the share that one step
    leaves of the state before. It cannot tell what is held from an input that stays the same, so do not set
    half-lives of the two kinds of cell against each other.

    Args:
        layer: The trace of a layer.
        start: First step of the span.
        stop: The step after its last; None: the end of the sentence.

    Returns:
        Half-lives in steps, `(units,)`: infinite for a unit that keeps everything at every step (a gate of one as
        float32 has it, a state that never moves), 0 for one that keeps nothing at some step (or whose state shows no
        positive autocorrelation).

    Raises:
        ValueError: for an empty span or one outside the sentence.

    >>> kept = np.array([[0.5, 1.0], [0.5, 1.0]])
    >>> layer = LayerTrace("encoder.forward_0", "gru", "keep", ("a", "</s>"), {"state": kept, "update": kept})
    >>> half_lives(layer).tolist()
    [1.0, inf]
    """
    span = _span(layer, start, stop)
    share = _autocorrelation(layer.values["state"][span]) if layer.kept is None else layer.kept[span]
    with np.errstate(divide="ignore"):
        halvings = np.log2(1 / share.astype("float64")).mean(axis=0)
        return 1 / halvings


def units_on(
    layer: LayerTrace, start: int, stop: int, field: str = "state", around: int | None = None
) -> list[UnitSpan]:
    """The units that stay on across a span of tokens and are off outside it.

    The question of LSTMVis (Strobelt et al. 2016, arXiv 1606.07461), without its threshold: a unit belongs here if any
    threshold, above 0 or below, holds it on at each step of the span and off at each other one, and the further apart
    on and off are, the better. 0 is off, because every sentence starts there: a unit that is weak in the span gains
    nothing by being strong on the other side of 0 elsewhere.

    Args:
        layer: The trace of a layer.
        start: First step of the span.
        stop: The step after its last.
        field: Which gate or state to read; a state of either sign, or a gate, which is on near one.
        around: At how many steps on either side of the span a unit must be off; None: at all of them. Few units of a
            trained model are on across a long span and nowhere else in the sentence.

    Returns:
        The units, the widest margin first, each with a threshold halfway between on and off. Empty where no unit
        does it.

    Raises:
        ValueError: for an empty span, one outside the sentence, an unknown field, or a negative `around`.

    >>> state = np.array([[0.1, 0.2], [0.9, -0.8], [0.7, -0.9], [0.2, 0.3]])
    >>> layer = LayerTrace("encoder.forward_0", "gru", "keep", ("a", "b", "c", "</s>"), {"state": state})
    >>> [(found.unit, found.sign, round(found.margin, 2)) for found in units_on(layer, 1, 3)]
    [(1, -1, 0.8), (0, 1, 0.5)]
    """
    if around is not None and around < 0:
        raise ValueError(f"around must be 0 or more steps, or None for all, but is {around} instead.")
    values = layer.field(field).astype("float64")
    span = _span(layer, start, stop)
    reach = len(values) if around is None else around
    outside_values = np.concatenate([values[max(0, start - reach) : start], values[stop : stop + reach]])
    found = []
    for sign in (1, -1):
        inside = (sign * values[span]).min(axis=0)
        outside = (sign * outside_values).max(axis=0, initial=0.0)
        for unit in np.flatnonzero(inside > outside).tolist():
            halfway = float(inside[unit] + outside[unit]) / 2
            found.append(UnitSpan(unit, sign, halfway, float(inside[unit]), float(outside[unit])))
    return sorted(found, key=lambda unit: (-unit.margin, unit.unit))


def _span(layer: LayerTrace, start: int, stop: int | None) -> slice:
    steps = len(layer.tokens)
    stop = steps if stop is None else stop
    if not 0 <= start < stop <= steps:
        raise ValueError(
            f"start and stop must be 0 <= start < stop <= {steps} in a sentence of {steps} tokens, but are {start} and "
            f"{stop} instead."
        )
    return slice(start, stop)


def _autocorrelation(state: np.ndarray) -> np.ndarray:
    """From one step to the next, `(1, units)`: 1 for a unit that never moves, 0 for a negative one."""
    # Less its first value, a unit that never moves is exactly 0, which less a rounded mean it would not be.
    moved = state.astype("float64") - state[:1]
    moved -= moved.mean(axis=0)
    variance = (moved**2).sum(axis=0, keepdims=True)
    covariance = (moved[1:] * moved[:-1]).sum(axis=0, keepdims=True)
    return np.where(variance > 0, np.maximum(covariance, 0) / np.where(variance > 0, variance, 1), 1.0)
