"""The learning rate as a function of the step."""

import math


def learning_rate(
    step: int,
    *,
    schedule: str,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    final_share: float = 0.02,
    plateau_factor: float = 0.5,
    reductions: int = 0,
) -> float:
    """The learning rate of one step: up in a straight line to `peak`, then on as the schedule says.

        constant             peak
        cosine               from peak down to final_share * peak at total_steps, along half a cosine
        inverse_square_root  peak * sqrt(warmup_steps / step)
        plateau              peak * plateau_factor ** reductions

    Args:
        step: Number of the step, from 0.
        schedule: `constant`, `cosine`, `inverse_square_root` or `plateau`.
        peak: The highest rate.
        warmup_steps: Steps on the way up.
        total_steps: Steps of the whole run; a cosine ends there.
        final_share: What is left of `peak` at the end of a cosine.
        plateau_factor: What a plateau multiplies the rate by.
        reductions: Plateaus so far, see `is_plateau`.

    >>> [round(learning_rate(s, schedule="cosine", peak=1.0, warmup_steps=2, total_steps=10), 2) for s in (0, 1, 6, 10)]
    [0.5, 1.0, 0.51, 0.02]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    if schedule == "plateau":
        return peak * plateau_factor**reductions
    if schedule == "inverse_square_root":
        return peak * math.sqrt(max(warmup_steps, 1) / max(step, 1))
    share = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    return peak * (final_share + (1 - final_share) * (1 + math.cos(math.pi * share)) / 2)


def is_plateau(evaluations_without_gain: int, patience: int) -> bool:
    """Whether an evaluation without gain is the one that lowers the rate: every `patience` of them in a row.

    >>> [is_plateau(evaluations, patience=2) for evaluations in range(5)]
    [False, False, True, False, True]
    """
    return evaluations_without_gain > 0 and evaluations_without_gain % patience == 0
