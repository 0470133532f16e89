"""Units that tell a label: the same as sentence by sentence."""

import numpy as np
import pytest

from seq2seq.inspection.labelled import LabelledSentence, MarkedText
from seq2seq.inspection.labels import BEST_UNITS, label_units
from seq2seq.inspection.probes import carried, probe
from seq2seq.inspection.trace import traces

SENTENCES = 12


def labelled(pairs, with_targets):
    """A label that means nothing, from the second word to the last but one of the source, and all along the target."""
    return [
        LabelledSentence(
            "no" if number % 3 else "yes",
            MarkedText(1, len(source.split()) - 2, source),
            MarkedText(0, len(target.split()) - 1, target) if with_targets else None,
        )
        for number, (source, target) in enumerate(pairs)
    ]


@pytest.mark.parametrize("with_targets", [True, False])
def test_each_layer_that_can_be_read_has_its_units(make_random_model, toy_pairs, with_targets):
    model = make_random_model("lstm")
    sentences = labelled(toy_pairs[:SENTENCES], with_targets)
    found = label_units(model, sentences)
    names = [name for name in model.recurrent_layers if with_targets or name.startswith("encoder")]
    assert [of_layer.layer for of_layer in found] == names
    labels = [sentence.label for sentence in sentences]
    own = list(traces(model, *zip(*toy_pairs[:SENTENCES], strict=True)))
    for of_layer in found:
        values = []
        for traced, sentence in zip(own, sentences, strict=True):
            # A word is a piece; the decoder has read its first word at its second step.
            reads_target = of_layer.layer.startswith("decoder")
            marked = sentence.target if reads_target else sentence.source
            state = traced.layers[of_layer.layer].values["state"]
            values.append(state[marked.first + reads_target : marked.last + reads_target + 1])
        expected = probe(np.stack([steps[-1] for steps in values]), labels)[:BEST_UNITS]
        assert [unit.unit for unit in of_layer.probes] == [unit.unit for unit in expected]
        assert [unit.accuracy for unit in of_layer.probes] == [unit.accuracy for unit in expected]
        np.testing.assert_array_equal(of_layer.carried.throughout, carried(values, labels, of_layer.probes).throughout)


def test_one_label_tells_nothing(make_random_model, toy_pairs):
    sentences = [sentence._replace(label="no") for sentence in labelled(toy_pairs[:3], True)]
    with pytest.raises(ValueError, match=r"labels must be two or more, each of two sentences or more, but are no 3"):
        label_units(make_random_model("rnn"), sentences)
