"""Every gate and state of a trained model, token by token, in arrays."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from seq2seq.inspection.recording import Intervention, Recording, Sentences, encode_sentences, record
from seq2seq.layers import Recurrent
from seq2seq.layers.cells import StepRecord
from seq2seq.layers.copying import Copies
from seq2seq.models.base import TextModel
from seq2seq.text.dataset import pad
from seq2seq.text.ids import PAD_ID, START_PIECE
from seq2seq.text.tokenizer import joined_pieces

BATCH_SENTENCES = 32


@dataclasses.dataclass(frozen=True)
class LayerTrace:
    """What one recurrent layer did in one sentence.

    Attributes:
        name: Where it stands: `encoder.forward_0`, `encoder.backward_0`, `decoder.recurrent_0`, ...
        cell: Name of its cell.
        update_gate: Whether an update gate of one keeps the past (`keep`) or writes the candidate (`write`).
        tokens: The piece that each step reads, in the order of the sentence, whichever way the layer reads.
        values: Every gate and state by name, each `(steps, units)`; `state` is what the layer hands on.
        reduction: How many pieces of the source a step of an encoder's layer reads joined.
    """

    name: str
    cell: str
    update_gate: str
    tokens: tuple[str, ...]
    values: dict[str, np.ndarray]
    reduction: int = 1

    def field(self, name: str) -> np.ndarray:
        """The gate or state of that name, `(steps, units)`.

        Raises:
            ValueError: The cell has none; the message names those that it has.
        """
        if name not in self.values:
            raise ValueError(
                f"The field must be one of {', '.join(self.values)} in a layer of cell {self.cell}, but is {name!r} "
                "instead."
            )
        return self.values[name]

    @property
    def kept(self) -> np.ndarray | None:
        """Share of its past that each unit keeps at each step, `(steps, units)`; None: the cell has no such gate."""
        if "forget_gate" in self.values:
            return self.values["forget_gate"]
        if "update" not in self.values:
            return None
        return self.values["update"] if self.update_gate == "keep" else 1 - self.values["update"]


@dataclasses.dataclass(frozen=True)
class CopyTrace:
    """How the target of one sentence was copied, for a decoder that copies.

    Attributes:
        gate: g, the share of the next piece that is left to the vocabulary, `(target_steps,)`.
        weights: Of the source pieces where one is copied, `(target_steps, source_steps)`.
        copied: Share of each written piece's probability that is copied, `(target_steps,)`.
        places: The place in the source that each written piece is copied from, the one of most weight where it stands
            in several; -1 where it stands in none, `(target_steps,)`.
    """

    gate: np.ndarray
    weights: np.ndarray
    copied: np.ndarray
    places: np.ndarray


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
        attention: Weights, `(target_steps, memory_steps)`; None where the context is the same at every step.
        log_probs: Log-probability of each target token, `(target_steps,)`.
        copying: Gate and weights of a decoder that copies; None for another.
        reduction: How many pieces of the source a step of the memory stands for.
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
        """The pieces of the source that each step of the memory stands for, joined where these are several."""
        return joined_pieces(self.source_tokens, self.reduction)

    def layer(self, name: str) -> LayerTrace:
        """The layer of that name.

        Raises:
            ValueError: The model has none; the message names those that it has.
        """
        if name not in self.layers:
            raise ValueError(f"The layer must be one of {', '.join(self.layers)}, but is {name!r} instead.")
        return self.layers[name]

    def table(self, layer: str, field: str = "state", units: Sequence[int] | None = None) -> str:
        """One gate or state as text: a line a token, a column a unit.

        Args:
            layer: Name of the layer.
            field: Name of the gate or state.
            units: Which units; None: all.

        Raises:
            ValueError: There is no such layer, or no such field in it.
        """
        of_layer = self.layer(layer)
        rows = of_layer.field(field)
        chosen = range(rows.shape[1]) if units is None else units
        width = max(len(token) for token in of_layer.tokens)
        lines = [" " * width + "".join(f"{unit:>8}" for unit in chosen)]
        for token, row in zip(of_layer.tokens, rows, strict=True):
            lines.append(f"{token:<{width}}" + "".join(f"{row[unit]:>8.3f}" for unit in chosen))
        return "\n".join(lines)


def trace(model: TextModel, source: str, target: str | None = None, held: Sequence[Intervention] = ()) -> Trace:
    """Runs a trained model over one source and one target, and keeps every gate and state of every step.

    Args:
        model: The model. Whatever its cells run on, a twin on raw cells with the same weights is read.
        source: The source text.
        target: The target text; None: the model's own translation.
        held: Units whose states are put to a value, to see what becomes of the rest and of `log_probs`.

    Raises:
        DataError: A text is blank.
        ModelFileError: The model has no tokenizer.
        ValueError: A unit to hold is not there.
    """
    return next(traces(model, [source], None if target is None else [target], held))


def traces(
    model: TextModel, sources: Sequence[str], targets: Sequence[str] | None = None, held: Sequence[Intervention] = ()
) -> Iterator[Trace]:
    """`trace` for the sentences of a corpus, several at once; padding leaves no mark on what is kept.

    Args:
        model: The model.
        sources: The source texts.
        targets: The target texts, as many; None: the model's own translations.
        held: As in `trace`.

    Raises:
        DataError: A text is blank, or there are not as many targets as sources.
        ModelFileError: The model has no tokenizer.
        ValueError: A unit to hold is not there.
    """
    raw = model.with_raw_cells()
    for start in range(0, len(sources), BATCH_SENTENCES):
        part = slice(start, start + BATCH_SENTENCES)
        sentences = encode_sentences(model, sources[part], None if targets is None else targets[part])
        recording = record(raw, pad(sentences.source_ids), pad(sentences.target_ids), held)
        yield from _unpacked(raw, sentences, recording)


def layer_reductions(model: TextModel) -> dict[str, int]:
    """How many pieces a step of each recurrent layer reads joined, by its name."""
    encoder = model.encoder
    of_encoder = [*encoder.reductions, *encoder.reductions[: len(encoder.backward_layers)]]
    of_decoder = [1] * (len(model.recurrent_layers) - len(of_encoder))
    return dict(zip(model.recurrent_layers, [*of_encoder, *of_decoder], strict=True))


def layer_tokens(
    name: str, reduction: int, source_tokens: tuple[str, ...], target_tokens: tuple[str, ...]
) -> tuple[str, ...]:
    """The piece that each step of a layer reads: the encoder's the source, the decoder's what was written before."""
    if name.startswith("encoder"):
        return joined_pieces(source_tokens, reduction)
    return (START_PIECE, *target_tokens[:-1])


def by_tokens(layers: Mapping[str, Any], side: str) -> list[list[str]]:
    """Names of the layers of a side, `encoder` or `decoder`, that read the same tokens: one list, without a pyramid."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, layer in layers.items():
        if name.startswith(side):
            found.setdefault(layer.tokens, []).append(name)
    return list(found.values())


def sentence_tokens(model: TextModel, sentences: Sentences, row: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The pieces of one source and of its target."""
    tokenizer = model.require_tokenizer()
    source_tokens = tuple(model.source_pieces(sentences.sources[row]))
    return source_tokens, tuple(tokenizer.target.pieces(sentences.target_ids[row]))


def _unpacked(model: TextModel, sentences: Sentences, recording: Recording) -> Iterator[Trace]:
    values = {name: _values(layer, recording.steps[name]) for name, layer in model.recurrent_layers.items()}
    reductions = layer_reductions(model)
    attention = None if recording.attention is None else ops.convert_to_numpy(recording.attention)
    log_probs = ops.convert_to_numpy(ops.log_softmax(ops.cast(recording.logits, "float32"), axis=-1))
    for row, (source, target) in enumerate(zip(sentences.sources, sentences.targets, strict=True)):
        source_tokens, target_tokens = sentence_tokens(model, sentences, row)
        memory_tokens = joined_pieces(source_tokens, model.encoder.reduction)
        layers = {}
        for name, layer in model.recurrent_layers.items():
            tokens = layer_tokens(name, reductions[name], source_tokens, target_tokens)
            fields = {field: array[row, : len(tokens)] for field, array in values[name].items()}
            layers[name] = LayerTrace(name, layer.cell_name, layer.update_gate, tokens, fields, reductions[name])
        source_ids, target_ids = np.array(sentences.source_ids[row]), np.array(sentences.target_ids[row])
        of_targets = log_probs[row, np.arange(len(target_ids)), target_ids]
        copying = None
        if recording.copies is not None:
            copies = Copies(*(ops.convert_to_numpy(part)[row] for part in recording.copies))
            copying = _copy_trace(copies, source_ids, target_ids, of_targets)
        yield Trace(
            source,
            target,
            source_tokens,
            target_tokens,
            layers,
            None if attention is None else attention[row, : len(target_tokens), : len(memory_tokens)],
            of_targets[target_ids != PAD_ID],
            copying,
            model.encoder.reduction,
        )


def _copy_trace(copies: Copies, source_ids: np.ndarray, target_ids: np.ndarray, log_probs: np.ndarray) -> CopyTrace:
    gate = 1 / (1 + np.exp(-copies.gate[: len(target_ids)]))
    weights = copies.weights[: len(target_ids), : len(source_ids)]
    of_written = np.where(target_ids[:, None] == source_ids, weights, -1.0)
    copied = (1 - gate) * np.maximum(of_written, 0).sum(axis=1) / np.exp(log_probs)
    places = np.where(of_written.max(axis=1) < 0, -1, of_written.argmax(axis=1))
    return CopyTrace(gate, weights, copied, places)


def _values(layer: Recurrent, records: list[StepRecord]) -> dict[str, np.ndarray]:
    """Every field of a layer's steps, `(batch, steps, units)` each, in the order of the sentence."""
    in_order = reversed(records) if layer.reverse else records
    steps = [record.step for record in in_order]
    return {
        field: np.stack([ops.convert_to_numpy(ops.cast(getattr(step, field), "float32")) for step in steps], axis=1)
        for field in steps[0]._fields
    }
