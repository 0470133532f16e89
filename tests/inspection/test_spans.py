"""Spans of text in pieces, the units on across them, and where a corpus has them on too."""

import random

import numpy as np
import pytest

from seq2seq.errors import DataError
from seq2seq.inspection.trace import LayerTrace, Trace, trace
from seq2seq.inspection.units import MOST_MATCHES, SpanUnits, find_span, text_of, units_across, units_on, with_matches

SOURCE = ("▁the", "▁cat", ",", "▁whi", "ch", "▁ate", ",", "▁art", "▁c", "art", "</s>")


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (", which ate,", [(2, 7)]),
        (" which  ate ", [(3, 6)]),
        ("the", [(0, 1)]),
        ("art", [(7, 8)]),  # Not that of "cart", where there is a whole word.
        ("cart", [(8, 10)]),
        ("hich", [(3, 5)]),  # A part of a word, where there is no whole one.
        (",", [(2, 3), (6, 7)]),
        ("dog", []),
        ("</s>", []),
        ("", []),
        ("c.t", []),
    ],
)
def test_where_a_text_stands(text, places):
    assert find_span(SOURCE, text) == places


def test_words_are_found_in_whatever_pieces_they_are():
    draw = random.Random(0)
    for _ in range(200):
        words = ["".join(draw.choices("abc", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 6))]
        pieces, word_of = [], []
        for number, word in enumerate(words):
            cuts = sorted(draw.sample(range(1, len(word)), draw.randint(0, len(word) - 1)))
            parts = [word[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(word)], strict=True)]
            parts[0] = "▁" + parts[0]
            pieces += parts
            word_of += [number] * len(parts)
        start = draw.randrange(len(words))
        stop = draw.randint(start + 1, len(words))
        expected = [
            (word_of.index(first), len(word_of) - word_of[::-1].index(first + stop - start - 1))
            for first in range(len(words) - (stop - start) + 1)
            if words[first : first + stop - start] == words[start:stop]
        ]
        found = find_span(["<s>", *pieces, "</s>"], " ".join(words[start:stop]))
        # Places that overlap, as "a a" in "a a a", are counted once.
        assert set(found) <= {(a + 1, b + 1) for a, b in expected}
        assert (word_of.index(start) + 1 in {a for a, _ in found}) or len(expected) > 1


def test_pieces_as_text():
    assert text_of(["<s>", "▁the", "▁cat", ","]) == "the cat,"


def layer(name, tokens, seed):
    values = np.random.default_rng(seed).uniform(-1, 1, (len(tokens), 40)).astype("float32")
    return LayerTrace(name, "rnn", "keep", tokens, {"state": values})


@pytest.fixture
def traced():
    target = ("▁le", "▁chat", ",", "▁a", "</s>")
    layers = {
        "encoder.forward_0": layer("encoder.forward_0", SOURCE, 0),
        "decoder.recurrent_0": layer("decoder.recurrent_0", ("<s>", *target[:-1]), 1),
    }
    return Trace("the cat, which ate, art cart", "le chat, a", SOURCE, target, layers, None, np.zeros(5))


@pytest.mark.parametrize("around", [None, 1])
def test_a_span_is_looked_for_in_the_layers_that_read_it(traced, around):
    (source,) = units_across(traced, "cat", around)
    (target,) = units_across(traced, "chat", around)
    assert (source.layer, source.start, source.stop) == ("encoder.forward_0", 1, 2)
    assert (target.layer, target.start, target.stop) == ("decoder.recurrent_0", 2, 3)
    assert source.units == units_on(traced.layers["encoder.forward_0"], 1, 2, around=around) != []
    assert source.units != units_across(traced, "cat", 0)[0].units


def test_a_span_must_be_in_the_sentence(traced):
    message = (
        r"The span must be a part of 'the cat, which ate, art cart' or of 'le chat, a', but is 'dog' instead. "
        r"Copy it from there."
    )
    with pytest.raises(DataError, match=message):
        units_across(traced, "dog")


def test_a_span_must_stand_once(traced):
    message = (
        r"The span must stand once in the sentence, but ',' stands 2 times in 'the cat, which ate, art cart' instead. "
        r"Give more of the words beside it."
    )
    with pytest.raises(DataError, match=message):
        units_across(traced, ",")


def on_together(values, units):
    """Spans as long as can be in which all of the units are on, step by step."""
    is_on = [all(unit.sign * row[unit.unit] > unit.threshold for unit in units) for row in values]
    starts = [step for step in range(len(is_on)) if is_on[step] and (step == 0 or not is_on[step - 1])]
    return [
        (start, next((step for step in range(start, len(is_on)) if not is_on[step]), len(is_on))) for start in starts
    ]


@pytest.mark.parametrize(("name", "sentences"), [("encoder.backward_1", 8), ("decoder.recurrent_1", 3)])
def test_matches_are_those_of_each_sentence_alone(make_random_model, toy_pairs, name, sentences):
    model = make_random_model("rnn")
    corpus = [source for source, _ in toy_pairs[:sentences]]
    layer_traces = [trace(model, source).layers[name] for source in corpus]
    span = SpanUnits(name, 1, 2, units_on(layer_traces[0], 1, 2))
    assert len(span.units) >= 3
    silent = SpanUnits("encoder.forward_0", 1, 2, [])
    found, nothing = with_matches(model, [span, silent], [corpus[0], "", *corpus[1:]])
    expected = [
        (line, *place)
        for line, layer_trace in zip([1, *range(3, 99)], layer_traces, strict=False)
        for place in on_together(layer_trace.values["state"], span.units[:3])
    ]
    expected.sort(key=lambda place: place[1] - place[2])
    assert (nothing.match_count, list(nothing.matches), found.match_count) == (0, [], len(expected))
    assert len(expected) >= 1
    assert [(place.line, place.match.start, place.match.stop) for place in found.matches] == expected[:MOST_MATCHES]
    assert found.matches[0].tokens == layer_traces[found.matches[0].line - 1 - (found.matches[0].line > 1)].tokens


def test_without_units_there_is_nothing_to_match(make_random_model, traced):
    (span,) = units_across(traced, "cat")
    empty = SpanUnits(span.layer, span.start, span.stop, [])
    assert with_matches(make_random_model("rnn"), [empty], ["the cat"]) == [empty]
