"""What lines ask for, and what is said about those that ask for nothing that can be given."""

import json

import pytest

from seq2seq.serving.line_stream import Request, json_request, text_request
from seq2seq.text.lines import Line, Problem

TOO_LONG = Problem("line too long", "must have at most 3 characters, but has 9 instead.")


def request_of(text):
    return json_request(Line("in:4", text))


def test_text_is_the_source():
    lines = [Line("in:1", "a cat"), Line("in:2", '{"source": "x"}'), Line("in:3", "lon", TOO_LONG)]
    found = [text_request(line) for line in lines]
    assert [(one.where, one.source, one.problem) for one in found] == [
        ("in:1", "a cat", None),
        ("in:2", '{"source": "x"}', None),
        ("in:3", "lon", TOO_LONG),
    ]


def test_an_object_says_what_it_wishes():
    record = {"source": "a cat", "prefix": "un", "required": ["chat noir"], "banned": ["chien", "le"], "id": [1, {}]}
    request = request_of(json.dumps(record))
    assert request == Request(
        "in:4", "a cat", prefix="un", required=("chat noir",), banned=("chien", "le"), record=record
    )
    assert request_of('{"source": ""}').is_usable


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("", "not JSON", "must be a JSON object, but is none (Expecting value: line 1 column 1 (char 0))."),
        ("a cat", "not JSON", "must be a JSON object, but is none (Expecting value"),
        ("[" * 9_000, "not JSON", "must be a JSON object, but is none (maximum recursion depth exceeded"),
        ('{"source": "a", "x": NaN}', "not JSON", "must be a JSON object, but is none (NaN is not JSON)."),
        ('"a cat"', "not JSON", "must be a JSON object, got a string."),
        ("[1]", "not JSON", "must be a JSON object, got a list."),
        ("null", "not JSON", "must be a JSON object, got null."),
        ('{"source": "a", "x": "\\ud800"}', "not Unicode", "must be valid Unicode, but holds half a surrogate pair"),
        ('{"id": 1}', "no source", '"source" must be a string, got none.'),
        ('{"id": 1, "source": 7.5}', "no source", '"source" must be a string, got a number.'),
        (
            '{"id": 1, "source": "a", "prefix": ["x"]}',
            "bad option",
            '"prefix" must be a string, got a list',
        ),
        ('{"id": 1, "source": "a", "banned": "x"}', "bad option", "\"banned\" must be a list of strings, got 'x'"),
        ('{"id": 1, "source": "a", "required": [1]}', "bad option", '"required" must be a list of strings, got [1]'),
    ],
)
def test_what_asks_for_nothing_that_can_be_given(text, reason, message):
    request = request_of(text)
    assert request.problem.reason == reason
    assert request.problem.message.startswith(message)
    assert request.source == ""
    # What can be read goes with the answer, so that its owner knows it again.
    assert request.record.get("id") == (1 if '"id"' in text else None)


def test_the_beginning_of_an_object_is_none():
    request = json_request(Line("in:1", '{"s', TOO_LONG))
    assert (request.source, request.problem) == ("", Problem("JSON line too long", TOO_LONG.message))
