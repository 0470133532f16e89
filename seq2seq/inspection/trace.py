"""Every gate and state of a trained model, token by token, in arrays."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from seq2seq.errors import ArgumentError
from seq2seq.inspection.recorder import Intervention, Recorder, Recording, sentence_order
from seq2seq.layers.copying import Copies
from seq2seq.models.base import TextModel
from seq2seq.text.ids import PAD_ID
from seq2seq.text.tokenizer import joined_pieces

BATCH_SENTENCES = 32


@dataclasses.dataclass(frozen=True)
class LayerTrace:
    """Values of one recurrent layer in one sentence, in the order of the sentence.

    `values` are every gate and state by its name in `equations.GATES`, `(steps, units)` each; `tokens` are the pieces
    that the steps read, `reduction` of the source joined.
    """

    name: str
    cell: str
    update_gate: str
    tokens: tuple[str, ...]
    values: dict[str, np.ndarray]
    reduction: int = 1

    def field(self, name: str) -> np.ndarray:
        """Return a gate or a state by name, `(steps, units)`."""
        if name not in self.values:
            raise ArgumentError("field", f"one of {', '.join(self.values)} in a layer of cell {self.cell}", name)
        return self.values[name]

    def share_kept(self) -> np.ndarray | None:
        """Return the share of its past that each unit keeps, `(steps, units)`; None for a cell without such a gate."""
        if "forget_gate" in self.values:
            return self.values["forget_gate"]
        if "update" not in self.values:
            return None
        return self.values["update"] if self.update_gate == "keep" else 1 - self.values["update"]


@dataclasses.dataclass(frozen=True)
class CopyTrace:
    """Copying of one target: the gate (share of the next piece that is left to the vocabulary) and the weights.

    `copied` is the share of each written piece's probability that comes from copying; `places` are the source steps of
    most weight that hold the written pieces, -1 where none does.
    """

    gate: np.ndarray
    weights: np.ndarray
    copied: np.ndarray
    places: np.ndarray


@dataclasses.dataclass(frozen=True)
class Trace:
    """Values of a whole model for one source and one target, its own translation where none was given.

    Tokens include the end token; a step of a decoder's layer reads the piece before the one that it writes. Attention
    weights are `(target_steps, memory_steps)`, None where the context is the same at every step.
    """

    source: str
    target: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    layers: dict[str, LayerTrace]
    attention: np.ndarray | None
    log_probs: np.ndarray
    copying: CopyTrace | None = None
    reduction: int = 1

    @property
    def memory_tokens(self) -> tuple[str, ...]:
        """Pieces of the source that each step of the memory reads, joined where there are several."""
        return joined_pieces(self.source_tokens, self.reduction)

    def layer(self, name: str) -> LayerTrace:
        """Return a layer by name."""
        if name not in self.layers:
            raise ArgumentError("layer", f"one of {', '.join(self.layers)}", name)
        return self.layers[name]

    def table(self, layer: str, field: str = "state", units: Sequence[int] | None = None) -> str:
        """Format one gate or state of all or some units as text: a line a token, a column a unit."""
        tokens, rows = self.layer(layer).tokens, self.layer(layer).field(field)
        columns = range(rows.shape[1]) if units is None else units
        width = max(len(token) for token in tokens)
        lines = [" " * width + "".join(f"{unit:>8}" for unit in columns)]
        for token, row in zip(tokens, rows, strict=True):
            lines.append(f"{token:<{width}}" + "".join(f"{row[unit]:>8.3f}" for unit in columns))
        return "\n".join(lines)


def trace(
    model: TextModel | Recorder, source: str, target: str | None = None, interventions: Sequence[Intervention] = ()
) -> Trace:
    """Run a model over one source and one target (None: its own translation), and read every gate and state."""
    return next(traces(model, [source], None if target is None else [target], interventions))


def traces(
    model: TextModel | Recorder,
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    interventions: Sequence[Intervention] = (),
) -> Iterator[Trace]:
    """Trace the sentences of a corpus, several at once; padding changes no value."""
    recorder = Recorder.of(model)
    for start in range(0, len(sources), BATCH_SENTENCES):
        part = slice(start, start + BATCH_SENTENCES)
        some_targets = None if targets is None else targets[part]
        yield from unpacked(recorder.record(sources[part], some_targets, interventions=interventions))


def unpacked(recording: Recording) -> Iterator[Trace]:
    """Yield the trace of each sentence of a recording."""
    model, sentences = recording.model, recording.sentences
    recurrent_layers = model.recurrent_layers
    values: dict[str, dict[str, np.ndarray]] = {}
    for name, layer in recurrent_layers.items():
        steps = [record.step for record in sentence_order(layer, recording.steps[name])]
        values[name] = {
            field: np.stack([_array(getattr(step, field)) for step in steps], axis=1) for field in steps[0]._fields
        }
    attention = None if recording.attention is None else ops.convert_to_numpy(recording.attention)
    log_probs = ops.convert_to_numpy(ops.log_softmax(ops.cast(recording.logits, "float32"), axis=-1))
    for row, (source, target) in enumerate(zip(sentences.sources, sentences.targets, strict=True)):
        source_tokens, target_tokens = sentences.source_tokens[row], sentences.target_tokens[row]
        layers = {}
        for name, layer in recurrent_layers.items():
            tokens = recording.layer_tokens(name, row)
            fields = {field: array[row, : len(tokens)] for field, array in values[name].items()}
            reduction = recording.reductions[name]
            layers[name] = LayerTrace(name, layer.cell_name, layer.update_gate, tokens, fields, reduction)
        source_ids, target_ids = np.array(sentences.source_ids[row]), np.array(sentences.target_ids[row])
        of_targets = log_probs[row, np.arange(len(target_ids)), target_ids]
        copying = None
        if recording.copies is not None:
            copies = Copies(*(ops.convert_to_numpy(part)[row] for part in recording.copies))
            copying = _copy_trace(copies, source_ids, target_ids, of_targets)
        memory_steps = len(joined_pieces(source_tokens, model.encoder.reduction))
        yield Trace(
            source,
            target,
            source_tokens,
            target_tokens,
            layers,
            None if attention is None else attention[row, : len(target_tokens), :memory_steps],
            of_targets[target_ids != PAD_ID],
            copying,
            model.encoder.reduction,
        )


def _array(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def _copy_trace(copies: Copies, source_ids: np.ndarray, target_ids: np.ndarray, log_probs: np.ndarray) -> CopyTrace:
    gate = 1 / (1 + np.exp(-copies.gate[: len(target_ids)]))
    weights = copies.weights[: len(target_ids), : len(source_ids)]
    of_written = np.where(target_ids[:, None] == source_ids, weights, -1.0)
    copied = (1 - gate) * np.maximum(of_written, 0).sum(axis=1) / np.exp(log_probs)
    places = np.where(of_written.max(axis=1) < 0, -1, of_written.argmax(axis=1))
    return CopyTrace(gate, weights, copied, places)
