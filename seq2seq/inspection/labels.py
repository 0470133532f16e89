"""Which units of a model tell a labelled property of sentences, layer by layer."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from seq2seq.config import LABEL_TASKS
from seq2seq.inspection.labelled import LabelledSentence
from seq2seq.inspection.probes import Carried, UnitProbe, carried, probe, values_across
from seq2seq.inspection.recording import any_targets
from seq2seq.inspection.trace import traces
from seq2seq.model import SourceReader

BEST_UNITS = 5


@dataclasses.dataclass(frozen=True)
class LabelUnits:
    """The units of one layer that tell the label of sentences best.

    Attributes:
        layer: Name of the layer.
        probes: The five best, best first; fewer where fewer units ever change. Of units that are equally right in the
            training half, the one comes first that is right at every step of more of its sentences.
        carried: How long these keep it, in the order of `probes`.
    """

    layer: str
    probes: Sequence[UnitProbe]
    carried: Carried


def label_units(model: SourceReader, sentences: Sequence[LabelledSentence]) -> list[LabelUnits]:
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
    targets = texts if has_targets else any_targets(model, len(sentences))
    names = [name for name in model.recurrent_layers if has_targets or name.startswith("encoder")]
    progress = tqdm(traces(model, sources, targets), "labels", len(sources), unit="sentence", disable=None)
    values = values_across(progress, names, sentences)
    found = []
    for name in names:
        if probes := probe(np.stack([steps[-1] for steps in values[name]]), labels):
            best = _best(values[name], labels, probes)
            found.append(LabelUnits(name, best, carried(values[name], labels, best)))
    return found


def _best(values: Sequence[np.ndarray], labels: Sequence[str], probes: Sequence[UnitProbe]) -> list[UnitProbe]:
    least = probes[:BEST_UNITS][-1].training_gain
    candidates = [unit for unit in probes if unit.training_gain >= least]
    throughout = carried(values, labels, candidates).training_throughout
    gains = np.array([unit.training_gain for unit in candidates])
    return [candidates[place] for place in np.lexsort((-throughout, -gains))[:BEST_UNITS]]
