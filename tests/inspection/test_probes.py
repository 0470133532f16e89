"""Probes of single units, against every rule there is, on planted units and on noise."""

import itertools

import numpy as np
import pytest

from seq2seq.errors import DataError
from seq2seq.inspection.trace import LayerTrace, Trace
from seq2seq.inspection.unit_probes import UnitProbe, held_out, persistence, probe, values_across
from seq2seq.inspection.units import LabelledSentence, MarkedText


def draw_labels(generator, counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [labels[place] for place in generator.permutation(len(labels))]


@pytest.mark.parametrize("seed", range(3))
def test_half_of_each_label_is_held_out(seed):
    labels = draw_labels(np.random.default_rng(seed), {"a": 2, "b": 31, "c": 100})
    mask = held_out(labels, seed)
    counts = {name: sum(m for m, label in zip(mask, labels, strict=True) if label == name) for name in "abc"}
    assert counts == {"a": 1, "b": 15, "c": 50}
    np.testing.assert_array_equal(held_out(labels, seed), mask)
    assert (held_out(labels, seed + 1) != mask).any()


def best_gain(values, labels):
    """Tries every threshold between two values, both sides, every label: how many more are right than by one answer."""
    gains = []
    for label in sorted(set(labels)):
        truth = [each == label for each in labels]
        for low, high in itertools.pairwise(sorted(set(values))):
            for sign in (1, -1):
                rule = [sign * value > sign * (low + high) / 2 for value in values]
                right = sum(a == b for a, b in zip(rule, truth, strict=True))
                gains.append(right - max(sum(truth), len(truth) - sum(truth)))
    return max(gains, default=None)


@pytest.mark.parametrize(
    "counts", [{"plural": 20, "singular": 20}, {"plural": 9, "singular": 31}, {"a": 12, "b": 7, "c": 20}]
)
@pytest.mark.parametrize("decimals", [1, 7])
def test_each_unit_has_its_best_rule(counts, decimals):
    generator = np.random.default_rng(3)
    labels = np.array(draw_labels(generator, counts))
    values = generator.normal(size=(len(labels), 12)).round(decimals).astype("float32")
    values[:, 4], values[:, 5] = 0.5, values[:, 3]
    found = probe(values, labels, seed=5)
    is_held_out = held_out(labels, 5)
    gains = {
        unit: best_gain(values[~is_held_out, unit].astype("float64").tolist(), labels[~is_held_out].tolist())
        for unit in range(12)
    }
    assert gains.pop(4) is None
    assert [rule.unit for rule in found] == sorted(gains, key=lambda unit: (-gains[unit], unit))
    for rule in found:
        truth = labels == rule.label
        is_right = np.array(
            [(rule.sign * float(row[rule.unit]) > rule.threshold) == t for row, t in zip(values, truth, strict=True)]
        )
        with_label, training = truth[~is_held_out].sum(), (~is_held_out).sum()
        assert is_right[~is_held_out].sum() - max(with_label, training - with_label) == gains[rule.unit]
        assert rule.training_accuracy == pytest.approx(100 * is_right[~is_held_out].mean())
        assert rule.training_gain == pytest.approx(100 * gains[rule.unit] / training)
        assert rule.accuracy == pytest.approx(100 * is_right[is_held_out].mean())
        always = with_label > training / 2
        assert rule.baseline == pytest.approx(100 * (truth[is_held_out] == always).mean())


def test_planted_units_are_found_first():
    generator = np.random.default_rng(4)
    labels = np.array(draw_labels(generator, {"plural": 200, "singular": 200}))
    values = generator.uniform(-1, 1, (400, 50))
    values[:, 17] = np.where(labels == "plural", -0.5, 0.5) + generator.uniform(-0.4, 0.4, 400)
    values[:, 31] = np.where((labels == "plural") != (generator.random(400) < 0.1), 0.3, 0.2)
    first, second, third, *_ = probe(values, labels)
    assert (first.unit, first.label, first.accuracy, first.baseline) == (17, "singular", 100, 50)
    assert -0.1 <= first.sign * first.threshold <= 0.1
    assert (second.unit, second.label) == (31, "plural")
    assert 84 < second.accuracy < 96
    assert third.accuracy < 60


def test_one_label_of_three():
    generator = np.random.default_rng(5)
    labels = ["past", "present", "future"] * 30
    values = generator.choice([0.1, 0.2, 0.3, 0.4], (90, 2))
    values[2::3, 0], values[::3, 1] = -0.9, 0.9
    found = {rule.unit: rule for rule in probe(values, labels)}
    assert [(rule.label, rule.sign, rule.accuracy) for rule in (found[0], found[1])] == [
        ("future", -1, 100),
        ("past", 1, 100),
    ]
    assert found[0].baseline == pytest.approx(200 / 3)


def test_noise_is_no_better_than_chance_where_it_is_held_out():
    generator = np.random.default_rng(6)
    labels = draw_labels(generator, {"plural": 200, "singular": 200})
    found = probe(generator.normal(size=(400, 300)), labels)[:20]
    assert np.mean([rule.training_accuracy for rule in found]) > 58
    assert 46 < np.mean([rule.accuracy for rule in found]) < 54


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (
            np.zeros((3, 2)),
            ["a", "b"],
            r"^values must be \(2, units\), a row for each label, but have the shape \(3, 2",
        ),
        (np.zeros(2), ["a", "b"], r"^values must be \(2, units\), a row for each label, but have the shape \(2,\) ins"),
        (np.full((4, 1), np.nan), ["a", "b"] * 2, r"^values must be finite, but some are not. The model's training we"),
        (np.zeros((2, 1)), ["a", "a"], r"^labels must be two or more, each of two sentences or more, but are a 2 inst"),
        (np.zeros((3, 1)), ["a", "b", "a"], r"but are a 2, b 1 instead. Add sentences, or leave out the label.$"),
        (np.zeros((0, 1)), [], r"but are none instead."),
    ],
)
def test_messages_of_probe(values, labels, message):
    with pytest.raises(ValueError, match=message):
        probe(values, labels)


def test_carried_counts_every_step():
    generator = np.random.default_rng(7)
    labels = draw_labels(generator, {"a": 15, "b": 16})
    values = [generator.normal(size=(steps, 3)) for steps in generator.integers(1, 7, 31)]
    rules = [UnitProbe(2, 1, 0.1, "a", 0, 0, 0, 0), UnitProbe(0, -1, -0.2, "b", 0, 0, 0, 0)]
    result = persistence(values, labels, rules, seed=3)
    kept, training = ([place for place in range(31) if held_out(labels, 3)[place] == half] for half in (True, False))
    assert result.units.tolist() == [2, 0]
    assert len(result.sentences) == max(len(values[place]) for place in kept)
    for column, rule in enumerate(rules):
        always, always_in_training = (
            sum(
                all(
                    (rule.sign * row[rule.unit] > rule.threshold) == (labels[place] == rule.label)
                    for row in values[place]
                )
                for place in half
            )
            for half in (kept, training)
        )
        assert result.always_correct[column] == pytest.approx(100 * always / len(kept))
        assert result.training_throughout[column] == pytest.approx(100 * always_in_training / len(training))
        for step, count in enumerate(result.sentences):
            reaching = [place for place in kept if len(values[place]) > step]
            right = sum(
                (rule.sign * values[place][step, rule.unit] > rule.threshold) == (labels[place] == rule.label)
                for place in reaching
            )
            assert count == len(reaching)
            assert result.accuracy[step, column] == pytest.approx(100 * right / count)


def test_carried_tells_a_unit_that_holds_from_one_that_is_told_at_the_end():
    generator = np.random.default_rng(8)
    labels = ["plural", "singular"] * 40
    values = [generator.uniform(-0.1, 0.1, (5, 2)) for _ in labels]
    for state, label in zip(values, labels, strict=True):
        state[:, 0] += 0.7 if label == "plural" else -0.7
        state[-1, 1] += 0.7 if label == "plural" else -0.7
    rules = probe(np.stack([state[-1] for state in values]), labels)
    assert [rule.accuracy for rule in rules] == [100, 100]
    result = persistence(values, labels, rules)
    assert result.always_correct[0] == 100
    assert result.always_correct[1] < 30
    assert result.accuracy[-1].tolist() == [100, 100]


@pytest.mark.parametrize(("count", "rules"), [(2, []), (1, [UnitProbe(0, 1, 0, "a", 0, 0, 0, 0)])])
def test_messages_of_carried(count, rules):
    message = f"for each of 2 labels, but there are {len(rules)} probes and {count} values instead.$"
    with pytest.raises(ValueError, match=message):
        persistence([np.zeros((2, 1))] * count, ["a", "b"], rules)


def trace_of(source, target):
    """Every piece is three letters or fewer; a step's value is its number in the layer."""

    def pieces(text):
        words = [f"▁{word}" for word in text.split()]
        return tuple(word[i : i + 3] for word in words for i in range(0, len(word), 3))

    source_tokens, target_tokens = (*pieces(source), "</s>"), (*pieces(target), "</s>")
    layers = {
        name: LayerTrace(name, "gru", "keep", tokens, {"state": np.arange(len(tokens))[:, None] * [1.0, -1.0]})
        for name, tokens in {
            "encoder.forward_0": source_tokens,
            "decoder.recurrent_0": ("<s>", *target_tokens[:-1]),
        }.items()
    }
    return Trace(source, target, source_tokens, target_tokens, layers, None, np.zeros(len(target_tokens)))


SENTENCES = [
    LabelledSentence(
        "plural",
        MarkedText(1, 3, "the cats, which slept, were full"),
        MarkedText(1, 4, "les chats, qui ont dormi, étaient rassasiés"),
    ),
    LabelledSentence("singular", MarkedText(0, 0, "Elisabeth sleeps"), MarkedText(0, 0, "Elisabeth dort")),
    LabelledSentence("plural", MarkedText(1, 1, "two dogs bark now"), MarkedText(1, 1, "deux chiens aboient")),
]
NAMES = ["encoder.forward_0", "decoder.recurrent_0"]


def test_values_across_are_those_between_the_marked_words():
    traces = [trace_of(sentence.source.text, sentence.target.text) for sentence in SENTENCES]
    found = values_across(iter(traces), NAMES, SENTENCES)
    for trace, sentence, *spans in zip(traces, SENTENCES, *(found[name] for name in NAMES), strict=True):
        for name, span, marked in zip(NAMES, spans, sentence[1:], strict=True):
            tokens = trace.layers[name].tokens
            first, last = int(span[0, 0]), int(span[-1, 0])
            np.testing.assert_array_equal(span[:, 0], range(first, last + 1))
            for step, word in ((first, marked.first), (last, marked.last)):
                read = "".join(tokens[: step + 1]).replace("<s>", "").replace("▁", " ").split()
                assert read == marked.text.split()[: word + 1]


def test_values_across_reads_the_field_that_is_asked_for():
    trace = trace_of("Elisabeth sleeps", "Elisabeth dort")
    for layer in trace.layers.values():
        layer.values["update"] = layer.values["state"] + 100
    found = values_across([trace], NAMES, SENTENCES[1:2], field="update")
    assert [found[name][0][:, 0].tolist() for name in NAMES] == [[103], [104]]


@pytest.mark.parametrize(
    ("number", "traces", "message"),
    [
        (1, [SENTENCES[0]], "sentence 1 is 'Elisabeth sleeps' and its trace that of None instead"),
        (3, [*SENTENCES, SENTENCES[0]], "sentence 3 is None and its trace that of 'the cats, which slept, were full'"),
        (0, SENTENCES[::-1], "sentence 0 is 'the cats, which slept, were full' and its trace that of 'two dogs bark"),
    ],
)
def test_traces_must_be_those_of_the_sentences(number, traces, message):
    traced = [trace_of(sentence.source.text, sentence.target.text) for sentence in traces]
    with pytest.raises(ValueError, match=f"^traces must be one for each sentence, in their order, but {message}"):
        values_across(traced, NAMES, SENTENCES)


def test_targets_must_be_those_of_the_sentences():
    trace = trace_of("Elisabeth sleeps", "Elisabeth ronfle")
    assert len(values_across([trace], NAMES[:1], SENTENCES[1:2])[NAMES[0]]) == 1
    with pytest.raises(ValueError, match="but sentence 0 is 'Elisabeth dort' and its trace that of 'Elisabeth ronfle'"):
        values_across([trace], NAMES, SENTENCES[1:2])


def test_a_layer_of_the_decoder_needs_translations():
    trace = trace_of("Elisabeth sleeps", "Elisabeth dort")
    without = [SENTENCES[1]._replace(target=None)]
    assert len(values_across([trace], NAMES[:1], without)[NAMES[0]]) == 1
    message = (
        "^Sentence 0 must have a translation, whose words decoder.recurrent_0 reads, but has none. Add first word, "
        "last word and translation to its line, or name layers of the encoder.$"
    )
    with pytest.raises(DataError, match=message):
        values_across([trace], NAMES, without)


def test_unknown_layer_and_field():
    trace = trace_of("Elisabeth sleeps", "Elisabeth dort")
    with pytest.raises(ValueError, match=r"^The layer must be one of encoder.forward_0, decoder.recurrent_0, but is"):
        values_across([trace], ["encoder.forward_1"], SENTENCES[1:2])
    with pytest.raises(ValueError, match=r"^The field must be one of state in a layer of cell gru, but is 'reset'"):
        values_across([trace], NAMES, SENTENCES[1:2], field="reset")
