"""Probes of single units, against every rule there is, on planted units and on noise, and their labelled sentences."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from seq2seq.errors import ArgumentError, DataError
from seq2seq.inspection.trace import LayerTrace, Trace, traces
from seq2seq.inspection.unit_probes import (
    BEST_UNITS,
    LabelledSentence,
    MarkedText,
    UnitProbe,
    best_units,
    held_out,
    label_units,
    last_pieces,
    persistence,
    probe,
    read_labelled_sentences,
    steps_between,
    values_across,
)
from seq2seq.text.tokenizer_training import train_tokenizer

NUMBER = Path(__file__).parents[2] / "data" / "en-fr" / "number.tsv"


def test_shipped_file():
    sentences = read_labelled_sentences(NUMBER)
    assert len(sentences) == 1000
    lines = NUMBER.read_text(encoding="utf-8").splitlines()
    for line, (label, source, target) in zip(lines, sentences, strict=True):
        assert line == "\t".join(map(str, (label, *source, *target)))


def test_a_file_without_translations(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"plural\t1\t1\tthe cats sleep\r\nsingular\t1\t5\tthe cat that ate the fish sleeps\n")
    assert read_labelled_sentences(path) == [
        LabelledSentence("plural", MarkedText(1, 1, "the cats sleep")),
        LabelledSentence("singular", MarkedText(1, 5, "the cat that ate the fish sleeps"), None),
    ]


GOOD = "plural\t1\t1\tthe cats sleep\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.tsv: must hold at least one labelled sentence"),
        ("plural\t1\tx\n", r"a.tsv:1: must have 4 or 7 tab-separated columns .*, got 3"),
        (GOOD + "\n", "a.tsv:2: must have 4 or 7 tab-separated columns"),
        (GOOD + " \t1\t1\ta b c\n", "a.tsv:2: the label must be a word or more"),
        (GOOD + "plural\t1\t1\ta b c\t0\t0\td e\n", "a.tsv:2: every line must have a translation, or none"),
        *(
            (f"plural\t{first}\t{last}\ta b c\n", f"a.tsv:1: .* 0 <= first <= last < 3 .*, got '{first}' and '{last}'")
            for first, last in [("2", "1"), ("-1", "1"), ("0", "3"), ("", "1"), ("0", "1.0"), ("²", "2")]
        ),
        ("plural\t1\t1\ta b c\t0\t2\td e\n", "a.tsv:1: .* 0 <= first <= last < 2"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, message):
    path = tmp_path / "a.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_labelled_sentences(path)


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(GOOD.encode() + b"plural\t1\t1\t\xff b c\n")
    with pytest.raises(DataError, match=r"a.tsv:2: must be UTF-8"):
        read_labelled_sentences(path)
    with pytest.raises(DataError, match="does not exist"):
        read_labelled_sentences(tmp_path / "b.tsv")


@pytest.fixture(scope="module")
def shipped():
    return [sentence.source for sentence in read_labelled_sentences(NUMBER)[:300]]


@pytest.mark.parametrize(("kind", "size"), [("unigram", 150), ("bpe", 200), ("char", 100), ("word", 300)])
def test_last_pieces_spell_the_words_up_to_them(shipped, kind, size):
    texts = [sentence.text for sentence in shipped]
    tokenizer = train_tokenizer(texts, texts, kind=kind, vocabulary_size=size)
    for sentence in [*shipped[:40], MarkedText(1, 2, "the ☃☃ and, the,cat ☃ ☃ dog")]:
        pieces = tokenizer.source.tokenize(sentence.text)
        words = sentence.text.split()
        ends = last_pieces(pieces)
        assert len(ends) == len(words)
        for number, end in enumerate(ends):
            read = "".join(pieces[: end + 1]).replace("▁", " ").split()
            assert read[: number + 1] == words[: number + 1]
            # More words only where the tokenizer made one unknown piece of several.
            assert len(read) == number + 1 or "▁" in pieces[end][1:]
        assert steps_between(sentence, pieces) == (ends[sentence.first], ends[sentence.last])


def test_words_must_be_those_of_the_tokenizer():
    with pytest.raises(DataError, match="must find the 2 words of 'a \u00b4b', got 3: ▁a ▁ ▁b </s>"):
        steps_between(MarkedText(0, 1, "a \u00b4b"), ["▁a", "▁", "▁b", "</s>"])


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
    """Try every threshold, both sides and every label, and return the best gain over one answer for all."""
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
def test_probe_finds_the_best_rule(counts, decimals):
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


def test_noise_is_no_better_than_chance_where_it_is_held_out():
    generator = np.random.default_rng(6)
    labels = draw_labels(generator, {"plural": 200, "singular": 200})
    found = probe(generator.normal(size=(400, 300)), labels)[:20]
    assert np.mean([rule.training_accuracy for rule in found]) > 58
    assert 46 < np.mean([rule.accuracy for rule in found]) < 54


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (np.zeros(2), ["a", "b"], r"values must be \(2, units\)"),
        (np.full((4, 1), np.nan), ["a", "b"] * 2, "values must be finite"),
        (np.zeros((2, 1)), ["a", "a"], "labels must be two or more, each of two sentences or more, got 'a 2'"),
        (np.zeros((3, 1)), ["a", "b", "a"], "got 'a 2, b 1'"),
    ],
)
def test_arguments_of_probe(values, labels, message):
    with pytest.raises(ArgumentError, match=message):
        probe(values, labels)


def test_persistence_counts_every_step():
    generator = np.random.default_rng(7)
    labels = draw_labels(generator, {"a": 15, "b": 16})
    values = [generator.normal(size=(steps, 3)) for steps in generator.integers(1, 7, 31)]
    rules = [UnitProbe(2, 1, 0.1, "a", 0, 0, 0, 0), UnitProbe(0, -1, -0.2, "b", 0, 0, 0, 0)]
    result = persistence(values, labels, rules, seed=3)
    kept, training = ([place for place in range(31) if held_out(labels, 3)[place] == half] for half in (True, False))
    assert result.units.tolist() == [2, 0]
    assert len(result.sentences) == max(len(values[place]) for place in kept)
    for column, rule in enumerate(rules):
        # One list of steps for each sentence.
        is_right = [
            [(rule.sign * row[rule.unit] > rule.threshold) == (label == rule.label) for row in rows]
            for rows, label in zip(values, labels, strict=True)
        ]
        for half, found in ((kept, result.always_correct), (training, result.training_always_correct)):
            assert found[column] == pytest.approx(100 * np.mean([all(is_right[place]) for place in half]))
        for step, count in enumerate(result.sentences):
            reaching = [is_right[place][step] for place in kept if len(values[place]) > step]
            assert count == len(reaching)
            assert result.accuracy[step, column] == pytest.approx(100 * np.mean(reaching))


@pytest.mark.parametrize(("count", "rules"), [(2, []), (1, [UnitProbe(0, 1, 0, "a", 0, 0, 0, 0)])])
def test_arguments_of_persistence(count, rules):
    with pytest.raises(ArgumentError, match="probes and values must be"):
        persistence([np.zeros((2, 1))] * count, ["a", "b"], rules)


def trace_of(source, target):
    """Every piece is three letters or fewer; a step's value is its number in the layer."""

    def pieces(text):
        words = [f"▁{word}" for word in text.split()]
        return tuple(word[i : i + 3] for word in words for i in range(0, len(word), 3))

    source_tokens, target_tokens = (*pieces(source), "</s>"), (*pieces(target), "</s>")
    layers = {
        name: LayerTrace(name, "gru", "keep", tokens, {"state": np.arange(len(tokens))[:, None] * [1.0, -1.0]})
        for name, tokens in zip(NAMES, (source_tokens, ("<s>", *target_tokens[:-1])), strict=True)
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


@pytest.mark.parametrize("traced", [SENTENCES[:1], [*SENTENCES, SENTENCES[0]], SENTENCES[::-1]])
def test_traces_must_be_those_of_the_sentences(traced):
    traces = [trace_of(sentence.source.text, sentence.target.text) for sentence in traced]
    with pytest.raises(ArgumentError, match="traces must be one for each sentence"):
        values_across(traces, NAMES, SENTENCES)


@pytest.mark.parametrize(
    ("sentence", "error", "message"),
    [
        (SENTENCES[1], ArgumentError, r"'Elisabeth dort' \(0\), got 'Elisabeth ronfle'"),
        (SENTENCES[1]._replace(target=None), DataError, "Sentence 0 must have a translation for decoder.recurrent_0"),
    ],
)
def test_a_layer_of_the_decoder_needs_the_same_translations(sentence, error, message):
    trace = trace_of("Elisabeth sleeps", "Elisabeth ronfle")
    assert len(values_across([trace], NAMES[:1], [sentence])[NAMES[0]]) == 1
    with pytest.raises(error, match=message):
        values_across([trace], NAMES, [sentence])


NUM_SENTENCES = 12


def labelled(pairs, with_targets):
    """Label sentences at random, from the second word to the last but one of the source and all along the target."""
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
    sentences = labelled(toy_pairs[:NUM_SENTENCES], with_targets)
    found = label_units(model, sentences)
    names = [name for name in model.recurrent_layers if with_targets or name.startswith("encoder")]
    assert [of_layer.layer for of_layer in found] == names
    labels = [sentence.label for sentence in sentences]
    own = list(traces(model, *zip(*toy_pairs[:NUM_SENTENCES], strict=True)))
    for of_layer in found:
        values = []
        for traced, sentence in zip(own, sentences, strict=True):
            # A word is a piece; the decoder has read its first word at its second step.
            reads_target = of_layer.layer.startswith("decoder")
            marked = sentence.target if reads_target else sentence.source
            state = traced.layers[of_layer.layer].values["state"]
            values.append(state[marked.first + reads_target : marked.last + reads_target + 1])
        probes = probe(np.stack([steps[-1] for steps in values]), labels)
        always_correct = dict(zip(probes, persistence(values, labels, probes).training_always_correct, strict=True))
        expected = sorted(probes, key=lambda unit: (-unit.training_gain, -always_correct[unit]))[:BEST_UNITS]
        assert list(of_layer.probes) == expected
        np.testing.assert_array_equal(
            of_layer.persistence.always_correct, persistence(values, labels, of_layer.probes).always_correct
        )


def test_of_equal_units_the_persistent_one_is_best():
    labels = ["yn"[place % 2] for place in range(200)]
    generator = np.random.default_rng(2)
    planted = [generator.uniform(-1, 1, (4, BEST_UNITS + 3)) for _ in labels]
    for state, label in zip(planted, labels, strict=True):
        sign = 1 if label == "y" else -1
        state[-1, :-1] = sign
        # The one before the last is right at all steps; the last one at all but the last.
        state[:, -2] = sign
        state[:-1, -1] = sign
    best = best_units(planted, labels, probe(np.stack([state[-1] for state in planted]), labels))
    assert best[0].unit == BEST_UNITS + 1
    assert persistence(planted, labels, best).always_correct[0] == 100
    assert BEST_UNITS + 2 not in [unit.unit for unit in best]
    assert len(best) == BEST_UNITS
