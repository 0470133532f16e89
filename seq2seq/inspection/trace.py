"""Every gate and state of a trained model, token by token, in arrays."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LayerTrace:
    """What one recurrent layer did in one sentence.

    Attributes:
        name: Where it stands: `encoder.forward_0`, `encoder.backward_0`, `decoder.recurrent_0`, ...
        cell: Name of its cell.
        update_gate: Whether an update gate of one keeps the past (`keep`) or writes the candidate (`write`).
        tokens: The piece that each step reads, in the order of the sentence, whichever way the layer reads.
        values: Every gate and state by name, each `(steps, units)`; `state` is what the layer hands on.
    """

    name: str
    cell: str
    update_gate: str
    tokens: tuple[str, ...]
    values: dict[str, np.ndarray]

    @property
    def kept(self) -> np.ndarray | None:
        """Share of its past that each unit keeps at each step, `(steps, units)`; None where the cell has no such gate."""
        if "forget_gate" in self.values:
            return self.values["forget_gate"]
        if "update" not in self.values:
            return None
        return self.values["update"] if self.update_gate == "keep" else 1 - self.values["update"]


@dataclasses.dataclass(frozen=True)
class Trace:
    """What a model did with one source and one target.

    Attributes:
        source: The source text.
        target: The target text: the model's own translation where none was given.
        source_tokens: Its pieces, the end token last.
        target_tokens: The pieces that the decoder writes, the end token last.
        layers: The recurrent layers by name, the encoder's first. A step of a decoder's layer reads the piece before
            the one that it writes.
        attention: Weights, `(target_steps, source_steps)`; None where the context is the same at every step.
        log_probs: Log-probability of each target token, `(target_steps,)`.
    """

    source: str
    target: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    layers: dict[str, LayerTrace]
    attention: np.ndarray | None
    log_probs: np.ndarray
