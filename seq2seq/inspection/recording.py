"""A batch through a model on raw cells, one step after another, with everything that happened kept."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from seq2seq.errors import DataError
from seq2seq.layers.cells import StepRecord
from seq2seq.layers.copying import Copies
from seq2seq.layers.masking import LARGE_NEGATIVE
from seq2seq.models.base import TextModel
from seq2seq.models.seq2seq import Seq2Seq
from seq2seq.text.ids import FIRST_LABEL_ID, PAD_ID, START_ID


class Sentences(NamedTuple):
    """Sources and targets as texts and as ids, each list one entry a sentence."""

    sources: Sequence[str]
    targets: Sequence[str]
    source_ids: list[list[int]]
    target_ids: list[list[int]]


def encode_sentences(model: TextModel, sources: Sequence[str], targets: Sequence[str] | None = None) -> Sentences:
    """Sources and targets as the model reads them; without targets, the model's own translations.

    Raises:
        DataError: A text is blank, or there are not as many targets as sources.
        ModelFileError: The model has no tokenizer.
    """
    tokenizer = model.require_tokenizer()
    if targets is not None and len(targets) != len(sources):
        raise DataError(
            f"There must be as many targets as sources ({len(sources)}), but there are {len(targets)} instead. "
            "Give each source its target."
        )
    for side, texts in (("source", sources), ("target", targets or [])):
        blank = next((place for place, text in enumerate(texts) if not text.strip()), None)
        if blank is not None:
            raise DataError(f"{side} {blank + 1}: must be a text, but is blank instead. There is nothing to look at.")
    if targets is None and isinstance(model, Seq2Seq):
        found = [hypotheses[0] for hypotheses in model.generate(sources, n_best=1)]
        targets, target_ids = [best.text for best in found], [best.token_ids for best in found]
        return Sentences(sources, targets, model.encode_sources(sources), target_ids)
    targets = model.answers(sources) if targets is None else targets
    whole, target_ids = tokenizer.encode_pairs(sources, targets)
    return Sentences(sources, targets, [model.truncation.cut(ids) for ids in whole], target_ids)


def placeholder_targets(model: TextModel, count: int) -> list[str] | None:
    """Targets for those who look at the encoder alone: it has nothing to do with them, and to be given one saves the
    search for a translation."""
    return ["."] * count if isinstance(model, Seq2Seq) else None


class Intervention(NamedTuple):
    """A unit that is held at a value, to see what depends on it: an intervention, where a probe only correlates.

    Attributes:
        layer: Name of the layer.
        unit: Number of the unit.
        value: What its state is put to; a cell state stays as it is.
        start: First step of the layer at which it is held, counted from the beginning of the sentence.
        stop: The step after the last; None: to the end.
    """

    layer: str
    unit: int
    value: float
    start: int = 0
    stop: int | None = None


class Recording(NamedTuple):
    """What happened, as tensors that a gradient tape knows.

    Attributes:
        steps: The records of each recurrent layer by its name, in the order in which the layer took them: a layer that
            reads backwards begins at the end of the padded sequence.
        logits: Scores of each target id, `(batch, target_steps, vocabulary_size)`.
        attention: Weights, `(batch, target_steps, memory_steps)`; None where the context is the same at every step.
        copies: How the steps copy, `(batch, target_steps, ...)`; None where the decoder does not.
    """

    steps: dict[str, list[StepRecord]]
    logits: Any
    attention: Any
    copies: Copies | None = None


def record(
    model: TextModel, source_ids: np.ndarray, target_ids: np.ndarray, held: Sequence[Intervention] = ()
) -> Recording:
    """Runs a model over known targets, where it has a decoder through `Decoder.step`, which search runs too.

    Args:
        model: A model on raw cells.
        source_ids: `(batch, source_steps)`, padded on the right.
        target_ids: `(batch, target_steps)`, padded on the right.
        held: Units whose states are put to a value.

    Raises:
        ValueError: A unit to hold is not there.
    """
    for unit in held:
        _check(unit, model)
    reductions = model.encoder.reductions
    # Only layers of the encoder read backwards; the first of these is as high as the first that reads forwards.
    backward_steps = {
        f"encoder.{layer.name}": -(-source_ids.shape[1] // reduction)
        for layer, reduction in zip(model.encoder.backward_layers, reductions, strict=False)
    }
    with _recorded_steps(model, held, backward_steps) as steps:
        if not isinstance(model, Seq2Seq):
            logits, special = model.label_logits(source_ids, training=False), ((0, 0), (0, 0), (FIRST_LABEL_ID, 0))
            return Recording(steps, ops.pad(logits, special, constant_values=LARGE_NEGATIVE), None)
        memory, mask = model.encode(source_ids, training=False)
        prepared = model.decoder.prepare(memory, mask, source_ids, source_ids != PAD_ID)
        state = model.decoder.start(prepared)
        logits, attention, copies = [], [], []
        written = np.full(len(target_ids), START_ID, "int32")
        for targets in target_ids.T:
            step = model.decoder.step(ops.convert_to_tensor(written), state, prepared)
            state, written = step.state, targets
            logits.append(step.logits)
            attention.append(step.attention_weights)
            copies.append(step.copies)
    weights = None if attention[0] is None else ops.stack(attention, axis=1)
    copied = None if copies[0] is None else Copies(*(ops.stack(parts, axis=1) for parts in zip(*copies, strict=True)))
    return Recording(steps, ops.stack(logits, axis=1), weights, copied)


@contextlib.contextmanager
def _recorded_steps(
    model: TextModel, held: Sequence[Intervention], backward_steps: Mapping[str, int]
) -> Iterator[dict[str, list[StepRecord]]]:
    steps: dict[str, list[StepRecord]] = {name: [] for name in model.recurrent_layers}

    def listener(name: str) -> Callable[[StepRecord], Any]:
        def on_step(record: StepRecord) -> Any:
            taken = len(steps[name])
            place = backward_steps[name] - 1 - taken if name in backward_steps else taken
            here = [unit for unit in held if unit.layer == name and unit.start <= place < (unit.stop or place + 1)]
            record = record._replace(step=_with_held(record.step, here)) if here else record
            steps[name].append(record)
            return record.step

        return on_step

    for name, layer in model.recurrent_layers.items():
        layer.cell.on_step = listener(name)
    try:
        yield steps
    finally:
        for layer in model.recurrent_layers.values():
            layer.cell.on_step = None


def _with_held(step: Any, held: Sequence[Intervention]) -> Any:
    state = step.state
    for unit in held:
        is_unit = ops.arange(state.shape[-1]) == unit.unit
        state = ops.where(is_unit, ops.cast(unit.value, state.dtype), state)
    return step._replace(state=state)


def _check(held: Intervention, model: TextModel) -> None:
    layers = model.recurrent_layers
    if held.layer not in layers:
        raise ValueError(f"The layer of a held unit must be one of {', '.join(layers)}, but is {held.layer!r} instead.")
    units = layers[held.layer].units
    if not 0 <= held.unit < units:
        raise ValueError(f"A held unit of {held.layer} must be from 0 to {units - 1}, but is {held.unit} instead.")
