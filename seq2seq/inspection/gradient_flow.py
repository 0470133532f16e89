"""The way of the loss's gradient back through the time of each recurrent layer of a trained model."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from seq2seq.errors import ArgumentError
from seq2seq.inspection.bptt import BackPropagation, back_propagate, split_weights
from seq2seq.inspection.recorder import Recorder, Recording, sentence_order
from seq2seq.models.base import TextModel

VANISHING, EXPLODING = 0.9, 1.1
"""Rates that leave a tenth of a gradient, or make ten times as much of it, in some 22 steps."""


@dataclasses.dataclass(frozen=True)
class LayerFlow:
    """Gradients of one layer's states, in the order of the sentence.

    `norms` are |dL/dh_t|: how much the loss changes with the state of each step. `rates` are |dL/ds_{t-1}| along the
    recurrence over |dL/ds_t|, with s all that the cell carries (h, and c of an LSTM): what one step back in time leaves
    of the gradient. They are NaN at the step that the layer reads first, and where no gradient arrives; `rate` is their
    geometric mean.
    """

    name: str
    tokens: tuple[str, ...]
    norms: np.ndarray
    rates: np.ndarray
    rate: float

    @property
    def verdict(self) -> str:
        """`vanishing` below a rate of 0.9, `exploding` above 1.1, `steady` between them, `unknown` without a rate."""
        if np.isnan(self.rate):
            return "unknown"
        if self.rate < VANISHING:
            return "vanishing"
        return "exploding" if self.rate > EXPLODING else "steady"


@dataclasses.dataclass(frozen=True)
class GradientFlow:
    """Gradients of one sentence's loss (cross entropy a target token, without label smoothing) in each layer.

    `gradient_norm` is that of all weights together, `clip_norm` the largest that training let through (0: any).
    `evidence` is the gradient of the target's mean log-probability by the embedded source, times the embedded source,
    at each step of the encoder's first layer.
    """

    source: str
    target: str
    loss: float
    layers: dict[str, LayerFlow]
    gradient_norm: float
    clip_norm: float
    evidence: np.ndarray

    @property
    def clip_factor(self) -> float:
        """Factor that clipping multiplies every gradient of this sentence by; 1 leaves them as they are."""
        return min(1.0, self.clip_norm / self.gradient_norm) if self.clip_norm and self.gradient_norm else 1.0


def gradient_flow(
    model: TextModel | Recorder, source: str, target: str | None = None, clip_norm: float | None = None
) -> GradientFlow:
    """Measure |dL/dh_t| in every recurrent layer, and the rate at which the recurrence loses or gains it.

    A state reaches the loss in two ways, through what reads it at its step and through the next state. `norms` count
    both; `rates` look at the second alone, so that attention, which reaches every step directly, cannot hide a
    recurrence in which gradients vanish (Bengio et al. 1994; Pascanu et al. 2013, arXiv 1211.5063).

    Without `clip_norm`, clipping is that of the run that trained the model.
    """
    return flow_of(_record(model, source, target), clip_norm)


def flow_of(recording: Recording, clip_norm: float | None = None) -> GradientFlow:
    """Measure the flow in a recording with gradients."""
    model, gradients = recording.model, recording.require_gradients()
    if clip_norm is None:
        clip_norm = model.recipe.get("training", {}).get("clip_norm", 0.0)
    layers = {}
    for name, layer in model.recurrent_layers.items():
        norms, rates = norms_and_rates(gradients.states[name], gradients.previous_states[name])
        known = rates[np.isfinite(rates)]
        with np.errstate(divide="ignore"):
            rate = float(np.exp(np.log(known).mean())) if len(known) else float("nan")
        norms, rates = sentence_order(layer, norms), sentence_order(layer, rates)
        layers[name] = LayerFlow(name, recording.layer_tokens(name, 0), norms, rates, rate)
    # Dense, because the rows of a token that occurs twice must be added up before they are squared.
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients.weights]
    (source,), (target,) = recording.sentences.sources, recording.sentences.targets
    norm = float(tf.linalg.global_norm(dense))
    return GradientFlow(source, target, gradients.loss, layers, norm, clip_norm, gradients.evidence)


def norms_and_rates(states: np.ndarray, previous: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return |dL/dh_t| and the rates, `(steps,)` each, in the order in which the layer takes its steps."""
    norms = np.linalg.norm(states, axis=1)
    rates = np.full(len(norms), np.nan)
    # Nothing arrives at the last cell state; at every other arrives all that the next step passes on.
    cell_states = [np.vstack([passed[1:], np.zeros_like(passed[:1])])[1:] for passed in previous[1:]]
    arriving = np.linalg.norm(np.hstack([states[1:], *cell_states]), axis=1)
    passed_on = np.linalg.norm(np.hstack([passed[1:] for passed in previous]), axis=1)
    np.divide(passed_on, arriving, out=rates[1:], where=arriving > 0)
    return norms, rates


def back_propagate_layer(
    model: TextModel | Recorder, layer: str, source: str, target: str | None = None
) -> BackPropagation:
    """Back-propagate by hand through one layer of a trained model, on one sentence, in the order in which it reads.

    Autodiff gives what reaches each state from outside the recurrence (from the layer above, from attention, from the
    loss); from there on `bptt.back_propagate` walks back by the written-out derivation.
    """
    recorder = Recorder.of(model)
    layers = recorder.raw.recurrent_layers
    if layer not in layers:
        raise ArgumentError("layer", f"one of {', '.join(layers)}", layer)
    recording = _record(recorder, source, target)
    gradients = recording.require_gradients()
    recurrent, records = layers[layer], recording.steps[layer]
    along_the_recurrence = np.roll(gradients.previous_states[layer][0], -1, axis=0)
    along_the_recurrence[-1] = 0
    return back_propagate(
        recurrent.cell_name,
        split_weights(recurrent.cell_name, *(weight.numpy() for weight in recurrent.cell.weights)),
        np.concatenate([record.inputs.numpy() for record in records]),
        [state.numpy()[0] for state in records[0].states],
        gradients.states[layer] - along_the_recurrence,
        recurrent.update_gate,
    )


def _record(model: TextModel | Recorder, source: str, target: str | None) -> Recording:
    return Recorder.of(model).record([source], None if target is None else [target], gradients=True)
