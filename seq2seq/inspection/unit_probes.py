"""Probes: single units that tell a labelled property of a sentence, and how far through the sentence they carry it."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seq2seq.config.sections import LABEL_TASKS
from seq2seq.errors import ArgumentError, DataError
from seq2seq.inspection.recorder import Recorder
from seq2seq.inspection.trace import Trace, traces
from seq2seq.inspection.units import WORD_START, UnitThreshold, placeholder_targets
from seq2seq.models.base import TextModel
from seq2seq.progress import track
from seq2seq.text.lines import read_lines

COLUMNS = "label, first word, last word, sentence, and for its translation again first word, last word, sentence"
BEST_UNITS = 5


class MarkedText(NamedTuple):
    """A text with two marked words, by their numbers from 0 between spaces.

    The first word shows a property; the last is where the property must still be known.
    """

    first: int
    last: int
    text: str


class LabelledSentence(NamedTuple):
    """A sentence with a property of it, such as `plural`, and perhaps its translation."""

    label: str
    source: MarkedText
    target: MarkedText | None = None


@dataclasses.dataclass(frozen=True)
class UnitProbe(UnitThreshold):
    """A unit as a classifier: on means that the sentence has the label, off that it has another one.

    All are percents: right of the held-out sentences, right of them for always giving the answer that was the likelier
    in the training half, right of the training half, by which the unit's rule was chosen, and the gain of that over one
    answer for all, which ranks units also where they tell different labels.
    """

    label: str
    accuracy: float
    baseline: float
    training_accuracy: float
    training_gain: float


@dataclasses.dataclass(frozen=True)
class Persistence:
    """Accuracy of units at each step after the one that shows a property, in the held-out sentences.

    `sentences` go on for 0, 1, ... steps; `accuracy` is the percent of these in which a unit's rule is right at that
    step, `(steps, units)`; `always_correct` the percent of sentences in which it is right at every step, `(units,)`,
    and the same of the training half, which ranks units that are equally right there at the last step.
    """

    units: np.ndarray
    sentences: np.ndarray
    accuracy: np.ndarray
    always_correct: np.ndarray
    training_always_correct: np.ndarray


@dataclasses.dataclass(frozen=True)
class LabelUnits:
    """The five units of one layer that tell the label of sentences best, best first, and their persistence."""

    layer: str
    probes: Sequence[UnitProbe]
    persistence: Persistence


def read_labelled_sentences(path: str | Path) -> list[LabelledSentence]:
    """Read labelled sentences, such as `data/en-fr/number.tsv`: columns between tabs, without a header."""
    sentences: list[LabelledSentence] = []
    for number, line in enumerate(read_lines(path), 1):
        sentences.append(_parse(line, f"{path}:{number}"))
        if (sentences[-1].target is None) != (sentences[0].target is None):
            raise DataError(f"{path}:{number}: every line must have a translation, or none. Add it, or leave it out.")
    if not sentences:
        raise DataError(f"{path}: must hold at least one labelled sentence, got an empty file. Check the path.")
    return sentences


def _parse(line: str, where: str) -> LabelledSentence:
    label, *columns = line.split("\t")
    if len(columns) not in (3, 6):
        raise DataError(
            f"{where}: must have 4 or 7 tab-separated columns ({COLUMNS}), got {len(columns) + 1}. "
            "Check the line's tabs."
        )
    if not label.strip():
        raise DataError(f"{where}: the label must be a word or more, got {label!r}. Write one.")
    marked = []
    for first, last, text in zip(columns[::3], columns[1::3], columns[2::3], strict=True):
        words = len(text.split())
        numbers = [int(number) if number.isascii() and number.isdigit() else -1 for number in (first, last)]
        if not 0 <= numbers[0] <= numbers[1] < words:
            raise DataError(
                f"{where}: the numbers of two words must be 0 <= first <= last < {words} in a text of {words} words, "
                f"got {first!r} and {last!r}. Count from 0 what is between spaces."
            )
        marked.append(MarkedText(numbers[0], numbers[1], text))
    return LabelledSentence(label, *marked)


def last_pieces(tokens: Sequence[str]) -> list[int]:
    """Return the step of each word's last piece, with the comma after it, in a row of pieces with its end token.

    >>> last_pieces(["▁the", "▁cat", "s", ",", "▁which", "</s>"])
    [0, 3, 4]
    """
    ends = []
    for step, token in enumerate(tokens[:-1]):
        # Unknown words that follow each other are one piece, with starts of words inside it.
        ends += [step if place else step - 1 for place, character in enumerate(token) if character == WORD_START]
    return [*ends[1:], len(tokens) - 2]


def steps_between(marked: MarkedText, tokens: Sequence[str]) -> tuple[int, int]:
    """Return the steps of the last pieces of the first and the last marked word.

    >>> steps_between(MarkedText(1, 2, "the cats slept"), ["▁the", "▁cat", "s", "▁slept", "</s>"])
    (2, 3)
    """
    ends, words = last_pieces(tokens), len(marked.text.split())
    if len(ends) != words:
        raise DataError(
            f"The tokenizer must find the {words} words of {marked.text!r}, got {len(ends)}: {' '.join(tokens)}. "
            "Leave the sentence out, or write it without characters that become spaces."
        )
    return ends[marked.first], ends[marked.last]


def values_across(
    traces: Iterable[Trace], layer_names: Sequence[str], sentences: Sequence[LabelledSentence], field: str = "state"
) -> dict[str, list[np.ndarray]]:
    """Read layers from the word that shows a sentence's property to the last at which it must be known.

    Layers of the encoder are read between the marked words of the source, layers of the decoder between those of the
    target, each step when its piece has been read: at the last step, the decoder writes the word after the last. A
    layer that reads backward has seen the rest of the sentence and not its beginning.

    Returns for each layer one array `(steps, units)` a sentence. Traces are read once, and only these arrays stay.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in layer_names}
    for number, (trace, sentence) in enumerate(itertools.zip_longest(traces, sentences)):
        for name in layer_names:
            reads_target = name.startswith("decoder")
            marked = sentence and (sentence.target if reads_target else sentence.source)
            if sentence and marked is None:
                raise DataError(
                    f"Sentence {number} must have a translation for {name}, got none. Add first word, last word and "
                    "translation to its line, or name layers of the encoder."
                )
            text = trace and (trace.target if reads_target else trace.source)
            if marked is None or text != marked.text:
                wanted = f"one for each sentence, in their order, here of {marked and marked.text!r} ({number})"
                raise ArgumentError("traces", wanted, text)
            first, last = steps_between(marked, trace.target_tokens if reads_target else trace.source_tokens)
            layer = trace.layer(name)
            # The decoder reads the start token first, and a layer of the encoder may read several tokens at a step.
            first, last = ((step + reads_target) // layer.reduction for step in (first, last))
            found[name].append(layer.field(field)[first : last + 1])
    return found


def held_out(labels: Sequence[str], seed: int = 0) -> np.ndarray:
    """Draw half of the sentences of each label (rounded down): a mask `(sentences,)`."""
    names, counts = np.unique(np.asarray(labels, dtype=str), return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        counted = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))
        advice = "Add sentences, or leave out the label."
        raise ArgumentError("labels", "two or more, each of two sentences or more", counted, advice)
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(labels), bool)
    for name in names:
        places = generator.permutation(np.flatnonzero(np.asarray(labels) == name))
        is_held_out[places[: len(places) // 2]] = True
    return is_held_out


def probe(values: np.ndarray, labels: Sequence[str], seed: int = 0) -> list[UnitProbe]:
    """Find for each unit the threshold that tells a label best from the others, the best units first.

    `values` are `(sentences, units)`. A unit's rule is the best there is on one half of the sentences: of all
    thresholds between two of its values, and of both sides. With more than two labels it is the best rule for one label
    against the rest, the label that the unit adds most to over the likelier answer. Units are ordered by the training
    half, so that the best unit's held-out accuracy was not chosen for being high. A unit with one and the same value in
    the whole training half is left out.
    """
    values, given = np.asarray(values, "float64"), np.asarray(labels, dtype=str)
    if values.ndim != 2 or len(values) != len(given):
        raise ArgumentError("values", f"({len(given)}, units), a row for each label", values.shape)
    if not np.isfinite(values).all():
        raise ArgumentError("values", "finite", "NaN or infinity", "The model's training went wrong.")
    is_held_out = held_out(labels, seed)
    names = np.unique(given)
    training, has_label = values[~is_held_out], given[~is_held_out, None] == names
    thresholds, gains = _best_thresholds(training, has_label)
    signs_and_names = [(sign, name) for sign in (1, -1) for name in names]
    best = gains.argmax(axis=0)
    order = np.argsort(-gains.max(axis=0), kind="stable")
    probes = []
    for unit in order[np.isfinite(gains.max(axis=0))[order]].tolist():
        sign, name = signs_and_names[best[unit]]
        rule = UnitThreshold(unit, sign, float(sign * thresholds[best[unit], unit]))
        is_right = rule.is_on(values) == (given == name)
        likelier = (given[~is_held_out] == name).mean() > 0.5
        baseline = 100 * ((given[is_held_out] == name) == likelier).mean()
        accuracy, training_accuracy = 100 * is_right[is_held_out].mean(), 100 * is_right[~is_held_out].mean()
        gain = 100 * gains[best[unit], unit] / len(training)
        percents = map(float, (accuracy, baseline, training_accuracy, gain))
        probes.append(UnitProbe(unit, sign, rule.threshold, str(name), *percents))
    return probes


def _best_thresholds(values: np.ndarray, has_label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the best threshold for each side, label and unit, and its gain in sentences over one answer for all.

    From values `(sentences, units)` and `(sentences, labels)`, both results are `(2 * labels, units)`: on above the
    threshold for each label, then on below it. The gain of a unit that has one value only is minus infinity.
    """
    order = values.argsort(axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    halfway = (ordered[1:] + ordered[:-1]) / 2
    below = np.arange(1, len(values))[:, None]
    thresholds, gains = [], []
    for sign in (1, -1):
        for labelled in has_label.T:
            labelled_below = labelled[order].cumsum(axis=0)[:-1]
            right_above = below - labelled_below + labelled.sum() - labelled_below
            right = right_above if sign == 1 else len(values) - right_above
            gain = np.where(ordered[1:] > ordered[:-1], right - max(labelled.sum(), (~labelled).sum()), -np.inf)
            cut = gain.argmax(axis=0)[None]
            thresholds.append(np.take_along_axis(halfway, cut, axis=0)[0])
            gains.append(np.take_along_axis(gain, cut, axis=0)[0])
    return np.array(thresholds), np.array(gains)


def persistence(
    values: Sequence[np.ndarray], labels: Sequence[str], probes: Sequence[UnitProbe], seed: int = 0
) -> Persistence:
    """Measure whether units tell the property at every step, from `values_across` of their layer.

    Labels and seed are those that `probe` had. A unit that is right with the threshold of the last step at every step
    before, too, carries the property; one that is right only at the end got it from elsewhere.
    """
    if not probes or len(values) != len(labels):
        counts = len(probes), len(values)
        raise ArgumentError("probes and values", f"one or more, and one for each of {len(labels)} labels", counts)
    is_held_out = held_out(labels, seed)
    is_right = [
        np.stack([rule.is_on(steps) == (label == rule.label) for rule in probes], axis=1)
        for steps, label in zip(values, labels, strict=True)
    ]
    tested = [is_right[place] for place in np.flatnonzero(is_held_out)]
    trained = [is_right[place] for place in np.flatnonzero(~is_held_out)]
    reaching = [
        np.array([steps[step] for steps in tested if len(steps) > step]) for step in range(max(map(len, tested)))
    ]
    return Persistence(
        units=np.array([rule.unit for rule in probes]),
        sentences=np.array([len(steps) for steps in reaching]),
        accuracy=100 * np.array([steps.mean(axis=0) for steps in reaching]),
        always_correct=100 * np.mean([steps.all(axis=0) for steps in tested], axis=0),
        training_always_correct=100 * np.mean([steps.all(axis=0) for steps in trained], axis=0),
    )


def label_units(model: TextModel | Recorder, sentences: Sequence[LabelledSentence]) -> list[LabelUnits]:
    """Find in each layer the units whose state after the last marked word tells the label best, on held-out sentences.

    Where the sentences have translations, the decoder is read while it reads these; otherwise only the encoder is.
    """
    recorder = Recorder.of(model)
    sources, labels = [sentence.source.text for sentence in sentences], [sentence.label for sentence in sentences]
    texts = [sentence.target.text for sentence in sentences if sentence.target]
    has_targets = len(texts) == len(sentences) and recorder.model.task not in LABEL_TASKS
    targets = texts if has_targets else placeholder_targets(recorder.model, len(sentences))
    names = [name for name in recorder.model.recurrent_layers if has_targets or name.startswith("encoder")]
    progress = track(traces(recorder, sources, targets), len(sources), "sentence", "labels")
    values = values_across(progress, names, sentences)
    found = []
    for name in names:
        if probes := probe(np.stack([steps[-1] for steps in values[name]]), labels):
            best = best_units(values[name], labels, probes)
            found.append(LabelUnits(name, best, persistence(values[name], labels, best)))
    return found


def best_units(values: Sequence[np.ndarray], labels: Sequence[str], probes: Sequence[UnitProbe]) -> list[UnitProbe]:
    """Choose the five best probes; of equally right ones the one that is right at every step of more sentences."""
    least = probes[:BEST_UNITS][-1].training_gain
    candidates = [unit for unit in probes if unit.training_gain >= least]
    always_correct = persistence(values, labels, candidates).training_always_correct
    gains = np.array([unit.training_gain for unit in candidates])
    return [candidates[place] for place in np.lexsort((-always_correct, -gains))[:BEST_UNITS]]
