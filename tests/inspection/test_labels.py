"""Units that tell a label: the same as sentence by sentence."""

import numpy as np
import pytest

from seq2seq.inspection.trace import traces
from seq2seq.inspection.unit_probes import BEST_UNITS, label_units, persistence, probe
from seq2seq.inspection.units import LabelledSentence, MarkedText

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
        probes = probe(np.stack([steps[-1] for steps in values]), labels)
        always_correct = dict(zip(probes, persistence(values, labels, probes).training_throughout, strict=True))
        expected = sorted(probes, key=lambda unit: (-unit.training_gain, -always_correct[unit]))[:BEST_UNITS]
        assert list(of_layer.probes) == expected
        np.testing.assert_array_equal(
            of_layer.persistence.always_correct, persistence(values, labels, of_layer.probes).always_correct
        )


def test_one_label_tells_nothing(make_random_model, toy_pairs):
    sentences = [sentence._replace(label="no") for sentence in labelled(toy_pairs[:3], True)]
    with pytest.raises(ValueError, match=r"labels must be two or more, each of two sentences or more, but are no 3"):
        label_units(make_random_model("rnn"), sentences)


def test_of_units_that_are_equally_right_at_the_end_the_one_that_carries_the_label_is_the_best(
    make_random_model, toy_pairs, monkeypatch
):
    sentences = [sentence._replace(label="yn"[place % 2]) for place, sentence in enumerate(labelled(toy_pairs, False))]
    generator = np.random.default_rng(2)
    planted = [generator.uniform(-1, 1, (4, BEST_UNITS + 3)) for _ in sentences]
    for state, sentence in zip(planted, sentences, strict=True):
        sign = 1 if sentence.label == "y" else -1
        state[-1, :-1] = sign
        # The one before the last is right at all steps; the last one at all but the last.
        state[:, -2] = sign
        state[:-1, -1] = sign
    monkeypatch.setattr("seq2seq.inspection.unit_probes.values_across", lambda *_: {"encoder.forward_0": planted})
    model = make_random_model("rnn")
    monkeypatch.setattr(type(model), "recurrent_layers", {"encoder.forward_0": None})
    (found,) = label_units(model, sentences)
    assert (found.probes[0].unit, found.persistence.always_correct[0]) == (BEST_UNITS + 1, 100)
    assert BEST_UNITS + 2 not in found.persistence.units
    assert len(found.probes) == BEST_UNITS
