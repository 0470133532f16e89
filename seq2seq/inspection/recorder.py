"""Run a model on raw cells, one step after another, and record everything that happens."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from seq2seq.errors import ArgumentError, DataError
from seq2seq.layers import Recurrent
from seq2seq.layers.cells import StepRecord
from seq2seq.layers.copying import Copies
from seq2seq.layers.masking import LARGE_NEGATIVE
from seq2seq.models.base import TextModel, clone_with_implementation
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.dataset import pad
from seq2seq.text.ids import FIRST_LABEL_ID, PAD_ID, START_ID, START_PIECE
from seq2seq.text.tokenizer import joined_pieces

FIRST_LAYERS = ("encoder.forward_0", "encoder.backward_0")
"""The layers that read the embedded source."""


class Intervention(NamedTuple):
    """Set the state of one unit to a value, to see what depends on it, where a probe only correlates.

    The unit has the value from step `start` to before step `stop` (None: the end) of the sentence; the cell state of
    an LSTM stays as it is.
    """

    layer: str
    unit: int
    value: float
    start: int = 0
    stop: int | None = None

    def check(self, layers: Mapping[str, Recurrent]) -> None:
        """Refuse a layer or a unit that the model does not have."""
        if self.layer not in layers:
            raise ArgumentError("layer", f"one of {', '.join(layers)}", self.layer)
        units = layers[self.layer].units
        if not 0 <= self.unit < units:
            raise ArgumentError("unit", f"from 0 to {units - 1} in {self.layer}", self.unit)

    def applied(self, step: Any) -> Any:
        """Return a cell's step with the unit at its value."""
        is_unit = ops.arange(step.state.shape[-1]) == self.unit
        return step._replace(state=ops.where(is_unit, ops.cast(self.value, step.state.dtype), step.state))


@dataclasses.dataclass(frozen=True)
class Sentences:
    """Texts of sources and targets with the ids and the pieces that the model reads and writes."""

    sources: Sequence[str]
    targets: Sequence[str]
    source_ids: Sequence[list[int]]
    target_ids: Sequence[list[int]]
    source_tokens: Sequence[tuple[str, ...]]
    target_tokens: Sequence[tuple[str, ...]]


class Gradients(NamedTuple):
    """Gradients of one sentence's loss; the steps of each layer come in the order in which it takes them.

    `states` is dL/dh_t, `(steps, units)` of each layer. `previous_states` is the part of it, and of dL/dc_t in an
    LSTM, that reaches the states before step t along the recurrence; only the next step reads c_t, so that there it
    is all of dL/dc_t. `evidence` is the gradient of the target's mean log-probability by the embedded source times
    the embedded source, `(steps,)` in the order of the sentence.
    """

    loss: float
    states: dict[str, np.ndarray]
    previous_states: dict[str, list[np.ndarray]]
    weights: list[Any]
    evidence: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recording:
    """One pass of a batch of sentences through the raw model.

    `steps` are those of each layer in the order in which it takes them: a backward layer begins at the end of the
    padded sequence. `reductions` are the numbers of source pieces that a step of each layer reads. `logits` are
    `(batch, target_steps, vocabulary_size)`, attention weights `(batch, target_steps, memory_steps)`.
    """

    model: TextModel
    reductions: Mapping[str, int]
    sentences: Sentences
    steps: Mapping[str, Sequence[StepRecord]]
    logits: Any
    attention: Any = None
    copies: Copies | None = None
    gradients: Gradients | None = None

    def layer_tokens(self, layer: str, row: int) -> tuple[str, ...]:
        """Return the pieces that each step of a layer reads in one sentence, in the order of the sentence."""
        if layer.startswith("encoder"):
            return joined_pieces(self.sentences.source_tokens[row], self.reductions[layer])
        return (START_PIECE, *self.sentences.target_tokens[row][:-1])

    def require_gradients(self) -> Gradients:
        """Return the gradients, for what cannot do without."""
        if self.gradients is None:
            raise ArgumentError("gradients", "True when a gradient flow is recorded", False)
        return self.gradients


class Recorder:
    """Record the steps of a trained model, whatever kernel it runs on: its twin on raw cells is built once."""

    def __init__(self, model: TextModel) -> None:
        self.model = model
        self.raw = clone_with_implementation(model, "raw")
        encoder = model.encoder
        reductions = [*encoder.reductions, *encoder.reductions[: len(encoder.backward_layers)]]
        # The layers of a decoder read one piece at every step.
        self.reductions = dict.fromkeys(model.recurrent_layers, 1)
        self.reductions |= dict(zip(model.recurrent_layers, reductions, strict=False))

    @classmethod
    def of(cls, model: "TextModel | Recorder") -> "Recorder":
        """Return a recorder as it is, and make one of a model."""
        return model if isinstance(model, Recorder) else cls(model)

    def record(
        self,
        sources: Sequence[str],
        targets: Sequence[str] | None = None,
        *,
        interventions: Sequence[Intervention] = (),
        gradients: bool = False,
    ) -> Recording:
        """Run a batch of sentences with their targets (None: the model's own, which one search finds).

        With gradients, go back through time too, for one sentence only.
        """
        if gradients and len(sources) != 1:
            raise ArgumentError("sources", "one sentence with gradients", len(sources), "Record one after the other.")
        for intervention in interventions:
            intervention.check(self.raw.recurrent_layers)
        sentences = self._encode(sources, targets)
        if not gradients:
            return self._run(sentences, interventions)
        target_ids = pad(sentences.target_ids)
        with tf.GradientTape() as tape:
            recording = self._run(sentences, interventions)
            logits = tf.cast(recording.logits, tf.float32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_ids, logits)
            loss = tf.reduce_mean(tf.boolean_mask(losses, target_ids != PAD_ID))
        return dataclasses.replace(recording, gradients=self._gradients(tape, loss, recording.steps))

    def _encode(self, sources: Sequence[str], targets: Sequence[str] | None) -> Sentences:
        """Encode texts as the model reads them; without targets, search for the model's own."""
        model, tokenizer = self.model, self.model.require_tokenizer()
        if targets is not None and len(targets) != len(sources):
            raise DataError(f"targets must be as many as sources ({len(sources)}), got {len(targets)}.")
        for side, texts in (("source", sources), ("target", targets or [])):
            blank = next((number for number, text in enumerate(texts, 1) if not text.strip()), None)
            if blank is not None:
                raise DataError(f"{side} {blank}: must be a text, got a blank one. There is nothing to look at.")
        if targets is None and isinstance(model, Seq2Seq):
            best = [hypotheses[0] for hypotheses in model.generate(sources, n_best=1)]
            targets, target_ids = [hypothesis.text for hypothesis in best], [list(one.token_ids) for one in best]
            source_ids = model.encode_sources(sources)
        else:
            targets = model.answers(sources) if targets is None else targets
            whole, target_ids = tokenizer.encode_pairs(sources, targets)
            source_ids = [model.truncation.cut(ids) for ids in whole]
        source_tokens = [tuple(model.source_pieces(source)) for source in sources]
        target_tokens = [tuple(tokenizer.target.pieces(ids)) for ids in target_ids]
        return Sentences(sources, targets, source_ids, target_ids, source_tokens, target_tokens)

    def _run(self, sentences: Sentences, interventions: Sequence[Intervention]) -> Recording:
        """Run the model over known targets, through the same `Decoder.step` that search runs."""
        model = self.raw
        source_ids, target_ids = pad(sentences.source_ids), pad(sentences.target_ids)
        num_steps = {
            name: -(-source_ids.shape[1] // reduction) if name.startswith("encoder") else target_ids.shape[1]
            for name, reduction in self.reductions.items()
        }
        with recorded_steps(model.recurrent_layers, num_steps, interventions) as steps:
            if not isinstance(model, Seq2Seq):
                logits, special = model.label_logits(source_ids, training=False), ((0, 0), (0, 0), (FIRST_LABEL_ID, 0))
                logits = ops.pad(logits, special, constant_values=LARGE_NEGATIVE)
                return Recording(model, self.reductions, sentences, steps, logits)
            prepared, state = model.prepare(source_ids)
            written = np.full(len(target_ids), START_ID, "int32")
            outputs = []
            for targets in target_ids.T:
                outputs.append(model.decoder.step(ops.convert_to_tensor(written), state, prepared))
                state, written = outputs[-1].state, targets
        logits = ops.stack([output.logits for output in outputs], axis=1)
        attention = copies = None
        if outputs[0].attention_weights is not None:
            attention = ops.stack([output.attention_weights for output in outputs], axis=1)
        if outputs[0].copies is not None:
            of_steps = zip(*(output.copies for output in outputs), strict=True)
            copies = Copies(*(ops.stack(part, axis=1) for part in of_steps))
        return Recording(model, self.reductions, sentences, steps, logits, attention, copies)

    def _gradients(self, tape: tf.GradientTape, loss: Any, steps: Mapping[str, Sequence[StepRecord]]) -> Gradients:
        states = {name: [record.step.state for record in records] for name, records in steps.items()}
        previous = {name: [record.states for record in records] for name, records in steps.items()}
        inputs = {name: [record.inputs for record in steps[name]] for name in FIRST_LAYERS if name in steps}
        weights = [variable.value for variable in self.raw.trainable_variables]
        of_states, of_previous, of_weights, of_inputs = tape.gradient(
            loss, (states, previous, weights, inputs), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        layers = self.raw.recurrent_layers
        evidence = [
            sentence_order(layers[name], -(_rows(of_inputs[name]) * _rows(inputs[name])).sum(axis=1)) for name in inputs
        ]
        return Gradients(
            float(loss),
            {name: _rows(parts) for name, parts in of_states.items()},
            {name: [_rows(parts) for parts in zip(*of_steps, strict=True)] for name, of_steps in of_previous.items()},
            list(of_weights),
            np.sum(evidence, axis=0),
        )


def sentence_order(layer: Recurrent, steps: Any) -> Any:
    """Turn the steps of a layer from the order in which it takes them to that of the sentence, and back."""
    return steps[::-1] if layer.reverse else steps


@contextlib.contextmanager
def recorded_steps(
    layers: Mapping[str, Recurrent], num_steps: Mapping[str, int], interventions: Sequence[Intervention] = ()
) -> Iterator[dict[str, list[StepRecord]]]:
    """Listen to the cells of layers; the steps are in the dictionary when the context ends."""
    steps: dict[str, list[StepRecord]] = {name: [] for name in layers}

    def listener(name: str) -> Callable[[StepRecord], Any]:
        places = sentence_order(layers[name], range(num_steps[name]))

        def on_step(record: StepRecord) -> Any:
            place, step = places[len(steps[name])], record.step
            for intervention in interventions:
                if (
                    intervention.layer == name
                    and intervention.start <= place
                    and place < (intervention.stop or place + 1)
                ):
                    step = intervention.applied(step)
            steps[name].append(record._replace(step=step))
            return step

        return on_step

    for name, layer in layers.items():
        layer.cell.on_step = listener(name)
    try:
        yield steps
    finally:
        for layer in layers.values():
            layer.cell.on_step = None


def _rows(tensors: Sequence[Any]) -> np.ndarray:
    return np.concatenate([tensor.numpy() for tensor in tensors]).astype("float64")
