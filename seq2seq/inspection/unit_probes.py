"""Which single units tell a labelled property of a sentence, and how far through the sentence they carry it."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from seq2seq.config.sections import LABEL_TASKS
from seq2seq.errors import DataError
from seq2seq.inspection.recording import placeholder_targets
from seq2seq.inspection.trace import Trace, traces
from seq2seq.inspection.units import LabelledSentence, UnitThreshold, steps_between
from seq2seq.models.base import TextModel
from seq2seq.progress import track


@dataclasses.dataclass(frozen=True)
class UnitProbe(UnitThreshold):
    """A unit as a classifier: on means that the sentence has the label, off that it has another one.

    Attributes:
        label: What being on means.
        accuracy: Percent right of the held-out sentences.
        baseline: Percent right of them for always giving the answer that was the likelier in the training half.
        training_accuracy: Percent right of the training half, by which the unit's rule was chosen.
        training_gain: By how many percent of the training half that is better than one answer for all, which ranks
            units also where they tell different labels.
    """

    label: str
    accuracy: float
    baseline: float
    training_accuracy: float
    training_gain: float


@dataclasses.dataclass(frozen=True)
class Carried:
    """How long units keep a property after the step that shows it, in the held-out sentences.

    Attributes:
        units: The units, `(units,)`.
        sentences: How many sentences go on for 0, 1, ... steps, `(steps,)`.
        accuracy: Percent of these in which the rule of the unit is right at that step, `(steps, units)`.
        always_correct: Percent of all held-out sentences in which it is right at every step, `(units,)`.
        training_throughout: The same percent of the training half: of units that are equally right there at the last
            step, the one that carries the property is the better.
    """

    units: np.ndarray
    sentences: np.ndarray
    accuracy: np.ndarray
    always_correct: np.ndarray
    training_throughout: np.ndarray


def values_across(
    traces: Iterable[Trace], layer_names: Sequence[str], sentences: Sequence[LabelledSentence], field: str = "state"
) -> dict[str, list[np.ndarray]]:
    """What layers hold from the word that shows a sentence's property to the last at which it must be known.

    Layers of the encoder are read between the marked words of the source, layers of the decoder between those of the
    target, each step when its piece has been read: at the last step, the decoder writes the word after the last.

    Args:
        traces: One for each sentence, in their order, of its source and, for layers of the decoder, its target; read
            once, and only what is asked for is kept.
        layer_names: The layers. One that reads backward has seen the rest of the sentence and not its beginning: what
            it knows at a step it knows from there.
        sentences: The sentences.
        field: Which gate or state to read.

    Returns:
        For each layer one array `(steps, units)` a sentence, whose last row is the state after the last word.

    Raises:
        ValueError: for traces of other sentences, or an unknown layer or field.
        DataError: where a layer of the decoder is asked for and a sentence has no target, or where the tokenizer does
            not find the words of a text.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in layer_names}
    for number, (trace, sentence) in enumerate(itertools.zip_longest(traces, sentences)):
        for name in layer_names:
            reads_target = name.startswith("decoder")
            marked = sentence and (sentence.target if reads_target else sentence.source)
            if sentence and marked is None:
                raise DataError(
                    f"Sentence {number} must have a translation, whose words {name} reads, but has none. Add first "
                    "word, last word and translation to its line, or name layers of the encoder."
                )
            text = trace and (trace.target if reads_target else trace.source)
            if marked is None or text != marked.text:
                raise ValueError(
                    f"traces must be one for each sentence, in their order, but sentence {number} is "
                    f"{marked and marked.text!r} and its trace that of {text!r} instead. Trace the same sentences."
                )
            first, last = steps_between(marked, trace.target_tokens if reads_target else trace.source_tokens)
            layer = trace.layer(name)
            # The decoder reads the start token first, and a layer of the encoder may read several tokens at a step.
            first, last = ((step + reads_target) // layer.reduction for step in (first, last))
            found[name].append(layer.field(field)[first : last + 1])
    return found


def held_out(labels: Sequence[str], seed: int = 0) -> np.ndarray:
    """Half of the sentences of each label (rounded down), drawn by the seed: a mask `(sentences,)`.

    >>> held_out(["plural", "plural", "singular", "singular", "singular"]).sum()
    np.int64(2)

    Raises:
        ValueError: where there are fewer than two labels, or fewer than two sentences of one.
    """
    names, counts = np.unique(np.asarray(labels, dtype=str), return_counts=True)
    if len(names) < 2 or counts.min() < 2:
        counted = ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True)) or "none"
        raise ValueError(
            f"labels must be two or more, each of two sentences or more, but are {counted} instead. Add sentences, or "
            "leave out the label."
        )
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(labels), bool)
    for name in names:
        places = generator.permutation(np.flatnonzero(np.asarray(labels) == name))
        is_held_out[places[: len(places) // 2]] = True
    return is_held_out


def probe(values: np.ndarray, labels: Sequence[str], seed: int = 0) -> list[UnitProbe]:
    """For each unit the threshold that tells a label best from the others, and how right it is on held-out sentences.

    A unit's rule is the best there is on one half of the sentences: of all thresholds between two of its values, and of
    both sides. With more than two labels it is the best rule for one label against the rest, the label that the unit
    adds most to over the likelier answer. Units are ordered by the training half, so that the best unit's held-out
    accuracy was not chosen for being high.

    Args:
        values: Of each sentence at one step, `(sentences, units)`.
        labels: One for each sentence.
        seed: Draws the halves (`held_out`).

    Returns:
        The units, best first; a unit with one and the same value in the whole training half is left out.

    Raises:
        ValueError: for values that are not finite or not one row for each label, or too few labels.

    >>> values = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, -0.7], [0.1, -0.9]] * 5)
    >>> best, *_ = probe(values, ["plural", "plural", "singular", "singular"] * 5)
    >>> best.unit, best.sign, best.label, best.accuracy, best.baseline
    (1, 1, 'plural', 100.0, 50.0)
    """
    values, given = np.asarray(values, "float64"), np.asarray(labels, dtype=str)
    if values.ndim != 2 or len(values) != len(given):
        raise ValueError(
            f"values must be ({len(given)}, units), a row for each label, but have the shape {values.shape} instead."
        )
    if not np.isfinite(values).all():
        raise ValueError("values must be finite, but some are not. The model's training went wrong.")
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


def persistence(
    values: Sequence[np.ndarray], labels: Sequence[str], probes: Sequence[UnitProbe], seed: int = 0
) -> Carried:
    """Whether units tell the property all the way from the word that shows it to the last at which it must be known.

    A unit's threshold is the one that `probe` found for the last step. A unit that is right with it at every step
    before, too, carries the property; one that is right only at the end got it from elsewhere.

    Args:
        values: What `values_across` gives for the layer: `(steps, units)` for each sentence.
        labels: One for each sentence: the ones that `probe` had.
        probes: The units.
        seed: The one that `probe` had, so that the same sentences are held out.

    Raises:
        ValueError: for no probes, or values that are not one array for each label.
    """
    if not probes or len(values) != len(labels):
        raise ValueError(
            f"There must be a probe, and values for each of {len(labels)} labels, but there are {len(probes)} probes "
            f"and {len(values)} values instead."
        )
    is_held_out = held_out(labels, seed)
    kept, kept_in_training = (
        [
            np.stack([rule.is_on(values[place]) == (labels[place] == rule.label) for rule in probes], axis=1)
            for place in np.flatnonzero(half).tolist()
        ]
        for half in (is_held_out, ~is_held_out)
    )
    steps = range(max(len(is_right) for is_right in kept))
    reaching = [np.array([is_right[step] for is_right in kept if len(is_right) > step]) for step in steps]
    return Carried(
        units=np.array([rule.unit for rule in probes]),
        sentences=np.array([len(is_right) for is_right in reaching]),
        accuracy=100 * np.array([is_right.mean(axis=0) for is_right in reaching]),
        always_correct=100 * np.mean([is_right.all(axis=0) for is_right in kept], axis=0),
        training_throughout=100 * np.mean([is_right.all(axis=0) for is_right in kept_in_training], axis=0),
    )


def _best_thresholds(values: np.ndarray, has_label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best threshold for each side, label and unit, and by how many sentences it is better than one answer for all.

    Args:
        values: `(sentences, units)`.
        has_label: `(sentences, labels)`.

    Returns:
        Thresholds and gains, both `(2 * labels, units)`: on above the threshold for each label, then on below it. The
        gain of a unit that has one value only is minus infinity.
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


BEST_UNITS = 5


@dataclasses.dataclass(frozen=True)
class LabelUnits:
    """The units of one layer that tell the label of sentences best.

    Attributes:
        layer: Name of the layer.
        probes: The five best, best first; fewer where fewer units ever change. Of units that are equally right in the
            training half, the one comes first that is right at every step of more of its sentences.
        persistence: How long these keep it, in the order of `probes`.
    """

    layer: str
    probes: Sequence[UnitProbe]
    persistence: Carried


def label_units(model: TextModel, sentences: Sequence[LabelledSentence]) -> list[LabelUnits]:
    """For each layer the units whose state after the last marked word tells the label best, on held-out sentences.

    Args:
        model: The model.
        sentences: Labelled sentences. Where they have translations, the decoder is read while it reads these; where
            they have none, only the encoder is.

    Raises:
        DataError: Where the tokenizer does not find the words of a sentence.
        ValueError: For fewer than two labels, or fewer than two sentences of one.
    """
    sources, labels = [sentence.source.text for sentence in sentences], [sentence.label for sentence in sentences]
    texts = [sentence.target.text for sentence in sentences if sentence.target]
    has_targets = len(texts) == len(sentences) and model.task not in LABEL_TASKS
    targets = texts if has_targets else placeholder_targets(model, len(sentences))
    names = [name for name in model.recurrent_layers if has_targets or name.startswith("encoder")]
    progress = track(traces(model, sources, targets), len(sources), "sentence", "labels")
    values = values_across(progress, names, sentences)
    found = []
    for name in names:
        if probes := probe(np.stack([steps[-1] for steps in values[name]]), labels):
            best = _best(values[name], labels, probes)
            found.append(LabelUnits(name, best, persistence(values[name], labels, best)))
    return found


def _best(values: Sequence[np.ndarray], labels: Sequence[str], probes: Sequence[UnitProbe]) -> list[UnitProbe]:
    least = probes[:BEST_UNITS][-1].training_gain
    candidates = [unit for unit in probes if unit.training_gain >= least]
    always_correct = persistence(values, labels, candidates).training_throughout
    gains = np.array([unit.training_gain for unit in candidates])
    return [candidates[place] for place in np.lexsort((-always_correct, -gains))[:BEST_UNITS]]
