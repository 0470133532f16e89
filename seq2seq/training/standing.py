"""Where a run stands: together with the numbers of its step, all that a resumed run needs to know."""

import dataclasses


@dataclasses.dataclass
class Standing:
    """Counts of a run, and what it has found so far.

    Args:
        epoch: The epoch it is in, from 0.
        batch: Batches of that epoch that it has read.
        updates: Steps that have changed the weights.
        seconds: Time of training so far.
        timed_tokens: Target tokens of the steps whose time was taken.
        timed_seconds: That time.
        best: The best score so far.
        best_model: The file of its model, in the state's folder.
        evaluated: Updates at the last evaluation.
        evaluations_without_gain: Evaluations since the best one.
        rate_reductions: Times that the schedule `plateau` has lowered the learning rate.
        averaged: Of how many evaluations' weights the best model is the mean; 0: it is that of one.
        finished: Whether there is nothing left to train.
        skipped: Steps left out because their loss or gradient was no finite number.
        skipped_in_a_row: Those since the last update.
        overflows: Steps left out only because the loss was scaled too much for float16; they are not among the skipped.
        returns: Times that the run went back to a state because too many were skipped in a row.
        rate_factor: What every learning rate is multiplied by, lower after each return.
        workers: In how many parts each batch is computed; another machine that goes on with the run takes as many,
            since other parts would round otherwise and drop other units.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    seconds: float = 0.0
    timed_tokens: float = 0.0
    timed_seconds: float = 0.0
    best: float | None = None
    best_model: str | None = None
    evaluated: int = 0
    evaluations_without_gain: int = 0
    rate_reductions: int = 0
    averaged: int = 0
    finished: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    overflows: int = 0
    returns: int = 0
    rate_factor: float = 1.0
    workers: int = 1

    @property
    def target_tokens_per_second(self) -> float | None:
        """Target tokens, padding not counted, over the seconds of the steps that read them.

        Evaluations, and the first steps after each start or resumption, are left out; None: no step is left.
        """
        return self.timed_tokens / self.timed_seconds if self.timed_seconds else None

    def gone_back(self, to: "Standing", factor: float) -> "Standing":
        """The standing of a state to which a run returns: time and what went wrong count on.

        Args:
            to: As the state was saved.
            factor: What the learning rate is lowered by.
        """
        return dataclasses.replace(
            to,
            seconds=self.seconds,
            timed_tokens=self.timed_tokens,
            timed_seconds=self.timed_seconds,
            skipped=self.skipped,
            overflows=self.overflows,
            returns=self.returns + 1,
            rate_factor=self.rate_factor * factor,
        )
