"""How the gradient of the loss travels back through the time of each recurrent layer of a trained model."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from seq2seq.inspection.bptt import BackPropagation, back_propagate, split_weights
from seq2seq.inspection.recording import Recording, Sentences, encode_sentences, record
from seq2seq.inspection.trace import layer_reductions, layer_tokens, sentence_tokens
from seq2seq.layers import Recurrent
from seq2seq.models.base import TextModel
from seq2seq.text.dataset import pad
from seq2seq.text.ids import PAD_ID

READ_EMBEDDINGS = ("encoder.forward_0", "encoder.backward_0")
VANISHING, EXPLODING = 0.9, 1.1
"""Rates at which a tenth is left, or ten times as much has come, after some 22 steps."""


@dataclasses.dataclass(frozen=True)
class LayerFlow:
    """How the gradient fares in one layer, in the order of the sentence.

    Attributes:
        name: Where the layer stands, as in `LayerTrace`.
        tokens: The piece that each step reads.
        norms: |dL/dh_t|, `(steps,)`: how much the loss would change with the state of that step.
        rates: |dL/ds_{t-1}| along the recurrence over |dL/ds_t|, `(steps,)`, with s all that the cell carries (h, and c
            of an LSTM): what one step back in time leaves of the gradient. NaN at the step that the layer reads first,
            and where no gradient arrives.
        rate: Their geometric mean: the factor a step; NaN where there is none.
    """

    name: str
    tokens: tuple[str, ...]
    norms: np.ndarray
    rates: np.ndarray
    rate: float

    @property
    def verdict(self) -> str:
        """`vanishing` where a step leaves less than 0.9 of the gradient, `exploding` above 1.1, `steady` between them,
        `unknown` without a rate."""
        if np.isnan(self.rate):
            return "unknown"
        if self.rate < VANISHING:
            return "vanishing"
        return "exploding" if self.rate > EXPLODING else "steady"


@dataclasses.dataclass(frozen=True)
class GradientFlow:
    """How the gradient of a sentence's loss fares in each layer, and what clipping would make of it.

    Attributes:
        source, target: The texts; the target is the model's own translation where none was given.
        loss: Cross entropy a target token, without label smoothing.
        layers: The recurrent layers by name.
        gradient_norm: Norm of the gradients of all weights together.
        clip_norm: The largest norm that training let through; 0: any.
        evidence: How much what the encoder's first layer reads at each step speaks for the target, `(steps,)`: the
            gradient of the target's mean log-probability by it, times itself (gradient times input).
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
        """What clipping multiplies every gradient of this sentence by; 1: it leaves them as they are."""
        return min(1.0, self.clip_norm / self.gradient_norm) if self.clip_norm and self.gradient_norm else 1.0


class _Gradients(NamedTuple):
    """One sentence forwards and backwards, on raw cells; each layer's steps in the order in which it takes them.

    `of_states` is dL/dh_t, `passed_on` what of it, and of dL/dc_t in an LSTM, reaches the states before the step along
    the recurrence; c_t is read by the next step alone, so that is all there is of dL/dc_t.
    """

    sentences: Sentences
    recording: Recording
    loss: float
    of_states: dict[str, np.ndarray]
    passed_on: dict[str, list[np.ndarray]]
    of_weights: list[Any]
    evidence: np.ndarray


def gradient_flow(
    model: TextModel, source: str, target: str | None = None, clip_norm: float | None = None
) -> GradientFlow:
    """|dL/dh_t| of every recurrent layer of a trained model, with the rate at which the recurrence loses or gains it.

    A state reaches the loss in two ways, through what reads it at its step and through the next state. `norms` count
    both; `rates` look at the second alone, so that attention, which reaches every step directly, cannot hide a
    recurrence in which gradients vanish (Bengio et al. 1994; Pascanu et al. 2013, arXiv 1211.5063).

    Args:
        model: The model.
        source: The source text.
        target: The target text; None: the model's own translation.
        clip_norm: The norm that clipping would leave; None: that of the run that trained the model.

    Raises:
        DataError: A text is blank.
        ModelFileError: The model has no tokenizer.
    """
    raw = model.with_raw_cells()
    found = _back_through(raw, encode_sentences(model, [source], None if target is None else [target]))
    source_tokens, target_tokens = sentence_tokens(model, found.sentences, 0)
    reductions = layer_reductions(model)
    layers = {
        name: _flow(
            name,
            layer,
            layer_tokens(name, reductions[name], source_tokens, target_tokens),
            found.of_states[name],
            found.passed_on[name],
        )
        for name, layer in raw.recurrent_layers.items()
    }
    if clip_norm is None:
        clip_norm = model.recipe.get("training", {}).get("clip_norm", 0.0)
    # Whole: the rows of a token that occurs twice are to be added up first.
    norm = float(tf.linalg.global_norm([tf.convert_to_tensor(gradient) for gradient in found.of_weights]))
    return GradientFlow(source, found.sentences.targets[0], found.loss, layers, norm, clip_norm, found.evidence)


def back_propagate_layer(model: TextModel, layer: str, source: str, target: str | None = None) -> BackPropagation:
    """Back-propagation through time by hand in one layer of a trained model, on one sentence.

    What reaches each state from outside the recurrence (from the layer above, from attention, from the loss) comes
    from autodiff; from there on `bptt.back_propagate` walks back by the written-out derivation and tells what each step
    adds to the gradient of each matrix.

    Args:
        model: The model.
        layer: Name of the layer, as in `SourceReader.recurrent_layers`.
        source: The source text.
        target: The target text; None: the model's own translation.

    Returns:
        Gradients and contributions in the order in which the layer reads the sentence.

    Raises:
        DataError: A text is blank.
        ModelFileError: The model has no tokenizer.
        ValueError: There is no such layer.
    """
    raw = model.with_raw_cells()
    if layer not in raw.recurrent_layers:
        raise ValueError(f"layer must be one of {', '.join(raw.recurrent_layers)}, but is {layer!r} instead.")
    found = _back_through(raw, encode_sentences(model, [source], None if target is None else [target]))
    records, cell = found.recording.steps[layer], raw.recurrent_layers[layer].cell
    along_the_recurrence = np.roll(found.passed_on[layer][0], -1, axis=0)
    along_the_recurrence[-1] = 0
    return back_propagate(
        raw.recurrent_layers[layer].cell_name,
        split_weights(raw.recurrent_layers[layer].cell_name, *(weight.numpy() for weight in cell.weights)),
        np.concatenate([record.inputs.numpy() for record in records]),
        [state.numpy()[0] for state in records[0].states],
        found.of_states[layer] - along_the_recurrence,
        raw.recurrent_layers[layer].update_gate,
    )


def _back_through(raw: TextModel, sentences: Sentences) -> _Gradients:
    """The gradients of one sentence's loss to every state, to every state as the next step read it, and to weights."""
    variables = [variable.value for variable in raw.trainable_variables]
    target_ids = pad(sentences.target_ids)
    with tf.GradientTape() as tape:
        recording = record(raw, pad(sentences.source_ids), target_ids)
        logits = tf.cast(recording.logits, tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_ids, logits)
        loss = tf.reduce_mean(tf.boolean_mask(losses, target_ids != PAD_ID))
    states = {name: [record.step.state for record in steps] for name, steps in recording.steps.items()}
    previous = {name: [record.states for record in steps] for name, steps in recording.steps.items()}
    inputs = {name: [record.inputs for record in recording.steps[name]] for name in READ_EMBEDDINGS if name in states}
    of_states, passed_on, of_weights, of_inputs = tape.gradient(
        loss, (states, previous, variables, inputs), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    products = {name: _rows(of_inputs[name]) * _rows(inputs[name]) for name in inputs}
    return _Gradients(
        sentences,
        recording,
        float(loss),
        {name: _rows(gradients) for name, gradients in of_states.items()},
        {name: [_rows(of_one) for of_one in zip(*gradients, strict=True)] for name, gradients in passed_on.items()},
        list(of_weights),
        -np.sum([_in_order(product.sum(axis=1), raw.recurrent_layers[name]) for name, product in products.items()], 0),
    )


def _rows(gradients: Sequence[Any]) -> np.ndarray:
    return np.concatenate([gradient.numpy() for gradient in gradients]).astype("float64")


def _flow(
    name: str, layer: Recurrent, tokens: tuple[str, ...], of_states: np.ndarray, passed_on: list[np.ndarray]
) -> LayerFlow:
    norms = np.linalg.norm(of_states, axis=1)
    rates = np.full(len(norms), np.nan)
    # Of c nothing arrives at the last step, and at every other what the next one passes on.
    arriving = [of_states[1:], *(np.vstack([of_one[1:], of_one[:1] * 0])[1:] for of_one in passed_on[1:])]
    whole, passed = (np.linalg.norm(np.hstack(parts), axis=1) for parts in (arriving, [part[1:] for part in passed_on]))
    np.divide(passed, whole, out=rates[1:], where=whole > 0)
    known = rates[np.isfinite(rates)]
    with np.errstate(divide="ignore"):
        rate = float(np.exp(np.log(known).mean())) if len(known) else float("nan")
    return LayerFlow(name, tokens, _in_order(norms, layer), _in_order(rates, layer), rate)


def _in_order(steps: np.ndarray, layer: Recurrent) -> np.ndarray:
    """Steps in the order of the sentence, whichever way the layer reads."""
    return steps[::-1] if layer.reverse else steps
